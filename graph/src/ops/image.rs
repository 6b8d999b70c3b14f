//! ImageDecoder: the bytes of an image file → its pixels, uint8 \[height, width, channels\].
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// The channels of a decoded image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum PixelFormat {
    Rgb,
    Bgr,
    Grayscale,
}

impl PixelFormat {
    /// How many channels there are.
    pub fn channels(self) -> usize {
        match self {
            PixelFormat::Rgb | PixelFormat::Bgr => 3,
            PixelFormat::Grayscale => 1,
        }
    }
}

/// Decodes BMP, JPEG, JPEG 2000, PNG, PNM, TIFF and WebP files.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageDecoder {
    /// The channels that are asked for.
    pub format: PixelFormat,
}

impl ImageDecoder {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        inputs.check_rank(0, 1)?;
        match inputs.dtype(0)? {
            DType::U8 => {}
            other => return Err(invalid!("a file of {other} instead of bytes")),
        }
        let channels = Dim::from(self.format.channels());
        let shape = [Dim::Unknown, Dim::Unknown, channels].into_iter().collect();
        one(Fact::new(DType::U8, shape))
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let format = match cx.string("pixel_format")?.unwrap_or("RGB") {
        "RGB" => PixelFormat::Rgb,
        "BGR" => PixelFormat::Bgr,
        "Grayscale" => PixelFormat::Grayscale,
        other => return Err(invalid!("pixel_format {other:?} is unknown")),
    };
    cx.emit(ImageDecoder { format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_are_decoded() {
        let op = ImageDecoder { format: PixelFormat::Grayscale };
        let infer = |x: Fact| op.infer(&Inputs::new(&[Some(&x)], 1));
        let y = infer(Fact::sized(DType::U8, &[9])).unwrap();
        assert_eq!(y[0].shape().unwrap()[2], Dim::N(1));
        assert!(infer(Fact::sized(DType::I8, &[9])).is_err());
        assert!(infer(Fact::sized(DType::U8, &[9, 1])).is_err());
    }
}
