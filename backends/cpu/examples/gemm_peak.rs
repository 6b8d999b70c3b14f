//! Speed of the matrix product against the peak of the machine, for each instruction set.
//!
//! `cargo run --release -p rinfer-cpu --example gemm_peak -- [isa] [threads] [layers]`
//!
//! `layers` measures the products of transformers instead, with as many right operands in turn as
//! do not fit the caches: as the layers of a model follow each other.
use rinfer_cpu::gemm::{Gemm, Lhs, PackedB, Rhs, Strided};
use rinfer_cpu::par::Pool;
use rinfer_cpu::peak::{gflops, rate};
use rinfer_cpu::simd::Isa;
use std::time::Duration;

/// How long each product is measured.
const TIME: Duration = Duration::from_millis(330);

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
        let speed = rate(flops, TIME, || {
            pool.install(|| Gemm::new((m, n, k), left, b).run(isa, &mut c, n).expect("sizes"));
        });
        let share = 100.0 * speed / (peak * pool.threads() as f64);
        let bytes = speed / flops * (4 * k * n) as f64;
        print!("   {name} {speed:6.1} GFLOP/s {share:3.0} % {bytes:5.1} GB/s");
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
    let speed = rate(flops, TIME, || {
        let b = Rhs::Packed(turn.next().expect("endless"));
        pool.install(|| Gemm::new((m, n, k), left, b).run(isa, &mut c, n).expect("sizes"));
    });
    let share = 100.0 * speed / (peak * pool.threads() as f64);
    let bytes = speed / flops * (4 * k * n) as f64;
    println!("  {m:5} x {n:5} x {k:5} {speed:6.1} GFLOP/s {share:3.0} % {bytes:5.1} GB/s");
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
        let peak = gflops(isa);
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
