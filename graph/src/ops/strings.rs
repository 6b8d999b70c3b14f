//! Strings: StringConcat, StringNormalizer, StringSplit, RegexFullMatch, TfIdfVectorizer.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, broadcast};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// What happens to the case of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CaseChange {
    None,
    Lower,
    Upper,
}

/// What is done with a tensor of strings.
#[derive(Clone, Debug, PartialEq)]
pub enum StringOp {
    /// x, y → x followed by y, element by element, broadcast.
    Concat,
    /// x \[c\] or \[1, c\] → x without the elements that are stop words; one empty string if
    /// nothing is left.
    Normalize {
        /// What happens to what is left.
        change: CaseChange,
        /// Whether stop words must have the case they are written in.
        case_sensitive: bool,
        /// What is left out.
        stopwords: Vec<String>,
    },
    /// x \[..\] → its parts \[.., most\] padded with empty strings, and how many there are \[..\].
    Split {
        /// What stands between parts; empty is any white space.
        delimiter: String,
        /// At how many places a string is split; `None` is at all of them.
        most: Option<usize>,
    },
    /// x → whether the whole of it matches, in RE2's syntax.
    FullMatch {
        /// The regular expression.
        pattern: String,
    },
}

fn text(x: &Fact) -> Result<&Fact, Reason> {
    match x.dtype()? {
        DType::String => Ok(x),
        other => Err(invalid!("{other} where strings are expected")),
    }
}

impl StringOp {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = text(inputs.get(0)?)?;
        let like_x = |dtype| Fact { ty: crate::Type::Tensor(dtype), ..x.clone().forget() };
        match self {
            StringOp::Concat => {
                let y = text(inputs.get(1)?)?;
                one(match (x.shape(), y.shape()) {
                    (Some(x), Some(y)) => Fact::new(DType::String, broadcast(x, y)?),
                    _ => Fact::unranked(DType::String),
                })
            }
            StringOp::Normalize { .. } => one(match x.shape() {
                None => like_x(DType::String),
                Some([_]) => Fact::ranked(DType::String, 1),
                Some([rows, _]) if rows.value().is_none_or(|n| n == 1) => {
                    Fact::new(DType::String, [Dim::N(1), Dim::Unknown].into_iter().collect())
                }
                Some(shape) => {
                    return Err(invalid!("strings of shape {}", crate::shape::show(shape)));
                }
            }),
            StringOp::Split { .. } => {
                let mut parts = like_x(DType::String);
                if let Some(shape) = &mut parts.shape {
                    shape.push(Dim::Unknown);
                }
                Ok(smallvec::smallvec![parts, like_x(DType::I64)])
            }
            StringOp::FullMatch { .. } => one(like_x(DType::Bool)),
        }
    }
}

pub(super) fn import_concat(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(2, 2)?;
    cx.emit(StringOp::Concat)
}

pub(super) fn import_normalizer(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    // Letters change their case as Unicode says; no locale changes that.
    cx.ignore(&["locale"]);
    let change = match cx.string("case_change_action")?.unwrap_or("NONE") {
        "NONE" => CaseChange::None,
        "LOWER" => CaseChange::Lower,
        "UPPER" => CaseChange::Upper,
        other => return Err(invalid!("case_change_action {other:?} is unknown")),
    };
    let case_sensitive = cx.flag("is_case_sensitive", false)?;
    let stopwords = cx.strings("stopwords")?.unwrap_or_default();
    cx.emit(StringOp::Normalize { change, case_sensitive, stopwords })
}

pub(super) fn import_split(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let delimiter = cx.string("delimiter")?.unwrap_or("").to_string();
    let most = cx.int("maxsplit")?.and_then(|n| usize::try_from(n).ok());
    cx.emit(StringOp::Split { delimiter, most })
}

pub(super) fn import_full_match(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let pattern = cx.string("pattern")?.ok_or_else(|| invalid!("attribute pattern is missing"))?;
    let pattern = pattern.to_string();
    cx.emit(StringOp::FullMatch { pattern })
}

/// How counts of n-grams become the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// The count.
    Tf,
    /// The weight, if the n-gram is there at all.
    Idf,
    /// The count times the weight.
    TfIdf,
}

/// The items of the n-grams.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum NgramPool {
    Ints(Vec<i64>),
    Texts(Vec<String>),
}

/// Counts n-grams: x \[c\] → \[columns\], x \[n, c\] → \[n, columns\].
#[derive(Clone, Debug, PartialEq)]
pub struct TfIdfVectorizer {
    /// What is made of the counts.
    pub weighting: Weighting,
    /// Length of the shortest n-grams that are counted.
    pub min_length: usize,
    /// Length of the longest.
    pub max_length: usize,
    /// Items that may be left out between two of an n-gram, the same number everywhere in it.
    pub max_skip: usize,
    /// Items of all n-grams, shorter n-grams first.
    pub pool: NgramPool,
    /// Where in the pool the 1-grams, 2-grams, … begin.
    pub starts: Vec<usize>,
    /// The column of each n-gram.
    pub columns: Vec<usize>,
    /// The weight of each n-gram; empty if all are 1.
    pub weights: Vec<f32>,
}

