//! Sizes that may not be known yet: affine expressions over named symbols, or unknown.
//!
//! `Dim` also stands for an element of a shape-like tensor (the result of `Shape`, or what feeds
//! `Reshape`), so it may be negative there. Nothing more than affine is tracked: plans are made
//! for concrete sizes, symbols only serve the passes and the reader.

use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;

/// The concrete sizes of a tensor's axes.
pub type Sizes = SmallVec<[usize; 6]>;
/// The sizes of a value's axes as far as they are known.
pub type Shape = SmallVec<[Dim; 6]>;

/// The name of a size that is bound when a model runs (`dim_param`).
pub type Symbol = Arc<str>;

/// `constant + Σ factor · symbol`, at least one symbol, sorted by name, no zero factor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Affine {
    constant: i64,
    terms: SmallVec<[(Symbol, i64); 1]>,
}

/// One size, or one element of a shape-like tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A number; never negative as the size of an axis.
    N(i64),
    /// An expression over symbols.
    Sym(Box<Affine>),
    /// Not known. Two unknown sizes are never taken for the same.
    Unknown,
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        i64::try_from(n).map_or(Dim::Unknown, Dim::N)
    }
}

impl Dim {
    /// The size named `name`.
    pub fn symbol(name: &str) -> Dim {
        Dim::Sym(Box::new(Affine {
            constant: 0,
            terms: [(Symbol::from(name), 1)].into_iter().collect(),
        }))
    }

    /// The number, if it is one.
    pub fn value(&self) -> Option<i64> {
        match self {
            Dim::N(n) => Some(*n),
            _ => None,
        }
    }

    /// The size, if it is a number that can be one.
    pub fn size(&self) -> Option<usize> {
        self.value().and_then(|n| usize::try_from(n).ok())
    }

    /// Whether both are certainly the same.
    pub fn same(&self, other: &Dim) -> bool {
        *self != Dim::Unknown && self == other
    }

    /// Whether it is the number `n`.
    pub fn is(&self, n: i64) -> bool {
        self.value() == Some(n)
    }

    /// Whether it is certainly not negative, whatever sizes its symbols stand for.
    pub fn is_size(&self) -> bool {
        match self {
            Dim::N(n) => *n >= 0,
            Dim::Sym(a) => a.constant >= 0 && a.terms.iter().all(|t| t.1 >= 0),
            Dim::Unknown => false,
        }
    }

    fn affine(&self) -> Option<Affine> {
        match self {
            Dim::N(n) => Some(Affine { constant: *n, terms: SmallVec::new() }),
            Dim::Sym(affine) => Some((**affine).clone()),
            Dim::Unknown => None,
        }
    }

    fn from_affine(affine: Option<Affine>) -> Dim {
        match affine {
            None => Dim::Unknown,
            Some(a) if a.terms.is_empty() => Dim::N(a.constant),
            Some(a) => Dim::Sym(Box::new(a)),
        }
    }

    /// The sum; unknown if it overflows.
    pub fn add(&self, other: &Dim) -> Dim {
        let sum = || {
            let (mut a, b) = (self.affine()?, other.affine()?);
            a.constant = a.constant.checked_add(b.constant)?;
            for (symbol, factor) in b.terms {
                match a.terms.binary_search_by(|t| t.0.cmp(&symbol)) {
                    Ok(i) => a.terms[i].1 = a.terms[i].1.checked_add(factor)?,
                    Err(i) => a.terms.insert(i, (symbol, factor)),
                }
            }
            a.terms.retain(|t| t.1 != 0);
            Some(a)
        };
        Dim::from_affine(sum())
    }

    /// `self · n`; unknown if it overflows.
    pub fn scale(&self, n: i64) -> Dim {
        let scaled = || {
            let mut a = self.affine()?;
            a.constant = a.constant.checked_mul(n)?;
            for term in &mut a.terms {
                term.1 = term.1.checked_mul(n)?;
            }
            a.terms.retain(|t| t.1 != 0);
            Some(a)
        };
        Dim::from_affine(scaled())
    }

    /// The difference; unknown if it overflows.
    pub fn sub(&self, other: &Dim) -> Dim {
        self.add(&other.scale(-1))
    }

    /// The product; unknown unless one side is a number.
    pub fn mul(&self, other: &Dim) -> Dim {
        match (self.value(), other.value()) {
            (_, Some(n)) => self.scale(n),
            (Some(n), _) => other.scale(n),
            _ => Dim::Unknown,
        }
    }

    /// `self / n` where it certainly leaves no remainder; else unknown (numbers divide rounding
    /// towards zero, as ONNX's integer Div does).
    pub fn div(&self, other: &Dim) -> Dim {
        if self.same(other) && !self.is(0) {
            return Dim::N(1);
        }
        let quotient = || {
            let n = other.value().filter(|&n| n != 0)?;
            if let Some(value) = self.value() {
                return value
                    .checked_div(n)
                    .map(|q| Affine { constant: q, terms: SmallVec::new() });
            }
            let mut a = self.affine()?;
            let exact = a.constant % n == 0 && a.terms.iter().all(|t| t.1 % n == 0);
            a.constant /= n;
            a.terms.iter_mut().for_each(|t| t.1 /= n);
            exact.then_some(a)
        };
        Dim::from_affine(quotient())
    }

