//! Panels of words: bytes copied into the order in which tiles read them.
//!
//! Lanes (rows of A, columns of B) are cut into panels as wide as a tile; a panel holds the words
//! of its lanes side by side for each step along k: `[⌈k / step⌉][width]`. A word holds as many
//! codes as the processor multiplies at a time; codes beyond k are 0. The last panel of A is as
//! wide as what is left, that of B is rounded up to whole vectors.

use std::ops::Range;

use rinfer_graph::sync::OnceLock;

use super::tile;
use crate::par;
use crate::pool::Buffer;
use crate::simd::{Bytes, Dots, I32s, Simd};

/// Lanes of the widest panel.
const WIDEST: usize = 64;

/// On which side of the product a matrix stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Lanes are rows; codes are stored unsigned.
    Left,
    /// Lanes are columns; codes are stored signed.
    Right,
}

/// A matrix of codes somewhere in memory: code `p` of lane `i` is `data[i · lane + p · step]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The codes.
    pub data: &'a [u8],
    /// Whether they are int8.
    pub signed: bool,
    /// Rows of A or columns of B.
    pub lanes: usize,
    /// Columns of A or rows of B.
    pub k: usize,
    /// Distance between lanes.
    pub lane: usize,
    /// Distance between codes of a lane.
    pub step: usize,
}

impl Matrix<'_> {
    fn check(&self) -> Result<(), String> {
        if self.lanes == 0 || self.k == 0 {
            return Ok(());
        }
        let last = |n: usize, step: usize| (n - 1).checked_mul(step);
        let need = last(self.lanes, self.lane)
            .and_then(|at| at.checked_add(last(self.k, self.step)?)?.checked_add(1));
        match need {
            Some(need) if need <= self.data.len() => Ok(()),
            _ => Err(format!(
                "{} lanes of {} codes do not fit {} bytes",
                self.lanes,
                self.k,
                self.data.len()
            )),
        }
    }
}

/// A matrix of codes, packed for one side of a product.
#[derive(Debug)]
pub struct PackedBytes {
    data: Buffer,
    bytes: Bytes,
    side: Side,
    lanes: usize,
    k: usize,
    /// Codes in a word.
    step: usize,
    /// Lanes of a full panel.
    width: usize,
    /// Lanes that a panel of the right side is rounded up to.
    round: usize,
    /// What the stored codes are more than they were.
    offset: i32,
    /// Σ of the stored codes of each lane, once somebody asks.
    sums: OnceLock<Vec<i32>>,
}

impl PackedBytes {
    /// Packs a matrix.
    ///
    /// # Errors
    /// The codes are not there, or memory is not.
    pub fn pack(bytes: Bytes, side: Side, matrix: &Matrix<'_>) -> Result<PackedBytes, String> {
        matrix.check()?;
        let fill = |_: usize, panel: &Panel, words: &mut [i32]| {
            let lanes = panel.lanes.clone();
            let start = (lanes.start * matrix.lane).min(matrix.data.len());
            let part = Matrix { data: &matrix.data[start..], lanes: lanes.len(), ..*matrix };
            panel.copy(&part, words);
        };
        Self::made(bytes, side, (matrix.lanes, matrix.k), matrix.signed, fill)
    }

    /// Packs panels that `fill(panel, its layout, its words)` writes.
    pub(crate) fn made(
        bytes: Bytes,
        side: Side,
        (lanes, k): (usize, usize),
        signed: bool,
        fill: impl Fn(usize, &Panel, &mut [i32]) + Sync,
    ) -> Result<PackedBytes, String> {
        // Stored codes are unsigned on the left, signed on the right.
        let offset = match (side, signed) {
            (Side::Left, true) => 128,
            (Side::Right, false) => -128,
            _ => 0,
        };
        let round = if side == Side::Left { 1 } else { bytes.lanes() };
        let mut packed = PackedBytes {
            data: Buffer::default(),
            bytes,
            side,
            lanes,
            k,
            step: bytes.step(),
            width: match side {
                Side::Left => tile::rows(bytes),
                Side::Right => tile::vectors(bytes) * bytes.lanes(),
            },
            round,
            offset,
            sums: OnceLock::new(),
        };
        let words = lanes.checked_next_multiple_of(round);
        let words = words.and_then(|lanes| lanes.checked_mul(packed.steps()));
        let too_large = || format!("a packed matrix of {lanes} x {k} is too large");
        packed.data = Buffer::zeroed::<i32>(words.ok_or_else(too_large)?)?;
        let width = packed.width();
        let mut data = std::mem::take(&mut packed.data);
        let len = (width * packed.steps()).max(1);
        let all = &mut data.as_mut_slice::<i32>()[..words.unwrap_or(0)];
        par::chunks_mut(all, len, par::grain(len), |p, words| {
            fill(p, &packed.layout(p), words);
        });
        packed.data = data;
        Ok(packed)
    }

