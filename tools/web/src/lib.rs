//! rinfer for JavaScript: sessions, runs in slices, values in and out. The package's scripts
//! (`js/`) are what users see; what is here serves them.
//!
//! No panic leaves: what the engine guards against, and everything else, is an `Error` with a
//! `kind`.

mod fault;
#[cfg(feature = "webgpu")]
mod gpu;
mod resident;
mod session;
#[cfg(feature = "threads")]
mod threads;
mod tokenizer;
mod turn;
mod value;

#[cfg(feature = "webgpu")]
pub use gpu::{leave_gpu, open_gpu};
pub use resident::{WebRead, drop_tensor};
pub use session::{Loader, WebRun, WebSession};
#[cfg(feature = "threads")]
pub use threads::{host, work};
pub use tokenizer::WordPiece;

use wasm_bindgen::prelude::*;

/// The version of the engine.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_string()
}

/// The instruction sets that the module was built with.
#[wasm_bindgen]
pub fn isas() -> Vec<String> {
    rinfer::instruction_sets().into_iter().map(str::to_string).collect()
}

/// Keeps the message of a panic that ends the module, for [`last_words`].
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| fault::remember(&info.to_string())));
}

/// What the last panic said, if there was one.
#[wasm_bindgen]
pub fn last_words() -> Option<String> {
    fault::remembered()
}
