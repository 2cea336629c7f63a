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

/// The largest seed: whole numbers of TOML have a sign.
pub(crate) const SEED_MAX: u64 = i64::MAX as u64;

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
    /// digits, photo-digits[:seen], mnist:PATH, cifar10:PATH, cifar100:PATH, folder:PATH or npz:PATH.
    pub(crate) data: String,
    /// Rows and columns to which the images of a folder are scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_size: Option<usize>,
    /// Share of the training images that is set apart and evaluated after each epoch.
    pub(crate) validation: f64,
    /// mlp, mlp:W-W, lenet, resnet20, …
    pub(crate) model: String,
    /// Bits of weights/activations/gradients.
    pub(crate) bits: String,
    /// lbt or trs: the quantizers of weights and activations.
    pub(crate) scheme: String,
    /// tensor or channel: one scale a weight, or one an output channel.
    pub(crate) weight_scales: String,
    /// learned or fixed.
    pub(crate) scales: String,
    /// lbt[:ALPHA:BETA], min-max, fixed:GAMMA, mse[:EVERY] or dsgc[:EVERY].
    pub(crate) gradient_rule: String,
    /// stochastic or nearest.
    pub(crate) gradient_rounding: String,
    /// Bits of the first convolution and the classifier, 32 for float.
    pub(crate) edges: u8,
    /// Whether a quantized classifier whose values leave out their scales has a learned factor of its output.
    pub(crate) output_scale: bool,
    /// operands or output: what that factor starts from.
    pub(crate) output_scale_start: String,
    /// population or sample: the deviation that first scales are multiples of.
    pub(crate) scale_deviation: String,
    /// The gradient rule of the first convolution and the classifier. Left out, that of the other layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edge_rule: Option<String>,
    /// sgd, adam, …; sgdt, adamt, … for their transition-rate twins.
    pub(crate) optimizer: String,
    /// The first learning rate; U_0 of a twin. Left out, the usual one of the optimizer.
    pub(crate) lr: Option<f64>,
    /// Decay of weights. Left out, the usual one of the optimizer.
    pub(crate) weight_decay: Option<f64>,
    /// weights or all: whether biases and normalizations decay too.
    pub(crate) decay_groups: String,
    /// Momentum of SGD or RMSProp. This and the next six belong to some optimizers only, and are refused with others.
    pub(crate) momentum: Option<f64>,
    /// Nesterov's momentum in SGD.
    pub(crate) nesterov: Option<bool>,
    /// beta1 and beta2 of Adam, AdamW, NAdam and Adamax.
    #[serde(deserialize_with = "two")]
    pub(crate) betas: Option<[f64; 2]>,
    /// What keeps a divisor from 0 in all but SGD.
    pub(crate) eps: Option<f64>,
    /// How fast the momentum of NAdam rises.
    pub(crate) momentum_decay: Option<f64>,
    /// Share of the old mean square in RMSProp.
    pub(crate) alpha: Option<f64>,
    /// How fast the learning rate of Adagrad falls.
    pub(crate) lr_decay: Option<f64>,
    /// Learning rate of learned scales.
    pub(crate) scale_lr: f64,
    /// Its schedule, with the same milestones and factor as that of the learning rate.
    pub(crate) scale_schedule: String,
    /// What the learning rate of latent weights is multiplied by.
    pub(crate) latent_lr_factor: f64,
    /// constant, step, cosine or linear.
    pub(crate) schedule: String,
    /// Fractions of the run at which a step schedule falls.
    pub(crate) milestones: Vec<f64>,
    /// The factor of a step schedule.
    pub(crate) step_factor: f64,
    /// Before the schedule the learning rate rises: below 1 a fraction of the run, else steps.
    pub(crate) warmup: f64,
    /// lambda of the target transition rate. This and what follows are for twins.
    pub(crate) transition_factor: f64,
    /// m, the share of the old running transition rate.
    pub(crate) transition_momentum: f64,
    /// The schedule of the target transition rate, with the same milestones and factor.
    pub(crate) transition_schedule: String,
    /// The warm-up of the target transition rate.
    pub(crate) transition_warmup: f64,
    /// model or layer: what has a transition rate of its own.
    pub(crate) transition_scope: String,
    /// additive, multiplicative or damped.
    pub(crate) talr_rule: String,
    /// eta over U_0, the gain of the additive rule.
    pub(crate) talr_gain: f64,
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
    /// Random rotation by at most so many degrees.
    pub(crate) rotation: f64,
    /// Random shift by at most this share of height and width.
    pub(crate) shift: f64,
    /// Random brightness: factors from 1 - this to 1 + this; contrast and saturation alike.
    pub(crate) brightness: f64,
    /// Random contrast.
    pub(crate) contrast: f64,
    /// Random saturation.
    pub(crate) saturation: f64,
    /// The side of a square of pixels that is blanked at a random place.
    pub(crate) cutout: usize,
    /// alpha of mixup; 0 is off.
    pub(crate) mixup: f64,
    /// The run folder or safetensors file whose weights the model starts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<String>,
    /// Write event files of TensorBoard; no influence on the result.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) tensorboard: bool,
}

