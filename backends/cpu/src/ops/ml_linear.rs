//! Linear models and support vector machines: dot products of rows, and what is made of them.
use rinfer_graph::ops::{
    Labels, LinearModel, PostTransform, SupportVectors, SvmClasses, SvmKernel, SvmOutput,
};
use rinfer_graph::{DType, Reason, Tensor, Value, invalid, scarce};

use super::ml;
use crate::kernel::Kernel;
use crate::par;

/// a·b, in lanes that the compiler makes vectors of.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Computes the scores of each row, and its class if there are labels.
fn by_rows(
    inputs: &[Option<Value>],
    scores: usize,
    row_ns: usize,
    labels: Option<&Labels>,
    row: impl Fn(&[f32], &mut [f32]) -> u32 + Sync,
) -> Result<Vec<Value>, Reason> {
    let x = inputs.first().and_then(Option::as_ref);
    let x = x.ok_or_else(|| invalid!("input 0 is missing"))?.as_tensor()?;
    let (rows, features) = ml::rows_and_features(x)?;
    let x = ml::as_f32(x)?;
    let mut y = Tensor::try_zeros(DType::F32, &[rows, scores])?;
    let mut classes = scarce::zeros::<u32>(rows);
    let work = ((&x[..], features), (y.as_mut_slice::<f32>(), scores), (&mut classes[..], 1));
    par::split(work, rows, par::grain(row_ns), |_, (x, y, classes)| {
        let rows = x.0.chunks(features.max(1)).zip(y.0.chunks_mut(scores));
        rows.zip(classes.0).for_each(|((x, y), class)| *class = row(x, y));
    });
    Ok(match labels {
        Some(labels) => vec![ml::labels(labels, &classes)?, y.into()],
        None => vec![y.into()],
    })
}

/// Transforms scores in place.
fn transform(post: PostTransform, scores: &mut [f32]) {
    if post == PostTransform::None {
        return;
    }
    let mut wide: smallvec::SmallVec<[f64; 16]> = scores.iter().map(|&x| f64::from(x)).collect();
    ml::transform(post, &mut wide);
    scores.iter_mut().zip(wide).for_each(|(y, x)| *y = x as f32);
}

/// The scores of two classes from the one of the second, as ONNX Runtime writes them.
fn both(post: PostTransform, s: f32) -> [f32; 2] {
    let x = f64::from(s);
    match post {
        PostTransform::Logistic => [ml::logistic(-x) as f32, ml::logistic(x) as f32],
        PostTransform::Probit => [ml::probit(1.0 - x) as f32, ml::probit(x) as f32],
        _ => [1.0 - s, s],
    }
}

/// The first of the largest.
fn largest<T: PartialOrd>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

pub(super) fn compile(op: &LinearModel) -> Result<Kernel, Reason> {
    let op = op.clone();
    let scores = op.labels.as_ref().map_or(op.targets, Labels::len);
    Ok(Kernel::values(move |inputs, cx| {
        cx.check()?;
        by_rows(inputs, scores, op.coefficients.len(), op.labels.as_ref(), |x, y| {
            let rows = op.coefficients.chunks_exact(op.features());
            for (i, (y, c)) in y.iter_mut().zip(rows).enumerate() {
                *y = dot(x, c) + op.intercepts.get(i).copied().unwrap_or(0.0);
            }
            if op.targets == 1 && scores == 2 {
                let s = y[0];
                y.copy_from_slice(&both(op.post_transform, s));
                return u32::from(s > 0.0);
            }
            let class = largest(y) as u32;
            // A single score is given as it is unless PROBIT is asked for.
            if y.len() > 1 || op.post_transform == PostTransform::Probit {
                transform(op.post_transform, y);
            }
            class
        })
    }))
}

