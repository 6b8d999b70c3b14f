//! What stands on the command line after --input, --dim, --shape and limits is parsed or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::inputs(data));
