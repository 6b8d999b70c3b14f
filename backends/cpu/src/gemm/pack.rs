//! Panels: a matrix copied into the order in which tiles read it.
//!
//! A (m × k) is cut into panels of tile rows, B (k × n) into panels of tile columns; a panel holds
//! its lanes side by side for each step of `k`: `[k][width]`. Panels of A are as even as they can
//! be; the last panel of B is what is left, rounded up to whole vectors with zeros.

use super::tile::{Lying, Panel, Shape};
use crate::par::{self, Split};
use crate::pool::{Buffer, with_scratch};
use crate::simd::{F32s, Isa, MAX_LANES};
use std::ops::Range;

/// A matrix somewhere in a slice: element `(i, j)` is `data[i · row + j · col]`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    /// The elements, from `(0, 0)` on.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row: usize,
    /// Distance between columns.
    pub col: usize,
}

impl<'a> Strided<'a> {
    /// Rows of `cols` elements, one after the other.
    pub fn rows(data: &'a [f32], cols: usize) -> Self {
        Strided { data, row: cols, col: 1 }
    }

    /// The same elements, rows as columns.
    pub fn transposed(self) -> Self {
        Strided { data: self.data, row: self.col, col: self.row }
    }

    /// The matrix without its first rows and columns.
    pub(crate) fn from(self, row: usize, col: usize) -> Self {
        let start = (row * self.row + col * self.col).min(self.data.len());
        Strided { data: &self.data[start..], ..self }
    }

    /// Checks that `rows × cols` elements are there.
    pub(crate) fn check(&self, what: &str, rows: usize, cols: usize) -> Result<(), String> {
        if rows == 0 || cols == 0 {
            return Ok(());
        }
        let last = |n: usize, stride: usize| (n - 1).checked_mul(stride);
        let need = last(rows, self.row)
            .and_then(|r| r.checked_add(last(cols, self.col)?)?.checked_add(1))
            .ok_or_else(|| format!("{what} of {rows} x {cols} is too large"))?;
        if need > self.data.len() {
            let have = self.data.len();
            return Err(format!("{what} of {rows} x {cols} needs {need} elements, has {have}"));
        }
        Ok(())
    }
}

/// How a constant matrix is stored: which of its two extents runs fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Row after row of the matrix.
    RowMajor,
    /// Column after column: the transpose is stored row after row.
    Transposed,
}

/// Panels in borrowed memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels<'a> {
    data: &'a [f32],
    plan: PanelPlan,
    /// The distance between lanes, if they are not packed but lie as they are.
    stride: Option<usize>,
}

/// Where panels lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PanelPlan {
    /// Rows of A or columns of B.
    pub extent: usize,
    /// Steps.
    pub k: usize,
    /// Width of the first panels.
    width: usize,
    /// How many have that width; those after are narrower by one.
    wide: usize,
    /// Number of panels.
    count: usize,
    /// What the width of the last panel is rounded up to.
    round: usize,
}

impl PanelPlan {
    /// Panels of a `rows × cols` matrix on side `D`.
    pub fn new<D: Side>(shape: Shape, rows: usize, cols: usize) -> Self {
        let (extent, k) = D::lanes_and_steps(rows, cols);
        let (width, round) = D::width(shape);
        let count = extent.div_ceil(width);
        if !D::EVEN || count == 0 {
            return PanelPlan { extent, k, width, wide: usize::MAX, count, round };
        }
        // A last panel of one or two lanes would read the other side as a full one does.
        let width = extent.div_ceil(count);
        let wide = extent - (width - 1) * count;
        PanelPlan { extent, k, width, wide, count, round }
    }

