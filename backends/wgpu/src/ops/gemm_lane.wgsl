// y[b, m, n] = finish(Σ_k a[b, m, k] · b[b, k, n]); one lane makes 4 × 8 and waits for nobody.

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let b = id.z;
  let m = id.y * 4u;
  let n = id.x * 8u;
  if (m >= p.m || n >= p.n) { return; }
  // Rows and columns beyond the end are read again at the end, and not stored.
  let m1 = min(m + 1u, p.m - 1u);
  let m2 = min(m + 2u, p.m - 1u);
  let m3 = min(m + 3u, p.m - 1u);
  let last = p.n - 1u;
  var c0 = vec4<T>();
  var c1 = vec4<T>();
  var c2 = vec4<T>();
  var c3 = vec4<T>();
  var d0 = vec4<T>();
  var d1 = vec4<T>();
  var d2 = vec4<T>();
  var d3 = vec4<T>();
  for (var k = 0u; k < p.k; k += 1u) {
    let u = vec4<T>(
      b_load(b, k, n), b_load(b, k, min(n + 1u, last)),
      b_load(b, k, min(n + 2u, last)), b_load(b, k, min(n + 3u, last)));
    let v = vec4<T>(
      b_load(b, k, min(n + 4u, last)), b_load(b, k, min(n + 5u, last)),
      b_load(b, k, min(n + 6u, last)), b_load(b, k, min(n + 7u, last)));
    let a0 = a_load(b, m, k);
    let a1 = a_load(b, m1, k);
    let a2 = a_load(b, m2, k);
    let a3 = a_load(b, m3, k);
    c0 = mad(a0, u, c0);
    d0 = mad(a0, v, d0);
    c1 = mad(a1, u, c1);
    d1 = mad(a1, v, d1);
    c2 = mad(a2, u, c2);
    d2 = mad(a2, v, d2);
    c3 = mad(a3, u, c3);
    d3 = mad(a3, v, d3);
  }
  store(b, m, n, c0);
  store(b, m + 1u, n, c1);
  store(b, m + 2u, n, c2);
  store(b, m + 3u, n, c3);
  store(b, m, n + 4u, d0);
  store(b, m + 1u, n + 4u, d1);
  store(b, m + 2u, n + 4u, d2);
  store(b, m + 3u, n + 4u, d3);
}
