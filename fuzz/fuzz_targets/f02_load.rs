//! Bytes as a model file: loaded, optimized and run under strict limits.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::load(data));
