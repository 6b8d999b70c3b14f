// Each lane multiplies and adds in eight vectors of four FLOATs, 64 times `p.outer` times: x·1 + 1,
// which is exact, and which the compiler cannot know.
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
struct Params {
  one: f32,
  zero: f32,
  outer: u32,
}

fn total(x: vec4<FLOAT>) -> u32 {
  let v = vec4<u32>(vec4<f32>(x));
  return v.x + v.y + v.z + v.w;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let a = vec4<FLOAT>(FLOAT(p.one));
  let zero = vec4<FLOAT>(FLOAT(p.zero));
  let start = vec4<FLOAT>(FLOAT(id.x & 3u));
  var x0 = start;
  var x1 = start;
  var x2 = start;
  var x3 = start;
  var x4 = start;
  var x5 = start;
  var x6 = start;
  var x7 = start;
  var sum = 0u;
  for (var o = 0u; o < p.outer; o += 1u) {
    for (var i = 0u; i < 64u; i += 1u) {
      x0 = x0 * a + a;
      x1 = x1 * a + a;
      x2 = x2 * a + a;
      x3 = x3 * a + a;
      x4 = x4 * a + a;
      x5 = x5 * a + a;
      x6 = x6 * a + a;
      x7 = x7 * a + a;
    }
    sum += total(x0) + total(x1) + total(x2) + total(x3);
    sum += total(x4) + total(x5) + total(x6) + total(x7);
    x0 = x0 * zero + start;
    x1 = x1 * zero + start + a;
    x2 = x2 * zero + start;
    x3 = x3 * zero + start + a;
    x4 = x4 * zero + start;
    x5 = x5 * zero + start + a;
    x6 = x6 * zero + start;
    x7 = x7 * zero + start + a;
  }
  y[id.x] = sum;
}