fn compare(kernel: SvmKernel, a: &[f32], b: &[f32]) -> f32 {
    match kernel {
        SvmKernel::Linear => dot(a, b),
        SvmKernel::Poly { gamma, coef0, degree } => (gamma * dot(a, b) + coef0).powf(degree),
        SvmKernel::Rbf { gamma } => (-gamma * distance(a, b)).exp(),
        SvmKernel::Sigmoid { gamma, coef0 } => (gamma * dot(a, b) + coef0).tanh(),
    }
}

pub(super) fn compile_svm(op: &SupportVectors) -> Result<Kernel, Reason> {
    let op = op.clone();
    let labels = match &op.output {
        SvmOutput::Classes(classes) => Some(classes.labels.clone()),
        SvmOutput::Score { .. } => None,
    };
    let cost = op.vectors.len().max(op.coefficients.len());
    Ok(Kernel::values(move |inputs, cx| {
        cx.check()?;
        by_rows(inputs, op.scores(), cost, labels.as_ref(), |x, y| {
            let near: Vec<f32> =
                op.vectors.chunks_exact(op.features()).map(|v| compare(op.kernel, x, v)).collect();
            match &op.output {
                SvmOutput::Score { one_class } => {
                    let s = match op.count {
                        0 => dot(x, &op.coefficients),
                        _ => dot(&near, &op.coefficients[..op.count]),
                    } + op.rho[0];
                    let sign = if s > 0.0 { 1.0 } else { -1.0 };
                    y[0] = if *one_class { sign } else { s };
                    0
                }
                SvmOutput::Classes(classes) if op.count == 0 => linear_classes(&op, classes, x, y),
                SvmOutput::Classes(classes) => classify(&op, classes, &near, y),
            }
        })
    }))
}

/// The classes of a linear model, as ONNX Runtime chooses between two.
fn linear_classes(op: &SupportVectors, classes: &SvmClasses, x: &[f32], y: &mut [f32]) -> u32 {
    for (y, c) in y.iter_mut().zip(op.coefficients.chunks_exact(op.features())) {
        *y = dot(x, c) + op.rho[0];
    }
    let mut class = largest(y);
    if y.len() == 2 {
        let positive = op.coefficients.iter().all(|&c| c >= 0.0);
        let second = if positive { y[class] >= 0.5 } else { y[class] > 0.0 };
        class = if second { 1 } else { class };
    }
    transform(classes.post_transform, y);
    class as u32
}

/// The class that wins most of the pairs, and the scores.
fn classify(op: &SupportVectors, classes: &SvmClasses, near: &[f32], y: &mut [f32]) -> u32 {
    let n = classes.labels.len();
    let mut starts = vec![0];
    classes.vectors.iter().for_each(|count| starts.push(starts[starts.len() - 1] + count));
    let mut votes = vec![0u32; n];
    let mut scores = Vec::with_capacity(n * (n - 1) / 2);
    // The weights of class i's vectors against class j.
    let half = |i: usize, row: usize| -> f64 {
        let vectors = starts[i]..starts[i + 1];
        let weights = &op.coefficients[row * op.count..][vectors.clone()];
        weights.iter().zip(&near[vectors]).map(|(&w, &k)| f64::from(w * k)).sum()
    };
    for i in 0..n {
        for j in i + 1..n {
            let s = half(i, j - 1) + half(j, i) + f64::from(op.rho[scores.len()]);
            votes[if s > 0.0 { i } else { j }] += 1;
            scores.push(s as f32);
        }
    }
    let class = largest(&votes) as u32;
    if !classes.sigmoids.is_empty() {
        probabilities(n, &scores, &classes.sigmoids, y);
        transform(classes.post_transform, y);
    } else if n == 2 {
        y.copy_from_slice(&match classes.post_transform {
            PostTransform::None => [-scores[0], scores[0]],
            post => both(post, scores[0]),
        });
    } else {
        y.copy_from_slice(&scores);
        transform(classes.post_transform, y);
    }
    class
}

