// One lane adds one.
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<uniform> p: Params;
struct Params {
  one: u32,
  none: u32,
}

@compute @workgroup_size(1)
fn main() {
  y[0] += p.one;
}
