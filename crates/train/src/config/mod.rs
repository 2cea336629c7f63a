//! The configuration of a run: read once from TOML ([`Settings`]), checked once, and immutable from then on ([`Config`]).

mod class_weights;
mod detection;
mod groups;
mod idle;
pub mod keys;
mod length;
mod optimizer;
mod recipes;
mod reference;
mod schedule_kind;
mod settings;
#[cfg(test)]
mod tests;
mod text;
mod transition;

pub use class_weights::{ClassRule, ClassWeights};
pub use detection::DetectionSettings;
pub use groups::{GROUP_KEYS, GroupSettings};
pub use keys::{Flag, KEYS, Key, Kind, find, find_by_flag};
pub use recipes::{BUILT_IN, names};
pub use reference::reference;
pub use schedule_kind::ScheduleKind;
pub use settings::{
    DataSettings, LossSettings, ModelSettings, OptimizerSettings, QuantizationSettings, RunSettings, ScheduleSettings,
    Settings,
};
pub(crate) use text::in_words;
pub use transition::TransitionSettings;

use crate::{Error, Result};
use fixnet_data::{Augment, ClipSettings, DataConfig, DetectionAugment, PatchSettings, Source};
use fixnet_nn::models::ModelSpec;
use fixnet_nn::optim::OptimizerConfig;
use fixnet_quant::{QuantConfig, SignEstimator};
use std::collections::BTreeSet;
use toml::Value;

/// The largest seed: whole numbers of TOML have a sign.
pub const SEED_MAX: u64 = i64::MAX as u64;

/// A recipe that was checked, with its parts in their own types. It holds all that a run depends on: settings of the optimizer
/// that were omitted are filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    settings: Settings,
    data: DataConfig,
    quant: QuantConfig,
    optimizer: OptimizerConfig,
}

impl Settings {
    /// Checks the settings, as far as that is possible without data.
    ///
    /// # Errors
    /// A setting is out of its range, or belongs to another optimizer or another source of data.
    pub fn check(self) -> Result<Config> {
        let mut settings = self;
        let out_of_range = |key: &str, expected: &str, found: String| {
            Err(Error::Setting { key: key.into(), reason: format!("expected {expected}, found {found}") })
        };
        let run = &settings.run;
        if run.seed > SEED_MAX {
            return out_of_range("run.seed", &format!("at most {SEED_MAX}"), run.seed.to_string());
        }
        // Infinite numbers are refused in keys without effect too: a recipe must equal itself.
        for (key, value) in settings.values() {
            let numbers = value.as_array().cloned().unwrap_or(vec![value]);
            if let Some(odd) = numbers.iter().filter_map(Value::as_float).find(|v| !v.is_finite()) {
                return out_of_range(&key, "a finite number", odd.to_string());
            }
        }
        if run.epochs == 0 {
            return out_of_range("run.epochs", "at least 1", "0".into());
        }
        if run.batch_size == 0 {
            return out_of_range("run.batch_size", "at least 1", "0".into());
        }
        if run.accumulate == 0 {
            return out_of_range("run.accumulate", "at least 1", "0".into());
        }
        if run.patience == Some(0) {
            return out_of_range("run.patience", "at least 1 epoch, or no such key for never", "0".into());
        }
        if run.log_every == 0 {
            return out_of_range("run.log_every", "at least 1", "0".into());
        }
        length::check(run)?;
        let smoothing = settings.loss.label_smoothing;
        if !(0.0..1.0).contains(&smoothing) {
            return out_of_range("loss.label_smoothing", "0 to below 1", smoothing.to_string());
        }
        settings.loss.class_weights.check()?;
        let optimizer = optimizer::resolve(&mut settings)?;
        settings.augmentation.check()?;
        settings.detection.check()?;
        let data = DataConfig {
            source: settings.data.source.clone(),
            test: settings.data.test.clone(),
            target: settings.data.target.clone(),
            clips: ClipSettings {
                seconds: settings.data.seconds,
                window_ms: settings.data.window_ms,
                hop_ms: settings.data.hop_ms,
                mel_bands: settings.data.mel_bands,
            },
            image_size: settings.data.image_size,
            validation: settings.data.validation,
            seed: settings.run.seed,
        };
        data.check()?;
        let q = &settings.quantization;
        let edges = match q.first_last_bits {
            32 => None,
            bits @ 2..=8 => Some(bits),
            odd => return out_of_range("quantization.first_last_bits", "2 to 8, or 32 for float", odd.to_string()),
        };
        let quant = QuantConfig {
            precision: q.bits,
            scheme: q.scheme,
            rule: q.gradient_rule.clone(),
            gradient_rounding: q.gradient_rounding,
            weight_scales: q.weight_scales,
            scales: q.scales,
            edges,
            output_scale: q.output_scale,
            output_scale_start: q.output_scale_start,
            scale_deviation: q.scale_deviation,
            edge_rule: q.first_last_gradient_rule.clone(),
            sign_estimator: SignEstimator::default(),
            input_shifts: q.input_shifts,
            attention_scales: q.attention_scales,
        };
        Ok(Config { settings, data, quant, optimizer })
    }
}

