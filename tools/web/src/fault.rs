//! Errors as JavaScript sees them: an `Error` with the property `kind`, and `node` and `op` where
//! a node failed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use js_sys::Reflect;
use rinfer::{Error, Kind, Reason};
use wasm_bindgen::JsValue;

static WORDS: Mutex<Option<String>> = Mutex::new(None);

/// Keeps a panic's message.
pub(crate) fn remember(text: &str) {
    *WORDS.lock().unwrap_or_else(|e| e.into_inner()) = Some(text.to_string());
}

/// The last message that was kept.
pub(crate) fn remembered() -> Option<String> {
    WORDS.lock().unwrap_or_else(|e| e.into_inner()).clone()
}

/// The name of a kind, as `RinferError.kind` has it.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::Unsupported => "unsupported",
        Kind::Limit => "limit",
        Kind::Cancelled => "cancelled",
        Kind::Deadline => "deadline",
        Kind::Device => "device",
        _ => "internal",
    }
}

fn make(kind: Kind, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    set(&error, "kind", name(kind));
    error.into()
}

fn set(error: &JsValue, key: &str, value: &str) {
    // An object that was just made takes every property.
    let _ = Reflect::set(error, &key.into(), &value.into());
}

/// What stands in the way without a node.
pub(crate) fn reason(reason: Reason) -> JsValue {
    make(reason.kind, &reason.text)
}

/// What stands in the way of a model.
pub(crate) fn error(error: Error) -> JsValue {
    let made = make(error.kind(), &error.to_string());
    if let Error::Node { node, op, .. } = &error {
        set(&made, "node", node);
        set(&made, "op", op);
    }
    made
}

/// Does `f`. A panic is an error, where this build can catch one.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R, JsValue>) -> Result<R, JsValue> {
    // What was being made is dropped; a session that was being run stays as it is.
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|payload| Err(reason(Reason::of_panic(payload.as_ref()))))
}
