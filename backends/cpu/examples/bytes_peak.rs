//! Speed of products of bytes against the peak of the machine, for each way of multiplying them.
//!
//! `cargo run --release -p rinfer-cpu --example bytes_peak -- [threads]`
use rinfer_cpu::dots_dispatch;
use rinfer_cpu::gemm::bytes::{
    Bias, ByteGemm, Codes, Left, Matrix, PackedBytes, Per, Side, Sums, Zero,
};
use rinfer_cpu::par::Pool;
use rinfer_cpu::peak::rate;
use rinfer_cpu::simd::{Bytes, Dots, I32s, Simd};
use std::hint::black_box;
use std::time::Duration;

/// How long each rate is measured.
const TIME: Duration = Duration::from_millis(330);

/// `n` products into each of 12 vectors: no loads, no waiting.
#[inline(always)]
fn dots<D: Dots>(d: D, n: usize, x: i32) -> i32 {
    let s = d.simd();
    let a = s.splat_i32(x);
    // Each sum is the next right operand: nothing can be taken out of the loop.
    let mut acc = [s.splat_i32(0x0102_0304); 12];
    for _ in 0..n {
        for i in 0..12 {
            acc[i] = d.dot(acc[i], a, acc[i]);
        }
    }
    let mut sum = acc[0];
    for v in &acc[1..] {
        sum = sum + *v;
    }
    sum.reduce_add()
}

fn peak(bytes: Bytes) -> f64 {
    let n = 20_000;
    rate((2 * 12 * n * bytes.lanes() * bytes.step()) as f64, TIME, || {
        let x = black_box(0x0506_0708);
        black_box(dots_dispatch!(bytes, d => dots(d, n, x)));
    })
}

fn measure(bytes: Bytes, pool: &Pool, (m, n, k): (usize, usize, usize), peak: f64) {
    let a: Vec<u8> = (0..m * k).map(|i| (i % 251) as u8).collect();
    let b: Vec<u8> = (0..k * n).map(|i| (i % 241) as u8).collect();
    let a = Matrix { data: &a, signed: false, lanes: m, k, lane: k, step: 1 };
    let b = Matrix { data: &b, signed: true, lanes: n, k, lane: 1, step: n };
    let right = PackedBytes::pack(bytes, Side::Right, &b).expect("memory");
    let (mut sums, mut codes) = (vec![0i32; m * n], vec![0u8; m * n]);
    let scales = vec![1e-4f32; n];
    let finish = Codes { scale: Per::Cols(&scales), zero: 3, ends: [0, 255] };
    let ops = (2 * m * n * k) as f64;
    let mut run = |codes_too: bool| {
        let left = PackedBytes::pack(bytes, Side::Left, &a).expect("memory");
        let (a_zero, b_zero, bias) = (Zero::One(128), Zero::One(0), Bias::None);
        let gemm = ByteGemm { a: Left::Packed(&left), b: &right, a_zero, b_zero, bias };
        if codes_too {
            gemm.run(&finish, &mut codes, n).expect("sizes");
        } else {
            gemm.run(&Sums, &mut sums, n).expect("sizes");
        }
    };
    print!("  {m:5} x {n:5} x {k:5}");
    for (name, codes) in [("sums", false), ("codes", true)] {
        let speed = rate(ops, TIME, || pool.install(|| run(codes)));
        let share = 100.0 * speed / (peak * pool.threads() as f64);
        print!("   {name} {speed:6.1} GOP/s {share:3.0} %");
    }
    println!();
}

fn main() {
    let only: Option<usize> = std::env::args().nth(1).and_then(|a| a.parse().ok());
    for bytes in Bytes::available() {
        let peak = peak(bytes);
        println!("{bytes:?}: peak {peak:.1} GOP/s");
        for threads in [1, 2].into_iter().filter(|n| only.is_none_or(|only| only == *n)) {
            let pool = Pool::new(threads).expect("threads");
            println!(" {threads} threads");
            for size in [256, 512, 1024, 2048] {
                if bytes.lanes() > 1 || size <= 256 {
                    measure(bytes, &pool, (size, size, size), peak);
                }
            }
            for m in [1, 8, 128] {
                for (n, k) in [(768, 768), (3072, 768), (768, 3072)] {
                    if bytes.lanes() > 1 {
                        measure(bytes, &pool, (m, n, k), peak);
                    }
                }
            }
        }
    }
}
