//! A generated model gives one answer, optimized with vectors or plain and scalar.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer_tests::hostile::{agree::agree, generate};

fuzz_target!(|data: &[u8]| {
    if let Err(difference) = agree(&generate::model(data, 24)) {
        panic!("{difference}");
    }
});
