//! The loop over steps and epochs of a run in its folder, with logs, checkpoints and evaluation.

use crate::Result;
use crate::pursuit::Pursuit;
use crate::run::Folder;
use crate::run::event::{EpochEvent, Event, StepEvent, StoppedEvent, TransitionRates, score_name};
use crate::session::{Session, Step};
use crate::task::Part;
use fixnet_quant::gammas;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often a checkpoint is saved, besides the end of each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Every {
    /// After so many steps.
    Steps(u64),
    /// After so much time.
    Time(Duration),
}

impl Default for Every {
    fn default() -> Self {
        Self::Time(Duration::from_secs(300))
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let unit = s.trim_start_matches(|c: char| c.is_ascii_digit());
        let number: Option<u64> = s[..s.len() - unit.len()].parse().ok().filter(|&n| n > 0);
        let time = |n: u64, seconds| n.checked_mul(seconds).map(|s| Self::Time(Duration::from_secs(s)));
        match (number, unit.trim()) {
            (Some(n), "step" | "steps" | "") => Some(Self::Steps(n)),
            (Some(n), "s" | "sec") => time(n, 1),
            (Some(n), "m" | "min") => time(n, 60),
            (Some(n), "h") => time(n, 3600),
            _ => None,
        }
        .ok_or_else(|| "expected a number above 0 with steps, s, min or h, such as 500steps or 5min".into())
    }
}

/// What is done besides training: showing progress, stopping, drawing. The result of a run does not depend on it.
pub trait Watcher {
    /// Returns whether to stop after the running step. The run is saved then.
    fn stop(&self) -> bool {
        false
    }

    /// Returns whether to save the run after the running step, and to go on.
    fn save(&mut self) -> bool {
        false
    }

    /// Is called after each step.
    fn step(&mut self, _session: &Session<'_>, _clock: &Clock) {}

    /// Is called when the steps of an epoch are over, before its evaluation.
    fn steps_are_over(&mut self, _session: &Session<'_>) {}

    /// Is called with what the user should know of the run, once for each matter.
    fn note(&mut self, _line: String) {}

    /// Is called after each epoch, when it is evaluated, logged and saved.
    ///
    /// # Errors
    /// A file that belongs to the run could not be written.
    fn epoch(&mut self, _session: &Session<'_>, _folder: &Folder, _epoch: &EpochEvent) -> Result<()> {
        Ok(())
    }
}

/// Watches nothing.
impl Watcher for () {}

/// The times of the part of a run that this process trains.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    samples: u64,
    training: Duration,
    saved: Instant,
    saved_step: u64,
    /// The step at which this process began, and the last one.
    first_step: u64,
    last_step: u64,
}

impl Clock {
    /// Begins now, at a step of the run.
    pub fn new(step: u64) -> Self {
        let now = Instant::now();
        Self {
            start: now,
            samples: 0,
            training: Duration::ZERO,
            saved: now,
            saved_step: step,
            first_step: step,
            last_step: step,
        }
    }

    /// Returns the seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Returns the samples per second since the beginning, evaluation included.
    pub fn overall_rate(&self) -> f64 {
        self.samples as f64 / self.seconds()
    }

    /// Returns the samples per second of training steps, if there were any.
    pub fn training_rate(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.samples as f64 / self.training.as_secs_f64())
    }

    /// Returns the seconds that are left of a run of so many steps if it goes on as so far, evaluation and saving included; `None`
    /// before the first step.
    pub fn seconds_left(&self, total_steps: u64) -> Option<f64> {
        self.left_after(self.seconds(), total_steps)
    }

    fn left_after(&self, seconds: f64, total_steps: u64) -> Option<f64> {
        let done = self.last_step.saturating_sub(self.first_step);
        (done > 0).then(|| seconds / done as f64 * total_steps.saturating_sub(self.last_step) as f64)
    }

    fn save_is_due(&self, every: Every, step: u64) -> bool {
        match every {
            Every::Steps(n) => step - self.saved_step >= n,
            Every::Time(t) => self.saved.elapsed() >= t,
        }
    }

    fn saved(&mut self, step: u64) {
        (self.saved, self.saved_step) = (Instant::now(), step);
    }
}

