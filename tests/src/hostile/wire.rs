//! ONNX files written field by field, so that they may say what no library would write.
//!
//! A message is its bytes; field numbers are those of `onnx.proto`.

/// A protobuf message under construction.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// No fields yet.
    pub fn new() -> Message {
        Message::default()
    }

    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    /// An integer or enum field.
    pub fn int(mut self, field: u64, n: i64) -> Message {
        self.varint(field << 3);
        self.varint(n as u64);
        self
    }

    /// A field of type float.
    pub fn float(mut self, field: u64, x: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
        self
    }

    /// A field of bytes or text.
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A field of text.
    pub fn text(self, field: u64, text: &str) -> Message {
        self.bytes(field, text.as_bytes())
    }

    /// A field that is a message.
    pub fn message(self, field: u64, message: &Message) -> Message {
        self.bytes(field, &message.0)
    }

    /// The same field once for each message.
    pub fn all(self, field: u64, messages: &[Message]) -> Message {
        messages.iter().fold(self, |m, x| m.message(field, x))
    }

    /// What the file holds.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Element types by ONNX's numbers.
pub mod elem {
    /// float
    pub const F32: i64 = 1;
    /// uint8
    pub const U8: i64 = 2;
    /// int32
    pub const I32: i64 = 6;
    /// int64
    pub const I64: i64 = 7;
    /// string
    pub const STRING: i64 = 8;
    /// bool
    pub const BOOL: i64 = 9;
}

/// An attribute.
pub fn int(name: &str, n: i64) -> Message {
    Message::new().text(1, name).int(3, n).int(20, 2)
}

/// An attribute of type FLOAT.
pub fn float(name: &str, x: f32) -> Message {
    Message::new().text(1, name).float(2, x).int(20, 1)
}

/// An attribute of type STRING.
pub fn string(name: &str, s: &str) -> Message {
    Message::new().text(1, name).text(4, s).int(20, 3)
}

/// An attribute of type INTS.
pub fn ints(name: &str, n: &[i64]) -> Message {
    n.iter().fold(Message::new().text(1, name), |m, &n| m.int(8, n)).int(20, 7)
}

/// An attribute of type TENSOR.
pub fn tensor(name: &str, t: &Message) -> Message {
    Message::new().text(1, name).message(5, t).int(20, 4)
}

/// An attribute of type SPARSE_TENSOR.
pub fn sparse_tensor(name: &str, t: &Message) -> Message {
    Message::new().text(1, name).message(22, t).int(20, 11)
}

/// An attribute of type GRAPH.
pub fn body(name: &str, g: &Message) -> Message {
    Message::new().text(1, name).message(6, g).int(20, 5)
}

/// A node.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Message]) -> Message {
    let m = inputs.iter().fold(Message::new(), |m, i| m.text(1, i));
    outputs.iter().fold(m, |m, o| m.text(2, o)).text(4, op).all(5, attributes)
}

/// A node of another domain.
pub fn node_of(domain: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    node(op, inputs, outputs, &[]).text(7, domain)
}

/// A TensorProto of raw data.
pub fn raw(name: &str, elem: i64, dims: &[i64], data: &[u8]) -> Message {
    head(name, elem, dims).bytes(9, data)
}

/// A TensorProto without data.
pub fn head(name: &str, elem: i64, dims: &[i64]) -> Message {
    dims.iter().fold(Message::new(), |m, &d| m.int(1, d)).int(2, elem).text(8, name)
}

/// A tensor of int64.
pub fn i64s(name: &str, dims: &[i64], data: &[i64]) -> Message {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw(name, elem::I64, dims, &bytes)
}

/// A tensor of float.
pub fn f32s(name: &str, dims: &[i64], data: &[f32]) -> Message {
    let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
    raw(name, elem::F32, dims, &bytes)
}

/// A TensorProto whose data is in another file.
pub fn external(name: &str, elem: i64, dims: &[i64], entries: &[(&str, &str)]) -> Message {
    let entry = |(k, v): &(&str, &str)| Message::new().text(1, k).text(2, v);
    let entries: Vec<Message> = entries.iter().map(entry).collect();
    head(name, elem, dims).all(13, &entries).int(14, 1)
}

/// A value's name and tensor type; sizes below 0 are unknown.
pub fn value(name: &str, elem: i64, dims: &[i64]) -> Message {
    let dim = |&d: &i64| if d < 0 { Message::new() } else { Message::new().int(1, d) };
    let dims: Vec<Message> = dims.iter().map(dim).collect();
    typed(name, Message::new().int(1, elem).message(2, &Message::new().all(1, &dims)))
}

/// A value whose shape is left open.
pub fn open(name: &str, elem: i64) -> Message {
    typed(name, Message::new().int(1, elem))
}

fn typed(name: &str, tensor: Message) -> Message {
    Message::new().text(1, name).message(2, &Message::new().message(1, &tensor))
}

/// What a graph is made of.
#[derive(Default)]
pub struct Graph {
    /// Its nodes.
    pub nodes: Vec<Message>,
    /// Its initializers.
    pub weights: Vec<Message>,
    /// Its inputs.
    pub inputs: Vec<Message>,
    /// Its outputs.
    pub outputs: Vec<Message>,
}

impl Graph {
    /// The GraphProto.
    pub fn message(&self) -> Message {
        Message::new()
            .all(1, &self.nodes)
            .text(2, "g")
            .all(5, &self.weights)
            .all(11, &self.inputs)
            .all(12, &self.outputs)
    }

    /// A model of opset 21.
    pub fn model(&self) -> Message {
        model(&self.message())
    }

    /// The file of [`Graph::model`].
    pub fn file(&self) -> Vec<u8> {
        self.model().finish()
    }
}

/// A model around a GraphProto.
pub fn model(graph: &Message) -> Message {
    let opset = |domain: &str, v| Message::new().text(1, domain).int(2, v);
    let opsets = [opset("", 21), opset("f", 1), opset("com.microsoft", 1)];
    Message::new().int(1, 10).all(8, &opsets).message(7, graph)
}

/// A FunctionProto of the domain `f`.
pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: &[Message]) -> Message {
    let m = inputs.iter().fold(Message::new().text(1, name), |m, i| m.text(4, i));
    let opset = |domain: &str, v| Message::new().text(1, domain).int(2, v);
    outputs
        .iter()
        .fold(m, |m, o| m.text(5, o))
        .all(7, nodes)
        .all(9, &[opset("", 21), opset("f", 1)])
        .text(10, "f")
}
