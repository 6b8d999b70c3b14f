//! External data of any location, offset and length gives bytes below the folder or an error.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::external(data));
