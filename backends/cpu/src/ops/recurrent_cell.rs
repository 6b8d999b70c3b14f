//! One step of a recurrent cell for one sequence; the numbers it computes with.
//!
//! LSTM: i = f(x_i + p_i∘c), f = f(x_f + p_f∘c), c′ = f∘c + i∘g(x_c), o = f(x_o + p_o∘c′), h′ = o∘h(c′)
//! GRU: z = f(x_z), r = f(x_r), h̃ = g(x_h + (r∘h)·Rᵀ) or g(x_h + r∘(h·Rᵀ + b)), h′ = (1-z)∘h̃ + z∘h
//! RNN: h′ = f(x)
//!
//! where x_i, … are the gates of X·Wᵀ + b with h·Rᵀ added.

use std::ops::{Add, Mul, Sub};

use rinfer_graph::ops::{Cell, GateFn};
use rinfer_graph::{Element, Reason, Tensor};

use crate::gemm::room::{self, Lies};
use crate::gemm::{Gemm, Lhs, PackedB, Rhs, Strided, Write, gemm_generic};
use crate::kernel::limit;
use crate::math::map;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// What recurrent networks compute with: f32 or f64.
pub(super) trait Real:
    Element + PartialOrd + Add<Output = Self> + Mul<Output = Self> + Sub<Output = Self>
{
    /// A weight made ready for [`Real::product`].
    type Packed: Send + Sync + 'static;
    /// The nearest value.
    fn from_f32(x: f32) -> Self;
    /// The nearest value.
    fn to_f32(self) -> f32;
    /// The elements of a tensor of this type; `None` if it is another.
    fn slice_of(t: &mut Tensor) -> Option<&mut [Self]>;
    /// Makes a weight of `n` rows of `k` ready.
    fn pack(isa: Isa, n: usize, k: usize, w: &[Self]) -> Result<Self::Packed, Reason>;
    /// `y[m, n] = x[m, k] · wᵀ`, w read from its last row to its first if so it is said.
    fn product(
        isa: Isa,
        m: usize,
        x: &[Self],
        w: (&Self::Packed, bool),
        y: &mut [Self],
    ) -> Result<(), Reason>;
    /// What [`Real::product`] takes for these m, n, k.
    fn product_scratch(isa: Isa, sizes: (usize, usize, usize)) -> Scratch;
    /// Replaces every element by the function of it.
    fn activate(isa: Isa, f: GateFn, x: &mut [Self]);
}

macro_rules! scalar_activations {
    ($T:ty) => {
        fn from_f32(x: f32) -> $T {
            <$T>::from(x)
        }
        fn to_f32(self) -> f32 {
            self as f32
        }
        fn slice_of(t: &mut Tensor) -> Option<&mut [$T]> {
            (t.dtype() == <$T as Element>::DTYPE).then(|| t.as_mut_slice())
        }
    };
}

/// A function of `x`, and its parameters, in one type.
macro_rules! gate_fn {
    ($T:ty, $f:expr, $x:ident) => {
        match $f {
            GateFn::Relu => $x.max(0.0),
            GateFn::Tanh => $x.tanh(),
            GateFn::Sigmoid => 1.0 / (1.0 + (-$x).exp()),
            GateFn::Affine(a, b) => <$T>::from(a) * $x + <$T>::from(b),
            GateFn::LeakyRelu(a) => {
                if $x < 0.0 {
                    <$T>::from(a) * $x
                } else {
                    $x
                }
            }
            GateFn::ThresholdedRelu(a) => {
                if $x < <$T>::from(a) {
                    0.0
                } else {
                    $x
                }
            }
            GateFn::ScaledTanh(a, b) => <$T>::from(a) * (<$T>::from(b) * $x).tanh(),
            GateFn::HardSigmoid(a, b) => (<$T>::from(a) * $x + <$T>::from(b)).clamp(0.0, 1.0),
            GateFn::Elu(a) => {
                if $x < 0.0 {
                    <$T>::from(a) * $x.exp_m1()
                } else {
                    $x
                }
            }
            GateFn::Softsign => $x / (1.0 + $x.abs()),
            // In two halves, so that eˣ cannot overflow.
            GateFn::Softplus => $x.max(0.0) + (-$x.abs()).exp().ln_1p(),
        }
    };
}

