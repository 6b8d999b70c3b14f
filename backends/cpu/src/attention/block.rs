//! A block of queries against all its keys.
//!
//! Everything is held transposed, queries across: Sᵀ[key, query] = K·Qᵀ comes out of the tiles as
//! the very panel that Oᵀ[v, query] += Vᵀ·Pᵀ reads, and softmax runs down the columns, a vector of
//! queries at a time.

use super::{Job, Mask, MaskData, Place};
use crate::gemm::tile::{Panel, Shape, Start, Store, tile, tile_vectors};
use crate::gemm::{Left, PanelPlan, Panels, Strided};
use crate::math::{exp, tanh};
use crate::pool::with_scratch;
use crate::simd::{F32s, I32s, Isa, MAX_LANES, Mask as _, MatMut, Simd};

/// Keys in a block: its scores and outputs stay in L1.
const KEYS: usize = 128;

/// How the keys of a head are packed: in blocks of [`KEYS`], each in panels of its own. So blocks
/// begin at the same keys whatever is seen of them and however wide panels are, and sums have the
/// same order on every instruction set.
pub(super) struct Keys {
    full: PanelPlan,
    last: PanelPlan,
    /// Blocks that are full.
    count: usize,
}

impl Keys {
    /// `n` keys of `head` elements.
    pub fn new(shape: Shape, n: usize, head: usize) -> Keys {
        let plan = |n| PanelPlan::new::<Left>(shape, n, head);
        Keys { full: plan(KEYS), last: plan(n % KEYS), count: n / KEYS }
    }

    /// Elements of all panels.
    ///
    /// # Errors
    /// They are too many.
    pub fn len(&self) -> Result<usize, String> {
        let (full, last) = (self.full.len()?, self.last.len()?);
        let all = full.checked_mul(self.count).and_then(|n| n.checked_add(last));
        all.ok_or_else(|| format!("{} packed blocks of keys are too large", self.count))
    }

    /// Elements of a full block: nothing is packed before [`Keys::len`] found that they can be.
    fn each(&self) -> usize {
        self.full.len().unwrap_or(0)
    }

    /// Packs keys whose rows `k` has.
    pub fn pack(&self, isa: Isa, k: Strided<'_>, to: &mut [f32]) {
        let each = self.each();
        let (full, last) = to.split_at_mut(each * self.count);
        for (b, to) in full.chunks_exact_mut(each.max(1)).enumerate() {
            self.full.pack(isa, k.from(b * KEYS, 0), to);
        }
        if self.last.count() > 0 {
            self.last.pack(isa, k.from(self.count * KEYS, 0), last);
        }
    }

    /// Block `b` of what was packed.
    fn block<'a>(&self, packed: &'a [f32], b: usize) -> Panels<'a> {
        let packed = packed.get(b * self.each()..).unwrap_or_default();
        if b < self.count { self.full.view(packed) } else { self.last.view(packed) }
    }
}

/// Packed operands of one head.
pub(super) struct Packed<'a> {
    pub keys: &'a Keys,
    pub k: &'a [f32],
    pub v: Panels<'a>,
    pub q: Panels<'a>,
}

/// Elements that a block takes: scores, outputs, a piece of the mask, maxima and sums.
pub(super) fn room(queries: &PanelPlan, v_head: usize) -> usize {
    let width = queries.lanes(0).len().next_multiple_of(MAX_LANES);
    (2 * KEYS + v_head + 2) * width
}

/// Computes the rows `y` of block `p` of queries.
pub(super) fn run(
    job: &Job<'_>,
    isa: Isa,
    packed: &Packed<'_>,
    place: Place,
    p: usize,
    y: MatMut<'_, f32>,
) -> Result<(), String> {
    with_scratch(room(&packed.q.plan(), job.v_head), |scratch| {
        queries(isa, job, packed, place, p, scratch, y)
    })
}

/// Queries `first..first + count` of a head, `width` columns with padding.
#[derive(Clone, Copy)]
struct Block {
    place: Place,
    first: usize,
    count: usize,
    width: usize,
}

