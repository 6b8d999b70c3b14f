//! Speed of one row times weights of few bits against the speed at which memory is read.
//!
//! `cargo run --release -p rinfer-cpu --example codes_speed`
use rinfer_cpu::gemm::codes::{PackedCodes, Shape, ZeroPoints};
use rinfer_cpu::par::Pool;
use rinfer_cpu::simd::Isa;
use std::hint::black_box;
use std::time::Instant;

/// Bytes per nanosecond: the best of the runs of half a second.
fn rate(bytes: usize, mut f: impl FnMut()) -> f64 {
    f();
    let mut best = 0.0f64;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        f();
        best = best.max(bytes as f64 / start.elapsed().as_nanos() as f64);
    }
    best
}

fn main() {
    // More than any cache holds.
    let words = vec![1u64; 32 << 20];
    let memory = rate(8 * words.len(), || {
        let mut sums = [0u64; 8];
        for part in words.as_chunks::<8>().0 {
            for (sum, word) in sums.iter_mut().zip(part) {
                *sum = sum.wrapping_add(*word);
            }
        }
        black_box(sums);
    });
    println!("memory is read at {memory:.1} GB/s by one thread");
    for (bits, block) in [(4, 32), (4, 128), (8, 32), (2, 32)] {
        let shape = Shape { n: 16 << 10, k: 8192, bits, block };
        let blocks = shape.k / block;
        let codes = vec![0x5au8; shape.n * shape.k * bits / 8];
        let scales = vec![0.5f32; shape.n * blocks];
        let zero = ZeroPoints::One((1 << (bits - 1)) as f32);
        let packed = PackedCodes::pack(shape, &codes, &scales, zero).expect("sizes");
        let (a, mut y) = (vec![1.0f32; shape.k], vec![0.0f32; shape.n]);
        let bytes = codes.len() + 4 * scales.len();
        for isa in Isa::available().into_iter().filter(|isa| isa.lanes() > 1) {
            for threads in [1, 2] {
                let pool = Pool::new(threads).expect("threads");
                let speed = rate(bytes, || {
                    pool.install(|| packed.multiply_few(isa, &a, 1, None, &mut y).expect("sizes"));
                });
                let share = 100.0 * speed / memory;
                print!("  {bits} bits by {block}, {}, {threads} threads", isa.name());
                println!("   {speed:5.1} GB/s {share:3.0} %");
            }
        }
    }
}