/// Trains until the run is finished (returns true) or the watcher stops it (false); it is saved in either case.
///
/// # Errors
/// A step fails, or a file of the run cannot be written.
pub fn train(
    session: &mut Session<'_>,
    folder: &mut Folder,
    every: Every,
    watcher: &mut dyn Watcher,
    clock: &mut Clock,
) -> Result<bool> {
    let mut pursuit = Pursuit::default();
    while !session.is_finished() {
        if watcher.stop() {
            folder.save(session)?;
            return Ok(false);
        }
        let (start, seen) = (Instant::now(), session.progress().seen);
        match session.step()? {
            Some(step) => {
                let (time, samples) = (start.elapsed(), session.progress().seen - seen);
                clock.training += time;
                clock.samples += samples;
                clock.last_step = session.store().step();
                folder.trained(samples, time);
                after_step(session, folder, &step)?;
                pursuit.step(&step.report);
                if watcher.save() || clock.save_is_due(every, session.store().step()) {
                    folder.save(session)?;
                    clock.saved(session.store().step());
                }
                watcher.step(session, clock);
            }
            None => {
                watcher.steps_are_over(session);
                if let Some(line) = pursuit.epoch(session) {
                    watcher.note(line);
                }
                if let Some(epoch) = after_epoch(session, folder, watcher)? {
                    watcher.epoch(session, folder, &epoch)?;
                    clock.saved(session.store().step());
                }
            }
        }
    }
    Ok(true)
}

/// Logs what belongs to a step.
fn after_step(session: &Session<'_>, folder: &mut Folder, step: &Step) -> Result<()> {
    folder.log_diagnostics(session, step)?;
    if session.digest_is_due() {
        folder.log_digest(session)?;
    }
    match session.store().step().is_multiple_of(session.config().settings().run.log_every) {
        true => folder.log(&Event::Step(Box::new(step_event(session, step)))),
        false => Ok(()),
    }
}

fn step_event(session: &Session<'_>, step: &Step) -> StepEvent {
    let (store, report) = (session.store(), &step.report);
    StepEvent {
        step: store.step(),
        epoch: session.progress().epoch,
        loss: step.loss,
        lr: report.lr,
        rates: TransitionRates::of_model(report),
        gamma: gammas(store).into_iter().map(|(name, gamma)| (name, f64::from(gamma))).collect(),
        layer_transition_rate: report.layer_rates.iter().cloned().collect(),
        layers: report.layers.iter().map(|(name, t)| (name.clone(), t.into())).collect(),
    }
}

/// Evaluates, logs, saves and goes on to the next epoch; none, with nothing done, if that was stopped.
fn after_epoch(session: &mut Session<'_>, folder: &mut Folder, watcher: &dyn Watcher) -> Result<Option<EpochEvent>> {
    let mut scores = BTreeMap::new();
    for (name, value) in session.seen().values {
        scores.insert(score_name(Part::Train, name), value);
    }
    for part in [Part::Test, Part::Validation] {
        let found = session.evaluate(part, || watcher.stop())?;
        if found.is_none() && watcher.stop() {
            return Ok(None);
        }
        for (name, value) in found.map(|scores| scores.values).unwrap_or_default() {
            scores.insert(score_name(part, name), value);
        }
    }
    let (epoch, step) = (u64::from(session.progress().epoch) + 1, session.store().step());
    let event = EpochEvent { epoch, step, scores };
    folder.log(&Event::Epoch(event.clone()))?;
    let score = session.judge().map(|judge| judge.score());
    let value = score.as_ref().and_then(|score| event.scores.get(score));
    let is_best = value.is_some_and(|value| session.judge_epoch(*value));
    if let (Some(score), Some(best)) = (score, session.progress().best.filter(|best| best.stopped)) {
        let (best, best_epoch) = (best.value, best.epoch.into());
        folder.log(&Event::Stopped(StoppedEvent { epoch, step, score, best, best_epoch }))?;
    }
    session.next_epoch()?;
    // Before the checkpoint: a process that ends between them comes here again, with the same bits.
    if is_best && session.judge().is_some_and(|judge| judge.keeps_best()) {
        folder.save_best(session)?;
    }
    folder.save(session)?;
    Ok(Some(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_steps_of_this_process() {
        let mut clock = Clock::new(100);
        assert_eq!(clock.seconds_left(300), None);
        clock.last_step = 150;
        // 50 steps took 25 seconds; 150 are left.
        assert_eq!(clock.left_after(25.0, 300), Some(75.0));
        assert_eq!(clock.left_after(25.0, 150), Some(0.0));
    }

    #[test]
    fn intervals_are_read() {
        let minutes = |n: u64| Ok(Every::Time(Duration::from_secs(60 * n)));
        assert_eq!("500steps".parse(), Ok(Every::Steps(500)));
        assert_eq!("7".parse(), Ok(Every::Steps(7)));
        assert_eq!(["5min".parse(), "300s".parse(), "5 m".parse()], [minutes(5), minutes(5), minutes(5)]);
        assert_eq!("2h".parse(), minutes(120));
        for text in ["", "0steps", "min", "-3", "1.5h", "3 days", "99999999999999999999", "18446744073709551615h"] {
            assert!(text.parse::<Every>().unwrap_err().contains("500steps or 5min"), "{text}");
        }
    }
}
