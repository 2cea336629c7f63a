//! All finished runs of the folder of a grid: those of this command and those of others, earlier or at the same time. So the
//! tables are of the folder, and no command takes from them what another one has trained.

use super::Outcome;
use super::cache::Cache;
use super::grid::{Cell, Grid, Shown, WITHOUT_RESULT};
use super::inputs::{Recorded, check_finished};
use crate::Result;
use crate::error::{io, run as wrong};
use crate::run::Ended;
use crate::run::place::{self, config_path};
use fixnet_files as files;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Held by the process that writes the tables.
const LOCK: &str = "compare.lock";

/// Waits until no other process writes the tables of a folder, and lets none do so while the result is held. Where the file
/// system has no locks, nothing is waited for.
///
/// # Errors
/// The lock cannot be opened.
pub fn wait_for_turn(out: &Path) -> Result<File> {
    let path = out.join(LOCK);
    files::create_folder(out).map_err(io(out))?;
    let file = files::open_lock(&path).map_err(io(&path))?;
    let _ = file.lock();
    Ok(file)
}

/// The runs of a grid and behind them all others that are finished in its folder, with columns that tell them apart.
///
/// # Errors
/// The folder cannot be read. A run in it that cannot be read, or that had other inputs than the runs that `cache` has loaded
/// data for, is left out; `warnings` gets a line about it.
pub fn of_folder(
    grid: &Grid,
    mut outcomes: Vec<Outcome>,
    out: &Path,
    cache: &Cache,
    warnings: &mut Vec<String>,
) -> Result<(Grid, Vec<Outcome>)> {
    let mut cells = grid.cells.clone();
    // What another process has finished meanwhile is finished.
    for (cell, outcome) in cells.iter().zip(&mut outcomes) {
        if matches!(outcome, Outcome::Finished(_)) {
            continue;
        }
        // What cannot be read has failed for that reason already.
        if let Ok(Some(checkpoint)) = place::finished(&cell.path, cell.config.epochs()) {
            *outcome = match check_finished(cell, &checkpoint, cache, &mut |line| warnings.push(line)) {
                Ok(()) => Outcome::Finished(Ended::read(&cell.path)?),
                Err(e) => Outcome::Failed(e.to_string()),
            };
        }
    }
    let own: BTreeSet<PathBuf> = cells.iter().map(|cell| cell.path.clone()).collect();
    let entries = fs::read_dir(out).map_err(io(out))?;
    let mut others: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    others.retain(|path| !own.contains(path) && config_path(path).exists());
    others.sort();
    let mut seen: Vec<Recorded> = cells
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| matches!(outcome, Outcome::Finished(_)))
        .filter_map(|(cell, _)| Recorded::of_run(&cell.name, &cell.config, &cell.path))
        .collect();
    for path in others {
        match finished(&path, cache, &mut seen, warnings) {
            Ok(Some((cell, ended))) => {
                cells.push(cell);
                outcomes.push(Outcome::Finished(ended));
            }
            Ok(None) => {}
            Err(e) => warnings.push(format!("{} is left out of the tables: {e}", path.display())),
        }
    }
    let shown: Vec<Shown> = cells.iter().map(|cell| Shown::of(&cell.config)).collect();
    let columns = columns(&grid.columns, &shown);
    for (cell, shown) in cells.iter_mut().zip(&shown) {
        cell.columns = columns.iter().map(|key| shown.value(key)).collect();
    }
    Ok((Grid { columns, cells }, outcomes))
}

/// The run in a folder, if it is finished. Where this command has loaded data of its source, it is held to these; else to what
/// the other runs of the folder recorded, since no data are loaded for a run that nobody asked for.
fn finished(
    path: &Path,
    cache: &Cache,
    seen: &mut Vec<Recorded>,
    warnings: &mut Vec<String>,
) -> Result<Option<(Cell, Ended)>> {
    let config = place::config(path)?.canonical()?;
    let Some(checkpoint) = place::finished(path, config.epochs())? else { return Ok(None) };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cell = Cell { config, columns: Vec::new(), name, path: path.into() };
    if cache.has_source(&cell.config) {
        check_finished(&cell, &checkpoint, cache, &mut |line| warnings.push(line))?;
    } else if let Some(recorded) = Recorded::of_run(&cell.name, &cell.config, path) {
        recorded.check_among(seen).map_err(|difference| wrong(path, difference))?;
        seen.push(recorded);
    }
    Ok(Some((cell, Ended::read(path)?)))
}

/// These columns and as many more as it takes that no two runs with equal ones differ in more than their seed.
fn columns(given: &[String], shown: &[Shown]) -> Vec<String> {
    let mut first: BTreeMap<Vec<String>, &Shown> = BTreeMap::new();
    let mut more = BTreeSet::new();
    for one in shown {
        let like = first.entry(given.iter().map(|key| one.value(key)).collect()).or_insert(one);
        more.extend(
            like.differing(one).filter(|key| *key != "run.seed" && !WITHOUT_RESULT.contains(&key.as_str())).cloned(),
        );
    }
    given.iter().cloned().chain(more.into_iter().filter(|key| !given.contains(key))).collect()
}
