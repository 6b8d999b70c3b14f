//! Runs one node by itself: for constant folding, and for the tests of every kernel.

use rinfer_graph::backend::{Eval, RunCx};
use rinfer_graph::ops::Inputs;
use rinfer_graph::{Fact, Facts, Graph, Node, NodeId, Reason, Tensor, Value, invalid};

use crate::kernel::{Args, Cx, Kernel, Packs, Run};
use crate::meter::metered;
use crate::ops;
use crate::simd::Isa;

/// Runs single nodes on constants.
#[derive(Clone, Copy, Debug)]
pub struct NodeEval {
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// Bytes that the outputs of a node may take.
    pub limit: usize,
}

impl Eval for NodeEval {
    fn eval(
        &self,
        graph: &Graph,
        node: NodeId,
        inputs: &[Option<Value>],
    ) -> Result<Vec<Value>, Reason> {
        run_node(self.isa, graph.node(node), inputs, self.limit, &RunCx::unbounded())
    }
}

/// Computes a node's outputs from its inputs' values. `limit` bounds the outputs' bytes.
pub fn run_node(
    isa: Isa,
    node: &Node,
    inputs: &[Option<Value>],
    limit: usize,
    cx: &RunCx<'_>,
) -> Result<Vec<Value>, Reason> {
    let facts: Vec<Option<Fact>> = inputs.iter().map(|v| v.as_ref().map(Fact::of_value)).collect();
    let refs: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
    let outputs = node.op.infer(&Inputs::new(&refs, node.outputs.len()))?;
    let bytes = outputs.iter().try_fold(0usize, |sum, fact| sum.checked_add(fact_bytes(fact)?));
    if bytes.is_none_or(|bytes| bytes > limit) {
        let text = format!("the outputs would take more than {limit} bytes");
        return Err(Reason::new(rinfer_graph::Kind::Limit, text));
    }
    let packs = Packs::default();
    let limits = cx.limits;
    let known = Cx { isa, node, inputs: &refs, outputs: &outputs, packs: &packs, limits };
    run_kernel(&ops::compile(&known)?, inputs, &outputs, cx)
}

/// Bytes of a tensor of known shape; 0 where the kernel decides.
fn fact_bytes(fact: &Fact) -> Option<usize> {
    match (fact.ty.dtype(), fact.sizes()) {
        (Some(dtype), Some(sizes)) if dtype.bits() > 0 => {
            rinfer_graph::tensor::size_in_bytes(dtype, &sizes).ok()
        }
        _ => Some(0),
    }
}

/// Runs a kernel with memory of its own.
pub(crate) fn run_kernel(
    kernel: &Kernel,
    inputs: &[Option<Value>],
    outputs: &Facts,
    cx: &RunCx<'_>,
) -> Result<Vec<Value>, Reason> {
    let run = match &kernel.run {
        Run::Values(run) => return metered(&kernel.scratch, || run(inputs, cx)),
        Run::View => return view(inputs, outputs),
        Run::Tensors(run) => run,
    };
    let tensors: Vec<Option<&Tensor>> = inputs
        .iter()
        .map(|v| v.as_ref().map(Value::as_tensor).transpose())
        .collect::<Result<_, _>>()?;
    let mut made: Vec<Tensor> = outputs
        .iter()
        .map(|fact| {
            let sizes =
                fact.sizes().ok_or_else(|| invalid!("an output's shape, {fact}, is not known"))?;
            Tensor::try_zeros(fact.dtype()?, &sizes)
        })
        .collect::<Result<_, _>>()?;
    metered(&kernel.scratch, || run(&mut Args { inputs: &tensors, outputs: &mut made, cx }))?;
    Ok(made.into_iter().map(Value::Tensor).collect())
}

/// Input 0 under the shape of output 0.
pub(crate) fn view(inputs: &[Option<Value>], outputs: &Facts) -> Result<Vec<Value>, Reason> {
    let input = inputs.first().cloned().flatten().ok_or_else(|| invalid!("input 0 is missing"))?;
    let sizes = outputs.first().and_then(Fact::sizes);
    if let Some(fact) = outputs.first().filter(|fact| fact.ty.dtype().is_some() && sizes.is_none())
    {
        return Err(invalid!("the shape of the output, {fact}, is not known"));
    }
    Ok(vec![match (input, sizes) {
        (Value::Tensor(t), Some(sizes)) => Value::Tensor(t.reshaped(&sizes)?),
        (Value::Text(s), Some(sizes)) => Value::Text(s.reshaped(&sizes)?),
        (other, _) => other,
    }])
}

/// Helpers for the kernels' tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use rinfer_graph::Op;

    /// Runs one operator on these inputs (all given) and returns its outputs.
    pub fn run(
        isa: Isa,
        op: impl Into<Op>,
        inputs: &[Value],
        outputs: usize,
    ) -> Result<Vec<Value>, Reason> {
        run_opt(isa, op, &inputs.iter().cloned().map(Some).collect::<Vec<_>>(), outputs)
    }

    /// Runs one operator on these inputs and returns its outputs.
    pub fn run_opt(
        isa: Isa,
        op: impl Into<Op>,
        inputs: &[Option<Value>],
        outputs: usize,
    ) -> Result<Vec<Value>, Reason> {
        let mut g = Graph::new();
        let ids =
            inputs.iter().map(|v| v.as_ref().map(|v| g.constant_value(v))).collect::<Vec<_>>();
        let op = op.into();
        let made: rinfer_graph::OutputIds =
            (0..outputs).map(|_| g.value(Fact::unranked(rinfer_graph::DType::F32))).collect();
        let node = Node { op, inputs: ids.into(), outputs: made, name: "".into() };
        run_node(isa, &node, inputs, usize::MAX, &RunCx::unbounded())
    }

    /// Runs one operator with one tensor output.
    pub fn run1(isa: Isa, op: impl Into<Op>, inputs: &[Tensor]) -> Result<Tensor, Reason> {
        let inputs: Vec<Value> = inputs.iter().cloned().map(Value::Tensor).collect();
        run(isa, op, &inputs, 1)?.remove(0).into_tensor()
    }
}
