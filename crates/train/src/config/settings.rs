//! [`Settings`]: a recipe as it is written, in tables of typed values. [`Config`](super::Config) is a recipe that was checked.

use super::schedule_kind::{ScheduleKind, curve};
use super::{DetectionSettings, TransitionSettings, transition};
use super::{class_weights::ClassWeights, groups::GroupSettings, keys, keys::KEYS, text};
use crate::{Error, Result, text::commands};
use fixnet_data::{Augment, Source};
use fixnet_nn::models::{LeNet, ModelSpec};
use fixnet_nn::optim::{DecayGroups, Schedule};
use fixnet_quant::{
    AttentionScales, Deviation, InputShifts, OutputScaleStart, Precision, Rounding, Rule, Scales, Scheme, TalrRule,
    WeightScales,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::{Table, Value};

/// A recipe: everything that a run depends on. Each field is a table of the TOML file; [`KEYS`] lists all keys with their
/// meaning, and `docs/reference/recipe.md` is made from that list. Keys that are omitted have the defaults of
/// [`Settings::default`]; unknown keys are errors.
///
/// ```
/// use fixnet_train::Settings;
/// let mut settings = Settings::default();
/// settings.run.epochs = 2;
/// settings.set("quantization.bits", "8/8/8".into())?;
/// let config = settings.check()?;
/// assert_eq!(config.quant().precision.to_string(), "8/8/8");
/// # Ok::<(), fixnet_train::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The name of the run.
    pub name: String,
    /// The task, by its name in the registry of tasks.
    pub task: String,
    /// Which data.
    pub data: DataSettings,
    /// Which network.
    pub model: ModelSettings,
    /// How it is quantized.
    pub quantization: QuantizationSettings,
    /// How parameters move.
    pub optimizer: OptimizerSettings,
    /// How the learning rate changes over the run.
    pub schedule: ScheduleSettings,
    /// Transition-rate scheduling.
    #[serde(deserialize_with = "transition::word_or_table")]
    pub transition: TransitionSettings,
    /// What the loss of a classification counts.
    pub loss: LossSettings,
    /// How training images are varied.
    pub augmentation: Augment,
    /// How training images with boxes are varied beyond that.
    pub detection: DetectionSettings,
    /// The length, the seed and the start of the run.
    pub run: RunSettings,
}

/// The table `[data]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct DataSettings {
    #[serde(with = "text")]
    pub source: Source,
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub test: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mel_bands: Option<usize>,
    pub validation: f64,
    pub patch: usize,
    pub patches: usize,
}

/// The table `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct ModelSettings {
    #[serde(with = "crate::model_file")]
    pub name: ModelSpec,
}

/// The table `[quantization]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct QuantizationSettings {
    #[serde(with = "text")]
    pub bits: Precision,
    #[serde(with = "text")]
    pub scheme: Scheme,
    #[serde(with = "text")]
    pub weight_scales: WeightScales,
    #[serde(with = "text")]
    pub scales: Scales,
    #[serde(with = "text")]
    pub gradient_rule: Rule,
    #[serde(with = "text")]
    pub gradient_rounding: Rounding,
    pub first_last_bits: u8,
    #[serde(with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub first_last_gradient_rule: Option<Rule>,
    pub output_scale: bool,
    #[serde(with = "text")]
    pub output_scale_start: OutputScaleStart,
    #[serde(with = "text")]
    pub scale_deviation: Deviation,
    #[serde(with = "text")]
    pub input_shifts: InputShifts,
    #[serde(with = "text")]
    pub attention_scales: AttentionScales,
}

/// The table `[optimizer]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct OptimizerSettings {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    #[serde(with = "text")]
    pub decay_groups: DecayGroups,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    #[serde(deserialize_with = "text::two", skip_serializing_if = "Option::is_none")]
    pub betas: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum_decay: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_decay: Option<f64>,
    pub scale_lr: f64,
    pub latent_lr_factor: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupSettings>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub own: BTreeMap<String, Value>,
}

