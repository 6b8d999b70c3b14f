//! The discrete Fourier transform of one complex line in single precision.
//!
//! Stockham's algorithm, decimation in frequency, with the passes of Pocketfft in its order
//! (M. Reinecke, <https://gitlab.mpcdf.mpg.de/mtr/pocketfft>): what rounding leaves where the exact
//! sum is 0 is then what NumPy leaves for complex64, and the official tests expect it.
use rinfer_graph::{C64, C128};

use super::fft::root;

/// A plan for lengths without other prime factors than 2, 3 and 5.
pub(super) struct SingleFft {
    n: usize,
    /// The factors of n, in the order of their passes.
    factors: Vec<usize>,
    /// e^(-2πi·k/n)
    roots: Vec<C64>,
}

/// Which sign the exponent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Forward,
    Inverse,
}

fn add(a: C64, b: C64) -> C64 {
    C64 { re: a.re + b.re, im: a.im + b.im }
}

fn sub(a: C64, b: C64) -> C64 {
    C64 { re: a.re - b.re, im: a.im - b.im }
}

fn mul(a: C64, b: C64) -> C64 {
    C64 { re: a.re * b.re - a.im * b.im, im: a.re * b.im + a.im * b.re }
}

impl SingleFft {
    /// `None` for lengths with other prime factors.
    pub fn new(n: usize) -> Option<SingleFft> {
        let mut factors = Vec::new();
        let mut rest = n.max(1);
        while rest % 4 == 0 {
            factors.push(4);
            rest /= 4;
        }
        if rest % 2 == 0 {
            factors.insert(0, 2);
            rest /= 2;
        }
        for radix in [3, 5] {
            while rest % radix == 0 {
                factors.push(radix);
                rest /= radix;
            }
        }
        let single = |k| {
            let C128 { re, im } = root(k, n);
            C64 { re: re as f32, im: im as f32 }
        };
        (rest == 1).then(|| SingleFft { n, factors, roots: (0..n).map(single).collect() })
    }

    /// y(k) = Σ x(j) e^(∓2πi·jk/n), divided by n if inverse. Leaves y in `x`; `scratch` is as long.
    pub fn run(&self, way: Way, x: &mut Vec<C64>, scratch: &mut Vec<C64>) {
        let mut l1 = 1;
        for &radix in &self.factors {
            self.pass(radix, l1, way, (x, scratch));
            std::mem::swap(x, scratch);
            l1 *= radix;
        }
        if way == Way::Inverse {
            let scale = (1.0 / self.n as f64) as f32;
            x.iter_mut().for_each(|z| *z = C64 { re: z.re * scale, im: z.im * scale });
        }
    }

    fn pass(&self, radix: usize, l1: usize, way: Way, (x, y): (&[C64], &mut [C64])) {
        let inner = self.n / (l1 * radix);
        let sign = if way == Way::Forward { 1.0 } else { -1.0 };
        let mut v = [C64::default(); 5];
        for k in 0..l1 {
            for i in 0..inner {
                for (r, v) in v[..radix].iter_mut().enumerate() {
                    *v = x[i + inner * (r + radix * k)];
                }
                match radix {
                    2 => (v[0], v[1]) = (add(v[0], v[1]), sub(v[0], v[1])),
                    3 => v = three(v, sign),
                    4 => v = four(v, sign),
                    _ => v = five(v, sign),
                }
                for (r, &v) in v[..radix].iter().enumerate() {
                    let C64 { re, im } = self.roots[r * l1 * i];
                    let turned = if r * i == 0 { v } else { mul(v, C64 { re, im: sign * im }) };
                    y[i + inner * (k + l1 * r)] = turned;
                }
            }
        }
    }
}

/// `sign` is 1 for e^(-2πi/3), -1 for its inverse; so below.
fn three(v: [C64; 5], sign: f32) -> [C64; 5] {
    let im = -sign * 0.866_025_4;
    let (t1, t2) = (add(v[1], v[2]), sub(v[1], v[2]));
    let a = C64 { re: v[0].re + t1.re * -0.5, im: v[0].im + t1.im * -0.5 };
    let b = C64 { re: -(t2.im * im), im: t2.re * im };
    [add(v[0], t1), add(a, b), sub(a, b), v[3], v[4]]
}

fn four(v: [C64; 5], sign: f32) -> [C64; 5] {
    let (t2, t1) = (add(v[0], v[2]), sub(v[0], v[2]));
    let (t3, t4) = (add(v[1], v[3]), sub(v[1], v[3]));
    let t4 = C64 { re: sign * t4.im, im: -sign * t4.re };
    [add(t2, t3), add(t1, t4), sub(t2, t3), sub(t1, t4), v[4]]
}

fn five(v: [C64; 5], sign: f32) -> [C64; 5] {
    let (w1, w2) = ((0.309_017, -sign * 0.951_056_54), (-0.809_017, -sign * 0.587_785_24));
    let (t1, t4) = (add(v[1], v[4]), sub(v[1], v[4]));
    let (t2, t3) = (add(v[2], v[3]), sub(v[2], v[3]));
    let pair = |(ar, ai): (f32, f32), (br, bi): (f32, f32)| {
        let re = v[0].re + ar * t1.re + br * t2.re;
        let im = v[0].im + ar * t1.im + br * t2.im;
        let b = C64 { re: -(ai * t4.im + bi * t3.im), im: ai * t4.re + bi * t3.re };
        (add(C64 { re, im }, b), sub(C64 { re, im }, b))
    };
    let (y1, y4) = pair(w1, w2);
    let (y2, y3) = pair(w2, (w1.0, -w1.1));
    [add(add(v[0], t1), t2), y1, y2, y3, y4]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::fft::Fft;

    #[test]
    fn it_agrees_with_double_precision() {
        for n in [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 20, 30, 48, 60, 64, 100, 125, 1000] {
            let at = |k: usize| ((k * k % 17) as f32 - 8.0, (k * 5 % 13) as f32 - 6.0);
            let mut x: Vec<C64> = (0..n).map(at).map(|(re, im)| C64 { re, im }).collect();
            let wide = |z: &C64| C128 { re: z.re.into(), im: z.im.into() };
            let exact: Vec<C128> = x.iter().map(wide).collect();
            let (mut y, mut scratch) = (exact.clone(), x.clone());
            Fft::new(n).forward(&exact, &mut y);
            let plan = SingleFft::new(n).unwrap();
            plan.run(Way::Forward, &mut x, &mut scratch);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-5 * n as f64;
            assert!(x.iter().zip(&y).all(|(a, b)| near(a.re.into(), b.re)), "{n}");
            assert!(x.iter().zip(&y).all(|(a, b)| near(a.im.into(), b.im)), "{n}");
            plan.run(Way::Inverse, &mut x, &mut scratch);
            assert!(x.iter().zip(&exact).all(|(a, b)| near(a.re.into(), b.re)), "{n}");
            assert!(x.iter().zip(&exact).all(|(a, b)| near(a.im.into(), b.im)), "{n}");
        }
        assert!(SingleFft::new(7).is_none());
    }

    #[test]
    fn what_rounding_leaves_is_what_numpy_leaves() {
        let mut x: Vec<C64> = (0..10).map(|k| C64 { re: 10.0 * k as f32, im: 0.0 }).collect();
        let mut scratch = x.clone();
        SingleFft::new(10).unwrap().run(Way::Inverse, &mut x, &mut scratch);
        assert_eq!(x[5], C64 { re: -5.0, im: 1.907_348_6e-7 });
    }
}
