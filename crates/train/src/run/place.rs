//! The files of a run folder: where they are, how a folder is known to be one, and how its logs are read.

pub(super) use super::names::{
    BEST, CHECKPOINT, CONFIG, DAMAGED, DIAGNOSTICS, DIGESTS, FILES, PROCESSES, START, TENSORBOARD,
};
pub use super::names::{CURVES, METRICS, PLOTS, RECIPE, REPORT, checkpoint_path, has_checkpoint};

use super::claim;
use super::event::{Diagnostic, DigestEvent, Event};
use super::log::lines;
use super::processes::{self, Process};
use crate::compare::names::plain;
use crate::error::{io, run as wrong};
use crate::{Config, Error, Result};
use fixnet_files::{self as files, input_file};
use fixnet_nn::checkpoint::{Checkpoint, previous_path};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The tables that every `config.toml` has: a recipe that was written by hand lacks some of them. The second list is that of
/// the flat form of earlier versions.
const WHOLE: [&[&str]; 2] = [
    &["name", "task", "data", "model", "quantization", "optimizer", "schedule", "transition", "augmentation", "run"],
    &["name", "data", "bits", "scheme", "gradient_rule", "transition_momentum", "talr_gain", "mixup"],
];

/// As [`checkpoint_path`], of what must be there.
///
/// # Errors
/// The folder holds neither a checkpoint nor the one before.
pub fn existing_checkpoint(run: &Path) -> Result<PathBuf> {
    if run.is_dir() || !run.exists() {
        expect_checkpoint(run)?;
    }
    Ok(checkpoint_path(run))
}

/// Returns the checkpoint of the best epoch of a run.
///
/// # Errors
/// The path is not the folder of a run; or the run has no such checkpoint ([`Error::NoBest`]).
pub fn existing_best(run: &Path) -> Result<PathBuf> {
    expect_checkpoint(run)?;
    let best = best_path(run);
    match fs::symlink_metadata(&best) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let kept = config(run)?.settings().run.keep_best.clone();
            let reason = match kept {
                Some(metric) => {
                    format!("none: it keeps the best by {metric}, but no epoch is over yet, or the file was removed")
                }
                None => "none: it was trained without --keep-best METRIC (run.keep_best)".into(),
            };
            Err(Error::NoBest { path: run.into(), reason })
        }
        _ => match Checkpoint::open(&best) {
            Ok(_) => Ok(best),
            Err(e) => {
                let reason = "a later epoch that is better writes it anew (fixnet resume RUN --epochs N); the last checkpoint is \
                              that without --best";
                Err(Error::NoBest { path: run.into(), reason: format!("one that cannot be used ({e}); {reason}") })
            }
        },
    }
}

/// As [`existing_checkpoint`], or with `best` as [`existing_best`].
///
/// # Errors
/// As there.
pub fn existing_checkpoint_or_best(run: &Path, best: bool) -> Result<PathBuf> {
    if best { existing_best(run) } else { existing_checkpoint(run) }
}

pub(super) fn expect_checkpoint(run: &Path) -> Result<()> {
    let begin = "begin with fixnet train";
    if let (false, Err(Error::NoRun { path, found })) = (run.is_dir(), existing_config(run)) {
        return Err(Error::NoRun { path, found: format!("{found}; {begin}") });
    }
    match has_checkpoint(run) {
        true => Ok(()),
        false => Err(Error::NoRun { path: run.into(), found: format!("no {CHECKPOINT} in it; {begin}") }),
    }
}

/// Returns whether a folder looks like that of a run: it has a recipe or a checkpoint.
pub fn looks_like_a_run(path: &Path) -> bool {
    config_path(path).exists() || has_checkpoint(path)
}

/// Returns whether what is in a folder is of a run that has no checkpoint yet, because its process was killed. Nothing else has
/// the mark of a writer. Before there were marks, a run had an empty lock, and a recipe with all its keys.
pub(super) fn has_begun(run: &Path) -> bool {
    let whole_recipe = || {
        let text = config_text(run).ok().flatten().unwrap_or_default();
        let table: toml::Table = toml::from_str(&text).unwrap_or_default();
        let whole = WHOLE.iter().any(|keys| keys.iter().all(|key| table.contains_key(*key)));
        whole && Config::recorded(&text, CONFIG).is_ok()
    };
    claim::is_marked(run) || (claim::has_empty_lock(run) && whole_recipe())
}

