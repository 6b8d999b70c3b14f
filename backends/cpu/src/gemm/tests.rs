//! Products of odd sizes and strides on every instruction set, against sums in double precision.

use super::*;
use crate::par::Pool;

/// A small deterministic generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }
    fn below(&mut self, n: usize) -> usize {
        self.next() % n
    }
    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.below(2001) as f32 - 1000.0) * 1e-3).collect()
    }
}

/// Elements of a matrix in one of the ways a matrix may lie, and its strides.
fn matrix(r: &mut Random, rows: usize, cols: usize) -> (Vec<f32>, usize, usize) {
    let (row, col) = match r.below(5) {
        0 => (cols, 1),
        1 => (cols + 3, 1),
        2 => (1, rows),
        3 => (1, rows + 2),
        _ => (cols * 2 + 1, 2),
    };
    let len = row * rows.max(1) + col * cols.max(1);
    (r.floats(len), row, col)
}

/// One product with everything it needs.
struct Case {
    size: (usize, usize, usize),
    a: (Vec<f32>, usize, usize),
    b: (Vec<f32>, usize, usize),
    pack: (bool, bool),
    alpha: f32,
    write: Write,
    bias: (usize, Vec<f32>),
    residual: Option<Vec<f32>>,
    activation: Activation,
    c: Vec<f32>,
    stride: usize,
}

impl Case {
    fn random(r: &mut Random, (m, n, k): (usize, usize, usize)) -> Case {
        let stride = n + r.below(3);
        let activations =
            [Activation::None, Activation::Relu, Activation::Gelu, Activation::Clip(-0.5, 1.0)];
        Case {
            size: (m, n, k),
            a: matrix(r, m, k),
            b: matrix(r, k, n),
            pack: (r.below(3) == 0, r.below(3) == 0),
            alpha: [1.0, 0.5, -1.5][r.below(3)],
            write: [Write::Set, Write::Add][r.below(2)],
            bias: (r.below(3), r.floats(m.max(n))),
            residual: (r.below(3) == 0).then(|| r.floats(m * stride)),
            activation: activations[r.below(4)],
            c: r.floats(m * stride),
            stride,
        }
    }

    fn run(&self, isa: Isa) -> Vec<f32> {
        let (m, n, k) = self.size;
        let a = Strided { data: &self.a.0, row: self.a.1, col: self.a.2 };
        let b = Strided { data: &self.b.0, row: self.b.1, col: self.b.2 };
        let packed_a = PackedA::pack(isa, m, k, a).unwrap();
        let packed_b = PackedB::pack(isa, k, n, b).unwrap();
        let bias = match self.bias.0 {
            0 => None,
            1 => Some(Bias::Row(&self.bias.1[..n])),
            _ => Some(Bias::Col(&self.bias.1[..m])),
        };
        let residual = self.residual.as_ref().map(|r| (r.as_slice(), self.stride));
        let gemm = Gemm {
            alpha: self.alpha,
            write: self.write,
            epilogue: Epilogue { bias, residual, activation: self.activation },
            backwards: self.size.1 % 2 == 1,
            ..Gemm::new(
                self.size,
                if self.pack.0 { Lhs::Packed(&packed_a) } else { Lhs::Plain(a) },
                if self.pack.1 { Rhs::Packed(&packed_b) } else { Rhs::Plain(b) },
            )
        };
        let mut c = self.c.clone();
        gemm.run(isa, &mut c, self.stride).unwrap();
        c
    }

