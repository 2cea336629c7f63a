//! When a key of a recipe has no effect: in words, and as a function of the configuration.

use super::Config;
use super::schedule_kind::ScheduleKind;
use fixnet_quant::{Scales, Scheme, TalrRule};

/// When a key has no effect.
pub(super) type Idle = (&'static str, fn(&Config) -> bool);

pub(super) const FLOAT: Idle = ("no layer is quantized", float);
pub(super) const FLOAT_WEIGHTS: Idle = ("no weight is quantized", float_weights);
pub(super) const FLOAT_GRADIENTS: Idle =
    ("gradients are float", |c| c.quant().precision.gradient().is_none() && float_ends(c));
pub(super) const ENDS: Idle = ("the first and the last layer are float", float_ends);
pub(super) const NO_OUTPUT: Idle = ("the last layer is float, or the scheme is not trs", no_output);
pub(super) const NO_OUTPUT_SCALE: Idle = ("there is no output scale", |c| no_output(c) || !c.quant().output_scale);
pub(super) const FIXED_SCALES: Idle =
    ("no layer is quantized, or scales are fixed", |c| float(c) || c.quant().scales == Scales::Fixed);
pub(super) const NO_DECAY: Idle = ("weight_decay is 0", |c| c.optimizer().weight_decay == 0.0);
pub(super) const NO_STEPS: Idle = ("no schedule in use is `step`", no_steps);
pub(super) const NO_TWIN: Idle = ("no weight is quantized, or the optimizer is no transition-rate twin", no_twin);
pub(super) const NO_PAPER_RULE: Idle =
    ("transition.rule is auto, no weight is quantized, or the optimizer is no transition-rate twin", no_paper_rule);
pub(super) const NOT_ADDITIVE: Idle = ("the rule is not additive, or there is no twin", |c| {
    no_twin(c) || c.optimizer().transition.as_ref().is_none_or(|t| t.rule != TalrRule::Additive)
});
pub(super) const NO_CLASSES: Idle = ("the task is not classification", no_classes);
pub(super) const NO_LABELS: Idle =
    ("the task is not classification, or there is a teacher", |c| no_classes(c) || c.settings().loss.teacher.is_some());
pub(super) const NO_PATCHES: Idle = ("the task is classification, detection or regression", no_patches);
pub(super) const NO_BOXES: Idle = ("the task is not detection", |c| c.settings().task != "detection");

/// Whether no layer is quantized.
fn float(c: &Config) -> bool {
    float_weights(c) && c.quant().precision.activation().is_none()
}

fn float_weights(c: &Config) -> bool {
    c.quant().precision.weight().is_none() && c.quant().edges.is_none()
}

fn no_twin(c: &Config) -> bool {
    float_weights(c) || c.optimizer().transition.is_none()
}

fn no_paper_rule(c: &Config) -> bool {
    no_twin(c) || c.optimizer().transition.as_ref().is_none_or(|t| t.rule == TalrRule::Auto)
}

fn no_steps(c: &Config) -> bool {
    use ScheduleKind::Step;
    let s = c.settings();
    let of_twin = !no_twin(c) && s.transition.schedule == Some(Step);
    s.schedule.kind != Step && !of_twin && (float(c) || s.schedule.scales != Step)
}

fn no_classes(c: &Config) -> bool {
    c.settings().task != "classification"
}

fn no_patches(c: &Config) -> bool {
    ["classification", "detection", "regression"].contains(&c.settings().task.as_str())
}

fn float_ends(c: &Config) -> bool {
    c.quant().edges.is_none()
}

fn no_output(c: &Config) -> bool {
    float_ends(c) || c.quant().scheme != Scheme::Trs
}