/// Returns the text of the recipe of a run; none if there is no such file, or one that a power cut has emptied, while a
/// checkpoint has it.
///
/// # Errors
/// The file cannot be read; or there is neither a recipe nor a checkpoint.
pub(super) fn config_text(run: &Path) -> Result<Option<String>> {
    let path = config_path(run);
    let text = match input_file::read(&path, input_file::SETTINGS) {
        Err(e) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind()) => None,
        other => Some(String::from_utf8(other.map_err(io(&path))?).map_err(|e| wrong(&path, e.to_string()))?),
    };
    // Some file systems put zeros in the place of what was lost.
    match text.filter(|text| !text.trim_matches(['\0', ' ', '\t', '\r', '\n']).is_empty()) {
        Some(text) => Ok(Some(text)),
        None if has_checkpoint(run) => Ok(None),
        None => {
            let path = existing_config(run)?;
            Err(wrong(
                &path,
                "expected a recipe, found an empty file, and there is no checkpoint that holds the recipe",
            ))
        }
    }
}

/// Returns the recipe of a run: that in its folder, or where a power cut has emptied the file, the one in its checkpoint.
///
/// # Errors
/// There is neither, or it cannot be read.
pub fn config(run: &Path) -> Result<Config> {
    match config_text(run)? {
        Some(text) => Config::recorded(&text, &config_path(run).display().to_string()),
        None => config_of(&Checkpoint::open_or_previous(&checkpoint_path(run))?.0),
    }
}

/// Returns the recipe of the run that a checkpoint belongs to.
///
/// # Errors
/// The checkpoint has none, or one that cannot be read.
pub fn config_of(checkpoint: &Checkpoint) -> Result<Config> {
    let place = checkpoint.path().display().to_string();
    match checkpoint.metadata().get(RECIPE) {
        Some(text) => Config::recorded(text, &place),
        None => Err(wrong(checkpoint.path(), "expected the recipe in its metadata, found none")),
    }
}

/// Returns the configuration that the run goes on with: that of its checkpoint; or where `epochs` are more than it has and it
/// is finished, one [extended](Config::extended) to these. An extension that was begun by a process that was killed before
/// its first checkpoint is gone on with.
///
/// # Errors
/// The recipe in the folder holds other settings than the checkpoint, but for the place of the data; or the run is to be extended
/// before it is finished, or to no more epochs.
pub fn config_to_resume(run: &Path, checkpoint: &Checkpoint, epochs: Option<u32>) -> Result<Config> {
    let (own, done) = (config_of(checkpoint)?, checkpoint.progress().epoch);
    let is_finished = is_finished(checkpoint, own.epochs());
    let wanted = epochs.filter(|epochs| *epochs != own.epochs() || checkpoint.progress().is_stopped());
    if let Err(e) = check_config(run, &own) {
        let there = config(run)?.epochs();
        let begun = own.extended(done, there).ok().filter(|_| is_finished);
        return match begun.filter(|begun| check_config(run, begun).is_ok()) {
            Some(_) => own.extended(done, wanted.unwrap_or(there)),
            None => Err(e),
        };
    }
    match wanted {
        None => Ok(own),
        Some(epochs) if is_finished => own.extended(done, epochs),
        Some(epochs) => Err(Error::Setting {
            key: "run.epochs".into(),
            reason: format!(
                "expected a finished run to extend to {epochs} epochs, found one after {done} of {}; go on with it first, \
                 without more epochs",
                own.epochs()
            ),
        }),
    }
}

/// Checks that the recipe in the folder is still the run's: a change in it would not reach the run. Where the data are, and
/// whether event files are written, may change.
///
/// # Errors
/// Another setting is there; the message names it.
fn check_config(run: &Path, recorded: &Config) -> Result<()> {
    let there = config(run)?;
    let there = there.with_source(recorded.data().source.clone())?;
    let changed = there.with_tensorboard(recorded.settings().run.tensorboard).differences(recorded);
    match changed.is_empty() {
        true => Ok(()),
        false => Err(wrong(
            &config_path(run),
            format!(
                "holds other settings than the run began with ({}); a run keeps its settings: others are for a run of \
                 their own",
                changed.join("; ")
            ),
        )),
    }
}

/// Returns the events of a run.
///
/// # Errors
/// The log cannot be read.
pub fn events(run: &Path) -> Result<Vec<Event>> {
    lines(&run.join(METRICS))
}

