//! Reverse-mode automatic differentiation over a tape for one step.
//!
//! A [`Store`] owns everything that outlives a step: parameters, their gradients and further typed state. A [`Graph`]
//! borrows it for one forward pass, records an operation for each value that needs a gradient, and is consumed by
//! [`Graph::backward`]. Recording order is topological order, so there is no graph search, and what an operation saved
//! is freed as the walk goes by.
//!
//! ```
//! use fixnet_autograd::{Graph, Group, Store};
//! use fixnet_tensor::Tensor;
//! let mut store = Store::seeded(1);
//! let w = store.add("w", Group::Weight, Tensor::from_vec(&[1], vec![3.0])?)?;
//! let mut g = Graph::train(&mut store);
//! let w_var = g.param(w);
//! let square = g.mul(&w_var, &w_var)?;
//! let zero = g.input(Tensor::zeros(&[1]));
//! let loss = g.l1_loss(&square, &zero)?;
//! g.backward(loss)?;
//! assert_eq!(store.grad(w).unwrap().data(), &[6.0]);
//! # Ok::<(), fixnet_autograd::Error>(())
//! ```
#![forbid(unsafe_code)]

pub mod check;
// For the crates of fixnet.
#[doc(hidden)]
pub mod deferred;
mod error;
#[doc(hidden)]
pub mod gradient;
mod graph;
mod operation;
pub mod ops;
mod store;
mod stored;
mod strided;
mod tape;
mod value;

pub use error::{Error, Result};
pub use graph::{Graph, Modes, Node, Operand, Trace};
pub use operation::{Operation, exactly};
pub use store::{Array, Group, Param, ParamId, Slot, State, Store, StoreId};
pub use stored::{Obstacle, Parameter, Settings, Stored, settings_of};
pub use tape::{Backward, Cx, Grads};
pub use value::{Source, Value, Var, map_blocks};
