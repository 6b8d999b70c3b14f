//! Compares a function over slices with its value in double precision.

use crate::simd::Isa;

/// Distance between neighbouring `f32` at `x`.
pub fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    f64::from(x.next_up()) - f64::from(x)
}

/// About 200 000 floats of every magnitude in `lo..=hi`, and its ends.
pub fn sample(lo: f32, hi: f32) -> Vec<f32> {
    let mut x = vec![lo, hi, 0.0, -0.0, 1.0, -1.0];
    let bits = (0..u32::MAX).step_by(21_013).map(f32::from_bits);
    x.extend(bits.filter(|x| (lo..=hi).contains(x)));
    let n = 100_000;
    x.extend(
        (0..n).map(|i| lo.max(-200.0) + (hi.min(200.0) - lo.max(-200.0)) * i as f32 / n as f32),
    );
    x.retain(|x| (lo..=hi).contains(x));
    x
}

/// Asserts that `f` is within `bound` units in the last place of `exact` over `lo..=hi`, on every
/// instruction set; the unit is taken at the larger of the value and `scale(x)`.
pub fn check_scaled(
    f: fn(Isa, &[f32], &mut [f32]),
    exact: impl Fn(f64) -> f64,
    scale: impl Fn(f64) -> f64,
    (lo, hi): (f32, f32),
    bound: f64,
) {
    let x = sample(lo, hi);
    let mut y = vec![0.0; x.len()];
    for isa in Isa::available() {
        f(isa, &x, &mut y);
        let mut worst = (0.0, 0.0, 0.0);
        for (&x, &y) in x.iter().zip(&y) {
            let want = exact(x.into());
            let error = if (want as f32).to_bits() == y.to_bits() {
                0.0
            } else {
                (f64::from(y) - want).abs() / ulp(want.abs().max(scale(x.into())))
            };
            if error > worst.0 || error.is_nan() {
                worst = (error, x, y);
            }
        }
        println!("{:7} {:.3} ULP at {:e}", isa.name(), worst.0, worst.1);
        assert!(worst.0 <= bound, "{}: {worst:?} is above {bound} ULP", isa.name());
    }
}

/// [`check_scaled`] with the unit taken at the value.
pub fn check(
    f: fn(Isa, &[f32], &mut [f32]),
    exact: impl Fn(f64) -> f64,
    range: (f32, f32),
    bound: f64,
) {
    check_scaled(f, exact, |_| 0.0, range, bound);
}

/// Asserts exact values, NaN matching NaN.
pub fn check_values(f: fn(Isa, &[f32], &mut [f32]), values: &[(f32, f32)]) {
    for isa in Isa::available() {
        for &(x, want) in values {
            let mut y = [0.0];
            f(isa, &[x], &mut y);
            let equal = y[0].to_bits() == want.to_bits() || y[0].is_nan() && want.is_nan();
            assert!(equal, "{}: f({x:?}) is {:?}, not {want:?}", isa.name(), y[0]);
        }
    }
}
