//! Every kernel against the CPU's: each case is validated as WGSL, and run where there is a GPU.
//!
//! Without an adapter the runs are skipped, and said to be; validation needs none.

mod cases;

use std::sync::Arc;

use rinfer_cpu::eval::run_node;
use rinfer_cpu::simd::{Isa, Scalar};
use rinfer_graph::backend::{Backend, Region, RunCx};
use rinfer_graph::ops::Inputs;
use rinfer_graph::{DType, Fact, Graph, Kind, Node, Op, Reason, Tensor, Value};
use rinfer_wgpu::{Gpu, GpuBackend, kernels, validate};

/// One operator with its inputs.
pub struct Case {
    name: String,
    op: Op,
    inputs: Vec<Option<Tensor>>,
    outputs: usize,
    /// Inputs that are constants of the graph: those whose content decides shapes.
    fixed: &'static [usize],
    /// How far apart results may be, relative to the largest.
    tolerance: f32,
}

fn isa() -> Isa {
    Isa::Scalar(Scalar)
}

impl Case {
    /// The graph of one node.
    fn graph(&self) -> Result<Graph, Reason> {
        let mut g = Graph::new();
        let ids: Vec<_> = self
            .inputs
            .iter()
            .enumerate()
            .map(|(i, t)| {
                let t = t.as_ref()?;
                Some(match self.fixed.contains(&i) {
                    true => g.constant(t.clone()),
                    false => g.input(&format!("x{i}"), Fact::sized(t.dtype(), t.shape())),
                })
            })
            .collect();
        let outputs = g.push(self.op.clone(), &ids, self.outputs)?;
        outputs.iter().for_each(|&y| g.output(y));
        Ok(g)
    }

    fn given(&self) -> Vec<Value> {
        let run = (0..self.inputs.len()).filter(|i| !self.fixed.contains(i));
        run.filter_map(|i| self.inputs[i].clone().map(Value::Tensor)).collect()
    }

    /// Parses and validates every kernel, with and without barriers.
    fn validate(&self) -> Result<(), String> {
        let g = self.graph().map_err(|e| e.to_string())?;
        let node = g.node(g.order()[0]);
        let facts: Vec<Option<&Fact>> = node.inputs.iter().map(|v| v.map(|v| g.fact(v))).collect();
        let made = node.op.infer(&Inputs::new(&facts, self.outputs)).map_err(|e| e.to_string())?;
        for (barriers, subgroups) in [(true, true), (true, false), (false, false)] {
            let sources = kernels(node, &facts, &made, barriers, subgroups);
            let sources = sources.map_err(|e| e.to_string())?;
            for source in sources {
                validate(&source)?;
            }
        }
        Ok(())
    }

    fn on_cpu(&self) -> Result<Vec<Tensor>, Reason> {
        let g = self.graph()?;
        let node: &Node = g.node(g.order()[0]);
        let values: Vec<Option<Value>> =
            self.inputs.iter().map(|t| t.clone().map(Value::Tensor)).collect();
        let made = run_node(isa(), node, &values, usize::MAX, &RunCx::unbounded())?;
        made.into_iter().map(Value::into_tensor).collect()
    }

    fn on_gpu(&self, backend: &GpuBackend) -> Result<Vec<Tensor>, Reason> {
        let g = self.graph()?;
        for supported in backend.supports(&g) {
            supported?;
        }
        let region = Region {
            graph: &g,
            nodes: g.order(),
            inputs: g.inputs(),
            outputs: g.outputs(),
            progress: &|_| {},
        };
        let program = backend.compile(region).map_err(|e| e.reason)?;
        let run = || program.run(self.given(), &RunCx::unbounded()).map_err(|e| e.reason);
        let (first, again) = (run()?, run()?);
        assert!(same_bits(&first, &again), "{}: two runs differ", self.name);
        first.into_iter().map(Value::into_tensor).collect()
    }

    fn compare(&self, backend: &GpuBackend) -> Result<(), String> {
        self.compared(backend).map_err(|(_, text)| text)
    }

    /// As [`Case::compare`], where buffers are bound in parts; false if there are too many parts.
    fn compare_in_parts(&self, backend: &GpuBackend) -> Result<bool, String> {
        match self.compared(backend) {
            Ok(()) => Ok(true),
            Err((Some(Kind::Limit), _)) => Ok(false),
            Err((_, text)) => Err(format!("bound in parts: {text}")),
        }
    }

    fn compared(&self, backend: &GpuBackend) -> Result<(), (Option<Kind>, String)> {
        let expected = self.on_cpu().map_err(|e| (None, format!("on the CPU: {e}")))?;
        let found = self.on_gpu(backend).map_err(|e| (Some(e.kind), format!("on the GPU: {e}")))?;
        self.same(&found, &expected).map_err(|text| (None, text))
    }

    fn same(&self, found: &[Tensor], expected: &[Tensor]) -> Result<(), String> {
        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
            if found.shape() != expected.shape() || found.dtype() != expected.dtype() {
                return Err(format!("output {i} is {found:?}, not {expected:?}"));
            }
            near(found, expected, self.tolerance).map_err(|e| format!("output {i}: {e}"))?;
        }
        Ok(())
    }
}

