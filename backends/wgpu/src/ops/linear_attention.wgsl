// One lane makes column e of a head's state, which is [d, e], and of what queries read from it:
// state = decay · state + k · u, with u = v or beta · (v - kᵀ·state); y = scale · qᵀ·state.

fn row(r: u32, lane: u32) {
  let e = r % p.v_head;
  let h = r / p.v_head % p.kv_heads;
  let b = r / p.v_head / p.kv_heads;
  let base = (b * p.kv_heads + h) * p.head * p.v_head + e;
  for (var d = 0u; d < p.head; d += 1u) {
    state[base + d * p.v_head] = past_of(base + d * p.v_head);
  }
  for (var t = 0u; t < p.tokens; t += 1u) {
    let token = b * p.tokens + t;
    let line = token * p.kv_heads + h;
    var held = 0.0;
    for (var d = 0u; d < p.head; d += 1u) {
      let at = base + d * p.v_head;
      let s = state[at] * decay(line, d);
      state[at] = s;
      held += k_at(line * p.head + d) * s;
    }
    var u = v_at(line * p.v_head + e);
    if (p.delta == 1u) { u = (u - held) * beta(token, line); }
    for (var d = 0u; d < p.head; d += 1u) {
      state[base + d * p.v_head] += k_at(line * p.head + d) * u;
    }
    for (var g = 0u; g < p.group; g += 1u) {
      let query = token * p.kv_heads * p.group + h * p.group + g;
      var sum = 0.0;
      for (var d = 0u; d < p.head; d += 1u) {
        sum += q_at(query * p.head + d) * p.scale * state[base + d * p.v_head];
      }
      y[query * p.v_head + e] = sum;
    }
  }
}