impl Config {
    /// The recipe, with all its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The name of the run.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// The seed of all randomness.
    pub fn seed(&self) -> u64 {
        self.settings.run.seed
    }

    /// Passes over the training data.
    pub fn epochs(&self) -> u32 {
        self.settings.run.epochs
    }

    /// Samples per step.
    pub fn batch_size(&self) -> usize {
        self.settings.run.batch_size
    }

    /// Batches of a step of the optimizer, at most.
    pub fn accumulate(&self) -> usize {
        self.settings.run.accumulate
    }

    /// Which data.
    pub fn data(&self) -> &DataConfig {
        &self.data
    }

    /// Which network.
    pub fn model(&self) -> &ModelSpec {
        &self.settings.model.name
    }

    /// Whether the first state of a run does not follow from its seed alone: it has given weights, which the run keeps.
    pub fn starts_from_weights(&self) -> bool {
        self.settings.run.init.is_some() || crate::model_file::of(self).is_some()
    }

    /// Returns the same configuration with a model in the place of one of the same name.
    pub(crate) fn with_model(&self, model: ModelSpec) -> Self {
        let mut config = self.clone();
        config.settings.model.name = model;
        config
    }

    /// How it is quantized.
    pub fn quant(&self) -> &QuantConfig {
        &self.quant
    }

    /// How training images are varied.
    pub fn augment(&self) -> Augment {
        self.settings.augmentation
    }

    /// How training images with boxes are varied.
    pub fn detection_augment(&self) -> DetectionAugment {
        self.settings.detection.augment(&self.settings.augmentation)
    }

    /// How patches are cut from pictures.
    pub fn patches(&self) -> PatchSettings {
        let (data, Augment { flip, quarter_turns, .. }) = (&self.settings.data, self.augment());
        PatchSettings { side: data.patch, each: data.patches, flip, quarter_turns }
    }

    /// How parameters move; the number of steps is not known before the data are.
    pub fn optimizer(&self) -> &OptimizerConfig {
        &self.optimizer
    }

    /// Reads and checks a recipe; `place` names where it comes from, for messages.
    ///
    /// # Errors
    /// As [`Settings::from_toml`] and [`Settings::check`].
    pub fn from_toml(text: &str, place: &str) -> Result<Self> {
        Settings::from_toml(text, place)?.check().map_err(|e| e.within(place))
    }

    /// Reads and checks the recipe in the metadata of a file that fixnet wrote, whatever its version.
    ///
    /// # Errors
    /// As [`Settings::recorded`] and [`Settings::check`].
    pub fn recorded(text: &str, place: &str) -> Result<Self> {
        Settings::recorded(text, place)?.check().map_err(|e| e.within(place))
    }

    /// Returns the recipe as TOML, with all its settings.
    ///
    /// # Errors
    /// None for settings that were checked.
    pub fn to_toml(&self) -> Result<String> {
        self.settings.to_toml()
    }

