//! A generated model, optimized and written as ONNX, is read again and means the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::optimizer(data));
