//! The folder of a run that this process writes, and that its files agree with each other whenever the process ends.
//!
//! | file | holds |
//! |---|---|
//! | `config.toml` | the recipe with all its settings |
//! | `checkpoint.safetensors`, `checkpoint.previous.safetensors` | the last checkpoint, and the one before |
//! | `metrics.jsonl` | an event every `run.log_every` steps and one per epoch |
//! | `digests.jsonl` | digests of the state on the way, which `fixnet verify` compares |
//! | `diagnostics.jsonl` | what was seen in layers, with `--diagnostics` |
//! | `curves.svg` | loss and metrics over the epochs |
//! | `processes.json` | which processes trained the run, on what, and how long |
//! | `tensorboard/` | event files, with `--tensorboard` |
//! | `best.safetensors` | the checkpoint of the best epoch, with `--keep-best` |
//! | `start.safetensors` | the first state of a run that started from given weights (`--init`, a model that is a file) |
//! | `lock` | held by the process that writes here |
//! | `writer.json` | names that process while it runs |
//!
//! All of them are written by `fixnet_files`, so that whatever ends the process, or the machine, leaves whole files. Logs are
//! on the disk before the checkpoint that follows them. A resumed run cuts off what is after its checkpoint, so each line is
//! there once.

use super::claim::{self, Claim};
use super::diagnostics;
use super::event::{Diagnostic, DigestEvent, EpochEvent, Event};
use super::log::Log;
use super::place::{
    self, CHECKPOINT, DAMAGED, DIAGNOSTICS, DIGESTS, FILES, METRICS, PLOTS, PROCESSES, REPORT, TENSORBOARD, best_path,
    config_path, has_begun, has_checkpoint, start_path,
};
use super::processes::Watch;
use super::tensorboard::Events;
use crate::error::{io, run as wrong};
use crate::session::{Session, Step};
use crate::{Config, Result};
use fixnet_files as files;
use fixnet_nn::checkpoint::{Checkpoint, previous_path};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of a run that this process writes.
pub struct Folder {
    path: PathBuf,
    metrics: Log,
    digests: Log,
    diagnostics: Option<Log>,
    every: Option<u64>,
    epochs: Vec<EpochEvent>,
    watch: Watch,
    events: Option<Events>,
    claim: Claim,
}

/// A run to go on with.
pub struct Opened {
    /// Its folder.
    pub folder: Folder,
    /// Its last good checkpoint.
    pub checkpoint: Checkpoint,
    /// What the user should know, such as that the last checkpoint was damaged.
    pub warnings: Vec<String>,
}

impl Folder {
    /// Makes the folder of a run that begins, with its first checkpoint: what cannot be written must be known now, not at the
    /// end. An earlier run there is refused, or removed with `overwrite`. Warnings for the user are added to `warnings`.
    ///
    /// # Errors
    /// The folder holds another run or files of someone else, another process writes to it, or a file cannot be written.
    pub fn create(path: &Path, session: &Session<'_>, overwrite: bool, warnings: &mut Vec<String>) -> Result<Self> {
        files::create_folder(path).map_err(io(path)).map_err(|e| e.within("run folder"))?;
        if !overwrite
            && !has_checkpoint(path)
            && !has_begun(path)
            && let Some(file) = files_of(path)?.into_iter().find(|file| fs::symlink_metadata(file).is_ok())
        {
            let advice = "choose another --out, or give --overwrite";
            let found =
                format!("expected a new folder, found {}, which no run of fixnet wrote; {advice}", file.display());
            return Err(wrong(path, found));
        }
        let mut claim = Claim::new(path)?;
        warnings.extend(claim.take_warning());
        if !overwrite && has_checkpoint(path) {
            let place = path.display();
            return Err(wrong(
                path,
                format!(
                    "expected no earlier run, found one; go on with it (fixnet resume {place}), choose another --out, or give \
                     --overwrite"
                ),
            ));
        }
        claim.mark()?;
        remove_unfinished(path)?;
        // In an order in which what is left of an earlier run is never one to go on with: checkpoints before logs.
        for old in files_of(path)?.into_iter().rev() {
            files::remove(&old).map_err(io(&old))?;
        }
        write_recipe(path, session.config())?;
        if session.config().starts_from_weights() {
            session.save(&start_path(path))?;
        }
        let mut metrics = Log::begin(path.join(METRICS))?;
        metrics.write(&Event::header())?;
        let digests = Log::begin(path.join(DIGESTS))?;
        let mut diagnostics = None;
        if let Some(head) = diagnostics::head(session) {
            let mut log = Log::begin(path.join(DIAGNOSTICS))?;
            log.write(&head)?;
            diagnostics = Some(log);
        }
        let mut folder = Self {
            path: path.to_path_buf(),
            metrics,
            digests,
            diagnostics,
            every: session.diagnosed(),
            epochs: Vec::new(),
            watch: Watch::new(Vec::new(), 0),
            events: None,
            claim,
        };
        folder.log_digest(session)?;
        folder.save(session)?;
        Ok(folder)
    }

