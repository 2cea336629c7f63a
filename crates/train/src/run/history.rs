//! Runs as their folders have them, for comparison, figures and reports.

use super::event::{Diagnostic, DiagnosticHead, DiagnosticStep, EpochEvent, Event, StepEvent, StoppedEvent};
use super::place;
use crate::{Config, Result};
use std::path::{Path, PathBuf};

/// A run as its folder has it.
#[derive(Debug, Clone)]
pub struct History {
    /// The folder.
    pub path: PathBuf,
    /// The recipe.
    pub config: Config,
    /// The epochs so far.
    pub epochs: Vec<EpochEvent>,
    /// The events of every `run.log_every` steps.
    pub steps: Vec<StepEvent>,
    /// The early end, if it came to one.
    pub stopped: Option<StoppedEvent>,
    /// What the diagnostics hold, if there are any.
    pub head: Option<DiagnosticHead>,
    /// The lines of the diagnostics.
    pub seen: Vec<DiagnosticStep>,
}

/// The end of a finished run.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The events of its epochs.
    pub epochs: Vec<EpochEvent>,
    /// The digest of its last step.
    pub digest: Option<String>,
    /// The time that it took.
    pub seconds: Option<f64>,
}

impl Ended {
    /// Reads the folder of a run.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let Events { epochs, .. } = Events::of(place::events(path)?);
        let digest = place::digests(path)?.pop().map(|event| event.digest);
        Ok(Self { epochs, digest, seconds: place::seconds(path) })
    }
}

/// The events of a log by their kinds.
#[derive(Default)]
struct Events {
    epochs: Vec<EpochEvent>,
    steps: Vec<StepEvent>,
    stopped: Option<StoppedEvent>,
}

impl Events {
    fn of(all: Vec<Event>) -> Self {
        let mut events = Self::default();
        for event in all {
            match event {
                Event::Epoch(epoch) => {
                    // It was extended.
                    events.stopped = None;
                    events.epochs.push(epoch);
                }
                Event::Step(step) => events.steps.push(*step),
                Event::Stopped(stopped) => events.stopped = Some(stopped),
                Event::Header { .. } => {}
            }
        }
        events
    }
}

impl History {
    /// Reads the folder of a run.
    ///
    /// # Errors
    /// The recipe or a log cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let config = place::config(path)?;
        let Events { epochs, steps, stopped } = Events::of(place::events(path)?);
        let (mut head, mut seen) = (None, Vec::new());
        for line in place::diagnostics(path)? {
            match line {
                Diagnostic::Head(first) => head = Some(first),
                Diagnostic::Step(step) => seen.push(*step),
            }
        }
        Ok(Self { path: path.into(), config, epochs, steps, stopped, head, seen })
    }

    /// Returns the quantized layers, in their order; none without diagnostics or layers with rates of their own.
    pub fn layers(&self) -> Vec<&str> {
        match (&self.head, self.steps.first()) {
            (Some(head), _) => head.layers.iter().map(String::as_str).collect(),
            (None, Some(step)) => step.layers.keys().map(String::as_str).collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Returns the name of its folder.
    pub fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().map_or_else(|| self.config.name().to_string(), |name| name.to_string_lossy().into_owned())
    }
}
