// The determinant of an n × n matrix by elimination, the largest pivot of each column first.

fn row(r: u32, lane: u32) {
  let base = r * p.n * p.n;
  for (var k = 0u; k < p.n * p.n; k += 1u) { a[base + k] = x_at(base + k); }
  var made = 1.0;
  for (var c = 0u; c < p.n; c += 1u) {
    var pivot = c;
    for (var k = c + 1u; k < p.n; k += 1u) {
      if (abs(a[base + k * p.n + c]) > abs(a[base + pivot * p.n + c])) { pivot = k; }
    }
    if (pivot != c) {
      for (var j = 0u; j < p.n; j += 1u) {
        let held = a[base + pivot * p.n + j];
        a[base + pivot * p.n + j] = a[base + c * p.n + j];
        a[base + c * p.n + j] = held;
      }
      made = -made;
    }
    let top = a[base + c * p.n + c];
    made *= top;
    if (top == 0.0) { break; }
    for (var k = c + 1u; k < p.n; k += 1u) {
      let factor = a[base + k * p.n + c] / top;
      for (var j = c; j < p.n; j += 1u) {
        a[base + k * p.n + j] -= factor * a[base + c * p.n + j];
      }
    }
  }
  y[r] = made;
}