    /// Elements of all panels.
    pub fn len(&self) -> Result<usize, String> {
        let lanes = self.extent.checked_next_multiple_of(self.round);
        lanes
            .and_then(|lanes| lanes.checked_mul(self.k))
            .ok_or_else(|| format!("a packed matrix of {} x {} is too large", self.extent, self.k))
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first lane of panel `p`.
    #[inline(always)]
    fn start(&self, p: usize) -> usize {
        (p * self.width - p.saturating_sub(self.wide)).min(self.extent)
    }

    /// The lanes in panel `p`.
    #[inline(always)]
    pub fn lanes(&self, p: usize) -> Range<usize> {
        self.start(p)..self.start(p + 1)
    }

    /// The panel that holds a lane.
    pub fn panel_of(&self, lane: usize) -> usize {
        match lane.checked_sub(self.wide.saturating_mul(self.width)) {
            Some(beyond) => self.wide + beyond / (self.width - 1).max(1),
            None => lane / self.width,
        }
    }

    /// The width panel `p` is stored with.
    #[inline(always)]
    pub fn stored(&self, p: usize) -> usize {
        self.lanes(p).len().next_multiple_of(self.round)
    }

    /// Fills `dst` with `fill(panels, their memory)`, a few panels at a time.
    fn fill(&self, dst: &mut [f32], fill: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        let panel = self.width.saturating_mul(self.k).max(1);
        // Storage order and panel order cross: several panels together read longer runs. More of
        // them would meet in the same sets of the cache.
        const GROUP: usize = 8;
        let share = Share { plan: *self, panels: 0..self.count, dst };
        let grain = par::grain(panel).min(GROUP);
        par::split(share, self.count, grain, |_, mut share| {
            while !share.panels.is_empty() {
                let few = GROUP.min(share.panels.len());
                let (now, later) = share.split(few);
                fill(now.panels, now.dst);
                share = later;
            }
        });
    }

    /// Calls `fill(panel, its memory)` for each panel.
    pub fn each(&self, dst: &mut [f32], fill: impl Fn(usize, &mut [f32]) + Sync) {
        self.fill(dst, |panels, mut dst| {
            for p in panels {
                let (now, later) = dst.split_at_mut(self.stored(p) * self.k);
                fill(p, now);
                dst = later;
            }
        });
    }

    /// Copies `src` (lanes by rows: `row` is the distance between lanes, `col` between steps)
    /// into panels.
    pub fn pack(&self, isa: Isa, src: Strided<'_>, dst: &mut [f32]) {
        self.fill(dst, |panels, dst| {
            if src.row == 1 {
                return copy_steps(isa, *self, panels, src.data, src.col, dst);
            }
            for p in panels.clone() {
                let at = (self.start(p) - self.start(panels.start)) * self.k;
                let width = self.stored(p);
                let src = src.from(self.start(p), 0);
                pack_panel(isa, src, self.lanes(p).len(), width, &mut dst[at..at + width * self.k]);
            }
        });
    }

    /// As [`PanelPlan::pack`], from a matrix that `read` brings in pieces of its storage rows:
    /// steps (`by_step`) or lanes.
    fn pack_read(
        &self,
        isa: Isa,
        by_step: bool,
        read: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
        dst: &mut [f32],
    ) -> Result<(), String> {
        let failed = rinfer_graph::sync::OnceLock::new();
        self.fill(dst, |panels, dst| {
            let place = |p: usize| (self.start(p) - self.start(panels.start)) * self.k;
            if by_step {
                for step in 0..self.k {
                    for p in panels.clone() {
                        let (lanes, width) = (self.lanes(p), self.stored(p));
                        let dst = &mut dst[place(p) + step * width..][..width];
                        let (dst, pad) = dst.split_at_mut(lanes.len());
                        read(step, lanes, dst);
                        pad.fill(0.0);
                    }
                }
                return;
            }
            for p in panels.clone() {
                let (lanes, width) = (self.lanes(p), self.stored(p));
                let dst = &mut dst[place(p)..][..width * self.k];
                let done = with_scratch(lanes.len() * self.k, |rows| {
                    for (lane, row) in lanes.clone().zip(rows.chunks_exact_mut(self.k.max(1))) {
                        read(lane, 0..self.k, row);
                    }
                    pack_panel(isa, Strided::rows(rows, self.k), lanes.len(), width, dst);
                });
                if let Err(e) = done {
                    failed.get_or_init(|| e);
                }
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// The panels that `data` holds.
    pub fn view(self, data: &[f32]) -> Panels<'_> {
        Panels { data, plan: self, stride: None }
    }

    /// The panels of a matrix whose steps lie side by side, as it is; `None` if it is better packed.
    pub fn lying(self, a: Strided<'_>) -> Option<Panels<'_>> {
        let suits = a.col == 1 && Lying::suits(a.row, self.width);
        suits.then_some(Panels { data: a.data, plan: self, stride: Some(a.row) })
    }
}

impl<'a> Panels<'a> {
    /// The plan of these panels.
    pub fn plan(&self) -> PanelPlan {
        self.plan
    }

    /// Steps `k` of panel `p` of a left operand.
    #[inline(always)]
    pub fn panel(&self, p: usize, k: Range<usize>) -> Panel<'a> {
        Panel(self.steps(p, k))
    }

    /// Steps `k` of panel `p`, if its lanes lie as they are.
    #[inline(always)]
    pub fn lying(&self, p: usize, k: Range<usize>) -> Option<Lying<'a>> {
        let stride = self.stride?;
        let data = &self.data[self.plan.start(p) * stride + k.start..];
        Some(Lying { data, stride, steps: k.len() })
    }

    /// Steps `k` of panel `p`, which is packed.
    #[inline(always)]
    pub fn steps(&self, p: usize, k: Range<usize>) -> &'a [f32] {
        let (at, width) = (self.plan.start(p) * self.plan.k, self.plan.stored(p));
        &self.data[at + k.start * width..at + k.end * width]
    }
}

/// Some panels of a plan, and their memory.
struct Share<'a> {
    plan: PanelPlan,
    panels: Range<usize>,
    dst: &'a mut [f32],
}

impl Split for Share<'_> {
    fn split(self, at: usize) -> (Self, Self) {
        let Share { plan, panels, dst } = self;
        let mid = panels.start + at;
        // The last panel takes what is left, its padding too.
        let here = match mid == panels.end {
            true => dst.len(),
            false => (plan.start(mid) - plan.start(panels.start)) * plan.k,
        };
        let (a, b) = dst.split_at_mut(here);
        let first = Share { plan, panels: panels.start..mid, dst: a };
        (first, Share { plan, panels: mid..panels.end, dst: b })
    }
}