/// Two numbers, no more: a third would be dropped without a word.
fn two<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Option<[f64; 2]>, D::Error> {
    let numbers = Option::<Vec<f64>>::deserialize(from)?;
    let pair = |numbers: Vec<f64>| {
        let count = numbers.len();
        numbers.try_into().map_err(|_| serde::de::Error::invalid_length(count, &"two numbers"))
    };
    numbers.map(pair).transpose()
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: String::new(),
            data: "digits".into(),
            image_size: None,
            validation: 0.0,
            model: "lenet".into(),
            bits: "4/4/4".into(),
            scheme: Scheme::default().to_string(),
            weight_scales: WeightScales::default().to_string(),
            scales: Scales::default().to_string(),
            gradient_rule: Rule::default().to_string(),
            gradient_rounding: Rounding::default().to_string(),
            edges: 32,
            output_scale: true,
            output_scale_start: OutputScaleStart::default().to_string(),
            scale_deviation: Deviation::default().to_string(),
            edge_rule: None,
            optimizer: "sgd".into(),
            lr: None,
            weight_decay: None,
            decay_groups: DecayGroups::default().to_string(),
            momentum: None,
            nesterov: None,
            betas: None,
            eps: None,
            momentum_decay: None,
            alpha: None,
            lr_decay: None,
            scale_lr: 1e-5,
            scale_schedule: "constant".into(),
            latent_lr_factor: 1.0,
            schedule: "cosine".into(),
            milestones: vec![0.5, 0.75],
            step_factor: 0.1,
            warmup: 0.0,
            transition_factor: 5e-3,
            transition_momentum: 0.99,
            transition_schedule: "cosine".into(),
            transition_warmup: 0.0,
            transition_scope: "model".into(),
            talr_rule: "additive".into(),
            talr_gain: 1.0,
            epochs: 10,
            batch_size: 64,
            seed: 1,
            crop_padding: 0,
            flip: false,
            rotation: 0.0,
            shift: 0.0,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            cutout: 0,
            mixup: 0.0,
            init: None,
            tensorboard: false,
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
                let text = fixnet::input_file::read_to_string(path).with_context(|| format!("recipe {name}"))?;
                (text, path.file_stem().map_or_else(|| name.into(), |s| s.to_string_lossy().into_owned()))
            }
        };
        let mut recipe = Self::from_toml(&text, &format!("recipe {name}"))?;
        let empty = toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.is_empty());
        ensure!(!empty, "recipe {name}: expected at least one key, such as `data` or `model`, found none");
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

    /// Checks what can be checked without data, and gives the parts in their own types. Settings of the optimizer that were
    /// left out are filled in, so that the recipe holds all that the run depends on.
    pub(crate) fn resolve(&mut self) -> Result<Resolved> {
        ensure!(self.seed <= SEED_MAX, "seed: expected at most {SEED_MAX}, found {}", self.seed);
        self.check_finite()?;
        ensure!(self.epochs > 0, "epochs: expected at least 1, found 0");
        ensure!(self.batch_size > 0, "batch_size: expected at least 1, found 0");
        let edges = match self.edges {
            32 => None,
            b @ 2..=8 => Some(b),
            b => bail!("edges: expected 2 to 8 bits, or 32 for float, found {b}"),
        };
        let model: ModelSpec = self.model.parse()?;
        ensure!(model.task() == Task::Classify, "model: expected a classifier, found {model}, which enlarges images");
        let optimizer = self.optimizer_config()?;
        // The optimizer checks its own ranges.
        Optimizer::new(optimizer.clone())?;
        let augment = Augment {
            crop_padding: self.crop_padding,
            flip: self.flip,
            rotation: self.rotation,
            shift: self.shift,
            brightness: self.brightness,
            contrast: self.contrast,
            saturation: self.saturation,
            cutout: self.cutout,
            mixup: self.mixup,
        };
        augment.check()?;
        let data = DataConfig {
            source: self.data.parse()?,
            image_size: self.image_size,
            validation: self.validation,
            seed: self.seed,
        };
        data.check()?;
        Ok(Resolved {
            data,
            model,
            quant: QuantConfig {
                precision: self.bits.parse()?,
                scheme: self.scheme.parse()?,
                rule: self.gradient_rule.parse()?,
                gradient_rounding: self.gradient_rounding.parse()?,
                weight_scales: self.weight_scales.parse()?,
                scales: self.scales.parse()?,
                edges,
                output_scale: self.output_scale,
                output_scale_start: self.output_scale_start.parse()?,
                scale_deviation: self.scale_deviation.parse()?,
                edge_rule: self.edge_rule.as_deref().map(str::parse).transpose()?,
            },
            augment,
            optimizer,
        })
    }

    /// No number may be infinite or none, in keys without influence neither: a recipe must equal itself, or its run could
    /// not be told from another.
    fn check_finite(&self) -> Result<()> {
        for (key, value) in toml::Table::try_from(self)? {
            let numbers = value.as_array().cloned().unwrap_or(vec![value]);
            for number in numbers.iter().filter_map(toml::Value::as_float) {
                ensure!(number.is_finite(), "{key}: expected a finite number, found {number}");
            }
        }
        Ok(())
    }

    /// The keys in which this recipe is not `other`, each with both values.
    pub(crate) fn differences(&self, other: &Self) -> Result<Vec<String>> {
        let (found, wanted) = (toml::Table::try_from(self)?, toml::Table::try_from(other)?);
        let tell = |v: Option<&toml::Value>| v.map_or("nothing".into(), text);
        let keys: std::collections::BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
        let differ = keys.into_iter().filter(|key| found.get(*key) != wanted.get(*key));
        let line = |key: &String| format!("{key}: expected {}, found {}", tell(wanted.get(key)), tell(found.get(key)));
        Ok(differ.map(line).collect())
    }

    /// The keys that have no influence on a run of this recipe, such as the gradient rule of float gradients.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn idle_keys(&self) -> Result<Vec<&'static str>> {
        let parts = self.clone().resolve()?;
        let (precision, transition) = (parts.quant.precision, parts.optimizer.transition);
        let (float, twin) = (precision.weight().is_none() && parts.quant.edges.is_none(), transition.is_some());
        let mut idle = Vec::new();
        if precision.gradient().is_none() && parts.quant.edges.is_none() {
            idle.extend(["gradient_rule", "gradient_rounding"]);
        }
        if parts.quant.edges.is_none() || parts.quant.scheme != Scheme::Trs {
            idle.push("output_scale");
        }
        if parts.quant.edges.is_none() || parts.quant.scheme != Scheme::Trs || !self.output_scale {
            idle.push("output_scale_start");
        }
        if parts.quant.edges.is_none() {
            idle.push("edge_rule");
        }
        if float {
            idle.extend(["scheme", "weight_scales", "scales", "scale_deviation", "scale_lr", "latent_lr_factor"]);
        }
        if float || parts.quant.scales == Scales::Fixed {
            idle.push("scale_schedule");
        }
        if self.weight_decay == Some(0.0) {
            idle.push("decay_groups");
        }
        if float || !twin {
            idle.extend(["transition_factor", "transition_momentum", "transition_schedule", "transition_warmup"]);
            idle.extend(["transition_scope", "talr_rule"]);
        }
        if transition.is_none_or(|t| float || t.rule != TalrRule::Additive) {
            idle.push("talr_gain");
        }
        let steps = |schedule: &str| schedule == "step";
        let of_twin = !float && twin && steps(&self.transition_schedule);
        if !steps(&self.schedule) && !of_twin && (float || !steps(&self.scale_schedule)) {
            idle.extend(["milestones", "step_factor"]);
        }
        Ok(idle)
    }

    /// The same run with idle keys at their defaults and the twin of an optimizer only where there is something to
    /// schedule: recipes of equal runs become equal.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn canonical(&self) -> Result<Self> {
        let mut recipe = self.clone();
        let parts = recipe.resolve()?;
        if parts.quant.precision.weight().is_none() && parts.quant.edges.is_none() {
            recipe.optimizer = parts.optimizer.rule.name().into();
        }
        let mut table = toml::Table::try_from(&recipe)?;
        let mut defaults = toml::Table::try_from(Self::default())?;
        for key in recipe.idle_keys()? {
            table.extend(defaults.remove_entry(key));
        }
        Ok(table.try_into()?)
    }

    /// Takes the place of `--data`, where the same data are now.
    pub(crate) fn move_data(&mut self, place: Option<&str>) -> Result<()> {
        if let Some(place) = place {
            place.parse::<Source>().map_err(|e| usage(e.into()))?;
            self.data = place.into();
        }
        Ok(())
    }

    /// Takes another optimizer. Of another update rule, it comes with its usual learning rate, decay and settings: those
    /// of the recipe belong to the recipe's.
    pub(crate) fn set_optimizer(&mut self, name: &str) -> Result<()> {
        let rule = |name: &str| Ok::<_, fixnet::autograd::Error>(name.parse::<OptimizerConfig>()?.rule.name());
        if rule(name)? != rule(&self.optimizer)? {
            (self.lr, self.weight_decay, self.momentum, self.nesterov) = (None, None, None, None);
            (self.betas, self.eps, self.momentum_decay, self.alpha, self.lr_decay) = (None, None, None, None, None);
        }
        self.optimizer = name.into();
        Ok(())
    }

    /// Sets a key from text as in `talr_rule=damped`: what is no TOML value is a string.
    pub(crate) fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((key, text)) = assignment.split_once('=') else {
            bail!("--set: expected KEY=VALUE, found {assignment}");
        };
        self.set_value(key.trim(), value(text.trim())).map_err(|e| anyhow!("--set {assignment}: {e}"))
    }

    /// Sets a key.
    pub(crate) fn set_value(&mut self, key: &str, value: toml::Value) -> Result<()> {
        if let ("optimizer", Some(name)) = (key, value.as_str()) {
            return self.set_optimizer(name);
        }
        let mut table = toml::Table::try_from(&*self)?;
        table.insert(key.into(), value);
        *self = table.try_into()?;
        Ok(())
    }

    /// The optimizer with its settings, the total of steps left open. Fills in those that were left out.
    fn optimizer_config(&mut self) -> Result<OptimizerConfig> {
        fn set<T: Copy>(to: &mut T, key: &mut Option<T>) {
            *to = *key.get_or_insert(*to);
        }
        let mut config: OptimizerConfig = self.optimizer.parse()?;
        set(&mut config.lr, &mut self.lr);
        set(&mut config.weight_decay, &mut self.weight_decay);
        let own: &[&str] = match &mut config.rule {
            UpdateRule::Sgd { momentum, nesterov } => {
                set(momentum, &mut self.momentum);
                set(nesterov, &mut self.nesterov);
                &["momentum", "nesterov"]
            }
            UpdateRule::Adam { betas, eps } | UpdateRule::AdamW { betas, eps } | UpdateRule::Adamax { betas, eps } => {
                set(betas, &mut self.betas);
                set(eps, &mut self.eps);
                &["betas", "eps"]
            }
            UpdateRule::NAdam { betas, eps, momentum_decay } => {
                set(betas, &mut self.betas);
                set(eps, &mut self.eps);
                set(momentum_decay, &mut self.momentum_decay);
                &["betas", "eps", "momentum_decay"]
            }
            UpdateRule::RmsProp { alpha, eps, momentum } => {
                set(alpha, &mut self.alpha);
                set(eps, &mut self.eps);
                set(momentum, &mut self.momentum);
                &["alpha", "eps", "momentum"]
            }
            UpdateRule::Adagrad { eps, lr_decay } => {
                set(eps, &mut self.eps);
                set(lr_decay, &mut self.lr_decay);
                &["eps", "lr_decay"]
            }
        };
        let given = [
            ("momentum", self.momentum.is_some()),
            ("nesterov", self.nesterov.is_some()),
            ("betas", self.betas.is_some()),
            ("eps", self.eps.is_some()),
            ("momentum_decay", self.momentum_decay.is_some()),
            ("alpha", self.alpha.is_some()),
            ("lr_decay", self.lr_decay.is_some()),
        ];
        for (key, given) in given {
            ensure!(
                !given || own.contains(&key),
                "{key}: expected a setting of {} ({}), found one that it does not have",
                config.rule,
                own.join(", ")
            );
        }
        config.decay_groups = self.decay_groups.parse()?;
        config.scale_lr = self.scale_lr;
        config.scale_schedule = self.schedule("scale_schedule", &self.scale_schedule, "", 0.0)?;
        config.latent_lr_factor = self.latent_lr_factor;
        config.schedule = self.schedule("schedule", &self.schedule, "warmup", self.warmup)?;
        let (name, warmup) = (&self.transition_schedule, self.transition_warmup);
        let transition = TransitionConfig {
            factor: self.transition_factor,
            momentum: self.transition_momentum,
            schedule: self.schedule("transition_schedule", name, "transition_warmup", warmup)?,
            rule: self.talr_rule.parse()?,
            gain: self.talr_gain,
            scope: self.transition_scope.parse()?,
        };
        match &mut config.transition {
            Some(of_twin) => *of_twin = transition,
            // Without influence here, and held to its ranges all the same.
            None => drop(Optimizer::new(OptimizerConfig { transition: Some(transition), ..config.clone() })?),
        }
        Ok(config)
    }

    fn schedule(&self, key: &str, name: &str, warmup_key: &str, warmup: f64) -> Result<Schedule> {
        let schedule = match name {
            "constant" => Schedule::Constant,
            "step" => Schedule::Step { milestones: self.milestones.clone(), gamma: self.step_factor },
            "cosine" => Schedule::Cosine,
            "linear" => Schedule::Linear,
            other => bail!("{key}: expected constant, step, cosine or linear, found {other}"),
        };
        Ok(match warmup {
            0.0 => schedule,
            share if share > 0.0 && share < 1.0 => schedule.after(Warmup::Fraction(share)),
            steps if steps >= 1.0 && steps.fract() == 0.0 => schedule.after(Warmup::Steps(steps as u64)),
            other => bail!("{warmup_key}: expected a fraction of the run below 1 or whole steps, found {other}"),
        })
    }
}

