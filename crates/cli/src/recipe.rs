//! Recipes: everything that a run depends on, as TOML. The resolved recipe of a run is its `config.toml`.

use crate::usage;
use anyhow::{Context, Result, anyhow, bail, ensure};
use fixnet::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Names and texts of the built-in recipes.
pub(crate) const BUILT_IN: [(&str, &str); 6] = [
    ("digits", include_str!("../recipes/digits.toml")),
    ("photo-digits", include_str!("../recipes/photo-digits.toml")),
    ("mnist", include_str!("../recipes/mnist.toml")),
    ("cifar10-resnet20", include_str!("../recipes/cifar10-resnet20.toml")),
    ("cifar100-resnet20", include_str!("../recipes/cifar100-resnet20.toml")),
    ("mlp-digits", include_str!("../recipes/mlp-digits.toml")),
];

/// The names of the built-in recipes.
pub(crate) fn names() -> String {
    BUILT_IN.map(|(name, _)| name).join(", ")
}

/// A recipe. Keys that are left out take the defaults below; unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Recipe {
    /// The name of the run; a file's stem if it is not given.
    pub(crate) name: String,
    /// digits, photo-digits, mnist:PATH, cifar10:PATH or cifar100:PATH.
    pub(crate) data: String,
    /// mlp, mlp:W-W, lenet, resnet20, …
    pub(crate) model: String,
    /// Bits of weights/activations/gradients.
    pub(crate) bits: String,
    /// lbt, min-max or fixed:GAMMA.
    pub(crate) gradient_rule: String,
    /// Bits of the first convolution and the classifier, 32 for float.
    pub(crate) edges: u8,
    /// sgd or sgdt.
    pub(crate) optimizer: String,
    /// The first learning rate.
    pub(crate) lr: f64,
    /// Momentum of SGD.
    pub(crate) momentum: f64,
    /// L2 penalty on weights.
    pub(crate) weight_decay: f64,
    /// cosine, step or constant.
    pub(crate) schedule: String,
    /// Fractions of the run at which a step schedule falls.
    pub(crate) milestones: Vec<f32>,
    /// The factor of a step schedule.
    pub(crate) step_factor: f32,
    /// lambda of the target transition rate (sgdt).
    pub(crate) transition_factor: f64,
    /// Passes over the training images.
    pub(crate) epochs: u32,
    /// Images a step.
    pub(crate) batch_size: usize,
    /// All randomness follows from it.
    pub(crate) seed: u64,
    /// Random crops after this many pixels of padding.
    pub(crate) crop_padding: usize,
    /// Random horizontal flips.
    pub(crate) flip: bool,
    /// The run folder or safetensors file whose weights the model starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<String>,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: String::new(),
            data: "digits".into(),
            model: "lenet".into(),
            bits: "4/4/4".into(),
            gradient_rule: "lbt".into(),
            edges: 32,
            optimizer: "sgd".into(),
            lr: 0.05,
            momentum: 0.9,
            weight_decay: 1e-4,
            schedule: "cosine".into(),
            milestones: vec![0.5, 0.75],
            step_factor: 0.1,
            transition_factor: 5e-3,
            epochs: 10,
            batch_size: 64,
            seed: 1,
            crop_padding: 0,
            flip: false,
            init: None,
        }
    }
}

impl Recipe {
    /// A built-in recipe by name, or one from a TOML file.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let (text, stem) = match BUILT_IN.iter().find(|(n, _)| *n == name) {
            Some((n, text)) => ((*text).to_string(), (*n).to_string()),
            None => {
                let path = Path::new(name);
                if !path.exists() {
                    let known = names();
                    return Err(usage(anyhow!(
                        "recipe `{name}`: expected a TOML file or one of {known}, found neither"
                    )));
                }
                let text = std::fs::read_to_string(path).with_context(|| format!("recipe {name}"))?;
                (text, path.file_stem().map_or_else(|| name.into(), |s| s.to_string_lossy().into_owned()))
            }
        };
        let mut recipe = Self::from_toml(&text, &format!("recipe {name}"))?;
        if recipe.name.is_empty() {
            recipe.name = stem;
        }
        Ok(recipe)
    }

    /// Reads a recipe; `place` is where it comes from, for messages.
    pub(crate) fn from_toml(text: &str, place: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| anyhow!("{place}: {e}"))
    }

    /// The recipe with all its settings.
    pub(crate) fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// Checks what can be checked without data, and gives the parts in their own types.
    pub(crate) fn resolve(&self) -> Result<Resolved> {
        ensure!(self.epochs > 0, "epochs: expected at least 1, found 0");
        ensure!(self.batch_size > 0, "batch_size: expected at least 1, found 0");
        let edges = match self.edges {
            32 => None,
            b @ 2..=8 => Some(b),
            b => bail!("edges: expected 2 to 8 bits, or 32 for float, found {b}"),
        };
        let schedule = match self.schedule.as_str() {
            "cosine" => Schedule::Cosine,
            "constant" => Schedule::Constant,
            "step" => Schedule::Step { milestones: self.milestones.clone(), gamma: self.step_factor },
            other => bail!("schedule: expected cosine, step or constant, found {other}"),
        };
        let transition = match self.optimizer.as_str() {
            "sgd" => None,
            "sgdt" => Some(TransitionConfig { factor: self.transition_factor, ..TransitionConfig::default() }),
            other => bail!("optimizer: expected sgd or sgdt, found {other}"),
        };
        let sgd = SgdConfig {
            lr: self.lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            schedule,
            transition,
            ..SgdConfig::default()
        };
        let model: ModelSpec = self.model.parse()?;
        ensure!(model.task() == Task::Classify, "model: expected a classifier, found {model}, which enlarges images");
        // The optimizer checks its own ranges.
        Sgd::new(sgd.clone())?;
        Ok(Resolved {
            data: self.data.parse()?,
            model,
            quant: QuantConfig { precision: self.bits.parse()?, rule: self.gradient_rule.parse()?, edges },
            augment: Augment { crop_padding: self.crop_padding, flip: self.flip },
            sgd,
        })
    }
}

/// The parts of a recipe in their own types.
pub(crate) struct Resolved {
    pub(crate) data: Source,
    pub(crate) model: ModelSpec,
    pub(crate) quant: QuantConfig,
    pub(crate) augment: Augment,
    pub(crate) sgd: SgdConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_resolve_and_survive_the_round_trip() {
        for (name, _) in BUILT_IN {
            let recipe = Recipe::find(name).unwrap();
            recipe.resolve().unwrap();
            assert_eq!(Recipe::from_toml(&recipe.to_toml().unwrap(), name).unwrap(), recipe);
        }
    }
}
