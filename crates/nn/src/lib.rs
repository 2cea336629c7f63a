//! Layers, models, optimizers, plans and checkpoints: what a training program is written with.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod detection;
mod error;
pub mod layers;
pub mod metrics;
pub mod models;
pub mod optim;
pub mod plan;

pub use error::{Error, Problem, Result};
pub use layers::{Layer, Sequential};
