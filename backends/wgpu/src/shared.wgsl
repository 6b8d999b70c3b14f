// Functions that kernels share. A kernel gets those that it calls; a blank line ends each.

// The bits of the nearest f16, ties to even.
fn half_bits(v: f32) -> u32 {
  let b = bitcast<u32>(v);
  let sign = (b >> 16u) & 0x8000u;
  let a = b & 0x7fffffffu;
  if (a > 0x7f800000u) { return sign | 0x7e00u; }
  if (a >= 0x47800000u) { return sign | 0x7c00u; }
  if (a < 0x33000000u) { return sign; }
  if (a < 0x38800000u) {
    let m = (a & 0x7fffffu) | 0x800000u;
    let shift = 126u - (a >> 23u);
    let q = m >> shift;
    let rest = m & ((1u << shift) - 1u);
    let tie = 1u << (shift - 1u);
    return sign | (q + select(0u, 1u, rest > tie || (rest == tie && (q & 1u) == 1u)));
  }
  let rounded = a + 0xfffu + ((a >> 13u) & 1u);
  return sign | ((rounded - 0x38000000u) >> 13u);
}

fn bfloat_bits(v: f32) -> u32 {
  let b = bitcast<u32>(v);
  if ((b & 0x7fffffffu) > 0x7f800000u) { return (b >> 16u) | 0x40u; }
  return (b + 0x7fffu + ((b >> 16u) & 1u)) >> 16u;
}

fn rounded_half(v: f32) -> f32 {
  return unpack2x16float(half_bits(v)).x;
}

fn rounded_bfloat(v: f32) -> f32 {
  return bitcast<f32>(bfloat_bits(v) << 16u);
}

// a / b rounded to nearest: what a GPU divides may be a few units off. The rest a - q·b is exact,
// for both factors are split into halves of 12 bits, whose products are: fused or not, its sums
// come out the same.
fn quotient(a: f32, b: f32) -> f32 {
  let q = a / b;
  let q_high = bitcast<f32>(bitcast<u32>(q) & 0xfffff000u);
  let q_low = q - q_high;
  let b_high = bitcast<f32>(bitcast<u32>(b) & 0xfffff000u);
  let b_low = b - b_high;
  let rest = (((a - q_high * b_high) - q_high * b_low) - q_low * b_high) - q_low * b_low;
  let better = q + rest / b;
  return select(q, better, abs(better - q) < abs(q) * 1e-5);
}

fn is_nan(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_inf(x: f32) -> bool {
  return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

// WGSL has no literal for it.
fn infinity() -> f32 {
  var b = 0x7f800000u;
  return bitcast<f32>(b);
}

fn max_f(a: f32, b: f32) -> f32 {
  return select(b, a, a >= b || is_nan(a));
}

fn min_f(a: f32, b: f32) -> f32 {
  return select(b, a, a <= b || is_nan(a));
}

// Polynomials as in the CPU's error function.
fn erf(x: f32) -> f32 {
  let t = min(abs(x), 4.0);
  if (t < 1.0) {
    let s = x * x;
    var r = fma(7.806903e-5, s, -7.997853e-4);
    r = fma(r, s, 5.187162e-3);
    r = fma(r, s, -2.6853347e-2);
    r = fma(r, s, 1.1283577e-1);
    r = fma(r, s, -3.7612626e-1);
    r = fma(r, s, 1.2837917e-1);
    return fma(r, x, x);
  }
  var q = fma(-2.101866e-4, t, 3.1831465e-3);
  q = fma(q, t, -2.2786153e-2);
  q = fma(q, t, 1.05096735e-1);
  q = fma(q, t, 6.358464e-1);
  q = fma(q, t, 1.2847558e-1);
  let y = 1.0 - exp(-fma(q, t, t));
  return select(y, -y, x < 0.0);
}

fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + erf(x * 0.70710678));
}

