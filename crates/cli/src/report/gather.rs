//! What there is to know of a run: its logs, and what its checkpoint makes of the test images.

use crate::folder::{self, checkpoint_path, existing_config};
use crate::processes::Process;
use crate::recipe::Recipe;
use crate::run::{Run, recipe_of};
use anyhow::Result;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fixnet::checkpoint::Checkpoint;
use fixnet::metrics::{Confusion, Prediction};
use fixnet::prelude::*;
use image::ImageEncoder;
use image::codecs::png::PngEncoder;
use serde_json::Value;
use std::path::Path;

/// How many images of each kind are shown.
const SAMPLES: usize = 12;

/// A run as its folder has it.
pub(super) struct Subject {
    /// The name of its folder.
    pub(super) name: String,
    pub(super) recipe: Recipe,
    /// Its settings as TOML.
    pub(super) config: String,
    /// The lines of the metrics, one an epoch and one every so many steps.
    pub(super) epochs: Vec<Value>,
    pub(super) steps: Vec<Value>,
    /// The lines of diagnostics that are of a step.
    pub(super) diagnostics: Vec<Value>,
    pub(super) processes: Vec<Process>,
    /// The checkpoint and what follows from it.
    pub(super) state: Option<State>,
    pub(super) evaluated: Option<Evaluated>,
    /// What is missing or not as one would think.
    pub(super) notes: Vec<String>,
}

/// What a checkpoint says of itself.
pub(super) struct State {
    pub(super) step: u64,
    /// The digest of all state, if the model could be built.
    pub(super) digest: Option<String>,
    /// The version of fixnet that wrote it.
    pub(super) version: String,
}

/// What came of the test images.
pub(super) struct Evaluated {
    /// What they are.
    pub(super) data: String,
    pub(super) count: usize,
    pub(super) right: usize,
    pub(super) loss: f64,
    pub(super) confusion: Confusion,
    pub(super) right_ones: Vec<Sample>,
    pub(super) wrong_ones: Vec<Sample>,
    pub(super) layers: Summary,
}

/// A test image with what was said of it.
pub(super) struct Sample {
    /// Its index in the test set.
    pub(super) index: usize,
    pub(super) prediction: Prediction,
    /// The image as a `data:` address, with its size.
    pub(super) png: String,
    pub(super) size: [usize; 2],
}

