//! What there is to know of a run: its logs, and what its checkpoint makes of the test data.

use anyhow::Result;
use fixnet::checkpoint::{Best, Checkpoint};
use fixnet::plan::Summary;
use fixnet::train::Scores;
use fixnet::train::run::event::{DiagnosticStep, EpochEvent, StepEvent, StoppedEvent};
use fixnet::train::run::place::{self, checkpoint_path, existing_best, existing_config, has_checkpoint};
use fixnet::train::run::{self, History, Process};
use fixnet::train::task::{self, Metric, Part, Section};
use fixnet::train::{Config, Trained, judge};
use std::path::Path;

/// A run as its folder has it.
pub(super) struct Subject {
    /// The name of its folder.
    pub(super) name: String,
    pub(super) config: Config,
    /// Its settings as TOML.
    pub(super) text: String,
    pub(super) epochs: Vec<EpochEvent>,
    pub(super) steps: Vec<StepEvent>,
    /// The early end, if it came to one.
    pub(super) stopped: Option<StoppedEvent>,
    pub(super) diagnostics: Vec<DiagnosticStep>,
    pub(super) processes: Vec<Process>,
    /// The metrics of its task beside the loss.
    pub(super) metrics: Vec<Metric>,
    /// The checkpoint and what follows from it.
    pub(super) state: Option<State>,
    pub(super) evaluated: Option<Evaluated>,
    /// The best epoch, where epochs are judged.
    pub(super) best: Option<Best>,
    /// What is missing or not as one would think.
    pub(super) notes: Vec<String>,
}

/// What a checkpoint says of itself.
pub(super) struct State {
    pub(super) step: u64,
    /// The digest of all state, if the model could be built.
    pub(super) digest: Option<String>,
    /// The layers of the network, likewise.
    pub(super) layers: Option<Summary>,
    /// The version of fixnet that wrote it.
    pub(super) version: String,
}

/// What came of the test data.
pub(super) struct Evaluated {
    pub(super) scores: Scores,
    /// What the task shows of them.
    pub(super) sections: Vec<Section>,
}

impl Subject {
    /// Reads the folder of a run, and evaluates its checkpoint on its data or on the same data in another place.
    /// `best` takes the checkpoint of its best epoch.
    pub(super) fn read(path: &Path, data: Option<&str>, best: bool) -> Result<Self> {
        if !has_checkpoint(path) {
            existing_config(path)?;
        }
        let mut notes = Vec::new();
        let file = if best { existing_best(path)? } else { checkpoint_path(path) };
        let checkpoint = match Checkpoint::open_or_previous(&file) {
            Ok((checkpoint, problem)) => {
                let step = checkpoint.step();
                notes.extend(problem.map(|e| format!("{e}. The previous checkpoint is shown, of step {step}.")));
                Some(checkpoint)
            }
            Err(e) => {
                notes.push(format!("No checkpoint could be read, so nothing was evaluated: {e}"));
                None
            }
        };
        let history = History::read(path)?;
        let name = history.name();
        let config = match &checkpoint {
            Some(checkpoint) => place::config_of(checkpoint)?,
            None => history.config,
        };
        let mut subject = Self {
            name,
            text: config.to_toml()?,
            metrics: computed(task::find(&config)?.metrics, &history.epochs),
            config,
            epochs: history.epochs,
            steps: history.steps,
            stopped: history.stopped,
            diagnostics: history.seen,
            processes: Vec::new(),
            state: None,
            evaluated: None,
            best: None,
            notes,
        };
        if let Some(checkpoint) = checkpoint {
            if best {
                let epoch = checkpoint.progress().epoch;
                subject.notes.push(format!("The checkpoint of the best epoch, {epoch}, is shown."));
            }
            subject.best = checkpoint.progress().best;
            subject.evaluate(&checkpoint, data);
        }
        subject.time(path);
        subject.check();
        Ok(subject)
    }

    /// What the checkpoint says, and what it makes of the test data.
    fn evaluate(&mut self, checkpoint: &Checkpoint, data: Option<&str>) {
        let version = checkpoint.metadata().get("fixnet").cloned().unwrap_or_default();
        let network = Trained::open(&self.config, checkpoint).and_then(|mut trained| {
            let layers = trained.plan()?.summary();
            Ok((trained, layers))
        });
        let mut state = State { step: checkpoint.step(), digest: None, layers: None, version };
        match network {
            Ok((mut trained, layers)) => {
                (state.digest, state.layers) = (Some(trained.digest().to_string()), Some(layers));
                match evaluate(&self.config, data, &mut trained) {
                    Ok(evaluated) => self.evaluated = Some(evaluated),
                    Err(e) => {
                        let without = "The test data could not be read or do not fit, so there are no predictions here";
                        self.notes.push(format!("{without}: {}", crate::message(&e)));
                    }
                }
            }
            Err(e) => self.notes.push(format!("The network could not be built: {}", crate::message(&e.into()))),
        }
        self.state = Some(state);
    }