fn gelu_tanh(x: f32) -> f32 {
  return x * sigmoid(x * fma(x * x, 0.07135481, 1.5957691));
}

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-x));
}

// e^x - 1 without cancellation near 0.
fn expm1(x: f32) -> f32 {
  if (abs(x) < 0.3) {
    var r = fma(x, 1.0 / 5040.0, 1.0 / 720.0);
    r = fma(r, x, 1.0 / 120.0);
    r = fma(r, x, 1.0 / 24.0);
    r = fma(r, x, 1.0 / 6.0);
    r = fma(r, x, 0.5);
    r = fma(r, x, 1.0);
    return r * x;
  }
  return exp(x) - 1.0;
}

// log(1 + x), near 0 by its series.
fn log1p(x: f32) -> f32 {
  if (abs(x) < 0.03) {
    return x * fma(x, fma(x, fma(x, fma(x, 0.2, -0.25), 1.0 / 3.0), -0.5), 1.0);
  }
  return log(1.0 + x);
}

// Near 0 the series, for 1 - e^-2x cancels there; far out 1, for e^2x overflows.
fn tanh_f(x: f32) -> f32 {
  let a = abs(x);
  if (a < 0.1) {
    let s = x * x;
    var r = fma(s, -17.0 / 315.0, 2.0 / 15.0);
    r = fma(r, s, -1.0 / 3.0);
    return fma(r * s, x, x);
  }
  let e = exp(-2.0 * a);
  let y = (1.0 - e) / (1.0 + e);
  return select(y, -y, x < 0.0);
}

fn sinh_f(x: f32) -> f32 {
  let e = expm1(abs(x));
  let y = 0.5 * (e + e / (e + 1.0));
  return select(select(y, -y, x < 0.0), x, is_inf(x));
}

fn cosh_f(x: f32) -> f32 {
  let e = exp(abs(x));
  return 0.5 * (e + 1.0 / e);
}

fn atan_f(x: f32) -> f32 {
  let a = abs(x);
  let big = a > 1.0;
  let mid = !big && a > 0.41421356;
  let far = a > 2.4142136;
  var t = a;
  var base = 0.0;
  if (far) {
    t = -1.0 / a;
    base = 1.5707964;
  } else if (big || mid) {
    t = (a - 1.0) / (a + 1.0);
    base = 0.7853982;
  }
  let s = t * t;
  var r = fma(s, 8.05374449538e-2, -1.38776856032e-1);
  r = fma(r, s, 1.99777106478e-1);
  r = fma(r, s, -3.33329491539e-1);
  let y = base + fma(r * s, t, t);
  return select(y, -y, x < 0.0);
}

fn asin_f(x: f32) -> f32 {
  let a = abs(x);
  let big = a > 0.5;
  let z = select(a * a, 0.5 * (1.0 - a), big);
  let t = select(a, sqrt(max(z, 0.0)), big);
  var r = fma(z, 4.2163199048e-2, 2.4181311049e-2);
  r = fma(r, z, 4.5470025998e-2);
  r = fma(r, z, 7.4953002686e-2);
  r = fma(r, z, 1.6666752422e-1);
  let near = fma(r * z, t, t);
  let y = select(near, 1.5707964 - 2.0 * near, big);
  if (a > 1.0) { return sqrt(1.0 - a); }
  return select(y, -y, x < 0.0);
}

fn acos_f(x: f32) -> f32 {
  if (x > 0.5) { return 2.0 * asin_f(sqrt(0.5 * (1.0 - x))); }
  return 1.5707964 - asin_f(x);
}

fn asinh_f(x: f32) -> f32 {
  let a = abs(x);
  let s = a * a;
  let y = select(log(a + sqrt(s + 1.0)), log1p(a + s / (1.0 + sqrt(s + 1.0))), a < 1.0);
  return select(y, -y, x < 0.0);
}

fn acosh_f(x: f32) -> f32 {
  let t = x - 1.0;
  return log1p(t + sqrt(t * t + 2.0 * t));
}