/// Copies one panel: `lanes` rows of `src` become columns of `dst`, `width` wide, the rest zero.
fn pack_panel(isa: Isa, src: Strided<'_>, lanes: usize, width: usize, dst: &mut [f32]) {
    if src.col == 1 {
        transpose_lanes(isa, src.data, src.row, lanes, width, dst);
    } else {
        for (p, dst) in dst.chunks_exact_mut(width).enumerate() {
            for (i, d) in dst.iter_mut().enumerate() {
                *d = if i < lanes { src.data[i * src.row + p * src.col] } else { 0.0 };
            }
        }
    }
}

/// Steps copied before the next panel: enough to write whole runs, few enough to read whole rows.
const TOGETHER: usize = 4;

crate::simd_fn! {
    /// Lanes lie side by side, steps `stride` apart; `dst` holds these panels of the plan.
    fn copy_steps(
        s: S, plan: PanelPlan, panels: Range<usize>, src: &[f32], stride: usize, dst: &mut [f32]
    ) {
        let k = plan.k;
        let mut step = 0;
        while step < k {
            let end = k.min(step + TOGETHER);
            for p in panels.clone() {
                let (lanes, width) = (plan.lanes(p), plan.stored(p));
                let at = (plan.start(p) - plan.start(panels.start)) * k;
                let whole = lanes.len() == width && width.is_multiple_of(S::LANES);
                for q in step..end {
                    let src = &src[q * stride + lanes.start..][..lanes.len()];
                    let dst = &mut dst[at + q * width..][..width];
                    let mut j = 0;
                    while j < width {
                        if whole {
                            s.load(&src[j..]).store(&mut dst[j..]);
                        } else {
                            let x = s.load_partial(src.get(j..).unwrap_or_default(), 0.0);
                            x.store_partial(&mut dst[j..]);
                        }
                        j += S::LANES;
                    }
                }
            }
            step = end;
        }
    }
}

