//! What signals are weighted with: HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{DType, Dim, Fact, Facts, Reason, invalid};

/// size → w(n) = a₀ - a₁ cos(2πn/N) + a₂ cos(4πn/N), \[size\].
#[derive(Clone, Debug, PartialEq)]
pub struct CosineWindow {
    /// a₀, a₁, a₂.
    pub terms: [f64; 3],
    /// Whether N is the size, so that windows follow each other smoothly; if not N is size - 1.
    pub periodic: bool,
    /// The type of the output.
    pub dtype: DType,
}

impl CosineWindow {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let size = count(inputs.get(0)?)?;
        one(Fact::new(self.dtype, [size].into_iter().collect()))
    }
}

/// The number that a scalar holds, not negative.
fn count(x: &Fact) -> Result<Dim, Reason> {
    match x.dims().as_deref() {
        None => Ok(Dim::Unknown),
        Some([n]) if n.value().is_none_or(|n| n >= 0) => Ok(n.clone()),
        Some(dims) => Err(invalid!("{} is no size", crate::shape::show(dims))),
    }
}

/// num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz →
/// \[⌊dft_length / 2⌋ + 1, num_mel_bins\], a triangle in each column.
#[derive(Clone, Debug, PartialEq)]
pub struct MelWeightMatrix {
    /// The type of the output.
    pub dtype: DType,
}

impl MelWeightMatrix {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        let (bins, length) = (count(inputs.get(0)?)?, count(inputs.get(1)?)?);
        (2..5).try_for_each(|i| inputs.get(i).map(|_| ()))?;
        let rows = length.value().map_or(Dim::Unknown, |n| Dim::N(n / 2 + 1));
        one(Fact::new(self.dtype, [rows, bins].into_iter().collect()))
    }
}

fn output_dtype(cx: &NodeCx<'_>) -> Result<DType, Reason> {
    use DType::*;
    match cx.dtype_attr("output_datatype")?.unwrap_or(F32) {
        dtype @ (F32 | F64 | F16 | BF16 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64) => Ok(dtype),
        other => Err(invalid!("output_datatype is {other}")),
    }
}

fn import_window(cx: &mut NodeCx<'_>, terms: [f64; 3]) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    let dtype = output_dtype(cx)?;
    let periodic = cx.flag("periodic", true)?;
    cx.emit(CosineWindow { terms, periodic, dtype })
}

pub(super) fn import_hann(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import_window(cx, [0.5, 0.5, 0.0])
}

pub(super) fn import_hamming(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    // 25/46 and 21/46 are the numbers of ONNX's function body.
    import_window(cx, [25.0 / 46.0, 21.0 / 46.0, 0.0])
}

pub(super) fn import_blackman(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    import_window(cx, [0.42, 0.5, 0.08])
}

pub(super) fn import_mel(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(5, 5)?;
    let dtype = output_dtype(cx)?;
    cx.emit(MelWeightMatrix { dtype })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[test]
    fn a_window_is_as_long_as_its_input_says() {
        let op = CosineWindow { terms: [0.5, 0.5, 0.0], periodic: true, dtype: DType::F32 };
        let infer = |n: i64| {
            let size = Fact::constant(Tensor::scalar(n));
            op.infer(&Inputs::new(&[Some(&size)], 1))
        };
        assert_eq!(infer(10).unwrap()[0], Fact::sized(DType::F32, &[10]));
        assert!(infer(-1).is_err());
    }
}
