//! Tensors that stay in the GPU's memory, which JavaScript knows by their numbers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use rinfer::graph::invalid;
use rinfer::{DeviceRead, DeviceTensor, Reason, RunOptions};
use wasm_bindgen::prelude::*;

use crate::fault::{self, guarded};
use crate::turn::Turn;
use crate::value::to_js;

thread_local! {
    static TENSORS: RefCell<HashMap<u32, DeviceTensor>> = RefCell::default();
    static LAST: Cell<u32> = const { Cell::new(0) };
}

/// The number that a tensor is known by from now on.
pub(crate) fn keep(tensor: DeviceTensor) -> u32 {
    let number = LAST.get() + 1;
    LAST.set(number);
    TENSORS.with_borrow_mut(|tensors| tensors.insert(number, tensor));
    number
}

/// The tensor of this number.
pub(crate) fn find(number: f64) -> Result<DeviceTensor, Reason> {
    let found = TENSORS.with_borrow(|tensors| tensors.get(&(number as u32)).cloned());
    found.ok_or_else(|| invalid!("the tensor is disposed"))
}

/// Lets go of a tensor.
#[wasm_bindgen(js_name = dropTensor)]
pub fn drop_tensor(number: u32) {
    TENSORS.with_borrow_mut(|tensors| tensors.remove(&number));
}

/// A tensor on its way to the page.
#[wasm_bindgen]
pub struct WebRead {
    read: AssertUnwindSafe<DeviceRead>,
    turn: Arc<Turn>,
}

#[wasm_bindgen]
impl WebRead {
    /// Begins to read the tensor of this number.
    #[wasm_bindgen(constructor)]
    pub fn new(number: u32) -> Result<WebRead, JsValue> {
        guarded(|| {
            let tensor = find(number.into()).map_err(fault::reason)?;
            let turn = Turn::new();
            let options = RunOptions::new().waker(turn.waker());
            let read = tensor.start_read(&options).map_err(fault::error)?;
            Ok(WebRead { read: AssertUnwindSafe(read), turn })
        })
    }

    /// The tensor, once it is there.
    pub fn advance(&mut self) -> Result<JsValue, JsValue> {
        self.turn.begin();
        guarded(|| match self.read.advance(Duration::ZERO).map_err(fault::error)? {
            Some(tensor) => to_js(&tensor.into()).map_err(fault::reason),
            None => Ok(JsValue::UNDEFINED),
        })
    }

    /// Resolves when it is of use to go on.
    pub fn ready(&self) -> js_sys::Promise {
        self.turn.promise()
    }
}
