// One workgroup makes one row; its lanes take every 64th element and fold what they have, first
// within their subgroup, of whatever size, then among subgroups.

const LANES: u32 = 64u;
var<workgroup> folded: array<T, 64>;
var<private> of_subgroup: u32;
var<private> subgroup: u32;
var<private> subgroups: u32;
var<private> subgroup_lane: u32;

fn fold(v: T, lane: u32) -> T {
  var all = v;
  for (var apart = 1u; apart < of_subgroup; apart <<= 1u) {
    all = combine(all, subgroupShuffleXor(all, apart));
  }
  if (subgroup_lane == 0u) { folded[subgroup] = all; }
  workgroupBarrier();
  all = folded[0];
  for (var k = 1u; k < subgroups; k += 1u) { all = combine(all, folded[k]); }
  workgroupBarrier();
  return all;
}

fn fold_max(v: T, lane: u32) -> T {
  var all = v;
  for (var apart = 1u; apart < of_subgroup; apart <<= 1u) {
    all = larger(all, subgroupShuffleXor(all, apart));
  }
  if (subgroup_lane == 0u) { folded[subgroup] = all; }
  workgroupBarrier();
  all = folded[0];
  for (var k = 1u; k < subgroups; k += 1u) { all = larger(all, folded[k]); }
  workgroupBarrier();
  return all;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_id) id: u32,
  @builtin(num_subgroups) count: u32,
  @builtin(subgroup_invocation_id) own: u32,
) {
  // A subgroup may have more lanes than the workgroup.
  of_subgroup = min(size, 64u);
  subgroup = id;
  subgroups = count;
  subgroup_lane = own;
  let r = group.x + group.y * groups.x;
  if (r < p.rows) { row(r, lane); }
}
