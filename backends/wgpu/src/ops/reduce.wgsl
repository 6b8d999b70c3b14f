// One row folds p.n elements into one: y[r] = last(Σ first(x)), where Σ is `combine`.

fn row(r: u32, lane: u32) {
  let base = kept(r);
  var folded_here = first_of_none();
  let most = peak(base, lane);
  for (var k = lane; k < p.n; k += LANES) {
    folded_here = combine(folded_here, first(x_at(base + inner(k)), most));
  }
  let all = fold(folded_here, lane);
  if (lane == 0u) { put(r, last(all, most)); }
}
