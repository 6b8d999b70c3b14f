//! Threads: workers that JavaScript starts, each with an instance of this module on the same memory.

use rinfer::graph::invalid;
use rinfer::lent;
use wasm_bindgen::prelude::*;

use crate::fault;

/// Runs have so many threads from now on: this one, and those that come to [`work`].
#[wasm_bindgen(js_name = hostThreads)]
pub fn host(threads: u32) -> Result<(), JsValue> {
    lent::host(threads as usize).map_err(|text| fault::reason(invalid!("{text}")))
}

/// Does what there is to do, for as long as the thread lives.
#[wasm_bindgen(js_name = work)]
pub fn work() -> Result<(), JsValue> {
    lent::work().map_err(|text| fault::reason(invalid!("{text}")))
}
