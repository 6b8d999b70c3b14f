// Each subgroup multiplies the same two SIDE × SIDE matrices of f16 and adds the product to four
// sums of f32, 16 times `p.outer` times. Subgroups of a workgroup make, and write, the same.
enable f16;
enable wgpu_cooperative_matrix;

@group(0) @binding(0) var<storage, read> l: array<f16>;
@group(0) @binding(1) var<storage, read> r: array<f16>;
@group(0) @binding(2) var<storage, read> zero: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;
@group(0) @binding(5) var<uniform> p: Params;
struct Params {
  outer: u32,
  none: u32,
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_subgroups) subgroups: u32) {
  let a = coopLoadT<coop_matSIDExSIDE<f16, A>>(&l[0], SIDEu);
  let b = coopLoadT<coop_matSIDExSIDE<f16, B>>(&r[0], SIDEu);
  var c0 = coopLoadT<coop_matSIDExSIDE<f32, C>>(&zero[0], SIDEu);
  var c1 = coopLoadT<coop_matSIDExSIDE<f32, C>>(&zero[0], SIDEu);
  var c2 = coopLoadT<coop_matSIDExSIDE<f32, C>>(&zero[0], SIDEu);
  var c3 = coopLoadT<coop_matSIDExSIDE<f32, C>>(&zero[0], SIDEu);
  for (var o = 0u; o < p.outer; o += 1u) {
    for (var i = 0u; i < 16u; i += 1u) {
      c0 = coopMultiplyAdd(a, b, c0);
      c1 = coopMultiplyAdd(a, b, c1);
      c2 = coopMultiplyAdd(a, b, c2);
      c3 = coopMultiplyAdd(a, b, c3);
    }
  }
  let at = group.x * 4u * SIDEu * SIDEu;
  coopStoreT(c0, &y[at], SIDEu);
  coopStoreT(c1, &y[at + SIDEu * SIDEu], SIDEu);
  coopStoreT(c2, &y[at + 2u * SIDEu * SIDEu], SIDEu);
  coopStoreT(c3, &y[at + 3u * SIDEu * SIDEu], SIDEu);
  counts[group.x] = subgroups;
}
