//! Optimizers and learning-rate schedules.

mod schedule;
mod sgd;

pub use schedule::Schedule;
pub use sgd::{Sgd, SgdConfig, StepReport, TransitionConfig, TransitionReport};
