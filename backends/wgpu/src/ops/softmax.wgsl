// y = e^(x - max) / sum, or what `result` makes of a line of -infinity, along an axis of n elements
// that are `inner` apart; a row is one such line. `start_of(r)` is one more element, or -infinity.

fn row(r: u32, lane: u32) {
  let base = r / p.inner * p.n * p.inner + r % p.inner;
  let start = start_of(r);
  var most = start;
  for (var k = lane; k < p.n; k += LANES) { most = larger(most, x_at(base + k * p.inner)); }
  most = fold_max(most, lane);
  let masked = most == -infinity();
  most = select(most, 0.0, masked);
  var sum = 0.0;
  for (var k = lane; k < p.n; k += LANES) { sum += exp(x_at(base + k * p.inner) - most); }
  sum = fold(sum, lane) + exp(start - most);
  for (var k = lane; k < p.n; k += LANES) {
    let at = base + k * p.inner;
    y_put(at, result(x_at(at) - most, sum, masked));
  }
}
