// RoiAlign: a bin is the mean of bilinear samples, or the largest of their weighted pixels.

// The lower pixel of a place along an axis, -1 for a place outside; what it is past that pixel.
fn along(place: f32, n: u32) -> vec2<f32> {
  if (n == 0u || !(place >= -1.0 && place <= f32(n))) { return vec2<f32>(-1.0, 0.0); }
  let at = max(place, 0.0);
  if (u32(at) + 1u >= n) { return vec2<f32>(f32(n - 1u), 0.0); }
  return vec2<f32>(floor(at), at - floor(at));
}

fn value(i: u32) -> f32 {
  let col = i % p.out_width;
  let row = i / p.out_width % p.out_height;
  let c = i / p.out_width / p.out_height % p.channels;
  let r = i / p.out_width / p.out_height / p.channels;
  let image = images_at(r);
  if (image.y != 0u || image.x >= p.batch) {
    fault();
    return 0.0;
  }
  let shift = select(0.0, 0.5, p.half_pixel == 1u);
  let left = rois_at(4u * r) * p.scale - shift;
  let top = rois_at(4u * r + 1u) * p.scale - shift;
  var wide = rois_at(4u * r + 2u) * p.scale - shift - left;
  var high = rois_at(4u * r + 3u) * p.scale - shift - top;
  if (p.half_pixel == 0u) {
    wide = max_f(wide, 1.0);
    high = max_f(high, 1.0);
  }
  let bin_w = wide / f32(p.out_width);
  let bin_h = high / f32(p.out_height);
  var rows = f32(p.ratio);
  var cols = f32(p.ratio);
  if (p.ratio == 0u) {
    rows = max(ceil(bin_h), 0.0);
    cols = max(ceil(bin_w), 0.0);
  }
  if (!(rows <= 1e6 && cols <= 1e6 && rows * cols <= 6.4e7)) {
    fault();
    return 0.0;
  }
  let plane = (image.x * p.channels + c) * p.height;
  var sum = 0.0;
  var most = -infinity();
  for (var h = 0u; h < u32(rows); h += 1u) {
    let y = along(top + f32(row) * bin_h + (f32(h) + 0.5) * bin_h / rows, p.height);
    for (var w = 0u; w < u32(cols); w += 1u) {
      let x = along(left + f32(col) * bin_w + (f32(w) + 0.5) * bin_w / cols, p.width);
      if (x.x < 0.0 || y.x < 0.0) {
        most = max_f(most, 0.0);
        continue;
      }
      let y0 = (plane + u32(y.x)) * p.width;
      let y1 = (plane + min(u32(y.x) + 1u, p.height - 1u)) * p.width;
      let x0 = u32(x.x);
      let x1 = min(x0 + 1u, p.width - 1u);
      let a = (1.0 - y.y) * (1.0 - x.y) * x_at(y0 + x0);
      let b = (1.0 - y.y) * x.y * x_at(y0 + x1);
      let d = y.y * (1.0 - x.y) * x_at(y1 + x0);
      let e = y.y * x.y * x_at(y1 + x1);
      sum += a + b + d + e;
      most = max_f(max_f(max_f(max_f(most, a), b), d), e);
    }
  }
  if (rows * cols == 0.0) { return 0.0; }
  if (p.largest == 1u) { return most; }
  return sum / (rows * cols);
}
