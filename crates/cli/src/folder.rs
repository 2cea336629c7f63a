//! The folder of a run: its files, and that they agree with each other whenever the process ends.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | the recipe with all its settings |
//! | `checkpoint.safetensors`, `checkpoint.previous.safetensors` | the last checkpoint, and the one before |
//! | `metrics.jsonl` | a line every 50 steps and one an epoch |
//! | `digests.jsonl` | digests of the state on the way, which `fixnet verify` compares |
//! | `diagnostics.jsonl` | what was seen in layers, with `--diagnostics` |
//! | `curves.svg` | loss and accuracy |
//! | `processes.json` | which processes trained the run, on what, and how long |
//! | `tensorboard/` | event files, with `--tensorboard` |
//! | `start.safetensors` | the first state of a run that started from given weights (`--init`) |
//! | `lock` | held by the process that writes here |
//! | `writer.json` | names that process while it runs |
//!
//! All of them are written by `fixnet::files`, so that whatever ends the process, or the machine, leaves whole files. Logs are
//! on the disk before the checkpoint that follows them. A resumed run cuts off what is after its checkpoint, so each line is
//! there once.

use crate::claim::{self, Claim};
use crate::diagnostics;
use crate::history::{self, Point};
use crate::log::{Log, lines};
use crate::out::note;
use crate::plot;
use crate::processes::{Process, Watch};
use crate::recipe::Recipe;
use crate::run::{Run, Step, recipe_of};
use crate::tensorboard::Events;
use anyhow::{Context, Result, bail, ensure};
use fixnet::checkpoint::{Checkpoint, previous_path};
use fixnet::{Error, files, input_file};
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

const CHECKPOINT: &str = "checkpoint.safetensors";
const DAMAGED: &str = "checkpoint.damaged.safetensors";
const METRICS: &str = "metrics.jsonl";
const DIGESTS: &str = "digests.jsonl";
const DIAGNOSTICS: &str = "diagnostics.jsonl";
const CURVES: &str = "curves.svg";
const PROCESSES: &str = "processes.json";
const TENSORBOARD: &str = "tensorboard";
const CONFIG: &str = "config.toml";
const START: &str = "start.safetensors";
pub(crate) const REPORT: &str = "report.html";
pub(crate) const PLOTS: &str = "plots";

/// The files of a run that lie in its folder itself, but for its checkpoints, in the order in which they are written.
const FILES: [&str; 9] = [CONFIG, METRICS, DIGESTS, DIAGNOSTICS, CURVES, PROCESSES, START, DAMAGED, REPORT];

/// Keys that every `config.toml` has: a recipe that was written by hand lacks some of them.
const KEYS: [&str; 8] =
    ["name", "data", "bits", "scheme", "gradient_rule", "transition_momentum", "talr_gain", "mixup"];

/// A path that is not the folder of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRun {
    #[error("{}: expected the folder of a run, found no such folder", .path.display())]
    NoFolder { path: PathBuf },
    #[error("{}: expected the folder of a run, found a file", .path.display())]
    File { path: PathBuf },
    #[error("{}: expected the folder of a run, found none of its files ({})", .path.display(), CONFIG)]
    NoConfig { path: PathBuf },
    #[error("{}: expected a recipe, found an empty file, and there is no checkpoint that holds the recipe", .path.display())]
    Empty { path: PathBuf },
}

/// The checkpoint that a user means by a folder or a file.
pub(crate) fn checkpoint_path(run: &Path) -> PathBuf {
    if run.is_dir() { run.join(CHECKPOINT) } else { run.to_path_buf() }
}

/// As [`checkpoint_path`], of what must be there.
///
/// # Errors
/// The folder holds neither a checkpoint nor the one before.
pub(crate) fn existing_checkpoint(run: &Path) -> Result<PathBuf> {
    if run.is_dir() || !run.exists() {
        expect_checkpoint(run)?;
    }
    Ok(checkpoint_path(run))
}

fn expect_checkpoint(run: &Path) -> Result<()> {
    if let (false, Err(e)) = (run.is_dir(), existing_config(run)) {
        bail!("{e}; begin with fixnet train");
    }
    let found = has_checkpoint(run);
    let expected = "expected the folder of a run, found no";
    ensure!(found, "{}: {expected} {CHECKPOINT} in it; begin with fixnet train", run.display());
    Ok(())
}

