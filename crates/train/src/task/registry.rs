//! The tasks by their names in recipes. There is one list; programs add their own to it.

use super::{Data, Task, TaskKind, classification, detection, regression, super_resolution};
use crate::{Config, Error, Result, judge};
use fixnet_nn::plan::Plan;
use fixnet_tensor::Registry;
use std::collections::BTreeMap;
use std::sync::Arc;

static KINDS: Registry<TaskKind> =
    Registry::new(&[classification::KIND, regression::KIND, super_resolution::KIND, detection::KIND]);

/// Adds a task to the registry. One of the same name takes the place of an earlier one, also of a built-in one.
pub fn register(kind: TaskKind) {
    KINDS.add(kind);
}

/// Returns all tasks, the latest registered first.
pub fn kinds() -> Vec<TaskKind> {
    KINDS.all()
}

/// Finds the task of a configuration.
///
/// # Errors
/// There is none of this name.
pub fn find(config: &Config) -> Result<TaskKind> {
    let (name, kinds) = (&config.settings().task, kinds());
    kinds.iter().find(|kind| kind.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
        Error::Setting { key: "task".into(), reason: format!("expected {}, found {name}", known.join(" or ")) }
    })
}

/// Checks that the task of a configuration exists, that its network is one for it, and that it has the metric by which epochs
/// are judged.
///
/// # Errors
/// The task or the metric is unknown, or the network is for another task.
pub fn check(config: &Config) -> Result<()> {
    let kind = find(config)?;
    (kind.check)(config)?;
    judge::metric(config, kind.metrics).map(drop)
}

/// Returns what the data of a configuration depend on: configurations of equal texts have the same data.
///
/// # Errors
/// The task is unknown.
pub fn data_key(config: &Config) -> Result<String> {
    let kind = find(config)?;
    Ok(format!("{} {}", kind.name, (kind.data_key)(config)))
}

/// Loads the data of a configuration, with their task.
///
/// # Errors
/// The task is unknown; a file is missing or broken.
pub fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    (find(config)?.load)(config)
}

/// Makes the task of a network from what its checkpoint `place` recorded. No data are needed.
///
/// # Errors
/// The task is unknown; the metadata are damaged.
pub fn recorded(config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    (find(config)?.recorded)(config, place, metadata)
}

/// Makes the task of a network for inputs of this shape, with so many classes where it has classes. No data are needed.
///
/// # Errors
/// The task is unknown, or does not take such inputs.
pub fn of_shape(config: &Config, input: &[usize], classes: usize) -> Result<Arc<dyn Task>> {
    (find(config)?.of_shape)(config, input, classes)
}

/// Makes the task of the packed network in the file `place`.
///
/// # Errors
/// The task is unknown; the network is not one of this task.
pub fn of_plan(config: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    (find(config)?.of_plan)(config, place, plan)
}
