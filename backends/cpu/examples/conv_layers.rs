//! Speed of convolutions of well-known networks, in GFLOP/s of one thread's own time.
//!
//! `cargo run --release -p rinfer-cpu --example conv_layers -- [substring of a layer's name]`
use rinfer_cpu::conv::{Follow, Geometry, Operands, Plan, Weights};
use rinfer_cpu::math::Activation;
use rinfer_cpu::simd::Isa;
use rinfer_graph::backend::RunCx;
use rinfer_graph::ops::Span;

/// Name, channels in and out, groups, size of the image, kernel, stride.
#[rustfmt::skip]
const LAYERS: &[(&str, usize, usize, usize, usize, usize, usize)] = &[
    ("resnet first 7x7", 3, 64, 1, 224, 7, 2),
    ("resnet 56 3x3", 64, 64, 1, 56, 3, 1),
    ("resnet 28 3x3", 128, 128, 1, 28, 3, 1),
    ("resnet 14 3x3", 256, 256, 1, 14, 3, 1),
    ("resnet 7 3x3", 512, 512, 1, 7, 3, 1),
    ("resnet 56 3x3 stride 2", 128, 128, 1, 56, 3, 2),
    ("resnet 56 1x1 64-256", 64, 256, 1, 56, 1, 1),
    ("resnet 28 1x1 512-128", 512, 128, 1, 28, 1, 1),
    ("resnet 14 1x1 1024-256", 1024, 256, 1, 14, 1, 1),
    ("resnet 7 1x1 512-2048", 512, 2048, 1, 7, 1, 1),
    ("resnet 56 1x1 stride 2", 256, 512, 1, 56, 1, 2),
    ("unet 256 3x3", 64, 64, 1, 256, 3, 1),
    ("unet 32 3x3", 512, 512, 1, 32, 3, 1),
    ("mobilenet first 3x3", 3, 32, 1, 224, 3, 2),
    ("mobilenet 112 depthwise", 32, 32, 32, 112, 3, 1),
    ("mobilenet 112 depthwise stride 2", 96, 96, 96, 112, 3, 2),
    ("mobilenet 56 depthwise", 144, 144, 144, 56, 3, 1),
    ("mobilenet 14 depthwise", 384, 384, 384, 14, 3, 1),
    ("mobilenet 7 depthwise", 960, 960, 960, 7, 3, 1),
    ("efficientnet 28 depthwise 5x5", 240, 240, 240, 28, 5, 1),
    ("mobilenet 14 1x1 384-64", 384, 64, 1, 14, 1, 1),
    ("mobilenet 56 1x1 24-144", 24, 144, 1, 56, 1, 1),
];

/// Nanoseconds this thread has run.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0)
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let isa = Isa::best();
    for &(name, c, m, group, size, kernel, stride) in LAYERS {
        if !name.contains(&filter) {
            continue;
        }
        let pad = kernel / 2;
        let output = (size + 2 * pad - kernel) / stride + 1;
        let a = Span { input: size, output, kernel, stride, dilation: 1, before: pad, after: pad };
        let g = Geometry::new(1, group, (c, m), &[a, a]).expect("small");
        let random = |n: usize| (0..n).map(|i| (i * 7 % 13) as f32 - 6.0).collect::<Vec<f32>>();
        let (x, w, bias) = (random(c * size * size), random(m * g.c * kernel * kernel), random(m));
        let plan = Plan::new(&g).expect("small");
        let ready = Weights::pack(isa, &g, &w).expect("small");
        let operands = Operands { x: &x, w: &w, ready: Some(&ready) };
        let follow = Follow { bias: Some(&bias), residual: None, activation: Activation::Relu };
        let mut y = vec![0.0; m * output * output];
        let mut run = || {
            plan.run(isa, &g, &operands, &follow, &mut y, &RunCx::unbounded()).expect("runs");
        };
        run();
        let (begin, mut runs) = (cpu_time(), 0);
        while cpu_time() - begin < 2e8 {
            run();
            runs += 1;
        }
        let ns = (cpu_time() - begin) / f64::from(runs);
        println!("{name:34} {:7.1} GFLOP/s {:8.3} ms", 2.0 * g.work() as f64 / ns, ns * 1e-6);
    }
}