    /// Bytes that the panels of `lanes` rows or columns take.
    pub(crate) fn room(bytes: Bytes, side: Side, (lanes, k): (usize, usize)) -> usize {
        let round = if side == Side::Left { 1 } else { bytes.lanes() };
        lanes.next_multiple_of(round).saturating_mul(k.div_ceil(bytes.step())).saturating_mul(4)
    }

    fn layout(&self, p: usize) -> Panel {
        let flip = if self.offset == 0 { 0 } else { 0x80 };
        let signed = self.side == Side::Right;
        Panel { lanes: self.panel(p), width: self.stored(p), step: self.step(), flip, signed }
    }

    /// Σ of the stored codes of each lane.
    fn summed(&self) -> Vec<i32> {
        let mut sums = Vec::with_capacity(self.lanes);
        for p in 0..self.count() {
            let (width, lanes) = (self.stored(p), self.panel(p).len());
            let mut panel = [0i32; WIDEST];
            let (words, left) = (self.words(p), self.side == Side::Left);
            // What is called takes what it captures, and would take a copy of the array.
            let to = &mut panel;
            crate::dots_dispatch!(self.bytes, d => add_words(d, left, words, width, to));
            sums.extend_from_slice(&panel[..lanes]);
        }
        sums
    }

    /// How its words are multiplied.
    #[inline]
    pub fn bytes(&self) -> Bytes {
        self.bytes
    }

    /// Its side.
    #[inline]
    pub fn side(&self) -> Side {
        self.side
    }

    /// Rows of A or columns of B.
    #[inline]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Columns of A or rows of B.
    #[inline]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Codes in a word.
    #[inline]
    pub fn step(&self) -> usize {
        self.step
    }

    #[inline]
    fn steps(&self) -> usize {
        self.k.div_ceil(self.step())
    }

    #[inline]
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// What the stored codes are more than they were.
    pub(super) fn offset(&self) -> i32 {
        self.offset
    }

    /// Σ of the stored codes of each lane.
    pub(super) fn sums(&self) -> &[i32] {
        self.sums.get_or_init(|| self.summed())
    }

    /// Number of panels.
    pub(super) fn count(&self) -> usize {
        self.lanes.div_ceil(self.width())
    }

    /// The lanes in panel `p`.
    #[inline]
    pub(super) fn panel(&self, p: usize) -> Range<usize> {
        let width = self.width();
        p * width..((p + 1) * width).min(self.lanes)
    }

    /// The width panel `p` is stored with.
    #[inline]
    pub(super) fn stored(&self, p: usize) -> usize {
        self.panel(p).len().next_multiple_of(self.round)
    }

    /// The words of panel `p`.
    #[inline]
    pub(super) fn words(&self, p: usize) -> &[i32] {
        let at = p * self.width() * self.steps();
        &self.data.as_slice::<i32>()[at..][..self.stored(p) * self.steps()]
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.data.as_slice::<u8>().len() + 4 * self.lanes
    }
}

/// Adds the codes of each lane of a panel to `sums`: their products with ones.
#[inline(always)]
fn add_words<D: Dots>(d: D, left: bool, words: &[i32], width: usize, sums: &mut [i32; WIDEST]) {
    let s = d.simd();
    let lanes = <D::Simd as Simd>::LANES;
    let ones = s.splat_i32(if D::STEP == 4 { 0x0101_0101 } else { 0x0001_0001 });
    let whole = width - width % lanes;
    for words in words.chunks_exact(width.max(1)) {
        for j in (0..whole).step_by(lanes) {
            let (word, sum) = (s.load_i32(&words[j..]), s.load_i32(&sums[j..]));
            let sum = if left { d.dot(sum, word, ones) } else { d.dot(sum, ones, word) };
            sum.store(&mut sums[j..]);
        }
        for (sum, &word) in sums[whole..width].iter_mut().zip(&words[whole..]) {
            *sum = sum.wrapping_add(sum_of::<D>(left, word));
        }
    }
}

/// Σ of the codes in a word.
#[inline(always)]
fn sum_of<D: Dots>(left: bool, word: i32) -> i32 {
    let [a, b, c, d] = word.to_le_bytes();
    match (D::STEP, left) {
        (4, true) => [a, b, c, d].iter().map(|&x| i32::from(x)).sum(),
        (4, false) => [a, b, c, d].iter().map(|&x| i32::from(x as i8)).sum(),
        _ => i32::from(i16::from_le_bytes([a, b])) + i32::from(i16::from_le_bytes([c, d])),
    }
}

/// How a panel is written.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// Its lanes.
    pub lanes: Range<usize>,
    /// Words for each step.
    width: usize,
    /// Codes in a word.
    step: usize,
    /// What makes a code one of the kind that is stored.
    flip: u8,
    /// Whether stored codes are signed.
    signed: bool,
}

