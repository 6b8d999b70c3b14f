//! Speed of one row times weights of few bits against the speed at which memory is read.
//!
//! `cargo run --release -p rinfer-cpu --example codes_speed`
use rinfer_cpu::gemm::codes::{PackedCodes, Shape, ZeroPoints};
use rinfer_cpu::par::Pool;
use rinfer_cpu::peak::{gbytes, rate};
use rinfer_cpu::simd::Isa;
use std::time::Duration;

/// How long each product is measured.
const TIME: Duration = Duration::from_millis(500);

fn main() {
    let memory = gbytes(Isa::best()).expect("memory");
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
                let speed = rate(bytes as f64, TIME, || {
                    pool.install(|| packed.multiply_few(isa, &a, 1, None, &mut y).expect("sizes"));
                });
                let share = 100.0 * speed / memory;
                print!("  {bits} bits by {block}, {}, {threads} threads", isa.name());
                println!("   {speed:5.1} GB/s {share:3.0} %");
            }
        }
    }
}
