//! Every vector operation of every instruction set means what plain Rust means.

use super::*;
use crate::simd_fn;

const ODD: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.7,
    -3.7,
    1e-40,
    -1e-40,
    1e30,
    -1e30,
    8388609.0,
    65504.0,
    65519.9,
    65520.0,
    6.1e-5,
    5.9e-8,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

fn same(isa: Isa, what: &str, got: f32, want: f32) {
    let equal = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
    assert!(equal, "{} {what}: {got:?} is not {want:?}", isa.name());
}

/// Runs an operation over all pairs of odd values, lane by lane.
macro_rules! check {
    ($($name:ident($s:ident, $a:ident, $b:ident) = $e:expr, $want:expr;)*) => {
        $(#[test]
        fn $name() {
            simd_fn! {
                fn vectors(s: S, a: &[f32], b: &[f32], y: &mut [f32]) {
                    let mut i = 0;
                    while i < a.len() {
                        let ($s, $a, $b) = (s, s.load_partial(&a[i..], 9.0), s.load(&b[i..]));
                        let _ = ($s, $b);
                        F32s::<S>::store_partial($e, &mut y[i..]);
                        i += S::LANES;
                    }
                }
            }
            let (mut a, mut b) = (vec![], vec![]);
            for x in ODD {
                for y in ODD {
                    a.push(x);
                    b.push(y);
                }
            }
            for isa in Isa::available() {
                let mut y = vec![0.0; a.len()];
                vectors(isa, &a, &b, &mut y);
                for i in 0..a.len() {
                    let ($a, $b) = (a[i], b[i]);
                    let _ = $b;
                    same(isa, &format!("({}, {})", a[i], b[i]), y[i], $want);
                }
            }
        })*
    };
}

check! {
    add(s, a, b) = a + b, a + b;
    sub(s, a, b) = a - b, a - b;
    mul(s, a, b) = a * b, a * b;
    div(s, a, b) = a / b, a / b;
    neg(s, a, b) = -a, -a;
    max_takes_the_second_of_nan(s, a, b) = a.max(b), if a > b { a } else { b };
    min_takes_the_second_of_nan(s, a, b) = a.min(b), if a < b { a } else { b };
    max_nan(s, a, b) = s.max_nan(a, b),
        if a.is_nan() || a > b { a } else { b };
    min_nan(s, a, b) = s.min_nan(a, b),
        if a.is_nan() || a < b { a } else { b };
    abs(s, a, b) = a.abs(), a.abs();
    sqrt(s, a, b) = a.sqrt(), a.sqrt();
    floor(s, a, b) = a.floor(), a.floor();
    ceil(s, a, b) = a.ceil(), a.ceil();
    trunc(s, a, b) = a.trunc(), a.trunc();
    round_even(s, a, b) = a.round_even(), a.round_ties_even();
    copysign(s, a, b) = s.copysign(a, b), a.copysign(b);
    lt(s, a, b) = a.lt(b).select(a, b), if a < b { a } else { b };
    le(s, a, b) = a.le(b).select(a, b), if a <= b { a } else { b };
    eq(s, a, b) = a.eq(b).select(a, b), if a == b { a } else { b };
    gt(s, a, b) = a.gt(b).select(a, b), if a > b { a } else { b };
    ge(s, a, b) = a.ge(b).select(a, b), if a >= b { a } else { b };
    is_nan(s, a, b) = a.is_nan().select(s.splat(1.0), s.splat(0.0)),
        if a.is_nan() { 1.0 } else { 0.0 };
    masks(s, a, b) = ((a.lt(b) | !b.eq(a)) & (a.eq(a) ^ b.eq(b))).select(a, b),
        if (a < b || b != a) & (a.is_nan() ^ b.is_nan()) { a } else { b };
    integer_bits(s, a, b) = ((a.bits() & b.bits()) | (a.bits() ^ !b.bits())).as_f32(),
        f32::from_bits((a.to_bits() & b.to_bits()) | (a.to_bits() ^ !b.to_bits()));
    integer_sums(s, a, b) = (a.bits() + b.bits() * a.bits() - s.splat_i32(3)).to_f32(),
        (a.to_bits().wrapping_add(b.to_bits().wrapping_mul(a.to_bits())) as i32)
            .wrapping_sub(3) as f32;
    integer_shifts(s, a, b) =
        (a.bits().shl::<3>() ^ a.bits().shr::<7>() ^ a.bits().sar::<9>()).to_f32(),
        ((a.to_bits() << 3 ^ a.to_bits() >> 7) as i32 ^ a.to_bits() as i32 >> 9) as f32;
    integer_order(s, a, b) = a.bits().max(b.bits()).min(s.splat_i32(77 << 20)).to_f32(),
        (a.to_bits() as i32).max(b.to_bits() as i32).min(77 << 20) as f32;
    integer_select(s, a, b) = a.bits().gt(b.bits()).select_i32(a.bits(), s.iota() * s.splat_i32(0))
        .as_f32(), f32::from_bits(if (a.to_bits() as i32) > b.to_bits() as i32 { a.to_bits() }
        else { 0 });
    integer_eq(s, a, b) = a.bits().eq(b.bits()).select(-a, b),
        if a.to_bits() == b.to_bits() { -a } else { b };
}

