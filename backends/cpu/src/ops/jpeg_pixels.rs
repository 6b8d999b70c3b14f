//! JPEG coefficients to pixels, bit for bit as libjpeg-turbo does by default: the accurate integer
//! DCT, "fancy" chroma upsampling, and YCbCr to RGB in 16-bit fixed point.
use rinfer_graph::{Reason, scarce};

use super::jpeg::{Component, Frame, Pixels};

/// The pixels of a frame: grey, or red, green, blue.
pub(super) fn pixels(frame: &Frame) -> Result<Pixels, Reason> {
    let Frame { width, height, .. } = *frame;
    let grey = frame.components.len() == 1;
    let planes: Vec<Vec<u8>> = frame.components.iter().map(|c| plane(frame, c, grey)).collect();
    let channels = planes.len();
    let mut data = scarce::zeros(width * height * channels);
    match &planes[..] {
        [grey] => data.copy_from_slice(grey),
        planes => {
            let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
            let rgb = match (frame.jfif, frame.adobe) {
                (true, _) => false,
                (false, Some(transform)) => transform == 0,
                (false, None) => ids == *b"RGB",
            };
            for (i, pixel) in data.chunks_exact_mut(3).enumerate() {
                let [a, b, c] = [planes[0][i], planes[1][i], planes[2][i]];
                pixel.copy_from_slice(&if rgb { [a, b, c] } else { to_rgb(a, b, c) });
            }
        }
    }
    Ok(Pixels { width, height, channels, data })
}

/// ITU-R BT.601 in 16-bit fixed point.
fn to_rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let half = 1 << 15;
    let r = y + ((91881 * cr + half) >> 16);
    let g = y + ((-22554 * cb - 46802 * cr + half) >> 16);
    let b = y + ((116130 * cb + half) >> 16);
    [r, g, b].map(|x| x.clamp(0, 255) as u8)
}

/// One component at the size of the image.
fn plane(frame: &Frame, c: &Component, alone: bool) -> Vec<u8> {
    let stride = c.blocks[0] * 8;
    let mut samples = scarce::zeros::<u8>(stride * c.blocks[1] * 8);
    for (i, block) in c.coefficients.chunks_exact(64).enumerate() {
        let at = i / c.blocks[0] * 8 * stride + i % c.blocks[0] * 8;
        inverse_dct(block, &c.quant, &mut samples[at..], stride);
    }
    let (fh, fv) = if alone { (1, 1) } else { (frame.h / c.h, frame.v / c.v) };
    let exact = alone || (frame.h % c.h == 0 && frame.v % c.v == 0);
    let source = Source { samples: &samples, stride, size: c.samples };
    let mut out = scarce::zeros(frame.width * frame.height);
    let mut wide = Vec::new();
    for (y, out) in out.chunks_exact_mut(frame.width.max(1)).enumerate() {
        match (exact, fh, fv) {
            (true, 1, 1) => out.copy_from_slice(&source.row(y)[..frame.width]),
            (true, 2, 1) if c.samples[0] > 2 => double_row(source.row(y), &mut wide, out),
            (true, 1, 2) => between_rows(&source, y, out),
            (true, 2, 2) if c.samples[0] > 2 => double_both(&source, y, &mut wide, out),
            // Factors that divide each other no way: the nearest sample.
            _ => {
                let row = source.row(y * c.v / frame.v);
                out.iter_mut().enumerate().for_each(|(x, out)| *out = row[x * c.h / frame.h]);
            }
        }
    }
    out
}

/// A component's samples, padding behind each row.
struct Source<'a> {
    samples: &'a [u8],
    stride: usize,
    size: [usize; 2],
}

impl Source<'_> {
    /// Row `y`, or the last one before it.
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y.min(self.size[1] - 1) * self.stride..][..self.size[0]]
    }

    /// The row that output row `y` of twice as many lies in, and the one it leans to.
    fn near(&self, y: usize) -> (&[u8], &[u8]) {
        let row = y / 2;
        let other = if y % 2 == 0 { row.saturating_sub(1) } else { row + 1 };
        (self.row(row), self.row(other))
    }
}

/// Twice as many samples, 1/4 and 3/4 of the way between two; halves round down and up in turn.
fn double_row(x: &[u8], wide: &mut Vec<u8>, out: &mut [u8]) {
    let n = x.len();
    let at = |i: usize| i32::from(x[i]);
    wide.clear();
    for i in 0..n {
        let before = if i == 0 { at(0) } else { (3 * at(i) + at(i - 1) + 1) >> 2 };
        let after = if i + 1 == n { at(i) } else { (3 * at(i) + at(i + 1) + 2) >> 2 };
        wide.extend([before as u8, after as u8]);
    }
    out.copy_from_slice(&wide[..out.len()]);
}

