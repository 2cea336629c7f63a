//! Weights to start from: of a run, of a file of fixnet, or of PyTorch.

use crate::run::place::existing_checkpoint;
use crate::task::Task;
use crate::{Config, Error, Result};
use fixnet_export::{packed, torch};
use fixnet_nn::checkpoint::{Checkpoint, Pretrained, TensorFile, previous_path};
use fixnet_nn::models::{DETECTOR_BODY, inside_detector};
use fixnet_tensor::Tensor;
use std::path::Path;

/// A file of weights that was read, with warnings for the user.
#[derive(Debug)]
pub struct Weights(TensorFile, Vec<String>);

impl Weights {
    /// Reads the file that `run.init` names: the folder of a run, a checkpoint or any safetensors file. Where a checkpoint is
    /// damaged or missing, it is the previous one, with a warning among the notes.
    ///
    /// # Errors
    /// It is missing or damaged, and so is the checkpoint before; or it is a packed network.
    pub fn open(init: &str) -> Result<Self> {
        let path = existing_checkpoint(Path::new(init))?;
        let mut warnings = Vec::new();
        let file = match TensorFile::weights(&path) {
            Err(_) if previous_path(&path).exists() => {
                let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
                warnings.extend(problem.map(|problem| format!("warning: init: {problem}")));
                let step = checkpoint.step();
                warnings
                    .push(format!("warning: init: the weights are those of the previous checkpoint, of step {step}"));
                checkpoint.into_file()
            }
            other => other?,
        };
        match file.header().metadata.contains_key(packed::PLAN) {
            false => Ok(Self(file, warnings)),
            true => Err(Error::Run {
                path: file.path().into(),
                reason:
                    "expected weights of floats, found a packed network; `fixnet export RUN --weights FILE` writes them"
                        .into(),
            }
            .within("--init")),
        }
    }

    /// Returns the weights of a model, and notes on what does not fit.
    ///
    /// # Errors
    /// The model of the configuration does not fit the task.
    pub(crate) fn read(&self, config: &Config, task: &dyn Task) -> Result<(Pretrained, Vec<String>)> {
        let file = &self.0;
        // A state_dict that fixnet wrote for PyTorch is one of PyTorch's, under its names and with its order of axes.
        let of_torch = file.header().metadata.get("format").is_some_and(|format| format == "pt");
        if file.header().checksum().is_some() && !of_torch {
            let mut floats = file.floats();
            // The weights of a classifier are those of the body of a detector.
            let inside = |(name, t): (&String, &Tensor)| inside_detector(name).map(|name| (name, t.clone()));
            let of_body: Vec<(String, Tensor)> = floats.iter().filter_map(inside).collect();
            let within = if of_body.is_empty() { "" } else { DETECTOR_BODY };
            for (name, t) in of_body {
                floats.entry(name).or_insert(t);
            }
            return Ok((Pretrained::new(floats).read_from(file).within(within), Vec::new()));
        }
        let plan = torch::plan_of(config.model(), task.input_shape(), task.classes().unwrap_or(0))?;
        let imported = torch::translate(file, &plan);
        let identities =
            imported.identities.iter().map(|name| format!("{name}: not in the file; it begins as the identity"));
        let notes = identities.chain(imported.misfits).collect();
        let is_body = imported.tensors.keys().all(|name| name.starts_with(DETECTOR_BODY));
        let within = if is_body { DETECTOR_BODY } else { "" };
        Ok((Pretrained::new(imported.tensors).read_from(file).within(within), notes))
    }

    /// Returns warnings, and notes of the task on where the weights come from.
    ///
    /// # Errors
    /// The metadata are damaged.
    pub(crate) fn notes(&self, task: &dyn Task) -> Result<Vec<String>> {
        let of_task = task.notes_on_weights(&self.0.path().display().to_string(), &self.0.header().metadata)?;
        Ok(self.1.iter().cloned().chain(of_task).collect())
    }
}
