//! Speed of the matrix product against the peak of the machine, for each instruction set.
//!
//! `cargo run --release -p rinfer-cpu --example gemm_peak -- [isa] [threads] [layers]`
//!
//! `layers` measures the products of transformers instead, with as many right operands in turn as
//! do not fit the caches: as the layers of a model follow each other.
use rinfer_cpu::gemm::{Gemm, Lhs, PackedB, Rhs, Strided};
use rinfer_cpu::par::Pool;
use rinfer_cpu::simd::{F32s, Isa};
use rinfer_cpu::simd_fn;
use std::hint::black_box;
use std::time::Instant;

simd_fn! {
    /// `n` multiply-adds on each of 12 vectors: no loads, no waiting.
    fn multiply_adds(s: S, n: usize, x: f32) -> f32 {
        let (b, c) = (s.splat(x), s.splat(0.5));
        let mut acc = [s.splat(1.0); 12];
        for _ in 0..n {
            for i in 0..12 {
                acc[i] = acc[i].mul_add(b, c);
            }
        }
        let mut sum = acc[0];
        for v in &acc[1..] {
            sum = sum + *v;
        }
        sum.reduce_add()
    }
}

/// `work` per nanosecond: the best of the runs of a third of a second.
fn rate(work: f64, mut f: impl FnMut()) -> f64 {
    f();
    let mut best = 0.0f64;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.33 {
        let start = Instant::now();
        f();
        best = best.max(work / start.elapsed().as_nanos() as f64);
    }
    best
}

fn peak(isa: Isa) -> f64 {
    let n = 20_000;
    rate((2 * 12 * n * isa.lanes()) as f64, || {
        black_box(multiply_adds(isa, n, black_box(0.5)));
    })
}

fn measure(isa: Isa, pool: &Pool, (m, n, k): (usize, usize, usize), peak: f64) {
    let a: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32).collect();
    let mut c = vec![0.0; m * n];
    let right = Strided::rows(&b, n);
    let packed = PackedB::pack(isa, k, n, right).expect("memory");
    let turned = Strided::rows(&b, k).transposed();
    let left = Lhs::Plain(Strided::rows(&a, k));
    let flops = (2 * m * n * k) as f64;
    print!("  {m:5} x {n:5} x {k:5}");
    for (name, b) in [
        ("packed", Rhs::Packed(&packed)),
        ("plain", Rhs::Plain(right)),
        ("turned", Rhs::Plain(turned)),
    ] {
        let rate = rate(flops, || {
            pool.install(|| Gemm::new((m, n, k), left, b).run(isa, &mut c, n).expect("sizes"));
        });
        let share = 100.0 * rate / (peak * pool.threads() as f64);
        let bytes = rate / flops * (4 * k * n) as f64;
        print!("   {name} {rate:6.1} GFLOP/s {share:3.0} % {bytes:5.1} GB/s");
    }
    println!();
}

/// Bytes of right operands that no cache holds.
const FAR: usize = 96 << 20;

/// Products of one left operand with packed weights that come from memory.
fn layers(isa: Isa, pool: &Pool, (m, n, k): (usize, usize, usize), peak: f64) {
    let a: Vec<f32> = (0..m * k).map(|i| (i % 17) as f32).collect();
    let b: Vec<f32> = (0..k * n).map(|i| (i % 13) as f32).collect();
    let mut c = vec![0.0; m * n];
    let weights: Vec<PackedB> = (0..(FAR / (4 * k * n)).max(2))
        .map(|_| PackedB::pack(isa, k, n, Strided::rows(&b, n)).expect("memory"))
        .collect();
    let left = Lhs::Plain(Strided::rows(&a, k));
    let flops = (2 * m * n * k) as f64;
    let mut turn = weights.iter().cycle();
    let rate = rate(flops, || {
        let b = Rhs::Packed(turn.next().expect("endless"));
        pool.install(|| Gemm::new((m, n, k), left, b).run(isa, &mut c, n).expect("sizes"));
    });
    let share = 100.0 * rate / (peak * pool.threads() as f64);
    let bytes = rate / flops * (4 * k * n) as f64;
    println!("  {m:5} x {n:5} x {k:5} {rate:6.1} GFLOP/s {share:3.0} % {bytes:5.1} GB/s");
}

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let count = args.len();
    args.retain(|a| a != "layers");
    let transformers = args.len() < count;
    let wanted = |isa: &Isa| {
        !args.iter().any(|a| a.parse::<usize>().is_err()) || args.iter().any(|a| a == isa.name())
    };
    let threads = |n: &usize| !args.iter().any(|a| a.parse().is_ok_and(|a: usize| a != *n));
    for isa in Isa::available().into_iter().filter(wanted) {
        let peak = peak(isa);
        println!("{}: peak {peak:.1} GFLOP/s", isa.name());
        for threads in [1, 2].into_iter().filter(threads) {
            let pool = Pool::new(threads).expect("threads");
            println!(" {threads} threads");
            if transformers {
                for m in [1, 2, 4, 8, 16, 32, 64, 128, 197, 512] {
                    for (n, k) in [(768, 768), (3072, 768), (768, 3072), (384, 384)] {
                        layers(isa, &pool, (m, n, k), peak);
                    }
                }
                continue;
            }
            for size in [256, 512, 1024, 2048] {
                if isa.lanes() > 1 || size <= 512 {
                    measure(isa, &pool, (size, size, size), peak);
                }
            }
            for m in [1, 4, 8, 128, 512] {
                for n in [768, 3072] {
                    measure(isa, &pool, (m, n, 768), peak);
                }
            }
            measure(isa, &pool, (128, 128, 64), peak);
            measure(isa, &pool, (128, 64, 128), peak);
        }
    }
}
