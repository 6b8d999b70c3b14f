//! Messages written by hand for the tests: together they use every kind of message.

use crate::attribute_proto::AttributeType;
use crate::tensor_proto::{DataLocation, DataType, Segment};
use crate::tensor_shape_proto::{Dimension, dimension};
use crate::{type_proto::Value, *};

fn text(s: &str) -> Option<String> {
    Some(s.into())
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(value) }
}

fn tensor(name: &str, kind: DataType, dims: &[i64]) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(kind as i32),
        dims: dims.into(),
        ..Default::default()
    }
}

fn shape() -> TensorShapeProto {
    let dim = |value, denotation: Option<&str>| Dimension {
        value,
        denotation: denotation.map(String::from),
    };
    let batch = Some(dimension::Value::DimParam("batch".into()));
    let four = Some(dimension::Value::DimValue(4));
    TensorShapeProto { dim: vec![dim(batch, Some("DATA_BATCH")), dim(four, None), dim(None, None)] }
}

fn of(value: Value) -> TypeProto {
    TypeProto { value: Some(value), denotation: text("IMAGE") }
}

fn types() -> Vec<TypeProto> {
    let tensor = of(Value::TensorType(type_proto::Tensor { elem_type: Some(1), shape: None }));
    let inner = || Some(Box::new(tensor.clone()));
    vec![
        of(Value::TensorType(type_proto::Tensor { elem_type: Some(1), shape: Some(shape()) })),
        of(Value::SequenceType(Box::new(type_proto::Sequence { elem_type: inner() }))),
        of(Value::MapType(Box::new(type_proto::Map { key_type: Some(7), value_type: inner() }))),
        of(Value::OptionalType(Box::new(type_proto::Optional { elem_type: inner() }))),
        of(Value::SparseTensorType(type_proto::SparseTensor {
            elem_type: Some(11),
            shape: Some(shape()),
        })),
        of(Value::OpaqueType(type_proto::Opaque { domain: text("d"), name: text("n") })),
    ]
}

fn value_info(name: &str, kind: TypeProto) -> ValueInfoProto {
    ValueInfoProto {
        name: text(name),
        r#type: Some(kind),
        doc_string: text("what it is"),
        metadata_props: vec![entry("unit", "m")],
    }
}

/// One tensor for each field that can hold values.
fn tensors() -> Vec<TensorProto> {
    let raw = Some(Bytes::from_static(&[0, 0, 128, 63, 0, 0, 0, 64]));
    let strings = vec![Bytes::from_static(b"eins"), Bytes::from_static(b"\xff\xfe")];
    vec![
        TensorProto { raw_data: raw, ..tensor("raw", DataType::Float, &[2]) },
        TensorProto { string_data: strings, ..tensor("text", DataType::String, &[2]) },
        TensorProto { float_data: vec![1.5, f32::MIN], ..tensor("f", DataType::Float, &[2]) },
        TensorProto { int32_data: vec![-1, 7], ..tensor("i", DataType::Int4, &[4]) },
        TensorProto { int64_data: vec![i64::MIN], ..tensor("l", DataType::Int64, &[]) },
        TensorProto { uint64_data: vec![u64::MAX], ..tensor("u", DataType::Uint64, &[1, 1]) },
        TensorProto {
            double_data: vec![0.1, -0.0],
            segment: Some(Segment { begin: Some(0), end: Some(2) }),
            doc_string: text("pairs"),
            metadata_props: vec![entry("a", "b")],
            ..tensor("d", DataType::Complex128, &[1])
        },
        TensorProto {
            external_data: vec![entry("location", "w.bin"), entry("offset", "4096")],
            data_location: Some(DataLocation::External as i32),
            ..tensor("far", DataType::Float6e3m2, &[3])
        },
    ]
}

