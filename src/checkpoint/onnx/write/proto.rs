//! Owns writing protobuf messages of ONNX, field by field. Must not know: what a graph computes.

/// The version of ONNX's operators that graphs are written in.
pub(super) const OPSET: u64 = 17;

/// Types of elements by their ONNX numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32 = 1,
    U8 = 2,
    I32 = 6,
    I64 = 7,
    F16 = 10,
    F64 = 11,
}

/// An attribute of a node.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, &'a [i64]),
    Float(&'a str, f32),
    Text(&'a str, &'a str),
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that holds a number.
pub(super) fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

/// A field that holds bytes: a text or a message.
pub(super) fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A NodeProto.
pub(super) fn node(kind: &str, inputs: &[&str], output: &str, attributes: &[Attribute]) -> Vec<u8> {
    let mut out = Vec::new();
    inputs.iter().for_each(|input| bytes(&mut out, 1, input.as_bytes()));
    bytes(&mut out, 2, output.as_bytes());
    bytes(&mut out, 3, output.as_bytes());
    bytes(&mut out, 4, kind.as_bytes());
    attributes.iter().for_each(|one| bytes(&mut out, 5, &attribute(one)));
    out
}

fn attribute(attribute: &Attribute) -> Vec<u8> {
    let mut out = Vec::new();
    let (name, kind) = match attribute {
        Attribute::Float(name, value) => {
            varint(&mut out, 2 << 3 | 5);
            out.extend(value.to_le_bytes());
            (name, 1)
        }
        Attribute::Int(name, value) => {
            number(&mut out, 3, *value as u64);
            (name, 2)
        }
        Attribute::Text(name, value) => {
            bytes(&mut out, 4, value.as_bytes());
            (name, 3)
        }
        Attribute::Ints(name, values) => {
            values.iter().for_each(|value| number(&mut out, 8, *value as u64));
            (name, 7)
        }
    };
    bytes(&mut out, 1, name.as_bytes());
    number(&mut out, 20, kind);
    out
}

/// A TensorProto.
pub(super) fn tensor(name: &str, kind: Kind, dims: &[usize], raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + 64);
    dims.iter().for_each(|&side| number(&mut out, 1, side as u64));
    number(&mut out, 2, kind as u64);
    bytes(&mut out, 8, name.as_bytes());
    bytes(&mut out, 9, raw);
    out
}

/// A ValueInfoProto whose sides are numbers or, where they vary, names.
pub(super) fn value_info(name: &str, kind: Kind, sides: &[Result<usize, &str>]) -> Vec<u8> {
    let mut shape = Vec::new();
    for side in sides {
        let mut dim = Vec::new();
        match side {
            Ok(side) => number(&mut dim, 1, *side as u64),
            Err(name) => bytes(&mut dim, 2, name.as_bytes()),
        }
        bytes(&mut shape, 1, &dim);
    }
    let (mut tensor, mut of_type, mut out) = (Vec::new(), Vec::new(), Vec::new());
    number(&mut tensor, 1, kind as u64);
    bytes(&mut tensor, 2, &shape);
    bytes(&mut of_type, 1, &tensor);
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, &of_type);
    out
}

/// A ModelProto around a graph.
pub(super) fn model(graph: &[u8]) -> Vec<u8> {
    let (mut out, mut opset) = (Vec::with_capacity(graph.len() + 64), Vec::new());
    number(&mut out, 1, 8);
    bytes(&mut out, 2, b"vqtok");
    bytes(&mut out, 3, env!("CARGO_PKG_VERSION").as_bytes());
    bytes(&mut out, 7, graph);
    bytes(&mut opset, 1, b"");
    number(&mut opset, 2, OPSET);
    bytes(&mut out, 8, &opset);
    out
}