simd_fn! {
    fn rounded(s: S, x: &[f32], nearest: &mut [i32], down: &mut [i32]) {
        let mut i = 0;
        while i + S::LANES <= x.len() {
            s.load(&x[i..]).round_i32().store(&mut nearest[i..]);
            s.load(&x[i..]).trunc_i32().store(&mut down[i..]);
            i += S::LANES;
        }
    }
}

#[test]
fn integers_round_to_even_or_towards_zero() {
    let x: Vec<f32> = (-40..40).map(|i| i as f32 * 0.25).collect();
    for isa in Isa::available() {
        let (mut nearest, mut down) = (vec![0; 80], vec![0; 80]);
        rounded(isa, &x, &mut nearest, &mut down);
        for i in 0..80 {
            assert_eq!(nearest[i], x[i].round_ties_even() as i32, "{} {}", isa.name(), x[i]);
            assert_eq!(down[i], x[i] as i32, "{} {}", isa.name(), x[i]);
        }
    }
}

simd_fn! {
    fn through_halves(s: S, x: &[f32], y: &mut [f16], z: &mut [bf16]) {
        let mut i = 0;
        while i + S::LANES <= x.len() {
            s.store_f16(s.load(&x[i..]), &mut y[i..]);
            s.store_bf16(s.load(&x[i..]), &mut z[i..]);
            i += S::LANES;
        }
    }
}

simd_fn! {
    fn from_halves(s: S, x: &[u16], y: &mut [f32], z: &mut [f32]) {
        let mut i = 0;
        while i + S::LANES <= x.len() {
            s.load_f16(bytemuck::cast_slice(&x[i..])).store(&mut y[i..]);
            s.load_bf16(bytemuck::cast_slice(&x[i..])).store(&mut z[i..]);
            i += S::LANES;
        }
    }
}

#[test]
fn every_half_widens_exactly() {
    let x: Vec<u16> = (0..=u16::MAX).collect();
    for isa in Isa::available() {
        let (mut y, mut z) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        from_halves(isa, &x, &mut y, &mut z);
        for i in 0..x.len() {
            same(isa, "f16", y[i], f16::from_bits(x[i]).to_f32());
            same(isa, "bf16", z[i], bf16::from_bits(x[i]).to_f32());
        }
    }
}

#[test]
fn floats_round_to_the_nearest_half() {
    // Every f16 and the floats just about the middle between two of them, then bit patterns.
    let mut x: Vec<f32> = vec![];
    for bits in 0..0x7c01u16 {
        let (a, b) = (f16::from_bits(bits).to_f32(), f16::from_bits(bits + 1).to_f32());
        let mid = if b.is_finite() { (a + b) * 0.5 } else { 65520.0 };
        x.extend([a, -a, mid, -mid, mid.next_up(), mid.next_down()]);
    }
    x.extend((0..80_000u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b1))));
    x.resize(x.len().next_multiple_of(16), 1.0);
    for isa in Isa::available() {
        let (mut y, mut z) = (vec![f16::ZERO; x.len()], vec![bf16::ZERO; x.len()]);
        through_halves(isa, &x, &mut y, &mut z);
        for i in 0..x.len() {
            same(isa, "f16", y[i].to_f32(), f16::from_f32(x[i]).to_f32());
            same(isa, "bf16", z[i].to_f32(), bf16::from_f32(x[i]).to_f32());
        }
    }
}

simd_fn! {
    fn reduced(s: S, x: &[f32]) -> (f32, f32, f32, i32) {
        let v = s.load_partial(x, 1.0);
        (v.reduce_add(), v.reduce_max(), v.reduce_min(), v.trunc_i32().reduce_add())
    }
}

#[test]
fn partial_loads_fill_and_reductions_see_every_lane() {
    for isa in Isa::available() {
        for n in 0..=20 {
            let x: Vec<f32> = (0..n).map(|i| [3.0, -7.0, 12.0, 5.0, -2.0][i % 5]).collect();
            let mut lanes = x.clone();
            lanes.resize(isa.lanes(), 1.0);
            let (sum, max, min, int) = reduced(isa, &x);
            assert_eq!((sum, int), (lanes.iter().sum(), sum as i32), "{} {n}", isa.name());
            assert_eq!(max, lanes.iter().copied().fold(f32::MIN, f32::max));
            assert_eq!(min, lanes.iter().copied().fold(f32::MAX, f32::min));
        }
        for at in 0..isa.lanes() {
            let mut x = [1.0; MAX_LANES];
            x[at] = f32::NAN;
            let (sum, max, min, _) = reduced(isa, &x);
            assert!(sum.is_nan() && max.is_nan() && min.is_nan(), "{}", isa.name());
        }
    }
}