fn sparse() -> SparseTensorProto {
    SparseTensorProto {
        values: Some(tensors()[0].clone()),
        indices: Some(tensors()[4].clone()),
        dims: vec![3, 3],
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: text(name), r#type: Some(kind as i32), ..Default::default() }
}

/// One attribute of each type, and a reference.
fn attributes() -> Vec<AttributeProto> {
    use AttributeType as A;
    let bytes = |s: &'static [u8]| Bytes::from_static(s);
    let graph = || small().graph.unwrap();
    vec![
        AttributeProto { f: Some(0.5), ..attribute("f", A::Float) },
        AttributeProto { i: Some(-3), ..attribute("i", A::Int) },
        AttributeProto { s: Some(bytes(b"\x80text")), ..attribute("s", A::String) },
        AttributeProto { t: Some(tensors()[0].clone()), ..attribute("t", A::Tensor) },
        AttributeProto { g: Some(graph()), ..attribute("g", A::Graph) },
        AttributeProto { sparse_tensor: Some(sparse()), ..attribute("st", A::SparseTensor) },
        AttributeProto { tp: Some(types()[1].clone()), ..attribute("tp", A::TypeProto) },
        AttributeProto { floats: vec![1.0, 2.0], ..attribute("fs", A::Floats) },
        AttributeProto { ints: vec![1, i64::MAX], ..attribute("is", A::Ints) },
        AttributeProto { strings: vec![bytes(b""), bytes(b"x")], ..attribute("ss", A::Strings) },
        AttributeProto { tensors: tensors(), ..attribute("ts", A::Tensors) },
        AttributeProto { graphs: vec![graph(), graph()], ..attribute("gs", A::Graphs) },
        AttributeProto { sparse_tensors: vec![sparse()], ..attribute("sts", A::SparseTensors) },
        AttributeProto { type_protos: types(), ..attribute("tps", A::TypeProtos) },
        AttributeProto {
            ref_attr_name: text("alpha"),
            doc_string: text("the caller's"),
            ..attribute("r", A::Float)
        },
    ]
}

fn sharding() -> NodeDeviceConfigurationProto {
    let cut = |dim| SimpleShardedDimProto { num_shards: Some(2), dim: Some(dim) };
    let rows = cut(simple_sharded_dim_proto::Dim::DimValue(8));
    let batch = cut(simple_sharded_dim_proto::Dim::DimParam("batch".into()));
    let sharded = ShardedDimProto { axis: Some(-1), simple_sharding: vec![rows, batch] };
    let group = IntIntListEntryProto { key: Some(-1), value: vec![0, 1] };
    let spec = ShardingSpecProto {
        tensor_name: text("x"),
        device: vec![-1, 2],
        index_to_device_group_map: vec![group],
        sharded_dim: vec![sharded],
    };
    NodeDeviceConfigurationProto {
        configuration_id: text("two"),
        sharding_spec: vec![spec],
        pipeline_stage: Some(1),
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: text(op),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

fn function() -> FunctionProto {
    FunctionProto {
        name: text("Twice"),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["alpha".into()],
        attribute_proto: vec![attributes()[0].clone()],
        node: vec![node("Add", &["a", "a"], &["b"])],
        doc_string: text("2 a"),
        opset_import: vec![OperatorSetIdProto { domain: None, version: Some(28) }],
        domain: text("ours"),
        overload: text("f32"),
        value_info: vec![value_info("a", types()[0].clone())],
        metadata_props: vec![entry("k", "v")],
    }
}

/// `y = x + x`, with the graph as the last thing in the file.
pub(crate) fn small() -> ModelProto {
    let graph = GraphProto {
        node: vec![node("Add", &["x", "x"], &["y"])],
        name: text("small"),
        input: vec![value_info("x", types()[0].clone())],
        output: vec![value_info("y", types()[0].clone())],
        ..Default::default()
    };
    ModelProto { ir_version: Some(14), graph: Some(graph), ..Default::default() }
}

/// A model in which every message, every field and every attribute type occurs.
pub(crate) fn everything() -> ModelProto {
    let mut twice = node("Twice", &["x", ""], &["y"]);
    twice.name = text("n0");
    twice.domain = text("ours");
    twice.overload = text("f32");
    twice.doc_string = text("a node");
    twice.attribute = attributes();
    twice.metadata_props = vec![entry("namespace", "/a/b")];
    twice.device_configurations = vec![sharding()];
    let annotation = TensorAnnotation {
        tensor_name: text("raw"),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "f")],
    };
    let graph = GraphProto {
        node: vec![twice],
        name: text("everything"),
        initializer: tensors(),
        sparse_initializer: vec![sparse()],
        doc_string: text("a graph"),
        input: types().into_iter().map(|t| value_info("x", t)).collect(),
        output: vec![value_info("y", types()[0].clone())],
        value_info: vec![value_info("z", TypeProto::default())],
        quantization_annotation: vec![annotation],
        metadata_props: vec![entry("k", "v")],
    };
    let training = TrainingInfoProto {
        initialization: small().graph,
        algorithm: small().graph,
        initialization_binding: vec![entry("w", "w0")],
        update_binding: vec![entry("w", "w1")],
    };
    let devices = vec!["cpu:0".into(), "cpu:1".into()];
    ModelProto {
        ir_version: Some(Version::IrVersion as i64),
        opset_import: vec![OperatorSetIdProto { domain: text(""), version: Some(28) }],
        producer_name: text("hand"),
        producer_version: text("1"),
        domain: text("org.example"),
        model_version: Some(3),
        doc_string: text("a model"),
        graph: Some(graph),
        metadata_props: vec![entry("author", "nobody")],
        training_info: vec![training],
        functions: vec![function()],
        configuration: vec![DeviceConfigurationProto {
            name: text("two"),
            num_devices: Some(2),
            device: devices,
        }],
    }
}

/// Optionals that hold each kind of value, and one that holds nothing.
pub(crate) fn values() -> Vec<OptionalProto> {
    let optional = |kind: optional_proto::DataType| OptionalProto {
        name: text("o"),
        elem_type: Some(kind as i32),
        ..Default::default()
    };
    use optional_proto::DataType as O;
    let list = sequence(sequence_proto::DataType::Tensor);
    let map = MapProto {
        name: text("m"),
        key_type: Some(DataType::Int64 as i32),
        keys: vec![1, -2],
        string_keys: vec![Bytes::from_static(b"one")],
        values: Some(list.clone()),
    };
    let none = optional(O::Undefined);
    let nested = SequenceProto {
        sequence_values: vec![list.clone()],
        map_values: vec![map.clone()],
        optional_values: vec![none.clone()],
        ..sequence(sequence_proto::DataType::Sequence)
    };
    vec![
        OptionalProto { tensor_value: Some(tensors()[0].clone()), ..optional(O::Tensor) },
        OptionalProto { sparse_tensor_value: Some(sparse()), ..optional(O::SparseTensor) },
        OptionalProto { sequence_value: Some(nested), ..optional(O::Sequence) },
        OptionalProto { map_value: Some(map), ..optional(O::Map) },
        OptionalProto { optional_value: Some(Box::new(none.clone())), ..optional(O::Optional) },
        none,
    ]
}

fn sequence(kind: sequence_proto::DataType) -> SequenceProto {
    SequenceProto {
        name: text("s"),
        elem_type: Some(kind as i32),
        tensor_values: tensors(),
        sparse_tensor_values: vec![sparse()],
        ..Default::default()
    }
}