impl TfIdfVectorizer {
    /// How many columns the output has.
    pub fn width(&self) -> usize {
        self.columns.iter().max().map_or(0, |&c| c.saturating_add(1))
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let x = inputs.get(0)?;
        match (x.dtype()?, &self.pool) {
            (DType::I32 | DType::I64, NgramPool::Ints(_))
            | (DType::String, NgramPool::Texts(_)) => {}
            (other, _) => return Err(invalid!("n-grams of another type than the input, {other}")),
        }
        let width = Dim::from(self.width());
        let shape: Shape = match x.shape() {
            None => return one(Fact::unranked(DType::F32)),
            Some([] | [_]) => [width].into_iter().collect(),
            Some([n, _]) => [n.clone(), width].into_iter().collect(),
            Some(shape) => return Err(invalid!("rank {} where 1 or 2 is needed", shape.len())),
        };
        one(Fact::new(DType::F32, shape))
    }

    /// `Err` unless the pool is cut into n-grams that each have a column.
    fn checked(self) -> Result<TfIdfVectorizer, Reason> {
        let items = match &self.pool {
            NgramPool::Ints(items) => items.len(),
            NgramPool::Texts(items) => items.len(),
        };
        let mut grams = 0usize;
        for (i, &start) in self.starts.iter().enumerate() {
            let end = self.starts.get(i + 1).copied().unwrap_or(items);
            match end.checked_sub(start) {
                Some(len) if end <= items && len % (i + 1) == 0 => grams += len / (i + 1),
                _ => return Err(invalid!("ngram_counts {:?} of {items} items", self.starts)),
            }
        }
        if self.columns.len() != grams || !(self.weights.is_empty() || self.weights.len() == grams)
        {
            return Err(invalid!(
                "{grams} n-grams, {} columns, {} weights",
                self.columns.len(),
                self.weights.len()
            ));
        }
        if self.min_length == 0 || self.min_length > self.max_length {
            return Err(invalid!("n-grams of length {} to {}", self.min_length, self.max_length));
        }
        Ok(self)
    }
}

pub(super) fn import_tf_idf(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let weighting = match cx.string("mode")?.unwrap_or("") {
        "TF" => Weighting::Tf,
        "IDF" => Weighting::Idf,
        "TFIDF" => Weighting::TfIdf,
        other => return Err(invalid!("mode {other:?} is unknown")),
    };
    let length = |name: &str| {
        let length = cx.size(name)?;
        length.ok_or_else(|| invalid!("attribute {name} is missing"))
    };
    let sizes = |name: &str| {
        let ints = cx.ints(name)?.unwrap_or_default();
        let size = |n: i64| usize::try_from(n).map_err(|_| invalid!("{n} in attribute {name}"));
        ints.into_iter().map(size).collect::<Result<Vec<_>, _>>()
    };
    let pool = match (cx.ints("pool_int64s")?, cx.strings("pool_strings")?) {
        (Some(_), Some(_)) => return Err(invalid!("both pool_int64s and pool_strings are given")),
        (Some(items), None) => NgramPool::Ints(items),
        (None, items) => NgramPool::Texts(items.unwrap_or_default()),
    };
    let op = TfIdfVectorizer {
        weighting,
        min_length: length("min_gram_length")?,
        max_length: length("max_gram_length")?,
        max_skip: length("max_skip_count")?,
        pool,
        starts: sizes("ngram_counts")?,
        columns: sizes("ngram_indexes")?,
        weights: cx.floats("weights")?.unwrap_or_default(),
    };
    cx.emit(op.checked()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_must_be_cut_into_whole_n_grams() {
        let op = |starts: &[usize], columns: &[usize]| {
            TfIdfVectorizer {
                weighting: Weighting::Tf,
                min_length: 1,
                max_length: 2,
                max_skip: 0,
                pool: NgramPool::Ints(vec![1, 2, 3, 4]),
                starts: starts.into(),
                columns: columns.into(),
                weights: Vec::new(),
            }
            .checked()
        };
        assert_eq!(op(&[0, 2], &[0, 1, 2]).unwrap().width(), 3);
        assert!(op(&[0, 1], &[0, 1]).is_err());
        assert!(op(&[0, 9], &[0, 1]).is_err());
        assert!(op(&[0, 2], &[0, 1]).is_err());
    }

    #[test]
    fn only_one_row_of_strings_is_normalized() {
        let op = StringOp::Normalize {
            change: CaseChange::None,
            case_sensitive: true,
            stopwords: Vec::new(),
        };
        let infer = |sizes: &[usize]| {
            let x = Fact::sized(DType::String, sizes);
            op.infer(&Inputs::new(&[Some(&x)], 1))
        };
        assert!(infer(&[3]).is_ok() && infer(&[1, 3]).is_ok());
        assert!(infer(&[2, 3]).is_err() && infer(&[]).is_err());
    }
}
