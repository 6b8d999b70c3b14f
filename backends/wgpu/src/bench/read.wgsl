// Each lane sums the words that it meets, one or four at a time (ELEMENT), each times an odd number
// made of its place.
@group(0) @binding(0) var<storage, read> x: array<ELEMENT>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;
struct Params {
  n: u32,
  lanes: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  var sum = ELEMENT(0u);
  for (var i = id.x; i < p.n; i += p.lanes) {
    sum += x[i] * (PLACE | 1u);
  }
  y[id.x] = TOTAL;
}
