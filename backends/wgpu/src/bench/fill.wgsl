// Each lane writes words made of their places.
@group(0) @binding(0) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(1) var<uniform> p: Params;
struct Params {
  n: u32,
  lanes: u32,
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  for (var i = id.x; i < p.n; i += p.lanes) {
    let w = (vec4<u32>(4u * i) + vec4<u32>(0u, 1u, 2u, 3u)) * 2654435761u;
    y[i] = w ^ (w >> vec4<u32>(15u));
  }
}
