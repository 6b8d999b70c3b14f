// Each lane copies the words that it meets, one or four at a time (ELEMENT).
@group(0) @binding(0) var<storage, read> x: array<ELEMENT>;
@group(0) @binding(1) var<storage, read_write> y: array<ELEMENT>;
@group(0) @binding(2) var<uniform> p: Params;
struct Params {
  n: u32,
  lanes: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  for (var i = id.x; i < p.n; i += p.lanes) {
    y[i] = x[i];
  }
}