/// A TOML value as text, strings without their quotes.
pub(crate) fn text(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// A TOML value from text; what is none is a string.
pub(crate) fn value(text: &str) -> toml::Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    parsed.and_then(|mut t| t.remove("value")).unwrap_or_else(|| text.into())
}

/// The parts of a recipe in their own types.
pub(crate) struct Resolved {
    pub(crate) data: DataConfig,
    pub(crate) model: ModelSpec,
    pub(crate) quant: QuantConfig,
    pub(crate) augment: Augment,
    pub(crate) optimizer: OptimizerConfig,
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    #[test]
    fn built_in_recipes_resolve_and_survive_the_round_trip() {
        for (name, _) in BUILT_IN {
            let mut recipe = Recipe::find(name).unwrap();
            recipe.resolve().unwrap();
            assert_eq!(Recipe::from_toml(&recipe.to_toml().unwrap(), name).unwrap(), recipe);
        }
    }

    fn recipe(text: &str) -> Recipe {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn every_key_of_the_optimizer_arrives() {
        let text = r#"
            optimizer = "nadamt"
            lr = 0.004
            weight_decay = 0.5
            betas = [0.8, 0.99]
            eps = 1e-6
            momentum_decay = 0.01
            decay_groups = "all"
            scale_lr = 1e-4
            scale_schedule = "step"
            latent_lr_factor = 2.0
            schedule = "linear"
            warmup = 50
            transition_factor = 0.01
            transition_momentum = 0.9
            transition_schedule = "step"
            transition_warmup = 0.1
            transition_scope = "layer"
            talr_rule = "damped:0.9"
            talr_gain = 20.0
        "#;
        let found = recipe(text).resolve().unwrap().optimizer;
        let step = Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.1 };
        let expected = OptimizerConfig {
            rule: UpdateRule::NAdam { betas: [0.8, 0.99], eps: 1e-6, momentum_decay: 0.01 },
            lr: 0.004,
            weight_decay: 0.5,
            schedule: Schedule::Linear.after(Warmup::Steps(50)),
            total_steps: 0,
            latent_lr_factor: 2.0,
            scale_lr: 1e-4,
            scale_schedule: step.clone(),
            decay_groups: DecayGroups::All,
            transition: Some(TransitionConfig {
                factor: 0.01,
                momentum: 0.9,
                schedule: step.after(Warmup::Fraction(0.1)),
                rule: TalrRule::Damped { momentum: 0.9 },
                gain: 20.0,
                scope: Scope::Layer,
            }),
        };
        assert_eq!(found, expected);
        // Settings of the other rules.
        for (text, rule) in [
            ("optimizer = 'sgd'\nmomentum = 0.5\nnesterov = true", UpdateRule::Sgd { momentum: 0.5, nesterov: true }),
            (
                "optimizer = 'rmsprop'\nalpha = 0.9\neps = 1e-3\nmomentum = 0.2",
                UpdateRule::RmsProp { alpha: 0.9, eps: 1e-3, momentum: 0.2 },
            ),
            ("optimizer = 'adagrad'\neps = 1e-3\nlr_decay = 0.2", UpdateRule::Adagrad { eps: 1e-3, lr_decay: 0.2 }),
        ] {
            assert_eq!(recipe(text).resolve().unwrap().optimizer.rule, rule);
        }
    }

