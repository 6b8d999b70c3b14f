//! Pictures as NCHW floats.

use std::io::Cursor;

use image::{ImageReader, Limits, imageops::FilterType};
use rinfer::{DType, Tensor, Value};

/// How pixels become numbers, by name: subtract, then divide, per channel, on 0…1.
fn normalization(how: &str) -> Result<([f32; 3], [f32; 3]), String> {
    Ok(match how {
        "unit" => ([0.0; 3], [1.0; 3]),
        "raw" => ([0.0; 3], [1.0 / 255.0; 3]),
        "signed" => ([0.5; 3], [0.5; 3]),
        "imagenet" => ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        other => return Err(format!("--preprocess {other} is not raw, unit, signed or imagenet")),
    })
}

/// A picture scaled to the model's height and width, where it has fixed ones.
///
/// `shape` is the input's, [n, c, h, w], with `None` for sizes that are not fixed; c is 1 or 3.
pub fn decode(
    bytes: &[u8],
    dtype: DType,
    shape: &[Option<usize>],
    preprocess: &str,
) -> Result<Value, String> {
    let (mean, std) = normalization(preprocess)?;
    let &[_, channels, height, width] = shape else {
        return Err(format!("a picture for an input of rank {}", shape.len()));
    };
    if dtype != DType::F32 {
        return Err(format!("a picture for an input of {dtype}, only float is read"));
    }
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(16_384), Some(16_384));
    limits.max_alloc = Some(512 << 20);
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| e.to_string())?;
    let (h, w) =
        (height.unwrap_or(picture.height() as usize), width.unwrap_or(picture.width() as usize));
    let size = |n: usize| u32::try_from(n).map_err(|_| format!("a picture of {w}×{h}"));
    let picture = picture.resize_exact(size(w)?, size(h)?, FilterType::Triangle);
    let channels = channels.unwrap_or(3);
    let pixels: Vec<u8> = match channels {
        1 => picture.to_luma8().into_raw(),
        3 => picture.to_rgb8().into_raw(),
        n => return Err(format!("a picture for an input of {n} channels")),
    };
    let value = |c: usize, i: usize| (pixels[i * channels + c] as f32 / 255.0 - mean[c]) / std[c];
    let planes = (0..channels).flat_map(|c| (0..h * w).map(move |i| (c, i)));
    let data: Vec<f32> = planes.map(|(c, i)| value(c, i)).collect();
    Tensor::try_from_slice(&[1, channels, h, w], &data).map(Value::from).map_err(|e| e.to_string())
}
