//! LSTM, GRU, RNN: one product for the inputs of all steps, then step by step.
//!
//! X·Wᵀ + b for all steps at once; at each step h·Rᵀ is added, and the cell makes the next h.

use std::borrow::Cow;
use std::sync::Arc;

use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::{Cell, Direction, Recurrent};
use rinfer_graph::{DType, Fact, Reason, Tensor, invalid, scarce, unsupported};

use super::recurrent_cell::{Real, Row};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch_of;
use crate::scratch::Scratch;
use crate::simd::Isa;
use crate::{convert, par};

/// The network and its sizes.
struct Net {
    isa: Isa,
    op: Recurrent,
    seq: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

/// What else the network reads.
struct Inputs<'a, T: Real> {
    x: Cow<'a, [T]>,
    bias: Option<Cow<'a, [T]>>,
    lens: Option<&'a [i32]>,
    initial_h: Option<Cow<'a, [T]>>,
    initial_c: Option<Cow<'a, [T]>>,
    peepholes: Option<Cow<'a, [T]>>,
}

/// What one direction makes: all states [seq, batch, h], the last ones [batch, h].
struct Made<'a, T> {
    y: &'a mut [T],
    h: &'a mut [T],
    c: &'a mut [T],
}

pub(super) fn compile(op: &Recurrent, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    match cx.dtype(0)? {
        DType::F32 | DType::F16 | DType::BF16 => kernel::<f32>(op, cx),
        DType::F64 => kernel::<f64>(op, cx),
        dtype => Err(unsupported!("a recurrent network of {dtype} is not supported")),
    }
}

fn kernel<T: Real>(op: &Recurrent, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (x, r) = (cx.sizes(0)?, cx.sizes(2)?);
    let (seq, batch) = if op.batch_first { (x[1], x[0]) } else { (x[0], x[1]) };
    let net = Net { isa: cx.isa, op: op.clone(), seq, batch, input: x[2], hidden: r[2] };
    let w = cx.packed(1, 0, |w| net.pack_w::<T>(w))?;
    let r = cx.packed(2, net.parts().len() as u64, |r| net.pack_r::<T>(r))?;
    let scratch = net.scratch::<T>(cx, w.is_some() && r.is_some());
    Ok(Kernel::new(move |args| {
        let w = w.clone().map_or_else(|| net.pack_w::<T>(args.input(1)?).map(Arc::new), Ok)?;
        let r = r.clone().map_or_else(|| net.pack_r::<T>(args.input(2)?).map(Arc::new), Ok)?;
        net.run::<T>(args, &w, &r)
    })
    .takes(scratch))
}

/// Packs W and R ahead of the first run, if they are weights.
pub(super) fn prepack(op: &Recurrent, cx: &Cx<'_>) -> Result<(), Reason> {
    let (Some(w), Some(r)) = (cx.input(1)?.sizes(), cx.input(2)?.sizes()) else { return Ok(()) };
    let (isa, op) = (cx.isa, op.clone());
    let net = Net { isa, op, seq: 0, batch: 0, input: w[2], hidden: r[2] };
    if cx.dtype(1)? == DType::F64 {
        cx.packed(1, 0, |w| net.pack_w::<f64>(w))?;
        cx.packed(2, net.parts().len() as u64, |r| net.pack_r::<f64>(r))?;
    } else {
        cx.packed(1, 0, |w| net.pack_w::<f32>(w))?;
        cx.packed(2, net.parts().len() as u64, |r| net.pack_r::<f32>(r))?;
    }
    Ok(())
}

/// The elements as the kernel computes them.
fn elements<T: Real>(isa: Isa, t: &Tensor) -> Result<Cow<'_, [T]>, Reason> {
    if t.dtype() == T::DTYPE {
        return Ok(Cow::Borrowed(t.as_slice()));
    }
    let mut wide = scarce::zeros(t.len());
    convert::read(isa, t, 0, &mut wide)?;
    Ok(Cow::Owned(wide.into_iter().map(T::from_f32).collect()))
}

