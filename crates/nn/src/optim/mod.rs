//! Optimizers, their transition-rate twins, and schedules.

mod groups;
mod optimizer;
mod rule;
mod schedule;
mod transition;

pub use groups::ParamGroup;
pub use optimizer::{DecayGroups, Optimizer, OptimizerConfig, StepReport};
pub use rule::UpdateRule;
pub use schedule::{Schedule, Warmup};
pub use transition::{Scope, TransitionConfig, TransitionReport};
