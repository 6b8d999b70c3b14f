//! A generated model, optimized and written as ONNX, is read again and means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::Model;
use rinfer_tests::hostile::{agree::agree, generate};

fuzz_target!(|data: &[u8]| {
    let file = generate::model(data, 24);
    let Ok(mut model) = Model::from_bytes(file.clone()) else { return };
    model.optimize().expect("passes keep the graph right");
    let Ok(written) = model.to_onnx() else { return };
    if agree(&file) == Ok(true) {
        assert_eq!(agree(&written), Ok(true));
    }
});
