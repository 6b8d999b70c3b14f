//! rinfer's intermediate representation: tensors, operators, graphs, the way in from ONNX and out
//! again, and the passes over them.
//!
//! Start with [`Graph`] (what a model becomes), [`Op`] (what nodes do), [`Fact`] (what is known of
//! a value) and [`onnx::import()`].
#![forbid(unsafe_code)]

pub mod backend;
pub mod cost;
mod dtype;
pub mod fact;
pub mod float8;
mod ir;
mod limits;
pub mod onnx;
pub mod ops;
pub mod passes;
mod reason;
pub mod scarce;
pub mod shape;
#[cfg(any(test, target_family = "wasm"))]
pub mod spin;
pub mod sync;
pub mod tensor;
pub mod text;
mod value;
pub mod verify;

pub use dtype::{Bool, C64, C128, DType, Element};
pub use fact::{Fact, Facts};
pub use ir::{Graph, InputIds, Node, NodeId, OutputIds, ValueId};
pub use limits::Limits;
pub use ops::Op;
pub use reason::{Kind, Reason};
pub use shape::Dim;
pub use tensor::Tensor;
pub use value::{Key, Strings, Type, Value};
