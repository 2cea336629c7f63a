//! `Form`: how the quantized layers of an ONNX file are stored, and the operator set that it is written in.

use super::graph::Type;
use crate::{Error, Result};
use fixnet_tensor::Range;
use std::fmt;
use std::ops::RangeInclusive;

/// The last operator set that files are written in. The INT8 form has been run in each up to it, the INT4 form in the first that it
/// has.
const LAST: u32 = 26;

/// The types of the quantized layers in a file. All compute the same network; layers of floats are the same in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodeType {
    /// Weights of up to 4 bits are INT4, two codes per byte. Opset 21 is the first with that type.
    #[default]
    Int4,
    /// Weights are INT8, one code per byte, which most runtimes read.
    Int8,
    /// No type but f32: quantizers are `Round` and `Clip`, and weights are the levels as floats. For runtimes without
    /// quantized types.
    Float,
}

impl CodeType {
    /// Returns the operator sets that have these types and all operations of a file.
    pub fn opsets(self) -> RangeInclusive<u32> {
        match self {
            Self::Int4 => 21..=LAST,
            Self::Int8 | Self::Float => 13..=LAST,
        }
    }
}

impl fmt::Display for CodeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int4 => "INT4",
            Self::Int8 => "INT8",
            Self::Float => "float",
        })
    }
}

/// How a file is written: the types of its quantized layers and its operator set, which has them.
///
/// ```
/// use fixnet_export::onnx::{CodeType, Form};
/// assert_eq!(Form::new(CodeType::Int4).opset(), 21);
/// assert_eq!(Form::new(CodeType::Int8).opset(), 13);
/// assert_eq!(Form::new(CodeType::Int8).with_opset(17)?.opset(), 17);
/// let e = Form::new(CodeType::Int4).with_opset(17).unwrap_err();
/// assert!(e.to_string().starts_with("opset: expected 21 to "));
/// # Ok::<(), fixnet_export::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    codes: CodeType,
    opset: u32,
}

impl From<CodeType> for Form {
    fn from(codes: CodeType) -> Self {
        Self::new(codes)
    }
}

impl Default for Form {
    fn default() -> Self {
        Self::new(CodeType::default())
    }
}

impl Form {
    /// Returns the form with these types in the lowest operator set that has them, which the most runtimes read.
    pub fn new(codes: CodeType) -> Self {
        Self { codes, opset: *codes.opsets().start() }
    }

    /// Returns the form in another operator set.
    ///
    /// # Errors
    /// [`Error::Opset`]: it is none of [`CodeType::opsets`].
    pub fn with_opset(self, opset: u32) -> Result<Self> {
        match self.codes.opsets().contains(&opset) {
            true => Ok(Self { opset, ..self }),
            false => Err(Error::Opset { codes: self.codes, found: opset }),
        }
    }

    /// Returns the types of the quantized layers.
    pub fn codes(self) -> CodeType {
        self.codes
    }

    /// Returns the operator set of a file.
    pub fn opset(self) -> u32 {
        self.opset
    }

    /// Returns the version of the intermediate representation that came with the operator set.
    pub(super) fn ir(self) -> i64 {
        match self.opset {
            ..15 => 7,
            15..19 => 8,
            19..21 => 9,
            21..23 => 10,
            23 => 11,
            24 => 12,
            25.. => 13,
        }
    }

    /// Returns the type of weights with levels of `range`; `None` stands for floats.
    pub(super) fn weight(self, range: Range) -> Option<Type> {
        match self.codes {
            CodeType::Float => None,
            CodeType::Int4 if range.bits() <= 4 => Some(Type::Int4),
            CodeType::Int4 | CodeType::Int8 => Some(Type::Int8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opset_that_lacks_the_types_is_refused_with_what_has_them() {
        for (codes, found, expected) in [
            (CodeType::Int4, 20, "opset: expected 21 to 26 for INT4 weights, found 20; INT8 weights take 13 to 26"),
            (CodeType::Int4, 27, "opset: expected 21 to 26 for INT4 weights, found 27"),
            (CodeType::Int8, 12, "opset: expected 13 to 26 for INT8 weights, found 12"),
            (CodeType::Float, u32::MAX, "opset: expected 13 to 26 for float weights, found 4294967295"),
        ] {
            assert_eq!(Form::new(codes).with_opset(found).unwrap_err().to_string(), expected);
        }
        for codes in [CodeType::Int4, CodeType::Int8, CodeType::Float] {
            for opset in codes.opsets() {
                assert_eq!(Form::new(codes).with_opset(opset).unwrap().opset(), opset);
            }
        }
    }
}
