//! Bytes as .npy, .npz, .safetensors and .pb: tensors or errors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::{DType, Type};
use rinfer_cli::formats::{npy, npz, pb, safetensors};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(t) = npy::decode(data) {
                let again = npy::encode(&t.clone().into()).and_then(|bytes| npy::decode(&bytes));
                assert_eq!(again.as_ref(), Ok(&t));
            }
        }
        1 => drop(npz::decode(data)),
        2 => drop(safetensors::pick(data.to_vec(), None)),
        _ => drop(pb::decode(data.to_vec(), &Type::Tensor(DType::F32))),
    }
});
