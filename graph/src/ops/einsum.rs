//! Einsum: a product of operands, summed over the indices that the result does not have.
//!
//! "bij,bjk->bik": z[b, i, k] = Σⱼ x[b, i, j] · y[b, j, k]; "..." stands for axes that broadcast.

use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, broadcast};
use crate::{DType, Dim, Fact, Facts, Reason, invalid, unsupported};

/// Inputs: one operand for each term.
#[derive(Clone, Debug, PartialEq)]
pub struct Einsum {
    /// As ONNX writes it.
    pub equation: String,
}

/// An equation for operands of known ranks: indices are numbers below `count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EinsumLabels {
    /// The index of each axis of each operand.
    pub inputs: Vec<Vec<usize>>,
    /// The index of each axis of the result.
    pub output: Vec<usize>,
    /// Number of indices.
    pub count: usize,
}

/// One side of the equation's parts: letters before and after an ellipsis, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    before: Vec<u8>,
    after: Option<Vec<u8>>,
}

impl Term {
    fn parse(text: &str) -> Result<Term, Reason> {
        let letters = |part: &str| {
            let part: Vec<u8> = part.bytes().filter(|&c| c != b' ').collect();
            match part.iter().find(|c| !c.is_ascii_alphabetic()) {
                Some(&c) => Err(invalid!("{:?} in the term {text:?}", char::from(c))),
                None => Ok(part),
            }
        };
        match text.split_once("...") {
            Some((before, after)) => {
                Ok(Term { before: letters(before)?, after: Some(letters(after)?) })
            }
            None => Ok(Term { before: letters(text)?, after: None }),
        }
    }

    fn letters(&self) -> impl Iterator<Item = u8> + '_ {
        self.before.iter().chain(self.after.iter().flatten()).copied()
    }
}

impl Einsum {
    fn terms(&self) -> Result<(Vec<Term>, Option<Term>), Reason> {
        let (left, right) = match self.equation.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&self.equation[..], None),
        };
        let left = left.split(',').map(Term::parse).collect::<Result<_, _>>()?;
        Ok((left, right.map(Term::parse).transpose()?))
    }

    /// The equation for operands of these ranks.
    pub fn labels(&self, ranks: &[usize]) -> Result<EinsumLabels, Reason> {
        let (terms, right) = self.terms()?;
        let equation = &self.equation;
        if terms.len() != ranks.len() {
            let (n, m) = (terms.len(), ranks.len());
            return Err(invalid!("{equation:?} has {n} terms for {m} operands"));
        }
        let mut hidden = 0;
        for (term, &rank) in terms.iter().zip(ranks) {
            let named = term.letters().count();
            let fits = if term.after.is_some() { named <= rank } else { named == rank };
            if !fits {
                return Err(invalid!("a term of {equation:?} for an operand of rank {rank}"));
            }
            hidden = hidden.max(rank - named);
        }
        // The axes of the ellipsis come first, the last of them being the last for every operand.
        let mut known: Vec<u8> = Vec::new();
        let mut label = |c: u8| match known.iter().position(|&k| k == c) {
            Some(i) => hidden + i,
            None => {
                known.push(c);
                hidden + known.len() - 1
            }
        };
        let mut inputs = Vec::new();
        for (term, &rank) in terms.iter().zip(ranks) {
            let ellipsis = rank - term.letters().count();
            let mut axes: Vec<usize> = term.before.iter().map(|&c| label(c)).collect();
            axes.extend(hidden - ellipsis..hidden);
            axes.extend(term.after.iter().flatten().map(|&c| label(c)));
            inputs.push(axes);
        }
        let right = right.unwrap_or_else(|| implicit(&terms));
        let letters: Vec<u8> = right.letters().collect();
        if let Some(c) = letters.iter().find(|c| !known.contains(c)) {
            return Err(invalid!("{:?} of the result is in no term of {equation:?}", *c as char));
        }
        if let Some(i) = (1..letters.len()).find(|&i| letters[..i].contains(&letters[i])) {
            return Err(invalid!("{:?} stands twice in the result", letters[i] as char));
        }
        if hidden > 0 && right.after.is_none() {
            return Err(invalid!("the result of {equation:?} has no place for its ellipsis"));
        }
        let find = |c: &u8| hidden + known.iter().position(|k| k == c).unwrap_or(0);
        let mut output: Vec<usize> = right.before.iter().map(find).collect();
        output.extend(right.after.iter().flat_map(|_| 0..hidden));
        output.extend(right.after.iter().flatten().map(find));
        Ok(EinsumLabels { inputs, output, count: hidden + known.len() })
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let dtype = inputs.dtype(0)?;
        let number = dtype.is_int() && dtype.size() > 0;
        if !number && !matches!(dtype, DType::F16 | DType::BF16 | DType::F32 | DType::F64) {
            return Err(unsupported!("Einsum of {dtype} is not supported"));
        }
        (1..inputs.len()).try_for_each(|i| inputs.same_dtype(0, i))?;
        let shapes: Option<Vec<&[Dim]>> = (0..inputs.len())
            .map(|i| inputs.get(i).map(Fact::shape))
            .collect::<Result<Option<_>, _>>()?;
        let Some(shapes) = shapes else {
            self.terms()?;
            return one(Fact::unranked(dtype));
        };
        let ranks: Vec<usize> = shapes.iter().map(|s| s.len()).collect();
        let labels = self.labels(&ranks)?;
        let mut sizes: Vec<Dim> = vec![Dim::N(1); labels.count];
        for (shape, axes) in shapes.iter().zip(&labels.inputs) {
            for (dim, &label) in shape.iter().zip(axes) {
                let merged = broadcast(&[sizes[label].clone()], std::slice::from_ref(dim))?;
                sizes[label] = merged[0].clone();
            }
        }
        let shape: Shape = labels.output.iter().map(|&label| sizes[label].clone()).collect();
        one(Fact::new(dtype, shape))
    }
}

