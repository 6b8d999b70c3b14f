//! Which kernel for products is fastest here: measured, and only used where it is asked for.
//!
//! Kernels differ in the order in which they add, so another choice may round differently: by
//! default the choice follows from the kind of adapter alone, and results from run to run are the
//! same everywhere.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rinfer_graph::backend::{Backend, NodeEvent, Profile, Region, RunCx};
use rinfer_graph::ops::MatMul;
use rinfer_graph::{DType, Fact, Graph, Kind, Reason, Tensor, Value, invalid};

use crate::device::Gpu;
use crate::program::{GpuBackend, Host};

/// A kernel for products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Each lane by itself: no barriers.
    Lane,
    /// A workgroup for 64 columns of one row.
    Row,
    /// A workgroup for 64 × 64 elements, in shared memory.
    Tile,
}

impl Product {
    const ALL: [(Product, &'static str); 3] =
        [(Product::Lane, "lane"), (Product::Row, "row"), (Product::Tile, "tile")];
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Product::ALL.iter().find(|(p, _)| p == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// Which kernels run. As text: `few=row many=tile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Products of up to four rows.
    pub few: Product,
    /// Products of more rows.
    pub many: Product,
}

impl Tuning {
    /// For adapters whose lanes wait for one another cheaply, and for those that are a processor.
    pub fn usual(barriers: bool) -> Tuning {
        match barriers {
            true => Tuning { few: Product::Row, many: Product::Tile },
            false => Tuning { few: Product::Lane, many: Product::Lane },
        }
    }

    /// The kernel for a product of `m` rows.
    pub(crate) fn product(self, m: usize) -> Product {
        if m <= 4 { self.few } else { self.many }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "few={} many={}", self.few, self.many)
    }
}

impl FromStr for Tuning {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Tuning, Reason> {
        let find = |key: &str| {
            let value = text.split_whitespace().find_map(|word| word.strip_prefix(key))?;
            Product::ALL.iter().find(|(_, name)| *name == value).map(|(p, _)| *p)
        };
        match (find("few="), find("many=")) {
            (Some(few), Some(many)) => Ok(Tuning { few, many }),
            _ => Err(invalid!("{text:?} is no tuning")),
        }
    }
}

/// Milliseconds that one kernel took in a class of products.
#[derive(Clone, Debug)]
pub struct Trial {
    /// `few` or `many` rows.
    pub class: &'static str,
    /// Rows, columns, and what is summed over.
    pub sizes: [usize; 3],
    /// The kernel.
    pub product: Product,
    /// The shortest of some runs.
    pub ms: f64,
}

/// How much faster than the usual kernel another must be.
const GAIN: f64 = 0.95;
/// Runs of each, of which the shortest counts; the first compiles.
const RUNS: usize = 6;

/// Measures every kernel on the adapter that `which` names: the fastest, and all that was measured.
///
/// # Errors
/// There is no such adapter, a run fails, or kernels disagree.
pub fn tune(which: Option<&str>) -> Result<(Tuning, Vec<Trial>), Reason> {
    let gpu = Gpu::open(which)?;
    let usual = Tuning::usual(gpu.traits.barriers);
    let side = if gpu.traits.barriers { 1024 } else { 256 };
    let mut trials = Vec::new();
    let mut best = usual;
    for (class, sizes) in [("few", [1, 4 * side, 4 * side]), ("many", [side; 3])] {
        let mut expected: Option<Tensor> = None;
        let mut times = Vec::new();
        for (product, _) in Product::ALL {
            let tuning = Tuning { few: product, many: product };
            let gpu = Gpu::open_tuned(which, Some(tuning))?;
            let (seconds, made) = measure(gpu, sizes)?;
            agree(expected.get_or_insert_with(|| made.clone()), &made, product)?;
            times.push((product, seconds));
            trials.push(Trial { class, sizes, product, ms: 1e3 * seconds });
        }
        let slot = if class == "few" { &mut best.few } else { &mut best.many };
        let of = |p: Product| times.iter().find(|(q, _)| *q == p).map_or(f64::MAX, |(_, s)| *s);
        let limit = GAIN * of(*slot);
        let faster = times.iter().filter(|(_, s)| *s < limit);
        if let Some((product, _)) = faster.min_by(|a, b| a.1.total_cmp(&b.1)) {
            *slot = *product;
        }
    }
    Ok((best, trials))
}

/// Adds up what the nodes of a run took.
#[derive(Default)]
struct Sum(Mutex<Duration>);

impl Profile for Sum {
    fn node(&self, event: &NodeEvent<'_>) {
        if event.backend == "gpu" && event.op != "Readback" {
            let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *sum += event.end.saturating_duration_since(event.start);
        }
    }
}

/// Seconds of one product, and its result.
fn measure(gpu: Arc<Gpu>, [m, n, k]: [usize; 3]) -> Result<(f64, Tensor), Reason> {
    let numbers = |rows: usize, columns: usize| {
        let x: Vec<f32> =
            (0..rows * columns).map(|i| ((i * 29 + i / 7) % 61) as f32 / 61.0 - 0.5).collect();
        Tensor::from_slice(&[rows, columns], &x)
    };
    let mut g = Graph::new();
    let x = g.input("x", Fact::sized(DType::F32, &[m, k]));
    let w = g.constant(numbers(k, n));
    let y = g.push1(MatMul::PLAIN, &[x, w])?;
    g.output(y);
    let host: Host = Arc::new(|_, _, _| Err(invalid!("nothing runs on the host")));
    let backend = GpuBackend::new(gpu, host);
    let region = Region {
        graph: &g,
        nodes: g.order(),
        inputs: g.inputs(),
        outputs: g.outputs(),
        progress: &|_| {},
    };
    let program = backend.compile(region).map_err(|e| e.reason)?;
    let given: Value = numbers(m, k).into();
    let (mut best, mut made) = (f64::INFINITY, None);
    for i in 0..RUNS {
        let sum = Sum::default();
        let cx = RunCx { profile: Some(&sum), ..RunCx::unbounded() };
        let outputs = program.run(vec![given.clone()], &cx).map_err(|e| e.reason)?;
        let seconds = sum.0.lock().unwrap_or_else(PoisonError::into_inner).as_secs_f64();
        if i > 0 {
            best = best.min(seconds);
        }
        made = outputs.into_iter().next();
        // A kernel that is that slow need not be measured well.
        if i > 0 && seconds > 1.0 {
            break;
        }
    }
    let made = made.ok_or_else(|| invalid!("a product without a result"))?;
    Ok((best, made.into_tensor()?))
}

/// `Err` if a kernel computes something else than the first.
fn agree(expected: &Tensor, found: &Tensor, product: Product) -> Result<(), Reason> {
    let (a, b) = (expected.as_slice::<f32>(), found.as_slice::<f32>());
    let scale = a.iter().fold(0f32, |m, x| m.max(x.abs()));
    match a.iter().zip(b).position(|(a, b)| (a - b).abs() > 1e-4 * scale) {
        None => Ok(()),
        Some(i) => {
            let text = format!("kernel {product} made {} of element {i}, not {}", b[i], a[i]);
            Err(Reason::new(Kind::Internal, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_is_read_as_it_was_written() {
        let tuning = Tuning { few: Product::Row, many: Product::Lane };
        assert_eq!(tuning.to_string(), "few=row many=lane");
        assert_eq!("few=row many=lane".parse::<Tuning>().unwrap(), tuning);
        assert!("few=row many=fast".parse::<Tuning>().is_err());
    }
}
