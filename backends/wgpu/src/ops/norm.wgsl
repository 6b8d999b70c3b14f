// y = (x - mean) / sqrt(var + epsilon), scaled; a row is what is normalized together. Without
// `centred` the mean counts as 0.

fn row(r: u32, lane: u32) {
  let base = r * p.n;
  var mean = 0.0;
  if (p.centred == 1u) {
    var sum = 0.0;
    for (var k = lane; k < p.n; k += LANES) { sum += x_at(base + k); }
    mean = fold(sum, lane) / f32(p.n);
  }
  var squares = 0.0;
  for (var k = lane; k < p.n; k += LANES) {
    let d = x_at(base + k) - mean;
    squares = fma(d, d, squares);
  }
  let scale = inverseSqrt(fold(squares, lane) / f32(p.n) + p.epsilon);
  for (var k = lane; k < p.n; k += LANES) {
    let i = base + k;
    y_put(i, result(i, (x_at(i) - mean) * scale));
  }
  if (lane == 0u) { note(r, mean, scale); }
}
