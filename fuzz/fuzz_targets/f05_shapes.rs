//! What was inferred of every value of a generated model is what running makes of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::shapes(data));