/// The table `[schedule]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct ScheduleSettings {
    #[serde(with = "text")]
    pub kind: ScheduleKind,
    #[serde(with = "text")]
    pub scales: ScheduleKind,
    pub warmup: f64,
    pub milestones: Vec<f64>,
    pub step_factor: f64,
}

/// The table `[loss]`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct LossSettings {
    pub label_smoothing: f64,
    pub class_weights: ClassWeights,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
}

/// The table `[run]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct RunSettings {
    pub epochs: u32,
    pub batch_size: usize,
    pub seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<String>,
    pub accumulate: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_best: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<[u32; 2]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
    pub log_every: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            task: "classification".into(),
            data: DataSettings::default(),
            model: ModelSettings::default(),
            quantization: QuantizationSettings::default(),
            optimizer: OptimizerSettings::default(),
            schedule: ScheduleSettings::default(),
            transition: TransitionSettings::default(),
            loss: LossSettings::default(),
            augmentation: Augment::default(),
            detection: DetectionSettings::default(),
            run: RunSettings::default(),
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            source: Source::default(),
            test: None,
            target: None,
            image_size: None,
            seconds: None,
            window_ms: None,
            hop_ms: None,
            mel_bands: None,
            validation: 0.0,
            patch: 24,
            patches: 64,
        }
    }
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self { name: LeNet.into() }
    }
}

impl Default for QuantizationSettings {
    fn default() -> Self {
        Self {
            bits: Precision::new(4, 4, 4).expect("4 bits are a precision"),
            scheme: Scheme::default(),
            weight_scales: WeightScales::default(),
            scales: Scales::default(),
            gradient_rule: Rule::default(),
            gradient_rounding: Rounding::default(),
            first_last_bits: 32,
            first_last_gradient_rule: None,
            output_scale: true,
            output_scale_start: OutputScaleStart::default(),
            scale_deviation: Deviation::default(),
            input_shifts: InputShifts::default(),
            attention_scales: AttentionScales::default(),
        }
    }
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            name: "sgd".into(),
            lr: None,
            weight_decay: None,
            decay_groups: DecayGroups::default(),
            clip_norm: None,
            momentum: None,
            nesterov: None,
            betas: None,
            eps: None,
            momentum_decay: None,
            alpha: None,
            lr_decay: None,
            own: BTreeMap::new(),
            scale_lr: 1e-5,
            latent_lr_factor: 1.0,
            groups: Vec::new(),
        }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            kind: curve(Schedule::COSINE),
            scales: curve(Schedule::CONSTANT),
            warmup: 0.0,
            milestones: vec![0.5, 0.75],
            step_factor: 0.1,
        }
    }
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 64,
            seed: 1,
            init: None,
            accumulate: 1,
            keep_best: None,
            patience: None,
            extended: Vec::new(),
            tensorboard: false,
            log_every: 50,
        }
    }
}

impl Settings {
    /// Reads a recipe; `place` names where it comes from, for messages.
    ///
    /// # Errors
    /// The text is not TOML, a key is unknown, or a value is not one of its key. A recipe in the flat form of fixnet 0.2 is
    /// refused with the new place of each of its keys.
    pub fn from_toml(text: &str, place: &str) -> Result<Self> {
        let wrong = |reason: String| Error::Recipe { place: place.into(), reason };
        let parsed = toml::from_str::<Self>(text);
        parsed.map_err(|e| {
            let moved = toml::from_str(text).map(|table| keys::moved(&table)).unwrap_or_default();
            match moved.is_empty() {
                true => wrong(text::in_words(&e.to_string())),
                false => wrong(format!(
                    "expected keys in tables, found the flat form of fixnet 0.2; write {}",
                    moved.into_iter().map(|(old, new)| format!("{old} as {new}")).collect::<Vec<_>>().join(", ")
                )),
            }
        })
    }

