//! The kernels that the GPU backend writes for a model, validated without a GPU.

use rinfer::{Fact, Graph};
use rinfer_wgpu::{kernels, validate};

/// Validates the kernels of every node of which all sizes are known, in their forms for adapters
/// with and without cheap barriers and subgroups; says how many there were.
///
/// # Errors
/// The first kernel that is no valid WGSL, and what is wrong with it.
pub fn check(graph: &Graph) -> Result<usize, String> {
    let mut checked = 0;
    for (_, node) in graph.nodes() {
        let inputs: Vec<Option<&Fact>> =
            node.inputs.iter().map(|v| v.map(|v| graph.fact(v))).collect();
        let outputs = node.outputs.iter().map(|&v| graph.fact(v).clone()).collect();
        for (barriers, subgroups) in [(true, true), (true, false), (false, false)] {
            // What has no kernel says so; such a node is the host's.
            let Ok(sources) = kernels(node, &inputs, &outputs, barriers, subgroups) else { break };
            for source in sources {
                validate(&source).map_err(|e| format!("{}: {e}", node.op.name()))?;
                checked += 1;
            }
        }
    }
    Ok(checked)
}