    /// Opens the folder of a run to go on with. Lines of logs that are after the checkpoint are cut off.
    ///
    /// # Errors
    /// The path is not the folder of a run, another process writes to it, or no checkpoint can be used.
    pub fn open(path: &Path) -> Result<Opened> {
        let file = path.join(CHECKPOINT);
        place::expect_checkpoint(path)?;
        let mut claim = Claim::new(path)?;
        let mut warnings: Vec<String> = claim.take_warning().into_iter().collect();
        let (checkpoint, problem) = Checkpoint::open_or_previous(&file)?;
        let earlier = place::processes(path)?;
        let times = path.join(PROCESSES);
        if earlier.is_empty() && times.exists() {
            let words =
                "damaged, or with times that no process took; a new one takes its place, without earlier processes";
            warnings.push(format!("{}: {words}", times.display()));
        }
        claim.mark()?;
        remove_unfinished(path)?;
        if let Some(problem) = problem {
            if let fixnet_nn::Error::Checkpoint { .. } = problem {
                // Out of the way, so that the next checkpoint does not make the damaged one the previous one.
                files::rename(&file, &path.join(DAMAGED)).map_err(io(&file))?;
            }
            warnings.push(problem.to_string());
            warnings.push(format!("goes on from the previous checkpoint, of step {}", checkpoint.step()));
        }
        if place::config_text(path)?.is_none() {
            let config = config_path(path);
            let words = "missing or empty; the recipe in the checkpoint takes its place";
            warnings.push(format!("{}: {words}", config.display()));
            write_recipe(path, &place::config_of(&checkpoint)?)?;
        }
        if let Some(best) = checkpoint.progress().best
            && place::config_of(&checkpoint)?.settings().run.keep_best.is_some()
        {
            let file = best_path(path);
            let state = match Checkpoint::open(&file) {
                _ if !file.exists() => Some("missing".into()),
                Err(e) => Some(format!("not usable ({e})")),
                // A process may have ended between a better one and the checkpoint behind it, which then comes again.
                Ok(found) if found.progress().epoch > checkpoint.progress().epoch => None,
                Ok(found) if found.progress().epoch != best.epoch => {
                    Some(format!("not there, but that of epoch {}", found.progress().epoch))
                }
                Ok(_) => None,
            };
            let words = "it is written anew after an epoch that is better";
            let warning = |state| format!("{}: that of epoch {} is {state}; {words}", file.display(), best.epoch);
            warnings.extend(state.map(warning));
        }
        let (step, done) = (checkpoint.step(), u64::from(checkpoint.progress().epoch));
        // At the last step of an epoch a checkpoint may be from before its evaluation.
        let (mut metrics, events) = Log::open(path.join(METRICS), |event: &Event| match event {
            Event::Epoch(epoch) => epoch.step <= step && epoch.epoch <= done,
            Event::Stopped(stopped) => stopped.step <= step && stopped.epoch <= done,
            other => other.step() <= step,
        })?;
        if events.is_empty() {
            let words = "missing or empty, so that what was logged before is not in curves and reports; it begins anew";
            warnings.push(format!("{}: {words}", path.join(METRICS).display()));
            metrics.write(&Event::header())?;
        }
        let (digests, _) = Log::open(path.join(DIGESTS), |event: &DigestEvent| event.step <= step)?;
        let epochs = events.into_iter().filter_map(|event| match event {
            Event::Epoch(epoch) => Some(epoch),
            _ => None,
        });
        let (mut diagnostics, mut every) = (None, None);
        if path.join(DIAGNOSTICS).exists() {
            let (log, lines) = Log::open(path.join(DIAGNOSTICS), |line: &Diagnostic| line.step() <= step)?;
            every = lines.first().and_then(|line| match line {
                Diagnostic::Head(head) => Some(head.every),
                Diagnostic::Step(_) => None,
            });
            diagnostics = Some(log);
        }
        let folder = Self {
            path: path.to_path_buf(),
            metrics,
            digests,
            diagnostics,
            every,
            epochs: epochs.collect(),
            watch: Watch::new(earlier, step),
            events: None,
            claim,
        };
        Ok(Opened { folder, checkpoint, warnings })
    }

