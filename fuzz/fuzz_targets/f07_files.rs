//! Bytes as .npy, .npz, .safetensors and .pb: tensors or errors.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| rinfer_tests::fuzz::files(data));