fn same_bits(a: &[Value], b: &[Value]) -> bool {
    let bytes = |v: &Value| v.as_tensor().map(|t| t.as_bytes().to_vec()).ok();
    a.iter().zip(b).all(|(a, b)| bytes(a) == bytes(b))
}

/// `Err` if an element is further off than `tolerance` of the largest; integers must be equal.
fn near(found: &Tensor, expected: &Tensor, tolerance: f32) -> Result<(), String> {
    let floats = |t: &Tensor| -> Option<Vec<f32>> {
        Some(match t.dtype() {
            DType::F32 => t.as_slice::<f32>().to_vec(),
            DType::F16 => t.as_slice::<half::f16>().iter().map(|x| x.to_f32()).collect(),
            DType::BF16 => t.as_slice::<half::bf16>().iter().map(|x| x.to_f32()).collect(),
            _ => return None,
        })
    };
    let (Some(a), Some(b)) = (floats(found), floats(expected)) else {
        let equal = found.as_bytes() == expected.as_bytes();
        return if equal { Ok(()) } else { Err(format!("{found:?} is not {expected:?}")) };
    };
    let finite = b.iter().filter(|x| x.is_finite());
    let scale = finite.fold(0f32, |m, x| m.max(x.abs()));
    for (i, (&a, &b)) in a.iter().zip(&b).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan());
        let close = (a - b).abs() <= tolerance * scale.max(1e-6);
        if !(same || close) {
            return Err(format!("element {i} is {a}, not {b}"));
        }
    }
    Ok(())
}

/// What must be an error, and of which kind.
const FAULTS: &[(&str, fn(&GpuBackend) -> Result<(), String>)] = &[
    ("an index out of range is an error", index_out_of_range),
    ("a lost device is an error, and opens again", lost_device),
];

fn index_out_of_range(backend: &GpuBackend) -> Result<(), String> {
    let case = cases::gather(&[0, 4]);
    case.compare(backend)?;
    match cases::gather(&[0, 5]).on_gpu(backend) {
        Err(e) if e.kind == Kind::Invalid => case.compare(backend),
        other => Err(format!("{other:?}")),
    }
}

fn lost_device(_: &GpuBackend) -> Result<(), String> {
    let run = |gpu: &Arc<Gpu>| {
        let host: rinfer_wgpu::Host = Arc::new(|_, _, _| Ok(Vec::new()));
        cases::gather(&[1]).on_gpu(&GpuBackend::new(gpu.clone(), host))
    };
    // By its number: not the device that the other cases run on.
    let gpu = Gpu::open(Some("0")).map_err(|e| e.to_string())?;
    run(&gpu).map_err(|e| e.to_string())?;
    gpu.destroy();
    match run(&gpu) {
        Err(e) if e.kind == Kind::Device => {}
        other => return Err(format!("after the loss: {other:?}")),
    }
    let again = Gpu::open(Some("0")).map_err(|e| e.to_string())?;
    run(&again).map(drop).map_err(|e| format!("opened again: {e}"))
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    let host = Arc::new(|node: &Node, inputs: &[Option<Value>], cx: &RunCx<'_>| {
        run_node(isa(), node, inputs, usize::MAX, cx)
    });
    let gpu = Gpu::open(None).map(|gpu| {
        println!("on {}, {}", gpu.info().name, gpu.info().driver);
        let made = || GpuBackend::new(gpu.clone(), host.clone());
        let narrow = made().barriers(false).binding_at_most(256);
        let waiting = [made().barriers(true), made().barriers(true).without_subgroups()];
        (made().barriers(false), narrow, waiting)
    });
    if let Err(reason) = &gpu {
        println!("no run: {reason}");
    }
    let (mut passed, mut failed, mut skipped, mut in_parts) = (0, 0, 0, 0);
    for case in cases::all().into_iter().filter(|c| c.name.contains(&filter)) {
        let result = case.validate().and_then(|()| match &gpu {
            Ok((backend, narrow, waiting)) => case.compare(backend).and_then(|()| {
                let with = |e| format!("with barriers: {e}");
                waiting.iter().try_for_each(|b| case.compare(b).map_err(with))?;
                in_parts += usize::from(case.compare_in_parts(narrow)?);
                Ok(true)
            }),
            Err(_) => Ok(false),
        });
        match result {
            Ok(true) => passed += 1,
            Ok(false) => {
                skipped += 1;
                println!("{}: valid, skipped", case.name);
            }
            Err(e) => {
                failed += 1;
                println!("{}: FAILED: {e}", case.name);
            }
        }
    }
    if let Ok((backend, ..)) = &gpu {
        for (name, check) in FAULTS {
            match check(backend) {
                Ok(()) => passed += 1,
                Err(e) => {
                    failed += 1;
                    println!("{name}: FAILED: {e}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped for want of an adapter");
    println!("{in_parts} passed where kernels see 256 bytes of a buffer at once");
    if failed > 0 {
        std::process::exit(1);
    }
}
