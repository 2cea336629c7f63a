//! Event files of TensorBoard from the lines of the metrics.

use anyhow::{Context, Result};
use fixnet::export::tensorboard::EventFile;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The event file that this process writes.
pub(crate) struct Events(EventFile);

impl Events {
    /// The event files in a folder.
    pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        EventFile::list(folder).with_context(|| folder.display().to_string())
    }

    /// Begins an event file. `lines` are the metrics up to the checkpoint, which is after `step` steps.
    ///
    /// A process that ended may have written more than belongs to the checkpoint: later steps, or at the same step an
    /// evaluation that is to be done again. So earlier files are void from that step on, and what belongs to it is written
    /// once more. Where there is no file yet, all that was logged goes in.
    pub(crate) fn begin(folder: &Path, lines: &[Value], step: u64) -> Result<Self> {
        let resumed = !Self::files(folder)?.is_empty();
        let mut events = Self(EventFile::create(folder, resumed.then_some(step))?);
        for line in lines {
            if !resumed || line["step"].as_u64().is_some_and(|s| s >= step) {
                events.log(line, None)?;
            }
        }
        Ok(events)
    }

    /// Writes the numbers of a line, and the images a second if they are known.
    pub(crate) fn log(&mut self, line: &Value, images_per_second: Option<f64>) -> Result<()> {
        let mut values = scalars(line);
        values.extend(images_per_second.map(|rate| ("images_per_second".into(), rate)));
        Ok(self.0.scalars(line["step"].as_u64().unwrap_or(0), &values)?)
    }
}

/// The numbers of a line by their tags.
fn scalars(line: &Value) -> Vec<(String, f64)> {
    let Some(fields) = line.as_object() else { return Vec::new() };
    let mut out = Vec::new();
    for (key, value) in fields {
        let layers = value.as_object().into_iter().flatten();
        match (key.as_str(), value.as_f64()) {
            ("kind" | "step" | "epoch", _) => {}
            ("loss", Some(v)) => out.push(("loss/batch".into(), v)),
            (key, Some(v)) => {
                // `test_loss` and `train_loss` are two curves of one thing.
                let group = ["loss", "accuracy"].into_iter().find_map(|g| Some((g, key.strip_suffix(g)?)));
                out.push(match (group, transition(key)) {
                    (Some((group, of)), _) => (format!("{group}/{}", of.trim_end_matches('_')), v),
                    (_, Some(tag)) => (format!("transitions/{tag}"), v),
                    _ => (key.into(), v),
                });
            }
            ("layer_transition_rate", None) => {
                out.extend(layers.filter_map(|(layer, v)| Some((format!("transition_rate/{layer}"), v.as_f64()?))));
            }
            ("layers", None) => {
                for (layer, numbers) in layers {
                    for (key, v) in numbers.as_object().into_iter().flatten() {
                        if let (Some(tag), Some(v)) = (transition(key), v.as_f64()) {
                            out.push((format!("transitions_{tag}/{layer}"), v));
                        }
                    }
                }
            }
            (key, None) => out.extend(layers.filter_map(|(layer, v)| Some((format!("{key}/{layer}"), v.as_f64()?)))),
        }
    }
    out
}

/// The numbers of transition-rate scheduling with their letters.
fn transition(key: &str) -> Option<&'static str> {
    Some(match key {
        "target_transition_rate" => "target_R",
        "transition_rate" => "rate_k",
        "running_transition_rate" => "running_K",
        "talr" => "talr_U",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_of_metrics_become_tags() {
        let line = json!({
            "kind": "step", "step": 50, "epoch": 0, "loss": 0.5, "lr": 0.1, "gamma": { "conv2": 0.9, "fc1": 0.8 },
            "transition_rate": 0.01, "target_transition_rate": 0.02, "running_transition_rate": 0.03, "talr": 0.04,
            "layer_transition_rate": { "conv2": 0.05 }, "layers": { "conv2": { "talr": 0.06 } },
        });
        let mut found = scalars(&line);
        found.sort_by(|a, b| a.1.total_cmp(&b.1));
        let expected = [
            ("transitions/rate_k", 0.01),
            ("transitions/target_R", 0.02),
            ("transitions/running_K", 0.03),
            ("transitions/talr_U", 0.04),
            ("transition_rate/conv2", 0.05),
            ("transitions_talr_U/conv2", 0.06),
            ("lr", 0.1),
            ("loss/batch", 0.5),
            ("gamma/fc1", 0.8),
            ("gamma/conv2", 0.9),
        ];
        assert_eq!(found, expected.map(|(tag, v)| (tag.to_string(), v)));
        let line =
            json!({ "kind": "epoch", "epoch": 1, "step": 94, "train_loss": 1, "test_loss": 2, "test_accuracy": 0.5 });
        let expected = [("accuracy/test", 0.5), ("loss/test", 2.0), ("loss/train", 1.0)];
        assert_eq!(scalars(&line), expected.map(|(tag, v)| (tag.to_string(), v)));
    }
}