impl Net {
    fn gates(&self) -> usize {
        self.op.cell.gates()
    }

    /// The rows of R that are multiplied together, in units of the state's size.
    fn parts(&self) -> &'static [usize] {
        match self.op.cell {
            Cell::Lstm { .. } => &[4],
            Cell::Gru { linear_before_reset: true } => &[3],
            Cell::Gru { linear_before_reset: false } => &[2, 1],
            Cell::Rnn => &[1],
        }
    }

    fn pack_w<T: Real>(&self, w: &Tensor) -> Result<Vec<T::Packed>, Reason> {
        let (w, rows) = (elements::<T>(self.isa, w)?, self.gates() * self.hidden);
        let len = rows * self.input;
        let one = |d: usize| T::pack(self.isa, rows, self.input, &w[d * len..][..len]);
        (0..self.op.direction.count()).map(one).collect()
    }

    fn pack_r<T: Real>(&self, r: &Tensor) -> Result<Vec<Vec<T::Packed>>, Reason> {
        let (r, h) = (elements::<T>(self.isa, r)?, self.hidden);
        let mut rest = &r[..];
        let mut part = |n: &usize| {
            let (now, later) = rest.split_at(n * h * h);
            rest = later;
            T::pack(self.isa, n * h, h, now)
        };
        let dirs = 0..self.op.direction.count();
        dirs.map(|_| self.parts().iter().map(&mut part).collect()).collect()
    }

    /// What a run takes: the states of each direction and what they are made of; the weights, if
    /// they are not packed; what is read and made in another type than it is computed in.
    fn scratch<T: Real>(&self, cx: &Cx<'_>, packed: bool) -> Scratch {
        let (dirs, h, gates) = (self.op.direction.count(), self.hidden, self.gates() * self.hidden);
        let (rows, state) = (self.seq * self.batch, self.batch * h);
        let each = rows * h + 2 * state;
        let isa = self.isa;
        let one = |m: usize, n: usize, k: usize| T::product_scratch(isa, (m, n, k));
        let mut products = one(rows, gates, self.input);
        for part in self.parts() {
            products = products.then(&one(self.batch, part * h, h));
        }
        let direction = Scratch::of::<T>((rows + self.batch) * gates + state).and(products);
        let weights = if packed { 0 } else { dirs * gates * (self.input + h) };
        let turned = if cx.dtype(0) == Ok(T::DTYPE) { 0 } else { 1 };
        let read = [0, 3, 5, 6, 7].into_iter().filter_map(|i| cx.opt(i)?.len());
        let read = read.chain(cx.outputs.first().and_then(Fact::len));
        Scratch::of::<T>(dirs * each)
            .and(direction.in_loop(dirs, 1))
            .and(Scratch::of::<T>(weights))
            .and(Scratch::of::<T>(2 * turned * read.fold(0, usize::saturating_add)))
    }

    fn run<T: Real>(
        &self,
        args: &mut Args<'_>,
        w: &[T::Packed],
        r: &[Vec<T::Packed>],
    ) -> Result<(), Reason> {
        let read = |i: usize| args.opt(i).map(|t| elements::<T>(self.isa, t)).transpose();
        let inputs = Inputs {
            x: elements(self.isa, args.input(0)?)?,
            bias: read(3)?,
            lens: args.opt(4).map(Tensor::as_slice::<i32>),
            initial_h: read(5)?,
            initial_c: read(6)?,
            peepholes: read(7)?,
        };
        for &len in inputs.lens.unwrap_or_default() {
            if usize::try_from(len).ok().is_none_or(|len| len > self.seq) {
                return Err(invalid!("a sequence of length {len} among {} steps", self.seq));
            }
        }
        let (states, state) = (self.seq * self.batch * self.hidden, self.batch * self.hidden);
        let (dirs, each) = (self.op.direction.count(), states + 2 * state);
        with_scratch_of(dirs * each, |scratch: &mut [T]| {
            let failure = par::Failure::default();
            par::chunks_mut(scratch, each.max(1), 1, |d, made| {
                let (y, rest) = made.split_at_mut(states);
                let (h, c) = rest.split_at_mut(state);
                failure.attempt(|| self.one(d, &inputs, (&w[d], &r[d]), Made { y, h, c }, args.cx));
            });
            failure.result()?;
            for (i, y) in args.outputs.iter_mut().enumerate() {
                self.put(i, &scratch[..], each, y)?;
            }
            Ok(())
        })
        .map_err(limit)?
    }

    /// Copies what the directions made to output `i`.
    fn put<T: Real>(
        &self,
        i: usize,
        made: &[T],
        each: usize,
        y: &mut Tensor,
    ) -> Result<(), Reason> {
        let (dirs, h) = (self.op.direction.count(), self.hidden);
        let (steps, start) = match i {
            0 => (self.seq, 0),
            i => (1, self.seq * self.batch * h + (i - 1) * self.batch * h),
        };
        let mut all = vec![T::default(); if y.dtype() == T::DTYPE { 0 } else { y.len() }];
        let out = if all.is_empty() { T::slice_of(y) } else { Some(&mut all[..]) };
        let out = out.ok_or_else(|| invalid!("an output of another type"))?;
        for d in 0..dirs {
            for t in 0..steps {
                for b in 0..self.batch {
                    let at = match self.op.batch_first {
                        false => (t * dirs + d) * self.batch + b,
                        true => (b * steps + t) * dirs + d,
                    };
                    let from = d * each + start + (t * self.batch + b) * h;
                    out[at * h..][..h].copy_from_slice(&made[from..][..h]);
                }
            }
        }
        if all.is_empty() {
            return Ok(());
        }
        let narrow: Vec<f32> = all.iter().map(|x| x.to_f32()).collect();
        convert::write(self.isa, &narrow, y, 0)
    }

    /// The state of direction `d` in the network's layout, as [batch, h].
    fn state<T: Real>(&self, d: usize, from: Option<&[T]>, to: &mut [T]) {
        let Some(from) = from else { return to.fill(T::default()) };
        for (b, to) in to.chunks_exact_mut(self.hidden.max(1)).enumerate() {
            let at = match self.op.batch_first {
                false => d * self.batch + b,
                true => b * self.op.direction.count() + d,
            };
            to.copy_from_slice(&from[at * self.hidden..][..self.hidden]);
        }
    }

    /// One direction, from the first step to the last.
    fn one<T: Real>(
        &self,
        d: usize,
        inputs: &Inputs<'_, T>,
        (w, r): (&T::Packed, &Vec<T::Packed>),
        made: Made<'_, T>,
        cx: &RunCx<'_>,
    ) -> Result<(), Reason> {
        let (gates, h) = (self.gates() * self.hidden, self.hidden);
        let bias = inputs.bias.as_deref().map(|b| &b[d * 2 * gates..][..2 * gates]);
        let row = Row {
            isa: self.isa,
            cell: self.op.cell,
            activations: self.op.activations(d),
            clip: self.op.clip.map(T::from_f32),
            hidden: h,
            peepholes: inputs.peepholes.as_deref().map(|p| &p[d * 3 * h..][..3 * h]),
            reset_bias: bias.filter(|_| self.gates() == 3).map(|b| &b[5 * h..]),
        };
        self.state(d, inputs.initial_h.as_deref(), made.h);
        self.state(d, inputs.initial_c.as_deref(), made.c);
        if inputs.lens.is_some() {
            made.y.fill(T::default());
        }
        let rows = self.seq * self.batch;
        with_scratch_of((rows + self.batch) * gates + self.batch * h, |scratch: &mut [T]| {
            let (xw, rest) = scratch.split_at_mut(rows * gates);
            let (hr, rh) = rest.split_at_mut(self.batch * gates);
            T::product(self.isa, rows, &inputs.x, (w, false), xw)?;
            row.add_bias(bias, xw);
            let mut steps = Steps { net: self, row, d, lens: inputs.lens, xw, hr, rh };
            for step in 0..self.seq {
                cx.check()?;
                steps.take(step, r, made.y, made.h, made.c)?;
            }
            Ok(())
        })
        .map_err(limit)?
    }
}

