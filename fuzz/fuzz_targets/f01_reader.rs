//! Bytes as a protobuf message: decoded, and written again, it is the same message.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::reader(data));
