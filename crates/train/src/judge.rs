//! How epochs are judged: by which metric over which part of the data, which epoch is the best, and when a run stops early.

use crate::run::event::score_name;
use crate::task::{Data, LOSS, Metric, Part};
use crate::{Config, Error, Result};
use fixnet_nn::checkpoint::Best;

/// Judges the epochs of a run. Only a value that is better than all before is an improvement: of equal ones the first counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judge {
    metric: Metric,
    part: Part,
    patience: Option<u32>,
    keeps_best: bool,
}

/// Returns the metric by which a configuration judges epochs, of a task with these metrics beside the loss: that of
/// `run.keep_best`, or with `run.patience` alone the first of the task. `None` where epochs are not judged.
///
/// # Errors
/// The task has no metric of that name; the message has those that it has.
pub fn metric(config: &Config, metrics: &[Metric]) -> Result<Option<Metric>> {
    let run = &config.settings().run;
    let Some(name) = &run.keep_best else {
        return Ok(run.patience.map(|_| metrics.first().copied().unwrap_or(LOSS)));
    };
    let all = || metrics.iter().chain([&LOSS]);
    match all().find(|metric| metric.name == name) {
        Some(metric) => Ok(Some(*metric)),
        None => {
            let known: Vec<&str> = all().map(|metric| metric.name).collect();
            let reason = format!("expected a metric of the task ({}), found {name}", known.join(", "));
            Err(Error::Setting { key: "run.keep_best".into(), reason })
        }
    }
}

impl Judge {
    /// Returns the judge of a run on these data, whose task has these metrics beside the loss; `None` where epochs are not
    /// judged. It looks at the validation part where there is one, and else at the test part.
    ///
    /// # Errors
    /// As [`metric`]; or the data have neither part.
    pub(crate) fn of(config: &Config, metrics: &[Metric], data: &dyn Data) -> Result<Option<Self>> {
        let Some(metric) = metric(config, metrics)? else { return Ok(None) };
        let run = &config.settings().run;
        let (patience, keeps_best) = (run.patience, run.keep_best.is_some());
        match [Part::Validation, Part::Test].into_iter().find(|part| !data.is_empty(*part)) {
            Some(part) => Ok(Some(Self { metric, part, patience, keeps_best })),
            None => {
                let key = if keeps_best { "run.keep_best" } else { "run.patience" };
                let reason = "expected validation or test data to judge epochs by, found none".into();
                Err(Error::Setting { key: key.into(), reason })
            }
        }
    }

    /// Returns the metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Returns the part of the data that is looked at.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Returns the name of the metric over that part, as in the log: `validation_loss`.
    pub fn score(&self) -> String {
        score_name(self.part, self.metric.name)
    }

    /// Returns a value of the metric in its unit.
    pub fn text(&self, value: f64) -> String {
        self.metric.unit.text(value)
    }

    /// Returns the epochs without improvement after which the run stops.
    pub fn patience(&self) -> Option<u32> {
        self.patience
    }

    /// Returns whether the checkpoint of the best epoch is kept.
    pub fn keeps_best(&self) -> bool {
        self.keeps_best
    }

    /// Returns the best epoch after `epoch` (counted from 1) with this value, where `best` was the best one before. `goes_on`
    /// says that the run does not stop here: it was extended.
    pub(crate) fn after(&self, best: Option<Best>, epoch: u32, value: f64, goes_on: bool) -> Best {
        match best {
            Some(best) if !self.metric.better.than(value, best.value) => {
                let waited = best.waited.saturating_add(1);
                let stopped = !goes_on && self.patience.is_some_and(|most| waited >= most);
                Best { waited: if goes_on { 0 } else { waited }, stopped, ..best }
            }
            _ => Best { value, epoch, waited: 0, stopped: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::task::{Better, Unit};

    const PSNR: Metric = Metric { name: "psnr", unit: Unit::Decibel, better: Better::Higher };

    fn judge(metric: Metric, patience: Option<u32>) -> Judge {
        Judge { metric, part: Part::Test, patience, keeps_best: true }
    }

    /// Epochs with these values: of each the best epoch, the epochs since then, and whether the run stops.
    fn epochs(judge: &Judge, values: &[f64]) -> Vec<(u32, u32, bool)> {
        let mut best = None;
        let of = |(i, value): (usize, &f64)| {
            let after = judge.after(best, i as u32 + 1, *value, false);
            best = Some(after);
            (after.epoch, after.waited, after.stopped)
        };
        values.iter().enumerate().map(of).collect()
    }

    #[test]
    fn the_direction_is_that_of_the_metric_and_equal_is_not_better() {
        let values = [2.0, 1.0, 1.0, 3.0];
        let lower = [(1, 0, false), (2, 0, false), (2, 1, false), (2, 2, false)];
        assert_eq!(epochs(&judge(LOSS, None), &values), lower);
        let higher = [(1, 0, false), (1, 1, false), (1, 2, false), (4, 0, false)];
        assert_eq!(epochs(&judge(PSNR, None), &values), higher);
    }

    #[test]
    fn a_run_stops_after_so_many_epochs_without_improvement() {
        let found = epochs(&judge(LOSS, Some(2)), &[2.0, 3.0, 1.0, 1.5, 1.5]);
        assert_eq!(found, [(1, 0, false), (1, 1, false), (3, 0, false), (3, 1, false), (3, 2, true)]);
        // One that is extended begins to wait anew.
        let waited = Best { value: 1.0, epoch: 3, waited: 1, stopped: false };
        let after = judge(LOSS, Some(2)).after(Some(waited), 5, 2.0, true);
        assert_eq!(after, Best { waited: 0, ..waited });
    }

    #[test]
    fn the_metric_is_one_of_the_task() {
        let of = |keep: Option<&str>, patience| {
            let mut settings = Settings::default();
            (settings.run.keep_best, settings.run.patience) = (keep.map(String::from), patience);
            metric(&settings.check().unwrap(), &[PSNR])
        };
        assert_eq!(of(None, None).unwrap(), None);
        assert_eq!(of(None, Some(1)).unwrap(), Some(PSNR));
        assert_eq!(of(Some("loss"), Some(1)).unwrap(), Some(LOSS));
        let e = of(Some("speed"), None).unwrap_err().to_string();
        assert_eq!(e, "run.keep_best: expected a metric of the task (psnr, loss), found speed");
    }
}
