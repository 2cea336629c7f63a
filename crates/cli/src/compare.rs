//! `fixnet compare`: a grid of runs, each an ordinary run folder, and how they compare.
//!
//! The folders are the whole state: what is finished is read, what was stopped is resumed, what is missing is trained. So
//! the same command goes on after anything that ended it, and a larger grid trains only what is new.

mod grid;
mod table;
mod whole;

use crate::folder::{self, Folder};
use crate::history::Ended;
use crate::machine::{self, Machine};
use crate::out::{self, note, say, text};
use crate::run::Run;
use crate::train::{self, Clock, Every, Watch, quoted};
use crate::{INTERRUPTED, interrupt, message};
use anyhow::{Context, Result};
use fixnet::prelude::*;
use grid::{Axes, Cell, Grid};
use indicatif::ProgressBar;
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Arguments of `fixnet compare`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    axes: Axes,
    /// Look into the layers at the first step and every EVERY-th (50 if not given), for `fixnet plot`; never changes a result
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "50",
        value_parser = clap::value_parser!(u64).range(1..))]
    diagnostics: Option<u64>,
    /// The folder of the grid, which holds the folders of its runs
    #[arg(long, default_value = "runs/compare")]
    out: PathBuf,
    /// Save a run after so many steps or so much time (500steps, 30s, 5min, 2h), besides the end of each epoch
    #[arg(long, value_name = "N", default_value = "5min")]
    checkpoint_every: Every,
    /// Runs that are trained at the same time, each on its share of the threads; never changes a result
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    #[command(flatten)]
    machine: Machine,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
    /// No progress bar; the last line is one JSON object
    #[arg(long)]
    json: bool,
}

/// What has become of a cell.
pub(crate) enum Outcome {
    Finished(Ended),
    Failed(String),
    /// Not finished, because the user has stopped it.
    Open,
}

/// `fixnet compare`.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let grid = args.axes.grid(&args.out)?;
    args.machine.run(|_| compare(&args, &grid))
}

fn compare(args: &Args, grid: &Grid) -> Result<ExitCode> {
    for cell in &grid.cells {
        cell.check()?;
    }
    interrupt::listen()?;
    let bar = train::progress(PART * grid.cells.len() as u64, args.quiet || args.json);
    let data = Mutex::new(None);
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((i, cell)) = grid.cells.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let part = Part::new(&bar);
            let place = format!("{}/{} {}", i + 1, grid.cells.len(), cell.name);
            let outcome = outcome(cell, args, &data, &part, &place).unwrap_or_else(|e| Outcome::Failed(message(&e)));
            if let Outcome::Failed(reason) = &outcome {
                train::log_line(&bar, args.quiet || args.json, &format!("{}: failed: {reason}", cell.name));
            }
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((i, outcome));
        }
    };
    match args.jobs.get().min(grid.cells.len()) {
        0 | 1 => work(),
        jobs => machine::share(jobs, work)?,
    }
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(i, _)| *i);
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    bar.finish_and_clear();
    tell(args, grid, outcomes)
}

/// What a run adds to the position of the bar.
const PART: u64 = 1000;

/// The part of a run of the bar; all of it when it is dropped.
struct Part<'a> {
    bar: &'a ProgressBar,
    shown: std::cell::Cell<u64>,
}

impl<'a> Part<'a> {
    fn new(bar: &'a ProgressBar) -> Self {
        Self { bar, shown: std::cell::Cell::new(0) }
    }

    fn show(&self, position: u64) {
        self.bar.inc(position.saturating_sub(self.shown.replace(position)));
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.show(PART);
    }
}

/// Data of the last run, which others may use too.
type Loaded = Mutex<Option<(DataConfig, Arc<Split>)>>;

/// The data of `source`: those that are there, or loaded in their place.
fn load(source: DataConfig, loaded: &Loaded) -> Result<Arc<Split>> {
    let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, split)) = loaded.as_ref().filter(|(known, _)| *known == source) {
        return Ok(Arc::clone(split));
    }
    // The old ones first: both may be large.
    *loaded = None;
    let split = Arc::new(source.load()?);
    *loaded = Some((source, Arc::clone(&split)));
    Ok(split)
}

