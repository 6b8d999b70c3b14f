//! LSTM, GRU, RNN: a cell that is stepped along a sequence, in one direction or in both.
//!
//! X [seq, batch, in], W [dirs, gates·h, in], R [dirs, gates·h, h], B [dirs, 2·gates·h]
//! →  Y [seq, dirs, batch, h], Y_h [dirs, batch, h], Y_c (LSTM) [dirs, batch, h];
//! with `batch_first` X [batch, seq, in] → Y [batch, seq, dirs, h], Y_h [batch, dirs, h]
//!
//! The formulas of the cells stand with the kernel; gates lie in ONNX's order (LSTM: input,
//! output, forget, cell; GRU: update, reset, hidden).

use super::quantize::dequantized;
use super::{Binary, BinaryFn, Cast, DynamicQuantizeLinear, Inputs, Transpose, Unsqueeze};
use crate::onnx::{NodeCx, Outputs};
use crate::shape::{Shape, show};
use crate::{DType, Dim, Fact, Facts, Reason, ValueId, invalid, unsupported};

/// What is computed at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Long short-term memory; activations f, g, h.
    Lstm {
        /// The forget gate is what the input gate leaves: f = 1 - i.
        input_forget: bool,
    },
    /// Gated recurrent unit; activations f, g.
    Gru {
        /// The reset gate is applied after the product with R, not before.
        linear_before_reset: bool,
    },
    /// h = f(x·W + h·R + b); activation f.
    Rnn,
}

impl Cell {
    /// How many gates W, R and B hold.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm { .. } => 4,
            Cell::Gru { .. } => 3,
            Cell::Rnn => 1,
        }
    }

    /// Its activations where the model names none.
    fn defaults(self) -> &'static [&'static str] {
        match self {
            Cell::Lstm { .. } => &["Sigmoid", "Tanh", "Tanh"],
            Cell::Gru { .. } => &["Sigmoid", "Tanh"],
            Cell::Rnn => &["Tanh"],
        }
    }
}

/// In which order the steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// First to last.
    Forward,
    /// Last to first.
    Reverse,
    /// Both, side by side.
    Both,
}

impl Direction {
    /// Number of directions.
    pub fn count(self) -> usize {
        1 + (self == Direction::Both) as usize
    }
}

/// An activation of a recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateFn {
    /// max(x, 0)
    Relu,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// a·x + b
    Affine(f32, f32),
    /// x where x ≥ 0, else a·x
    LeakyRelu(f32),
    /// x where x ≥ a, else 0
    ThresholdedRelu(f32),
    /// a·tanh(b·x)
    ScaledTanh(f32, f32),
    /// max(0, min(1, a·x + b))
    HardSigmoid(f32, f32),
    /// x where x ≥ 0, else a·(eˣ - 1)
    Elu(f32),
    /// x / (1 + |x|)
    Softsign,
    /// log(1 + eˣ)
    Softplus,
}

/// Inputs X, W, R, B, sequence_lens, initial_h; an LSTM also initial_c, P. All from B on optional.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    /// What is computed at each step.
    pub cell: Cell,
    /// In which order.
    pub direction: Direction,
    /// As many as the cell takes, for each direction.
    pub activations: Vec<GateFn>,
    /// Bound of what goes into an activation.
    pub clip: Option<f32>,
    /// Whether the batch is the first axis of X, Y and the states.
    pub batch_first: bool,
    /// Size of the state, if the model says it besides the shape of R.
    pub hidden_size: Option<usize>,
    /// Whether the state meets R as DynamicQuantizeLinear would round it, each sequence by itself.
    pub rounded_state: bool,
}

