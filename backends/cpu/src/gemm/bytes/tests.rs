//! Every way of multiplying bytes against the plain sum.

use super::*;
use crate::math::Activation;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        self.0 >> 33
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        // The ends of the range are what saturates.
        let mut byte = || match self.next() % 4 {
            0 => 0xff,
            1 => 0x80,
            2 => 0x7f,
            _ => self.next() as u8,
        };
        (0..n).map(|_| byte()).collect()
    }
}

fn value(byte: u8, signed: bool) -> i32 {
    if signed { i32::from(byte as i8) } else { i32::from(byte) }
}

/// Operands, their zero points and their exact product.
struct Case {
    size: [usize; 3],
    signed: [bool; 2],
    a: Vec<u8>,
    b: Vec<u8>,
    zeros: [Vec<i32>; 2],
    sums: Vec<i32>,
}

impl Case {
    fn new(r: &mut Random, [m, n, k]: [usize; 3]) -> Case {
        let signed = [r.next() % 2 == 0, r.next() % 2 == 0];
        let (a, b) = (r.bytes(m * k), r.bytes(k * n));
        let zeros = |r: &mut Random, n: usize, signed: bool| -> Vec<i32> {
            let same = r.next() as u8;
            let each = r.next() % 2 == 0;
            let mut zero = || if each { r.next() as u8 } else { same };
            (0..n).map(|_| value(zero(), signed)).collect()
        };
        let zeros = [zeros(r, m, signed[0]), zeros(r, n, signed[1])];
        let sum = |i: usize, j: usize| {
            let a = |p: usize| value(a[i * k + p], signed[0]) - zeros[0][i];
            let b = |p: usize| value(b[p * n + j], signed[1]) - zeros[1][j];
            (0..k).fold(0i32, |sum, p| sum.wrapping_add(a(p) * b(p)))
        };
        let sums = (0..m * n).map(|ij| sum(ij / n, ij % n)).collect();
        Case { size: [m, n, k], signed, a, b, zeros, sums }
    }

    fn run<F: Finish<Out: Clone>>(&self, bytes: Bytes, finish: &F, fill: F::Out) -> Vec<F::Out> {
        let [m, n, k] = self.size;
        let [a_signed, b_signed] = self.signed;
        let a = Matrix { data: &self.a, signed: a_signed, lanes: m, k, lane: k, step: 1 };
        let b = Matrix { data: &self.b, signed: b_signed, lanes: n, k, lane: 1, step: n };
        let a = PackedBytes::pack(bytes, Side::Left, &a).unwrap();
        let b = PackedBytes::pack(bytes, Side::Right, &b).unwrap();
        let [a_zero, b_zero] = [0, 1].map(|i| Zero::Each(&self.zeros[i]));
        let gemm = ByteGemm { a: (&a).into(), b: &b, a_zero, b_zero, bias: Bias::None };
        let mut c = vec![fill; m * n];
        gemm.run(finish, &mut c, n).unwrap();
        c
    }
}

const SIZES: &[[usize; 3]] = &[
    [1, 1, 1],
    [1, 70, 9],
    [2, 33, 64],
    [5, 16, 0],
    [13, 47, 31],
    [14, 32, 66],
    [15, 65, 130],
    [40, 100, 257],
];

#[test]
fn every_processor_sums_exactly() {
    let mut r = Random(1);
    for size in SIZES {
        let case = Case::new(&mut r, *size);
        for bytes in Bytes::available() {
            assert_eq!(case.run(bytes, &Sums, 0), case.sums, "{size:?} {bytes:?}");
        }
    }
}

#[test]
fn every_processor_makes_the_same_codes_and_floats() {
    let mut r = Random(2);
    for &[m, n, k] in SIZES {
        let case = Case::new(&mut r, [m, n, k]);
        let mut numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|_| (r.next() % 1000) as f32 * 1e-6).collect() };
        let (rows, cols, bias) = (numbers(m), numbers(n), numbers(n));
        for scale in [Per::One(3e-4), Per::Rows(&rows), Per::Cols(&cols)] {
            let at = |ij: usize| match scale {
                Per::One(x) => x,
                Per::Rows(x) => x[ij / n],
                Per::Cols(x) => x[ij % n],
            };
            let scaled = |(ij, &sum): (usize, &i32)| sum as f32 * at(ij);
            let codes = Codes { scale, zero: -5, ends: [-128, 127] };
            let want: Vec<u8> = case
                .sums
                .iter()
                .enumerate()
                .map(scaled)
                .map(|x| (x.round_ties_even() - 5.0).clamp(-128.0, 127.0) as i8 as u8)
                .collect();
            let floats =
                Floats { scale, rows: None, bias: Some(&bias), activation: Activation::Relu };
            let floats_want: Vec<f32> = case
                .sums
                .iter()
                .enumerate()
                .map(|x| (scaled(x) + bias[x.0 % n]).max(0.0))
                .collect();
            for bytes in Bytes::available() {
                assert_eq!(case.run(bytes, &codes, 0), want, "{bytes:?}");
                assert_eq!(case.run(bytes, &floats, 0.0), floats_want, "{bytes:?}");
            }
        }
    }
}

#[test]
fn biases_are_added_to_the_sums() {
    let ones = Matrix { data: &[1; 4], signed: false, lanes: 2, k: 2, lane: 2, step: 1 };
    for bytes in Bytes::available() {
        let a = PackedBytes::pack(bytes, Side::Left, &ones).unwrap();
        let b = PackedBytes::pack(bytes, Side::Right, &ones).unwrap();
        let zero = Zero::One(0);
        let sums = |bias| {
            let mut c = [0; 4];
            let gemm = ByteGemm { a: (&a).into(), b: &b, a_zero: zero, b_zero: zero, bias };
            gemm.run(&Sums, &mut c, 2).unwrap();
            c
        };
        assert_eq!(sums(Bias::Rows(&[10, 20])), [12, 12, 22, 22]);
        assert_eq!(sums(Bias::Cols(&[10, 20])), [12, 22, 12, 22]);
    }
}

#[test]
fn operands_that_do_not_meet_are_refused() {
    let matrix = |k| Matrix { data: &[1; 8], signed: false, lanes: 2, k, lane: k, step: 1 };
    let bytes = Bytes::available()[0];
    let a = PackedBytes::pack(bytes, Side::Left, &matrix(3)).unwrap();
    let b = PackedBytes::pack(bytes, Side::Right, &matrix(4)).unwrap();
    let zero = Zero::One(0);
    let gemm = ByteGemm { a: (&a).into(), b: &b, a_zero: zero, b_zero: zero, bias: Bias::None };
    assert_eq!(gemm.run(&Sums, &mut [0; 4], 2).unwrap_err(), "3 columns meet 4 rows");
    assert!(PackedBytes::pack(bytes, Side::Left, &matrix(5)).is_err());
}