crate::simd_fn! {
    fn queries(
        s: S,
        job: &Job<'_>,
        packed: &Packed<'_>,
        place: Place,
        p: usize,
        scratch: &mut [f32],
        y: MatMut<'_, f32>,
    ) {
        let lanes = packed.q.plan().lanes(p);
        let width = lanes.len().next_multiple_of(S::LANES);
        let block = Block { place, first: lanes.start, count: lanes.len(), width };
        debug_assert!(width <= tile_vectors::<S>() * S::LANES);
        let (scores, rest) = scratch.split_at_mut(KEYS * width);
        let (staged, rest) = rest.split_at_mut(KEYS * width);
        let (out, rest) = rest.split_at_mut(job.v_head * width);
        let (max, sum) = rest[..2 * width].split_at_mut(width);
        let begin = job.begin(place.head);
        max.fill(begin.0);
        sum.fill(begin.1);
        out.fill(0.0);
        let q = packed.q.steps(p, 0..job.head);
        let seen = job.seen(place.batch, lanes.start, lanes.end);
        let mut at = seen.start / KEYS * KEYS;
        while at < seen.end && !seen.is_empty() {
            let panels = packed.keys.block(packed.k, at / KEYS);
            let (plan, end) = (panels.plan(), (seen.end - at).min(KEYS));
            let mut next = plan.panel_of(seen.start.saturating_sub(at));
            let first = plan.lanes(next).start;
            let store = Store { alpha: job.scale, start: Start::Zero, clip: None };
            while next < plan.count() && plan.lanes(next).start < end {
                // The last panel that is seen may reach beyond the keys: it is computed whole.
                let (lanes, k) = (plan.lanes(next), panels.steps(next, 0..job.head));
                let part = &mut scores[(lanes.start - first) * width..][..lanes.len() * width];
                tile(s, Panel(k), q, &mut MatMut::new(part, lanes.len(), width, width), store);
                next += 1;
            }
            let (keys, scores) = (at + first..at + end, &mut scores[..(end - first) * width]);
            at += KEYS;
            if job.softcap > 0.0 {
                cap(s, job.softcap, scores);
            }
            add_mask(s, &job.mask, block, keys.start, staged, scores);
            hide(s, job, block, keys.start, scores);
            softmax(s, width, scores, out, (&mut *max, &mut *sum));
            let store = Store { alpha: 1.0, start: Start::Load, clip: None };
            let mut panel = 0;
            while panel < packed.v.plan().count() {
                let lanes = packed.v.plan().lanes(panel);
                let part = &mut out[lanes.start * width..][..lanes.len() * width];
                let v = packed.v.steps(panel, keys.clone());
                tile(s, Panel(v), scores, &mut MatMut::new(part, lanes.len(), width, width), store);
                panel += 1;
            }
        }
        finish(s, block, sum, out, y);
    }
}

/// `x = c · tanh(x / c)`
#[inline(always)]
pub(super) fn cap<S: Simd>(s: S, c: f32, x: &mut [f32]) {
    let (c, inverse) = (s.splat(c), s.splat(1.0 / c));
    for x in x.chunks_mut(S::LANES) {
        (tanh(s, s.load_partial(x, 0.0) * inverse) * c).store_partial(x);
    }
}

/// Adds the mask to the scores of keys from `at` on.
#[inline(always)]
fn add_mask<S: Simd>(
    s: S,
    mask: &Mask<'_>,
    block: Block,
    at: usize,
    staged: &mut [f32],
    scores: &mut [f32],
) {
    let (width, keys) = (block.width, scores.len() / block.width);
    let Place { batch, head } = block.place;
    let start = batch * mask.steps[0] + head * mask.steps[1] + at;
    if matches!(mask.data, MaskData::None) {
        return;
    }
    let one = mask.steps[2] == 0;
    let rows = if one { 1 } else { block.count };
    for i in 0..rows {
        let from = start + (block.first + i) * mask.steps[2];
        let staged = &mut staged[i * keys..][..keys];
        match mask.data {
            MaskData::None => {}
            MaskData::Add(x) => staged.copy_from_slice(&x[from..from + keys]),
            MaskData::Keep(x) => {
                for (y, &x) in staged.iter_mut().zip(&x[from..from + keys]) {
                    *y = if x != 0 { 0.0 } else { f32::NEG_INFINITY };
                }
            }
        }
    }
    if one {
        for (row, &x) in scores.chunks_exact_mut(width).zip(&staged[..keys]) {
            let x = s.splat(x);
            for y in row.chunks_exact_mut(S::LANES) {
                bias(s, s.load(y), x).store(y);
            }
        }
        return;
    }
    let mut i = 0;
    while i < block.count {
        let have = (block.count - i).min(S::LANES);
        let mut j = 0;
        while j < keys {
            let mut part = [s.zero(); MAX_LANES];
            let steps = (keys - j).min(S::LANES);
            for r in 0..have {
                part[r] = s.load_partial(&staged[(i + r) * keys + j..][..steps], 0.0);
            }
            s.transpose(&mut part);
            for r in 0..steps {
                let y = &mut scores[(j + r) * width + i..];
                bias(s, s.load(y), part[r]).store(y);
            }
            j += S::LANES;
        }
        i += S::LANES;
    }
}

