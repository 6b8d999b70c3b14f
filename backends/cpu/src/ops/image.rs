//! Image files to pixels. What is no image, or a broken one, gives an empty matrix, as ONNX says.
use rinfer_graph::ops::{ImageDecoder, PixelFormat};
use rinfer_graph::{DType, Kind, Reason, Tensor, invalid};

use super::jpeg::{self, Pixels};
use crate::kernel::Kernel;

/// Bytes that a decoder may take, unless the run allows fewer.
const MOST_BYTES: usize = 1 << 30;
/// Bytes that a decoder takes for a pixel: red, green, blue and opacity of 16 bits each.
const PIXEL: usize = 8;

pub(super) fn compile(op: &ImageDecoder) -> Result<Kernel, Reason> {
    let format = op.format;
    Ok(Kernel::values(move |inputs, cx| {
        let x = inputs.first().and_then(Option::as_ref);
        let x = x.ok_or_else(|| invalid!("input 0 is missing"))?.as_tensor()?;
        if x.dtype() != DType::U8 {
            return Err(invalid!("a file of {} instead of bytes", x.dtype()));
        }
        let most = cx.limits.image_pixels.saturating_mul(PIXEL).min(cx.memory).min(MOST_BYTES);
        let y = match decode(x.as_slice::<u8>(), most) {
            Ok(pixels) => channels(&pixels, format)?,
            Err(reason) if reason.kind == Kind::Invalid => {
                Tensor::try_zeros(DType::U8, &[0, 0, format.channels()])?
            }
            Err(reason) => return Err(reason),
        };
        Ok(vec![y.into()])
    }))
}

fn decode(data: &[u8], limit: usize) -> Result<Pixels, Reason> {
    match data.starts_with(&[0xFF, 0xD8]) {
        true => jpeg::decode(data, limit),
        false => formats::decode(data, limit),
    }
}

#[cfg(feature = "image")]
mod formats {
    use rinfer_graph::unsupported;

    use super::{Kind, Pixels, Reason, invalid};

    pub(super) fn decode(data: &[u8], limit: usize) -> Result<Pixels, Reason> {
        const JPEG_2000: [&[u8]; 2] = [b"\x00\x00\x00\x0C\x6A\x50\x20\x20", b"\xFF\x4F\xFF\x51"];
        // A decoder's panic on a file it did not expect must not take the process down.
        let decoded = std::panic::catch_unwind(|| {
            match JPEG_2000.iter().any(|magic| data.starts_with(magic)) {
                true => jpeg_2000(data, limit),
                false => other_format(data, limit),
            }
        });
        decoded.unwrap_or_else(|_| Err(invalid!("the image cannot be decoded")))
    }

    fn other_format(data: &[u8], limit: usize) -> Result<Pixels, Reason> {
        let bad = |e: image::ImageError| match e {
            image::ImageError::Limits(e) => Reason::new(Kind::Limit, format!("the image: {e}")),
            image::ImageError::Unsupported(e) => Reason::new(Kind::Unsupported, e.to_string()),
            e => invalid!("{e}"),
        };
        use image::ImageFormat::{Bmp, Png, Pnm, Tiff, WebP};
        let mut reader = image::ImageReader::new(std::io::Cursor::new(data))
            .with_guessed_format()
            .map_err(|e| invalid!("{e}"))?;
        if !matches!(reader.format(), Some(Bmp | Png | Pnm | Tiff | WebP)) {
            return Err(invalid!("an image of unknown format"));
        }
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(limit as u64);
        reader.limits(limits);
        let image = reader.decode().map_err(bad)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, data) = match image.color().has_color() {
            true => (3, image.into_rgb8().into_raw()),
            false => (1, image.into_luma8().into_raw()),
        };
        Ok(Pixels { width, height, channels, data })
    }

    fn jpeg_2000(data: &[u8], limit: usize) -> Result<Pixels, Reason> {
        use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
        let image = Image::new(data, &DecodeSettings::default()).map_err(|e| invalid!("{e}"))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let colours = match image.color_space() {
            ColorSpace::Gray => 1,
            ColorSpace::RGB => 3,
            other => return Err(unsupported!("JPEG 2000 of {} colours", other.num_channels())),
        };
        let stride = colours + usize::from(image.has_alpha());
        // Coefficients are 32 bits wide.
        if width.saturating_mul(height).saturating_mul(5 * stride) > limit {
            let text = format!("an image of {width}x{height} takes more than {limit} bytes");
            return Err(Reason::new(Kind::Limit, text));
        }
        let mut context = DecoderContext::default();
        let bitmap = image.decode(&mut context).map_err(|e| invalid!("{e}"))?;
        let all = bitmap.data_u8();
        let data = all.chunks_exact(stride).flat_map(|pixel| &pixel[..colours]).copied().collect();
        Ok(Pixels { width, height, channels: colours, data })
    }
}

#[cfg(not(feature = "image"))]
mod formats {
    use super::{Pixels, Reason};

    pub(super) fn decode(_: &[u8], _: usize) -> Result<Pixels, Reason> {
        let text = "this build decodes no images but JPEG: it lacks the feature image";
        Err(Reason::new(rinfer_graph::Kind::Unsupported, text))
    }
}

/// The pixels with the channels that are asked for.
fn channels(pixels: &Pixels, format: PixelFormat) -> Result<Tensor, Reason> {
    let n = format.channels();
    let mut y = Tensor::try_zeros(DType::U8, &[pixels.height, pixels.width, n])?;
    let given = pixels.data.chunks_exact(pixels.channels);
    for (y, x) in y.as_mut_slice::<u8>().chunks_exact_mut(n).zip(given) {
        match (format, x) {
            (PixelFormat::Grayscale, &[grey]) => y[0] = grey,
            (PixelFormat::Grayscale, x) => y[0] = luma(x),
            (_, &[grey]) => y.fill(grey),
            (PixelFormat::Rgb, x) => y.copy_from_slice(x),
            (PixelFormat::Bgr, x) => y.iter_mut().zip(x.iter().rev()).for_each(|(y, x)| *y = *x),
        }
    }
    Ok(y)
}

/// ITU-R BT.601-2 in 16-bit fixed point, rounded: 0.299, 0.587, 0.114.
fn luma(rgb: &[u8]) -> u8 {
    let sum = rgb.iter().zip([19595u32, 38470, 7471]).map(|(&x, w)| u32::from(x) * w).sum::<u32>();
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run1;
    use crate::simd::Isa;

    fn eval(format: PixelFormat, file: &[u8]) -> Tensor {
        run1(Isa::available()[0], ImageDecoder { format }, &[Tensor::vector(file)]).unwrap()
    }

    #[test]
    fn channels_stand_in_the_order_that_is_asked_for() {
        let file = b"P6 2 1 255\n\x01\x02\x03\xF0\x80\x10";
        assert_eq!(eval(PixelFormat::Rgb, file).as_slice::<u8>(), [1, 2, 3, 240, 128, 16]);
        let y = eval(PixelFormat::Bgr, file);
        assert_eq!((y.shape(), y.as_slice::<u8>()), (&[1, 2, 3][..], &[3, 2, 1, 16, 128, 240][..]));
        assert_eq!(eval(PixelFormat::Grayscale, file).as_slice::<u8>(), [2, 149]);
    }

    #[test]
    fn what_is_no_image_is_an_empty_matrix() {
        for file in [&b""[..], b"nonsense", b"\xFF\xD8\xFF\xDA", b"\xFF\xD8", b"P6 2 2 255\n"] {
            assert_eq!(eval(PixelFormat::Rgb, file).shape(), [0, 0, 3]);
        }
    }
}
