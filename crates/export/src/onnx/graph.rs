//! The messages of an ONNX graph: nodes, constants and values, with names that are unique. Field numbers are those of the
//! published `onnx.proto`.

use crate::proto::Message;
use fixnet_tensor::Range;
use std::collections::BTreeMap;

/// Types of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Float,
    Uint8,
    Int8,
    Int64,
    Int4,
}

impl Type {
    fn code(self) -> i64 {
        match self {
            Self::Float => 1,
            Self::Uint8 => 2,
            Self::Int8 => 3,
            Self::Int64 => 7,
            Self::Int4 => 22,
        }
    }

    /// The type of 8 bits that has all levels of `range`.
    pub(super) fn of_levels(range: Range) -> Self {
        if range.min() < 0 { Self::Int8 } else { Self::Uint8 }
    }

    /// The bytes of levels: two to a byte in four bits, the first in the low half.
    fn pack(self, levels: &[i32]) -> Vec<u8> {
        match self {
            Self::Int4 => levels
                .chunks(2)
                .map(|pair| pair[0] as u8 & 15 | (pair.get(1).map_or(0, |&q| q as u8) & 15) << 4)
                .collect(),
            _ => levels.iter().map(|&q| q as u8).collect(),
        }
    }
}

/// A setting of a node.
pub(super) enum Attribute<'a> {
    Int(&'a str, i64),
    Ints(&'a str, Vec<i64>),
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn encode(&self) -> Message {
        let m = Message::default();
        match self {
            Self::Int(name, v) => m.text(1, name).int(3, *v).int(20, 2),
            Self::Ints(name, v) => m.text(1, name).each(v, |m, &v| m.int(8, v)).int(20, 7),
            Self::Text(name, v) => m.text(1, name).text(4, v).int(20, 3),
        }
    }
}

/// An axis of an input or output.
pub(super) enum Axis {
    Batch,
    Length(usize),
}

/// A graph that grows node by node.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Message>,
    constants: Vec<Message>,
    taken: BTreeMap<String, usize>,
}

impl Graph {
    fn unique(&mut self, name: String) -> String {
        let count = self.taken.entry(name.clone()).or_insert(0);
        *count += 1;
        match *count {
            1 => name,
            n => self.unique(format!("{name}_{}", n - 1)),
        }
    }

    /// Adds a node for `layer` and returns the name of its output.
    pub(super) fn node(&mut self, layer: &str, op: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        self.named(if layer.is_empty() { op.to_string() } else { format!("{layer}/{op}") }, op, inputs, attributes)
    }

    /// Adds a node called `name`, with a number behind it if that is taken, and returns the name of its output.
    pub(super) fn named(&mut self, name: String, op: &str, inputs: &[&str], attributes: &[Attribute<'_>]) -> String {
        let name = self.unique(name);
        let node = Message::default()
            .each(inputs, |m, i| m.text(1, i))
            .text(2, &name)
            .text(3, &name)
            .text(4, op)
            .each(attributes, |m, a| m.message(5, &a.encode()));
        self.nodes.push(node);
        name
    }

    fn constant(&mut self, name: &str, shape: &[usize], ty: Type, raw: &[u8]) -> String {
        let name = self.unique(name.to_string());
        let dims = Message::default().each(shape, |m, &d| m.int(1, d as i64));
        self.constants.push(dims.int(2, ty.code()).text(8, &name).bytes(9, raw));
        name
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, shape, Type::Float, &raw)
    }

    /// A constant of whole numbers on one axis.
    pub(super) fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[values.len()], Type::Int64, &raw)
    }

    /// A constant of levels.
    pub(super) fn levels(&mut self, name: &str, shape: &[usize], ty: Type, levels: &[i32]) -> String {
        let raw = ty.pack(levels);
        self.constant(name, shape, ty, &raw)
    }

    /// The encoded graph with one input and its outputs.
    pub(super) fn finish(self, name: &str, input: (&str, &[Axis]), outputs: &[(String, Vec<Axis>)]) -> Message {
        Message::default()
            .each(&self.nodes, |m, n| m.message(1, n))
            .text(2, name)
            .each(&self.constants, |m, c| m.message(5, c))
            .message(11, &value(input))
            .each(outputs, |m, (name, axes)| m.message(12, &value((name, axes))))
    }
}

/// The description of an input or output of floats.
fn value((name, axes): (&str, &[Axis])) -> Message {
    let axis = |a: &Axis| match a {
        Axis::Batch => Message::default().text(2, "batch"),
        Axis::Length(n) => Message::default().int(1, *n as i64),
    };
    let shape = Message::default().each(axes, |m, a| m.message(1, &axis(a)));
    let tensor = Message::default().int(1, Type::Float.code()).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}

/// Returns a whole file. `ir` and `opset` are the versions of the intermediate representation and of the operator set.
pub(super) fn model(
    graph: &Message,
    (ir, opset): (i64, i64),
    version: &str,
    metadata: &BTreeMap<String, String>,
) -> Vec<u8> {
    Message::default()
        .int(1, ir)
        .text(2, "fixnet")
        .text(3, version)
        .message(7, graph)
        .message(8, &Message::default().text(1, "").int(2, opset))
        .each(metadata, |m, (k, v)| m.message(14, &Message::default().text(1, k).text(2, v)))
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_bit_levels_lie_two_to_a_byte_the_first_in_the_low_half() {
        assert_eq!(Type::Int4.pack(&[-8, 7, -1]), [0x78, 0x0f]);
        assert_eq!(Type::Int8.pack(&[-127, 3]), [0x81, 3]);
    }

    #[test]
    fn a_byte_type_has_all_levels_of_every_range() {
        for bits in 1..=8 {
            let signed = [Range::symmetric(bits), Range::twos_complement(bits)];
            for range in signed.into_iter().flatten() {
                assert_eq!((Type::of_levels(range), range.min() >= -128 && range.max() <= 127), (Type::Int8, true));
            }
            let range = Range::unsigned(bits).unwrap();
            assert_eq!((Type::of_levels(range), range.max() <= 255), (Type::Uint8, true));
        }
    }

    #[test]
    fn names_are_unique() {
        let mut graph = Graph::default();
        let names = [(); 3].map(|()| graph.node("a", "Relu", &["x"], &[]));
        assert_eq!(names, ["a/Relu", "a/Relu_1", "a/Relu_2"]);
    }
}