impl Subject {
    /// Reads the folder of a run, and evaluates its checkpoint on its data or on the same data in another place.
    pub(super) fn read(path: &Path, data: Option<&str>) -> Result<Self> {
        let file = existing_config(path)?;
        let mut notes = Vec::new();
        let checkpoint = match Checkpoint::open_or_previous(&checkpoint_path(path)) {
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
        let recipe = match &checkpoint {
            Some(checkpoint) => recipe_of(checkpoint)?,
            None => Recipe::from_toml(&fixnet::input_file::read_to_string(&file)?, &file.display().to_string())?,
        };
        let (epochs, steps) = folder::metrics(path)?.into_iter().partition(|line| line["kind"] == "epoch");
        let diagnostics = folder::diagnostics(path)?.into_iter().filter(|line| line["kind"] == "step").collect();
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let name = whole.file_name().map_or_else(|| recipe.name.clone(), |name| name.to_string_lossy().into_owned());
        let (config, processes) = (recipe.to_toml()?, folder::processes(path));
        let (state, evaluated) = (None, None);
        let mut subject = Self { name, recipe, config, epochs, steps, diagnostics, processes, state, evaluated, notes };
        if let Some(checkpoint) = checkpoint {
            subject.evaluate(&checkpoint, data);
        }
        subject.check();
        Ok(subject)
    }

    /// What the checkpoint says, and what it makes of the test images.
    fn evaluate(&mut self, checkpoint: &Checkpoint, data: Option<&str>) {
        let version = checkpoint.metadata().get("fixnet").cloned().unwrap_or_default();
        self.state = Some(State { step: checkpoint.step(), digest: None, version });
        let mut recipe = self.recipe.clone();
        recipe.data = data.map_or(recipe.data, String::from);
        let place = recipe.data.clone();
        let load = recipe.resolve().and_then(|parts| Ok(parts.data.load()?));
        let data = match load {
            Ok(data) => data,
            Err(e) => {
                let without = "without them there are no predictions, layers or digest here";
                self.notes.push(format!("The data {place} could not be read; {without}: {}", crate::message(&e)));
                return;
            }
        };
        match evaluate(recipe, &data, checkpoint) {
            Ok((digest, evaluated)) => {
                self.evaluated = Some(evaluated);
                self.state.iter_mut().for_each(|state| state.digest = Some(digest.clone()));
            }
            Err(e) => self.notes.push(format!("The checkpoint could not be evaluated: {}", crate::message(&e))),
        }
    }

    /// Notes on what is not as one would think.
    fn check(&mut self) {
        let (done, all) = (self.epochs.len(), self.recipe.epochs);
        if done < all as usize {
            let step = self.state.as_ref().map_or(String::new(), |s| format!(" (checkpoint of step {})", s.step));
            self.notes.push(format!("The run is not finished: {done} of {all} epochs{step}."));
        }
        if self.processes.is_empty() {
            self.notes.push("There is no processes.json, so times, threads and instruction set are not known.".into());
        }
    }

    /// Seconds from loaded data to the last checkpoint, of all processes.
    pub(super) fn seconds(&self) -> Option<f64> {
        (!self.processes.is_empty()).then(|| self.processes.iter().map(|p| p.seconds).sum())
    }

    /// Images a second while it trained.
    pub(super) fn images_per_second(&self) -> Option<f64> {
        let (images, seconds) =
            self.processes.iter().fold((0, 0.0), |(i, s), p| (i + p.images, s + p.training_seconds));
        (images > 0 && seconds > 0.0).then(|| images as f64 / seconds)
    }

    /// A number of the last epoch.
    pub(super) fn last(&self, key: &str) -> Option<f64> {
        self.epochs.last()?[key].as_f64()
    }

    /// Accuracy and loss on the test images: those of the checkpoint, or else of the last epoch.
    pub(super) fn test(&self) -> (Option<f64>, Option<f64>) {
        match &self.evaluated {
            Some(e) => (Some(e.right as f64 / e.count as f64), Some(e.loss)),
            None => (self.last("test_accuracy"), self.last("test_loss")),
        }
    }

    /// The names of layers in the order of the network as far as it is known, of those that `lines` have under `key`.
    pub(super) fn layers(&self, lines: &[Value], key: &str) -> Vec<String> {
        let mut names: Vec<String> =
            lines.last().and_then(|line| line[key].as_object()).into_iter().flat_map(|m| m.keys().cloned()).collect();
        if let Some(e) = &self.evaluated {
            let place = |name: &str| e.layers.rows.iter().position(|row| row.name == name);
            names.sort_by_cached_key(|name| place(name).unwrap_or(usize::MAX));
        }
        names
    }
}

fn evaluate(recipe: Recipe, data: &Split, checkpoint: &Checkpoint) -> Result<(String, Evaluated)> {
    let mut run = Run::resumed(recipe, data, checkpoint)?;
    let digest = run.digest();
    let predictions = run.predict()?;
    let layers = run.plan()?.summary();
    let test = &data.test;
    let right: Vec<usize> = (0..predictions.len()).filter(|&i| predictions[i].is_right()).collect();
    let mut wrong: Vec<usize> = (0..predictions.len()).filter(|&i| !predictions[i].is_right()).collect();
    wrong.sort_by(|&a, &b| predictions[b].probability.total_cmp(&predictions[a].probability));
    wrong.truncate(SAMPLES);
    let samples =
        |indices: Vec<usize>| indices.into_iter().map(|i| sample(test, i, predictions[i])).collect::<Result<Vec<_>>>();
    let count = predictions.len();
    let evaluated = Evaluated {
        data: test.name.clone(),
        count,
        right: right.len(),
        loss: predictions.iter().map(|p| p.loss).sum::<f64>() / count.max(1) as f64,
        confusion: Confusion::of(test.classes, predictions.iter().map(|p| (p.label, p.class))),
        right_ones: samples(varied(&right, &predictions))?,
        wrong_ones: samples(wrong)?,
        layers,
    };
    Ok((digest, evaluated))
}

/// Images of as many classes as there are, the first of each, then the first of what is left.
fn varied(indices: &[usize], predictions: &[Prediction]) -> Vec<usize> {
    let mut seen = std::collections::BTreeSet::new();
    let (mut first, more): (Vec<usize>, Vec<usize>) = indices.iter().partition(|&&i| seen.insert(predictions[i].label));
    first.sort_by_key(|&i| predictions[i].label);
    first.extend(more);
    first.truncate(SAMPLES);
    first
}

fn sample(data: &Dataset, index: usize, prediction: Prediction) -> Result<Sample> {
    let [height, width, channels] = data.shape();
    let bytes = data.image(index)?;
    // What is neither grey nor coloured is shown by its first channel.
    let (pixels, color): (Vec<u8>, _) = match channels {
        3 => (bytes.to_vec(), image::ExtendedColorType::Rgb8),
        _ => (bytes.iter().step_by(channels).copied().collect(), image::ExtendedColorType::L8),
    };
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&pixels, u32::try_from(width)?, u32::try_from(height)?, color)?;
    let png = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png));
    Ok(Sample { index, prediction, png, size: [width, height] })
}
