//! What the folder of a run tells of it, read without touching it.

use crate::folder;
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use fixnet::input_file;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One epoch's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) epoch: u64,
    pub(crate) train_loss: f64,
    pub(crate) test_loss: f64,
    pub(crate) test_accuracy: f64,
    /// On the images held out of training, where there are any.
    pub(crate) validation_accuracy: Option<f64>,
}

impl Point {
    /// From a line of the metrics.
    pub(crate) fn of(line: &Value) -> Option<Self> {
        Some(Self {
            epoch: line["epoch"].as_u64()?,
            train_loss: line["train_loss"].as_f64()?,
            test_loss: line["test_loss"].as_f64()?,
            test_accuracy: line["test_accuracy"].as_f64()?,
            validation_accuracy: line["validation_accuracy"].as_f64(),
        })
    }
}

/// A run as its folder has it.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) path: PathBuf,
    pub(crate) recipe: Recipe,
    /// The epochs so far.
    pub(crate) points: Vec<Point>,
    /// The lines of every 50 steps.
    pub(crate) steps: Vec<Value>,
    /// The lines of diagnostics behind the first, which is `head`.
    pub(crate) seen: Vec<Value>,
    pub(crate) head: Option<Value>,
}

/// What a finished run has come to.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) points: Vec<Point>,
    /// The digest of its last step.
    pub(crate) digest: Option<String>,
    /// The time that it took.
    pub(crate) seconds: Option<f64>,
}

impl Ended {
    /// Reads the folder of a run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let points =
            folder::metrics(path)?.iter().filter(|line| line["kind"] == "epoch").filter_map(Point::of).collect();
        let digest = folder::digests(path)?.pop().map(|(_, digest)| digest);
        Ok(Self { points, digest, seconds: folder::seconds(path) })
    }
}

/// The recipe in a run folder.
pub(crate) fn recipe(path: &Path) -> Result<Recipe> {
    let config = folder::existing_config(path)?;
    let name = config.display().to_string();
    Recipe::from_toml(&input_file::read_to_string(&config).with_context(|| name.clone())?, &name)
}

impl History {
    /// Reads the folder of a run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let recipe = recipe(path)?;
        let (mut points, mut steps) = (Vec::new(), Vec::new());
        for line in folder::metrics(path)? {
            match line["kind"].as_str() {
                Some("epoch") => points.extend(Point::of(&line)),
                _ => steps.push(line),
            }
        }
        let mut seen = folder::diagnostics(path)?;
        let head = (!seen.is_empty()).then(|| seen.remove(0));
        Ok(Self { path: path.into(), recipe, points, steps, seen, head })
    }

    /// The quantized layers, in their order; unknown without diagnostics or layers with rates of their own.
    pub(crate) fn layers(&self) -> impl Iterator<Item = &str> {
        let head = self.head.as_ref().and_then(|head| head["layers"].as_array());
        let rates = self.steps.first().and_then(|line| line["layers"].as_object()).filter(|_| head.is_none());
        let names = head.into_iter().flatten().filter_map(Value::as_str);
        names.chain(rates.into_iter().flat_map(|all| all.keys().map(String::as_str)))
    }

    /// The layers of which diagnostics have a `weight` or a `gradient`.
    pub(crate) fn layers_with(&self, what: &str) -> Vec<&str> {
        self.layers().filter(|layer| self.seen.iter().any(|line| line["layers"][*layer][what].is_object())).collect()
    }

    /// The name of its folder.
    pub(crate) fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().map_or_else(|| self.recipe.name.clone(), |name| name.to_string_lossy().into_owned())
    }
}
