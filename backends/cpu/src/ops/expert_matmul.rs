//! ExpertMatMul: rows are put in the order of their experts, and each expert's are one product.
//!
//! y[i] = w[expert[i]] · x[i], x [m, k], w [e, n, k], expert [m]; w in f32, 16-bit floats or codes

use std::sync::Arc;

use rinfer_graph::ops::{ExpertMatMul, position};
use rinfer_graph::{DType, Reason, Tensor, invalid, unsupported};

use super::matmul_n_bits::{Parts, Weights};
use crate::gemm::room;
use crate::gemm::{Layout, PackedB};
use crate::kernel::{Args, Cx, Kernel, limit};
use crate::pool::with_scratch;
use crate::quant::read_f32;
use crate::scratch::Scratch;
use crate::simd::Isa;

/// The sizes of the weights: how many experts, and each expert's rows and columns.
#[derive(Clone, Copy)]
struct Sizes {
    experts: usize,
    n: usize,
    k: usize,
}

/// w, scales and zero points, where they are codes.
struct Given<'a> {
    w: &'a Tensor,
    scales: Option<&'a Tensor>,
    zero: Option<&'a Tensor>,
}

fn sizes(op: &ExpertMatMul, w: &[usize]) -> Result<Sizes, Reason> {
    match (w, &op.codes) {
        (&[experts, n, k], None) => Ok(Sizes { experts, n, k }),
        (&[experts, ..], Some(codes)) => Ok(Sizes { experts, n: codes.n, k: codes.k }),
        _ => Err(invalid!("experts of shape {w:?}")),
    }
}

/// The matrix of each expert, made ready.
fn pack(isa: Isa, op: &ExpertMatMul, given: &Given<'_>) -> Result<Vec<Weights>, Reason> {
    let sizes = sizes(op, given.w.shape())?;
    (0..sizes.experts).map(|e| pack_one(isa, op, given, (sizes, e))).collect()
}

fn pack_one(
    isa: Isa,
    op: &ExpertMatMul,
    given: &Given<'_>,
    (Sizes { experts, n, k }, e): (Sizes, usize),
) -> Result<Weights, Reason> {
    let part = |x: &Tensor| {
        let each = x.byte_len() / experts;
        e * each..(e + 1) * each
    };
    let typed = |x| (Tensor::dtype(x), &x.as_bytes()[part(x)]);
    let (dtype, w) = typed(given.w);
    if let Some(codes) = &op.codes {
        let scales = given.scales.ok_or_else(|| invalid!("codes without scales"))?;
        let zero = given.zero.map(typed);
        let parts = Parts { b: w, scales: typed(scales), zero, g_idx: None };
        return Weights::few_bits(isa, codes, &parts);
    }
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
        return Err(unsupported!("experts of type {dtype}"));
    }
    let read = |row: usize, columns: std::ops::Range<usize>, to: &mut [f32]| {
        // The dtype was checked above, and the columns are those of the row.
        let _ = read_f32(dtype, w, row * k + columns.start, to);
    };
    let packed = PackedB::from_rows(isa, (k, n), Layout::Transposed, read);
    packed.map(Weights::Floats).map_err(limit)
}

/// The packed weights, if all their parts are known beforehand.
fn packed(op: &ExpertMatMul, cx: &Cx<'_>) -> Result<Option<Arc<Vec<Weights>>>, Reason> {
    let known = |i: usize| match cx.opt(i) {
        None => Some(None),
        Some(fact) => fact.tensor().cloned().map(Some),
    };
    let (Some(scales), Some(zero)) = (known(3), known(4)) else { return Ok(None) };
    cx.packed(1, 5, |w| {
        pack(cx.isa, op, &Given { w, scales: scales.as_ref(), zero: zero.as_ref() })
    })
}

/// Packs weights ahead of the first run.
pub(super) fn prepack(op: &ExpertMatMul, cx: &Cx<'_>) -> Result<(), Reason> {
    packed(op, cx).map(|_| ())
}

