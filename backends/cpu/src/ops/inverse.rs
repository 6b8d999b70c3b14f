//! Inverse: Gauss-Jordan elimination with row pivots in f64.

use rinfer_graph::{Reason, invalid, scarce};

use super::layer_norm::{element, put};
use crate::kernel::{Args, Cx, Kernel};

pub(super) fn compile(cx: &Cx<'_>) -> Result<Kernel, Reason> {
    let sizes = cx.sizes(0)?;
    let n = sizes[sizes.len() - 1];
    Ok(Kernel::new(move |args| run(n, args)))
}

fn run(n: usize, args: &mut Args<'_>) -> Result<(), Reason> {
    let x = args.input(0)?;
    let count = x.len().checked_div(n * n).unwrap_or(0);
    let mut results = Vec::with_capacity(x.len());
    for i in 0..count {
        args.cx.check()?;
        let mut matrix: Vec<f64> = (0..n * n).map(|j| element(x, i * n * n + j)).collect();
        results.extend(inverse(&mut matrix, n)?);
    }
    put(&results, &mut args.outputs[0])
}

/// The inverse of an `n` × `n` matrix, which is overwritten.
fn inverse(x: &mut [f64], n: usize) -> Result<Vec<f64>, Reason> {
    let mut y = scarce::zeros(n * n);
    (0..n).for_each(|i| y[i * n + i] = 1.0);
    for col in 0..n {
        let larger = |&a: &usize, &b: &usize| x[a * n + col].abs().total_cmp(&x[b * n + col].abs());
        let pivot = (col..n).max_by(larger).unwrap_or(col);
        let top = x[pivot * n + col];
        if top == 0.0 {
            return Err(invalid!("a singular matrix has no inverse"));
        }
        for matrix in [&mut *x, &mut y] {
            (0..n).for_each(|j| matrix.swap(pivot * n + j, col * n + j));
            matrix[col * n..][..n].iter_mut().for_each(|x| *x /= top);
        }
        for row in (0..n).filter(|&row| row != col) {
            let factor = x[row * n + col];
            for matrix in [&mut *x, &mut y] {
                for j in 0..n {
                    matrix[row * n + j] -= factor * matrix[col * n + j];
                }
            }
        }
    }
    Ok(y)
}

#[cfg(test)]
mod tests {
    use crate::eval::testing::run1;
    use crate::simd::Isa;
    use rinfer_graph::Tensor;
    use rinfer_graph::ops::Inverse;

    #[test]
    fn each_matrix_has_its_inverse() {
        let x = [0.0f32, 2.0, 4.0, 0.0, 1.0, 2.0, 3.0, 4.0];
        let y = run1(Isa::best(), Inverse, &[Tensor::from_slice(&[2, 2, 2], &x)]).unwrap();
        assert_eq!(y.as_slice::<f32>(), [0.0, 0.25, 0.5, 0.0, -2.0, 1.0, 1.5, -0.5]);
    }

    #[test]
    fn a_singular_matrix_is_an_error() {
        let x = Tensor::from_slice(&[2, 2], &[1.0f32, 2.0, 2.0, 4.0]);
        assert!(run1(Isa::best(), Inverse, &[x]).is_err());
    }
}
