//! The guide: short pages, each about one thing that a user of the library does. The code in them is tested.
//!
//! Longer programs are in the folder `examples`, from `01_train.rs` to `09_onnx.rs`.

#[doc = include_str!("guide/concepts.md")]
pub mod concepts {}

#[doc = include_str!("guide/own_layer.md")]
pub mod own_layer {}

#[doc = include_str!("guide/own_gradient_rule.md")]
pub mod own_gradient_rule {}

#[doc = include_str!("guide/own_data.md")]
pub mod own_data {}

#[doc = include_str!("guide/own_table.md")]
pub mod own_table {}

#[doc = include_str!("guide/inference.md")]
pub mod inference {}

#[doc = include_str!("guide/reproducibility.md")]
pub mod reproducibility {}

#[doc = include_str!("guide/performance.md")]
pub mod performance {}