fn atanh_f(x: f32) -> f32 {
  let a = abs(x);
  let y = 0.5 * log1p(2.0 * a / (1.0 - a));
  return select(y, -y, x < 0.0);
}

fn softplus(x: f32) -> f32 {
  return max_f(x, 0.0) + log1p(exp(-abs(x)));
}

fn sign_f(x: f32) -> f32 {
  return select(select(select(x, -1.0, x < 0.0), 1.0, x > 0.0), x, is_nan(x));
}

fn shrink(x: f32, bias: f32, lambd: f32) -> f32 {
  return select(select(0.0, x - bias, x > lambd), x + bias, x < -lambd);
}

// WGSL leaves pow of a negative number open.
fn pow_f(a: f32, b: f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (b == 1.0) { return a; }
  if (b == 2.0) { return a * a; }
  if (a == 0.0 && b < 0.0) { return infinity(); }
  let y = pow(abs(a), b);
  if (a >= 0.0) { return y; }
  if (floor(b) != b) { return (a - a) / (a - a); }
  let odd = floor(b * 0.5) * 2.0 != b;
  return select(y, -y, odd);
}

// Exact: b times a power of two is taken away as often as it goes, the largest first.
fn rem_f(a: f32, b: f32) -> f32 {
  if (is_nan(a) || is_nan(b) || is_inf(a) || b == 0.0) { return infinity() - infinity(); }
  if (is_inf(b)) { return a; }
  let y = abs(b);
  let y_bits = bitcast<u32>(y);
  if (y_bits < 0x800000u) { return a - b * trunc(a / b); }
  var r = abs(a);
  while (r >= y) {
    let t = bitcast<f32>((bitcast<u32>(r) & 0x7f800000u) | (y_bits & 0x7fffffu));
    r -= select(t, 0.5 * t, t > r);
  }
  return bitcast<f32>(bitcast<u32>(r) | (bitcast<u32>(a) & 0x80000000u));
}

// Zero takes the sign of b.
fn mod_f(a: f32, b: f32) -> f32 {
  let rest = rem_f(a, b);
  if (rest == 0.0) { return bitcast<f32>(bitcast<u32>(b) & 0x80000000u); }
  return select(rest + b, rest, is_nan(rest) || (rest < 0.0) == (b < 0.0));
}

fn mod_i(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  let rest = a % b;
  return select(rest + b, rest, rest == 0 || (rest < 0) == (b < 0));
}

fn rem_i(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  return a % b;
}

fn div_i(a: i32, b: i32) -> i32 {
  if (b == 0) { return 0; }
  return a / b;
}

fn rem_u(a: u32, b: u32) -> u32 {
  if (b == 0u) { return 0u; }
  return a % b;
}

fn div_u(a: u32, b: u32) -> u32 {
  if (b == 0u) { return 0u; }
  return a / b;
}

fn pow_i(a: i32, b: i32) -> i32 {
  if (b < 0) { return select(select(0, select(1, -1, (b & 1) == 1), a == -1), 1, a == 1); }
  return bitcast<i32>(pow_u(bitcast<u32>(a), bitcast<u32>(b)));
}

fn pow_u(a: u32, b: u32) -> u32 {
  var y = 1u;
  var x = a;
  var n = b;
  while (n > 0u) {
    if ((n & 1u) == 1u) { y *= x; }
    x *= x;
    n >>= 1u;
  }
  return y;
}

fn shift_left(a: u32, b: u32) -> u32 {
  return select(a << (b & 31u), 0u, b > 31u);
}

fn shift_right(a: u32, b: u32) -> u32 {
  return select(a >> (b & 31u), 0u, b > 31u);
}

// Left by less than the width of the dtype, else 0.
fn int_left(a: i32, b: i32, width: i32) -> i32 {
  return select(0, a << (u32(b) & 31u), b >= 0 && b < width);
}

