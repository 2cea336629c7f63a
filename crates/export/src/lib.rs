//! Trained networks for other programs, and weights from them.
//!
//! | module | what | format |
//! |---|---|---|
//! | [`onnx`] | a network for other runtimes | ONNX, opset 13 to 26 |
//! | [`packed`] | a network that fixnet computes without its layers, weights packed to their bits | safetensors |
//! | [`torch`] | weights from and for PyTorch, under the names that are common there | safetensors |
//! | [`class_names`] | the names of classes in the metadata of these files | JSON |
//! | [`tensorboard`] | numbers over the steps of a run | event files of TensorBoard |
//!
//! The first three start from a [`Plan`](fixnet_nn::plan::Plan), the list of operations that a network describes itself as.
#![forbid(unsafe_code)]

pub mod class_names;
mod error;
pub mod onnx;
pub mod packed;
pub mod tensorboard;
pub mod torch;

pub use error::{Error, Result};
