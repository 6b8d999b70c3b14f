//! Operators of the user.
use rinfer_graph::Reason;
use rinfer_graph::ops::Custom;

use crate::kernel::Kernel;

pub(super) fn compile(op: &Custom) -> Result<Kernel, Reason> {
    let op = op.0.clone();
    Ok(Kernel::values(move |inputs, _| op.run(inputs)))
}