pub(super) fn compile(op: &ExpertMatMul, cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let (isa, sizes, ready) = (cx.isa, sizes(op, &cx.sizes(1)?)?, packed(op, cx)?);
    let op = op.clone();
    let rows = cx.sizes(0)?.iter().rev().skip(1).product::<usize>();
    let Sizes { n, k, .. } = sizes;
    // All rows may have the same expert; the memory that few of them take is not more.
    let product = Weights::scratch(isa, (rows, n, k), op.codes.is_some());
    let mut scratch = Scratch::floats(rows * (k + n)).and(product);
    if ready.is_none() {
        let others = n.saturating_mul(k).saturating_mul(sizes.experts.saturating_sub(1));
        scratch = scratch.and(room::packing(isa, k, n)).and(Scratch::floats(others));
    }
    Ok(Kernel::new(move |args| {
        let experts = match &ready {
            Some(experts) => experts.clone(),
            None => {
                let (scales, zero) = (args.opt(3), args.opt(4));
                Arc::new(pack(isa, &op, &Given { w: args.input(1)?, scales, zero })?)
            }
        };
        multiply(isa, sizes, &experts, args)
    })
    .takes(scratch))
}

fn multiply(
    isa: Isa,
    Sizes { experts: count, n, k }: Sizes,
    experts: &[Weights],
    args: &mut Args<'_>,
) -> Result<(), Reason> {
    let x = args.input(0)?.as_slice::<f32>();
    let picked = args.input(2)?.as_slice::<i64>();
    let picked: Vec<usize> =
        picked.iter().map(|&e| position(e, count)).collect::<Result<_, _>>()?;
    let mut order: Vec<usize> = (0..picked.len()).collect();
    order.sort_by_key(|&row| picked[row]);
    let y = args.outputs[0].as_mut_slice::<f32>();
    for rows in order.chunk_by(|&a, &b| picked[a] == picked[b]) {
        args.cx.check()?;
        let (weights, m) = (&experts[picked[rows[0]]], rows.len());
        let product = |scratch: &mut [f32]| {
            let (a, c) = scratch.split_at_mut(m * k);
            for (i, &row) in rows.iter().enumerate() {
                a[i * k..][..k].copy_from_slice(&x[row * k..][..k]);
            }
            weights.multiply(isa, (m, n, k), a, None, c)?;
            for (i, &row) in rows.iter().enumerate() {
                y[row * n..][..n].copy_from_slice(&c[i * n..][..n]);
            }
            Ok(())
        };
        with_scratch(m * (k + n), product).map_err(limit)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use rinfer_graph::ops::MatMulNBits;

    #[test]
    fn each_row_meets_the_matrix_of_its_expert() {
        let x = Tensor::from_slice(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let w = Tensor::from_slice(&[2, 1, 2], &[1.0f32, 0.0, 0.0, 10.0]);
        let expert = Tensor::vector(&[1i64, 0, 1]);
        for isa in Isa::available() {
            let op = ExpertMatMul { codes: None };
            let y = run1(isa, op, &[x.clone(), w.clone(), expert.clone()]).unwrap();
            assert_eq!(y.as_slice::<f32>(), [20.0, 3.0, 60.0]);
        }
    }

    #[test]
    fn codes_of_a_whole_row_share_a_scale() {
        let codes = MatMulNBits { n: 1, k: 2, bits: 4, block_size: 2 };
        let x = Tensor::from_slice(&[2, 2], &[1.0f32, 10.0, 1.0, 10.0]);
        let w = Tensor::from_slice(&[2, 1, 1], &[0x9au8, 0x70]);
        let scales = Tensor::from_slice(&[2, 1], &[0.5f32, 2.0]);
        let op = ExpertMatMul { codes: Some(codes) };
        let expert = Tensor::vector(&[0i64, 1]);
        let y = run1(Isa::best(), op, &[x, w, expert, scales]).unwrap();
        // (2 + 10) / 2; (-8 - 10) · 2
        assert_eq!(y.as_slice::<f32>(), [6.0, -36.0]);
    }

    #[test]
    fn an_expert_that_is_not_there_is_an_error() {
        let x = Tensor::from_slice(&[1, 1], &[1.0f32]);
        let w = Tensor::from_slice(&[2, 1, 1], &[1.0f32, 2.0]);
        let run = |e: i64| {
            let expert = Tensor::vector(&[e]);
            run1(Isa::best(), ExpertMatMul { codes: None }, &[x.clone(), w.clone(), expert])
        };
        assert_eq!(run(1).unwrap().as_slice::<f32>(), [2.0]);
        assert!(run(2).is_err());
    }
}
