//! Bytes as a model file: loaded, optimized and run under strict limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer_tests::hostile::mutate::survive;

fuzz_target!(|data: &[u8]| {
    if let Err(defect) = survive(data) {
        panic!("{defect}");
    }
});
