//! The page's GPU: opened before sessions are made, shared by all, opened anew once it is lost.

use std::cell::RefCell;
use std::sync::Arc;

use rinfer::Reason;
use rinfer::gpu::Gpu;
use wasm_bindgen::prelude::*;

use crate::fault;
use crate::value::object;

thread_local! {
    static GPU: RefCell<Option<Arc<Gpu>>> = RefCell::default();
}

/// Opens the page's GPU if it is not open: what it is.
#[wasm_bindgen(js_name = openGpu)]
pub async fn open_gpu() -> Result<JsValue, JsValue> {
    let gpu = Gpu::request(None).await.map_err(fault::reason)?;
    let info = gpu.info();
    let told = object(&[
        ("name", info.name.as_str().into()),
        ("kind", info.kind.into()),
        ("maxBuffer", (info.max_buffer as f64).into()),
        ("maxBinding", (info.max_binding as f64).into()),
        ("f16", info.f16.into()),
        ("timestamps", info.timestamps.into()),
    ]);
    GPU.set(Some(gpu));
    Ok(told)
}

/// Gives back the GPU's memory that is kept for later, or, with `close`, the GPU once no session and
/// no tensor is left on it.
#[wasm_bindgen(js_name = leaveGpu)]
pub fn leave_gpu(close: bool) {
    if let Some(gpu) = GPU.with_borrow(Clone::clone) {
        gpu.trim();
    }
    if close {
        GPU.set(None);
    }
}

/// The GPU that is open.
pub(crate) fn opened() -> Result<Arc<Gpu>, Reason> {
    let none = || Reason::new(rinfer::Kind::Device, "the GPU is not open");
    GPU.with_borrow(Clone::clone).ok_or_else(none)
}
