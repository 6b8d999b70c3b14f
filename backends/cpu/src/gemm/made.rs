//! A right operand that is made as it is needed: a convolution's patches are larger than the image
//! they come from, so only those columns exist that are being multiplied.

use crate::simd::Isa;

/// The columns of a matrix, made on demand.
pub trait Made: Sync + std::fmt::Debug {
    /// Writes columns `first..first + cols` to `panel`, row after row, `width` elements each; what
    /// stands beyond `cols` may be anything.
    fn panel(&self, isa: Isa, first: usize, cols: usize, width: usize, panel: &mut [f32]);
}