/// Whether there is a run to go on with.
pub(crate) fn has_checkpoint(run: &Path) -> bool {
    let file = run.join(CHECKPOINT);
    // Not `exists`: what cannot be looked at for a moment, or is a link to nowhere, is there.
    [previous_path(&file), file].iter().any(|path| match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(e) => ![ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind()),
    })
}

/// Whether a folder looks like that of a run: it has a recipe or a checkpoint.
pub(crate) fn looks_like_a_run(path: &Path) -> bool {
    config_path(path).exists() || has_checkpoint(path)
}

/// Whether what is in a folder is of a run that has no checkpoint yet, because its process was killed. Nothing else has
/// the mark of a writer. Before there were marks, a run had an empty lock, and a recipe with all its keys.
fn has_begun(run: &Path) -> bool {
    let whole_recipe = || {
        let text = config(run).ok().flatten().unwrap_or_default();
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        KEYS.iter().all(|key| table.contains_key(*key)) && Recipe::from_toml(&text, CONFIG).is_ok()
    };
    claim::is_marked(run) || (claim::has_empty_lock(run) && whole_recipe())
}

/// The text of the recipe of a run; none if there is no such file, or one that a power cut has emptied, while a checkpoint
/// has it.
///
/// # Errors
/// The file cannot be read; or there is neither a recipe nor a checkpoint.
pub(crate) fn config(run: &Path) -> Result<Option<String>> {
    let path = config_path(run);
    let name = || path.display().to_string();
    let text = match input_file::read(&path) {
        Err(e) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind()) => None,
        other => Some(String::from_utf8(other.with_context(name)?).with_context(name)?),
    };
    // Some file systems put zeros in the place of what was lost.
    match text.filter(|text| !text.trim_matches(['\0', ' ', '\t', '\r', '\n']).is_empty()) {
        Some(text) => Ok(Some(text)),
        None if has_checkpoint(run) => Ok(None),
        None => {
            let path = existing_config(run)?;
            Err(NoRun::Empty { path }.into())
        }
    }
}

/// The lines of the metrics of a run.
pub(crate) fn metrics(run: &Path) -> Result<Vec<Value>> {
    lines(&run.join(METRICS))
}

/// The lines of the diagnostics of a run.
pub(crate) fn diagnostics(run: &Path) -> Result<Vec<Value>> {
    lines(&run.join(DIAGNOSTICS))
}

/// The processes that trained a run up to its last checkpoint; none if that is not known.
pub(crate) fn processes(run: &Path) -> Vec<Process> {
    read_processes(run).unwrap_or_default()
}

/// As [`processes`].
///
/// # Errors
/// There is a file that cannot be read now: it must not be replaced by one without these processes.
fn read_processes(run: &Path) -> Result<Vec<Process>> {
    let path = run.join(PROCESSES);
    match input_file::read(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => Ok(serde_json::from_slice(&other.with_context(|| path.display().to_string())?).unwrap_or_default()),
    }
}

/// The seconds that a run took up to its last checkpoint, if that is known.
pub(crate) fn seconds(run: &Path) -> Option<f64> {
    let processes = processes(run);
    (!processes.is_empty()).then(|| processes.iter().map(|p| p.seconds).sum())
}

/// Whether a run of so many epochs has come to its end and is saved.
pub(crate) fn is_finished(run: &Path, epochs: u32) -> bool {
    // This file is written after the checkpoint, which is written after the logs.
    processes(run).last().is_some_and(|p| p.epochs >= epochs) && has_checkpoint(run)
}

/// Where the recipe of a run is.
pub(crate) fn config_path(run: &Path) -> PathBuf {
    run.join(CONFIG)
}

/// As [`config_path`], of what must be there.
///
/// # Errors
/// The path is not the folder of a run.
pub(crate) fn existing_config(run: &Path) -> Result<PathBuf, NoRun> {
    let config = config_path(run);
    if config.exists() {
        return Ok(config);
    }
    let path = run.to_path_buf();
    Err(if run.is_dir() {
        NoRun::NoConfig { path }
    } else if run.exists() {
        NoRun::File { path }
    } else {
        NoRun::NoFolder { path }
    })
}

