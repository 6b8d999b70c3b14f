//! The discrete Fourier transform of one line in double precision, of any length.
//!
//! y(k) = Σ x(n) w^(kn), w = e^(∓2πi/N). Lengths of small prime factors are cut in time
//! (Cooley-Tukey, mixed radix); others become a convolution of a power of two (Bluestein).
use rinfer_graph::C128;

/// Larger prime factors go through Bluestein's algorithm.
const LARGEST_RADIX: usize = 31;

fn mul(a: C128, b: C128) -> C128 {
    C128 { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re }
}

fn add(a: C128, b: C128) -> C128 {
    C128 { re: a.re + b.re, im: a.im + b.im }
}

fn sub(a: C128, b: C128) -> C128 {
    C128 { re: a.re - b.re, im: a.im - b.im }
}

/// e^(-2πi·k/n), with the symmetries of the circle exact: sums that cancel cancel fully.
pub(super) fn root(k: usize, n: usize) -> C128 {
    // Eighths of the circle, and the angle that is left.
    let k = k % n;
    let (k8, n8) = (k as u128 * 8, n as u128);
    let eighth = (k8 / n8) as usize;
    let angle = |k8: u128| std::f64::consts::FRAC_PI_4 * (k8 as f64 / n8 as f64);
    let up = angle(k8 - eighth as u128 * n8);
    let down = angle((eighth as u128 + 1) * n8 - k8);
    let (cos, sin) = match eighth {
        0 => (up.cos(), up.sin()),
        1 => (down.sin(), down.cos()),
        2 => (-up.sin(), up.cos()),
        3 => (-down.cos(), down.sin()),
        4 => (-up.cos(), -up.sin()),
        5 => (-down.sin(), -down.cos()),
        6 => (up.sin(), -up.cos()),
        _ => (down.cos(), -down.sin()),
    };
    C128 { re: cos, im: -sin }
}

/// Everything about one length that does not depend on the data.
pub(super) struct Fft {
    n: usize,
    /// e^(-2πi·k/n)
    roots: Vec<C128>,
    kind: FftKind,
}

enum FftKind {
    /// The factors of n, outermost first.
    Mixed(Vec<usize>),
    /// The chirp e^(-πi·k²/n), and the transform of its inverse, padded to the length of `inner`.
    Chirp { inner: Box<Fft>, chirp: Vec<C128>, filter: Vec<C128> },
}

impl Fft {
    /// The plan for transforms of length `n`, at least 1.
    pub fn new(n: usize) -> Fft {
        let roots: Vec<C128> = (0..n).map(|k| root(k, n)).collect();
        let mut factors = Vec::new();
        let mut rest = n;
        for radix in [4, 2, 3].into_iter().chain((5..=LARGEST_RADIX).step_by(2)) {
            while rest % radix == 0 && rest > 1 {
                factors.push(radix);
                rest /= radix;
            }
        }
        if rest <= 1 {
            return Fft { n, roots, kind: FftKind::Mixed(factors) };
        }
        let inner = Fft::new((2 * n - 1).next_power_of_two());
        // k² modulo 2n, since the chirp repeats after that.
        let chirp: Vec<C128> = (0..n)
            .map(|k| root((k as u128 * k as u128 % (2 * n as u128)) as usize, 2 * n))
            .collect();
        let mut padded = vec![C128::default(); inner.n];
        for (k, c) in chirp.iter().enumerate() {
            let inverse = C128 { re: c.re, im: -c.im };
            padded[k] = inverse;
            padded[(inner.n - k) % inner.n] = inverse;
        }
        let mut filter = padded.clone();
        inner.forward(&padded, &mut filter);
        Fft { n, roots, kind: FftKind::Chirp { inner: Box::new(inner), chirp, filter } }
    }

    /// y(k) = Σ x(n) e^(-2πi·kn/N); both of the plan's length.
    pub fn forward(&self, x: &[C128], y: &mut [C128]) {
        match &self.kind {
            FftKind::Mixed(factors) => self.mixed(x, 1, factors, y),
            FftKind::Chirp { inner, chirp, filter } => {
                let mut a = vec![C128::default(); inner.n];
                let mut b = a.clone();
                for ((a, &x), &c) in a.iter_mut().zip(x).zip(chirp) {
                    *a = mul(x, c);
                }
                inner.forward(&a, &mut b);
                // The inverse transform is the forward one of conjugates.
                for (b, &f) in b.iter_mut().zip(filter) {
                    let product = mul(*b, f);
                    *b = C128 { re: product.re, im: -product.im };
                }
                inner.forward(&b, &mut a);
                let scale = 1.0 / inner.n as f64;
                for ((y, a), &c) in y.iter_mut().zip(&a).zip(chirp) {
                    *y = mul(C128 { re: a.re * scale, im: -a.im * scale }, c);
                }
            }
        }
    }