    /// The exact value of element `(i, j)`, and the sum of the magnitudes that went into it.
    fn exact(&self, i: usize, j: usize) -> (f64, f64) {
        let (mut sum, mut size) = (0.0, 0.0);
        for p in 0..self.size.2 {
            let a = f64::from(self.a.0[i * self.a.1 + p * self.a.2]);
            let b = f64::from(self.b.0[p * self.b.1 + j * self.b.2]);
            sum += a * b;
            size += (a * b).abs();
        }
        let at = i * self.stride + j;
        let mut y = sum * f64::from(self.alpha);
        y += if self.write == Write::Add { f64::from(self.c[at]) } else { 0.0 };
        y += [0.0, self.bias.1[j].into(), self.bias.1[i].into()][self.bias.0];
        y += self.residual.as_ref().map_or(0.0, |r| r[at].into());
        (f64::from(self.activation.scalar(y as f32)), size * 1.5 + 3.0)
    }

    fn check(&self) {
        let (m, n, k) = self.size;
        for isa in Isa::available() {
            let c = self.run(isa);
            for (at, (&got, &old)) in c.iter().zip(&self.c).enumerate() {
                let (i, j) = (at / self.stride, at % self.stride);
                if j >= n {
                    assert_eq!(got.to_bits(), old.to_bits(), "beyond the row");
                    continue;
                }
                let (want, size) = self.exact(i, j);
                let error = (f64::from(got) - want).abs();
                let name = isa.name();
                assert!(error <= size * 5e-7, "{name} {m}x{n}x{k} at {i},{j}: {got} is not {want}");
            }
        }
    }
}

#[test]
fn odd_sizes_agree_with_double_precision() {
    let mut r = Random(1);
    for m in [1, 2, 3, 5, 8, 9, 14, 15, 29, 43] {
        for n in [1, 2, 5, 15, 16, 17, 31, 33, 48, 70] {
            for k in [0, 1, 7, 16, 33, 150] {
                Case::random(&mut r, (m, n, k)).check();
            }
        }
    }
}