impl Recurrent {
    /// The activations of one direction.
    pub fn activations(&self, direction: usize) -> &[GateFn] {
        let each = self.activations.len() / self.direction.count();
        &self.activations[direction * each..][..each]
    }

    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        use DType::*;
        let dtype = inputs.dtype(0)?;
        if !matches!(dtype, F16 | BF16 | F32 | F64) {
            return Err(unsupported!("a recurrent network of {dtype} is not supported"));
        }
        [1, 2, 3, 5, 6, 7].into_iter().try_for_each(|i| inputs.same_dtype(0, i))?;
        if let Some(lens) = inputs.opt(4)
            && lens.dtype()? != I32
        {
            return Err(invalid!("sequence lengths of type {}", lens.ty));
        }
        let dim = |i: usize, axis: usize| {
            let shape = inputs.opt(i).and_then(Fact::shape);
            shape.and_then(|s| s.get(axis).cloned()).unwrap_or(Dim::Unknown)
        };
        inputs.check_rank(0, 3)?;
        let (seq, batch) = if self.batch_first { (1, 0) } else { (0, 1) };
        let (seq, batch) = (dim(0, seq), dim(0, batch));
        let hidden = match self.hidden_size {
            Some(n) => Dim::from(n),
            None => dim(2, 2),
        };
        self.check_shapes(inputs, &dim(0, 2), &batch, &hidden)?;
        let dirs = Dim::from(self.direction.count());
        let (y, state): (Shape, Shape) = match self.batch_first {
            false => (
                [seq, dirs.clone(), batch.clone(), hidden.clone()].into_iter().collect(),
                [dirs, batch, hidden].into_iter().collect(),
            ),
            true => (
                [batch.clone(), seq, dirs.clone(), hidden.clone()].into_iter().collect(),
                [batch, dirs, hidden].into_iter().collect(),
            ),
        };
        let states = 1 + matches!(self.cell, Cell::Lstm { .. }) as usize;
        let state = Fact::new(dtype, state);
        Ok([Fact::new(dtype, y)].into_iter().chain(vec![state; states]).collect())
    }

    /// `Err` if an input certainly has another shape than the others ask for.
    fn check_shapes(
        &self,
        inputs: &Inputs<'_>,
        input: &Dim,
        batch: &Dim,
        hidden: &Dim,
    ) -> Result<(), Reason> {
        let dirs = Dim::from(self.direction.count());
        let gates = |n: usize| hidden.scale((n * self.cell.gates()) as i64);
        let state = |batch_first: bool| match batch_first {
            false => vec![dirs.clone(), batch.clone(), hidden.clone()],
            true => vec![batch.clone(), dirs.clone(), hidden.clone()],
        };
        let wanted = [
            ("W", 1, vec![dirs.clone(), gates(1), input.clone()]),
            ("R", 2, vec![dirs.clone(), gates(1), hidden.clone()]),
            ("B", 3, vec![dirs.clone(), gates(2)]),
            ("sequence_lens", 4, vec![batch.clone()]),
            ("initial_h", 5, state(self.batch_first)),
            ("initial_c", 6, state(self.batch_first)),
            ("P", 7, vec![dirs.clone(), hidden.scale(3)]),
        ];
        for (name, i, wanted) in wanted {
            let Some(shape) = inputs.opt(i).and_then(Fact::shape) else { continue };
            let same = |(a, b): (&Dim, &Dim)| a.value().is_none() || b.value().is_none() || a == b;
            if shape.len() != wanted.len() || !shape.iter().zip(&wanted).all(same) {
                let (have, want) = (show(shape), show(&wanted));
                return Err(invalid!("{name} has the shape {have} where {want} is needed"));
            }
        }
        Ok(())
    }
}

pub(super) fn import_lstm(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 8)?;
    let input_forget = cx.flag("input_forget", false)?;
    import(cx, Cell::Lstm { input_forget })
}

pub(super) fn import_gru(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 6)?;
    let linear_before_reset = cx.flag("linear_before_reset", false)?;
    import(cx, Cell::Gru { linear_before_reset })
}

pub(super) fn import_rnn(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(3, 6)?;
    import(cx, Cell::Rnn)
}

fn import(cx: &mut NodeCx<'_>, cell: Cell) -> Result<Outputs, Reason> {
    let op = read(cx, cell)?;
    cx.emit(op)
}

/// com.microsoft's LSTM with weights of 8 bits: W [dirs, in, 4·h], R [dirs, h, 4·h], a scale and a
/// zero point for each direction, or for each column of each. The inputs X, and at each step the
/// state, are rounded to 8 bits; what is computed with them is in float.
pub(super) fn import_quantized(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(12, 12)?;
    let op = Recurrent {
        rounded_state: true,
        ..read(cx, Cell::Lstm { input_forget: cx.flag("input_forget", false)? })?
    };
    let x = cx.input(0)?;
    let codes = cx.push_n(DynamicQuantizeLinear, &[Some(x)], 3)?;
    let x = dequantized(cx, codes[0], codes[1], Some(codes[2]))?;
    let (w, r) = (weight(cx, 1, 8)?, weight(cx, 2, 10)?);
    let mut inputs = vec![Some(x), Some(w), Some(r)];
    inputs.extend((3..8).map(|i| cx.opt_input(i)));
    cx.push(op, &inputs)
}

/// Input `i` in float, as LSTM has it: [dirs, 4·h, n]; its scale is input `scale`.
fn weight(cx: &mut NodeCx<'_>, i: usize, scale: usize) -> Result<ValueId, Reason> {
    let mut parts = [cx.input(i)?, cx.input(scale)?, cx.input(scale + 1)?];
    for part in &mut parts[1..] {
        let axes: &[i64] = match cx.fact(*part).rank() {
            Some(1) => &[1, 2],
            Some(2) => &[1],
            _ => return Err(unsupported!("scales {} of weights", cx.fact(*part))),
        };
        let axes = cx.constant_ints(axes);
        *part = cx.push1(Unsqueeze, &[*part, axes])?;
    }
    let [w, scale, zero] = parts;
    let (w, zero) =
        (cx.push1(Cast::to(DType::F32), &[w])?, cx.push1(Cast::to(DType::F32), &[zero])?);
    let w = cx.push1(Binary(BinaryFn::Sub), &[w, zero])?;
    let w = cx.push1(Binary(BinaryFn::Mul), &[w, scale])?;
    cx.push1(Transpose::new(&[0, 2, 1]), &[w])
}

