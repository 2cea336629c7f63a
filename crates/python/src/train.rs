//! Runs in their folders: training and resuming as the command does, with what Python looks at on the way.

use crate::errors::{Failure, Result, RunError};
use crate::network::Spec;
use crate::pool::{compute, compute_watched};
use crate::settings::{self, Keys};
use crate::{rules, value};
use fixnet::checkpoint::Checkpoint;
use fixnet::train::init::Weights;
use fixnet::train::run::event::EpochEvent;
use fixnet::train::run::{Folder, place};
use fixnet::train::task;
use fixnet::train::trainer::{self, Clock, Every, Watcher};
use fixnet::train::{Config, Session, Trained};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What the thread that trains tells the one that called.
enum Message {
    Note(String),
    /// An epoch is over; training waits for the answer, which says whether to go on.
    Epoch(Box<EpochEvent>, Sender<bool>),
}

/// Where training stands.
#[derive(Default, Clone)]
struct Place {
    step: u64,
    steps: u64,
    epoch: u32,
    epochs: u32,
    loss: f64,
    rate: f64,
}

/// What is shown and asked on the way.
struct Screen<'a> {
    stop: &'a AtomicBool,
    place: &'a Mutex<Place>,
    messages: Sender<Message>,
}

impl Screen<'_> {
    /// Waits for an answer, which does not come once the run is to be stopped.
    fn goes_on(&self, answered: &Receiver<bool>) -> bool {
        loop {
            match answered.recv_timeout(Duration::from_millis(20)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if !self.stop() => {}
                Err(_) => return true,
            }
        }
    }
}

impl Watcher for Screen<'_> {
    fn stop(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn step(&mut self, session: &Session<'_>, clock: &Clock) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Place {
            step: session.store().step(),
            steps: session.total_steps(),
            epoch: session.progress().epoch,
            epochs: session.config().epochs(),
            loss: session.seen().get("loss").unwrap_or_default(),
            rate: clock.overall_rate(),
        };
    }

    fn note(&mut self, line: String) {
        // Whoever called looks no more: training goes on.
        drop(self.messages.send(Message::Note(line)));
    }

    fn epoch(&mut self, session: &Session<'_>, folder: &Folder, epoch: &EpochEvent) -> fixnet::Result<()> {
        let (answer, answered) = mpsc::channel();
        if self.messages.send(Message::Epoch(Box::new(epoch.clone()), answer)).is_ok() && !self.goes_on(&answered) {
            self.stop.store(true, Ordering::Relaxed);
        }
        fixnet_cli::draw_curves(session, folder)
    }
}

/// How a call to train ended.
struct Ended {
    path: PathBuf,
    finished: bool,
    step: u64,
}

/// Functions of Python that are called while a run trains.
struct Listeners {
    progress: Option<Py<PyAny>>,
    epoch: Option<Py<PyAny>>,
}

impl Listeners {
    fn look(
        &self,
        py: Python<'_>,
        place: &Mutex<Place>,
        shown: &mut u64,
        messages: &Receiver<Message>,
    ) -> PyResult<()> {
        let at = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let (Some(progress), true) = (&self.progress, at.step != *shown) {
            progress.call1(py, (at.step, at.steps, at.epoch, at.epochs, at.loss, at.rate))?;
            *shown = at.step;
        }
        for message in messages.try_iter() {
            match message {
                Message::Note(line) => warn(py, &line)?,
                Message::Epoch(event, answer) => {
                    let goes_on = match &self.epoch {
                        None => true,
                        // An exception ends the run as Ctrl-C does.
                        Some(call) => match call.call1(py, (epoch_dict(py, &event)?,)) {
                            Ok(said) => !said.bind(py).is(pyo3::types::PyBool::new(py, false)),
                            Err(e) => {
                                let _ = answer.send(false);
                                return Err(e);
                            }
                        },
                    };
                    // Whoever trains waits no longer if the run was stopped meanwhile.
                    let _ = answer.send(goes_on);
                }
            }
        }
        Ok(())
    }
}

fn warn(py: Python<'_>, line: &str) -> PyResult<()> {
    let category = py.import("fixnet.errors")?.getattr("FixnetWarning")?;
    py.import("warnings")?.call_method1("warn", (line, category, 3)).map(drop)
}

/// The metrics of an epoch.
fn epoch_dict<'py>(py: Python<'py>, event: &EpochEvent) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("epoch", event.epoch)?;
    dict.set_item("step", event.step)?;
    event.scores.iter().try_for_each(|(name, value)| dict.set_item(name, value))?;
    Ok(dict)
}

