// y[b, m, n] = finish(Σ_k a[b, m, k] · b[b, k, n]) for few rows: one workgroup makes 64 columns of
// one row; four lanes share a column, each takes every fourth k.

var<workgroup> sums: array<T, 256>;

@compute @workgroup_size(64, 4)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let b = group.z;
  let m = group.y;
  let n = group.x * 64u + local.x;
  var sum = T();
  if (n < p.n) {
    for (var k = local.y; k < p.k; k += 4u) { sum += a_load(b, m, k) * b_load(b, k, n); }
  }
  sums[local.y * 64u + local.x] = sum;
  workgroupBarrier();
  if (local.y == 0u && n < p.n) {
    let all = sums[local.x] + sums[64u + local.x] + sums[128u + local.x] + sums[192u + local.x];
    put(b, m, n, all);
  }
}