    #[test]
    fn every_key_of_data_arrives() {
        let text = "crop_padding = 1\nflip = true\nrotation = 15\nshift = 0.1\nbrightness = 0.2\ncontrast = 0.3\n\
                    saturation = 0.4\ncutout = 8\nmixup = 0.5\ndata = 'folder:x'\nimage_size = 32\nvalidation = 0.1\n\
                    seed = 7";
        let resolved = recipe(text).resolve().unwrap();
        let expected = Augment {
            crop_padding: 1,
            flip: true,
            rotation: 15.0,
            shift: 0.1,
            brightness: 0.2,
            contrast: 0.3,
            saturation: 0.4,
            cutout: 8,
            mixup: 0.5,
        };
        assert_eq!(resolved.augment, expected);
        let source = "folder:x".parse().unwrap();
        assert_eq!(resolved.data, DataConfig { source, image_size: Some(32), validation: 0.1, seed: 7 });
    }

    #[test]
    fn what_is_left_out_is_filled_in_and_survives_the_round_trip() {
        for name in ["sgdt", "adam", "adamw", "nadamt", "adamax", "rmsprop", "adagrad"] {
            let mut short = recipe("");
            short.set_optimizer(name).unwrap();
            let config = short.resolve().unwrap().optimizer;
            assert_eq!(config, name.parse().unwrap());
            assert_eq!((short.lr, short.weight_decay), (Some(config.lr), Some(config.weight_decay)));
            let mut long = recipe(&toml::to_string(&short).unwrap());
            assert_eq!((long.resolve().unwrap().optimizer, long), (config, short));
        }
    }

