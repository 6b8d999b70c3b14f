//! The kernels that the GPU backend writes for a generated model are valid WGSL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::Model;
use rinfer_tests::{hostile::generate, wgsl};

fuzz_target!(|data: &[u8]| {
    let Ok(mut model) = Model::from_bytes(generate::model(data, 16)) else { return };
    for _ in 0..2 {
        wgsl::check(model.graph()).expect("kernels are valid");
        if model.optimize().is_err() {
            return;
        }
    }
});