/// The result where the equation names none: the ellipsis, then letters that stand once, sorted.
fn implicit(terms: &[Term]) -> Term {
    let mut all: Vec<u8> = terms.iter().flat_map(Term::letters).collect();
    all.sort_unstable();
    let once = |&c: &u8| all.iter().filter(|&&k| k == c).count() == 1;
    let after: Vec<u8> = all.iter().copied().filter(once).collect();
    Term { before: Vec::new(), after: Some(after) }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, usize::MAX)?;
    let equation = cx.string("equation")?.ok_or_else(|| invalid!("equation is missing"))?.into();
    cx.emit(Einsum { equation })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(equation: &str, shapes: &[&[usize]]) -> String {
        let facts: Vec<Fact> = shapes.iter().map(|s| Fact::sized(DType::F32, s)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Some).collect();
        let made = Einsum { equation: equation.into() }.infer(&Inputs::new(&facts, 1));
        made.map_or_else(|e| e.to_string(), |f| f[0].to_string())
    }

    #[test]
    fn shapes_follow_the_letters() {
        assert_eq!(shape("bij, bjk -> bik", &[&[2, 3, 4], &[2, 4, 5]]), "float[2, 3, 5]");
        assert_eq!(shape("ij->ji", &[&[2, 3]]), "float[3, 2]");
        assert_eq!(shape("i,i", &[&[5], &[5]]), "float[]");
        assert_eq!(shape("ba,cB", &[&[2, 3], &[4, 5]]), "float[5, 3, 2, 4]");
    }

    #[test]
    fn an_ellipsis_broadcasts_from_the_right() {
        assert_eq!(shape("...ii->...i", &[&[7, 3, 3]]), "float[7, 3]");
        assert_eq!(shape("a...,...b", &[&[2, 6, 1], &[5, 3]]), "float[6, 5, 2, 3]");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(shape("ij->k", &[&[2, 3]]).contains("'k' of the result"));
        assert!(shape("ij->ii", &[&[2, 3]]).contains("stands twice"));
        assert!(shape("ij,jk", &[&[2, 3], &[4, 5]]).contains("do not broadcast"));
        assert!(shape("i1", &[&[2, 3]]).contains("'1' in the term"));
        assert!(shape("ijk", &[&[2, 3]]).contains("rank 2"));
        assert!(shape("...->", &[&[2, 3]]).contains("no place"));
    }
}
