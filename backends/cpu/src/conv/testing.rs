//! Random numbers and sizes for the tests of convolutions and pools.

use rinfer_graph::ops::Span;

use super::Geometry;

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

impl Geometry {
    /// A small convolution of one to three axes, with `groups` groups.
    pub(crate) fn random(r: &mut Random, group: usize) -> Geometry {
        let axes = 1 + r.below(3);
        let spans: Vec<Span> = (0..axes).map(|_| span(r, 40 / axes)).collect();
        let (c, m) = (group * (1 + r.below(5)), group * (1 + r.below(20)));
        Geometry::new(1 + r.below(2), group, (c, m), &spans).unwrap()
    }
}

fn span(r: &mut Random, size: usize) -> Span {
    loop {
        let (input, kernel) = (1 + r.below(size), 1 + r.below(5));
        let (stride, dilation) = (1 + r.below(3), 1 + r.below(3));
        let (before, after) = [(0, 0), (r.below(4), r.below(4))][r.below(2)];
        let extent = (kernel - 1) * dilation + 1;
        if let Some(room) = (input + before + after).checked_sub(extent) {
            let output = room / stride + 1;
            return Span { input, output, kernel, stride, dilation, before, after };
        }
    }
}
