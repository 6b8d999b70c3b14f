//! Reshape(Transpose(Reshape(x, [-1, m, n]), [0, 2, 1]), [a, b, n, m]) → Transpose(x, [0, 1, 3, 2])
//!
//! So exporters that know only batches of matrices write the transposition of x [a, b, m, n].

use super::pattern::made_by_op;
use super::transposes::perm;
use super::{GraphView, Rewrite};
use crate::ops::Transpose;
use crate::{NodeId, Op};

pub(super) fn rule(g: &GraphView<'_>, id: NodeId) -> Option<Rewrite> {
    let Op::Reshape(_) = g.op(id) else { return None };
    let inner = g.producer(g.input(id, 0)?)?;
    if perm(g, inner)?[..] != [0, 2, 1] {
        return None;
    }
    let batch = g.input(inner, 0)?;
    let x = (*made_by_op(g, batch, "Reshape")?.inputs.first()?)?;
    let (from, mid) = (g.fact(x).shape()?, g.fact(batch).shape()?);
    let to = g.fact(g.output(id, 0)?).shape()?;
    let r = from.len();
    if r < 3 || to.len() != r {
        return None;
    }
    // One size that is not known follows from the others: the number of elements is the same.
    let kept = (0..r - 2).filter(|&i| !from[i].same(&to[i])).count();
    let unknown = |i: usize| from[i].value().is_none() && to[i].value().is_none();
    let kept = kept == 0 || (kept == 1 && (0..r - 2).all(|i| from[i].same(&to[i]) || unknown(i)));
    let (m, n) = (&from[r - 2], &from[r - 1]);
    let swapped = to[r - 2].same(n) && to[r - 1].same(m);
    if !(kept && swapped && mid[1].same(m) && mid[2].same(n)) {
        return None;
    }
    let mut order: Vec<usize> = (0..r).collect();
    order.swap(r - 1, r - 2);
    g.replace(Transpose::new(&order), &[x])
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::rewritten;

    #[test]
    fn a_batch_of_matrices_is_transposed_in_place() {
        let g = rewritten(
            &["batched_transposes", "drop_dead"],
            "x: float[n, 2, s, 8]\na = Reshape(x, [-1, 4, 8])\ny = Relu(a)\n→ y",
        );
        assert_eq!(g.nodes().len(), 2);
        let g = rewritten(
            &["batched_transposes", "drop_dead"],
            "x: float[n, 2, 4, 8]\na = Reshape(x, [-1, 4, 8])\nt = Transpose<perm = [0, 2, 1]>(a)\n\
             y = Reshape(t, [-1, 2, 8, 4])\n→ y",
        );
        assert_eq!(g.nodes().len(), 1, "{g}");
    }
}