    /// Returns the keys that have no effect on a run of this configuration, such as the gradient rule of float gradients.
    pub fn ineffective_keys(&self) -> impl Iterator<Item = &'static str> {
        KEYS.iter().filter(|key| key.is_ineffective(self)).map(|key| key.name)
    }

    /// Returns a note on each key that was given and has no effect on this run: `schedule.gamma has no effect, since …`.
    pub fn notes_on_ineffective(&self, is_given: impl Fn(&str) -> bool) -> Vec<String> {
        let idle = KEYS.iter().filter(|key| key.is_ineffective(self) && is_given(key.name));
        idle.map(|key| format!("{} has no effect, since {}", key.name, key.ineffective)).collect()
    }

    /// Returns the run with the base of its optimizer where there are no quantized weights to schedule, and a note on that if it is another
    /// one.
    ///
    /// # Errors
    /// None for a configuration that was checked.
    pub fn with_useful_optimizer(self) -> Result<(Self, Option<String>)> {
        let useful = self.canonical()?.settings.optimizer.name;
        let (name, bits) = (&self.settings.optimizer.name, self.settings.quantization.bits);
        if useful == *name {
            return Ok((self, None));
        }
        let note = format!("optimizer: {name} has no quantized weights to schedule at {bits}; {useful} is used");
        let mut settings = self.settings;
        settings.optimizer.name = useful;
        Ok((settings.check()?, Some(note)))
    }

    /// Returns the same run with ineffective keys at their defaults, and the twin of an optimizer only where there is something
    /// to schedule: configurations of equal runs become equal.
    ///
    /// # Errors
    /// None for a configuration that was checked.
    pub fn canonical(&self) -> Result<Self> {
        let mut settings = self.settings.clone();
        if self.quant.precision.weight().is_none() && self.quant.edges.is_none() {
            settings.optimizer.name = self.optimizer.rule.name().into();
        }
        let config = settings.clone().check()?;
        let defaults = Settings::default().values();
        for key in config.ineffective_keys() {
            match defaults.get(key) {
                Some(value) => settings.set(key, value.clone())?,
                None => settings.unset(key)?,
            }
        }
        settings.check()
    }

    /// Returns the keys in which this configuration is not `other`, each with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (found, wanted) = (self.settings.values(), other.settings.values());
        let written = |v: Option<&Value>| v.map_or("nothing".into(), value_text);
        let keys: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
        keys.into_iter()
            .filter(|key| found.get(*key) != wanted.get(*key))
            .map(|key| format!("{key}: expected {}, found {}", written(wanted.get(key)), written(found.get(key))))
            .collect()
    }

    /// Returns the same configuration with data in another place.
    ///
    /// # Errors
    /// The source has settings that do not fit.
    pub fn with_source(&self, source: Source) -> Result<Self> {
        let mut settings = self.settings.clone();
        settings.data.source = source;
        settings.check()
    }

    /// Returns the same configuration with the test data of another source.
    ///
    /// # Errors
    /// As [`with_source`](Self::with_source).
    pub fn with_test_of(&self, source: Source) -> Result<Self> {
        let mut settings = self.settings.clone();
        // Of a table that has test rows in another file, all rows of such a file are test rows.
        let whole = source.is_table() && settings.data.test.is_some();
        settings.data.test = whole.then(|| source.clone());
        if !source.is_table() {
            settings.data.target = None;
        }
        settings.data.source = source;
        settings.check()
    }

    /// As [`with_test_of`](Self::with_test_of), with all rows of a table as test data.
    ///
    /// # Errors
    /// As there.
    pub fn with_whole_test_of(&self, source: Source) -> Result<Self> {
        let mut config = self.with_test_of(source)?;
        if config.data.source.is_table() {
            config.settings.data.test = Some(config.data.source.clone());
        }
        config.settings.check()
    }

    /// Returns the same configuration with event files of TensorBoard, which have no influence on the result.
    #[must_use]
    pub fn with_tensorboard(mut self, tensorboard: bool) -> Self {
        self.settings.run.tensorboard = tensorboard;
        self
    }
}

/// A TOML value as text, strings without their quotes.
pub fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Returns the value of a key from text; a list needs no brackets where the key takes one: `0.9,0.99`.
pub fn value_for(key: &str, text: &str) -> Value {
    let is_list = keys::find(key).is_some_and(|key| key.holds_list) && text.contains(',') && !text.starts_with('[');
    if is_list { value_of(&format!("[{text}]")) } else { value_of(text) }
}

/// A TOML value from text; what is none is a string.
pub fn value_of(text: &str) -> Value {
    let parsed = toml::from_str::<toml::Table>(&format!("value = {text}")).ok();
    parsed.and_then(|mut t| t.remove("value")).unwrap_or_else(|| text.into())
}
