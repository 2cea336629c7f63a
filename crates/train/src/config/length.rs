//! The length of a run, which may have been extended when it was finished. Schedules are stretched from there on, so the steps
//! before follow one length and those after another. A recipe holds all of them: it is what a run is replayed by.

use super::{Config, RunSettings};
use crate::{Error, Result};

/// Checks that extensions are in order: each after a later epoch than the one before, to more epochs.
///
/// # Errors
/// They are not.
pub(super) fn check(run: &RunSettings) -> Result<()> {
    let lengths = run.extended.iter().map(|[_, epochs]| *epochs).chain([run.epochs]);
    let mut before = (0, 0);
    for (i, (&[after, epochs], next)) in run.extended.iter().zip(lengths.skip(1)).enumerate() {
        if after <= before.0 || after > epochs || epochs < before.1 || next < epochs || next <= after {
            return Err(Error::Setting {
                key: format!("run.extended[{i}]"),
                reason: format!(
                    "expected [E, N], a run of N epochs that was extended to more after E of them, in the order of time; found \
                     [{after}, {epochs}] before {next} epochs"
                ),
            });
        }
        before = (after, epochs);
    }
    Ok(())
}

impl Config {
    /// Returns the epochs that the run was to have when `done` of them were over: what its schedules are stretched over at
    /// that time. That is [`epochs`](Self::epochs), unless the run was extended later.
    pub fn epochs_at(&self, done: u32) -> u32 {
        let run = &self.settings().run;
        run.extended.iter().find(|[after, _]| done < *after).map_or(run.epochs, |[_, epochs]| *epochs)
    }

    /// Returns whether the run was extended after so many epochs.
    pub fn is_extended_after(&self, done: u32) -> bool {
        self.settings().run.extended.iter().any(|[after, _]| *after == done)
    }

    /// Returns the same run with more epochs after `done` of them, when it was over. Steps that were taken keep the schedules
    /// that they had; those that follow have the schedules of a run that had `epochs` epochs from the start. The recipe records
    /// both, so that it replays the run as it was.
    ///
    /// # Errors
    /// So many epochs are over already, or the run has more.
    pub fn extended(&self, done: u32, epochs: u32) -> Result<Self> {
        let mut settings = self.settings().clone();
        let run = &mut settings.run;
        if epochs <= done || epochs < run.epochs {
            let least = run.epochs.max(done.saturating_add(1));
            let reason =
                format!("expected at least {least} for a run of {} after {done} of them, found {epochs}", run.epochs);
            return Err(Error::Setting { key: "run.epochs".into(), reason });
        }
        run.extended.push([done, run.epochs]);
        run.epochs = epochs;
        settings.check()
    }
}
