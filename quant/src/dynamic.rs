//! Products in integers whose ranges of activations are found in every run.
//!
//! sums = Cast(MatMulInteger(codes of x, codes of w))
//! Rows:   s = max(max|x|, tiny) / 127 for each row, codes = Q(x / s); sums · scales · s + bias
//! Tensor: codes, s = DynamicQuantizeLinear(x);                        sums · (s · scales) + bias

use rinfer::graph::ValueId;
use rinfer::graph::ops::{
    Axis, Binary, BinaryFn, Cast, DynamicQuantizeLinear, MatMulInteger, QuantizeLinear, Reduce,
    ReduceKind, Unary, UnaryFn,
};
use rinfer::{DType, Reason, Tensor};

use crate::forms::Choice;
use crate::layers::Layer;
use crate::rebuild::Rebuild;
use crate::weights::WeightScheme;
use crate::write::{Quantizer, alpha, push};

/// The code of the largest number of a row, from that of 0 on.
const LEVELS: f32 = 127.0;
/// The code of 0.
const ZERO: u8 = 128;
/// What a row of zeros is measured by: its share of a level is no subnormal number.
const TINY: f32 = 1e-30;

impl Quantizer<'_> {
    pub(super) fn dynamic(
        &mut self,
        r: &mut Rebuild<'_>,
        (layer, choice): (&Layer, &Choice),
        how: WeightScheme,
        rows: bool,
    ) -> Result<(), Reason> {
        let swap = layer.channels == Some(0);
        let (w, _) = self.codes(r, (layer, choice), how, swap, None)?;
        let x = self.data(r, layer, choice)?;
        let [codes, scale, zero] = self.dynamic_codes(r, (x, rows), layer.data)?;
        let sums = push(r, MatMulInteger, &[Some(codes), Some(w.codes), Some(zero), w.zeros])?;
        r.name(sums, layer.result, "sums");
        let cast = Cast { to: DType::F32, saturate: true, round_mode: Default::default() };
        let floats = r.step(cast, &[sums], layer.result, "float_sums")?;
        let mut scales = w.scales;
        let alpha = alpha(r, layer);
        if alpha != 1.0 {
            let alpha = r.constant(Tensor::scalar(alpha), layer.result, "alpha");
            scales = r.step(Binary(BinaryFn::Mul), &[scales, alpha], layer.result, "scaled")?;
        }
        let mut y = if rows {
            let y = r.step(Binary(BinaryFn::Mul), &[floats, scales], layer.result, "columns")?;
            r.step(Binary(BinaryFn::Mul), &[y, scale], layer.result, "product")?
        } else {
            let both = r.step(Binary(BinaryFn::Mul), &[scale, scales], layer.result, "scale")?;
            r.step(Binary(BinaryFn::Mul), &[floats, both], layer.result, "product")?
        };
        if let Some(bias) = self.bias(r, layer, choice)? {
            y = r.step(Binary(BinaryFn::Add), &[y, bias], layer.result, "biased")?;
        }
        r.bind(layer.result, y);
        Ok(())
    }

    /// Codes, scales and zero point of activations, once for all layers that read them.
    fn dynamic_codes(
        &mut self,
        r: &mut Rebuild<'_>,
        (x, rows): (ValueId, bool),
        v: ValueId,
    ) -> Result<[ValueId; 3], Reason> {
        if let Some(&done) = self.dynamic.get(&(r.number, x, rows)) {
            return Ok(done);
        }
        let done = if rows {
            row_codes(r, x, v)?
        } else {
            let made = r.new.push(DynamicQuantizeLinear, &[Some(x)], 3)?;
            for (&new, suffix) in made.iter().zip(["quantized", "scale", "zero_point"]) {
                r.name(new, v, suffix);
            }
            [made[0], made[1], made[2]]
        };
        self.dynamic.insert((r.number, x, rows), done);
        Ok(done)
    }
}

/// Codes of rows, a column of scales, and the zero point.
fn row_codes(r: &mut Rebuild<'_>, x: ValueId, v: ValueId) -> Result<[ValueId; 3], Reason> {
    let size = r.step(Unary(UnaryFn::Abs), &[x], v, "size")?;
    let axes = r.constant(Tensor::vector(&[-1i64]), v, "last_axis");
    let max = Reduce { kind: ReduceKind::Max, keepdims: true, noop_with_empty_axes: false };
    let most = r.step(max, &[size, axes], v, "largest")?;
    let tiny = r.constant(Tensor::scalar(TINY), v, "tiny");
    let most = r.step(Binary(BinaryFn::Max), &[most, tiny], v, "range")?;
    let levels = r.constant(Tensor::scalar(LEVELS), v, "levels");
    let scale = r.step(Binary(BinaryFn::Div), &[most, levels], v, "scale")?;
    let units = r.step(Binary(BinaryFn::Div), &[x, scale], v, "units")?;
    let one = r.constant(Tensor::scalar(1f32), v, "one");
    let zero = r.constant(Tensor::scalar(ZERO), v, "zero_point");
    let q = QuantizeLinear {
        axis: Axis(1),
        block_size: 0,
        output: None,
        saturate: true,
        precision: None,
    };
    let codes = r.step(q, &[units, one, zero], v, "quantized")?;
    Ok([codes, scale, zero])
}
