//! Every way to convolve against the plain loops, with random sizes, on every instruction set.

use rinfer_graph::ops::Span;

use super::testing::Random;
use super::*;
use crate::par::Pool;

/// A convolution with everything it needs.
struct Case {
    g: Geometry,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Option<Vec<f32>>,
    residual: Option<Vec<f32>>,
    activation: Activation,
}

impl Case {
    fn random(r: &mut Random, g: Geometry) -> Case {
        let outputs = g.batch * g.group * g.m * g.out_len();
        let activations = [Activation::None, Activation::Relu, Activation::Silu];
        Case {
            x: r.floats(g.batch * g.group * g.c * g.in_len()),
            w: r.floats(g.group * g.m * g.c * g.taps()),
            bias: (r.below(2) == 0).then(|| r.floats(g.group * g.m)),
            residual: (r.below(2) == 0).then(|| r.floats(outputs)),
            activation: activations[r.below(3)],
            g,
        }
    }

    fn wanted(&self) -> Vec<f32> {
        let g = &self.g;
        let mut y = vec![0f64; g.batch * g.group * g.m * g.out_len()];
        let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
        let (x, w) = (wide(&self.x), wide(&self.w));
        reference::convolve(g, (&x, &w), &mut y, &RunCx::unbounded(), |m, y| {
            let bias = self.bias.as_ref().map_or(0.0, |b| b[m].into());
            y.iter_mut().for_each(|y| *y += bias);
        })
        .unwrap();
        let residual = |i: usize| self.residual.as_ref().map_or(0.0, |r| r[i].into());
        let sum = y.iter().enumerate().map(|(i, y)| (y + residual(i)) as f32);
        sum.map(|y| self.activation.scalar(y)).collect()
    }

    fn run(&self, isa: Isa, plan: &Plan) -> Vec<f32> {
        let g = &self.g;
        let mut y = vec![f32::NAN; g.batch * g.group * g.m * g.out_len()];
        let follow = Follow {
            bias: self.bias.as_deref(),
            residual: self.residual.as_deref(),
            activation: self.activation,
        };
        let operands = Operands { x: &self.x, w: &self.w, ready: None };
        plan.run(isa, g, &operands, &follow, &mut y, &RunCx::unbounded()).unwrap();
        y
    }

    fn check(&self, plan: &Plan) {
        let wanted = self.wanted();
        for isa in Isa::available() {
            let y = self.run(isa, plan);
            for (i, (y, wanted)) in y.iter().zip(&wanted).enumerate() {
                let tiles = if matches!(plan, Plan::Winograd(_)) { 4.0 } else { 1.0 };
                let scale = 1.0 + (self.g.c * self.g.taps()) as f32 * 0.1 * tiles;
                let g = &self.g;
                assert!((y - wanted).abs() <= 2e-6 * scale, "{y} is not {wanted} at {i} of {g:?}");
            }
        }
    }
}

#[test]
fn patches_agree_with_the_plain_loops() {
    let mut r = Random::new(1);
    for _ in 0..80 {
        let group = 1 + r.below(3);
        let g = Geometry::random(&mut r, group);
        let plan = Plan::Patches(patches::Plan::new(&g).unwrap());
        Case::random(&mut r, g).check(&plan);
    }
}

#[test]
fn depthwise_agrees_with_the_plain_loops() {
    let mut r = Random::new(2);
    for i in 0..80 {
        let group = 1 + r.below(9);
        let mut g = Geometry::random(&mut r, group);
        g.c = 1;
        if i % 2 == 0 {
            g.m = 1;
        }
        let plan = Plan::Depthwise(depthwise::Plan::new(&g).unwrap());
        Case::random(&mut r, g).check(&plan);
    }
}

#[test]
fn tiles_agree_with_the_plain_loops() {
    let mut r = Random::new(3);
    for _ in 0..25 {
        let group = 1 + r.below(2);
        let mut span = |input: usize| {
            let (before, after) = (r.below(3), r.below(3));
            let output = input + before + after - 2;
            Span { input, output, kernel: 3, stride: 1, dilation: 1, before, after }
        };
        let axes = [span(13), span(40), span(21)];
        let axes = if axes[0].before == 1 { [axes[1], axes[2]] } else { [axes[0], axes[1]] };
        let (c, m) = (group * (8 + r.below(20)), group * (8 + r.below(30)));
        let g = Geometry::new(1 + r.below(2), group, (c, m), &axes).unwrap();
        let plan = Plan::Winograd(winograd::Plan::new(&g).unwrap());
        Case::random(&mut r, g).check(&plan);
    }
}

/// x [n, rows, columns] → [n, columns, rows]
fn turned(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let images = x.chunks_exact((rows * columns).max(1));
    images
        .flat_map(|x| (0..columns).flat_map(move |c| (0..rows).map(move |r| x[r * columns + c])))
        .collect()
}