    /// Reads the recipe in the metadata of a file that fixnet wrote, which may be in the flat form of earlier versions.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), but for flat recipes.
    pub fn recorded(text: &str, place: &str) -> Result<Self> {
        let table: Option<Table> = toml::from_str(text).ok();
        let Some(flat) = table.filter(|table| !keys::moved(table).is_empty()) else {
            return Self::from_toml(text, place);
        };
        let mut settings = Self::default();
        // The only rule of the first versions, which did not record it.
        settings.transition.rule = TalrRule::Additive;
        for (old, value) in flat {
            let key = KEYS.iter().find(|key| key.old == old).map_or(old.as_str(), |key| key.name);
            settings.put(key, value).map_err(|reason| Error::Recipe { place: place.into(), reason })?;
        }
        Ok(settings)
    }

    /// Returns the recipe as TOML, with all its settings.
    ///
    /// # Errors
    /// None for settings that were read or checked.
    pub fn to_toml(&self) -> Result<String> {
        let wrong = |e: toml::ser::Error| Error::Recipe { place: self.name.clone(), reason: e.to_string() };
        let text = toml::to_string(self).map_err(wrong)?;
        if !text.contains(commands) {
            return Ok(text);
        }
        // TOML escapes some of these characters, and others only where it is told to.
        let mut table = Table::try_from(self).map_err(wrong)?;
        table.iter_mut().for_each(|(_, value)| text::mark(value));
        Ok(text::unmark(&toml::to_string(&table).map_err(wrong)?))
    }

    /// Returns all values by their keys, such as `run.epochs`. Settings that were omitted are not in it.
    pub fn values(&self) -> BTreeMap<String, Value> {
        let table = Table::try_from(self).expect("settings are plain data");
        let mut values = BTreeMap::new();
        for (key, value) in table {
            match value {
                Value::Table(inner) => values.extend(inner.into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
                value => drop(values.insert(key, value)),
            }
        }
        values
    }

    /// Sets a key. Another optimizer comes with its usual learning rate, decay and settings, unless its update rule is that of
    /// the present one.
    ///
    /// # Errors
    /// The key is unknown, or it does not take the value; the settings stay as they are.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        if let ("optimizer.name", Some(name)) = (key, value.as_str()) {
            return self.set_optimizer(name);
        }
        // The table by a word, as recipes may have it.
        if let ("transition", Some(rule)) = (key, value.as_str()) {
            self.transition = TransitionSettings { rule: rule.parse()?, ..TransitionSettings::default() };
            return Ok(());
        }
        self.put(key, value).map_err(|reason| Error::Setting { key: key.into(), reason })
    }

    /// Takes a key back: its default, or what follows from others.
    ///
    /// # Errors
    /// The key is unknown, or has no default.
    pub(super) fn unset(&mut self, key: &str) -> Result<()> {
        let wrong = |reason: String| Error::Setting { key: key.into(), reason };
        let mut table = Table::try_from(&*self).map_err(|e| wrong(e.to_string()))?;
        let (outer, inner) = key.split_once('.').ok_or_else(|| wrong(keys::unknown(key)))?;
        if let Some(inside) = table.get_mut(outer).and_then(Value::as_table_mut) {
            inside.remove(inner);
        }
        *self = table.try_into().map_err(|e: toml::de::Error| wrong(text::in_words(e.message())))?;
        Ok(())
    }

    fn put(&mut self, key: &str, value: Value) -> std::result::Result<(), String> {
        if !KEYS.iter().any(|known| known.name == key) {
            return Err(keys::unknown(key));
        }
        let mut table = Table::try_from(&*self).map_err(|e| e.to_string())?;
        match key.split_once('.') {
            Some((outer, inner)) => match table.get_mut(outer).and_then(Value::as_table_mut) {
                Some(inside) => drop(inside.insert(inner.into(), value)),
                None => return Err(keys::unknown(key)),
            },
            None => drop(table.insert(key.into(), value)),
        }
        *self = table.try_into().map_err(|e: toml::de::Error| text::in_words(e.message()))?;
        Ok(())
    }
}
