//! How a task is made: a row of the registry.

use super::{Data, Metric, Task, Trial};
use crate::{Config, Result};
use fixnet_nn::plan::Plan;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a task is made. [`register`](super::register) adds one of another crate.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::type_complexity, reason = "a function's type is its documentation here")]
pub struct TaskKind {
    /// Its name in recipes.
    pub name: &'static str,
    /// Its metrics beside the loss.
    pub metrics: &'static [Metric],
    /// Few samples of each kind that it takes, made in memory: the table of networks and a test try every network on them.
    pub trials: &'static [Trial],
    /// Checks what can be checked without data: that the network is one for this task.
    pub check: fn(&Config) -> Result<()>,
    /// Returns what the data depend on: configurations of equal texts have the same data.
    pub data_key: fn(&Config) -> String,
    /// Loads all data of a configuration.
    pub load: fn(&Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)>,
    /// Makes the task of a network from what the checkpoint `place` recorded, without data.
    pub recorded: fn(&Config, place: &str, &BTreeMap<String, String>) -> Result<Arc<dyn Task>>,
    /// Makes the task of a network for inputs of this shape, with so many classes where it has classes.
    pub of_shape: fn(&Config, &[usize], usize) -> Result<Arc<dyn Task>>,
    /// Makes the task of the packed network in the file `place`.
    pub of_plan: fn(&Config, place: &str, &Plan) -> Result<Arc<dyn Task>>,
}