/// Probabilities of n classes from those of each pair: the second method of Wu, Lin and Weng,
/// "Probability estimates for multi-class classification by pairwise coupling", as libsvm does
/// it, with its number of rounds and its tolerance.
fn probabilities(n: usize, scores: &[f32], sigmoids: &[[f32; 2]], p: &mut [f32]) {
    let mut r = vec![0f32; n * n];
    let mut pairs = scores.iter().zip(sigmoids);
    for i in 0..n {
        for j in i + 1..n {
            let Some((&s, &[a, b])) = pairs.next() else { return };
            let one = 1.0 - ml::logistic(f64::from(s * a + b)) as f32;
            let one = one.clamp(1e-7, 1.0 - 1e-7);
            r[i * n + j] = one;
            r[j * n + i] = 1.0 - one;
        }
    }
    let mut q = vec![0f32; n * n];
    for i in 0..n {
        for j in (0..n).filter(|&j| j != i) {
            q[i * n + i] += r[j * n + i] * r[j * n + i];
            q[i * n + j] = -r[j * n + i] * r[i * n + j];
        }
    }
    p.fill(1.0 / n as f32);
    let mut qp = vec![0f32; n];
    for _ in 0..100 {
        for i in 0..n {
            qp[i] = (0..n).map(|j| q[i * n + j] * p[j]).sum();
        }
        let mut pqp: f32 = (0..n).map(|i| p[i] * qp[i]).sum();
        let error = qp.iter().map(|x| (x - pqp).abs()).fold(0.0, f32::max);
        if error < 0.005 / n as f32 {
            return;
        }
        for i in 0..n {
            let step = (pqp - qp[i]) / q[i * n + i];
            p[i] += step;
            let scale = 1.0 + step;
            pqp = (pqp + step * (step * q[i * n + i] + 2.0 * qp[i])) / scale / scale;
            for j in 0..n {
                qp[j] = (qp[j] + step * q[i * n + j]) / scale;
                p[j] /= scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run;
    use crate::simd::Isa;

    fn close(a: &Value, b: &[f32]) {
        let a = a.as_tensor().unwrap().as_slice::<f32>();
        let same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-4);
        assert!(same, "{a:?} {b:?}");
    }

    fn rows() -> Value {
        Tensor::from_slice(&[2, 2], &[1f32, -2.0, 0.5, 0.25]).into()
    }

    #[test]
    fn one_score_speaks_for_and_against() {
        // Numbers of ONNX Runtime.
        let op = |post_transform| LinearModel {
            coefficients: vec![0.3, 0.1],
            intercepts: vec![0.1],
            targets: 1,
            post_transform,
            labels: Some(Labels::Ints(vec![5, 6])),
        };
        let y = run(Isa::available()[0], op(PostTransform::None), &[rows()], 2).unwrap();
        assert_eq!(y[0], Tensor::vector(&[6i64, 6]).into());
        close(&y[1], &[0.8, 0.2, 0.725, 0.275]);
        let y = run(Isa::available()[0], op(PostTransform::Logistic), &[rows()], 2).unwrap();
        close(&y[1], &[0.4502, 0.5498, 0.4317, 0.5683]);
    }

    #[test]
    fn each_target_has_its_row_of_coefficients() {
        let op = LinearModel {
            coefficients: vec![0.3, 0.1, 0.3, 0.2],
            intercepts: vec![0.1, 0.2],
            targets: 2,
            post_transform: PostTransform::Softmax,
            labels: None,
        };
        let y = run(Isa::available()[0], op, &[rows()], 1).unwrap();
        close(&y[0], &[0.5250, 0.4750, 0.4688, 0.5312]);
    }

    #[test]
    fn probabilities_of_pairs_become_those_of_classes() {
        let mut p = [0.0; 3];
        probabilities(3, &[0.0; 3], &[[-1.0, 0.0]; 3], &mut p);
        assert!(p.iter().all(|p| (p - 1.0 / 3.0).abs() < 1e-6));
        probabilities(3, &[1.0, 2.0, 1.0], &[[-1.0, 0.0]; 3], &mut p);
        assert!(p[0] > p[1] && p[1] > p[2] && (p.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
