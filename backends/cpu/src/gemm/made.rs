//! An operand that is made as it is needed: a convolution's patches are larger than the image they
//! come from, so only those columns of a right operand, or rows of a left one, exist that are being
//! multiplied.

use std::ops::Range;

use super::pack::PanelPlan;
use super::tile::Shape;
use super::{Gemm, Job, Lhs, PackedA, Rhs, Right, Strided};
use crate::simd::{Isa, MatMut};

/// The columns of a matrix, made on demand.
pub trait Made: Sync + std::fmt::Debug {
    /// Writes columns `first..first + cols` to `panel`, row after row, `width` elements each; what
    /// stands beyond `cols` may be anything.
    fn panel(&self, isa: Isa, first: usize, cols: usize, width: usize, panel: &mut [f32]);
}

/// The rows of a left operand, made as they are needed.
pub trait MadeRows: Sync + std::fmt::Debug {
    /// Writes as many rows from `first` on as `rows` holds, one after the other, on as many threads
    /// as there are.
    fn rows(&self, first: usize, rows: &mut [f32]);
}

/// The columns in panel `panel` of a right operand with `n` columns, none beyond the last panel,
/// and the width with which its rows follow one another.
pub(crate) fn panel_lanes(isa: Isa, n: usize, panel: usize) -> (Range<usize>, usize) {
    let plan = PanelPlan::new::<Right>(Shape::of(isa), 1, n);
    if panel >= plan.count() {
        return (n..n, 0);
    }
    (plan.lanes(panel), plan.stored(panel))
}

/// Elements of all panels of a right operand with `n` columns and `k` rows.
pub(crate) fn panels_len(isa: Isa, n: usize, k: usize) -> Result<usize, String> {
    PanelPlan::new::<Right>(Shape::of(isa), k, n).len()
}

/// `C[m, n] = A · B`, where `b` holds the panels of B as [`panel_lanes`] describes them.
pub(crate) fn run_panels(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: &PackedA,
    b: &[f32],
    c: MatMut<'_, f32>,
) -> Result<(), String> {
    let plan = PanelPlan::new::<Right>(Shape::of(isa), k, n);
    let nothing = Strided { data: &[], row: 0, col: 0 };
    let gemm = Gemm::new((m, n, k), Lhs::Packed(a), Rhs::Plain(nothing));
    let a = a.panels(isa, m, k)?;
    Job { isa, gemm: &gemm, a, b: plan.view(b), row0: 0, col0: 0 }.share(c);
    Ok(())
}
