//! Errors of exports and imports.

use crate::onnx::CodeType;
use std::path::PathBuf;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the export crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something below refused: a file that cannot be read, a plan that does not fit.
    #[error(transparent)]
    Nn(#[from] fixnet_nn::Error),
    /// A layer that the format has no form for.
    #[error("layer {index} ({layer}): expected {expected}, found {found}")]
    Layer {
        /// Its index in the plan.
        index: usize,
        /// Its name, or what it does.
        layer: String,
        /// What the format needs.
        expected: &'static str,
        /// What there is.
        found: String,
    },
    /// An operator set of ONNX that lacks what a file of this form needs, or that no file has been tried in.
    #[error(
        "opset: expected {} to {} for {codes} weights, found {found}{}",
        codes.opsets().start(),
        codes.opsets().end(),
        older(*codes, *found)
    )]
    Opset {
        /// The types of the quantized layers.
        codes: CodeType,
        /// What was asked for.
        found: u32,
    },
    /// A file could not be written; one that was there is as it was.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no packed network.
    #[error("{path}: no packed network: {reason}")]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An ONNX file that is no network to train.
    #[error("{path}: {problem}")]
    Onnx {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<crate::onnx::import::Problem>,
    },
    /// Weights that do not fit the model, one line a tensor.
    #[error("{path}: the weights do not fit {model}:\n  {}", .misfits.join("\n  "))]
    Misfit {
        /// The file.
        path: PathBuf,
        /// The model.
        model: String,
        /// Each tensor that is missing, wrong or left over, with what was expected and found.
        misfits: Vec<String>,
    },
}

/// What to do where an operator set is too old for these types and has others.
fn older(codes: CodeType, opset: u32) -> String {
    let others = CodeType::Int8.opsets();
    match codes == CodeType::Int4 && others.contains(&opset) {
        true => format!("; INT8 weights take {} to {}", others.start(), others.end()),
        false => String::new(),
    }
}

impl From<fixnet_autograd::Error> for Error {
    fn from(e: fixnet_autograd::Error) -> Self {
        Self::Nn(e.into())
    }
}

impl From<fixnet_tensor::Error> for Error {
    fn from(e: fixnet_tensor::Error) -> Self {
        Self::Nn(e.into())
    }
}
