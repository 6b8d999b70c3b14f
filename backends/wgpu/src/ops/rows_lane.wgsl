// One lane makes one row: for short rows, and where waiting for other lanes is dear.

const LANES: u32 = 1u;

fn fold(v: T, lane: u32) -> T {
  return v;
}

fn fold_max(v: T, lane: u32) -> T {
  return v;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) n: vec3<u32>) {
  let r = id.x + id.y * n.x * 64u;
  if (r < p.rows) { row(r, 0u); }
}
