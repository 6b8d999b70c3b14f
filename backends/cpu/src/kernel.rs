//! What a node becomes once its inputs' facts are known: a closure over slices and sizes.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

use rinfer_graph::backend::RunCx;
use rinfer_graph::sync::Mutex;
use rinfer_graph::{DType, Fact, Facts, Limits, Node, Reason, Tensor, Value, ValueId, invalid};

use crate::scratch::Scratch;
use crate::simd::Isa;

/// What a kernel is given for one run.
pub struct Args<'a> {
    /// The inputs; omitted ones are `None`. So is the input that output 0 already holds, if the
    /// plan lets the kernel work in place.
    pub inputs: &'a [Option<&'a Tensor>],
    /// The outputs, of the dtypes and shapes that were inferred; their content is arbitrary.
    pub outputs: &'a mut [Tensor],
    /// When to stop.
    pub cx: &'a RunCx<'a>,
}

impl<'a> Args<'a> {
    /// Input `i`; `Err` if it is omitted.
    pub fn input(&self, i: usize) -> Result<&'a Tensor, Reason> {
        self.opt(i).ok_or_else(|| invalid!("input {i} is missing"))
    }

    /// Input `i`, if it is given.
    pub fn opt(&self, i: usize) -> Option<&'a Tensor> {
        self.inputs.get(i).copied().flatten()
    }
}

type TensorFn = Box<dyn Fn(&mut Args<'_>) -> Result<(), Reason> + Send + Sync>;
type ValueFn =
    Box<dyn Fn(&[Option<Value>], &RunCx<'_>) -> Result<Vec<Value>, Reason> + Send + Sync>;

/// A reason of kind `Limit`: what went wrong when memory was asked for.
pub fn limit(text: String) -> Reason {
    Reason::new(rinfer_graph::Kind::Limit, text)
}

/// How a node runs.
pub enum Run {
    /// Fills outputs whose shapes are known beforehand and whose memory the plan provides.
    Tensors(TensorFn),
    /// Makes its outputs itself: their shapes depend on content, or they are no tensors.
    Values(ValueFn),
    /// Output 0 is input 0's memory under another shape: nothing runs.
    View,
}

/// A node made ready to run for given shapes.
pub struct Kernel {
    /// How it runs.
    pub run: Run,
    /// Inputs that output 0 may overwrite, as a bit mask: the kernel reads each element of such an
    /// input only before it writes the same element of output 0, and both have the same size.
    pub in_place: u32,
    /// What it takes besides inputs and outputs.
    pub scratch: Scratch,
}

impl Kernel {
    /// A kernel that fills outputs of known shape.
    pub fn new(
        run: impl Fn(&mut Args<'_>) -> Result<(), Reason> + Send + Sync + 'static,
    ) -> Kernel {
        Kernel { run: Run::Tensors(Box::new(run)), in_place: 0, scratch: Scratch::none() }
    }

    /// A kernel that makes its outputs itself.
    pub fn values(
        run: impl Fn(&[Option<Value>], &RunCx<'_>) -> Result<Vec<Value>, Reason> + Send + Sync + 'static,
    ) -> Kernel {
        Kernel { run: Run::Values(Box::new(run)), in_place: 0, scratch: Scratch::none() }
    }

    /// Output 0 is input 0 under another shape.
    pub fn view() -> Kernel {
        Kernel { run: Run::View, in_place: 0, scratch: Scratch::none() }
    }

    /// The same kernel, allowed to overwrite these inputs with output 0.
    pub fn in_place(mut self, inputs: &[usize]) -> Kernel {
        self.in_place = inputs.iter().fold(0, |mask, i| mask | 1 << i);
        self
    }

    /// The same kernel, which takes this besides inputs and outputs.
    pub fn takes(mut self, scratch: Scratch) -> Kernel {
        self.scratch = scratch;
        self
    }
}

/// What is settled when a node is compiled.
pub struct Cx<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// The node; its operator is what is compiled.
    pub node: &'a Node,
    /// What is known of the inputs. When shapes are planned every size is a number, and inputs
    /// whose content decides shapes are constants.
    pub inputs: &'a [Option<&'a Fact>],
    /// What was inferred of the outputs.
    pub outputs: &'a Facts,
    /// Packed weights, shared by all plans.
    pub packs: &'a Packs,
    /// What the model may ask for.
    pub limits: &'a Limits,
}

impl<'a> Cx<'a> {
    /// The fact of input `i`; `Err` if it is omitted.
    pub fn input(&self, i: usize) -> Result<&'a Fact, Reason> {
        self.opt(i).ok_or_else(|| invalid!("input {i} is missing"))
    }

    /// The fact of input `i`, if it is given.
    pub fn opt(&self, i: usize) -> Option<&'a Fact> {
        self.inputs.get(i).copied().flatten()
    }

    /// The dtype of input `i`; `Err` if it is omitted or no tensor.
    pub fn dtype(&self, i: usize) -> Result<DType, Reason> {
        self.input(i)?.dtype()
    }

    /// The sizes of input `i`; `Err` if one is not known.
    pub fn sizes(&self, i: usize) -> Result<rinfer_graph::shape::Sizes, Reason> {
        let fact = self.input(i)?;
        fact.sizes().ok_or_else(|| invalid!("the sizes of input {i}, {fact}, are not known"))
    }

    /// The sizes of output `i`; `Err` if one is not known.
    pub fn out_sizes(&self, i: usize) -> Result<rinfer_graph::shape::Sizes, Reason> {
        let fact = self.outputs.get(i).ok_or_else(|| invalid!("there is no output {i}"))?;
        fact.sizes().ok_or_else(|| invalid!("the sizes of output {i}, {fact}, are not known"))
    }

    /// Whether output `i` exists.
    pub fn wants(&self, i: usize) -> bool {
        i < self.node.outputs.len()
    }

    /// Input `i` made ready once by `pack`, if its content is known: kept for as long as the program
    /// lives if it is a weight (a constant of the graph, the same in every plan), for as long as
    /// the plan does if the plan computed it ahead. `None` if it is not known.
    ///
    /// `kind` tells apart different forms of the same weight and type.
    pub fn packed<T: Any + Send + Sync>(
        &self,
        i: usize,
        kind: u64,
        pack: impl FnOnce(&Tensor) -> Result<T, Reason>,
    ) -> Result<Option<Arc<T>>, Reason> {
        let Some(id) = self.node.inputs.get(i).copied().flatten() else { return Ok(None) };
        let Some(tensor) = self.packs.weight(id) else {
            let known = self.opt(i).and_then(Fact::tensor);
            return known.map(|tensor| pack(tensor).map(Arc::new)).transpose();
        };
        self.packs.get_or_pack(id, kind, || pack(tensor)).map(Some)
    }

    /// Whether input `i` is a weight (a constant of the graph, the same in every plan).
    pub fn is_weight(&self, i: usize) -> bool {
        let id = self.node.inputs.get(i).copied().flatten();
        id.is_some_and(|id| self.packs.weight(id).is_some())
    }
}