    /// Notes on what is not as one would think.
    fn check(&mut self) {
        let (done, all) = (self.epochs.len(), self.config.epochs());
        if let Some(stopped) = &self.stopped {
            let (epoch, score, best) = (stopped.epoch, stopped.score.replace('_', " "), stopped.best_epoch);
            self.notes.push(format!(
                "Stopped early after epoch {epoch} of {all}: the best {score} was that of epoch {best}."
            ));
        } else if done < all as usize {
            let step = self.state.as_ref().map_or(String::new(), |s| format!(" (checkpoint of step {})", s.step));
            self.notes.push(format!("The run is not finished: {done} of {all} epochs{step}."));
        }
    }

    /// Which processes trained it, and how long.
    fn time(&mut self, path: &Path) {
        let why = match place::processes(path) {
            Ok(processes) if !processes.is_empty() => {
                self.processes = processes;
                return;
            }
            Ok(_) => "There is no processes.json, or nothing in it can be read".to_string(),
            Err(e) => crate::message(&e.into()),
        };
        self.notes.push(format!("{why}. So times, threads and instruction set are not known."));
    }

    /// Seconds from loaded data to the last checkpoint, of all processes.
    pub(super) fn seconds(&self) -> Option<f64> {
        run::seconds(&self.processes)
    }

    /// Samples per second while it trained.
    pub(super) fn samples_per_second(&self) -> Option<f64> {
        let (samples, seconds) =
            self.processes.iter().fold((0, 0.0), |(i, s), p| (i + p.images, s + p.training_seconds));
        (samples > 0 && seconds > 0.0).then(|| samples as f64 / seconds)
    }

    /// A number of the last epoch.
    pub(super) fn last(&self, part: Part, metric: &str) -> Option<f64> {
        self.epochs.last()?.score(part, metric)
    }

    /// A metric on the test data: that of the checkpoint, or else of the last epoch.
    pub(super) fn test(&self, metric: &str) -> Option<f64> {
        match &self.evaluated {
            Some(e) => e.scores.get(metric),
            None => self.last(Part::Test, metric),
        }
    }

    /// The best epoch in words, with the value of the metric that epochs are judged by.
    pub(super) fn best_epoch(&self) -> Option<String> {
        let best = self.best?;
        let metric = judge::metric(&self.config, &self.metrics).ok()??;
        let validated = self.epochs.iter().any(|e| e.score(Part::Validation, metric.name).is_some());
        let part = if validated { Part::Validation } else { Part::Test };
        let score = format!("{} {}", part.name(), metric.name);
        Some(format!("epoch {}, {score} {}", best.epoch, metric.unit.text(best.value)))
    }

    /// Puts names of layers in the order of the network as far as it is known.
    pub(super) fn ordered<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<String> {
        let mut names: Vec<String> = names.cloned().collect();
        if let Some(layers) = self.state.as_ref().and_then(|state| state.layers.as_ref()) {
            let place = |name: &str| layers.rows.iter().position(|row| row.name == name);
            names.sort_by_cached_key(|name| place(name).unwrap_or(usize::MAX));
        }
        names
    }
}

fn evaluate(config: &Config, data: Option<&str>, trained: &mut Trained) -> Result<Evaluated> {
    let config = crate::train::tested_on(config.clone(), data)?;
    let data = trained.task().load_test(&config)?;
    let (scores, sections) = trained.report(&*data)?;
    Ok(Evaluated { scores, sections })
}

/// The first metric of a task, and of the others those that the run has: a few classes have no top five.
fn computed(metrics: &[Metric], epochs: &[EpochEvent]) -> Vec<Metric> {
    let has = |metric: &Metric| epochs.iter().any(|epoch| epoch.score(Part::Train, metric.name).is_some());
    let all = metrics.iter().enumerate();
    all.filter(|(i, metric)| *i == 0 || has(metric)).map(|(_, metric)| *metric).collect()
}
