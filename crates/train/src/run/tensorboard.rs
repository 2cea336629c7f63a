//! Event files of TensorBoard from the events of a run.

use super::event::{Event, StepEvent, TransitionRates};
use crate::Result;
use crate::error::io;
use crate::task::Part;
use fixnet_export::tensorboard::EventFile;
use std::path::{Path, PathBuf};

/// The event file that this process writes.
pub(crate) struct Events(EventFile);

impl Events {
    /// Returns the event files in a folder.
    pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        EventFile::list(folder).map_err(io(folder))
    }

    /// Begins an event file. `events` are those up to the checkpoint, which is after `step` steps.
    ///
    /// A process that ended may have written more than belongs to the checkpoint: later steps, or at the same step an
    /// evaluation that is to be done again. So earlier files are void from that step on, and what belongs to it is written
    /// once more. Where there is no file yet, all that was logged goes in.
    pub(crate) fn begin(folder: &Path, events: &[Event], step: u64) -> Result<Self> {
        let resumed = !Self::files(folder)?.is_empty();
        let mut file = Self(EventFile::create(folder, resumed.then_some(step))?);
        for event in events.iter().filter(|event| !resumed || event.step() >= step) {
            file.log(event, None)?;
        }
        Ok(file)
    }

    /// Writes the numbers of an event, and the samples per second if they are known.
    pub(crate) fn log(&mut self, event: &Event, samples_per_second: Option<f64>) -> Result<()> {
        let mut values = scalars(event);
        values.extend(samples_per_second.map(|rate| ("images_per_second".into(), rate)));
        match values.is_empty() {
            true => Ok(()),
            false => Ok(self.0.scalars(event.step(), &values)?),
        }
    }
}

/// The numbers of an event by their tags.
fn scalars(event: &Event) -> Vec<(String, f64)> {
    match event {
        Event::Header { .. } | Event::Stopped(_) => Vec::new(),
        Event::Step(step) => of_step(step),
        // `test_loss` and `train_loss` are two curves of one thing.
        Event::Epoch(epoch) => {
            let tag = |name: &str| {
                let parts = Part::ALL.map(Part::name);
                let split = parts.iter().find_map(|part| Some((part, name.strip_prefix(part)?.strip_prefix('_')?)));
                split.map_or_else(|| name.to_string(), |(part, metric)| format!("{metric}/{part}"))
            };
            epoch.scores.iter().map(|(name, value)| (tag(name), *value)).collect()
        }
    }
}

fn of_step(step: &StepEvent) -> Vec<(String, f64)> {
    let mut out = vec![("loss/batch".to_string(), step.loss), ("lr".to_string(), step.lr)];
    out.extend(of_rates(&step.rates).map(|(tag, v)| (format!("transitions/{tag}"), v)));
    out.extend(step.gamma.iter().map(|(layer, v)| (format!("gamma/{layer}"), *v)));
    out.extend(step.layer_transition_rate.iter().map(|(layer, v)| (format!("transition_rate/{layer}"), *v)));
    for (layer, rates) in &step.layers {
        out.extend(of_rates(rates).map(|(tag, v)| (format!("transitions_{tag}/{layer}"), v)));
    }
    out
}

/// Transition rates with their letters.
fn of_rates(rates: &TransitionRates) -> impl Iterator<Item = (&'static str, f64)> {
    let all = [
        ("rate_k", rates.transition_rate),
        ("target_R", rates.target_transition_rate),
        ("running_K", rates.running_transition_rate),
        ("talr_U", rates.talr),
    ];
    all.into_iter().filter_map(|(tag, value)| Some((tag, value?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_tags() {
        let line = r#"{"kind":"step","step":50,"epoch":0,"loss":0.5,"lr":0.1,"gamma":{"conv2":0.9,"fc1":0.8},
            "transition_rate":0.01,"target_transition_rate":0.02,"running_transition_rate":0.03,"talr":0.04,
            "layer_transition_rate":{"conv2":0.05},"layers":{"conv2":{"talr":0.06,"transition_rate":0.07,
            "target_transition_rate":0.075,"running_transition_rate":0.08}}}"#;
        let mut found = scalars(&serde_json::from_str(line).unwrap());
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        let expected = [
            ("transitions/rate_k", 0.01),
            ("transitions/target_R", 0.02),
            ("transitions/running_K", 0.03),
            ("transitions/talr_U", 0.04),
            ("transition_rate/conv2", 0.05),
            ("transitions_talr_U/conv2", 0.06),
            ("transitions_rate_k/conv2", 0.07),
            ("transitions_target_R/conv2", 0.075),
            ("transitions_running_K/conv2", 0.08),
            ("lr", 0.1),
            ("loss/batch", 0.5),
            ("gamma/fc1", 0.8),
            ("gamma/conv2", 0.9),
        ];
        assert_eq!(found, expected.map(|(tag, v)| (tag.to_string(), v)));
        let line = r#"{"kind":"epoch","epoch":1,"step":94,"train_loss":1,"test_loss":2,"test_psnr":0.5}"#;
        let expected = [("loss/test", 2.0), ("psnr/test", 0.5), ("loss/train", 1.0)];
        assert_eq!(scalars(&serde_json::from_str(line).unwrap()), expected.map(|(tag, v)| (tag.to_string(), v)));
        assert!(scalars(&Event::header()).is_empty());
    }
}