/// Elements by which reading is announced: so many rows at a time are more streams than the
/// processor follows by itself.
const AHEAD: usize = 64;

crate::simd_fn! {
    /// Steps lie side by side, lanes `stride` apart.
    fn transpose_lanes(
        s: S, src: &[f32], stride: usize, lanes: usize, width: usize, dst: &mut [f32]
    ) {
        let k = dst.len() / width.max(1);
        let mut l0 = 0;
        while l0 < width {
            let have = lanes.saturating_sub(l0).min(S::LANES);
            // A narrow panel may write past its row: the next row overwrites that.
            let spill = width <= S::LANES;
            let mut p0 = 0;
            while p0 < k {
                let mut block = [s.zero(); MAX_LANES];
                let steps = (k - p0).min(S::LANES);
                if steps == S::LANES {
                    for i in 0..have {
                        let row = &src[(l0 + i) * stride + p0..];
                        s.prefetch(row, AHEAD);
                        block[i] = s.load(row);
                    }
                } else {
                    for i in 0..have {
                        block[i] = s.load_partial(&src[(l0 + i) * stride + p0..][..steps], 0.0);
                    }
                }
                s.transpose(&mut block);
                for q in 0..steps {
                    let dst = &mut dst[(p0 + q) * width + l0..];
                    if dst.len() >= S::LANES && (spill || l0 + S::LANES <= width) {
                        block[q].store(dst);
                    } else {
                        block[q].store_partial(&mut dst[..(width - l0).min(S::LANES)]);
                    }
                }
                p0 += S::LANES;
            }
            l0 += S::LANES;
        }
    }
}

/// A constant left operand (`m × k`), packed for one instruction set.
pub type PackedA = Packed<Left>;
/// A constant right operand (`k × n`), packed for one instruction set.
pub type PackedB = Packed<Right>;

/// On which side of the product a packed matrix stands.
pub trait Side: Copy + std::fmt::Debug {
    /// How the matrix is stored when its steps, not its lanes, are storage rows.
    const BY_STEP: Layout;
    /// Whether panels are as even as they can be, rather than full but for the last.
    const EVEN: bool;
    /// Lanes and steps of a `rows × cols` matrix.
    fn lanes_and_steps(rows: usize, cols: usize) -> (usize, usize);
    /// Width of a full panel, and what the last is rounded up to.
    fn width(shape: Shape) -> (usize, usize);
    /// The matrix with lanes as rows.
    fn by_lane(src: Strided<'_>) -> Strided<'_>;
}

/// The left side: lanes are rows.
#[derive(Clone, Copy, Debug)]
pub struct Left;

/// The right side: lanes are columns.
#[derive(Clone, Copy, Debug)]
pub struct Right;

impl Side for Left {
    const BY_STEP: Layout = Layout::Transposed;
    const EVEN: bool = true;
    fn lanes_and_steps(rows: usize, cols: usize) -> (usize, usize) {
        (rows, cols)
    }
    fn width(shape: Shape) -> (usize, usize) {
        (shape.rows, 1)
    }
    fn by_lane(src: Strided<'_>) -> Strided<'_> {
        src
    }
}

impl Side for Right {
    const BY_STEP: Layout = Layout::RowMajor;
    const EVEN: bool = false;
    fn lanes_and_steps(rows: usize, cols: usize) -> (usize, usize) {
        (cols, rows)
    }
    fn width(shape: Shape) -> (usize, usize) {
        (shape.cols, shape.lanes)
    }
    fn by_lane(src: Strided<'_>) -> Strided<'_> {
        src.transposed()
    }
}

/// A constant operand, copied into panels for one instruction set.
#[derive(Debug)]
pub struct Packed<D> {
    data: Buffer,
    shape: Shape,
    plan: PanelPlan,
    side: std::marker::PhantomData<D>,
}

impl<D: Side> Packed<D> {
    /// Packs a `rows × cols` matrix for `isa`.
    ///
    /// # Errors
    /// The elements are not there, or memory is not.
    pub fn pack(isa: Isa, rows: usize, cols: usize, src: Strided<'_>) -> Result<Self, String> {
        src.check("a matrix to pack", rows, cols)?;
        let mut packed = Self::room(isa, rows, cols)?;
        let plan = packed.plan;
        plan.pack(isa, D::by_lane(src), &mut packed.data.as_mut_slice()[..plan.len()?]);
        Ok(packed)
    }