/// Numbers as DynamicQuantizeLinear rounds them to 256 levels, 0 among them.
fn round_state<T: Real>(h: &[T], to: &mut [T]) {
    let ends = |[lo, hi]: [f32; 2], x: &T| [lo.min(x.to_f32()), hi.max(x.to_f32())];
    let [lo, hi] = h.iter().fold([0.0f32; 2], ends);
    let scale = if lo == hi { 1.0 } else { (hi - lo) / 255.0 };
    let zero = (-lo / scale).round_ties_even().clamp(0.0, 255.0);
    for (h, to) in h.iter().zip(to) {
        let code = ((h.to_f32() / scale).round_ties_even() + zero).clamp(0.0, 255.0);
        *to = T::from_f32((code - zero) * scale);
    }
}

/// One direction in the middle of its steps.
struct Steps<'a, T: Real> {
    net: &'a Net,
    row: Row<'a, T>,
    d: usize,
    lens: Option<&'a [i32]>,
    /// X·Wᵀ + b: [seq, batch, gates] or [batch, seq, gates].
    xw: &'a mut [T],
    /// h·Rᵀ: [batch, gates]
    hr: &'a mut [T],
    /// r ∘ h: [batch, h]
    rh: &'a mut [T],
}

impl<T: Real> Steps<'_, T> {
    /// Where sequence `b` stands at this step; `None` when it is over.
    fn time(&self, step: usize, b: usize) -> Option<usize> {
        let len = self.lens.map_or(self.net.seq, |lens| lens[b] as usize);
        let reverse = self.net.op.direction == Direction::Reverse || self.d == 1;
        let left = len.checked_sub(step + 1)?;
        Some(if reverse { left } else { step })
    }

    fn take(
        &mut self,
        step: usize,
        r: &[T::Packed],
        y: &mut [T],
        h: &mut [T],
        c: &mut [T],
    ) -> Result<(), Reason> {
        let (net, n) = (self.net, self.net.hidden);
        let gates = net.gates() * n;
        let two = r.len() == 2;
        let first = if two { 2 * n } else { gates };
        let state = match net.op.rounded_state {
            true => {
                let rows = h.chunks(n.max(1)).zip(self.rh.chunks_mut(n.max(1)));
                rows.for_each(|(h, to)| round_state(h, to));
                &*self.rh
            }
            false => &*h,
        };
        // To and fro: R is often about as large as a cache.
        let back = step % 2 == 1;
        T::product(net.isa, net.batch, state, (&r[0], back), &mut self.hr[..net.batch * first])?;
        let place = |t: usize, b: usize| match net.op.batch_first {
            false => (t * net.batch + b) * gates,
            true => (b * net.seq + t) * gates,
        };
        if two {
            for b in 0..net.batch {
                let (h, rh) = (&h[b * n..][..n], &mut self.rh[b * n..][..n]);
                rh.copy_from_slice(h);
                if let Some(t) = self.time(step, b) {
                    let xw = &mut self.xw[place(t, b)..][..gates];
                    self.row.gru_gates(
                        xw,
                        &self.hr[b * first..][..first],
                        &mut self.rh[b * n..][..n],
                    );
                }
            }
            let hr = &mut self.hr[..net.batch * n];
            T::product(net.isa, net.batch, self.rh, (&r[1], back), hr)?;
        }
        let width = if two { n } else { gates };
        for b in 0..net.batch {
            let Some(t) = self.time(step, b) else { continue };
            let xw = &mut self.xw[place(t, b)..][..gates];
            let (h, c) = (&mut h[b * n..][..n], &mut c[b * n..][..n]);
            self.row.step(xw, &self.hr[b * width..][..width], h, c);
            y[(t * net.batch + b) * n..][..n].copy_from_slice(h);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run_opt;
    use rinfer_graph::Value;
    use rinfer_graph::ops::GateFn;

    fn op(cell: Cell, direction: Direction) -> Recurrent {
        let activations = match cell {
            Cell::Lstm { .. } => vec![GateFn::Sigmoid, GateFn::Tanh, GateFn::Tanh],
            Cell::Gru { .. } => vec![GateFn::Sigmoid, GateFn::Tanh],
            Cell::Rnn => vec![GateFn::Tanh],
        };
        let activations = activations.repeat(direction.count());
        let (clip, batch_first, hidden_size) = (None, false, None);
        let rounded_state = false;
        Recurrent { cell, direction, activations, clip, batch_first, hidden_size, rounded_state }
    }

    fn t(shape: &[usize], x: &[f32]) -> Option<Value> {
        Some(Tensor::from_slice(shape, x).into())
    }

    fn run(op: &Recurrent, inputs: &[Option<Value>], outputs: usize) -> Vec<Vec<f32>> {
        let made = run_opt(Isa::best(), op.clone(), inputs, outputs).unwrap();
        made.into_iter().map(|v| v.as_tensor().unwrap().as_slice::<f32>().to_vec()).collect()
    }

    fn close(y: &[f32], want: &[f32]) {
        assert_eq!(y.len(), want.len());
        assert!(y.iter().zip(want).all(|(y, w)| (y - w).abs() < 1e-6), "{y:?} instead of {want:?}");
    }

    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn an_rnn_feeds_its_state_back() {
        let inputs = [t(&[2, 1, 1], &[1.0, 2.0]), t(&[1, 1, 1], &[0.5]), t(&[1, 1, 1], &[0.3])];
        let y = run(&op(Cell::Rnn, Direction::Forward), &inputs, 2);
        let first = 0.5f32.tanh();
        let second = (1.0 + 0.3 * first).tanh();
        close(&y[0], &[first, second]);
        close(&y[1], &[second]);
    }

    #[test]
    fn directions_meet_side_by_side() {
        let inputs =
            [t(&[2, 1, 1], &[1.0, 2.0]), t(&[2, 1, 1], &[0.5; 2]), t(&[2, 1, 1], &[0.0; 2])];
        let y = run(&op(Cell::Rnn, Direction::Both), &inputs, 2);
        let (a, b) = (0.5f32.tanh(), 1.0f32.tanh());
        close(&y[0], &[a, a, b, b]);
        close(&y[1], &[b, a]);
    }

    #[test]
    fn a_sequence_that_is_over_keeps_its_state() {
        let lens = Some(Tensor::vector(&[1i32, 2]).into());
        let inputs = [
            t(&[2, 2, 1], &[1.0, 1.0, 2.0, 2.0]),
            t(&[1, 1, 1], &[1.0]),
            t(&[1, 1, 1], &[0.0]),
            None,
            lens,
        ];
        let (a, b) = (1.0f32.tanh(), 2.0f32.tanh());
        let y = run(&op(Cell::Rnn, Direction::Forward), &inputs, 2);
        close(&y[0], &[a, a, 0.0, b]);
        close(&y[1], &[a, b]);
        let y = run(&op(Cell::Rnn, Direction::Reverse), &inputs, 2);
        close(&y[0], &[a, a, 0.0, b]);
        close(&y[1], &[a, a]);
    }

    #[test]
    fn an_lstm_with_peepholes_is_its_formula() {
        let (x, w, p, c0) = (0.7f32, [0.1f32, 0.2, 0.3, 0.4], [0.5f32, 0.6, 0.7], 0.9f32);
        let inputs = [
            t(&[1, 1, 1], &[x]),
            t(&[1, 4, 1], &w),
            t(&[1, 4, 1], &[0.0; 4]),
            t(&[1, 8], &[0.01, 0.02, 0.03, 0.04, 0.0, 0.0, 0.0, 0.0]),
            None,
            None,
            t(&[1, 1, 1], &[c0]),
            t(&[1, 3], &p),
        ];
        let y = run(&op(Cell::Lstm { input_forget: false }, Direction::Forward), &inputs, 3);
        let i = sigmoid(w[0] * x + 0.01 + p[0] * c0);
        let f = sigmoid(w[2] * x + 0.03 + p[2] * c0);
        let c = f * c0 + i * (w[3] * x + 0.04).tanh();
        let o = sigmoid(w[1] * x + 0.02 + p[1] * c);
        close(&y[0], &[o * c.tanh()]);
        close(&y[2], &[c]);
    }

    #[test]
    fn the_reset_gate_comes_before_or_after_the_product() {
        let (x, h0, w, r, b) = (0.7f32, 0.4f32, [0.1f32, 0.2, 0.3], [0.5f32, -0.6, 0.7], 0.25f32);
        let inputs = [
            t(&[1, 1, 1], &[x]),
            t(&[1, 3, 1], &w),
            t(&[1, 3, 1], &r),
            t(&[1, 6], &[0.0, 0.0, 0.0, 0.0, 0.0, b]),
            None,
            t(&[1, 1, 1], &[h0]),
        ];
        let z = sigmoid(w[0] * x + r[0] * h0);
        let reset = sigmoid(w[1] * x + r[1] * h0);
        let before = (w[2] * x + r[2] * (reset * h0) + b).tanh();
        let after = (w[2] * x + reset * (r[2] * h0 + b)).tanh();
        for (linear_before_reset, hidden) in [(false, before), (true, after)] {
            let gru = op(Cell::Gru { linear_before_reset }, Direction::Forward);
            close(&run(&gru, &inputs, 1)[0], &[(1.0 - z) * hidden + z * h0]);
        }
    }

    #[test]
    fn a_batch_first_is_the_same_network() {
        let x: Vec<f32> = (0..24).map(|i| (i as f32 * 0.7).sin()).collect();
        let w: Vec<f32> = (0..2 * 8 * 4).map(|i| (i as f32 * 0.3).cos()).collect();
        let r: Vec<f32> = (0..2 * 8 * 2).map(|i| (i as f32 * 0.9).sin()).collect();
        // x [3, 2, 4] and the same as [2, 3, 4].
        let at = |b: usize, t: usize| x[(t * 2 + b) * 4..][..4].to_vec();
        let swapped: Vec<f32> = (0..6).flat_map(|i| at(i / 3, i % 3)).collect();
        let lstm = op(Cell::Lstm { input_forget: true }, Direction::Both);
        let weights = [t(&[2, 8, 4], &w), t(&[2, 8, 2], &r)];
        let plain = run(&lstm, &[&[t(&[3, 2, 4], &x)], &weights[..]].concat(), 3);
        let op = Recurrent { batch_first: true, ..lstm };
        let first = run(&op, &[&[t(&[2, 3, 4], &swapped)], &weights[..]].concat(), 3);
        for (t, d, b) in (0..12).map(|i| (i / 4, i / 2 % 2, i % 2)) {
            let (a, c) = ((t * 2 + d) * 2 + b, (b * 3 + t) * 2 + d);
            close(&first[0][c * 2..][..2], &plain[0][a * 2..][..2]);
        }
    }

    #[test]
    fn a_length_beyond_the_steps_is_an_error() {
        let lens = Some(Tensor::vector(&[3i32]).into());
        let inputs =
            [t(&[2, 1, 1], &[1.0; 2]), t(&[1, 1, 1], &[1.0]), t(&[1, 1, 1], &[0.0]), None, lens];
        assert!(run_opt(Isa::best(), op(Cell::Rnn, Direction::Forward), &inputs, 1).is_err());
    }
}