    #[test]
    fn another_update_rule_brings_its_own_settings_and_a_twin_keeps_them() {
        let mut r = recipe("lr = 0.05\nmomentum = 0.5");
        r.set_optimizer("sgdt").unwrap();
        assert_eq!((r.lr, r.momentum), (Some(0.05), Some(0.5)));
        r.set("optimizer=adamt").unwrap();
        assert_eq!(r.resolve().unwrap().optimizer, "adamt".parse().unwrap());
    }

    #[test]
    fn keys_are_set_from_text() {
        let mut r = recipe("");
        for text in ["talr_rule=damped", "betas = [0.5, 0.6]", "epochs=3", "lr=1", "flip=true", "data=mnist:a b/c"] {
            r.set(text).unwrap();
        }
        assert_eq!((r.talr_rule.as_str(), r.betas, r.epochs, r.lr), ("damped", Some([0.5, 0.6]), 3, Some(1.0)));
        assert_eq!((r.flip, r.data.as_str()), (true, "mnist:a b/c"));
        for (text, word) in [("epoch=3", "`epochs`"), ("epochs=many", "many"), ("epochs", "KEY=VALUE")] {
            let before = r.clone();
            let e = r.set(text).unwrap_err().to_string();
            assert!(e.contains(text) && e.contains(word), "{e}");
            assert_eq!(r, before);
        }
    }