/// The operator that the attributes describe.
fn read(cx: &mut NodeCx<'_>, cell: Cell) -> Result<Recurrent, Reason> {
    // The first versions left Y out unless asked; here it is made if something reads it.
    cx.ignore(&["output_sequence"]);
    let direction = match cx.string("direction")? {
        None | Some("forward") => Direction::Forward,
        Some("reverse") => Direction::Reverse,
        Some("bidirectional") => Direction::Both,
        Some(other) => return Err(invalid!("direction {other:?} is unknown")),
    };
    let count = cell.defaults().len() * direction.count();
    let names = cx.strings("activations")?.unwrap_or_else(|| {
        cell.defaults().iter().cycle().take(count).map(|s| s.to_string()).collect()
    });
    if names.len() != count {
        return Err(invalid!("{} activations where {count} are needed", names.len()));
    }
    let alphas = cx.floats("activation_alpha")?.unwrap_or_default();
    let betas = cx.floats("activation_beta")?.unwrap_or_default();
    let op = Recurrent {
        cell,
        direction,
        activations: activations(&names, &alphas, &betas)?,
        clip: cx.float("clip")?.filter(|&c| c > 0.0),
        batch_first: cx.flag("layout", false)?,
        hidden_size: cx.size("hidden_size")?,
        rounded_state: false,
    };
    Ok(op)
}

/// The named functions; those with parameters take the next ones of the lists, while there are any.
fn activations(names: &[String], alphas: &[f32], betas: &[f32]) -> Result<Vec<GateFn>, Reason> {
    let (mut alphas, mut betas) = (alphas.iter().copied(), betas.iter().copied());
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    let one = |name: &String| {
        Ok(match name.to_ascii_lowercase().as_str() {
            "relu" => GateFn::Relu,
            "tanh" => GateFn::Tanh,
            "sigmoid" => GateFn::Sigmoid,
            "affine" => GateFn::Affine(alpha(1.0), beta(0.0)),
            "leakyrelu" => GateFn::LeakyRelu(alpha(0.01)),
            "thresholdedrelu" => GateFn::ThresholdedRelu(alpha(1.0)),
            "scaledtanh" => GateFn::ScaledTanh(alpha(1.0), beta(1.0)),
            "hardsigmoid" => GateFn::HardSigmoid(alpha(0.2), beta(0.5)),
            "elu" => GateFn::Elu(alpha(1.0)),
            "softsign" => GateFn::Softsign,
            "softplus" => GateFn::Softplus,
            _ => return Err(unsupported!("activation {name:?} is not supported")),
        })
    };
    names.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(cell: Cell, direction: Direction) -> Recurrent {
        let activations = vec![GateFn::Tanh; 3 * direction.count()];
        let (clip, batch_first, hidden_size) = (None, false, None);
        let rounded_state = false;
        Recurrent { cell, direction, activations, clip, batch_first, hidden_size, rounded_state }
    }

    #[test]
    fn both_directions_stand_side_by_side() {
        let x =
            Fact::new(DType::F32, [Dim::symbol("t"), Dim::N(2), Dim::N(3)].into_iter().collect());
        let (w, r) = (Fact::sized(DType::F32, &[2, 20, 3]), Fact::sized(DType::F32, &[2, 20, 5]));
        let lstm = op(Cell::Lstm { input_forget: false }, Direction::Both);
        let facts = lstm.infer(&Inputs::new(&[Some(&x), Some(&w), Some(&r)], 3)).unwrap();
        assert_eq!(facts[0].to_string(), "float[t, 2, 2, 5]");
        assert_eq!(facts[2].to_string(), "float[2, 2, 5]");
    }

    #[test]
    fn a_weight_of_another_size_is_refused() {
        let x = Fact::sized(DType::F32, &[4, 2, 3]);
        let (w, r) = (Fact::sized(DType::F32, &[1, 5, 3]), Fact::sized(DType::F32, &[1, 6, 5]));
        let rnn = op(Cell::Rnn, Direction::Forward);
        let why = rnn.infer(&Inputs::new(&[Some(&x), Some(&w), Some(&r)], 1)).unwrap_err();
        assert_eq!(why.text, "R has the shape [1, 6, 5] where [1, 5, 5] is needed");
    }

    #[test]
    fn parameters_go_to_the_functions_that_take_them() {
        let names = ["Sigmoid", "LeakyRelu", "HardSigmoid"].map(String::from);
        let made = activations(&names, &[0.5], &[]).unwrap();
        let want = [GateFn::Sigmoid, GateFn::LeakyRelu(0.5), GateFn::HardSigmoid(0.2, 0.5)];
        assert_eq!(made, want);
    }
}
