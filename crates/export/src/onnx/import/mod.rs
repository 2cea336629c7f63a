//! A float network of another program, as PyTorch exports it, to train on: at any precision, from its weights.
//!
//! | file | idea |
//! |---|---|
//! | `scan.rs`, `read.rs` | the bytes of a file as a graph, within a budget |
//! | `constant.rs`, `fold.rs` | tensors of the file, and what is computed of shapes alone |
//! | `act.rs`, `lower.rs` | the graph as steps, with the order that the axes of each value have in memory |
//! | `operators.rs` | the table of operations |
//! | `products.rs`, `elementwise.rs`, `norms.rs`, `pools.rs`, `layout.rs`, `tokens.rs`, `gelu.rs` | operations of one kind each |
//! | `program.rs` | the steps, and the network that is built of them in a store |
//! | `model.rs` | the file as a model that recipes can name |

mod act;
mod constant;
mod elementwise;
mod fold;
#[cfg(test)]
mod fuzzed;
mod gelu;
mod layout;
mod lower;
mod model;
mod names;
mod norms;
mod operators;
mod pools;
mod problem;
mod products;
mod program;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod tokens;

pub use model::{MOST, OnnxModel, model, register};
pub use problem::Problem;
