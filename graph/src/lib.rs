//! The IR: tensors, operators, graphs, and the passes over them.
#![forbid(unsafe_code)]
