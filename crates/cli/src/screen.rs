//! What `train` and `resume` show of a run while it trains: a bar with the time left, one line per epoch, notes.

use crate::interrupt;
use crate::out::note;
use crate::train::{draw, log_line};
use fixnet::tensor::profile;
use fixnet::train::run::Folder;
use fixnet::train::run::event::EpochEvent;
use fixnet::train::task::{LOSS, Metric, Part, Task, all_metrics};
use fixnet::train::trainer::{Clock, Watcher};
use fixnet::train::{Scores, Session};
use indicatif::ProgressBar;

/// What the command shows of a run while it trains.
pub(crate) struct Screen<'a> {
    pub(crate) bar: &'a ProgressBar,
    pub(crate) quiet: bool,
    /// Whether the times of the first epoch's steps are still to be printed, from this step on.
    pub(crate) profile: Option<u64>,
    /// The requests to save it.
    pub(crate) saves: interrupt::Saves,
}

impl Watcher for Screen<'_> {
    fn stop(&self) -> bool {
        interrupt::requested()
    }

    fn save(&mut self) -> bool {
        let wanted = self.saves.requested();
        if wanted {
            self.bar.suspend(|| note!("SIGUSR1: saving the run, which then goes on"));
        }
        wanted
    }

    fn step(&mut self, session: &Session<'_>, clock: &Clock) {
        if self.bar.is_hidden() {
            return;
        }
        let (epoch, epochs) = (session.progress().epoch + 1, session.config().epochs());
        let seen = means(session.task(), &session.seen());
        self.bar.set_position(session.store().step());
        let left =
            clock.seconds_left(session.total_steps()).map_or_else(String::new, |s| format!("  {} left", duration(s)));
        let noun = session.task().noun();
        self.bar.set_message(format!("epoch {epoch}/{epochs}  {seen}  {:.0} {noun}/s{left}", clock.overall_rate()));
    }

    fn steps_are_over(&mut self, session: &Session<'_>) {
        let Some(first) = self.profile.take() else { return };
        let (lines, steps) = (profile::stop(), session.store().step() - first);
        // The table is an aside: a reader that has gone does not end the run.
        if let Err(e) = self.bar.suspend(|| crate::profile::print(&lines, steps)) {
            note!("profile: {e}");
        }
    }

    fn note(&mut self, line: String) {
        self.bar.suspend(|| note!("warning: {line}"));
    }

    fn epoch(&mut self, session: &Session<'_>, folder: &Folder, e: &EpochEvent) -> fixnet::train::Result<()> {
        let mut line = format!("epoch {:>3}", e.epoch);
        let metric = *session.task().metrics().first().unwrap_or(&LOSS);
        let mut shown = vec![(Part::Train, LOSS), (Part::Validation, metric), (Part::Test, metric)];
        let judged = session.judge().map(|judge| (judge.part(), judge.metric()));
        shown.extend(judged.filter(|judged| !shown.contains(judged)));
        for (part, metric) in shown {
            if let Some(value) = e.score(part, metric.name) {
                line += &format!("  {} {} {}", part.name(), metric.name, metric.unit.text(value));
            }
        }
        if session.progress().best.is_some_and(|best| u64::from(best.epoch) == e.epoch) {
            line += "  best";
        }
        log_line(self.bar, self.quiet, &line);
        draw(session, folder)
    }
}

/// Seconds as people say them: `42 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(seconds: f64) -> String {
    match seconds.round() as u64 {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// The loss and the metrics of a task in a line.
fn means(task: &dyn Task, scores: &Scores) -> String {
    let text = |metric: Metric| Some(format!("{} {}", metric.name, metric.unit.text(scores.get(metric.name)?)));
    all_metrics(task).filter_map(text).collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_two_units_at_most() {
        let texts = [0.4, 59.4, 59.6, 200.0, 7500.0].map(duration);
        assert_eq!(texts, ["0 s", "59 s", "1 min 0 s", "3 min 20 s", "2 h 5 min"]);
    }
}