/// Where the first state of a run with given weights is.
pub(crate) fn start_path(run: &Path) -> PathBuf {
    run.join(START)
}

/// The folder of a run that this process writes.
pub(crate) struct Folder {
    path: PathBuf,
    metrics: Log,
    digests: Log,
    diagnostics: Option<Log>,
    every: Option<u64>,
    points: Vec<Point>,
    watch: Watch,
    events: Option<Events>,
    claim: Claim,
}

impl Folder {
    /// The folder of a run that begins, with its first checkpoint: what cannot be written must be known now, not at the
    /// end. An earlier run there is refused, or removed with `overwrite`.
    pub(crate) fn create(path: &Path, run: &Run<'_>, overwrite: bool) -> Result<Self> {
        files::create_folder(path).with_context(|| format!("run folder {}", path.display()))?;
        if !overwrite
            && !has_checkpoint(path)
            && !has_begun(path)
            && let Some(file) = files_of(path)?.into_iter().find(|file| fs::symlink_metadata(file).is_ok())
        {
            bail!(
                "{}: expected no file that is not of a run, found {}; choose another --out, or give --overwrite",
                path.display(),
                file.display()
            );
        }
        let claim = Claim::new(path)?;
        if !overwrite && has_checkpoint(path) {
            bail!(
                "{0}: expected no earlier run, found one; go on with it (fixnet resume {0}), choose another --out, or give \
                 --overwrite",
                path.display()
            );
        }
        claim.mark()?;
        remove_unfinished(path)?;
        // In an order in which what is left of an earlier run is never one to go on with: checkpoints before logs.
        for old in files_of(path)?.into_iter().rev() {
            files::remove(&old).with_context(|| old.display().to_string())?;
        }
        write_recipe(path, run.recipe())?;
        if run.recipe().init.is_some() {
            run.save(&start_path(path))?;
        }
        let metrics = Log::begin(path.join(METRICS))?;
        let digests = Log::begin(path.join(DIGESTS))?;
        let mut diagnostics = None;
        if let Some(head) = diagnostics::head(run) {
            let mut log = Log::begin(path.join(DIAGNOSTICS))?;
            log.write(&head)?;
            diagnostics = Some(log);
        }
        let (path, every, points) = (path.to_path_buf(), run.diagnosed(), Vec::new());
        let watch = Watch::new(Vec::new(), 0);
        let mut folder = Self { path, metrics, digests, diagnostics, every, points, watch, events: None, claim };
        folder.log_digest(run)?;
        folder.save(run)?;
        Ok(folder)
    }

    /// The folder of a run to go on with, its last good checkpoint, and what was wrong with the last one if that is the
    /// previous one. Lines that are after the checkpoint are cut off.
    pub(crate) fn open(path: &Path) -> Result<(Self, Checkpoint, Option<Error>)> {
        let file = path.join(CHECKPOINT);
        expect_checkpoint(path)?;
        let claim = Claim::new(path)?;
        let (checkpoint, problem) = Checkpoint::open_or_previous(&file)?;
        let earlier = read_processes(path)?;
        claim.mark()?;
        remove_unfinished(path)?;
        if let Some(Error::Checkpoint { .. }) = problem {
            // Out of the way, so that the next checkpoint does not make the damaged one the previous one.
            files::rename(&file, &path.join(DAMAGED)).with_context(|| file.display().to_string())?;
        }
        if config(path)?.is_none() {
            let config = config_path(path);
            note!("warning: {}: missing or empty; the recipe in the checkpoint takes its place", config.display());
            write_recipe(path, &recipe_of(&checkpoint)?)?;
        }
        let (step, epochs) = (checkpoint.step(), u64::from(checkpoint.progress().epoch));
        let before = |line: &Value| line["step"].as_u64().is_some_and(|s| s <= step);
        // At the last step of an epoch a checkpoint may be from before its evaluation.
        let (metrics, lines) = Log::open(path.join(METRICS), |line| {
            before(line) && (line["kind"] != "epoch" || line["epoch"].as_u64().is_some_and(|e| e <= epochs))
        })?;
        let (digests, _) = Log::open(path.join(DIGESTS), before)?;
        let points = lines.iter().filter(|line| line["kind"] == "epoch").filter_map(Point::of).collect();
        let (mut diagnostics, mut every) = (None, None);
        if path.join(DIAGNOSTICS).exists() {
            let (log, lines) = Log::open(path.join(DIAGNOSTICS), before)?;
            every = lines.first().and_then(|head| head["every"].as_u64());
            diagnostics = Some(log);
        }
        let (path, watch) = (path.to_path_buf(), Watch::new(earlier, step));
        let folder = Self { path, metrics, digests, diagnostics, every, points, watch, events: None, claim };
        Ok((folder, checkpoint, problem))
    }

