//! Numbers in memory and exact products: the bottom layer of fixnet.
//!
//! - [`Tensor`]: dense row-major `f32`, images in N, H, W, C order, over pooled buffers; `ndarray` views at the edges.
//! - [`Codes`]: integers of 1 to 8 bits with one scale, stored as biased bytes.
//! - [`conv2d`], [`linear`] and their two gradients: integer products, accumulated exactly.
//! - [`matmul`]: integer products of many pairs of matrices of activations.
//! - [`float`]: the ordered `f32` products of layers that are not quantized.
//! - [`map`], [`math`], [`reduce`], [`rng`]: element passes, vectorized functions, ordered sums and counter-based noise.
//! - [`Budget`]: how much memory may be claimed; asked before anything is built.
//! - [`Registry`]: what can be named in recipes, with what a program adds.
//! - [`profile`]: where the time of a step goes.
//! - [`kernel`]: the table of hand-written kernels, one row each; the only place with `unsafe`.
//!
//! Everything here gives the same bits on every instruction set and with any number of threads: integer sums are exact,
//! and each float sum has one written order.

mod budget;
mod codes;
mod conv;
mod dispatch;
mod error;
pub mod float;
mod geometry;
pub mod kernel;
pub mod map;
pub mod math;
mod pool;
pub mod profile;
pub mod reduce;
mod registry;
pub mod rng;
mod shared;
mod sums;
mod tensor;

pub use budget::Budget;
pub use codes::{Codes, Range};
pub use conv::*;
pub use error::{Error, Result};
pub use float::float_products;
pub use geometry::{Conv2dGeometry, Window};
// For the crates of fixnet.
#[doc(hidden)]
pub use pool::{Buffer, Element};
pub use pool::{PoolStats, pool_stats};
pub use registry::Registry;
#[doc(hidden)]
pub use sums::{Integers, Sums};
pub use tensor::Tensor;
