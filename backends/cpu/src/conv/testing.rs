//! Random numbers for the tests of convolutions and pools.

/// A small deterministic generator.
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        const A: u64 = 6_364_136_223_846_793_005;
        self.0 = self.0.wrapping_mul(A).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Numbers between -1 and 1.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.below(2001) as f32 - 1000.0) * 1e-3).collect()
    }
}