/// Twice as many rows.
fn between_rows(source: &Source<'_>, y: usize, out: &mut [u8]) {
    let (near, far) = source.near(y);
    let bias = if y % 2 == 0 { 1 } else { 2 };
    for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
        *out = ((3 * i32::from(near) + i32::from(far) + bias) >> 2) as u8;
    }
}

/// Twice as many of both.
fn double_both(source: &Source<'_>, y: usize, wide: &mut Vec<u8>, out: &mut [u8]) {
    let (near, far) = source.near(y);
    let n = near.len();
    let at = |i: usize| 3 * i32::from(near[i]) + i32::from(far[i]);
    wide.clear();
    for i in 0..n {
        let before = if i == 0 { 4 * at(0) } else { 3 * at(i) + at(i - 1) };
        let after = if i + 1 == n { 4 * at(i) } else { 3 * at(i) + at(i + 1) };
        wide.extend([((before + 8) >> 4) as u8, ((after + 7) >> 4) as u8]);
    }
    out.copy_from_slice(&wide[..out.len()]);
}

/// Fractional bits of the DCT's constants, and of what the columns hand to the rows.
const CONST_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

/// One dimension of the DCT of Loeffler, Ligtenberg and Moschytz, with 12 multiplications: eight
/// values in, eight out, scaled by 2^CONST_BITS · √8.
fn dct8(x: [i32; 8]) -> [i32; 8] {
    let mul = |a: i32, c: i32| a.wrapping_mul(c);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let z = mul(add(x[2], x[6]), 4433);
    let (t2, t3) = (add(z, mul(x[6], -15137)), add(z, mul(x[2], 6270)));
    let t0 = add(x[0], x[4]).wrapping_shl(CONST_BITS);
    let t1 = x[0].wrapping_sub(x[4]).wrapping_shl(CONST_BITS);
    let even = [add(t0, t3), add(t1, t2), t1.wrapping_sub(t2), t0.wrapping_sub(t3)];

    let z5 = mul(add(add(x[7], x[3]), add(x[5], x[1])), 9633);
    let z1 = mul(add(x[7], x[1]), -7373);
    let z2 = mul(add(x[5], x[3]), -20995);
    let z3 = add(mul(add(x[7], x[3]), -16069), z5);
    let z4 = add(mul(add(x[5], x[1]), -3196), z5);
    let odd = [
        add(mul(x[1], 12299), add(z1, z4)),
        add(mul(x[3], 25172), add(z2, z3)),
        add(mul(x[5], 16819), add(z2, z4)),
        add(mul(x[7], 2446), add(z1, z3)),
    ];
    std::array::from_fn(|i| match i {
        0..4 => even[i].wrapping_add(odd[i]),
        _ => even[7 - i].wrapping_sub(odd[7 - i]),
    })
}

fn descale(x: i32, bits: u32) -> i32 {
    x.wrapping_add(1 << (bits - 1)) >> bits
}

/// Dequantizes and transforms one block into eight rows of samples.
fn inverse_dct(block: &[i16], quant: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut work = [0i32; 64];
    for column in 0..8 {
        let x = std::array::from_fn(|row| {
            let i = row * 8 + column;
            i32::from(block[i]).wrapping_mul(i32::from(quant[i]))
        });
        for (row, y) in dct8(x).into_iter().enumerate() {
            work[row * 8 + column] = descale(y, CONST_BITS - PASS_BITS);
        }
    }
    for (row, x) in work.chunks_exact(8).enumerate() {
        let x = std::array::from_fn(|i| x[i]);
        for (out, y) in out[row * stride..].iter_mut().zip(dct8(x)) {
            let sample = descale(y, CONST_BITS + PASS_BITS + 3).wrapping_add(128);
            *out = sample.clamp(0, 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_block_is_flat() {
        let mut block = [0i16; 64];
        block[0] = 10;
        let mut out = [0u8; 64];
        inverse_dct(&block, &[8; 64], &mut out, 8);
        assert_eq!(out, [138; 64]);
    }

    #[test]
    fn halves_round_down_and_up_in_turn() {
        let mut out = [0; 8];
        double_row(&[0, 2, 4, 4], &mut Vec::new(), &mut out);
        assert_eq!(out, [0, 1, 1, 3, 3, 4, 4, 4]);
    }

    #[test]
    fn grey_has_no_colour() {
        assert_eq!(to_rgb(77, 128, 128), [77; 3]);
        // 255 − 0.34414 · 127 − 0.71414 · 127 = 120.6
        assert_eq!(to_rgb(255, 255, 255), [255, 121, 255]);
    }
}
