//! ONNX's protobuf messages: decoded without copying weights, and encoded again.
//!
//! bytes of a file → [`decode`] → [`ModelProto`] → [`encode`] → bytes of a file
//!
//! The messages follow `onnx.proto` field by field. A field that may be absent is an `Option`, and
//! has a method of its name that gives the format's default instead: `tensor.data_type()`. Fields
//! of raw bytes are [`Bytes`] that point into the buffer given to `decode`: decoding a mapped file
//! reads the weights of none of its tensors.
//!
//! ```
//! use rinfer_onnx_proto::{GraphProto, ModelProto, decode, encode};
//!
//! let graph = GraphProto { name: Some("empty".into()), ..GraphProto::default() };
//! let model = ModelProto { ir_version: Some(14), graph: Some(graph), ..ModelProto::default() };
//! assert_eq!(decode(encode(&model).into())?, model);
//! # Ok::<(), rinfer_onnx_proto::DecodeError>(())
//! ```
#![forbid(unsafe_code)]

mod error;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod samples;

/// The types that prost-build made of `onnx.proto`.
mod generated {
    // The words are those of onnx.proto, where some fields are named well enough to need none.
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub use bytes::Bytes;
pub use error::DecodeError;
pub use generated::*;
pub use prost::Message;

/// The largest message protobuf allows: 2 GiB − 1. Larger models keep weights in other files.
pub const MAX_BYTES: usize = i32::MAX as usize;

/// Decodes a model file. `raw_data` and every other field of bytes aliases `bytes`.
///
/// # Errors
/// A file that is empty, truncated, malformed, over [`MAX_BYTES`], nested deeper than 100
/// messages, or that has no graph.
pub fn decode(bytes: Bytes) -> Result<ModelProto, DecodeError> {
    let model: ModelProto = decode_message(bytes)?;
    if model.graph.is_none() { Err(DecodeError::NoGraph) } else { Ok(model) }
}

/// Decodes any message that stands alone in a file: [`TensorProto`], [`SequenceProto`],
/// [`OptionalProto`], [`MapProto`]. Fields of bytes alias `bytes`.
///
/// # Errors
/// As for [`decode`], but for the graph.
pub fn decode_message<M: Message + Default>(bytes: Bytes) -> Result<M, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge { bytes: bytes.len() });
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(DecodeError::LfsPointer);
    }
    let len = bytes.len();
    M::decode(bytes).map_err(|e| DecodeError::from_prost(&e, len))
}

/// Encodes a model as the bytes of a file.
pub fn encode(model: &ModelProto) -> Vec<u8> {
    encode_message(model)
}

