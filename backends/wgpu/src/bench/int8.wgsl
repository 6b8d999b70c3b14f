// Each lane adds products of four bytes with four bytes to eight sums, 64 times `p.outer` times; the
// bytes of one sum are what the next is made of.
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
struct Params {
  b: u32,
  outer: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let start = i32(id.x & 3u) + 1;
  var s0 = start;
  var s1 = start * 3;
  var s2 = start * 5;
  var s3 = start * 7;
  var s4 = start * 9;
  var s5 = start * 11;
  var s6 = start * 13;
  var s7 = start * 15;
  for (var o = 0u; o < p.outer; o += 1u) {
    for (var i = 0u; i < 64u; i += 1u) {
      s0 += dot4I8Packed(bitcast<u32>(s1), p.b);
      s1 += dot4I8Packed(bitcast<u32>(s2), p.b);
      s2 += dot4I8Packed(bitcast<u32>(s3), p.b);
      s3 += dot4I8Packed(bitcast<u32>(s4), p.b);
      s4 += dot4I8Packed(bitcast<u32>(s5), p.b);
      s5 += dot4I8Packed(bitcast<u32>(s6), p.b);
      s6 += dot4I8Packed(bitcast<u32>(s7), p.b);
      s7 += dot4I8Packed(bitcast<u32>(s0), p.b);
    }
  }
  y[id.x] = bitcast<u32>(s0 ^ s1 ^ s2 ^ s3 ^ s4 ^ s5 ^ s6 ^ s7);
}