    /// Packs a matrix that `read(row, columns, dst)` brings in pieces of its storage rows (columns
    /// of the matrix if it is stored [`Layout::Transposed`]): for weights in other types, or in
    /// memory that is not aligned.
    ///
    /// # Errors
    /// Memory cannot be had.
    pub fn from_rows(
        isa: Isa,
        (rows, cols): (usize, usize),
        layout: Layout,
        read: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Result<Self, String> {
        let mut packed = Self::room(isa, rows, cols)?;
        let plan = packed.plan;
        let dst = &mut packed.data.as_mut_slice()[..plan.len()?];
        plan.pack_read(isa, layout == D::BY_STEP, read, dst)?;
        Ok(packed)
    }

    /// Packs a matrix of little-endian `f32` in bytes at any alignment.
    ///
    /// # Errors
    /// The bytes are not as many as the elements take, or memory is not there.
    pub fn from_le_bytes(
        isa: Isa,
        (rows, cols): (usize, usize),
        layout: Layout,
        bytes: &[u8],
    ) -> Result<Self, String> {
        let have = bytes.len();
        if rows.checked_mul(cols).and_then(|n| n.checked_mul(4)) != Some(have) {
            return Err(format!("{have} bytes are not {rows} x {cols} floats"));
        }
        let stride = if layout == Layout::RowMajor { cols } else { rows };
        Self::from_rows(isa, (rows, cols), layout, |row, cols, dst| {
            let at = 4 * (row * stride + cols.start);
            let src = bytes[at..at + 4 * cols.len()].as_chunks::<4>().0;
            for (d, s) in dst.iter_mut().zip(src) {
                *d = f32::from_le_bytes(*s);
            }
        })
    }

    fn room(isa: Isa, rows: usize, cols: usize) -> Result<Self, String> {
        let shape = Shape::of(isa);
        let plan = PanelPlan::new::<D>(shape, rows, cols);
        let data = Buffer::zeroed::<f32>(plan.len()?)?;
        Ok(Packed { data, shape, plan, side: std::marker::PhantomData })
    }

    /// The panels, if they were made for `isa` and have this size.
    pub(crate) fn panels(&self, isa: Isa, rows: usize, cols: usize) -> Result<Panels<'_>, String> {
        if self.shape != Shape::of(isa) {
            let isa = isa.name();
            return Err(format!("a matrix packed for another instruction set is used on {isa}"));
        }
        let want = PanelPlan::new::<D>(self.shape, rows, cols);
        if want != self.plan {
            let (r, c) = D::lanes_and_steps(self.plan.extent, self.plan.k);
            return Err(format!("a packed matrix of {r} x {c} is used as {rows} x {cols}"));
        }
        Ok(self.plan.view(self.data.as_slice()))
    }

    /// The elements as they are packed.
    #[cfg(test)]
    pub(crate) fn elements(&self) -> &[f32] {
        &self.data.as_slice()[..self.plan.len().unwrap_or(0)]
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.data.as_slice::<u8>().len()
    }
}
