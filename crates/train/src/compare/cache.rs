//! The data that the runs of a grid share.

use crate::task::{self, Data, Task};
use crate::{Config, Result};
use fixnet_data::Source;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Data of the last run, which others may use too, and the tasks of all data that were loaded.
#[derive(Default)]
pub struct Cache(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: Option<(String, Loaded)>,
    /// They know of their data what tells these from others.
    tasks: BTreeMap<String, Arc<dyn Task>>,
    sources: Vec<Source>,
}

type Loaded = (Arc<dyn Task>, Arc<dyn Data>);

impl Cache {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the data of a configuration: those that are there, or loaded in their place.
    pub(super) fn load(&self, config: &Config) -> Result<Loaded> {
        let key = task::data_key(config)?;
        let mut known = self.known();
        if let Some((_, loaded)) = known.last.as_ref().filter(|(of, _)| *of == key) {
            return Ok(loaded.clone());
        }
        // The old ones first: both may be large.
        known.last = None;
        let (task, data) = task::load(config)?;
        let loaded: Loaded = (task.clone(), Arc::from(data));
        known.tasks.insert(key.clone(), task);
        known.sources.push(config.data().source.clone());
        known.last = Some((key, loaded.clone()));
        Ok(loaded)
    }

    /// Returns the task of the data of a configuration, if they were loaded before.
    pub(super) fn task(&self, config: &Config) -> Result<Option<Arc<dyn Task>>> {
        Ok(self.known().tasks.get(&task::data_key(config)?).cloned())
    }

    /// Returns whether data of this source were loaded before, with whatever seed.
    pub(super) fn has_source(&self, config: &Config) -> bool {
        self.known().sources.contains(&config.data().source)
    }
}
