//! A generated model gives one answer, optimized with vectors or plain and scalar.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::answers(data));
