//! Differentiable operations, one idea a file: the value, its derivative and the test that compares the two with finite
//! differences stand side by side. Each is a method of [`Graph`](crate::Graph).

mod arithmetic;
mod batch_norm;
mod conv;
mod loss;
mod pad;
mod pixel_shuffle;
mod pool;
mod relu;
mod shape;

pub use batch_norm::{BatchNorm, FixedNorm, RunningStats};
