//! Optimizers, their transition-rate twins, and schedules.

mod groups;
mod optimizer;
mod rule;
mod saved;
mod schedule;
mod transition;

pub use groups::ParamGroup;
pub use optimizer::{DecayGroups, Optimizer, OptimizerConfig, StepReport};
pub use rule::{
    Adagrad, Adam, AdamW, Adamax, CloneUpdateRule, NAdam, RmsProp, Scalars, Setting, Sgd, UpdateRule, pass,
    register_update_rule, update_rules,
};
pub use schedule::{Curve, Schedule, Warmup, register_schedule, schedules};
pub use transition::{Scope, TransitionConfig, TransitionReport};
