//! The kernels that the GPU backend writes for a generated model are valid WGSL.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::kernels(data));
