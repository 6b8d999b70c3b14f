//! The numbers and types that ONNX gave its fields, held against `onnx.proto`.
//!
//! The tables were read from the descriptors in onnx 1.23.2's Python package.

use std::collections::BTreeSet;

use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind};

/// `Message.field`, number, type.
#[rustfmt::skip]
const FIELDS: &[(&str, u32, &str)] = &[
    ("AttributeProto.doc_string", 13, "string"),
    ("AttributeProto.f", 2, "float"),
    ("AttributeProto.floats", 7, "repeated float"),
    ("AttributeProto.g", 6, "GraphProto"),
    ("AttributeProto.graphs", 11, "repeated GraphProto"),
    ("AttributeProto.i", 3, "int64"),
    ("AttributeProto.ints", 8, "repeated int64"),
    ("AttributeProto.name", 1, "string"),
    ("AttributeProto.ref_attr_name", 21, "string"),
    ("AttributeProto.s", 4, "bytes"),
    ("AttributeProto.sparse_tensor", 22, "SparseTensorProto"),
    ("AttributeProto.sparse_tensors", 23, "repeated SparseTensorProto"),
    ("AttributeProto.strings", 9, "repeated bytes"),
    ("AttributeProto.t", 5, "TensorProto"),
    ("AttributeProto.tensors", 10, "repeated TensorProto"),
    ("AttributeProto.tp", 14, "TypeProto"),
    ("AttributeProto.type", 20, "AttributeProto.AttributeType"),
    ("AttributeProto.type_protos", 15, "repeated TypeProto"),
    ("DeviceConfigurationProto.device", 3, "repeated string"),
    ("DeviceConfigurationProto.name", 1, "string"),
    ("DeviceConfigurationProto.num_devices", 2, "int32"),
    ("FunctionProto.attribute", 6, "repeated string"),
    ("FunctionProto.attribute_proto", 11, "repeated AttributeProto"),
    ("FunctionProto.doc_string", 8, "string"),
    ("FunctionProto.domain", 10, "string"),
    ("FunctionProto.input", 4, "repeated string"),
    ("FunctionProto.metadata_props", 14, "repeated StringStringEntryProto"),
    ("FunctionProto.name", 1, "string"),
    ("FunctionProto.node", 7, "repeated NodeProto"),
    ("FunctionProto.opset_import", 9, "repeated OperatorSetIdProto"),
    ("FunctionProto.output", 5, "repeated string"),
    ("FunctionProto.overload", 13, "string"),
    ("FunctionProto.value_info", 12, "repeated ValueInfoProto"),
    ("GraphProto.doc_string", 10, "string"),
    ("GraphProto.initializer", 5, "repeated TensorProto"),
    ("GraphProto.input", 11, "repeated ValueInfoProto"),
    ("GraphProto.metadata_props", 16, "repeated StringStringEntryProto"),
    ("GraphProto.name", 2, "string"),
    ("GraphProto.node", 1, "repeated NodeProto"),
    ("GraphProto.output", 12, "repeated ValueInfoProto"),
    ("GraphProto.quantization_annotation", 14, "repeated TensorAnnotation"),
    ("GraphProto.sparse_initializer", 15, "repeated SparseTensorProto"),
    ("GraphProto.value_info", 13, "repeated ValueInfoProto"),
    ("IntIntListEntryProto.key", 1, "int64"),
    ("IntIntListEntryProto.value", 2, "repeated int64"),
    ("MapProto.key_type", 2, "int32"),
    ("MapProto.keys", 3, "repeated int64"),
    ("MapProto.name", 1, "string"),
    ("MapProto.string_keys", 4, "repeated bytes"),
    ("MapProto.values", 5, "SequenceProto"),
    ("ModelProto.configuration", 26, "repeated DeviceConfigurationProto"),
    ("ModelProto.doc_string", 6, "string"),
    ("ModelProto.domain", 4, "string"),
    ("ModelProto.functions", 25, "repeated FunctionProto"),
    ("ModelProto.graph", 7, "GraphProto"),
    ("ModelProto.ir_version", 1, "int64"),
    ("ModelProto.metadata_props", 14, "repeated StringStringEntryProto"),
    ("ModelProto.model_version", 5, "int64"),
    ("ModelProto.opset_import", 8, "repeated OperatorSetIdProto"),
    ("ModelProto.producer_name", 2, "string"),
    ("ModelProto.producer_version", 3, "string"),
    ("ModelProto.training_info", 20, "repeated TrainingInfoProto"),
    ("NodeDeviceConfigurationProto.configuration_id", 1, "string"),
    ("NodeDeviceConfigurationProto.pipeline_stage", 3, "int32"),
    ("NodeDeviceConfigurationProto.sharding_spec", 2, "repeated ShardingSpecProto"),
    ("NodeProto.attribute", 5, "repeated AttributeProto"),
    ("NodeProto.device_configurations", 10, "repeated NodeDeviceConfigurationProto"),
    ("NodeProto.doc_string", 6, "string"),
    ("NodeProto.domain", 7, "string"),
    ("NodeProto.input", 1, "repeated string"),
    ("NodeProto.metadata_props", 9, "repeated StringStringEntryProto"),
    ("NodeProto.name", 3, "string"),
    ("NodeProto.op_type", 4, "string"),
    ("NodeProto.output", 2, "repeated string"),
    ("NodeProto.overload", 8, "string"),
    ("OperatorSetIdProto.domain", 1, "string"),
    ("OperatorSetIdProto.version", 2, "int64"),
    ("OptionalProto.elem_type", 2, "int32"),
    ("OptionalProto.map_value", 6, "MapProto"),
    ("OptionalProto.name", 1, "string"),
    ("OptionalProto.optional_value", 7, "OptionalProto"),
    ("OptionalProto.sequence_value", 5, "SequenceProto"),
    ("OptionalProto.sparse_tensor_value", 4, "SparseTensorProto"),
    ("OptionalProto.tensor_value", 3, "TensorProto"),
    ("SequenceProto.elem_type", 2, "int32"),
    ("SequenceProto.map_values", 6, "repeated MapProto"),
    ("SequenceProto.name", 1, "string"),
    ("SequenceProto.optional_values", 7, "repeated OptionalProto"),
    ("SequenceProto.sequence_values", 5, "repeated SequenceProto"),
    ("SequenceProto.sparse_tensor_values", 4, "repeated SparseTensorProto"),
    ("SequenceProto.tensor_values", 3, "repeated TensorProto"),
    ("ShardedDimProto.axis", 1, "int64"),
    ("ShardedDimProto.simple_sharding", 2, "repeated SimpleShardedDimProto"),
    ("ShardingSpecProto.device", 2, "repeated int64"),
    ("ShardingSpecProto.index_to_device_group_map", 3, "repeated IntIntListEntryProto"),
    ("ShardingSpecProto.sharded_dim", 4, "repeated ShardedDimProto"),
    ("ShardingSpecProto.tensor_name", 1, "string"),
    ("SimpleShardedDimProto.dim_param", 2, "oneof string"),
    ("SimpleShardedDimProto.dim_value", 1, "oneof int64"),
    ("SimpleShardedDimProto.num_shards", 3, "int64"),
    ("SparseTensorProto.dims", 3, "repeated int64"),
    ("SparseTensorProto.indices", 2, "TensorProto"),
    ("SparseTensorProto.values", 1, "TensorProto"),
    ("StringStringEntryProto.key", 1, "string"),
    ("StringStringEntryProto.value", 2, "string"),
    ("TensorAnnotation.quant_parameter_tensor_names", 2, "repeated StringStringEntryProto"),
    ("TensorAnnotation.tensor_name", 1, "string"),
    ("TensorProto.Segment.begin", 1, "int64"),
    ("TensorProto.Segment.end", 2, "int64"),
    ("TensorProto.data_location", 14, "TensorProto.DataLocation"),
    ("TensorProto.data_type", 2, "int32"),
    ("TensorProto.dims", 1, "repeated int64"),
    ("TensorProto.doc_string", 12, "string"),
    ("TensorProto.double_data", 10, "packed double"),
    ("TensorProto.external_data", 13, "repeated StringStringEntryProto"),
    ("TensorProto.float_data", 4, "packed float"),
    ("TensorProto.int32_data", 5, "packed int32"),
    ("TensorProto.int64_data", 7, "packed int64"),
    ("TensorProto.metadata_props", 16, "repeated StringStringEntryProto"),
    ("TensorProto.name", 8, "string"),
    ("TensorProto.raw_data", 9, "bytes"),
    ("TensorProto.segment", 3, "TensorProto.Segment"),
    ("TensorProto.string_data", 6, "repeated bytes"),
    ("TensorProto.uint64_data", 11, "packed uint64"),
    ("TensorShapeProto.Dimension.denotation", 3, "string"),
    ("TensorShapeProto.Dimension.dim_param", 2, "oneof string"),
    ("TensorShapeProto.Dimension.dim_value", 1, "oneof int64"),
    ("TensorShapeProto.dim", 1, "repeated TensorShapeProto.Dimension"),
    ("TrainingInfoProto.algorithm", 2, "GraphProto"),
    ("TrainingInfoProto.initialization", 1, "GraphProto"),
    ("TrainingInfoProto.initialization_binding", 3, "repeated StringStringEntryProto"),
    ("TrainingInfoProto.update_binding", 4, "repeated StringStringEntryProto"),
    ("TypeProto.Map.key_type", 1, "int32"),
    ("TypeProto.Map.value_type", 2, "TypeProto"),
    ("TypeProto.Opaque.domain", 1, "string"),
    ("TypeProto.Opaque.name", 2, "string"),
    ("TypeProto.Optional.elem_type", 1, "TypeProto"),
    ("TypeProto.Sequence.elem_type", 1, "TypeProto"),
    ("TypeProto.SparseTensor.elem_type", 1, "int32"),
    ("TypeProto.SparseTensor.shape", 2, "TensorShapeProto"),
    ("TypeProto.Tensor.elem_type", 1, "int32"),
    ("TypeProto.Tensor.shape", 2, "TensorShapeProto"),
    ("TypeProto.denotation", 6, "string"),
    ("TypeProto.map_type", 5, "oneof TypeProto.Map"),
    ("TypeProto.opaque_type", 7, "oneof TypeProto.Opaque"),
    ("TypeProto.optional_type", 9, "oneof TypeProto.Optional"),
    ("TypeProto.sequence_type", 4, "oneof TypeProto.Sequence"),
    ("TypeProto.sparse_tensor_type", 8, "oneof TypeProto.SparseTensor"),
    ("TypeProto.tensor_type", 1, "oneof TypeProto.Tensor"),
    ("ValueInfoProto.doc_string", 3, "string"),
    ("ValueInfoProto.metadata_props", 4, "repeated StringStringEntryProto"),
    ("ValueInfoProto.name", 1, "string"),
    ("ValueInfoProto.type", 2, "TypeProto"),
];