    /// y(n) = 1/N Σ x(k) e^(2πi·kn/N); destroys x.
    pub fn inverse(&self, x: &mut [C128], y: &mut [C128]) {
        x.iter_mut().for_each(|x| x.im = -x.im);
        self.forward(x, y);
        let n = self.n as f64;
        for y in y.iter_mut() {
            *y = C128 { re: y.re / n, im: -y.im / n };
        }
    }

    /// The transform of every `stride`-th element of x, as long as y.
    fn mixed(&self, x: &[C128], stride: usize, factors: &[usize], y: &mut [C128]) {
        let [radix, factors @ ..] = factors else {
            y[0] = x[0];
            return;
        };
        let radix = *radix;
        let m = y.len() / radix;
        for (r, y) in y.chunks_exact_mut(m).enumerate() {
            self.mixed(&x[r * stride..], stride * radix, factors, y);
        }
        // Here w^(stride) is the root of y's length.
        match radix {
            2 => {
                let (even, odd) = y.split_at_mut(m);
                for (k, (a, b)) in even.iter_mut().zip(odd).enumerate() {
                    let t = mul(*b, self.roots[k * stride]);
                    (*a, *b) = (add(*a, t), sub(*a, t));
                }
            }
            4 => self.combine_four(y, stride),
            _ => self.combine(y, stride, radix),
        }
    }

    fn combine_four(&self, y: &mut [C128], stride: usize) {
        let m = y.len() / 4;
        for k in 0..m {
            let w = |r: usize| self.roots[r * k * stride];
            let (a, b) = (y[k], mul(y[k + m], w(1)));
            let (c, d) = (mul(y[k + 2 * m], w(2)), mul(y[k + 3 * m], w(3)));
            let (ac, ca, bd, db) = (add(a, c), sub(a, c), add(b, d), sub(b, d));
            // -i · (b - d)
            let turned = C128 { re: db.im, im: -db.re };
            y[k] = add(ac, bd);
            y[k + m] = add(ca, turned);
            y[k + 2 * m] = sub(ac, bd);
            y[k + 3 * m] = sub(ca, turned);
        }
    }

    fn combine(&self, y: &mut [C128], stride: usize, radix: usize) {
        let m = y.len() / radix;
        let mut t = [C128::default(); LARGEST_RADIX];
        for k in 0..m {
            for (r, t) in t[..radix].iter_mut().enumerate() {
                *t = mul(y[k + r * m], self.roots[r * k * stride]);
            }
            for q in 0..radix {
                // w^(m·stride) is the root of the radix.
                let turned = |r: usize| mul(t[r], self.roots[q * r % radix * m * stride]);
                y[k + q * m] = (1..radix).fold(t[0], |sum, r| add(sum, turned(r)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(n: usize) -> Vec<C128> {
        let mut seed = 7u64;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as f64 / (1u64 << 24) as f64 - 0.5
        };
        (0..n).map(|_| C128 { re: next(), im: next() }).collect()
    }

    #[test]
    fn every_length_agrees_with_the_sum() {
        for n in (1..70).chain([74, 96, 100, 127, 128, 210, 243, 360, 961]) {
            let x = signal(n);
            let mut y = vec![C128::default(); n];
            Fft::new(n).forward(&x, &mut y);
            for (k, y) in y.iter().enumerate() {
                let term = |(i, &x): (usize, &C128)| mul(x, root(i * k % n, n));
                let want = x.iter().enumerate().map(term).fold(C128::default(), add);
                let error = sub(*y, want);
                assert!(error.re.hypot(error.im) < 1e-12 * n as f64, "{n} {k} {y:?} {want:?}");
            }
        }
    }

    #[test]
    fn the_inverse_undoes_it() {
        for n in [1, 6, 37, 64, 1000, 1009] {
            let x = signal(n);
            let (mut y, mut z) = (x.clone(), x.clone());
            let fft = Fft::new(n);
            fft.forward(&x, &mut y);
            fft.inverse(&mut y, &mut z);
            let close = |(a, b): (&C128, &C128)| (a.re - b.re).hypot(a.im - b.im) < 1e-12;
            assert!(x.iter().zip(&z).all(close), "{n}");
        }
    }

    #[test]
    fn quarters_of_the_circle_are_exact() {
        assert_eq!(root(2, 8), C128 { re: 0.0, im: -1.0 });
        assert_eq!(root(4, 8), C128 { re: -1.0, im: -0.0 });
        assert!((root(1, 8).re + root(1, 8).im).abs() < 1e-15);
    }
}
