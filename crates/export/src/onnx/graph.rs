//! An ONNX graph that grows node by node: nodes, constants and values, with names that are unique.

use super::messages::{self, Dimension, Entry, Model, Node, OperatorSet, Shape, Tensor, TensorType, ValueInfo};
use fixnet_tensor::Range;
use prost::Message;
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
    fn code(self) -> i32 {
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
    Float(&'a str, f32),
    Int(&'a str, i64),
    Ints(&'a str, Vec<i64>),
    Text(&'a str, &'a str),
}

impl Attribute<'_> {
    fn message(&self) -> messages::Attribute {
        let (Self::Float(name, _) | Self::Int(name, _) | Self::Ints(name, _) | Self::Text(name, _)) = self;
        let mut message = messages::Attribute { name: Some((*name).into()), ..messages::Attribute::default() };
        match self {
            Self::Float(_, v) => (message.f, message.kind) = (Some(*v), Some(1)),
            Self::Int(_, v) => (message.i, message.kind) = (Some(*v), Some(2)),
            Self::Text(_, v) => (message.s, message.kind) = (Some(v.as_bytes().to_vec()), Some(3)),
            Self::Ints(_, v) => (message.ints, message.kind) = (v.clone(), Some(7)),
        }
        message
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
    nodes: Vec<Node>,
    constants: Vec<Tensor>,
    taken: BTreeMap<String, usize>,
    /// The layer of the node that each constant was made for.
    owners: Vec<String>,
    /// The layer of the node that is written, and whether a constant that equals an earlier one of the layer is that one.
    layer: (String, bool),
}

impl Graph {
    /// Says of which layer the nodes are that follow. With `again` they share the constants that the layer has already: it is used once more.
    /// Constants that are equal by chance stay apart.
    pub(super) fn of_layer(&mut self, layer: &str, again: bool) {
        self.layer = (layer.to_string(), again);
    }

    /// Has the constants that follow, of this node, share none.
    pub(super) fn keep_apart(&mut self) {
        self.layer.1 = false;
    }

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
        let node = Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![name.clone()],
            name: Some(name.clone()),
            op_type: Some(op.into()),
            attribute: attributes.iter().map(Attribute::message).collect(),
            domain: None,
        };
        self.nodes.push(node);
        name
    }

    fn constant(&mut self, name: &str, shape: &[usize], ty: Type, raw: Vec<u8>) -> String {
        let (layer, again) = &self.layer;
        let dims: Vec<i64> = shape.iter().map(|&length| length as i64).collect();
        let equal = |(t, owner): &(&Tensor, &String)| {
            *owner == layer && t.dims == dims && t.data_type == Some(ty.code()) && t.raw_data.as_ref() == Some(&raw)
        };
        if *again && let Some((shared, _)) = self.constants.iter().zip(&self.owners).find(equal) {
            return shared.name.clone().unwrap_or_default();
        }
        let (name, data_type, raw_data) = (self.unique(name.to_string()), Some(ty.code()), Some(raw));
        self.owners.push(self.layer.0.clone());
        self.constants.push(Tensor { dims, data_type, name: Some(name.clone()), raw_data, ..Tensor::default() });
        name
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, shape, Type::Float, raw)
    }

    /// A constant of whole numbers on one axis.
    pub(super) fn ints(&mut self, name: &str, values: &[i64]) -> String {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[values.len()], Type::Int64, raw)
    }

    /// A constant of levels.
    pub(super) fn levels(&mut self, name: &str, shape: &[usize], ty: Type, levels: &[i32]) -> String {
        let raw = ty.pack(levels);
        self.constant(name, shape, ty, raw)
    }

    /// The graph with one input and its outputs.
    pub(super) fn finish(self, name: &str, input: (&str, &[Axis]), outputs: &[(String, Vec<Axis>)]) -> messages::Graph {
        messages::Graph {
            node: self.nodes,
            name: Some(name.into()),
            initializer: self.constants,
            input: vec![value(input)],
            output: outputs.iter().map(|(name, axes)| value((name, axes))).collect(),
        }
    }
}

/// The description of an input or output of floats.
fn value((name, axes): (&str, &[Axis])) -> ValueInfo {
    let dimension = |axis: &Axis| match axis {
        Axis::Batch => Dimension { dim_value: None, dim_param: Some("batch".into()) },
        Axis::Length(n) => Dimension { dim_value: Some(*n as i64), dim_param: None },
    };
    let shape = Shape { dim: axes.iter().map(dimension).collect() };
    let tensor_type = TensorType { elem_type: Some(Type::Float.code()), shape: Some(shape) };
    let r#type = Some(messages::Type { tensor_type: Some(tensor_type) });
    ValueInfo { name: Some(name.into()), r#type }
}

/// Returns a whole file. `ir` and `opset` are the versions of the intermediate representation and of the operator set.
pub(super) fn model(
    graph: messages::Graph,
    (ir, opset): (i64, i64),
    version: &str,
    metadata: BTreeMap<String, String>,
) -> Vec<u8> {
    let entry = |(key, value)| Entry { key: Some(key), value: Some(value) };
    let model = Model {
        ir_version: Some(ir),
        producer_name: Some("fixnet".into()),
        producer_version: Some(version.into()),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: Some(opset) }],
        metadata_props: metadata.into_iter().map(entry).collect(),
    };
    model.encode_to_vec()
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