/// Encodes any message as the bytes of a file.
pub fn encode_message<M: Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{everything, small};

    /// Tag and length of a field that holds `body`.
    fn field(number: u32, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encoding::encode_varint(body.len() as u64, &mut out);
        out.extend_from_slice(body);
        out
    }

    /// The bytes of a model whose only node holds a graph, whose only node holds a graph, …
    fn nested_graphs(levels: usize) -> Bytes {
        let mut graph = Vec::new();
        let mut tails = Vec::new();
        // From the inside out, each time putting only the new head down, so it stays linear.
        for _ in 0..levels {
            let mut len = graph.len();
            let mut heads = Vec::new();
            for tag in [6_u64 << 3 | 2, 5 << 3 | 2, 1 << 3 | 2] {
                let mut head = Vec::new();
                prost::encoding::encode_varint(tag, &mut head);
                prost::encoding::encode_varint(len as u64, &mut head);
                len += head.len();
                heads.push(head);
            }
            tails.extend(heads);
            graph.resize(len, 0);
        }
        let body: Vec<u8> = tails.into_iter().rev().flatten().collect();
        field(7, &body).into()
    }

    #[test]
    fn every_message_survives_a_round_trip() {
        let model = everything();
        let bytes = encode(&model);
        let again = decode(bytes.clone().into()).unwrap();
        assert_eq!(again, model);
        assert_eq!(encode(&again), bytes);
    }

    #[test]
    fn values_that_stand_alone_survive_a_round_trip() {
        for value in samples::values() {
            let bytes = encode_message(&value);
            assert_eq!(decode_message::<OptionalProto>(bytes.into()).unwrap(), value);
        }
    }

    #[test]
    fn bytes_point_into_the_file() {
        let file: Bytes = encode(&everything()).into();
        let inside = file.as_ptr_range();
        let model = decode(file.clone()).unwrap();
        let graph = model.graph.unwrap();
        let raw = graph.initializer[0].raw_data.clone().unwrap();
        let text = graph.initializer[1].string_data[0].clone();
        let attribute = graph.node[0].attribute.iter().find_map(|a| a.s.clone()).unwrap();
        for bytes in [raw, text, attribute] {
            let range = bytes.as_ptr_range();
            assert!(!bytes.is_empty() && inside.contains(&range.start) && range.end <= inside.end);
        }
    }

    #[test]
    fn no_prefix_of_a_model_passes_for_the_model() {
        let file: Bytes = encode(&small()).into();
        for len in 0..file.len() {
            let graph = decode(file.slice(..len)).map(|m| m.graph);
            assert_ne!(graph.ok(), Some(small().graph), "{len} of {} bytes", file.len());
        }
        assert_eq!(decode(file).unwrap(), small());
    }

    #[test]
    fn no_changed_byte_panics() {
        let file = encode(&everything());
        for at in 0..file.len() {
            for change in [0x01, 0x08, 0x80, 0xff] {
                let mut bad = file.clone();
                bad[at] ^= change;
                let _ = decode(bad.into());
            }
        }
    }

    #[test]
    fn nesting_too_deep_is_an_error_on_a_small_stack() {
        let run = || {
            assert!(decode(nested_graphs(33)).is_ok());
            for levels in [34, 100, 1000, 60_000] {
                assert_eq!(decode(nested_graphs(levels)), Err(DecodeError::TooDeep));
            }
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn nested_groups_of_an_unknown_field_are_an_error_on_a_small_stack() {
        let run = || {
            let groups = Bytes::from(
                vec![0xfb; 60_000].into_iter().flat_map(|b| [b, 1]).collect::<Vec<u8>>(),
            );
            assert_eq!(decode(groups), Err(DecodeError::TooDeep));
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(run).unwrap().join().unwrap();
    }

    #[test]
    fn an_empty_file_is_an_error() {
        assert_eq!(decode(Bytes::new()), Err(DecodeError::Empty));
        assert_eq!(decode_message::<TensorProto>(Bytes::new()), Err(DecodeError::Empty));
    }

    #[test]
    fn a_model_without_graph_is_an_error() {
        let bytes = encode(&ModelProto { ir_version: Some(14), ..Default::default() });
        assert_eq!(decode(bytes.into()), Err(DecodeError::NoGraph));
    }

    #[test]
    fn a_file_cut_short_says_so() {
        let file: Bytes = encode(&small()).into();
        let bytes = file.len() - 1;
        assert_eq!(decode(file.slice(..bytes)), Err(DecodeError::Truncated { bytes }));
    }

    #[test]
    fn a_malformed_file_says_where() {
        let bad = field(7, &field(1, &field(1, &[0xff])));
        let reason = "graph: node: input: invalid string value: data is not UTF-8 encoded";
        assert_eq!(decode(bad.into()), Err(DecodeError::Malformed { reason: reason.into() }));
    }

    #[test]
    fn a_git_lfs_pointer_is_recognized() {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert_eq!(decode(text.into()), Err(DecodeError::LfsPointer));
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn more_than_two_gigabytes_are_an_error() {
        let bytes = MAX_BYTES + 1;
        assert_eq!(decode(vec![0; bytes].into()), Err(DecodeError::TooLarge { bytes }));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut bytes = encode(&small());
        bytes.extend(field(500, b"from the future"));
        assert_eq!(decode(bytes.into()).unwrap(), small());
    }

    #[test]
    fn numbers_in_packed_and_loose_lists_are_the_same() {
        let packed = field(1, &[2, 3]);
        let loose = [1 << 3, 2, 1 << 3, 3];
        let dims = |b: &[u8]| decode_message::<TensorProto>(b.to_vec().into()).unwrap().dims;
        assert_eq!((dims(&packed), dims(&loose)), (vec![2, 3], vec![2, 3]));
    }
}
