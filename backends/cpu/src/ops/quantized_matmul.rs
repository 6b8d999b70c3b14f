//! QuantizedMatMul: exact sums of products of bytes, scaled and rounded while a tile is in L1.

use rinfer_graph::ops::QuantizedMatMul;
use rinfer_graph::{Reason, Tensor, invalid, unsupported};

use super::matmul_integer::{Product, ends, with_output};
use crate::gemm::bytes::{Floats, Per, Requantized};
use crate::kernel::{Args, Cx, Kernel};
use crate::math::Activation;

pub(super) fn compile(op: &QuantizedMatMul, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let product = Product::new(&op.product(), cx, [0, 1, 2, 3])?;
    let activation = op.activation.map(Activation::from).unwrap_or_default();
    let ends = ends(cx.outputs[0].dtype()?);
    let scratch = product.scratch(cx);
    Ok(Kernel::new(move |args| {
        with_output(args, |args, y| {
            let scale: &[f32] = args.input(4)?.as_slice();
            let scale = if let [one] = scale { Per::One(*one) } else { Per::Cols(scale) };
            let bias = args.opt(5).map(Tensor::as_slice::<f32>);
            let wide = bias.map(|bias| match bias {
                [one] => vec![*one; product.plan.n],
                row => row.to_vec(),
            });
            let floats = Floats { scale, rows: None, bias: wide.as_deref(), activation };
            let rows = args.opt(8).map(Tensor::as_slice::<f32>);
            let Some(ends) = ends else {
                return floats_of(&product, args, (floats, rows), y.as_mut_slice());
            };
            let y_scale =
                args.input(6)?.to_f32().ok_or_else(|| invalid!("y_scale is no number"))?;
            let zero = args.input(7)?.to_ints().unwrap_or_default();
            let [zero] = zero[..] else {
                return Err(invalid!("y_zero holds {} numbers, not one", zero.len()));
            };
            if rows.is_some() && product.plan.count > 1 {
                return Err(unsupported!("codes of several products with factors of rows"));
            }
            let floats = Floats { rows, ..floats };
            let finish = Requantized { floats, y_scale, zero: zero as i32, ends };
            product.run(args, &finish, y.as_mut_bytes())
        })
    })
    .takes(scratch))
}

/// Floats of each product, with the factors of its rows.
fn floats_of(
    product: &Product,
    args: &Args<'_>,
    (floats, rows): (Floats<'_>, Option<&[f32]>),
    y: &mut [f32],
) -> Result<(), Reason> {
    let Some(rows) = rows else { return product.run(args, &floats, y) };
    let (m, n, count) = (product.plan.m, product.plan.n, product.plan.count);
    if m.checked_mul(count) != Some(rows.len()) {
        return Err(invalid!("{} factors for {count} products of {m} rows", rows.len()));
    }
    product.each(args, |i, _, gemm| {
        let finish = Floats { rows: Some(&rows[i * m..][..m]), ..floats };
        gemm.run(&finish, &mut y[i * m * n..][..m * n], n)
    })
}

/// Packs weights ahead of the first run.
pub(super) fn prepack(op: &QuantizedMatMul, cx: &Cx<'_>) -> Result<(), Reason> {
    super::matmul_integer::prepack(op.trans_b, 1, cx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run_opt;
    use crate::simd::Isa;
    use rinfer_graph::Value;
    use rinfer_graph::ops::Activation;

    fn check<const N: usize>(trans_b: bool, inputs: [Option<Tensor>; N]) -> Vec<Value> {
        let op = QuantizedMatMul { trans_b, activation: Some(Activation::Relu) };
        let inputs: Vec<Option<Value>> = inputs.into_iter().map(|t| t.map(Value::from)).collect();
        let run = |isa| run_opt(isa, op.clone(), &inputs, 1).unwrap();
        Isa::available().into_iter().flat_map(run).collect()
    }

    #[test]
    fn scale_bias_and_activation_follow_the_sums() {
        let a = Tensor::from_slice(&[2, 2], &[1u8, 2, 3, 4]);
        let b = Tensor::from_slice(&[2, 2], &[1i8, -1, 0, 2]);
        let (scale, bias) = (Tensor::vector(&[0.5f32, 2.0]), Tensor::vector(&[0.25f32, -6.5]));
        // sums of (a - 1): [0, 2], [2, 4], transposed b [[1, 0], [-1, 2]]
        let zero = Some(Tensor::scalar(1u8));
        let inputs = [Some(a), Some(b), zero, None, Some(scale), Some(bias)];
        for y in check(false, inputs.clone()) {
            assert_eq!(y, Value::Tensor(Tensor::from_slice(&[2, 2], &[0.25f32, 0.0, 1.25, 1.5])));
        }
        let codes = [Some(Tensor::scalar(0.5f32)), Some(Tensor::scalar(-128i8))];
        let [a, b, zero, none, scale, bias] = inputs;
        let rows = Some(Tensor::from_slice(&[2, 1], &[1.0f32, 10.0]));
        let head = [a.clone(), b.clone(), zero.clone(), None, scale.clone(), bias.clone()];
        let [i, j, k, l, m, o] = head;
        for y in check(false, [i, j, k, l, m, o, None, None, rows]) {
            assert_eq!(y, Value::Tensor(Tensor::from_slice(&[2, 2], &[0.25f32, 0.0, 10.25, 73.5])));
        }
        let [y_scale, y_zero] = codes;
        for y in check(true, [a, b, zero, none, scale, bias, y_scale, y_zero]) {
            // sums: [-1, 2], [-2, 6] → [0, 0], [0, 5.5] → codes of halves
            assert_eq!(y, Value::Tensor(Tensor::from_slice(&[2, 2], &[-128i8, -128, -128, -117])));
        }
    }
}
