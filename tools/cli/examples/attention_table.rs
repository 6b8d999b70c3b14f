//! Attention of BERT-base (12 heads of 64) in three ways: its time and its memory by length.
//!
//! `cargo run --release -p rinfer-cli --example attention_table -- [threads] [lengths…]`
//!
//! - standard: the scores of all heads exist at once: MatMul, Softmax, MatMul;
//! - chunked: the same for 256 queries at a time;
//! - flash: the fused operator, blocks of keys passing by blocks of queries.
//!
//! Each cell is a process of its own, so that the most memory it ever had is that of one variant;
//! what it had before its first run (program, inputs) is taken off.

use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use rinfer::{Model, Session, Tensor, Value};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HEADS: usize = 12;
const HEAD: usize = 64;
/// Queries at a time of the chunked variant.
const CHUNK: usize = 256;
/// Bytes of scores beyond which a variant is not run.
const TOO_MUCH: usize = 4 << 30;
const VARIANTS: [&str; 3] = ["standard", "chunked", "flash"];
const LENGTHS: [usize; 8] = [128, 256, 512, 1024, 2048, 4096, 8192, 16384];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [variant, threads, n] = args.as_slice()
        && VARIANTS.contains(&variant.as_str())
    {
        return cell(variant, threads.parse()?, n.parse()?);
    }
    let numbers = args.iter().map(|a| a.parse()).collect::<std::result::Result<Vec<usize>, _>>()?;
    let threads = numbers.first().copied().unwrap_or(1);
    let lengths = numbers.get(1..).filter(|l| !l.is_empty()).unwrap_or(&LENGTHS);
    println!("BERT-base attention, {threads} threads: ms and MiB");
    println!("{:>6}{:>22}{:>22}{:>22}   flash / standard", "n", "standard", "chunked", "flash");
    for &n in lengths {
        print!("{n:6}");
        let mut cells = Vec::new();
        for variant in VARIANTS {
            let rows = if variant == "chunked" { CHUNK.min(n) } else { n };
            if variant != "flash" && 4 * HEADS * rows * n > TOO_MUCH {
                print!("{:>22}", "-");
                cells.push(None);
                continue;
            }
            let exe = std::env::current_exe()?;
            let done =
                Command::new(exe).args([variant, &threads.to_string(), &n.to_string()]).output()?;
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            let found: Vec<f64> = text.split_whitespace().flat_map(str::parse).collect();
            let [ms, mib] = found[..] else {
                return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
            };
            print!("{ms:11.2}{mib:11.1}");
            cells.push(Some((ms, mib)));
        }
        match (cells[0], cells[2]) {
            (Some((a, b)), Some((c, d))) => {
                println!("   {:.2} of time, {:.2} of memory", c / a, d / b)
            }
            _ => println!(),
        }
    }
    Ok(())
}

/// Measures one variant at one length: prints milliseconds and MiB.
fn cell(variant: &str, threads: usize, n: usize) -> Result<()> {
    let rows = if variant == "chunked" { CHUNK.min(n) } else { n };
    let text = match variant {
        "flash" => "y = Attention<q_num_heads = 12, kv_num_heads = 12>(q, k, v)\n".to_string(),
        _ => format!(
            "kt = Transpose<perm = [0, 1, 3, 2]>(k)\ns = MatMul(q, kt)\nc = Mul(s, {})\n\
             p = Softmax(c)\ny = MatMul(p, v)\n",
            1.0 / (HEAD as f32).sqrt()
        ),
    };
    // Heads side by side for the fused operator, as the product before it leaves them.
    let shape = |n: usize| match variant {
        "flash" => vec![1, n, HEADS * HEAD],
        _ => vec![1, HEADS, n, HEAD],
    };
    let list = |n: usize| shape(n).iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let text =
        format!("q: float[{}]\nk: float[{1}]\nv: float[{1}]\n{text}→ y\n", list(rows), list(n));
    let graph = rinfer::graph::onnx::parse(&text)?;
    let session =
        Session::builder().threads(threads).optimize(false).build(Model::from_graph(graph))?;
    let numbers = |n: usize, seed: usize| -> Value {
        let x = (0..n * HEADS * HEAD).map(|i| ((i * 37 + seed) % 101) as f32 / 50.0 - 1.0);
        Tensor::from_slice(&shape(n), &x.collect::<Vec<_>>()).into()
    };
    let inputs = [("q", numbers(rows, 1)), ("k", numbers(n, 2)), ("v", numbers(n, 3))];
    let before = high_water()?;
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while best.is_infinite() || begin.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        for _ in 0..n.div_ceil(rows) {
            session.run(inputs.clone())?;
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e3);
    }
    let mib = high_water()?.saturating_sub(before) as f64 / 1024.0;
    println!("{best} {mib}");
    Ok(())
}

/// The most memory this process has had, in KiB.
fn high_water() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?.parse()?)
}