// Right by less than the width of the dtype, else the sign alone.
fn int_right(a: i32, b: i32, width: i32) -> i32 {
  return a >> select(31u, u32(b) & 31u, b >= 0 && b < width);
}

fn wide_left(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (b.y != 0u || b.x > 63u) { return vec2<u32>(); }
  if (b.x > 31u) { return vec2<u32>(0u, a.x << (b.x - 32u)); }
  if (b.x == 0u) { return a; }
  return vec2<u32>(a.x << b.x, (a.y << b.x) | (a.x >> (32u - b.x)));
}

fn wide_right_u(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (b.y != 0u || b.x > 63u) { return vec2<u32>(); }
  if (b.x > 31u) { return vec2<u32>(a.y >> (b.x - 32u), 0u); }
  if (b.x == 0u) { return a; }
  return vec2<u32>((a.x >> b.x) | (a.y << (32u - b.x)), a.y >> b.x);
}

fn wide_right(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (!wide_negative(a)) { return wide_right_u(a, b); }
  return ~wide_right_u(~a, b);
}

// Quotient and rest, bit by bit; both 0 for b = 0.
fn wide_divided(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
  if (all(b == vec2<u32>())) { return vec4<u32>(); }
  if (a.y == 0u && b.y == 0u) { return vec4<u32>(a.x / b.x, 0u, a.x % b.x, 0u); }
  var q = vec2<u32>();
  var r = vec2<u32>();
  for (var k = 0u; k < 64u; k += 1u) {
    let at = 63u - k;
    let bit = (select(a.x, a.y, at > 31u) >> (at & 31u)) & 1u;
    let carry = r.y >> 31u;
    r = vec2<u32>((r.x << 1u) | bit, (r.y << 1u) | (r.x >> 31u));
    let goes = carry == 1u || !wide_less_u(r, b);
    r = select(r, wide_sub(r, b), goes);
    q = vec2<u32>((q.x << 1u) | select(0u, 1u, goes), (q.y << 1u) | (q.x >> 31u));
  }
  return vec4<u32>(q, r);
}

fn wide_div_u(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return wide_divided(a, b).xy;
}

fn wide_rem_u(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return wide_divided(a, b).zw;
}

// Towards zero.
fn wide_div(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let q = wide_div_u(wide_abs(a), wide_abs(b));
  return select(q, wide_neg(q), wide_negative(a) != wide_negative(b));
}

fn wide_rem(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let r = wide_rem_u(wide_abs(a), wide_abs(b));
  return select(r, wide_neg(r), wide_negative(a));
}

fn wide_mod(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let r = wide_rem(a, b);
  let same = all(r == vec2<u32>()) || wide_negative(r) == wide_negative(b);
  return select(wide_add(r, b), r, same);
}

fn wide_pow_u(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  var y = vec2<u32>(1u, 0u);
  var x = a;
  var n = b;
  while (any(n != vec2<u32>())) {
    if ((n.x & 1u) == 1u) { y = wide_mul(y, x); }
    x = wide_mul(x, x);
    n = vec2<u32>((n.x >> 1u) | (n.y << 31u), n.y >> 1u);
  }
  return y;
}

fn wide_pow(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  if (!wide_negative(b)) { return wide_pow_u(a, b); }
  let odd = (b.x & 1u) == 1u;
  if (all(a == vec2<u32>(1u, 0u))) { return a; }
  if (all(a == vec2<u32>(0xffffffffu, 0xffffffffu))) {
    return select(vec2<u32>(1u, 0u), a, odd);
  }
  return vec2<u32>();
}

fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let lo = a.x + b.x;
  return vec2<u32>(lo, a.y + b.y + select(0u, 1u, lo < a.x));
}

fn wide_neg(a: vec2<u32>) -> vec2<u32> {
  return wide_add(vec2<u32>(~a.x, ~a.y), vec2<u32>(1u, 0u));
}

fn wide_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn wide_mul(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = word_mul(a.x, b.x);
  return vec2<u32>(low.x, low.y + a.x * b.y + a.y * b.x);
}

