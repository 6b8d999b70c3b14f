//! What products take in scratch memory: operands packed on the way.

use super::pack::{Left, PanelPlan, Right, Strided};
use super::tile::Shape;
use super::{BLOCK_A, CHUNK, OWN, PIECE_FLOPS, STEPS, THIN, chunk};
use crate::par;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// How an operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lies {
    /// Packed ahead of time.
    Packed,
    /// In memory, with these distances between rows and between columns.
    Plain([usize; 2]),
    /// It is made as it is needed.
    Made,
}

/// What [`Gemm::run`](super::Gemm::run) takes for `C[m, n] = A[m, k] · B[k, n]`.
pub fn scratch(isa: Isa, (m, n, k): (usize, usize, usize), a: Lies, b: Lies) -> Scratch {
    if m == 0 || n == 0 {
        return Scratch::none();
    }
    match (a, b) {
        (Lies::Plain(_), Lies::Plain([row, col])) if m <= THIN && (row == 1 || col == 1) => {
            Scratch::floats(m.saturating_mul(k))
        }
        _ => left(Shape::of(isa), (m, n, k), a, b),
    }
}

/// What packing B row by row takes, and B itself: where that is not done ahead of time.
pub fn packing(isa: Isa, k: usize, n: usize) -> Scratch {
    let shape = Shape::of(isa);
    let packed = PanelPlan::new::<Right>(shape, k, n).len().unwrap_or(usize::MAX);
    let rows = Scratch::floats(shape.cols.saturating_mul(k)).in_pieces(par::threads());
    Scratch::floats(packed).and(rows)
}

/// What [`Gemm::run_batch`](super::Gemm::run_batch) takes for `count` such products.
pub fn scratch_of_batch(
    isa: Isa,
    count: usize,
    sizes: (usize, usize, usize),
    a: Lies,
    b: Lies,
) -> Scratch {
    let flops = super::flops(sizes).max(1);
    scratch(isa, sizes, a, b).in_loop(count, PIECE_FLOPS.div_ceil(flops))
}

/// Panels of A, and with them what the right operand takes.
fn left(shape: Shape, (m, n, k): (usize, usize, usize), a: Lies, b: Lies) -> Scratch {
    if a == Lies::Packed {
        return right(shape, (m, n, k), b);
    }
    let blocks = Blocks::of_left(shape, (m, n, k));
    let plan = PanelPlan::new::<Left>(shape, blocks.size.min(m), k);
    let made = if a == Lies::Made { plan.extent.saturating_mul(k) } else { 0 };
    let [row, col] = if let Lies::Plain(steps) = a { steps } else { [k, 1] };
    let packed = match plan.lying(Strided { data: &[], row, col }) {
        Some(_) => 0,
        None => plan.len().unwrap_or(usize::MAX),
    };
    let block = Scratch::floats(made).and(Scratch::floats(packed));
    block.and(right(shape, (plan.extent, n, k), b)).in_loop(blocks.count, blocks.grain)
}

/// Panels of B.
fn right(shape: Shape, (m, n, k): (usize, usize, usize), b: Lies) -> Scratch {
    if b == Lies::Packed {
        return Scratch::none();
    }
    let blocks = Blocks::of_right(shape, (m, n, k));
    let len = PanelPlan::new::<Right>(shape, k, blocks.size.min(n)).len();
    Scratch::floats(len.unwrap_or(usize::MAX)).in_loop(blocks.count, blocks.grain)
}

/// How an operand that is packed on the way is cut: rows of A, or columns of B.
pub(super) struct Blocks {
    /// Rows or columns of a block.
    pub size: usize,
    /// Blocks.
    pub count: usize,
    /// Blocks worth handing to another thread.
    pub grain: usize,
}

impl Blocks {
    /// Blocks of rows that stay where they were packed, each thread its own, if there are enough.
    pub fn of_left(shape: Shape, (m, n, k): (usize, usize, usize)) -> Blocks {
        let own = chunk(BLOCK_A, k.min(STEPS), shape.rows);
        let apart = m.div_ceil(own) >= 4 * par::threads() || par::threads() == 1;
        let size = if apart { own } else { chunk(CHUNK, k, shape.rows) };
        Blocks::new(apart, size, m, super::flops((size, n, k)))
    }

    /// Blocks of columns: each thread its own if there are enough of them, all threads together
    /// otherwise.
    pub fn of_right(shape: Shape, (m, n, k): (usize, usize, usize)) -> Blocks {
        let own = chunk(OWN, k, shape.cols);
        let apart = n.div_ceil(own) >= 2 * par::threads();
        let size = if apart { own } else { chunk(CHUNK, k, shape.cols) };
        Blocks::new(apart, size, n, super::flops((m, size, k)))
    }

    fn new(apart: bool, size: usize, all: usize, flops: usize) -> Blocks {
        let count = all.div_ceil(size);
        let grain = if apart { PIECE_FLOPS.div_ceil(flops.max(1)) } else { count };
        Blocks { size, count, grain }
    }
}