/// The folder of a run that was given none: a new one in `runs`.
fn new_folder(config: &Config) -> PathBuf {
    let first = place::usual_folder(config);
    let name = first.display().to_string();
    let later = (2..).map(|i| PathBuf::from(format!("{name}-{i}")));
    std::iter::once(first).chain(later).find(|path| !path.exists()).unwrap_or_default()
}

/// Runs `begin` and then trains what it gives, watched by `listeners`.
fn watched(
    py: Python<'_>,
    listeners: &Listeners,
    every: Every,
    begin: impl FnOnce(&mut dyn FnMut(String), &mut Drive<'_>) -> Result<Ended> + Send,
) -> PyResult<(Ended, Option<PyErr>)> {
    let (stop, place) = (AtomicBool::new(false), Mutex::new(Place::default()));
    let (messages, received) = mpsc::channel();
    let notes = messages.clone();
    let (mut shown, at) = (0, &place);
    let (result, error) = compute_watched(
        py,
        &stop,
        move |py| listeners.look(py, at, &mut shown, &received),
        || {
            let mut drive = Drive { screen: Screen { stop: &stop, place: &place, messages }, every };
            begin(&mut |line| drop(notes.send(Message::Note(line))), &mut drive)
        },
    );
    if let Some(e) = rules::raised() {
        return Err(e);
    }
    match (result, error) {
        (Ok(ended), error) => Ok((ended, error)),
        (Err(_), Some(e)) => Err(e),
        (Err(e), None) => Err(e),
    }
}

/// Trains a session to its end.
struct Drive<'a> {
    screen: Screen<'a>,
    every: Every,
}

impl Drive<'_> {
    fn run(&mut self, session: &mut Session<'_>, folder: &mut Folder) -> Result<Ended> {
        let mut clock = Clock::new(session.store().step());
        let finished = trainer::train(session, folder, self.every, &mut self.screen, &mut clock)?;
        Ok(Ended { path: folder.path().to_path_buf(), finished, step: session.store().step() })
    }
}

fn every(text: &str) -> PyResult<Every> {
    text.parse().map_err(|e: String| crate::errors::ConfigError::new_err(format!("checkpoint_every: {e}")))
}

type Outcome = (PathBuf, bool, u64, Option<PyErr>);

fn outcome((ended, error): (Ended, Option<PyErr>)) -> Outcome {
    (ended.path, ended.finished, ended.step, error)
}

/// Trains a recipe in a folder. Returns the folder, whether the run is finished, its step, and the exception that stopped it.
#[pyfunction]
#[pyo3(signature = (recipe, keys, out = None, overwrite = false, network = None, progress = None, epoch = None,
    checkpoint_every = "5min", diagnostics = None))]
#[allow(clippy::too_many_arguments, reason = "they are named in Python, where a function with defaults wraps this one")]
pub(crate) fn train(
    py: Python<'_>,
    recipe: Option<String>,
    keys: Option<&Bound<'_, PyDict>>,
    out: Option<PathBuf>,
    overwrite: bool,
    network: Option<Spec>,
    progress: Option<Py<PyAny>>,
    epoch: Option<Py<PyAny>>,
    checkpoint_every: &str,
    diagnostics: Option<u64>,
) -> PyResult<Outcome> {
    let keys: Keys = settings::keys(keys)?;
    let every = every(checkpoint_every)?;
    let listeners = Listeners { progress, epoch };
    watched(py, &listeners, every, |note, drive| {
        let chosen = settings::choose(recipe.as_deref(), &keys)?;
        chosen.notes.into_iter().for_each(&mut *note);
        let config = chosen.config;
        let out = out.unwrap_or_else(|| new_folder(&config));
        let weights = config.settings().run.init.as_deref().map(Weights::open).transpose()?;
        let (task, data) = match chosen.loaded {
            Some(loaded) => loaded,
            None => task::load(&config)?,
        };
        let mut notes = Vec::new();
        let mut session = match network {
            None => Session::begin(config, task, &*data, weights.as_ref(), &mut notes)?,
            Some(spec) => {
                Session::with_network(config, task, &*data, |store, config| Ok(spec.build(store, config.quant())?))?
            }
        };
        session.diagnose(diagnostics);
        let folder = Folder::create(&out, &session, overwrite, &mut notes);
        notes.into_iter().for_each(&mut *note);
        let mut folder = folder?;
        if session.config().settings().run.tensorboard {
            folder.write_tensorboard(0)?;
        }
        drive.run(&mut session, &mut folder)
    })
    .map(outcome)
}