/// `Enum.NAME`, number.
#[rustfmt::skip]
const ENUMS: &[(&str, i32)] = &[
    ("AttributeProto.AttributeType.FLOAT", 1),
    ("AttributeProto.AttributeType.FLOATS", 6),
    ("AttributeProto.AttributeType.GRAPH", 5),
    ("AttributeProto.AttributeType.GRAPHS", 10),
    ("AttributeProto.AttributeType.INT", 2),
    ("AttributeProto.AttributeType.INTS", 7),
    ("AttributeProto.AttributeType.SPARSE_TENSOR", 11),
    ("AttributeProto.AttributeType.SPARSE_TENSORS", 12),
    ("AttributeProto.AttributeType.STRING", 3),
    ("AttributeProto.AttributeType.STRINGS", 8),
    ("AttributeProto.AttributeType.TENSOR", 4),
    ("AttributeProto.AttributeType.TENSORS", 9),
    ("AttributeProto.AttributeType.TYPE_PROTO", 13),
    ("AttributeProto.AttributeType.TYPE_PROTOS", 14),
    ("AttributeProto.AttributeType.UNDEFINED", 0),
    ("OperatorStatus.EXPERIMENTAL", 0),
    ("OperatorStatus.STABLE", 1),
    ("OptionalProto.DataType.MAP", 4),
    ("OptionalProto.DataType.OPTIONAL", 5),
    ("OptionalProto.DataType.SEQUENCE", 3),
    ("OptionalProto.DataType.SPARSE_TENSOR", 2),
    ("OptionalProto.DataType.TENSOR", 1),
    ("OptionalProto.DataType.UNDEFINED", 0),
    ("SequenceProto.DataType.MAP", 4),
    ("SequenceProto.DataType.OPTIONAL", 5),
    ("SequenceProto.DataType.SEQUENCE", 3),
    ("SequenceProto.DataType.SPARSE_TENSOR", 2),
    ("SequenceProto.DataType.TENSOR", 1),
    ("SequenceProto.DataType.UNDEFINED", 0),
    ("TensorProto.DataLocation.DEFAULT", 0),
    ("TensorProto.DataLocation.EXTERNAL", 1),
    ("TensorProto.DataType.BFLOAT16", 16),
    ("TensorProto.DataType.BOOL", 9),
    ("TensorProto.DataType.COMPLEX128", 15),
    ("TensorProto.DataType.COMPLEX64", 14),
    ("TensorProto.DataType.DOUBLE", 11),
    ("TensorProto.DataType.FLOAT", 1),
    ("TensorProto.DataType.FLOAT16", 10),
    ("TensorProto.DataType.FLOAT4E2M1", 23),
    ("TensorProto.DataType.FLOAT6E2M3", 27),
    ("TensorProto.DataType.FLOAT6E3M2", 28),
    ("TensorProto.DataType.FLOAT8E4M3FN", 17),
    ("TensorProto.DataType.FLOAT8E4M3FNUZ", 18),
    ("TensorProto.DataType.FLOAT8E5M2", 19),
    ("TensorProto.DataType.FLOAT8E5M2FNUZ", 20),
    ("TensorProto.DataType.FLOAT8E8M0", 24),
    ("TensorProto.DataType.INT16", 5),
    ("TensorProto.DataType.INT2", 26),
    ("TensorProto.DataType.INT32", 6),
    ("TensorProto.DataType.INT4", 22),
    ("TensorProto.DataType.INT64", 7),
    ("TensorProto.DataType.INT8", 3),
    ("TensorProto.DataType.STRING", 8),
    ("TensorProto.DataType.UINT16", 4),
    ("TensorProto.DataType.UINT2", 25),
    ("TensorProto.DataType.UINT32", 12),
    ("TensorProto.DataType.UINT4", 21),
    ("TensorProto.DataType.UINT64", 13),
    ("TensorProto.DataType.UINT8", 2),
    ("TensorProto.DataType.UNDEFINED", 0),
    ("Version.IR_VERSION", 14),
    ("Version.IR_VERSION_2017_10_10", 1),
    ("Version.IR_VERSION_2017_10_30", 2),
    ("Version.IR_VERSION_2017_11_3", 3),
    ("Version.IR_VERSION_2019_1_22", 4),
    ("Version.IR_VERSION_2019_3_18", 5),
    ("Version.IR_VERSION_2019_9_19", 6),
    ("Version.IR_VERSION_2020_5_8", 7),
    ("Version.IR_VERSION_2021_7_30", 8),
    ("Version.IR_VERSION_2023_5_5", 9),
    ("Version.IR_VERSION_2024_3_25", 10),
    ("Version.IR_VERSION_2025_05_12", 11),
    ("Version.IR_VERSION_2025_08_26", 12),
    ("Version.IR_VERSION_2025_11_06", 13),
    ("Version._START_VERSION", 0),
];

