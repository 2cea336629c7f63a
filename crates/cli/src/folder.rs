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
//! | `lock` | held by the process that writes here; also the sign that the folder is that of a run |
//!
//! Logs are on the disk before the checkpoint that follows them. A resumed run cuts off what is after its checkpoint, so
//! each line is there once.

use crate::diagnostics;
use crate::history::{self, Point};
use crate::plot;
use crate::processes::{Process, Watch};
use crate::recipe::Recipe;
use crate::run::{Run, Step};
use crate::tensorboard::Events;
use anyhow::{Context, Result, bail, ensure};
use fixnet::checkpoint::{Checkpoint, previous_path};
use fixnet::input_file;
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
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
const LOCK: &str = "lock";
const REPORT: &str = "report.html";
const PLOTS: &str = "plots";

/// A path that is not the folder of a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoRun {
    #[error("{}: expected the folder of a run, found no such folder", .path.display())]
    NoFolder { path: PathBuf },
    #[error("{}: expected the folder of a run, found a file", .path.display())]
    File { path: PathBuf },
    #[error("{}: expected the folder of a run, found none of its files ({})", .path.display(), CONFIG)]
    NoConfig { path: PathBuf },
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
    file.exists() || previous_path(&file).exists()
}

/// The whole lines of a log in the order in which they were written; none if there is no such file.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let bytes = match input_file::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other.with_context(|| path.display().to_string())?,
    };
    Ok(parse(path, &bytes)?.into_iter().map(|(value, _)| value).collect())
}

/// The lines of a log with the lengths that they end at. What was torn at the end is left out.
///
/// # Errors
/// A line in the middle is damaged: what follows would be lost.
fn parse(path: &Path, log: &[u8]) -> Result<Vec<(Value, u64)>> {
    let (mut lines, mut end) = (Vec::new(), 0);
    let mut damaged: Option<(usize, serde_json::Error)> = None;
    let whole = log.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
    for (i, line) in whole.enumerate() {
        end += line.len() as u64;
        match (serde_json::from_slice(line), &damaged) {
            (Ok(value), None) => lines.push((value, end)),
            (Err(e), None) => damaged = Some((i + 1, e)),
            (Ok(_), Some((at, e))) => bail!("{}: line {at}: expected JSON, found a damaged line ({e})", path.display()),
            (Err(_), Some(_)) => {}
        }
    }
    Ok(lines)
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
    input_file::read(&run.join(PROCESSES)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
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

/// A log of one JSON object a line, which only grows.
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens a log, keeping its lines up to the first that `keep` does not want; returns those.
    fn open(path: PathBuf, keep: impl Fn(&Value) -> bool) -> Result<(Self, Vec<Value>)> {
        let name = || path.display().to_string();
        let bytes = match input_file::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.with_context(name)?,
        };
        let kept: Vec<(Value, u64)> = parse(&path, &bytes)?.into_iter().take_while(|(value, _)| keep(value)).collect();
        let length = kept.last().map_or(0, |(_, end)| *end);
        let lines = kept.into_iter().map(|(value, _)| value).collect();
        let file = OpenOptions::new().create(true).append(true).open(&path).with_context(name)?;
        file.set_len(length).with_context(name)?;
        Ok((Self { path, file }, lines))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        // One call a line: a killed process tears none in two, as far as the system goes.
        self.file.write_all(format!("{line}\n").as_bytes()).with_context(|| self.path.display().to_string())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| self.path.display().to_string())
    }
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
    /// Locked while it is open; the system lets go of it when the process ends, however that happens.
    _lock: File,
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            bail!("{}: another fixnet process is writing to this folder", folder.display())
        }
        // A file system without locks: the user must know what runs where.
        Err(TryLockError::Error(_)) | Ok(()) => Ok(file),
    }
}