/// Returns the lines of the diagnostics of a run.
///
/// # Errors
/// The log cannot be read.
pub fn diagnostics(run: &Path) -> Result<Vec<Diagnostic>> {
    lines(&run.join(DIAGNOSTICS))
}

/// Returns the digests that a run recorded; none if there is no such file.
///
/// # Errors
/// The log cannot be read, or a line is damaged.
pub fn digests(run: &Path) -> Result<Vec<DigestEvent>> {
    let path = run.join(DIGESTS);
    let text = match input_file::read_to_string(&path, input_file::LOG) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(io(&path))?,
    };
    let entry = |(i, line): (usize, &str)| {
        let expected = || format!("line {}: expected a step and a digest, found {line}", i + 1);
        serde_json::from_str(line).map_err(|_| wrong(&path, expected()))
    };
    text.lines().enumerate().map(entry).collect()
}

/// Returns the processes that trained a run up to its last checkpoint; none if there is no such file or it is damaged, which
/// it also is with times that no process took.
///
/// # Errors
/// There is a file that cannot be read now: it must not be replaced by one without these processes.
pub fn processes(run: &Path) -> Result<Vec<Process>> {
    let path = run.join(PROCESSES);
    match input_file::read(&path, input_file::SETTINGS) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => {
            let all: Vec<Process> = serde_json::from_slice(&other.map_err(io(&path))?).unwrap_or_default();
            Ok(if all.iter().all(Process::is_plausible) { all } else { Vec::new() })
        }
    }
}

/// Returns the seconds that a run took up to its last checkpoint, if that is known.
pub fn seconds(run: &Path) -> Option<f64> {
    processes::seconds(&processes(run).unwrap_or_default())
}

/// Returns the checkpoint of a run of so many epochs that has come to its end, after all of them or early; none if it has not, or
/// if there is no run.
///
/// # Errors
/// There are checkpoints of which none can be read.
pub fn finished(run: &Path, epochs: u32) -> Result<Option<Checkpoint>> {
    if !has_checkpoint(run) {
        return Ok(None);
    }
    // Logs are on the disk before the checkpoint that follows them. No other file has a word in this.
    let (checkpoint, _) = Checkpoint::open_or_previous(&checkpoint_path(run))?;
    Ok(is_finished(&checkpoint, epochs).then_some(checkpoint))
}

/// Returns whether a run of so many epochs is over at a checkpoint: after all of them, or because it was stopped early.
pub(super) fn is_finished(checkpoint: &Checkpoint, epochs: u32) -> bool {
    checkpoint.progress().epoch >= epochs || checkpoint.progress().is_stopped()
}

/// The folder of a run that was given none: `runs/NAME-BITS-sSEED`.
pub fn usual_folder(config: &Config) -> PathBuf {
    let bits = config.settings().quantization.bits;
    Path::new("runs").join(plain(&format!("{}-{bits}-s{}", config.name(), config.seed())))
}

/// Returns where the recipe of a run is.
pub fn config_path(run: &Path) -> PathBuf {
    run.join(CONFIG)
}

/// As [`config_path`], of what must be there.
///
/// # Errors
/// The path is not the folder of a run.
pub fn existing_config(run: &Path) -> Result<PathBuf> {
    let config = config_path(run);
    if config.exists() {
        return Ok(config);
    }
    let found = match () {
        () if run.is_dir() => format!("none of its files ({CONFIG})"),
        () if run.exists() => "a file".into(),
        () => "no such folder".into(),
    };
    Err(Error::NoRun { path: run.into(), found })
}

/// Returns where the first state of a run with given weights is.
pub fn start_path(run: &Path) -> PathBuf {
    run.join(START)
}

/// Returns where the checkpoint of the best epoch of a run is.
pub fn best_path(run: &Path) -> PathBuf {
    run.join(BEST)
}

/// Returns where `report` puts its page of one run.
pub fn report_path(run: &Path) -> PathBuf {
    run.join(REPORT)
}

/// Returns the folder where `plot` puts its figures of one run.
///
/// # Errors
/// It is a link.
pub fn plots_path(run: &Path) -> Result<PathBuf> {
    let plots = run.join(PLOTS);
    files::refuse_link(&plots).map_err(io(&plots))?;
    Ok(plots)
}

/// Returns the file, or the folder inside, of a run that `path` would replace, in whose folder it lies; none if it is of no run.
pub fn part_of_run(path: &Path) -> Option<&'static str> {
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
