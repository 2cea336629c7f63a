//! `fixnet compare`: a grid of runs, each an ordinary run folder, and how they compare.

mod table;

use crate::flags::{Flags, value};
use crate::machine::{self, Machine};
use crate::out::{self, note, say, text};
use crate::train::{self, quoted};
use crate::{INTERRUPTED, interrupt, message, usage};
use anyhow::{Context, Result, anyhow};
use fixnet::train::Session;
use fixnet::train::compare::grid::{self, Axis, Cell, Grid, MOST};
use fixnet::train::compare::{Cache, Outcome, rows, train_cell, whole};
use fixnet::train::config::Kind;
use fixnet::train::task::{self, Metric, Part, joined_metrics};
use fixnet::train::trainer::{Clock, Every, Watcher};
use indicatif::ProgressBar;
use serde_json::json;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The axes as arguments. Lists have commas between their values.
#[derive(clap::Args)]
struct Axes {
    /// Built-in recipes (`fixnet recipes` lists them) or TOML files
    #[arg(value_name = "RECIPE", value_delimiter = ',')]
    recipe: Vec<String>,
    /// The same as a flag
    #[arg(long, value_name = "RECIPE,…", value_delimiter = ',')]
    recipes: Vec<String>,
    /// A TOML file with `recipes = […]` and, for any key of a recipe, one value or a list; flags take their place
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags<true>,
    /// Set any key of the recipes, to one value or a list, as in --set transition.scope=model,layer; may be repeated
    #[arg(long, value_name = "TABLE.KEY=VALUE,…")]
    set: Vec<String>,
}

impl Axes {
    /// The grid in the folder `out`.
    fn grid(&self, out: &Path) -> Result<Grid> {
        let (mut recipes, mut axes) = match &self.grid {
            Some(path) => grid::read(path)?,
            None => (Vec::new(), Vec::new()),
        };
        let named = [&self.recipe[..], &self.recipes].concat();
        if !named.is_empty() {
            recipes = named;
        }
        ensure_usage(!recipes.is_empty(), "expected recipes, as in fixnet compare digits, or --grid FILE; found none")?;
        let mut given: Vec<Axis> = Vec::new();
        for assignment in &self.set {
            let (key, list) = assignment
                .split_once('=')
                .ok_or_else(|| usage(anyhow!("--set: expected TABLE.KEY=VALUE, found {assignment}")))?;
            given.push(grid::axis(key.trim(), list));
        }
        for (key, flag, text) in self.flags.given() {
            let values = match flag.kind {
                Kind::Seed => grid::seeds(text).map_err(|e| usage(anyhow!(e)))?,
                _ => grid::values(key.name, text).into_iter().map(|part| value(key, flag, part, true)).collect(),
            };
            given.push(Axis { key: key.name.into(), values });
        }
        for (i, Axis { key, .. }) in given.iter().enumerate() {
            let twice = given[..i].iter().any(|other| other.key == *key);
            ensure_usage(!twice, &format!("{key}: expected its values once, found them twice"))?;
            axes.retain(|other| other.key != *key);
        }
        axes.extend(given);
        ensure_usage(recipes.len() <= MOST, &format!("expected at most {MOST} runs, found {} recipes", recipes.len()))?;
        let recipes = recipes.iter().map(|name| train::find(name)).collect::<Result<Vec<_>>>()?;
        let grid = Grid::new(recipes, axes, out).map_err(anyhow::Error::from);
        let grid = match &self.grid {
            Some(path) => grid.with_context(|| format!("grid {}", path.display())),
            None => grid,
        };
        grid.map_err(usage)
    }
}

fn ensure_usage(holds: bool, words: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(usage(anyhow!("{words}"))) }
}

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

/// `fixnet compare`.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    interrupt::expect_saves()?;
    let grid = args.axes.grid(&args.out)?;
    args.machine.run(|_| compare(&args, &grid))
}

fn compare(args: &Args, grid: &Grid) -> Result<ExitCode> {
    for cell in &grid.cells {
        cell.check()?;
    }
    interrupt::listen()?;
    let bar = train::progress(PART * grid.cells.len() as u64, args.quiet || args.json);
    let cache = Cache::default();
    let (next, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Runs of one data set have the same notes on it: each is printed once.
    let said = Mutex::new(BTreeSet::new());
    let tell = |line: String| {
        if said.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
            bar.suspend(|| note!("{line}"));
        }
    };
    let work = || {
        while let Some((i, cell)) = grid.cells.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let place = format!("{}/{} {}", i + 1, grid.cells.len(), cell.name);
            let outcome = outcome(cell, args, &cache, &bar, &place, tell);
            let outcome = outcome.unwrap_or_else(|e| Outcome::Failed(message(&e)));
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
    report(args, grid, outcomes, &cache)
}

/// What a run adds to the position of the bar.
const PART: u64 = 1000;

/// The part of a run of the bar; all of it when it is dropped.
struct Share<'a> {
    bar: &'a ProgressBar,
    shown: std::cell::Cell<u64>,
}

