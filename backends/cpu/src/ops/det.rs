//! Det: the determinant of each square matrix, by elimination with row pivots in f64.

use rinfer_graph::Reason;

use super::layer_norm::{element, put};
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let n = sizes[sizes.len() - 1];
    Ok(Kernel::new(move |args| run(n, args)))
}

fn run(n: usize, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?;
    let mut results = Vec::with_capacity(args.outputs[0].len());
    for i in 0..args.outputs[0].len() {
        args.cx.check()?;
        let mut matrix: Vec<f64> = (0..n * n).map(|j| element(x, i * n * n + j)).collect();
        results.push(det(&mut matrix, n));
    }
    put(&results, &mut args.outputs[0])
}

/// The determinant of an `n` × `n` matrix, which is overwritten; 1 of none.
fn det(x: &mut [f64], n: usize) -> f64 {
    let mut det = 1.0;
    for col in 0..n {
        let larger = |&a: &usize, &b: &usize| {
            x[a * n + col].abs().total_cmp(&x[b * n + col].abs()).then(b.cmp(&a))
        };
        let pivot = (col..n).max_by(larger).unwrap_or(col);
        if pivot != col {
            (0..n).for_each(|j| x.swap(pivot * n + j, col * n + j));
            det = -det;
        }
        let top = x[col * n + col];
        det *= top;
        if top == 0.0 {
            return 0.0;
        }
        let (above, below) = x.split_at_mut((col + 1) * n);
        let pivot_row = &above[col * n..];
        for row in below.chunks_exact_mut(n) {
            let factor = row[col] / top;
            for (x, p) in row.iter_mut().zip(pivot_row).skip(col) {
                *x -= factor * p;
            }
        }
    }
    det
}

#[cfg(test)]
mod tests {
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Det;

    #[test]
    fn each_matrix_has_its_determinant() {
        let x = [1.0f32, 2.0, 3.0, 4.0, 0.0, 2.0, 3.0, 0.0, 1.0, 2.0, 2.0, 4.0];
        let y = run1(Isa::best(), Det, &[Tensor::from_slice(&[3, 2, 2], &x)]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [-2.0, -6.0, 0.0]);
        let x = [2.0f64, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0];
        let y = run1(Isa::best(), Det, &[Tensor::from_slice(&[3, 3], &x)]).unwrap();
        assert!((y.as_slice::<f64>()[0] - 18.0).abs() < 1e-12);
    }

    #[test]
    fn an_empty_matrix_has_determinant_one() {
        let x = Tensor::try_zeros(rinfer_graph::DType::F32, &[2, 0, 0]).unwrap();
        assert_eq!(run1(Isa::best(), Det, &[x]).unwrap().as_slice::<f32>(), [1.0, 1.0]);
    }
}