impl Case {
    /// With channels side by side, and turned back; by way of planes where there are few.
    fn run_last(&self, isa: Isa) -> Vec<f32> {
        let g = &self.g;
        let (c, m, pixels) = (g.group * g.c, g.group * g.m, g.out_len());
        let residual = self.residual.as_ref().map(|r| turned(r, m, pixels));
        let (bias, activation) = (self.bias.as_deref(), self.activation);
        let follow = Follow { bias, residual: residual.as_deref(), activation };
        let mut y = vec![f32::NAN; g.batch * m * pixels];
        match first::suits(g) {
            true => {
                let weights = first::Weights::pack(isa, g, &self.w);
                first::run(isa, g, (&self.x, &weights), &follow, &mut y).unwrap();
            }
            false => {
                let weights = last::Weights::pack(isa, g, &self.w).unwrap();
                let x = turned(&self.x, c, g.in_len());
                last::run(isa, g, (&x, &weights), &follow, &mut y, &RunCx::unbounded()).unwrap();
            }
        }
        turned(&y, pixels, m)
    }

    fn check_last(&self, tolerance: f32) {
        let (wanted, g) = (self.wanted(), &self.g);
        let scale = 1.0 + (g.c * g.taps()) as f32 * 0.1;
        for isa in Isa::available() {
            let one = self.run_last(isa);
            for (i, (y, wanted)) in one.iter().zip(&wanted).enumerate() {
                let off = (y - wanted).abs();
                assert!(off <= tolerance * scale, "{y} is not {wanted} at {i} of {g:?}");
            }
            let pool = Pool::new(2).unwrap();
            assert_eq!(pool.install(|| self.run_last(isa)), one, "{g:?} on two threads");
        }
    }
}

fn image(r: &mut Random, group: usize) -> Geometry {
    loop {
        let g = Geometry::random(r, group);
        let d = &g.axes[0];
        if (d.input, d.output, d.kernel, d.before, d.after) == (1, 1, 1, 0, 0) {
            return g;
        }
    }
}

#[test]
fn patches_with_channels_side_by_side_agree_with_the_plain_loops() {
    let mut r = Random::new(5);
    for i in 0..80 {
        let mut g = image(&mut r, 1);
        g.c += 5 + 16 * (i % 3);
        Case::random(&mut r, g).check_last(2e-6);
    }
}

#[test]
fn few_channels_agree_with_the_plain_loops() {
    let mut r = Random::new(8);
    let mut tested = 0;
    while tested < 80 {
        let mut g = image(&mut r, 1);
        (g.c, g.m) = (1 + r.below(4), 1 + r.below(70));
        tested += usize::from(first::suits(&g));
        if first::suits(&g) {
            Case::random(&mut r, g).check_last(2e-6);
        }
    }
}

#[test]
fn depthwise_windows_that_share_loads_agree_with_the_plain_loops() {
    let mut r = Random::new(9);
    for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
        for _ in 0..12 {
            let mut span = || {
                let (input, before, after) = (5 + r.below(20), r.below(4), r.below(4));
                let output = (input + before + after - kernel) / stride + 1;
                Span { input, output, kernel, stride, dilation: 1, before, after }
            };
            let axes = [span(), span()];
            let channels = 16 + r.below(30);
            let g = Geometry::new(1, channels, (channels, channels), &axes).unwrap();
            Case::random(&mut r, g).check_last(2e-6);
        }
    }
}

#[test]
fn depthwise_with_channels_side_by_side_agrees_with_the_plain_loops() {
    let mut r = Random::new(6);
    for _ in 0..80 {
        let group = 2 + r.below(40);
        let mut g = image(&mut r, group);
        (g.c, g.m) = (1, 1);
        Case::random(&mut r, g).check_last(2e-6);
    }
}

#[test]
fn tiles_with_channels_side_by_side_agree_with_the_plain_loops() {
    let mut r = Random::new(7);
    for _ in 0..25 {
        let mut span = |input: usize| {
            let (before, after) = (r.below(3), r.below(3));
            let output = input + before + after - 2;
            Span { input, output, kernel: 3, stride: 1, dilation: 1, before, after }
        };
        let axes = [span(13), span(21)];
        let (c, m) = (8 + r.below(20), 8 + r.below(30));
        let g = Geometry::new(1 + r.below(2), 1, (c, m), &axes).unwrap();
        assert!(winograd::suits(&g));
        Case::random(&mut r, g).check_last(8e-6);
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut r = Random::new(4);
    for _ in 0..5 {
        let mut g = Geometry::random(&mut r, 1);
        (g.c, g.m) = (20, 70);
        let case = Case::random(&mut r, g);
        let plan = Plan::new(&case.g).unwrap();
        let one = case.run(Isa::best(), &plan);
        for threads in [2, 3] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.install(|| case.run(Isa::best(), &plan)), one);
        }
    }
}
