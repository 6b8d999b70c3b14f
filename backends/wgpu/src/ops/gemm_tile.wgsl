// y[b, m, n] = finish(Σ_k a[b, m, k] · b[b, k, n]); one workgroup makes a tile of 64 × 64.
//
// Its 256 lanes bring 64 × 16 of a and 16 × 64 of b into memory that they share; each lane keeps
// 4 × 4 sums in registers.

var<workgroup> a_tile: array<vec4<T>, 256>;
var<workgroup> b_tile: array<vec4<T>, 256>;

@compute @workgroup_size(16, 16)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let b = group.z;
  let m0 = group.y * 64u;
  let n0 = group.x * 64u;
  var c0 = vec4<T>();
  var c1 = vec4<T>();
  var c2 = vec4<T>();
  var c3 = vec4<T>();
  // Of a, lane l brings column l % 16 of rows 4 · (l / 16) on; of b, row l / 16 of 4 columns.
  let ka = lane & 15u;
  let ma = m0 + (lane >> 4u) * 4u;
  let kb = lane >> 4u;
  let nb = n0 + (lane & 15u) * 4u;
  for (var k0 = 0u; k0 < p.k; k0 += 16u) {
    a_tile[ka * 16u + (lane >> 4u)] = vec4<T>(
      a_in(b, ma, k0 + ka), a_in(b, ma + 1u, k0 + ka),
      a_in(b, ma + 2u, k0 + ka), a_in(b, ma + 3u, k0 + ka));
    b_tile[kb * 16u + (lane & 15u)] = vec4<T>(
      b_in(b, k0 + kb, nb), b_in(b, k0 + kb, nb + 1u),
      b_in(b, k0 + kb, nb + 2u), b_in(b, k0 + kb, nb + 3u));
    workgroupBarrier();
    for (var k = 0u; k < 16u; k += 1u) {
      let av = a_tile[k * 16u + local.y];
      let bv = b_tile[k * 16u + local.x];
      c0 = mad(av.x, bv, c0);
      c1 = mad(av.y, bv, c1);
      c2 = mad(av.z, bv, c2);
      c3 = mad(av.w, bv, c3);
    }
    workgroupBarrier();
  }
  let m = m0 + local.y * 4u;
  let n = n0 + local.x * 4u;
  store(b, m, n, c0);
  store(b, m + 1u, n, c1);
  store(b, m + 2u, n, c2);
  store(b, m + 3u, n, c3);
}

// Zero outside of the matrices: sums along k may run over their end.
fn a_in(b: u32, m: u32, k: u32) -> T {
  if (m < p.m && k < p.k) { return a_load(b, m, k); }
  return T();
}

fn b_in(b: u32, k: u32, n: u32) -> T {
  if (k < p.k && n < p.n) { return b_load(b, k, n); }
  return T();
}