impl Folder {
    /// The folder of a run that begins, with its first checkpoint: what cannot be written must be known now, not at the
    /// end. An earlier run there is refused, or removed with `overwrite`.
    pub(crate) fn create(path: &Path, run: &Run<'_>, overwrite: bool) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("run folder {}", path.display()))?;
        let is_run = path.join(LOCK).exists() || has_checkpoint(path);
        if !overwrite
            && !is_run
            && let Some(file) = files(path)?.into_iter().find(|file| file.exists())
        {
            bail!(
                "{}: expected no file that is not of a run, found {}; choose another --out, or give --overwrite",
                path.display(),
                file.display()
            );
        }
        let lock = lock(path)?;
        if !overwrite && has_checkpoint(path) {
            bail!(
                "{0}: expected no earlier run, found one; go on with it (fixnet resume {0}), choose another --out, or give \
                 --overwrite",
                path.display()
            );
        }
        // In an order in which what is left of an earlier run is never one to go on with: checkpoints before logs.
        for old in files(path)?.into_iter().rev() {
            match fs::remove_file(&old) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| old.display().to_string());
                }
                _ => {}
            }
        }
        write_config(path, run)?;
        if run.recipe().init.is_some() {
            run.save(&start_path(path))?;
        }
        let (metrics, _) = Log::open(path.join(METRICS), |_| false)?;
        let (digests, _) = Log::open(path.join(DIGESTS), |_| false)?;
        let mut diagnostics = None;
        if let Some(head) = diagnostics::head(run) {
            let (mut log, _) = Log::open(path.join(DIAGNOSTICS), |_| false)?;
            log.write(&head)?;
            diagnostics = Some(log);
        }
        let (path, every, points) = (path.to_path_buf(), run.diagnosed(), Vec::new());
        let watch = Watch::new(Vec::new(), 0);
        let mut folder = Self { path, metrics, digests, diagnostics, every, points, watch, events: None, _lock: lock };
        folder.log_digest(run)?;
        folder.save(run)?;
        Ok(folder)
    }

    /// The folder of a run to go on with, its last good checkpoint, and what was wrong with the last one if that is the
    /// previous one. Lines that are after the checkpoint are cut off.
    pub(crate) fn open(path: &Path) -> Result<(Self, Checkpoint, Option<fixnet::Error>)> {
        let file = path.join(CHECKPOINT);
        expect_checkpoint(path)?;
        let lock = lock(path)?;
        let (checkpoint, problem) = Checkpoint::open_or_previous(&file)?;
        if problem.is_some() && file.exists() {
            // Out of the way, so that the next checkpoint does not make the damaged one the previous one.
            fs::rename(&file, path.join(DAMAGED)).with_context(|| file.display().to_string())?;
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
        let (path, watch) = (path.to_path_buf(), Watch::new(processes(path), step));
        let folder = Self { path, metrics, digests, diagnostics, every, points, watch, events: None, _lock: lock };
        Ok((folder, checkpoint, problem))
    }

    /// That the recipe in the folder is still the run's: a change in it would not reach the run. Where the data are, and
    /// whether event files are written, may change.
    pub(crate) fn check_config(&self, recipe: &Recipe) -> Result<()> {
        let config = config_path(&self.path);
        if !config.exists() {
            return Ok(());
        }
        let (data, tensorboard) = (recipe.data.clone(), recipe.tensorboard);
        let changed = Recipe { data, tensorboard, ..history::recipe(&self.path)? }.differences(recipe)?;
        ensure!(
            changed.is_empty(),
            "{}: holds other settings than the run began with ({}); a run keeps its settings: others are for a run of \
             their own",
            config.display(),
            changed.join("; ")
        );
        Ok(())
    }

    /// Writes the recipe, in which the place of the data may be another one now.
    pub(crate) fn write_config(&self, run: &Run<'_>) -> Result<()> {
        write_config(&self.path, run)
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
        self.events = Some(Events::begin(&self.path.join(TENSORBOARD), &metrics(&self.path)?, step)?);
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
    pub(crate) fn save(&mut self, run: &Run<'_>) -> Result<()> {
        self.metrics.sync()?;
        self.digests.sync()?;
        self.diagnostics.iter().try_for_each(Log::sync)?;
        run.save(&self.path.join(CHECKPOINT))?;
        let processes = self.watch.processes(run.store().step(), run.progress().epoch);
        let processes = serde_json::to_string_pretty(&processes)?;
        write_atomically(&self.path.join(PROCESSES), format!("{processes}\n").as_bytes())
    }

    /// Draws the curves of the epochs so far.
    pub(crate) fn draw(&self, title: &str) -> Result<()> {
        write_atomically(&self.path.join(CURVES), plot::curves(&[(title, &self.points)]).svg()?.as_bytes())
    }
}

fn write_config(folder: &Path, run: &Run<'_>) -> Result<()> {
    write_atomically(&config_path(folder), run.recipe().to_toml()?.as_bytes())
}

/// Every file that a run may have, and what `plot` and `report` made of it.
fn files(run: &Path) -> Result<Vec<PathBuf>> {
    let checkpoint = run.join(CHECKPOINT);
    let own = [CONFIG, METRICS, DIGESTS, DIAGNOSTICS, CURVES, PROCESSES, START, DAMAGED, REPORT].map(|n| run.join(n));
    let plots = match fs::read_dir(run.join(PLOTS)) {
        Ok(entries) => entries.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>().context(PLOTS)?,
        Err(_) => Vec::new(),
    };
    let figures = plots.into_iter().filter(|f| f.extension().is_some_and(|e| e == "svg" || e == "png"));
    let events = Events::files(&run.join(TENSORBOARD))?;
    Ok(own.into_iter().chain([previous_path(&checkpoint), checkpoint]).chain(events).chain(figures).collect())
}

/// Whether `path` is a file of the run in the folder where it lies.
pub(crate) fn is_of_a_run(path: &Path) -> Result<bool> {
    let Ok(path) = path.canonicalize() else { return Ok(false) };
    let Some(folder) = path.parent() else { return Ok(false) };
    Ok(has_checkpoint(folder) && files(folder)?.contains(&path))
}

/// Where `plot` puts its figures of one run.
pub(crate) fn plots_path(run: &Path) -> PathBuf {
    run.join(PLOTS)
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

/// Writes a file beside its place and renames it, so that an earlier one is whole until the new one is.
pub(crate) fn write_atomically(path: &Path, data: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, data).and_then(|()| fs::rename(&part, path)).with_context(|| {
        // What was written of it would only fill the disk further.
        let _ = fs::remove_file(&part);
        path.display().to_string()
    })
}