#[test]
fn long_sums_and_many_panels_agree_with_double_precision() {
    let mut r = Random(2);
    for size in [(3, 40, 1000), (20, 600, 90), (300, 20, 400), (37, 45, 1200), (6, 1100, 70)] {
        for _ in 0..4 {
            Case::random(&mut r, size).check();
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let mut r = Random(3);
    for size in [(1, 5000, 300), (7, 3000, 200), (100, 300, 200), (300, 90, 190), (64, 64, 2000)] {
        for _ in 0..4 {
            let case = Case::random(&mut r, size);
            for isa in Isa::available() {
                let alone = case.run(isa);
                for threads in [2, 3] {
                    let pool = Pool::new(threads).unwrap();
                    assert!(pool.install(|| case.run(isa)) == alone, "{} {size:?}", isa.name());
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_whatever_rows_are_beside_it() {
    let mut r = Random(11);
    for (n, k) in [(1, 3000), (31, 700), (32, 5), (200, 2500), (517, 64)] {
        let m = 1 + r.below(60);
        let (a, b, bias) = (r.floats(m * k), r.floats(k * n), r.floats(n));
        for isa in Isa::available() {
            let b = PackedB::pack(isa, k, n, Strided::rows(&b, n)).unwrap();
            let rows = |first: usize, rows: usize| {
                let a = Lhs::Plain(Strided::rows(&a[first * k..], k));
                let epilogue = Epilogue {
                    bias: Some(Bias::Row(&bias)),
                    activation: Activation::Gelu,
                    ..Epilogue::default()
                };
                let gemm = Gemm { epilogue, ..Gemm::new((rows, n, k), a, Rhs::Packed(&b)) };
                let mut c = vec![f32::NAN; rows * n];
                gemm.run(isa, &mut c, n).unwrap();
                c
            };
            let all = rows(0, m);
            for some in [1, 2, 3, 5, 14, 15, 17] {
                let first = r.below(m);
                let some = some.min(m - first);
                let wanted = &all[first * n..(first + some) * n];
                assert_eq!(rows(first, some), wanted, "{some} of {m} rows, {n} by {k}");
            }
        }
    }
}

#[test]
fn zero_times_nan_or_infinity_is_nan() {
    for (m, n, k) in [(1, 20, 9), (1, 1, 40), (5, 33, 20), (20, 40, 50)] {
        for poison in [f32::NAN, f32::INFINITY] {
            let (a, mut b) = (vec![0.0; m * k], vec![1.0; k * n]);
            b[(k - 1) * n..].fill(poison);
            let turned: Vec<f32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
            for isa in Isa::available() {
                let right = [Strided::rows(&b, n), Strided::rows(&turned, k).transposed()];
                let packed = PackedB::pack(isa, k, n, right[0]).unwrap();
                for b in [Rhs::Plain(right[0]), Rhs::Plain(right[1]), Rhs::Packed(&packed)] {
                    let mut c = vec![0.0; m * n];
                    let gemm = Gemm::new((m, n, k), Lhs::Plain(Strided::rows(&a, k)), b);
                    gemm.run(isa, &mut c, n).unwrap();
                    assert!(c.iter().all(|c| c.is_nan()), "{}", isa.name());
                }
            }
        }
    }
}

#[test]
fn no_steps_give_what_the_epilogue_gives() {
    let bias: Vec<f32> = (0..40).map(|i| i as f32 - 20.0).collect();
    for isa in Isa::available() {
        for m in [2, 20] {
            let none = Strided::rows(&[], 0);
            let mut gemm = Gemm::new((m, 40, 0), Lhs::Plain(none), Rhs::Plain(none));
            gemm.epilogue = Epilogue {
                bias: Some(Bias::Row(&bias)),
                activation: Activation::Relu,
                ..Epilogue::default()
            };
            let mut c = vec![9.0; m * 40];
            gemm.run(isa, &mut c, 40).unwrap();
            for row in c.chunks(40) {
                assert!(row.iter().zip(&bias).all(|(c, b)| *c == b.max(0.0)));
            }
        }
    }
}

#[test]
fn weights_pack_alike_from_bytes_halves_and_floats() {
    let mut r = Random(4);
    for (rows, cols) in [(1, 1), (17, 70), (70, 17), (100, 33), (5, 300)] {
        let x: Vec<f32> =
            r.floats(rows * cols).iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
        let mut bytes = vec![7u8];
        bytes.extend(x.iter().flat_map(|x| x.to_le_bytes()));
        let turned = Strided::rows(&x, rows).transposed();
        for isa in Isa::available() {
            let size = (rows, cols);
            let same = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug, what: &str| {
                assert_eq!(format!("{a:?}"), format!("{b:?}"), "{what} {size:?} {}", isa.name());
            };
            for (layout, src) in
                [(Layout::RowMajor, Strided::rows(&x, cols)), (Layout::Transposed, turned)]
            {
                let a = PackedA::pack(isa, rows, cols, src).unwrap();
                let a2 = PackedA::from_le_bytes(isa, size, layout, &bytes[1..]).unwrap();
                same(&a.elements(), &a2.elements(), "left");
                let b = PackedB::pack(isa, rows, cols, src).unwrap();
                let b2 = PackedB::from_le_bytes(isa, size, layout, &bytes[1..]).unwrap();
                same(&b.elements(), &b2.elements(), "right");
                let stride = if layout == Layout::RowMajor { cols } else { rows };
                let b3 = PackedB::from_rows(isa, size, layout, |row, range, dst| {
                    for (d, j) in dst.iter_mut().zip(range) {
                        *d = half::bf16::from_f32(x[row * stride + j]).to_f32();
                    }
                });
                same(&b.elements(), &b3.unwrap().elements(), "halves");
            }
        }
    }
}

#[test]
fn a_batch_is_its_products() {
    let mut r = Random(5);
    let (m, n, k, count) = (9, 20, 11, 6);
    let (a, b) = (r.floats(m * k * 2), r.floats(k * n * 3));
    let offsets = |i: usize| (i / 3 * m * k, i % 3 * k * n);
    for isa in Isa::available() {
        let gemm = |a: &[f32], b: &[f32], c: &mut [f32], count: usize| {
            let (a, b) = (Strided::rows(a, k), Strided::rows(b, n));
            let gemm = Gemm::new((m, n, k), Lhs::Plain(a), Rhs::Plain(b));
            match count {
                1 => gemm.run(isa, c, n).unwrap(),
                _ => gemm.run_batch(isa, count, offsets, c, (n, m * n)).unwrap(),
            }
        };
        let mut all = vec![0.0; count * m * n];
        Pool::new(2).unwrap().install(|| gemm(&a, &b, &mut all, count));
        for (i, got) in all.chunks(m * n).enumerate() {
            let mut one = vec![0.0; m * n];
            gemm(&a[offsets(i).0..], &b[offsets(i).1..], &mut one, 1);
            assert_eq!(got, one);
        }
    }
}

#[test]
fn integers_wrap_and_doubles_add_up() {
    let mut r = Random(6);
    let (m, n, k) = (5, 1030, 7);
    let a: Vec<i32> = (0..m * k).map(|_| r.next() as i32).collect();
    let b: Vec<i32> = (0..k * n).map(|_| r.next() as i32).collect();
    let want: Vec<i32> = (0..m * n)
        .map(|at| {
            let (i, j) = (at / n, at % n);
            (0..k).fold(0i32, |y, p| y.wrapping_add(a[i * k + p].wrapping_mul(b[p * n + j])))
        })
        .collect();
    let turned: Vec<i32> = (0..n * k).map(|i| b[i % k * n + i / k]).collect();
    for isa in Isa::available() {
        for (b, strides) in [(&b, (n, 1)), (&turned, (1, k))] {
            let mut c = vec![3; m * n];
            let size = (m, n, k);
            gemm_generic(isa, size, (&a, (k, 1)), (b, strides), Write::Set, &mut c).unwrap();
            assert_eq!(c, want);
            gemm_generic(isa, size, (&a, (k, 1)), (b, strides), Write::Add, &mut c).unwrap();
            assert!(c.iter().zip(&want).all(|(c, w)| *c == w.wrapping_mul(2)));
        }
        let mut y = [0.0f64];
        let (a, b) = ([0.5, 2.0], [3.0, 0.25]);
        gemm_generic(isa, (1, 1, 2), (&a, (2, 1)), (&b, (1, 1)), Write::Set, &mut y).unwrap();
        assert_eq!(y, [2.0]);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let isa = Isa::best();
    let x = vec![0.0; 100];
    let gemm = Gemm::new(
        (10, 10, 10),
        Lhs::Plain(Strided::rows(&x, 10)),
        Rhs::Plain(Strided::rows(&x, 11)),
    );
    let mut c = vec![0.0; 100];
    assert!(gemm.run(isa, &mut c, 10).unwrap_err().contains("right operand of 10 x 10"));
    let gemm = Gemm::new(
        (10, 10, 10),
        Lhs::Plain(Strided::rows(&x, 10)),
        Rhs::Plain(Strided::rows(&x, 10)),
    );
    assert!(gemm.run(isa, &mut c[..99], 10).unwrap_err().contains("the result"));
    assert!(gemm.run(isa, &mut c, 9).unwrap_err().contains("stride of 9"));
    let packed = PackedB::pack(isa, 5, 20, Strided::rows(&x, 20)).unwrap();
    let gemm = Gemm { b: Rhs::Packed(&packed), ..gemm };
    assert!(gemm.run(isa, &mut c, 10).unwrap_err().contains("5 x 20 is used as 10 x 10"));
    let scalar = Isa::named("scalar").unwrap();
    let packed = PackedB::pack(scalar, 10, 10, Strided::rows(&x, 10)).unwrap();
    let gemm = Gemm { b: Rhs::Packed(&packed), ..gemm };
    assert!(isa.name() == "scalar" || gemm.run(isa, &mut c, 10).is_err());
    assert!(PackedB::from_le_bytes(isa, (2, 2), Layout::RowMajor, &[0; 15]).is_err());
}