impl<'a> Share<'a> {
    fn new(bar: &'a ProgressBar) -> Self {
        Self { bar, shown: std::cell::Cell::new(0) }
    }

    fn show(&self, position: u64) {
        self.bar.inc(position.saturating_sub(self.shown.replace(position)));
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.show(PART);
    }
}

/// What is shown of a run of the grid while it trains.
struct Screen<'a> {
    part: Share<'a>,
    place: &'a str,
    /// The requests to save it.
    saves: interrupt::Saves,
}

impl Watcher for Screen<'_> {
    fn stop(&self) -> bool {
        interrupt::requested()
    }

    fn save(&mut self) -> bool {
        self.saves.requested()
    }

    fn step(&mut self, session: &Session<'_>, _: &Clock) {
        let (p, step) = (session.progress(), session.store().step());
        let mean = session.seen().get("loss").unwrap_or(f64::NAN);
        self.part.show(PART * step / session.total_steps().max(1));
        let (epoch, epochs) = (p.epoch + 1, session.config().epochs());
        self.part.bar.set_message(format!("{}  epoch {epoch}/{epochs}  loss {mean:.4}", self.place));
    }

    fn note(&mut self, line: String) {
        self.part.bar.suspend(|| note!("{}: warning: {line}", self.place));
    }

    fn epoch(
        &mut self,
        session: &Session<'_>,
        folder: &fixnet::train::run::Folder,
        _: &fixnet::train::run::event::EpochEvent,
    ) -> fixnet::train::Result<()> {
        train::draw(session, folder)
    }
}

/// Brings a run to its end, if the user lets it; notes go to `tell`.
fn outcome(
    cell: &Cell,
    args: &Args,
    cache: &Cache,
    bar: &ProgressBar,
    place: &str,
    mut tell: impl FnMut(String),
) -> Result<Outcome> {
    let mut screen = Screen { part: Share::new(bar), place, saves: interrupt::Saves::new() };
    bar.set_message(out::name(place));
    let outcome = train_cell(cell, args.diagnostics, args.checkpoint_every, cache, &mut screen, &mut tell)?;
    if let (Outcome::Finished(ended), Some(metric)) = (&outcome, metrics(cell).first())
        && let Some(value) = ended.epochs.last().and_then(|last| last.score(Part::Test, metric.name))
    {
        let line = format!("{place}  test {} {}", metric.name, metric.unit.text(value));
        train::log_line(bar, args.quiet || args.json, &line);
    }
    Ok(outcome)
}

/// The metrics of a run of the grid beside the loss; none of a task that is not known.
fn metrics(cell: &Cell) -> &'static [Metric] {
    task::find(&cell.config).map(|kind| kind.metrics).unwrap_or_default()
}

/// Prints and writes how the runs of the folder compare, and how to go on with those that are open.
fn report(args: &Args, grid: &Grid, outcomes: Vec<Outcome>, cache: &Cache) -> Result<ExitCode> {
    let asked = grid.cells.len();
    // From what is read to what is written, no other process may write.
    let turn = whole::wait_for_turn(&args.out)?;
    let mut warnings = Vec::new();
    let (grid, outcomes) = whole::of_folder(grid, outcomes, &args.out, cache, &mut warnings)?;
    let (grid, outcomes) = (&grid, &outcomes[..]);
    let rows = rows(grid, outcomes);
    let mut shown = joined_metrics(grid.cells.iter().map(metrics));
    let firsts: Vec<Metric> = grid.cells.iter().filter_map(|cell| metrics(cell).first().copied()).collect();
    let is_there = |metric: &Metric| {
        let last = |o: &Outcome| matches!(o, Outcome::Finished(ended) if ended.epochs.last().is_some_and(|e| e.score(Part::Train, metric.name).is_some()));
        outcomes.iter().any(last)
    };
    shown.retain(|metric| firsts.contains(metric) || is_there(metric));
    let numbers = table::numbers(&shown);
    let files = table::write(&args.out, grid, outcomes, &rows, &numbers, &mut warnings)?;
    warnings.iter().for_each(|warning| note!("warning: {}", warning.trim_start_matches("warning: ")));
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
                "failed": failed.len(), "table": table::json(grid, &rows, &numbers),
                "runs": table::runs_json(grid, outcomes, asked, &numbers),
                "files": files.iter().map(|f| text(f)).collect::<Vec<_>>(),
            })
        );
    } else {
        say!("{}", table::text(grid, &rows, &numbers));
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
