//! Bytes as a protobuf message: decoded, and written again, it is the same message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer_onnx_proto as pb;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = pb::decode(data.to_vec().into()) else { return };
    let again = pb::encode(&model);
    // NaN is unequal to itself: what is written twice is compared, not what is read.
    let twice = pb::decode(again.clone().into()).map(|model| pb::encode(&model));
    assert_eq!(twice.as_deref(), Ok(&again[..]));
});