impl Real for f32 {
    type Packed = (PackedB, usize, usize);
    scalar_activations!(f32);

    fn pack(isa: Isa, n: usize, k: usize, w: &[f32]) -> Result<Self::Packed, Reason> {
        let wt = Strided::rows(w, k).transposed();
        Ok((PackedB::pack(isa, k, n, wt).map_err(limit)?, n, k))
    }

    fn product(
        isa: Isa,
        m: usize,
        x: &[f32],
        ((w, n, k), backwards): (&Self::Packed, bool),
        y: &mut [f32],
    ) -> Result<(), Reason> {
        let gemm = Gemm::new((m, *n, *k), Lhs::Plain(Strided::rows(x, *k)), Rhs::Packed(w));
        Gemm { backwards, ..gemm }.run(isa, y, *n).map_err(limit)
    }

    fn product_scratch(isa: Isa, (m, n, k): (usize, usize, usize)) -> Scratch {
        room::scratch(isa, (m, n, k), Lies::Plain([k, 1]), Lies::Packed)
    }

    fn activate(isa: Isa, f: GateFn, x: &mut [f32]) {
        match f {
            GateFn::Tanh => map::tanh_in_place(isa, x),
            GateFn::Sigmoid => map::sigmoid_in_place(isa, x),
            GateFn::Softplus => map::softplus_in_place(isa, x),
            f => each(x, |x| gate_fn!(f32, f, x)),
        }
    }
}

impl Real for f64 {
    /// The rows as they are, n, k.
    type Packed = (Vec<f64>, usize, usize);
    scalar_activations!(f64);

    fn product_scratch(_: Isa, _: (usize, usize, usize)) -> Scratch {
        Scratch::none()
    }

    fn pack(_: Isa, n: usize, k: usize, w: &[f64]) -> Result<Self::Packed, Reason> {
        Ok((w.to_vec(), n, k))
    }

    fn product(
        isa: Isa,
        m: usize,
        x: &[f64],
        ((w, n, k), _): (&Self::Packed, bool),
        y: &mut [f64],
    ) -> Result<(), Reason> {
        let (x, w) = ((x, (*k, 1)), (w.as_slice(), (1, *k)));
        gemm_generic(isa, (m, *n, *k), x, w, Write::Set, &mut y[..m * n]).map_err(limit)
    }

    fn activate(_: Isa, f: GateFn, x: &mut [f64]) {
        each(x, |x| gate_fn!(f64, f, x));
    }
}

/// A cell, for one sequence of the batch.
pub(super) struct Row<'a, T> {
    pub isa: Isa,
    pub cell: Cell,
    pub activations: &'a [GateFn],
    pub clip: Option<T>,
    pub hidden: usize,
    /// LSTM: for the input, output and forget gate.
    pub peepholes: Option<&'a [T]>,
    /// GRU: R's bias of the hidden gate.
    pub reset_bias: Option<&'a [T]>,
}