    /// That the recipe in the folder is still the run's: a change in it would not reach the run. Where the data are, and
    /// whether event files are written, may change.
    pub(crate) fn check_config(&self, recipe: &Recipe) -> Result<()> {
        let (data, tensorboard) = (recipe.data.clone(), recipe.tensorboard);
        let changed = Recipe { data, tensorboard, ..history::recipe(&self.path)? }.differences(recipe)?;
        ensure!(
            changed.is_empty(),
            "{}: holds other settings than the run began with ({}); a run keeps its settings: others are for a run of \
             their own",
            config_path(&self.path).display(),
            changed.join("; ")
        );
        Ok(())
    }

    /// Writes the recipe, in which the place of the data may be another one now.
    pub(crate) fn write_config(&self, run: &Run<'_>) -> Result<()> {
        write_recipe(&self.path, run.recipe())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The numbers of the epochs so far.
    pub(crate) fn points(&self) -> &[Point] {
        &self.points
    }

    /// How often steps of the run are looked at.
    pub(crate) fn diagnostics_every(&self) -> Option<u64> {
        self.every
    }

    /// Adds what was seen in a step, if it was looked at.
    pub(crate) fn log_diagnostics(&mut self, run: &Run<'_>, step: &Step) -> Result<()> {
        match (&mut self.diagnostics, &step.layers) {
            (Some(log), Some(layers)) => log.write(&diagnostics::line(run, step, layers)),
            _ => Ok(()),
        }
    }

    /// From here on, the lines of the metrics go to an event file of TensorBoard as well. `step` is that of the checkpoint.
    pub(crate) fn write_events(&mut self, step: u64) -> Result<()> {
        let folder = self.path.join(TENSORBOARD);
        files::refuse_link(&folder).with_context(|| folder.display().to_string())?;
        self.events = Some(Events::begin(&folder, &metrics(&self.path)?, step)?);
        Ok(())
    }

    /// Takes note of images that were trained on and of the time that this took.
    pub(crate) fn trained(&mut self, images: u64, time: Duration) {
        self.watch.trained(images, time);
    }

    /// Adds a line to the metrics.
    pub(crate) fn log(&mut self, line: &Value) -> Result<()> {
        self.metrics.write(line)?;
        let Some(events) = &mut self.events else { return Ok(()) };
        // Times are not in the metrics, which are the same in equal runs.
        let rate = (line["kind"] == "step").then(|| self.watch.lap()).flatten();
        events.log(line, rate)
    }

    /// Adds the line of an epoch to the metrics.
    pub(crate) fn log_epoch(&mut self, line: &Value) -> Result<()> {
        self.points.extend(Point::of(line));
        self.log(line)
    }

    /// Adds the digest of the run's state.
    pub(crate) fn log_digest(&mut self, run: &Run<'_>) -> Result<()> {
        self.digests.write(&json!({ "step": run.store().step(), "digest": run.digest() }))
    }

    /// Writes a checkpoint, after the logs that belong to it.
    ///
    /// # Errors
    /// A file cannot be written; or another process has begun to write the folder.
    pub(crate) fn save(&mut self, run: &Run<'_>) -> Result<()> {
        self.claim.check()?;
        self.metrics.sync()?;
        self.digests.sync()?;
        self.diagnostics.iter().try_for_each(Log::sync)?;
        run.save(&self.path.join(CHECKPOINT))?;
        let processes = self.watch.processes(run.store().step(), run.progress().epoch);
        let processes = serde_json::to_string_pretty(&processes)?;
        write(&self.path.join(PROCESSES), format!("{processes}\n").as_bytes())
    }

    /// Draws the curves of the epochs so far.
    pub(crate) fn draw(&self, title: &str) -> Result<()> {
        write(&self.path.join(CURVES), plot::curves(&[(title, &self.points)]).svg()?.as_bytes())
    }
}

/// Writes a file of which an error names the path.
pub(crate) fn write(path: &Path, data: &[u8]) -> Result<()> {
    files::write(path, data).with_context(|| path.display().to_string())
}

fn write_recipe(run: &Path, recipe: &Recipe) -> Result<()> {
    write(&config_path(run), recipe.to_toml()?.as_bytes())
}

/// Removes what killed processes left of files that only the process with the lock writes.
fn remove_unfinished(run: &Path) -> Result<()> {
    let own = FILES.into_iter().filter(|name| *name != REPORT).chain([CHECKPOINT, claim::WRITER]);
    own.map(|name| run.join(name))
        .try_for_each(|path| files::remove_unfinished(&path).with_context(|| path.display().to_string()))
}

/// Every file that a run may have, and what `plot` and `report` made of it. What a link leads to is not of the run.
fn files_of(run: &Path) -> Result<Vec<PathBuf>> {
    let checkpoint = run.join(CHECKPOINT);
    let own = FILES.map(|name| run.join(name));
    let (plots, events) = (run.join(PLOTS), run.join(TENSORBOARD));
    let plots = match fs::read_dir(&plots) {
        Ok(entries) if files::refuse_link(&plots).is_ok() => {
            entries.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>().context(PLOTS)?
        }
        _ => Vec::new(),
    };
    let figures = plots.into_iter().filter(|f| f.extension().is_some_and(|e| e == "svg" || e == "png"));
    let events = if files::refuse_link(&events).is_ok() { Events::files(&events)? } else { Vec::new() };
    Ok(own.into_iter().chain([previous_path(&checkpoint), checkpoint]).chain(events).chain(figures).collect())
}

/// The file, or the folder inside, of a run that `path` would replace, in whose folder it lies; none if it is of no run.
pub(crate) fn part_of_run(path: &Path) -> Option<&'static str> {
    let is_run = |folder: &Path| has_checkpoint(folder) || has_begun(folder);
    let folder = path.parent()?;
    let name = path.file_name()?.to_string_lossy();
    let is = |own: &std::ffi::OsStr| own.eq_ignore_ascii_case(&*name);
    let previous = previous_path(Path::new(CHECKPOINT));
    // Names are compared without regard to capitals, as some file systems do.
    let own = FILES.into_iter().chain([CHECKPOINT]).chain(claim::NAMES).find(|own| is(own.as_ref()));
    let own = own.or_else(|| is(previous.as_os_str()).then_some(CHECKPOINT));
    if let Some(own) = own.filter(|_| is_run(folder)) {
        return Some(own);
    }
    let inside = [PLOTS, TENSORBOARD].into_iter().find(|inner| folder.ends_with(inner))?;
    (path.exists() && folder.parent().is_some_and(is_run)).then_some(inside)
}

/// The folder where `plot` puts its figures of one run.
///
/// # Errors
/// It is a link.
pub(crate) fn plots_path(run: &Path) -> Result<PathBuf> {
    let plots = run.join(PLOTS);
    files::refuse_link(&plots).with_context(|| plots.display().to_string())?;
    Ok(plots)
}

/// Where `report` puts its page of one run.
pub(crate) fn report_path(run: &Path) -> PathBuf {
    run.join(REPORT)
}

/// The digests that a run recorded, by step.
pub(crate) fn digests(run: &Path) -> Result<Vec<(u64, String)>> {
    let path = run.join(DIGESTS);
    let text = input_file::read_to_string(&path).with_context(|| path.display().to_string())?;
    let entry = |line: &str| -> Option<(u64, String)> {
        let value: Value = serde_json::from_str(line).ok()?;
        Some((value["step"].as_u64()?, value["digest"].as_str()?.to_string()))
    };
    text.lines()
        .enumerate()
        .map(|(i, line)| {
            entry(line).with_context(|| {
                format!("{}: line {}: expected a step and a digest, found {line}", path.display(), i + 1)
            })
        })
        .collect()
}
