//! Attention in f32: blocks of keys pass by blocks of queries, with a running maximum and sum, so
//! that the matrix of scores never exists.
//!
//! Heads and blocks of queries are what threads share. Few queries take another way: two sweeps,
//! over the keys and over the values, as they lie in memory.

mod block;
mod sweep;

use rinfer_graph::Reason;
use rinfer_graph::backend::RunCx;

use crate::gemm::tile::Shape;
use crate::gemm::{Left, PanelPlan, Right, Strided};
use crate::kernel::limit;
use crate::par::{self, Split};
use crate::pool::with_scratch;
use crate::scratch::Scratch;
use crate::simd::{Isa, MatMut};

/// Queries of a head for which packing keys and values does not pay.
const FEW: usize = 4;

/// Where vectors lie: distances between batches, heads, positions; elements of one are adjacent.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Between batches.
    pub batch: usize,
    /// Between heads.
    pub head: usize,
    /// Between positions.
    pub position: usize,
}

impl Steps {
    /// Steps of vectors of `size` elements: [batch, position, head], or [batch, head, position].
    pub fn new(side_by_side: bool, heads: usize, positions: usize, size: usize) -> Steps {
        let batch = heads * positions * size;
        match side_by_side {
            true => Steps { batch, head: size, position: heads * size },
            false => Steps { batch, head: positions * size, position: size },
        }
    }
}

/// Vectors of every batch, head and position.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Where they lie.
    pub steps: Steps,
}

impl<'a> Vectors<'a> {
    /// The vectors of one head, from position 0 on.
    fn head(&self, batch: usize, head: usize) -> &'a [f32] {
        let at = batch * self.steps.batch + head * self.steps.head;
        self.data.get(at..).unwrap_or_default()
    }
}

/// What a mask holds.
#[derive(Clone, Copy, Debug)]
pub enum MaskData<'a> {
    /// Nothing: there is none.
    None,
    /// Numbers to be added to the scores.
    Add(&'a [f32]),
    /// Nonzero where a key is seen.
    Keep(&'a [u8]),
}

/// Which keys a query sees, and what is added to their scores.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// The elements.
    pub data: MaskData<'a>,
    /// Steps from one batch, head and query to the next; 0 where they share.
    pub steps: [usize; 3],
    /// Keys that it speaks of; those after are not seen.
    pub keys: usize,
}

/// An attention to be computed.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Batch.
    pub batch: usize,
    /// Heads of queries.
    pub q_heads: usize,
    /// Heads of keys and values; each serves as many heads of queries.
    pub kv_heads: usize,
    /// Queries.
    pub queries: usize,
    /// Keys.
    pub keys: usize,
    /// Elements of a query and a key.
    pub head: usize,
    /// Elements of a value.
    pub v_head: usize,
    /// Queries.
    pub q: Vectors<'a>,
    /// Keys.
    pub k: Vectors<'a>,
    /// Values.
    pub v: Vectors<'a>,
    /// Whether heads lie side by side in the result: [batch, query, head].
    pub side_by_side: bool,
    /// Factor of the products.
    pub scale: f32,
    /// c · tanh(x / c) is taken of the products; 0 is none.
    pub softcap: f32,
    /// The mask.
    pub mask: Mask<'a>,
    /// Keys that exist in each batch; empty: all.
    pub lens: &'a [usize],
    /// The position of each batch's first query among the keys; empty: `lens - queries` if there
    /// are lens, else `past`.
    pub starts: &'a [usize],
    /// One more score of each head of queries, that no value belongs to; empty: none.
    pub sinks: &'a [f32],
    /// Keys before the first query's own position.
    pub past: isize,
    /// Positions before its own that a query sees.
    pub left: Option<usize>,
    /// Positions after its own that a query sees.
    pub right: Option<usize>,
}

/// One head of queries: what it sees.
#[derive(Clone, Copy, Debug)]
struct Place {
    batch: usize,
    head: usize,
}