    /// Writes the recipe, in which the place of the data may be another one now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self, session: &Session<'_>) -> Result<()> {
        write_recipe(&self.path, session.config())
    }

    /// Writes from here on what belongs to a session that was [resumed](Session::resumed) from the checkpoint of the folder; steps of the
    /// session are looked at as before.
    ///
    /// # Errors
    /// A file cannot be written; or the checkpoint has no recipe.
    pub fn take_up(&mut self, session: &mut Session<'_>, checkpoint: Checkpoint) -> Result<()> {
        let run = &session.config().settings().run;
        let is_extended = run.extended != place::config_of(&checkpoint)?.settings().run.extended;
        let tensorboard = run.tensorboard;
        self.write_config(session)?;
        if tensorboard {
            self.write_tensorboard(checkpoint.step())?;
        }
        drop(checkpoint);
        if is_extended {
            // From here on, the checkpoint too says that the run is not finished.
            self.save(session)?;
        }
        session.diagnose(self.every);
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The events of the epochs so far.
    pub fn epochs(&self) -> &[EpochEvent] {
        &self.epochs
    }

    /// How often steps of the run are looked at.
    pub fn diagnostics_every(&self) -> Option<u64> {
        self.every
    }

    /// Adds what was seen in a step, if it was looked at.
    pub(crate) fn log_diagnostics(&mut self, session: &Session<'_>, step: &Step) -> Result<()> {
        match (&mut self.diagnostics, &step.layers) {
            (Some(log), Some(layers)) => log.write(&diagnostics::line(session, step, layers)),
            _ => Ok(()),
        }
    }

    /// From here on, events go to an event file of TensorBoard as well. `step` is that of the checkpoint.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_tensorboard(&mut self, step: u64) -> Result<()> {
        let folder = self.path.join(TENSORBOARD);
        files::refuse_link(&folder).map_err(io(&folder))?;
        self.events = Some(Events::begin(&folder, &place::events(&self.path)?, step)?);
        Ok(())
    }

    /// Takes note of samples that were trained on and of the time that this took.
    pub(crate) fn trained(&mut self, samples: u64, time: Duration) {
        self.watch.trained(samples, time);
    }

    /// Adds an event to the metrics.
    pub(crate) fn log(&mut self, event: &Event) -> Result<()> {
        if let Some((name, found)) = event.not_finite() {
            let reason = format!("{name} at step {}: expected a finite number, found {found}", event.step());
            return Err(wrong(&self.path.join(METRICS), reason));
        }
        self.metrics.write(event)?;
        if let Event::Epoch(epoch) = event {
            self.epochs.push(epoch.clone());
        }
        let Some(events) = &mut self.events else { return Ok(()) };
        // Times are not in the metrics, which are the same in equal runs.
        let rate = matches!(event, Event::Step(_)).then(|| self.watch.lap()).flatten();
        events.log(event, rate)
    }

    /// Adds the digest of the run's state.
    pub(crate) fn log_digest(&mut self, session: &Session<'_>) -> Result<()> {
        self.digests.write(&DigestEvent { step: session.store().step(), digest: session.digest() })
    }

    /// Writes the checkpoint of the best epoch so far, in the place of an earlier one.
    ///
    /// # Errors
    /// The file cannot be written; or another process has begun to write the folder.
    pub(crate) fn save_best(&mut self, session: &Session<'_>) -> Result<()> {
        self.claim.check()?;
        session.save_single(&best_path(&self.path))
    }

    /// Writes a checkpoint, after the logs that belong to it.
    ///
    /// # Errors
    /// A file cannot be written; or another process has begun to write the folder.
    pub fn save(&mut self, session: &Session<'_>) -> Result<()> {
        self.claim.check()?;
        self.metrics.sync()?;
        self.digests.sync()?;
        self.diagnostics.iter().try_for_each(Log::sync)?;
        session.save(&self.path.join(CHECKPOINT))?;
        let processes = self.watch.processes(session.store().step(), session.progress().epoch);
        let path = self.path.join(PROCESSES);
        let text = serde_json::to_string_pretty(&processes).map_err(|e| wrong(&path, e.to_string()))?;
        write(&path, format!("{text}\n").as_bytes())
    }
}

/// Writes a file of which an error names the path.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, data: &[u8]) -> Result<()> {
    files::write(path, data).map_err(io(path))
}

fn write_recipe(run: &Path, config: &Config) -> Result<()> {
    write(&config_path(run), config.to_toml()?.as_bytes())
}

/// Removes what killed processes left of files that only the process with the lock writes.
fn remove_unfinished(run: &Path) -> Result<()> {
    let own = FILES.into_iter().filter(|name| *name != REPORT).chain([CHECKPOINT, claim::WRITER]);
    own.map(|name| run.join(name)).try_for_each(|path| files::remove_unfinished(&path).map_err(io(&path)))
}

/// Returns every file that a run may have, and what `plot` and `report` made of it. What a link leads to is not of the run.
fn files_of(run: &Path) -> Result<Vec<PathBuf>> {
    let checkpoint = run.join(CHECKPOINT);
    let own = FILES.map(|name| run.join(name));
    let (plots, events) = (run.join(PLOTS), run.join(TENSORBOARD));
    let plots = match fs::read_dir(&plots) {
        Ok(entries) if files::refuse_link(&plots).is_ok() => {
            entries.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>().map_err(io(&plots))?
        }
        _ => Vec::new(),
    };
    let figures = plots.into_iter().filter(|f| f.extension().is_some_and(|e| e == "svg" || e == "png"));
    let events = if files::refuse_link(&events).is_ok() { Events::files(&events)? } else { Vec::new() };
    Ok(own.into_iter().chain([previous_path(&checkpoint), checkpoint]).chain(events).chain(figures).collect())
}