/// Goes on with the run in a folder.
#[pyfunction]
#[pyo3(signature = (run, epochs = None, data = None, network = None, progress = None, epoch = None, checkpoint_every = "5min"))]
#[allow(clippy::too_many_arguments, reason = "as above")]
pub(crate) fn resume(
    py: Python<'_>,
    run: PathBuf,
    epochs: Option<u32>,
    data: Option<String>,
    network: Option<Spec>,
    progress: Option<Py<PyAny>>,
    epoch: Option<Py<PyAny>>,
    checkpoint_every: &str,
) -> PyResult<Outcome> {
    let every = every(checkpoint_every)?;
    let listeners = Listeners { progress, epoch };
    watched(py, &listeners, every, |note, drive| {
        let opened = Folder::open(&run)?;
        opened.warnings.into_iter().for_each(&mut *note);
        let (mut folder, checkpoint) = (opened.folder, opened.checkpoint);
        let config = place::config_to_resume(&run, &checkpoint, epochs)?;
        let config = match data {
            Some(data) => config.with_source(data.parse()?)?,
            None => config,
        };
        let (task, data) = task::load(&config)?;
        let mut notes = Vec::new();
        let mut session = match network {
            None => Session::resumed(config, task, &*data, &checkpoint, &mut notes)?,
            Some(spec) => {
                let build = |store: &mut _, config: &Config| Ok(spec.build(store, config.quant())?);
                Session::resumed_with_network(config, task, &*data, &checkpoint, build, &mut notes)?
            }
        };
        notes.into_iter().for_each(&mut *note);
        folder.take_up(&mut session, checkpoint)?;
        drive.run(&mut session, &mut folder)
    })
    .map(outcome)
}

/// Returns what the folder of a run says of it: its recipe, its step and all events of its log.
#[pyfunction]
pub(crate) fn read_run(py: Python<'_>, run: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let (config, step, epoch, finished, events) = compute(py, || {
        let (checkpoint, _) = Checkpoint::open_or_previous(&place::existing_checkpoint(&run)?)?;
        let config = place::config_of(&checkpoint)?;
        let progress = checkpoint.progress();
        let finished = progress.epoch >= config.epochs() || progress.is_stopped();
        let events = place::events(&run)?;
        let events = serde_json::to_value(&events).map_err(|e| Failure::Python(RunError::new_err(e.to_string())))?;
        Ok((config.to_toml()?, checkpoint.step(), progress.epoch, finished, events))
    })?;
    let dict = PyDict::new(py);
    dict.set_item("config", config)?;
    dict.set_item("step", step)?;
    dict.set_item("epoch", epoch)?;
    dict.set_item("is_finished", finished)?;
    dict.set_item("events", value(py, &events)?)?;
    Ok(dict)
}

/// Returns blake3 over all state of a run, in hexadecimal.
#[pyfunction]
pub(crate) fn run_digest(py: Python<'_>, run: PathBuf) -> PyResult<String> {
    compute(py, || {
        let (checkpoint, _) = Checkpoint::open_or_previous(&place::existing_checkpoint(&run)?)?;
        Ok(Trained::open(&place::config_of(&checkpoint)?, &checkpoint)?.digest().to_string())
    })
}

/// Evaluates a run on its test data, or on those of another source.
#[pyfunction]
#[pyo3(signature = (run, data = None, best = false))]
pub(crate) fn evaluate_run(
    py: Python<'_>,
    run: PathBuf,
    data: Option<String>,
    best: bool,
) -> PyResult<Bound<'_, PyDict>> {
    let stop = AtomicBool::new(false);
    let (scores, error) = compute_watched(
        py,
        &stop,
        |_| Ok(()),
        || {
            let (checkpoint, _) = Checkpoint::open_or_previous(&place::existing_checkpoint_or_best(&run, best)?)?;
            let config = place::config_of(&checkpoint)?;
            let config = match data {
                Some(data) => config.with_test_of(data.parse()?)?,
                None => config,
            };
            let mut trained = Trained::open(&config, &checkpoint)?;
            let data = trained.task().load_test(&config)?;
            Ok(trained.evaluate(&*data)?)
        },
    );
    match error {
        Some(e) => Err(e),
        None => crate::scores_dict(py, &scores?),
    }
}

/// Returns the curves of a run as SVG.
#[pyfunction]
pub(crate) fn curves(py: Python<'_>, run: PathBuf) -> PyResult<String> {
    compute(py, || fixnet_cli::curves_of(&run).map_err(of_command))
}

/// An error of the command.
fn of_command(e: impl std::fmt::Display) -> Failure {
    Failure::Python(RunError::new_err(format!("{e:#}")))
}

/// Writes the page of `fixnet report`; returns notes on what is not in it.
#[pyfunction]
pub(crate) fn write_report(py: Python<'_>, runs: Vec<PathBuf>, out: PathBuf) -> PyResult<Vec<String>> {
    compute(py, || fixnet_cli::write_report(&runs, &out).map_err(of_command))
}