simd_fn! {
    fn store_some(s: S, y: &mut [f32]) -> u32 {
        let n = y.len();
        s.splat(5.0).store_partial(y);
        s.first(n).to_bits()
    }
}

#[test]
fn partial_stores_write_no_further() {
    for isa in Isa::available() {
        for n in 0..=20 {
            let mut y = [0.0; 24];
            let bits = store_some(isa, &mut y[..n]);
            let k = n.min(isa.lanes());
            assert!(y[..k].iter().all(|&v| v == 5.0) && y[k..].iter().all(|&v| v == 0.0));
            assert_eq!(bits, ((1u64 << k) - 1) as u32);
        }
    }
}

simd_fn! {
    fn bytes_back(s: S, x: &[u8], y: &mut [u8]) -> i32 {
        let wide = s.load_u8(x);
        (wide + s.splat_i32(0x7f00)).store_u8(y);
        wide.reduce_add()
    }
}

#[test]
fn bytes_are_widened_and_their_low_bits_written() {
    for isa in Isa::available() {
        let x: Vec<u8> = (0..20).map(|i| (i * 91 + 200) as u8).collect();
        let mut y = [7u8; 20];
        let sum = bytes_back(isa, &x, &mut y);
        let (lanes, all) = (isa.lanes(), &x[..isa.lanes()]);
        assert_eq!(sum, all.iter().map(|&x| i32::from(x)).sum());
        assert!(y[..lanes] == *all && y[lanes..].iter().all(|&y| y == 7), "{}", isa.name());
    }
}

#[test]
fn a_wrong_name_is_an_error() {
    assert!(Isa::named("mmx").unwrap_err().contains("mmx"));
    assert_eq!(Isa::named("scalar").unwrap().name(), "scalar");
}

simd_fn! {
    fn transposed(s: S, x: &[f32], y: &mut [f32]) {
        let mut block = [s.zero(); MAX_LANES];
        for i in 0..S::LANES {
            block[i] = s.load(&x[i * S::LANES..]);
        }
        s.transpose(&mut block);
        for i in 0..S::LANES {
            block[i].store(&mut y[i * S::LANES..]);
        }
    }
}

#[test]
fn transpose_turns_rows_into_columns() {
    for isa in Isa::available() {
        let n = isa.lanes();
        let x: Vec<f32> = (0..n * n).map(|i| i as f32).collect();
        let mut y = vec![0.0; n * n];
        transposed(isa, &x, &mut y);
        for i in 0..n * n {
            assert_eq!(y[i], x[i % n * n + i / n], "{} {i}", isa.name());
        }
    }
}

simd_fn! {
    fn zipped(s: S, x: &[f32], y: &mut [f32]) {
        let (a, b) = s.zip(s.load(x), s.load(&x[S::LANES..]));
        a.store(y);
        b.store(&mut y[S::LANES..]);
        let (a, b) = s.unzip(a, b);
        a.store(&mut y[2 * S::LANES..]);
        b.store(&mut y[3 * S::LANES..]);
    }
}

#[test]
fn zip_takes_lanes_in_turn_and_unzip_puts_them_back() {
    for isa in Isa::available() {
        let n = isa.lanes();
        let x: Vec<f32> = (0..2 * n).map(|i| i as f32).collect();
        let mut y = vec![0.0; 4 * n];
        zipped(isa, &x, &mut y);
        let in_turn: Vec<f32> = (0..2 * n).map(|i| x[i % 2 * n + i / 2]).collect();
        assert_eq!(y[..2 * n], in_turn, "{}", isa.name());
        assert_eq!(y[2 * n..], x, "{}", isa.name());
    }
}

simd_fn! {
    fn scaled(s: S, x: f32, n: &[f32], y: &mut [f32]) {
        let mut i = 0;
        while i < n.len() {
            s.scale(s.splat(x), s.load_partial(&n[i..], 0.0)).store_partial(&mut y[i..]);
            i += S::LANES;
        }
    }
}

#[test]
fn scale_reaches_subnormals_and_infinity() {
    let n: Vec<f32> = (-250..=250).map(|n| n as f32).collect();
    for isa in Isa::available() {
        for x in [1.0, -1.7, 1e-3, f32::NAN, f32::INFINITY] {
            let mut y = vec![0.0; n.len()];
            scaled(isa, x, &n, &mut y);
            for (y, n) in y.iter().zip(&n) {
                same(isa, "scaled", *y, (f64::from(x) * f64::from(*n).exp2()) as f32);
            }
        }
    }
}
