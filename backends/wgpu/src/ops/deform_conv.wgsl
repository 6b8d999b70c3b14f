// The patches of a deformable convolution: the value at a place between pixels, zero outside.

fn pixel(plane: u32, r: f32, c: f32) -> f32 {
  if (r < 0.0 || c < 0.0 || r >= f32(p.inp0) || c >= f32(p.inp1)) { return 0.0; }
  return x_at((plane * u32(p.inp0) + u32(r)) * u32(p.inp1) + u32(c));
}

fn value(i: u32) -> f32 {
  let outputs = p.out0 * p.out1;
  let o = i % outputs;
  let tap = i / outputs % p.area;
  let plane = i / outputs / p.area;
  let group = plane % p.channels / (p.channels / p.offset_groups);
  let first = (plane / p.channels * p.offset_groups + group) * p.area + tap;
  let down = offsets_at(2u * first * outputs + o);
  let right = offsets_at((2u * first + 1u) * outputs + o);
  let row = i32(o / p.out1) * p.str0 + i32(tap / p.ker1) * p.dil0 - p.pad0;
  let col = i32(o % p.out1) * p.str1 + i32(tap % p.ker1) * p.dil1 - p.pad1;
  let r = f32(row) + down;
  let c = f32(col) + right;
  if (is_nan(r) || is_nan(c)) { return 0.0; }
  let top = floor(r);
  let left = floor(c);
  let fr = r - top;
  let fc = c - left;
  let upper = pixel(plane, top, left) * (1.0 - fc) + pixel(plane, top, left + 1.0) * fc;
  let lower = pixel(plane, top + 1.0, left) * (1.0 - fc) + pixel(plane, top + 1.0, left + 1.0) * fc;
  return (upper * (1.0 - fr) + lower * fr) * mask_of(first * outputs + o);
}