impl<T: Real> Row<'_, T> {
    /// Adds the biases of W and R to all rows of gates; but R's of a hidden gate to which the
    /// reset gate is applied first.
    pub fn add_bias(&self, bias: Option<&[T]>, xw: &mut [T]) {
        let Some(bias) = bias else { return };
        let gates = bias.len() / 2;
        let (bw, br) = bias.split_at(gates);
        let both = match self.cell {
            Cell::Gru { linear_before_reset: true } => 2 * self.hidden,
            _ => gates,
        };
        let sum = |j: usize| if j < both { bw[j] + br[j] } else { bw[j] };
        let bias: Vec<T> = (0..gates).map(sum).collect();
        for row in xw.chunks_exact_mut(gates.max(1)) {
            add(row, &bias);
        }
    }

    /// The clipped argument's activation.
    fn gate(&self, f: usize, x: &mut [T]) {
        if let Some(clip) = self.clip {
            let low = T::default() - clip;
            for x in x.iter_mut() {
                *x = if *x > clip {
                    clip
                } else if *x < low {
                    low
                } else {
                    *x
                };
            }
        }
        T::activate(self.isa, self.activations[f], x);
    }

    /// Update and reset gate of a GRU in place of their sums; `rh = r ∘ h`.
    pub fn gru_gates(&self, xw: &mut [T], hr: &[T], rh: &mut [T]) {
        let zr = &mut xw[..2 * self.hidden];
        add(zr, hr);
        self.gate(0, zr);
        scale(rh, &zr[self.hidden..]);
    }

    /// The next state. Of a GRU whose reset gate comes before the product, `xw` holds the gates
    /// already and `hr` is the product for the hidden gate.
    pub fn step(&self, xw: &mut [T], hr: &[T], h: &mut [T], c: &mut [T]) {
        step(self.isa, self, (xw, hr), h, c);
    }

    #[inline(always)]
    fn step_inline(&self, xw: &mut [T], hr: &[T], h: &mut [T], c: &mut [T]) {
        let n = self.hidden;
        match self.cell {
            Cell::Lstm { input_forget } => {
                add(xw, hr);
                self.lstm(xw, input_forget, h, c);
            }
            Cell::Gru { linear_before_reset: true } => {
                let (zr, hidden) = xw.split_at_mut(2 * n);
                add(zr, &hr[..2 * n]);
                self.gate(0, zr);
                let (z, r) = zr.split_at(n);
                for (j, x) in hidden.iter_mut().enumerate() {
                    let bias = self.reset_bias.map_or(T::default(), |b| b[j]);
                    *x = *x + r[j] * (hr[2 * n + j] + bias);
                }
                self.gate(1, hidden);
                mix(z, hidden, h);
            }
            Cell::Gru { linear_before_reset: false } => {
                let (zr, hidden) = xw.split_at_mut(2 * n);
                add(hidden, hr);
                self.gate(1, hidden);
                mix(&zr[..n], hidden, h);
            }
            Cell::Rnn => {
                add(xw, hr);
                self.gate(0, xw);
                h.copy_from_slice(xw);
            }
        }
    }

    #[inline(always)]
    fn lstm(&self, xw: &mut [T], input_forget: bool, h: &mut [T], c: &mut [T]) {
        let n = self.hidden;
        let (i, rest) = xw.split_at_mut(n);
        let (o, rest) = rest.split_at_mut(n);
        let (f, g) = rest.split_at_mut(n);
        if let Some(p) = self.peepholes {
            add_product(i, &p[..n], c);
            add_product(f, &p[2 * n..], c);
        }
        self.gate(0, i);
        match input_forget {
            true => f.iter_mut().zip(&*i).for_each(|(f, &i)| *f = T::from_f32(1.0) - i),
            false => self.gate(0, f),
        }
        self.gate(1, g);
        for j in 0..n {
            c[j] = f[j] * c[j] + i[j] * g[j];
        }
        if let Some(p) = self.peepholes {
            add_product(o, &p[n..2 * n], c);
        }
        self.gate(0, o);
        h.copy_from_slice(c);
        self.gate(2, h);
        scale(h, o);
    }
}

crate::simd_fn! {
    /// [`Row::step`]: no more than loops, but each instruction set has its own vectors for them.
    fn step<T: Real>(
        _s: S,
        row: &Row<'_, T>,
        gates: (&mut [T], &[T]),
        h: &mut [T],
        c: &mut [T],
    ) {
        row.step_inline(gates.0, gates.1, h, c);
    }
}

/// `x = f(x)`
fn each<T: Copy>(x: &mut [T], f: impl Fn(T) -> T) {
    x.iter_mut().for_each(|x| *x = f(*x));
}

/// `y += x`
#[inline(always)]
fn add<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = *y + x);
}

/// `y *= x`
#[inline(always)]
fn scale<T: Real>(y: &mut [T], x: &[T]) {
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = *y * x);
}

/// `y += a ∘ b`
#[inline(always)]
fn add_product<T: Real>(y: &mut [T], a: &[T], b: &[T]) {
    y.iter_mut().zip(a.iter().zip(b)).for_each(|(y, (&a, &b))| *y = *y + a * b);
}

/// `h = (1 - z) ∘ x + z ∘ h`
#[inline(always)]
fn mix<T: Real>(z: &[T], x: &[T], h: &mut [T]) {
    for ((h, &z), &x) in h.iter_mut().zip(z).zip(x) {
        *h = (T::from_f32(1.0) - z) * x + z * *h;
    }
}