/// Brings a run to its end, if the user lets it.
fn outcome(cell: &Cell, args: &Args, loaded: &Loaded, part: &Part<'_>, place: &str) -> Result<Outcome> {
    let bar = part.bar;
    if folder::is_finished(&cell.path, cell.recipe.epochs) {
        return Ok(Outcome::Finished(Ended::read(&cell.path)?));
    }
    if interrupt::requested() {
        return Ok(Outcome::Open);
    }
    bar.set_message(out::name(place));
    let init = match folder::has_checkpoint(&cell.path) {
        true => None,
        false => cell.recipe.init.as_deref().map(crate::import::open).transpose()?,
    };
    let mut source = cell.recipe.clone().resolve()?.data;
    if source.validation == 0.0 && !matches!(source.source, Source::Folder(_)) {
        // Runs of other seeds have the same data.
        source.seed = 0;
    }
    let split = load(source, loaded)?;
    let data = &*split;
    let (mut run, mut folder) = match folder::has_checkpoint(&cell.path) {
        true => {
            let (folder, checkpoint, problem) = Folder::open(&cell.path)?;
            if let Some(problem) = problem {
                bar.suspend(|| note!("warning: {problem}; goes on from the checkpoint of step {}", checkpoint.step()));
            }
            let mut run = Run::resumed(cell.recipe.clone(), data, &checkpoint)?;
            run.diagnose(folder.diagnostics_every());
            (run, folder)
        }
        false => {
            let mut run = Run::begin(cell.recipe.clone(), init.as_ref(), data)?;
            run.diagnose(args.diagnostics);
            let folder = Folder::create(&cell.path, &run, false)?;
            (run, folder)
        }
    };
    let watch = Watch {
        every: args.checkpoint_every,
        profile: false,
        bar,
        stop: &interrupt::requested,
        step: &|run, _| {
            let (p, step) = (run.progress(), run.store().step());
            let mean = p.loss_sum / p.seen as f64;
            part.show(PART * step / run.total_steps().max(1));
            bar.set_message(format!("{place}  epoch {}/{}  loss {mean:.4}", p.epoch + 1, run.recipe().epochs));
        },
        epoch: &|_| {},
    };
    let mut clock = Clock::new(run.store().step());
    let finished = train::train(&mut run, &mut folder, &watch, &mut clock)
        .with_context(|| format!("stopped at step {} of {}", run.store().step(), run.total_steps()))?;
    if !finished {
        return Ok(Outcome::Open);
    }
    drop(folder);
    let ended = Ended::read(&cell.path)?;
    if let Some(last) = ended.points.last() {
        let line = format!("{place}  test accuracy {:.2} %", 100.0 * last.test_accuracy);
        train::log_line(bar, args.quiet || args.json, &line);
    }
    Ok(Outcome::Finished(ended))
}

/// Prints and writes how the runs of the folder compare, and how to go on with those that are open.
fn tell(args: &Args, grid: &Grid, outcomes: Vec<Outcome>) -> Result<ExitCode> {
    let asked = grid.cells.len();
    // From what is read to what is written, no other process may write.
    let turn = whole::wait_for_turn(&args.out)?;
    let (grid, outcomes) = whole::of_folder(grid, outcomes, &args.out)?;
    let (grid, outcomes) = (&grid, &outcomes[..]);
    let rows = table::rows(grid, outcomes);
    let files = table::write(&args.out, grid, outcomes, &rows)?;
    drop(turn);
    let open = outcomes.iter().filter(|o| matches!(o, Outcome::Open)).count();
    let failed: Vec<_> = grid
        .cells
        .iter()
        .zip(outcomes)
        .filter_map(|(cell, o)| if let Outcome::Failed(reason) = o { Some((cell, reason)) } else { None })
        .collect();
    let command = command(std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()));
    if args.json {
        say!(
            "{}",
            json!({
                "out": text(&args.out), "interrupted": open > 0, "resume": (open > 0).then_some(&command),
                "failed": failed.len(), "table": table::json(grid, &rows), "runs": table::runs_json(grid, outcomes, asked),
                "files": files.iter().map(|f| text(f)).collect::<Vec<_>>(),
            })
        );
    } else {
        say!("{}", table::text(grid, &rows));
        for (cell, reason) in &failed {
            say!("failed: {}: {reason}", cell.path.display());
        }
        for file in &files {
            say!("written: {}", file.display());
        }
    }
    if open > 0 {
        note!("stopped with {open} of {asked} runs to go, and saved; go on with: {command}");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The command that was given, as a shell takes it.
fn command(args: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = args.skip(1).map(|arg| quoted(Path::new(&arg))).collect();
    format!("fixnet {}", words.join(" "))
}
