//! What ONNX has not, written as ONNX Runtime's operators.

use super::node::{Attrs, NodeOut, float, int, string};
use crate::Reason;
use crate::ops::{CropAndResize, Decoding, RotaryEmbedding};

fn write(out: &mut NodeOut<'_, '_>, name: &str, attrs: Attrs) -> Result<(), Reason> {
    out.need_domain("com.microsoft", 1);
    out.plain(&format!("com.microsoft.{name}"), attrs)
}

pub(super) fn inverse(out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    write(out, "Inverse", vec![])
}

pub(super) fn crop_and_resize(op: &CropAndResize, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    let mode = if op.nearest { "nearest" } else { "bilinear" };
    let attrs = vec![string("mode", mode), float("extrapolation_value", op.outside)];
    write(out, "CropAndResize", attrs)
}

pub(super) fn decoding(op: &Decoding, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    match *op {
        Decoding::NgramRepeatBlock { size } => {
            write(out, "NGramRepeatBlock", vec![int("ngram_size", size as i64)])
        }
        Decoding::BifurcationDetector { min, max } => {
            let sizes = [("min_ngram_size", min), ("max_ngram_size", max)];
            let attrs = sizes.iter().map(|(name, n)| int(name, *n as i64)).collect();
            write(out, "BifurcationDetector", attrs)
        }
        Decoding::TimeWarping => write(out, "DynamicTimeWarping", vec![]),
        Decoding::MurmurHash3 { seed, unsigned } => {
            let attrs = vec![int("seed", seed.into()), int("positive", unsigned.into())];
            write(out, "MurmurHash3", attrs)
        }
    }
}

/// Rotary positions that are given by the first of them.
pub(super) fn rotary(op: &RotaryEmbedding, out: &mut NodeOut<'_, '_>) -> Result<(), Reason> {
    out.need_domain("com.microsoft", 1);
    let [x, cos, sin, ids] = [out.input(0)?, out.input(1)?, out.input(2)?, out.input(3)?];
    let outputs = out.outputs()?;
    let mut attrs = vec![int("interleaved", op.interleaved.into())];
    if op.heads > 0 {
        attrs.push(int("num_heads", op.heads as i64));
        attrs.push(int("rotary_embedding_dim", op.dim as i64));
    }
    out.write("com.microsoft.RotaryEmbedding", vec![x, ids, cos, sin], outputs, attrs)
}
