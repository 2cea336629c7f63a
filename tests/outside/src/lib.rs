//! A crate that uses fixnet as any other program does, and adds one of each kind to it: a data source, a task with a metric, a model
//! with a layer, a gradient rule and an update rule. [`register`] makes them known; `main.rs` is the command with them in it.
//!
//! | file | what | name in recipes |
//! |---|---|---|
//! | `source.rs` | images with a bright spot, drawn by a seed | `spots:COUNT` |
//! | `task.rs` | where is the spot? mean squared error, and the distance in pixels | `locate` |
//! | `model.rs` | two convolutions and a layer of our own | `spotnet:WIDTH` |
//! | `gradient_rule.rs` | clips where few gradients are outside | `tail:SHARE` |
//! | `update_rule.rs` | the sign of the momentum | `lion`, and its twin `liont` |
#![forbid(unsafe_code)]

pub mod gradient_rule;
pub mod model;
pub mod source;
pub mod task;
pub mod update_rule;

/// Makes all of them known by their names.
pub fn register() {
    fixnet::data::register_source(source::KIND);
    fixnet::models::register_model(model::KIND);
    fixnet::quant::register_rule(gradient_rule::KIND);
    fixnet::optim::register_update_rule(|| Box::new(update_rule::Lion::default()));
    fixnet::train::task::register(task::KIND);
}
