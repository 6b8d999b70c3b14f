//! The left operand: packed, or rows of unsigned bytes read where they lie.
//!
//! Where a word holds four bytes and rows are whole words, a tile reads rows as well as panels: a
//! word is handed to all lanes of a vector either way. Nothing is copied then.

use std::ops::Range;

use super::pack::{PackedBytes, Side};
use super::tile;
use crate::simd::Bytes;

/// Rows of unsigned codes, as words.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    words: &'a [i32],
    bytes: Bytes,
    lanes: usize,
    /// Codes of a row that count.
    k: usize,
    /// Words from one row to the next.
    stride: usize,
    /// Rows of a panel.
    width: usize,
}

impl<'a> Rows<'a> {
    /// `lanes` rows of `k` codes, `stride` bytes apart; what is beyond `k` in a row's last word
    /// meets nothing. `None` where words do not lie so, or the processor takes other ones.
    pub fn new(
        bytes: Bytes,
        data: &'a [u8],
        (lanes, k): (usize, usize),
        stride: usize,
    ) -> Option<Rows<'a>> {
        let fits = bytes.step() == 4 && stride % 4 == 0 && k > 0 && k <= stride;
        let need = lanes.checked_mul(stride).filter(|_| fits)?;
        let words: &[i32] = bytemuck::try_cast_slice(data.get(..need)?).ok()?;
        let width = tile::rows(bytes);
        Some(Rows { words, bytes, lanes, k, stride: stride / 4, width })
    }

    fn summed(&self, row: usize) -> i32 {
        let words: &[i32] = &self.words[row * self.stride..][..self.stride];
        let codes: &[u8] = bytemuck::cast_slice(words);
        codes[..self.k].iter().map(|&code| i32::from(code)).sum()
    }
}

/// A left operand.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// In panels.
    Packed(&'a PackedBytes),
    /// As it lies.
    Rows(Rows<'a>),
}

impl<'a> From<&'a PackedBytes> for Left<'a> {
    fn from(packed: &'a PackedBytes) -> Left<'a> {
        Left::Packed(packed)
    }
}

impl<'a> Left<'a> {
    pub(super) fn is_left(&self) -> bool {
        match self {
            Left::Packed(packed) => packed.side() == Side::Left,
            Left::Rows(_) => true,
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> Bytes {
        match self {
            Left::Packed(packed) => packed.bytes(),
            Left::Rows(rows) => rows.bytes,
        }
    }

    #[inline]
    pub(super) fn lanes(&self) -> usize {
        match self {
            Left::Packed(packed) => packed.lanes(),
            Left::Rows(rows) => rows.lanes,
        }
    }

    pub(super) fn k(&self) -> usize {
        match self {
            Left::Packed(packed) => packed.k(),
            Left::Rows(rows) => rows.k,
        }
    }

    /// What the stored codes are more than they were.
    pub(super) fn offset(&self) -> i32 {
        match self {
            Left::Packed(packed) => packed.offset(),
            Left::Rows(_) => 0,
        }
    }

    /// Σ of the codes of a row.
    pub(super) fn sum(&self, row: usize) -> i32 {
        match self {
            Left::Packed(packed) => packed.sums()[row],
            Left::Rows(rows) => rows.summed(row),
        }
    }

    #[inline]
    fn width(&self) -> usize {
        match self {
            Left::Packed(packed) => packed.width(),
            Left::Rows(rows) => rows.width,
        }
    }

    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.lanes().div_ceil(self.width())
    }

    /// The rows in panel `p`.
    #[inline]
    pub(super) fn panel(&self, p: usize) -> Range<usize> {
        let width = self.width();
        p * width..((p + 1) * width).min(self.lanes())
    }

    /// What a tile reads of panel `p`.
    #[inline]
    pub(super) fn words(&self, p: usize) -> tile::Words<'a> {
        match self {
            Left::Packed(packed) => tile::Words::Panel(packed.words(p)),
            Left::Rows(rows) => {
                let words = &rows.words[p * self.width() * rows.stride..];
                tile::Words::Rows { words, stride: rows.stride, count: rows.k.div_ceil(4) }
            }
        }
    }
}
