// One workgroup makes one row; its lanes take every 64th element and fold what they have.

const LANES: u32 = 64u;
var<workgroup> folded: array<T, 64>;

fn fold(v: T, lane: u32) -> T {
  folded[lane] = v;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { folded[lane] = combine(folded[lane], folded[lane + half]); }
    workgroupBarrier();
  }
  let all = folded[0];
  workgroupBarrier();
  return all;
}

fn fold_max(v: T, lane: u32) -> T {
  folded[lane] = v;
  workgroupBarrier();
  for (var half = 32u; half > 0u; half >>= 1u) {
    if (lane < half) { folded[lane] = larger(folded[lane], folded[lane + half]); }
    workgroupBarrier();
  }
  let all = folded[0];
  workgroupBarrier();
  return all;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let r = group.x + group.y * groups.x;
  if (r < p.rows) { row(r, lane); }
}
