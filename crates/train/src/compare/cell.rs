//! One run of a grid, from wherever it stands to its end.

use super::{Cell, Outcome};
use crate::init::Weights;
use crate::run::{Ended, Folder, place};
use crate::task::{self, Data, Task};
use crate::trainer::{self, Clock, Every, Watcher};
use crate::{Config, Result, Session};
use std::sync::{Arc, Mutex, PoisonError};

/// Data of the last run, which others may use too.
#[derive(Default)]
pub struct Cache(Mutex<Option<(String, Loaded)>>);

type Loaded = (Arc<dyn Task>, Arc<dyn Data>);

impl Cache {
    /// Returns the data of a configuration: those that are there, or loaded in their place.
    fn load(&self, config: &Config) -> Result<Loaded> {
        let kind = task::find(config)?;
        let key = format!("{} {}", kind.name, (kind.data_key)(config));
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, loaded)) = cached.as_ref().filter(|(known, _)| *known == key) {
            return Ok(loaded.clone());
        }
        // The old ones first: both may be large.
        *cached = None;
        let (task, data) = (kind.load)(config)?;
        let loaded: Loaded = (task, Arc::from(data));
        *cached = Some((key, loaded.clone()));
        Ok(loaded)
    }
}

/// Brings a run to its end, if the watcher lets it. Notes for the user are added to `notes`.
///
/// # Errors
/// The data, the weights to start from, or the folder cannot be used; or a step fails.
pub fn train_cell(
    cell: &Cell,
    diagnostics: Option<u64>,
    every: Every,
    cache: &Cache,
    watcher: &mut dyn Watcher,
    notes: &mut dyn FnMut(String),
) -> Result<Outcome> {
    if place::is_finished(&cell.path, cell.config.epochs()) {
        return Ok(Outcome::Finished(Ended::read(&cell.path)?));
    }
    if watcher.stop() {
        return Ok(Outcome::Open);
    }
    let resumes = place::has_checkpoint(&cell.path);
    let weights = match &cell.config.settings().run.init {
        Some(init) if !resumes => Some(Weights::open(init)?),
        _ => None,
    };
    let (task, data) = cache.load(&cell.config)?;
    let mut lines = Vec::new();
    let (mut session, mut folder) = match resumes {
        true => {
            let opened = Folder::open(&cell.path)?;
            lines.extend(opened.warnings.iter().map(|warning| format!("warning: {warning}")));
            let mut session = Session::resumed(cell.config.clone(), task, &*data, &opened.checkpoint, &mut lines)?;
            session.diagnose(opened.folder.diagnostics_every());
            (session, opened.folder)
        }
        false => {
            let mut session = Session::begin(cell.config.clone(), task, &*data, weights.as_ref(), &mut lines)?;
            session.diagnose(diagnostics);
            let mut warnings = Vec::new();
            let folder = Folder::create(&cell.path, &session, false, &mut warnings)?;
            lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
            (session, folder)
        }
    };
    lines.into_iter().for_each(notes);
    let mut clock = Clock::new(session.store().step());
    let finished = trainer::train(&mut session, &mut folder, every, watcher, &mut clock);
    let stopped = || format!("stopped at step {} of {}", session.store().step(), session.total_steps());
    if !finished.map_err(|e| e.within(stopped()))? {
        return Ok(Outcome::Open);
    }
    drop(folder);
    Ok(Outcome::Finished(Ended::read(&cell.path)?))
}
