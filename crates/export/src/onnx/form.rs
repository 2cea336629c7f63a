//! `Form`: how the quantized layers of an ONNX file are stored.

use super::graph::Type;
use fixnet_tensor::Range;

/// The types of the quantized layers in a file. All forms compute the same network; layers of floats are the same in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Weights are INT8, one code per byte. Opset 13, the form that most runtimes read.
    #[default]
    Int8,
    /// Weights of up to 4 bits are INT4, two codes per byte. Opset 21, the first with that type.
    Int4,
    /// No type but f32: quantizers are `Round` and `Clip`, and weights are the levels as floats. Opset 13, for runtimes
    /// without quantized types.
    Float,
}

impl Form {
    /// Returns the operator set of a file.
    pub fn opset(self) -> i64 {
        match self {
            Self::Int8 | Self::Float => 13,
            Self::Int4 => 21,
        }
    }

    /// Returns the version of the intermediate representation that belongs to the operator set.
    pub(super) fn ir(self) -> i64 {
        match self {
            Self::Int8 | Self::Float => 7,
            Self::Int4 => 10,
        }
    }

    /// Returns the type of weights with levels of `range`; `None` stands for floats.
    pub(super) fn weight(self, range: Range) -> Option<Type> {
        match self {
            Self::Float => None,
            Self::Int4 if range.bits() <= 4 => Some(Type::Int4),
            Self::Int4 | Self::Int8 => Some(Type::Int8),
        }
    }
}
