//! The messages of an ONNX file, with the field numbers of the published `onnx.proto`: those fields that fixnet writes or reads.
//!
//! Every single value is optional, as in `onnx.proto`, so that zeros and empty texts are written where they are set. Lists of
//! numbers are written one by one, not packed: that is how the file declares them, and every reader takes it.

use prost::Message;

/// A file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, optional, tag = "1")]
    pub(super) ir_version: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) producer_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(super) producer_version: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<Entry>,
}

/// The version of the operators of a domain.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, optional, tag = "1")]
    pub(super) domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub(super) version: Option<i64>,
}

/// A text under a name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, optional, tag = "1")]
    pub(super) key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(super) value: Option<String>,
}

/// The network.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfo>,
}

/// An operation.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub(super) name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<Attribute>,
    #[prost(string, optional, tag = "7")]
    pub(super) domain: Option<String>,
}

/// A setting of an operation; `kind` says which of the values it is.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) s: Option<Vec<u8>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub(super) t: Option<Box<Tensor>>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
    /// 1 is `f`, 2 `i`, 3 `s`, 4 `t`, 6 `floats`, 7 `ints`.
    #[prost(int32, optional, tag = "20")]
    pub(super) kind: Option<i32>,
}

/// A constant.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    pub(super) data_type: Option<i32>,
    #[prost(float, repeated, tag = "4")]
    pub(super) float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub(super) int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub(super) int64_data: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    pub(super) name: Option<String>,
    /// The numbers, little endian.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub(super) raw_data: Option<Vec<u8>>,
    #[prost(double, repeated, tag = "10")]
    pub(super) double_data: Vec<f64>,
    /// Where the numbers are, if not in this file.
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<Entry>,
    /// 1: in another file.
    #[prost(int32, optional, tag = "14")]
    pub(super) data_location: Option<i32>,
}

/// An input or output.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, optional, tag = "1")]
    pub(super) name: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<Type>,
}

/// The type of a value; here always a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Type {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorType>,
}

/// The type and shape of a tensor.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, optional, tag = "1")]
    pub(super) elem_type: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

/// The lengths of axes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dimension>,
}

/// The length of an axis: a number, or a name for one that is not fixed.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) dim_param: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand from the field numbers: key = number · 8 + type of the encoding.
    #[test]
    fn messages_have_the_published_encoding() {
        let attribute =
            Attribute { name: Some("pads".into()), ints: vec![0, 2], kind: Some(7), ..Attribute::default() };
        assert_eq!(attribute.encode_to_vec(), b"\x0a\x04pads\x40\x00\x40\x02\xa0\x01\x07");
        let zero = Attribute { i: Some(0), kind: Some(2), ..Attribute::default() };
        assert_eq!(zero.encode_to_vec(), b"\x18\x00\xa0\x01\x02", "a zero that is set is written");
        let tensor = Tensor {
            dims: vec![1],
            data_type: Some(3),
            name: Some("w".into()),
            raw_data: Some(vec![9]),
            ..Tensor::default()
        };
        assert_eq!(tensor.encode_to_vec(), b"\x08\x01\x10\x03\x42\x01w\x4a\x01\x09");
        let opset = OperatorSet { domain: Some(String::new()), version: Some(13) };
        let graph = Graph { name: Some("g".into()), ..Graph::default() };
        let model = Model { ir_version: Some(7), graph: Some(graph), opset_import: vec![opset], ..Model::default() };
        assert_eq!(model.encode_to_vec(), b"\x08\x07\x3a\x03\x12\x01g\x42\x04\x0a\x00\x10\x0d");
        let info = ValueInfo {
            name: Some("x".into()),
            r#type: Some(Type {
                tensor_type: Some(TensorType {
                    elem_type: Some(1),
                    shape: Some(Shape { dim: vec![Dimension { dim_value: Some(5), dim_param: None }] }),
                }),
            }),
        };
        assert_eq!(info.encode_to_vec(), b"\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x05");
    }
}
