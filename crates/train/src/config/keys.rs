//! The table of all keys of a recipe: what each means, which values it takes, which flag of the command sets it, and when it has
//! no effect. Flags, warnings, `fixnet recipes --keys` and `docs/reference/recipe.md` are made from it.

use super::Config;
use super::idle::{
    ENDS, FIXED_SCALES, FLOAT, FLOAT_GRADIENTS, FLOAT_WEIGHTS, Idle, NO_BOXES, NO_CLASSES, NO_DECAY, NO_LABELS,
    NO_OUTPUT, NO_OUTPUT_SCALE, NO_PAPER_RULE, NO_PATCHES, NO_STEPS, NO_TWIN, NOT_ADDITIVE,
};
use super::schedule_kind::ScheduleKind;
use fixnet_nn::models;
use std::borrow::Cow;
use toml::Table;

/// How the text of a flag is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As a text.
    Text,
    /// As a TOML value.
    Number,
    /// As a seed, or in lists also as a range of seeds.
    Seed,
}

/// A flag of `fixnet train` and `fixnet compare`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// Its name where it takes a list, if that is another one.
    pub plural: Option<&'static str>,
    /// What stands for its value in the help.
    pub value: &'static str,
    /// How its text is read.
    pub kind: Kind,
}

/// A key of a recipe.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name: `TABLE.KEY`, or `KEY` for the two at the top.
    pub name: &'static str,
    /// Its name in the flat recipes of fixnet 0.1 and 0.2; empty if it is newer.
    pub(super) old: &'static str,
    /// The flag that sets it.
    pub flag: Option<Flag>,
    /// Whether its value is a list.
    pub holds_list: bool,
    values: Values,
    /// What it means.
    pub about: &'static str,
    /// When it has no effect, in words.
    pub ineffective: &'static str,
    idle: fn(&Config) -> bool,
}

/// The values of a key, in words.
#[derive(Debug, Clone, Copy)]
enum Values {
    Text(&'static str),
    /// Those of a registry, to which programs add.
    Listed(fn() -> String),
}

pub(super) const fn key(name: &'static str, old: &'static str, values: &'static str, about: &'static str) -> Key {
    Key {
        name,
        old,
        flag: None,
        holds_list: false,
        values: Values::Text(values),
        about,
        ineffective: "",
        idle: |_| false,
    }
}

impl Key {
    const fn flag(self, name: &'static str, value: &'static str, kind: Kind) -> Self {
        Self { flag: Some(Flag { name, plural: None, value, kind }), ..self }
    }

    const fn plural(self, plural: &'static str) -> Self {
        match self.flag {
            Some(flag) => Self { flag: Some(Flag { plural: Some(plural), ..flag }), ..self },
            None => self,
        }
    }

    const fn without(self, (ineffective, idle): Idle) -> Self {
        Self { ineffective, idle, ..self }
    }

    const fn list(self) -> Self {
        Self { holds_list: true, ..self }
    }

    const fn listed(self, values: fn() -> String) -> Self {
        Self { values: Values::Listed(values), ..self }
    }

    /// Returns the values that it takes, in words.
    pub fn values(&self) -> Cow<'static, str> {
        match self.values {
            Values::Text(text) => text.into(),
            Values::Listed(list) => list().into(),
        }
    }

    /// Whether a run of this configuration does not depend on the key.
    pub fn is_ineffective(&self, config: &Config) -> bool {
        (self.idle)(config)
    }
}