impl Panel {
    /// A code as it is stored, in 16 bits.
    #[inline(always)]
    fn wide(&self, code: u8) -> u32 {
        let code = code ^ self.flip;
        match self.signed {
            true => u32::from(i16::from(code as i8) as u16),
            false => u32::from(code),
        }
    }

    /// The word of up to 4 (or 2) codes; those beyond are 0.
    #[inline(always)]
    fn word(&self, codes: &[u8]) -> i32 {
        let mut word = 0u32;
        for (i, &code) in codes.iter().enumerate() {
            word |= match self.step {
                4 => u32::from(code ^ self.flip) << (8 * i),
                _ => self.wide(code) << (16 * i),
            };
        }
        word as i32
    }

    /// Writes a panel whose lanes are those of `from`.
    pub fn copy(&self, from: &Matrix<'_>, words: &mut [i32]) {
        match (from.step, from.lane) {
            (1, _) => self.copy_lanes(from, words),
            (_, 1) => self.copy_steps(from, words),
            _ => {
                for (q, words) in words.chunks_exact_mut(self.width).enumerate() {
                    for (i, word) in words.iter_mut().take(from.lanes).enumerate() {
                        let end = from.k.min((q + 1) * self.step);
                        let mut codes = [0; 4];
                        for (code, p) in codes.iter_mut().zip(q * self.step..end) {
                            *code = from.data[i * from.lane + p * from.step];
                        }
                        *word = self.word(&codes[..end - q * self.step]);
                    }
                }
            }
        }
    }

    /// Writes a panel row by row: `read(row, codes)` brings the codes of all lanes in a row, which
    /// are masked: `code ^ mask` is meant.
    pub fn copy_rows<R>(
        &self,
        rows: impl Iterator<Item = R>,
        mask: u8,
        words: &mut [i32],
        read: impl Fn(R, &mut [u8]),
    ) {
        let (mut rows, lanes) = (rows.fuse(), self.lanes.len());
        let mut codes = [[0u8; WIDEST]; 4];
        let plain = Panel { flip: self.flip ^ mask, ..self.clone() };
        for words in words.chunks_exact_mut(self.width) {
            let mut have = 0;
            for codes in codes.iter_mut().take(self.step) {
                let Some(row) = rows.next() else { break };
                read(row, &mut codes[..lanes]);
                have += 1;
            }
            if self.step == 4 && have == 4 {
                let flip = u32::from_le_bytes([plain.flip; 4]);
                let [a, b, c, d] = &codes;
                for (i, word) in words.iter_mut().take(lanes).enumerate() {
                    *word = (u32::from_le_bytes([a[i], b[i], c[i], d[i]]) ^ flip) as i32;
                }
                continue;
            }
            for (i, word) in words.iter_mut().take(lanes).enumerate() {
                let each: [u8; 4] = std::array::from_fn(|q| codes[q][i]);
                *word = plain.word(&each[..have]);
            }
        }
    }

    /// Codes of a lane lie side by side.
    fn copy_lanes(&self, from: &Matrix<'_>, words: &mut [i32]) {
        if from.k == 0 {
            return;
        }
        for i in 0..from.lanes {
            let lane = &from.data[i * from.lane..][..from.k];
            let places = words[i..].iter_mut().step_by(self.width);
            if self.step == 4 {
                let flip = u32::from_le_bytes([self.flip; 4]);
                let (whole, rest) = lane.as_chunks::<4>();
                let mut places = places;
                for (codes, word) in whole.iter().zip(&mut places) {
                    *word = (u32::from_le_bytes(*codes) ^ flip) as i32;
                }
                if let (false, Some(word)) = (rest.is_empty(), places.next()) {
                    *word = self.word(rest);
                }
            } else {
                for (codes, word) in lane.chunks(2).zip(places) {
                    *word = self.word(codes);
                }
            }
        }
    }

    /// Codes of a step lie side by side.
    fn copy_steps(&self, from: &Matrix<'_>, words: &mut [i32]) {
        for (q, words) in words.chunks_exact_mut(self.width).enumerate() {
            let codes = self.step.min(from.k - q * self.step);
            let words = &mut words[..from.lanes];
            words.fill(0);
            for i in 0..codes {
                let row = &from.data[(q * self.step + i) * from.step..][..from.lanes];
                if self.step == 4 {
                    for (word, &code) in words.iter_mut().zip(row) {
                        *word |= (u32::from(code ^ self.flip) << (8 * i)) as i32;
                    }
                } else {
                    for (word, &code) in words.iter_mut().zip(row) {
                        *word |= (self.wide(code) << (16 * i)) as i32;
                    }
                }
            }
        }
    }
}
