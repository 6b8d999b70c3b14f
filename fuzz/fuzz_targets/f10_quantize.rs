//! A generated model is quantized or refused; what was written loads and runs, or is refused too.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::quantize(data));
