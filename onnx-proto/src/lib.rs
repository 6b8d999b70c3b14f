//! ONNX protobuf messages.