/// The rows of a registry.
fn joined<T>(rows: Vec<T>, text: impl Fn(&T) -> String) -> String {
    rows.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A form and what it means.
fn explained(form: &str, about: &str) -> String {
    if about.is_empty() { form.into() } else { format!("{form} ({about})") }
}

fn sources() -> String {
    joined(fixnet_data::source_kinds(), |kind| explained(kind.form, kind.about))
}

fn models() -> String {
    fixnet_export::onnx::import::register();
    joined(models::kinds(), |kind| explained(kind.form, kind.about))
}

fn gradient_rules() -> String {
    joined(fixnet_quant::rules(), |kind| kind.form.into())
}

fn schedule_kinds() -> String {
    joined(ScheduleKind::names(), |name| (*name).into())
}

fn optimizers() -> String {
    let names = joined(fixnet_nn::optim::update_rules(), |rule| rule.name().into());
    format!("{names}; with a t at the end, transition-rate scheduling (sgdt, …)")
}

pub(super) const NUMBER: &str = "a number of at least 0";
const SHARE: &str = "0 to 1";
const BELOW_ONE: &str = "0 to below 1";

/// All keys, in the order of the reference page.
pub const KEYS: &[Key] = &[
    key("name", "name", "a text", "The name of the run; the stem of the recipe's file if omitted."),
    key(
        "task",
        "",
        "classification, detection, regression, super-resolution, or a task that a program registered",
        "What is learned.",
    ),
    key("data.source", "data", "", "Where the data come from.").listed(sources).flag("data", "KIND:PATH", Kind::Text),
    key("data.test", "", "as data.source", "Where the test data come from; the test part of `data.source` if omitted."),
    key(
        "data.target",
        "",
        "the name of a column, or its number counted from 0",
        "The column of a table (`csv:`) that holds what is predicted; the last one if omitted.",
    )
    .flag("target", "COLUMN", Kind::Text),
    key(
        "data.image_size",
        "image_size",
        "1 to 16384",
        "Rows and columns to which the images of a folder are scaled; of a canvas on which images with boxes are placed, 128 if omitted.",
    ),
    key(
        "data.seconds",
        "",
        "0.01 to 60",
        "Seconds to which recordings (`wav:`) are cut or filled up with silence; 1 if omitted, and 0.25 of `tones`.",
    ),
    key("data.window_ms", "", "1 to 1000", "Milliseconds of a recording of which one spectrum is taken; 25 if omitted."),
    key("data.hop_ms", "", "1 to 1000", "Milliseconds from one spectrum of a recording to the next; 10 if omitted."),
    key("data.mel_bands", "", "1 to 512", "Bands in which the energy of a spectrum is summed; 40 if omitted."),
    key(
        "data.validation",
        "validation",
        "0 to below 1",
        "The share of the training images that is held out and evaluated after each epoch.",
    )
    .flag("validation", "SHARE", Kind::Number),
    key("data.patch", "", "at least 1", "Rows and columns of the patches that are cut from small pictures.")
        .without(NO_PATCHES),
    key("data.patches", "", "at least 1", "Patches of each picture in an epoch.").without(NO_PATCHES),
    key("model.name", "model", "", "The network.").listed(models).flag("model", "MODEL", Kind::Text),
    key(
        "quantization.bits",
        "bits",
        "W/A/G, each 1 to 8 (gradients 2 to 8), or 32 for float; 32/A/32 quantizes activations alone",
        "Bits of weights, activations and gradients.",
    )
    .flag("bits", "W/A/G", Kind::Text),
    key(
        "quantization.scheme",
        "scheme",
        "lbt or trs",
        "How weights and activations are quantized: lbt multiplies levels by their scale, trs does not.",
    )
    .flag("scheme", "SCHEME", Kind::Text)
    .without(FLOAT),
    key(
        "quantization.weight_scales",
        "weight_scales",
        "tensor or channel",
        "One scale per weight tensor (tensor), or one per output channel (channel).",
    )
    .flag("weight-scales", "tensor|channel", Kind::Text)
    .without(FLOAT_WEIGHTS),
    key("quantization.scales", "scales", "learned or fixed", "Whether the scales of quantizers are learned or fixed.")
        .flag("scales", "learned|fixed", Kind::Text)
        .without(FLOAT),
    key("quantization.gradient_rule", "gradient_rule", "", "How gradient quantizers choose their interval.")
        .listed(gradient_rules)
        .flag("gradient-rule", "RULE", Kind::Text)
        .plural("gradient-rules")
        .without(FLOAT_GRADIENTS),
    key("quantization.gradient_rounding", "gradient_rounding", "stochastic or nearest", "How gradients are rounded.")
        .flag("gradient-rounding", "stochastic|nearest", Kind::Text)
        .without(FLOAT_GRADIENTS),
    key(
        "quantization.first_last_bits",
        "edges",
        "2 to 8, or 32 for float",
        "Bits of the first convolution and the last layer.",
    )
    .flag("first-last-bits", "BITS", Kind::Number),
    key(
        "quantization.first_last_gradient_rule",
        "edge_rule",
        "as quantization.gradient_rule",
        "The gradient rule of the first convolution and the last layer; that of the other layers if omitted.",
    )
    .without(ENDS),
    key(
        "quantization.output_scale",
        "output_scale",
        "true or false",
        "Whether a quantized last layer whose values omit their scales has a learned factor of its output.",
    )
    .without(NO_OUTPUT),
    key(
        "quantization.output_scale_start",
        "output_scale_start",
        "operands or output",
        "The first value of that factor: from the scales of the operands, or from the output of the first batch.",
    )
    .without(NO_OUTPUT_SCALE),
    key(
        "quantization.scale_deviation",
        "scale_deviation",
        "population or sample",
        "The standard deviation that first scales are multiples of.",
    )
    .without(FLOAT),
    key(
        "quantization.input_shifts",
        "",
        "none or learned",
        "Whether inputs of either sign of quantized fully connected layers are shifted by learned numbers, which the bias takes out.",
    )
    .without(FLOAT_WEIGHTS),
    key(
        "quantization.attention_scales",
        "",
        "tensor or head",
        "One scale each for q, k and v of a quantized attention (tensor), or one each for every head (head).",
    )
    .without(FLOAT),
    key(
        "optimizer.name",
        "optimizer",
        "",
        "The optimizer. One of another update rule than the recipe's comes with its usual learning rate and settings.",
    )
    .listed(optimizers)
    .flag("optimizer", "OPTIMIZER", Kind::Text)
    .plural("optimizers"),
    key("optimizer.lr", "lr", NUMBER, "The first learning rate; U_0 of a twin.").flag("lr", "LR", Kind::Number),
    key("optimizer.weight_decay", "weight_decay", NUMBER, "Weight decay: L2, but decoupled with adamw."),
    key("optimizer.decay_groups", "decay_groups", "weights or all", "Whether biases and normalizations decay too.")
        .without(NO_DECAY),
    key(
        "optimizer.clip_norm",
        "",
        "a number above 0",
        "The largest norm of all gradients together, those of scales apart; larger ones are scaled down to it.",
    ),
    key("optimizer.momentum", "momentum", "0 to below 1", "The momentum of sgd and rmsprop."),
    key("optimizer.nesterov", "nesterov", "true or false", "Nesterov's momentum in sgd."),
    key(
        "optimizer.betas",
        "betas",
        "two numbers from 0 to below 1",
        "beta1 and beta2 of adam, adamw, nadam and adamax.",
    ).list(),
    key(
        "optimizer.eps",
        "eps",
        "a number above 0",
        "The number that keeps a divisor from 0, in all optimizers but sgd.",
    ),
    key("optimizer.momentum_decay", "momentum_decay", NUMBER, "How fast the momentum of nadam rises."),
    key("optimizer.alpha", "alpha", "0 to below 1", "The share of the old mean square in rmsprop."),
    key("optimizer.lr_decay", "lr_decay", NUMBER, "How fast the learning rate of adagrad falls."),
    key(
        "optimizer.own",
        "",
        "a table",
        "Settings of an update rule that a program registered, by the names that it gives them.",
    ),
    key("optimizer.scale_lr", "scale_lr", NUMBER, "The learning rate of learned scales.").without(FLOAT),
    key(
        "optimizer.latent_lr_factor",
        "latent_lr_factor",
        NUMBER,
        "The factor of the learning rate of latent weights.",
    )
    .without(FLOAT_WEIGHTS),
    key(
        "optimizer.groups",
        "",
        "tables `[[optimizer.groups]]`, whose keys are below",
        "Settings of the parameters whose names match a pattern; of several groups that match, the first counts.",
    ).list(),
    key("schedule.kind", "schedule", "", "The schedule of the learning rate.").listed(schedule_kinds),
    key("schedule.scales", "scale_schedule", "as schedule.kind", "The schedule of `optimizer.scale_lr`.")
        .without(FIXED_SCALES),
    key(
        "schedule.warmup",
        "warmup",
        "below 1 a fraction of the run, else steps",
        "How long the learning rate rises before the schedule begins.",
    ),
    key(
        "schedule.milestones",
        "milestones",
        "fractions of the run",
        "Where a step schedule multiplies the rate by `schedule.step_factor`.",
    ).list()
    .without(NO_STEPS),
    key("schedule.step_factor", "step_factor", NUMBER, "The factor of a step schedule.").without(NO_STEPS),
    key("transition.factor", "transition_factor", NUMBER, "lambda of the target transition rate.")
        .without(NO_PAPER_RULE),
    key(
        "transition.momentum",
        "transition_momentum",
        "0 to below 1",
        "m, the share of the old running transition rate.",
    )
    .without(NO_PAPER_RULE),
    key(
        "transition.schedule",
        "transition_schedule",
        "as schedule.kind",
        "The schedule of the target transition rate, with the same milestones and factor; with `auto` that of U_t too. Omitted, it is \
         that of the learning rate with `auto`, and a cosine with a rule of the paper.",
    )
    .without(NO_TWIN),
    key(
        "transition.warmup",
        "transition_warmup",
        "below 1 a fraction of the run, else steps",
        "The warm-up of the target transition rate, with `auto` of U_t too. Omitted, it is that of the learning rate with `auto`, and 0 \
         with a rule of the paper.",
    )
    .without(NO_TWIN),
    key("transition.scope", "transition_scope", "model or layer", "What has a transition rate of its own.")
        .without(NO_TWIN),
    key(
        "transition.rule",
        "talr_rule",
        "auto (target and rates follow from what is measured), paper (additive), multiplicative or damped[:MOMENTUM]",
        "How U_t follows from the transition rates. `transition = \"auto\"` in place of the table is this key, with the defaults of all others.",
    )
    .flag("transition", "RULE", Kind::Text)
    .without(NO_TWIN),
    key("transition.gain", "talr_gain", NUMBER, "eta over U_0, the gain of the additive rule.")
        .without(NOT_ADDITIVE),
    key("loss.label_smoothing", "", "0 to below 1", "The share of each label that is spread over all classes in training.")
        .flag("label-smoothing", "SHARE", Kind::Number)
        .without(NO_LABELS),
    key(
        "loss.class_weights",
        "",
        "none, balanced, or a list with a number of at least 0 per class",
        "How much each class counts in the loss of training: alike, by the inverse of its number of training samples, or as the \
         list says. Weights are scaled to a mean of 1 over the training samples.",
    )
    .flag("class-weights", "none|balanced|LIST", Kind::Text)
    .list()
    .without(NO_LABELS),
    key(
        "loss.teacher",
        "",
        "a run folder, a checkpoint or a packed network",
        "A trained network. What is learned in place of classes are the probabilities that it gives the same samples, as they were varied \
         (the distributional loss).",
    )
    .flag("teacher", "RUN", Kind::Text)
    .without(NO_CLASSES),
    key("augmentation.crop_padding", "crop_padding", "pixels", "Random crops after so many pixels of padding."),
    key("augmentation.flip", "flip", "true or false", "Random horizontal flips."),
    key("augmentation.quarter_turns", "", "true or false", "Random quarter turns of square images and of patches."),
    key("augmentation.rotation", "rotation", "degrees from 0 to 180", "Random rotation by at most this angle."),
    key("augmentation.shift", "shift", SHARE, "Random shift by at most this share of height and width."),
    key("augmentation.brightness", "brightness", SHARE, "Random brightness: factors from 1 - this to 1 + this."),
    key("augmentation.contrast", "contrast", SHARE, "Random contrast, in the same way."),
    key("augmentation.saturation", "saturation", SHARE, "Random saturation, in the same way."),
    key("augmentation.cutout", "cutout", "pixels", "The side of a square that is blanked at a random place."),
    key("augmentation.mixup", "mixup", SHARE, "alpha of mixup; 0 is off."),
    key("augmentation.cutmix", "", SHARE, "alpha of cutmix; 0 is off. With mixup on too, each image has one of the two."),
    key("augmentation.erasing", "", SHARE, "The probability with which a random rectangle of an image is blanked."),
    key("detection.scale", "", BELOW_ONE, "Images with boxes are scaled by factors from 1 - this to 1 + this, and put at a random place.")
        .without(NO_BOXES),
    key("detection.crop", "", BELOW_ONE, "A random window of an image with boxes, without up to this share of its height and width.")
        .without(NO_BOXES),
    key("detection.keep", "", SHARE, "A box of which less than this share is left is dropped; others are clipped.")
        .without(NO_BOXES),
    key("detection.mosaic", "", SHARE, "The probability with which an image with boxes is put beside three others.")
        .without(NO_BOXES),
    key("run.epochs", "epochs", "at least 1", "Passes over the training data.").flag("epochs", "EPOCHS", Kind::Number),
    key("run.batch_size", "batch_size", "at least 1", "Samples per step.").flag("batch-size", "BATCH_SIZE", Kind::Number),
    key(
        "run.accumulate",
        "",
        "at least 1",
        "Batches per step of the optimizer: it moves by the mean gradient of all their samples.",
    )
    .flag("accumulate", "BATCHES", Kind::Number),
    key("run.seed", "seed", "0 to 2^63 - 1", "The seed of all randomness.").flag("seed", "SEED", Kind::Seed).plural("seeds"),
    key(
        "run.init",
        "init",
        "a run folder or a safetensors file",
        "The weights to start from: of another run, a checkpoint, or a file of PyTorch weights.",
    )
    .flag("init", "CHECKPOINT", Kind::Text),
    key(
        "run.keep_best",
        "",
        "loss, or another metric of the task",
        "Keeps the checkpoint of the epoch with the best value of this metric over the validation data, or without them over \
         the test data.",
    )
    .flag("keep-best", "METRIC", Kind::Text),
    key(
        "run.patience",
        "",
        "at least 1",
        "Epochs without improvement after which the run stops early, by the metric of `run.keep_best` or else the first of the \
         task.",
    )
    .flag("patience", "EPOCHS", Kind::Number),
    key(
        "run.extended",
        "",
        "pairs [E, N]",
        "Written by `fixnet resume --epochs`: after E epochs, a run of N epochs was extended to more.",
    ).list(),
    key("run.log_every", "", "at least 1", "Steps between the events of the log; never changes the result.")
        .flag("log-every", "STEPS", Kind::Number),
    key("run.tensorboard", "tensorboard", "true or false", "Writes event files of TensorBoard; never changes the result."),
];

/// Returns the key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Returns the key that a flag of this name sets, in its form for one value or for lists.
pub fn find_by_flag(name: &str) -> Option<&'static Key> {
    let has = |key: &&Key| key.flag.is_some_and(|flag| flag.name == name || flag.plural == Some(name));
    KEYS.iter().find(has)
}

/// Returns the message about a key that does not exist.
pub(super) fn unknown(name: &str) -> String {
    match KEYS.iter().find(|key| key.old == name || key.name.ends_with(&format!(".{name}"))) {
        Some(key) => format!("unknown key; it is `{}` now (fixnet recipes --keys lists all)", key.name),
        None => "unknown key; fixnet recipes --keys lists all".into(),
    }
}

/// Returns the keys of a flat recipe of fixnet 0.2 with their new names; none if the recipe is not flat.
pub(super) fn moved(table: &Table) -> Vec<(&'static str, &'static str)> {
    let flat = |key: &&Key| key.old != key.name && table.get(key.old).is_some_and(|value| !value.is_table());
    KEYS.iter().filter(|key| !key.old.is_empty()).filter(flat).map(|key| (key.old, key.name)).collect()
}