fn word_mul(a: u32, b: u32) -> vec2<u32> {
  let a0 = a & 0xffffu;
  let a1 = a >> 16u;
  let b0 = b & 0xffffu;
  let b1 = b >> 16u;
  let low = a0 * b0;
  let mid = a1 * b0 + (low >> 16u);
  let mid2 = a0 * b1 + (mid & 0xffffu);
  return vec2<u32>((mid2 << 16u) | (low & 0xffffu), a1 * b1 + (mid >> 16u) + (mid2 >> 16u));
}

fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
  let ah = bitcast<i32>(a.y);
  let bh = bitcast<i32>(b.y);
  return ah < bh || (ah == bh && a.x < b.x);
}

fn wide_less_u(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn wide_negative(a: vec2<u32>) -> bool {
  return (a.y >> 31u) == 1u;
}

fn wide_abs(a: vec2<u32>) -> vec2<u32> {
  return select(a, wide_neg(a), wide_negative(a));
}

fn wide_from_i(a: i32) -> vec2<u32> {
  return vec2<u32>(bitcast<u32>(a), select(0u, 0xffffffffu, a < 0));
}

// Rounded once: the bits below the top word only say whether there are any.
fn float_from_wide_u(a: vec2<u32>) -> f32 {
  if (a.y == 0u) { return f32(a.x); }
  let zeros = countLeadingZeros(a.y);
  var top = a.y;
  var rest = a.x;
  if (zeros > 0u) {
    top = (a.y << zeros) | (a.x >> (32u - zeros));
    rest = a.x << zeros;
  }
  return ldexp(f32(top | select(0u, 1u, rest != 0u)), i32(32u - zeros));
}

fn float_from_wide(a: vec2<u32>) -> f32 {
  let y = float_from_wide_u(wide_abs(a));
  return select(y, -y, wide_negative(a));
}

// Towards zero, saturated, 0 for no number: as `as` does it in Rust.
fn wide_u_from_float(x: f32) -> vec2<u32> {
  if (!(x >= 1.0)) { return vec2<u32>(0u, 0u); }
  if (x >= 18446744073709551616.0) { return vec2<u32>(0xffffffffu, 0xffffffffu); }
  let b = bitcast<u32>(x);
  let m = (b & 0x7fffffu) | 0x800000u;
  let e = i32(b >> 23u) - 150;
  if (e <= 0) { return vec2<u32>(m >> u32(-e), 0u); }
  if (e >= 32) { return vec2<u32>(0u, m << u32(e - 32)); }
  return vec2<u32>(m << u32(e), m >> u32(32 - e));
}

fn wide_from_float(x: f32) -> vec2<u32> {
  if (x >= 9223372036854775808.0) { return vec2<u32>(0xffffffffu, 0x7fffffffu); }
  if (x <= -9223372036854775808.0) { return vec2<u32>(0u, 0x80000000u); }
  let y = wide_u_from_float(abs(x));
  return select(y, wide_neg(y), x < 0.0);
}

fn int_from_float(x: f32) -> i32 {
  if (is_nan(x)) { return 0; }
  if (x >= 2147483648.0) { return 2147483647; }
  if (x <= -2147483648.0) { return bitcast<i32>(0x80000000u); }
  return i32(x);
}

fn uint_from_float(x: f32) -> u32 {
  if (!(x >= 1.0)) { return 0u; }
  if (x >= 4294967296.0) { return 0xffffffffu; }
  return u32(x);
}

// An index along an axis of size n, negative ones from the end; n if it is out of range.
fn place_wide(v: vec2<u32>, n: u32) -> u32 {
  if (v.y == 0u) { return min(v.x, n); }
  if (v.y == 0xffffffffu && v.x + n < n) { return v.x + n; }
  return n;
}

fn place_int(v: i32, n: u32) -> u32 {
  return place_wide(wide_from_i(v), n);
}

