//! Whether runs that are put beside each other had the same inputs. Names and settings do not tell: the files that they name
//! may have changed between two runs. What a checkpoint recorded of its data does.

use super::Cell;
use super::cache::Cache;
use crate::init::Weights;
use crate::model_file;
use crate::run::place::{self, RECIPE, start_path};
use crate::task::{self, Data, Task};
use crate::{Config, Error, Result, Session, earlier};
use fixnet_data::DataDescription;
use fixnet_nn::checkpoint::{Checkpoint, Header, previous_path};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a checkpoint says of itself.
type Metadata = BTreeMap<String, String>;

/// Checks that a finished run has the inputs that it would have now: the data, the weights that it starts from, and the
/// arithmetic. Inputs that cannot be read now are noted and not compared, so that a table can outlive them.
///
/// # Errors
/// [`Error::OtherInputs`]; [`Error::Earlier`].
pub(super) fn check_finished(
    cell: &Cell,
    checkpoint: &Checkpoint,
    cache: &Cache,
    notes: &mut dyn FnMut(String),
) -> Result<()> {
    let (config, place) = (&cell.config, cell.path.display());
    match model_file::check_unchanged(config, checkpoint) {
        Ok(()) => {}
        Err(e @ Error::ChangedModel { .. }) => return Err(other(&cell.path, e)),
        Err(e) => notes(format!("warning: {place}: its model is not compared, since it cannot be read now: {e}")),
    }
    let weights = config.settings().run.init.as_deref().map(Weights::open);
    let task = match (weights.is_none(), cache.task(config)?) {
        (true, Some(known)) => known,
        _ => match cache.load(config) {
            Ok((task, data)) => {
                match weights {
                    Some(Ok(weights)) if start_path(&cell.path).exists() => check_start(cell, &task, &*data, &weights)?,
                    Some(Ok(_)) => {
                        notes(format!("warning: {place}: it kept no start.safetensors to compare weights with"))
                    }
                    Some(Err(e)) => notes(format!(
                        "warning: {place}: the weights that it started from are not compared, since they cannot be read now: {e}"
                    )),
                    None => {}
                }
                task
            }
            Err(e) => {
                notes(format!("warning: {place}: its data are not compared, since they cannot be read now: {e}"));
                return Ok(());
            }
        },
    };
    let recorded = task.check_recorded(config, &checkpoint.path().display().to_string(), checkpoint.metadata());
    recorded.map_err(|e| other(&cell.path, e))?.into_iter().for_each(&mut *notes);
    match task.check_configured(config, &checkpoint.path().display().to_string(), checkpoint.metadata()) {
        Ok(()) => {}
        Err(e @ Error::Setting { .. }) => return Err(other(&cell.path, e)),
        Err(e) => notes(format!("warning: {place}: its teacher is not compared, since it cannot be read now: {e}")),
    }
    earlier::check(config, &*task, checkpoint)
}

fn other(run: &Path, source: Error) -> Error {
    Error::OtherInputs { path: run.into(), source: Box::new(source) }
}

/// Checks that the state which a run kept of its beginning is the one that the weights give now.
fn check_start(cell: &Cell, task: &Arc<dyn Task>, data: &dyn Data, weights: &Weights) -> Result<()> {
    let (config, start) = (cell.config.clone(), Checkpoint::open(&start_path(&cell.path))?);
    let now = Session::begin(config.clone(), task.clone(), data, Some(weights), &mut Vec::new())
        .map_err(|e| other(&cell.path, e))?
        .digest();
    let then = Session::resumed(config, task.clone(), data, &start, &mut Vec::new())
        .map_err(|e| other(&cell.path, e))?
        .digest();
    if now == then {
        return Ok(());
    }
    let short = |digest: &str| digest.chars().take(12).collect::<String>();
    let init = cell.config.settings().run.init.clone().unwrap_or_default();
    Err(other(
        &cell.path,
        Error::Setting {
            key: "run.init".into(),
            reason: format!(
                "expected the first state of the run ({}, in start.safetensors), found {} from the weights of {init}",
                short(&then),
                short(&now)
            ),
        },
    ))
}

/// A run with what its checkpoint recorded of its data.
#[derive(Debug)]
pub struct Recorded {
    /// What it is called in notes.
    name: String,
    config: Config,
    place: String,
    metadata: Metadata,
}

impl Recorded {
    /// Reads what the last checkpoint of a run recorded, or the one before; none if neither can be read.
    pub fn of_run(name: &str, config: &Config, run: &Path) -> Option<Self> {
        let path = place::checkpoint_path(run);
        [path.clone(), previous_path(&path)].into_iter().find_map(|path| {
            let metadata = Header::read(&path).ok()?.metadata;
            let place = path.display().to_string();
            Some(Self { name: name.into(), config: config.clone(), place, metadata })
        })
    }

    /// What the task wrote: all but what fixnet writes for every task.
    fn of_task(&self) -> Metadata {
        let own = [RECIPE, "fixnet", "blake3"];
        self.metadata.clone().into_iter().filter(|(key, _)| !own.contains(&key.as_str())).collect()
    }

    /// Checks that none of these runs of the same source had other data.
    ///
    /// # Errors
    /// One had: the words name it and what differs.
    pub(super) fn check_among(&self, runs: &[Self]) -> std::result::Result<(), String> {
        let of_source = runs.iter().filter(|of| of.config.data().source == self.config.data().source);
        match of_source.into_iter().find_map(|of| Some((of, self.difference(of)?))) {
            None => Ok(()),
            Some((of, difference)) => Err(format!("trained on other data than {}: {difference}", of.name)),
        }
    }

    /// Returns in what the data of `self` are others than those of this run, if they have to be the same: the settings say
    /// so, or the data are another source. Seeds may draw other parts of one source.
    fn difference(&self, of: &Self) -> Option<String> {
        let same_source = self.config.data().source == of.config.data().source;
        if self.of_task() == of.of_task()
            || (same_source && task::data_key(&self.config).ok() != task::data_key(&of.config).ok())
        {
            return None;
        }
        let task = match task::recorded(&of.config, &of.place, &of.metadata) {
            Ok(task) => task,
            Err(e) => return Some(format!("this cannot be told ({e})")),
        };
        task.check_recorded(&self.config, &self.place, &self.metadata).err().map(|e| e.to_string())
    }
}

/// Returns a note for each run that was trained on other data than the first one with which it can be compared.
pub fn notes_on_data(runs: &[Recorded]) -> Vec<String> {
    // A description needs no data to be compared with others.
    let mut ordered: Vec<&Recorded> = runs.iter().collect();
    ordered.sort_by_key(|run| !run.metadata.contains_key(DataDescription::KEY));
    let mut notes = Vec::new();
    for (i, run) in ordered.iter().enumerate() {
        let found = ordered[..i].iter().find_map(|of| Some((of, run.difference(of)?)));
        notes.extend(found.map(|(of, difference)| {
            format!(
                "{} and {} were trained on different data, so their numbers do not compare: {difference}",
                run.name, of.name
            )
        }));
    }
    notes
}