    #[test]
    fn recipes_of_equal_runs_are_equal() {
        let float = "bits = '32/32/32'\n";
        let same = |a: &str, b: &str| recipe(a).canonical().unwrap() == recipe(b).canonical().unwrap();
        for rest in ["gradient_rule = 'min-max'", "optimizer = 'sgdt'", "scheme = 'trs'", "milestones = [0.1]"] {
            assert!(same(&format!("{float}{rest}"), float), "{rest}");
            // Layers at the edges are quantized, so all of it counts.
            let edges = format!("{float}edges = 8\n");
            assert!(same(&format!("{edges}{rest}"), &edges) == rest.starts_with("milestones"), "{rest}");
            assert!(same(rest, "") == rest.starts_with("milestones"), "{rest}");
        }
        assert!(same("bits = '2/2/32'\ngradient_rule = 'mse'", "bits = '2/2/32'"));
        assert!(
            same("talr_rule = 'damped'", "") && !same("optimizer = 'sgdt'\ntalr_rule = 'damped'", "optimizer = 'sgdt'")
        );
        let twin = |rest: &str| format!("optimizer = 'sgdt'\n{rest}");
        assert!(!same(&twin("talr_gain = 2.0"), &twin("")) && same("talr_gain = 2.0", ""));
        assert!(same(&twin("talr_rule = 'damped'\ntalr_gain = 2.0"), &twin("talr_rule = 'damped'")));
        assert!(!same("schedule = 'step'\nmilestones = [0.1]", "schedule = 'step'"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_is_expected() {
        for (text, words) in [
            ("optimizer = 'lion'", ["lion", "adagradt"]),
            ("optimizer = 'adam'\nmomentum = 0.9", ["momentum", "betas, eps"]),
            ("betas = [0.9, 0.99]", ["betas", "momentum, nesterov"]),
            ("optimizer = 'adam'\nbetas = [0.9, 1.0]", ["betas", "below 1"]),
            ("optimizer = 'adam'\neps = 0.0", ["eps", "above 0"]),
            ("momentum = 0.0\nnesterov = true", ["momentum", "nesterov"]),
            ("schedule = 'exponential'", ["schedule", "linear"]),
            ("optimizer = 'sgdt'\ntransition_schedule = 'x'", ["transition_schedule", "linear"]),
            ("optimizer = 'sgdt'\ntransition_scope = 'x'", ["scope", "layer"]),
            ("optimizer = 'sgdt'\ntalr_rule = 'x'", ["TALR", "multiplicative"]),
            ("optimizer = 'sgdt'\ntalr_gain = -1.0", ["gain", "at least 0"]),
            ("warmup = 1.5", ["warmup", "whole steps"]),
            ("warmup = -1", ["warmup", "whole steps"]),
            ("lr = -1", ["learning rate", "at least 0"]),
            ("milestones = [0.5, nan]", ["milestones", "finite"]),
            ("rotation = 200.0", ["rotation", "0 to 180"]),
            ("mixup = 1.5", ["mixup", "0 to 1"]),
            ("validation = 1.0", ["validation", "below 1"]),
            ("image_size = 32", ["image_size", "digits"]),
            ("data = 'folder:x'\nimage_size = 0", ["image_size", "16384"]),
        ] {
            let e = format!("{:#}", recipe(text).resolve().err().unwrap());
            assert!(words.iter().all(|w| e.contains(w)), "{text}: {e}");
        }
    }

    /// Values that are at the edge of what is allowed, or beyond it.
    const AWKWARD: [&str; 24] = [
        "0",
        "1",
        "-1",
        "0.0",
        "-0.0",
        "1e-320",
        "1e308",
        "nan",
        "inf",
        "9223372036854775807",
        "-9223372036854775808",
        "''",
        "'4/4/4'",
        "'mlp:99999999999999999999'",
        "'mlp:4294967296-4294967296'",
        "'resnet4294967294'",
        "'mse:18446744073709551615'",
        "'lbt:nan:inf'",
        "'damped:nan'",
        "'folder:'",
        "[]",
        "[nan, 1e39]",
        "true",
        "1979-05-27",
    ];

    /// One to five keys of a recipe with such values, as lines of TOML.
    fn awkward() -> impl Strategy<Value = String> {
        let keys: Vec<String> = toml::Table::try_from(Recipe::default()).unwrap().keys().cloned().collect();
        let more =
            ["lr", "weight_decay", "momentum", "betas", "eps", "alpha", "momentum_decay", "lr_decay", "image_size"];
        let keys = [keys, more.map(String::from).into()].concat();
        let line = (prop::sample::select(keys), prop::sample::select(&AWKWARD[..]));
        prop::collection::vec(line, 1..6).prop_map(|lines| {
            let lines: std::collections::BTreeMap<_, _> = lines.into_iter().collect();
            lines.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
        })
    }

    /// What is accepted comes back from its own text, or a run could not be resumed.
    fn check(text: &str) -> std::result::Result<(), TestCaseError> {
        fuzz::within(fuzz::MOST, || {
            let Ok(mut recipe) = Recipe::from_toml(text, "recipe") else { return Ok(()) };
            if recipe.resolve().is_err() {
                return Ok(());
            }
            let again = Recipe::from_toml(&recipe.to_toml().unwrap(), "again").unwrap();
            prop_assert_eq!(&again, &recipe);
            prop_assert!(recipe.canonical().unwrap().resolve().is_ok());
            Ok(())
        })
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_recipes_never_panic(which in 0..BUILT_IN.len(), damage in fuzz::damage()) {
            let text = fuzz::damaged(BUILT_IN[which].1.into(), &damage);
            check(&String::from_utf8_lossy(&text))?;
        }

        #[test]
        fn awkward_values_never_panic(text in awkward()) {
            check(&text)?;
        }

        #[test]
        fn random_text_never_panics(
            text in fuzz::random(&[b"", b"lr = ", b"betas = [", b"data = \"", b"[[", b"bits = '4/4/4'\n", b"a.b."]),
            // Tables in tables: parsers that call themselves must stop.
            depth in 0usize..4000,
        ) {
            let text = String::from_utf8_lossy(&text);
            check(&text)?;
            check(&format!("{text}{}", "[".repeat(depth)))?;
        }
    }
}