    /// The value once `size_of` names every symbol's size; `None` if a symbol has none.
    pub fn eval(&self, size_of: &dyn Fn(&str) -> Option<usize>) -> Option<i64> {
        let affine = self.affine()?;
        affine.terms.iter().try_fold(affine.constant, |sum, (symbol, factor)| {
            sum.checked_add(i64::try_from(size_of(symbol)?).ok()?.checked_mul(*factor)?)
        })
    }

    /// The symbol, if it is one symbol and nothing else.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self {
            Dim::Sym(a) if a.constant == 0 && a.terms.len() == 1 && a.terms[0].1 == 1 => {
                Some(&a.terms[0].0)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let affine = match self {
            Dim::N(n) => return write!(f, "{n}"),
            Dim::Unknown => return f.write_str("?"),
            Dim::Sym(affine) => affine,
        };
        for (i, (symbol, factor)) in affine.terms.iter().enumerate() {
            match (i, *factor) {
                (0, 1) => write!(f, "{symbol}")?,
                (0, n) => write!(f, "{n}{symbol}")?,
                (_, 1) => write!(f, "+{symbol}")?,
                (_, n) => write!(f, "{n:+}{symbol}")?,
            }
        }
        if affine.constant != 0 { write!(f, "{:+}", affine.constant) } else { Ok(()) }
    }
}

/// The number of elements, or `None` if it does not fit in `isize` (no allocation could hold it).
pub fn count(sizes: &[usize]) -> Option<usize> {
    // A zero anywhere makes the tensor empty however large the other sizes are.
    if sizes.contains(&0) {
        return Some(0);
    }
    let n = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size))?;
    isize::try_from(n).is_ok().then_some(n)
}

/// Row-major strides in elements.
pub fn strides(sizes: &[usize]) -> Sizes {
    let mut strides: Sizes = SmallVec::from_elem(1, sizes.len());
    for i in (1..sizes.len()).rev() {
        strides[i - 1] = strides[i].saturating_mul(sizes[i]);
    }
    strides
}

/// How two sizes broadcast; `Err` if they certainly cannot.
fn broadcast_dim(a: &Dim, b: &Dim) -> Result<Dim, ()> {
    match (a, b) {
        (Dim::N(1), d) | (d, Dim::N(1)) => Ok(d.clone()),
        (Dim::N(m), Dim::N(n)) if m != n => Err(()),
        // Whatever the symbol is, it must be n or 1.
        (Dim::N(n), _) | (_, Dim::N(n)) => Ok(Dim::N(*n)),
        _ if a.same(b) => Ok(a.clone()),
        _ => Ok(Dim::Unknown),
    }
}

/// The shape that two shapes broadcast to, as NumPy and ONNX do it.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, crate::Reason> {
    let rank = a.len().max(b.len());
    let one = Dim::N(1);
    let at =
        |s: &[Dim], i: usize| (i + s.len()).checked_sub(rank).map_or(one.clone(), |i| s[i].clone());
    (0..rank)
        .map(|i| broadcast_dim(&at(a, i), &at(b, i)))
        .collect::<Result<Shape, ()>>()
        .map_err(|()| crate::invalid!("shapes {} and {} do not broadcast", show(a), show(b)))
}

/// `[batch, 3, 224]`.
pub fn show(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_arithmetic_cancels() {
        let n = Dim::symbol("n");
        assert_eq!(n.add(&Dim::N(3)).sub(&n), Dim::N(3));
        assert_eq!(n.scale(4).div(&Dim::N(2)).to_string(), "2n");
        assert_eq!(n.add(&Dim::N(1)).div(&Dim::N(2)), Dim::Unknown);
        assert_eq!(n.mul(&n), Dim::Unknown);
        assert_eq!(Dim::N(i64::MAX).add(&Dim::N(1)), Dim::Unknown);
    }

    #[test]
    fn broadcast_keeps_what_is_certain() {
        let n = Dim::symbol("n");
        assert_eq!(show(&broadcast(&[n.clone(), Dim::N(1)], &[Dim::N(4)]).unwrap()), "[n, 4]");
        assert_eq!(show(&broadcast(std::slice::from_ref(&n), &[Dim::N(4)]).unwrap()), "[4]");
        assert!(broadcast(&[Dim::N(3)], &[Dim::N(4)]).is_err());
    }

    #[test]
    fn count_refuses_what_no_memory_holds() {
        assert_eq!(count(&[usize::MAX, 2]), None);
        assert_eq!(count(&[usize::MAX, 2, 0]), Some(0));
        assert_eq!(count(&[]), Some(1));
    }
}
