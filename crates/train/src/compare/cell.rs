//! One run of a grid, from wherever it stands to its end.

use super::cache::Cache;
use super::inputs::check_finished;
use super::{Cell, Outcome};
use crate::init::Weights;
use crate::run::{Ended, Folder, place};
use crate::trainer::{self, Clock, Every, Watcher};
use crate::{Result, Session};

/// Brings a run to its end, if the watcher lets it. Notes for the user are added to `notes`. A finished run is not trained
/// again; its inputs are compared with those that are there now.
///
/// # Errors
/// A finished run had other inputs ([`Error::OtherInputs`](crate::Error::OtherInputs)).
/// The data, the weights to start from, or the folder cannot be used; or a step fails.
pub fn train_cell(
    cell: &Cell,
    diagnostics: Option<u64>,
    every: Every,
    cache: &Cache,
    watcher: &mut dyn Watcher,
    notes: &mut dyn FnMut(String),
) -> Result<Outcome> {
    if let Some(checkpoint) = place::finished(&cell.path, cell.config.epochs())? {
        check_finished(cell, &checkpoint, cache, notes)?;
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
