//! What kernels of ai.onnx.ml share: transforms of scores, labels, features as one type.
use rinfer_graph::ops::{Labels, PostTransform};
use rinfer_graph::{Reason, Strings, Tensor, Value, invalid};

/// 1 / (1 + e⁻ˣ), without overflow.
pub(super) fn logistic(x: f64) -> f64 {
    let y = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - y } else { y }
}

/// ONNX Runtime and the exporters have π with these digits, and so must everybody who agrees.
#[allow(clippy::approx_constant)]
const PI_IN_THE_SPEC: f64 = 3.14159;

/// √2 · erf⁻¹(2x - 1), with Winitzki's approximation of erf⁻¹ and the constant 0.147: what
/// ONNX's reference and the models' exporters mean by PROBIT.
pub(super) fn probit(x: f64) -> f64 {
    let y = 2.0 * x - 1.0;
    let log = ((1.0 - y) * (1.0 + y)).ln();
    let half = 2.0 / (PI_IN_THE_SPEC * 0.147) + 0.5 * log;
    let root = ((half * half - log / 0.147).sqrt() - half).sqrt();
    std::f64::consts::SQRT_2 * if y < 0.0 { -root } else { root }
}

/// Transforms the scores of one row.
pub(super) fn transform(post: PostTransform, scores: &mut [f64]) {
    match post {
        PostTransform::None => {}
        PostTransform::Logistic => scores.iter_mut().for_each(|x| *x = logistic(*x)),
        PostTransform::Probit => scores.iter_mut().for_each(|x| *x = probit(*x)),
        PostTransform::Softmax => {
            let hi = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            scores.iter_mut().for_each(|x| *x = (*x - hi).exp());
            let sum: f64 = scores.iter().sum();
            scores.iter_mut().for_each(|x| *x /= sum);
        }
        PostTransform::SoftmaxZero => {
            let hi = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            for x in scores.iter_mut() {
                if x.abs() > 1e-7 {
                    *x = (*x - hi).exp();
                    sum += *x;
                } else {
                    *x *= (-hi).exp();
                }
            }
            if sum != 0.0 {
                scores.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

/// The labels of these classes, one a row.
pub(super) fn labels(labels: &Labels, classes: &[u32]) -> Result<Value, Reason> {
    let at = |len: usize, class: u32| match (class as usize) < len {
        true => Ok(class as usize),
        false => Err(invalid!("class {class} of {len}")),
    };
    Ok(match labels {
        Labels::Ints(names) => {
            let mut y = Tensor::try_zeros(rinfer_graph::DType::I64, &[classes.len()])?;
            for (y, &class) in y.as_mut_slice::<i64>().iter_mut().zip(classes) {
                *y = names[at(names.len(), class)?];
            }
            y.into()
        }
        Labels::Texts(names) => {
            let text = |&class: &u32| Ok(names[at(names.len(), class)?].clone());
            let data = classes.iter().map(text).collect::<Result<Vec<_>, Reason>>()?;
            Value::Text(Strings::new(&[classes.len()], data)?)
        }
    })
}

/// Rows and features of the input of a model over rows.
pub(super) fn rows_and_features(x: &Tensor) -> Result<(usize, usize), Reason> {
    match *x.shape() {
        [f] => Ok((1, f)),
        [n, f] => Ok((n, f)),
        _ => Err(invalid!("rank {} where rows of features are needed", x.rank())),
    }
}

/// The elements as `f32`: integers are rounded.
pub(super) fn as_f32(x: &Tensor) -> Result<std::borrow::Cow<'_, [f32]>, Reason> {
    use rinfer_graph::DType::*;
    Ok(match x.dtype() {
        F32 => x.as_slice::<f32>().into(),
        F64 => x.as_slice::<f64>().iter().map(|&x| x as f32).collect(),
        I64 => x.as_slice::<i64>().iter().map(|&x| x as f32).collect(),
        I32 => x.as_slice::<i32>().iter().map(|&x| x as f32).collect(),
        F16 => x.as_slice::<half::f16>().iter().map(|x| x.to_f32()).collect(),
        other => return Err(invalid!("features of type {other}")),
    })
}

/// The elements as `f64`: integers beyond 2⁵³ are rounded.
pub(super) fn as_f64(x: &Tensor) -> Result<std::borrow::Cow<'_, [f64]>, Reason> {
    use rinfer_graph::DType::*;
    Ok(match x.dtype() {
        F64 => x.as_slice::<f64>().into(),
        I64 => x.as_slice::<i64>().iter().map(|&x| x as f64).collect(),
        _ => as_f32(x)?.iter().map(|&x| x as f64).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transformed(post: PostTransform, scores: &[f64]) -> Vec<f64> {
        let mut scores = scores.to_vec();
        transform(post, &mut scores);
        scores
    }

    #[test]
    fn large_scores_do_not_overflow() {
        assert_eq!(transformed(PostTransform::Softmax, &[1000.0, 0.0]), [1.0, 0.0]);
        assert_eq!(transformed(PostTransform::Logistic, &[-1000.0, 1000.0]), [0.0, 1.0]);
    }

    #[test]
    fn softmax_zero_leaves_zeros_at_zero() {
        let y = transformed(PostTransform::SoftmaxZero, &[0.0, 1.0, 1.0]);
        assert_eq!(y, [0.0, 0.5, 0.5]);
        assert_eq!(transformed(PostTransform::SoftmaxZero, &[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn probit_is_odd_about_a_half() {
        assert!((probit(0.75) + probit(0.25)).abs() < 1e-12);
        assert!((probit(0.975) - 1.96).abs() < 1e-2);
    }
}