/// `onnx.proto` itself, read anew.
fn pool() -> DescriptorPool {
    let folder = env!("CARGO_MANIFEST_DIR");
    let set = protox::compile([format!("{folder}/onnx.proto")], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

fn local(full_name: &str) -> &str {
    full_name.strip_prefix("onnx.").unwrap()
}

fn type_of(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(m) => local(m.full_name()).to_string(),
        Kind::Enum(e) => local(e.full_name()).to_string(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    let label = match field {
        f if f.is_packed() => "packed ",
        f if f.is_list() => "repeated ",
        f if f.containing_oneof().is_some() => "oneof ",
        _ => "",
    };
    format!("{label}{kind}")
}

#[test]
fn fields_have_the_numbers_and_types_of_onnx() {
    let mut ours = BTreeSet::new();
    for message in pool().all_messages() {
        for field in message.fields() {
            let name = format!("{}.{}", local(message.full_name()), field.name());
            ours.insert((name, field.number(), type_of(&field)));
        }
    }
    let onnx = FIELDS.iter().map(|&(name, n, kind)| (name.to_string(), n, kind.to_string()));
    assert_eq!(ours, onnx.collect());
}

#[test]
fn enums_have_the_numbers_of_onnx() {
    let mut ours = BTreeSet::new();
    for kind in pool().all_enums() {
        for value in kind.values() {
            let name = format!("{}.{}", local(kind.full_name()), value.name());
            ours.insert((name, value.number()));
        }
    }
    assert_eq!(ours, ENUMS.iter().map(|&(name, n)| (name.to_string(), n)).collect());
}