/// The packed forms of a program's weights.
#[derive(Default)]
pub struct Packs {
    weights: HashMap<ValueId, Tensor>,
    packed: Mutex<HashMap<(ValueId, TypeId, u64), Arc<dyn Any + Send + Sync>>>,
    channels_last: bool,
}

impl Packs {
    /// Weights by id, nothing packed yet; and whether images are kept with their channels side by
    /// side between convolutions.
    pub fn new(weights: HashMap<ValueId, Tensor>, channels_last: bool) -> Packs {
        Packs { weights, channels_last, ..Packs::default() }
    }

    /// Whether images are kept with their channels side by side between convolutions.
    pub fn channels_last(&self) -> bool {
        self.channels_last
    }

    /// The weight with this id, if it is one.
    pub fn weight(&self, id: ValueId) -> Option<&Tensor> {
        self.weights.get(&id)
    }

    fn get_or_pack<T: Any + Send + Sync>(
        &self,
        id: ValueId,
        kind: u64,
        pack: impl FnOnce() -> Result<T, Reason>,
    ) -> Result<Arc<T>, Reason> {
        let key = (id, TypeId::of::<T>(), kind);
        let lock = || self.packed.lock().unwrap_or_else(|e| e.into_inner());
        let found = lock().get(&key).cloned();
        let any = match found {
            Some(any) => any,
            // Packed outside the lock, so that weights are packed in parallel; of two that raced
            // for the same one the first stays.
            None => {
                let made: Arc<dyn Any + Send + Sync> = Arc::new(pack()?);
                lock().entry(key).or_insert(made).clone()
            }
        };
        Ok(any.downcast::<T>().expect("the key holds the type"))
    }
}