/// `x + b`; -∞ wherever `b` is, whatever `x`.
#[inline(always)]
fn bias<S: Simd>(s: S, x: S::F32, b: S::F32) -> S::F32 {
    let hidden = s.splat(f32::NEG_INFINITY);
    b.eq(hidden).select(hidden, x + b)
}

/// -∞ for keys outside a query's window.
#[inline(always)]
fn hide<S: Simd>(s: S, job: &Job<'_>, block: Block, at: usize, scores: &mut [f32]) {
    if job.left.is_none() && job.right.is_none() {
        return;
    }
    let start = job.offset(block.place.batch) + block.first as isize;
    let far =
        |n: Option<usize>| n.map_or(isize::MAX / 4, |n| n.min(isize::MAX as usize / 4) as isize);
    let (left, right) = (far(job.left), far(job.right));
    for (j, row) in scores.chunks_exact_mut(block.width).enumerate() {
        let j = (at + j) as isize - start;
        // Query c sees key j if j - right ≤ c ≤ j + left.
        let (lo, hi) = (j - right, j + left);
        if lo <= 0 && hi >= block.count as isize {
            continue;
        }
        let ends = |x: isize| s.splat_i32(x.clamp(-1, 1 << 20) as i32);
        let (lo, hi) = (ends(lo - 1), ends(hi + 1));
        let mut c = 0;
        for y in row.chunks_exact_mut(S::LANES) {
            let at = s.iota() + s.splat_i32(c);
            let seen = at.gt(lo) & hi.gt(at);
            seen.select(s.load(y), s.splat(f32::NEG_INFINITY)).store(y);
            c += S::LANES as i32;
        }
    }
}

/// Scores become exponentials; sums and outputs so far are scaled to the new maximum.
#[inline(always)]
fn softmax<S: Simd>(
    s: S,
    width: usize,
    scores: &mut [f32],
    out: &mut [f32],
    (max, sum): (&mut [f32], &mut [f32]),
) {
    let mut c = 0;
    while c < width {
        let old = s.load(&max[c..]);
        let (mut a, mut b) = (old, old);
        let mut pairs = scores.chunks_exact(2 * width);
        for pair in &mut pairs {
            a = s.load(&pair[c..]).max(a);
            b = s.load(&pair[width + c..]).max(b);
        }
        let last = pairs.remainder();
        if !last.is_empty() {
            a = s.load(&last[c..]).max(a);
        }
        let new = a.max(b);
        // Where everything is -∞ so far, 0 stands for the maximum: every exponential is 0.
        let hidden = s.splat(f32::NEG_INFINITY);
        let base = new.eq(hidden).select(s.zero(), new);
        let scale = exp(s, old - base);
        let mut total = s.load(&sum[c..]) * scale;
        for row in scores.chunks_exact_mut(width) {
            let e = exp(s, s.load(&row[c..]) - base);
            total = total + e;
            e.store(&mut row[c..]);
        }
        total.store(&mut sum[c..]);
        new.store(&mut max[c..]);
        if !scale.eq(s.splat(1.0)).all() {
            for row in out.chunks_exact_mut(width) {
                (s.load(&row[c..]) * scale).store(&mut row[c..]);
            }
        }
        c += S::LANES;
    }
}

/// Divides by the sums and writes rows; a query that saw nothing gets zeros.
#[inline(always)]
fn finish<S: Simd>(s: S, block: Block, sum: &[f32], out: &[f32], mut y: MatMut<'_, f32>) {
    let (width, v_head) = (block.width, y.cols());
    let mut i = 0;
    while i < block.count {
        let total = s.load(&sum[i..]);
        let empty = total.eq(s.zero());
        let factor = empty.select(s.zero(), s.splat(1.0) / total);
        let have = (block.count - i).min(S::LANES);
        let mut d = 0;
        while d < v_head {
            let steps = (v_head - d).min(S::LANES);
            let mut part = [s.zero(); MAX_LANES];
            for r in 0..steps {
                part[r] = s.load(&out[(d + r) * width + i..]) * factor;
            }
            s.transpose(&mut part);
            for r in 0..have {
                part[r].store_partial(&mut y.row(i + r)[d..d + steps]);
            }
            d += S::LANES;
        }
        i += S::LANES;
    }
}