impl Job<'_> {
    /// Computes into `y`, rows of values.
    pub fn run(&self, isa: Isa, cx: &RunCx<'_>, y: &mut [f32]) -> Result<(), Reason> {
        let (rows, width) = match self.side_by_side {
            true => (self.batch * self.queries, self.q_heads * self.v_head),
            false => (self.batch * self.q_heads * self.queries, self.v_head),
        };
        if rows == 0 || width == 0 {
            return Ok(());
        }
        let y = MatMut::new(y, rows, width, width);
        let failure = par::Failure::default();
        let each = Cut { mat: y, rows: rows / self.batch, cols: width };
        par::split(each, self.batch, self.batch_grain(), |batch, y| {
            for (i, y) in y.pieces().enumerate() {
                self.batch(isa, batch + i, y, cx, &failure);
            }
        });
        failure.result()
    }

    fn batch(
        &self,
        isa: Isa,
        batch: usize,
        y: MatMut<'_, f32>,
        cx: &RunCx<'_>,
        failure: &par::Failure,
    ) {
        let group = self.q_heads / self.kv_heads.max(1);
        let cut = |mat, heads: usize| match self.side_by_side {
            true => Cut { mat, rows: self.queries, cols: heads * self.v_head },
            false => Cut { mat, rows: heads * self.queries, cols: self.v_head },
        };
        par::split(cut(y, group), self.kv_heads, self.heads_grain(), |first, y| {
            for (i, y) in y.pieces().enumerate() {
                let places = (0..group).map(|g| Place { batch, head: (first + i) * group + g });
                let heads = places.zip(cut(y, 1).pieces());
                failure.attempt(|| match self.queries <= FEW {
                    true => self.sweep_heads(isa, heads, cx),
                    false => self.block_heads(isa, first + i, heads, cx),
                });
            }
        });
    }

    fn sweep_heads<'m>(
        &self,
        isa: Isa,
        heads: impl Iterator<Item = (Place, MatMut<'m, f32>)>,
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        for (place, mut y) in heads {
            cx.check()?;
            for query in 0..self.queries {
                sweep::query(self, isa, place, query, y.row(query)).map_err(limit)?;
            }
        }
        Ok(())
    }

    /// Packs keys and values of one head, then every head of queries that it serves.
    fn block_heads<'m>(
        &self,
        isa: Isa,
        kv_head: usize,
        heads: impl Iterator<Item = (Place, MatMut<'m, f32>)>,
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let shape = Shape::of(isa);
        let (keys, values, queries) = self.panels(shape);
        let lens = [keys.len(), values.len(), queries.len()];
        let [k_len, v_len, q_len] = lens.map(|n| n.map_err(limit));
        let (k_len, v_len, q_len) = (k_len?, v_len?, q_len?);
        let strided = |data, row, col| Strided { data, row, col };
        with_scratch(k_len + v_len + q_len, |scratch| {
            let (k, rest) = scratch.split_at_mut(k_len);
            let (v, q) = rest.split_at_mut(v_len);
            let failure = par::Failure::default();
            for (n, (place, y)) in heads.enumerate() {
                if n == 0 {
                    let from = self.k.head(place.batch, kv_head);
                    keys.pack(isa, strided(from, self.k.steps.position, 1), k);
                    let from = self.v.head(place.batch, kv_head);
                    values.pack(isa, strided(from, 1, self.v.steps.position), v);
                }
                let from = self.q.head(place.batch, place.head);
                queries.pack(isa, strided(from, self.q.steps.position, 1), q);
                let (v, q) = (values.view(v), queries.view(q));
                let packed = block::Packed { keys: &keys, k: &*k, v, q };
                let rows = Cut { mat: y, rows: shape.cols, cols: self.v_head };
                par::split(rows, queries.count(), self.block_grain(shape), |first, y| {
                    for (i, y) in y.pieces().enumerate() {
                        failure.attempt(|| {
                            cx.check()?;
                            block::run(self, isa, &packed, place, first + i, y).map_err(limit)
                        });
                    }
                });
            }
            failure.result()
        })
        .map_err(limit)?
    }

    /// What a run takes: packed operands of each head that is worked on, and blocks of scores.
    pub fn scratch(&self, isa: Isa) -> Scratch {
        let shape = Shape::of(isa);
        let one = if self.queries <= FEW {
            Scratch::floats(self.keys)
        } else {
            let (keys, values, queries) = self.panels(shape);
            let lens = [keys.len(), values.len(), queries.len()];
            let lens = lens.map(|len| len.unwrap_or(usize::MAX));
            let packed = Scratch::floats(lens.into_iter().fold(0, usize::saturating_add));
            let block = Scratch::floats(block::room(&queries, self.v_head));
            packed.and(block.in_loop(queries.count(), self.block_grain(shape)))
        };
        one.in_loop(self.kv_heads, self.heads_grain()).in_loop(self.batch, self.batch_grain())
    }

    /// Operations worth handing to another thread: batches, heads of keys, blocks of queries.
    fn batch_grain(&self) -> usize {
        let flops = self.q_heads * self.queries * self.keys * (self.head + self.v_head) * 2;
        par::grain(flops / 50)
    }

    fn heads_grain(&self) -> usize {
        let group = self.q_heads / self.kv_heads.max(1);
        par::grain(2 * group * self.queries * self.keys * (self.head + self.v_head) / 50)
    }

    fn block_grain(&self, shape: Shape) -> usize {
        par::grain(self.keys * shape.cols * (self.head + self.v_head) / 25)
    }

    /// How the keys, the values and the queries of a head are packed.
    fn panels(&self, shape: Shape) -> (block::Keys, PanelPlan, PanelPlan) {
        let keys = block::Keys::new(shape, self.keys, self.head);
        let values = PanelPlan::new::<Left>(shape, self.v_head, self.keys);
        (keys, values, PanelPlan::new::<Right>(shape, self.head, self.queries))
    }

    /// Keys that exist for a batch.
    fn key_count(&self, batch: usize) -> usize {
        self.lens.get(batch).copied().unwrap_or(self.keys).min(self.keys).min(
            match self.mask.data {
                MaskData::None => self.keys,
                _ => self.mask.keys,
            },
        )
    }

    /// The position of the first query among the keys.
    fn offset(&self, batch: usize) -> isize {
        match (self.starts.get(batch), self.lens.get(batch)) {
            (Some(&start), _) => start as isize,
            (None, Some(&len)) => len as isize - self.queries as isize,
            (None, None) => self.past,
        }
    }

    /// The maximum and the sum of exponentials that softmax of a head begins with.
    fn begin(&self, head: usize) -> (f32, f32) {
        self.sinks.get(head).map_or((f32::NEG_INFINITY, 0.0), |&sink| (sink, 1.0))
    }

    /// The keys that queries `from..to` may see, window and length considered, the mask not.
    fn seen(&self, batch: usize, from: usize, to: usize) -> std::ops::Range<usize> {
        let clamp = |x: isize| usize::try_from(x).unwrap_or(0);
        let offset = self.offset(batch);
        let first =
            self.left.map_or(0, |n| clamp((offset + from as isize).saturating_sub_unsigned(n)));
        let end = match self.right {
            Some(n) => clamp((offset + to as isize).saturating_add_unsigned(n)),
            None => self.keys,
        };
        let end = end.min(self.key_count(batch));
        first.min(end)..end
    }
}

/// A matrix cut into equal pieces of rows, or of columns where a piece has all rows.
struct Cut<'a> {
    mat: MatMut<'a, f32>,
    rows: usize,
    cols: usize,
}

impl<'a> Cut<'a> {
    fn by_columns(&self) -> bool {
        self.rows >= self.mat.rows() && self.cols < self.mat.cols()
    }

    /// The pieces; the last may be smaller.
    fn pieces(self) -> impl Iterator<Item = MatMut<'a, f32>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let cut = rest.take()?;
            if cut.mat.rows() == 0 || cut.mat.cols() == 0 {
                return None;
            }
            let (piece, left) = cut.split(1);
            rest = Some(left);
            Some(piece.mat)
        })
    }
}

impl Split for Cut<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let (rows, cols) = (self.rows, self.cols);
        let (a, b) = match self.by_columns() {
            true => {
                let at = at.saturating_mul(cols).min(self.mat.cols());
                self.mat.split_cols(at)
            }
            false => {
                let at = at.saturating_mul(rows).min(self.mat.rows());
                self.mat.split_rows(at)
            }
        };
        (Cut { mat: a, rows, cols }, Cut { mat: b, rows, cols })
    }
}

#[cfg(test)]
mod tests;
