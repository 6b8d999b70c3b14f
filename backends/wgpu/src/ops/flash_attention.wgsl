// Attention without its matrix of scores: one workgroup makes 64 columns of 8 queries' results. It
// goes through the keys 32 at a time, and keeps of each query the largest score so far, the sum of
// its weights, and the sums of values, which shrink when a larger score is met.

// Of the 8 queries, the first four and the last four.
var<workgroup> q_tile: array<f32, Q_TILE>;
var<workgroup> weights_low: array<vec4<f32>, 32>;
var<workgroup> weights_high: array<vec4<f32>, 32>;
var<workgroup> score: array<f32, 256>;
var<workgroup> most: array<f32, 8>;
var<workgroup> sums: array<f32, 8>;
var<workgroup> shrunk: array<f32, 8>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let b = group.z;
  let first = group.x * 8u;
  let column = group.y * 64u + lane;
  for (var i = lane; i < 8u * p.head; i += 64u) {
    let m = first + i / p.head;
    q_tile[i] = 0.0;
    if (m < p.query_count) { q_tile[i] = query(b, m, i % p.head); }
  }
  if (lane < 8u) {
    // A sink is one more score, of a key without a value.
    most[lane] = sink_of(b);
    sums[lane] = select(1.0, 0.0, most[lane] == -infinity());
  }
  var low = vec4<f32>();
  var high = vec4<f32>();
  workgroupBarrier();
  for (var from_key = 0u; from_key < p.keys; from_key += 32u) {
    for (var i = lane; i < 256u; i += 64u) {
      let n = from_key + i % 32u;
      let m = first + i / 32u;
      var s = -infinity();
      if (n < p.keys && m < p.query_count) {
        var dot_product = 0.0;
        let base = i / 32u * p.head;
        for (var d = 0u; d < p.head; d += 1u) {
          dot_product = fma(q_tile[base + d], key(b, n, d), dot_product);
        }
        s = masked(dot_product, b, m, n);
      }
      score[i] = s;
    }
    workgroupBarrier();
    // One lane for each query.
    if (lane < 8u) {
      var larger = most[lane];
      for (var k = 0u; k < 32u; k += 1u) { larger = max_f(larger, score[lane * 32u + k]); }
      let base = select(larger, 0.0, larger == -infinity());
      let factor = exp(most[lane] - base);
      var sum = sums[lane] * factor;
      for (var k = 0u; k < 32u; k += 1u) {
        let w = exp(score[lane * 32u + k] - base);
        score[lane * 32u + k] = w;
        sum += w;
      }
      most[lane] = larger;
      sums[lane] = sum;
      shrunk[lane] = factor;
    }
    workgroupBarrier();
    if (lane < 32u) {
      weights_low[lane] =
        vec4<f32>(score[lane], score[32u + lane], score[64u + lane], score[96u + lane]);
      weights_high[lane] =
        vec4<f32>(score[128u + lane], score[160u + lane], score[192u + lane], score[224u + lane]);
    }
    workgroupBarrier();
    low *= vec4<f32>(shrunk[0], shrunk[1], shrunk[2], shrunk[3]);
    high *= vec4<f32>(shrunk[4], shrunk[5], shrunk[6], shrunk[7]);
    if (column < p.columns) {
      let end = min(32u, p.keys - from_key);
      for (var k = 0u; k < end; k += 1u) {
        let v = value_of(b, from_key + k, column);
        low = fma(weights_low[k], vec4<f32>(v), low);
        high = fma(weights_high[k], vec4<f32>(v), high);
      }
    }
    workgroupBarrier();
  }
  if (column < p.columns) {
    finish(b, first, column, low.x, 0u);
    finish(b, first, column, low.y, 1u);
    finish(b, first, column, low.z, 2u);
    finish(b, first, column, low.w, 3u);
    finish(b, first, column, high.x, 4u);
    finish(b, first, column, high.y, 5u);
    finish(b, first, column, high.z, 6u);
    finish(b, first, column, high.w, 7u);
  }
}

// A query that sees no key is zero.
fn finish(b: u32, first: u32, column: u32, v: f32, i: u32) {
  if (first + i >= p.query_count) { return; }
  y_put(place_of(b, first + i, column), select(v / sums[i], 0.0, sums[i] == 0.0));
}
