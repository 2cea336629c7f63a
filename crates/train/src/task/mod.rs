//! A task: what is learned from which data, in one place.
//!
//! A [`Task`] knows the targets of samples, the loss, the metrics and what a report shows; [`Data`] hands out batches. Session,
//! trainer, logs, tables and plots walk [`Task::metrics`] and know no task. A task of another crate joins by [`register`].

mod classification;
pub mod detection;
mod kind;
mod outside;
mod parts;
mod registry;
pub mod regression;
mod section;
pub mod super_resolution;
mod teacher;
mod trial;

pub use classification::{Classification, Labelled};
pub use detection::Detection;
pub use kind::TaskKind;
pub use outside::Outside;
pub use parts::{PartTargets, Parts};
pub use registry::{check, data_key, find, kinds, load, of_plan, of_shape, recorded, register};
pub use regression::Regression;
pub use section::{Curves, Element, Matrix, Picture, Pictures, Scatter, Section, Table};
pub use super_resolution::SuperResolution;
pub use teacher::Teacher;
pub use trial::Trial;

use crate::scores::{Network, Scores};
use crate::{Config, Result};
use fixnet_autograd::{Array, Graph, Store, Var};
use fixnet_data::{ClipForm, Normalize, Sample, SampleForm};
use fixnet_nn::Layer;
use fixnet_nn::metrics::check_finite;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How the numbers of a metric are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// As they are, with four digits.
    Number,
    /// Shares from 0 to 1, written in percent.
    Share,
    /// Decibels, with two digits.
    Decibel,
    /// Quantities of any size, with five significant digits.
    Quantity,
}

impl Unit {
    /// Returns a number in this unit as text, such as `97.25 %`.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Number => format!("{value:.4}"),
            Self::Share => format!("{:.2} %", 100.0 * value),
            Self::Decibel => format!("{value:.2} dB"),
            Self::Quantity => quantity(value),
        }
    }
}

/// A number with five significant digits.
fn quantity(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-4..1e7).contains(&size) => {
            let places = (4.0 - size.log10().floor()).clamp(0.0, 8.0) as usize;
            format!("{value:.places$}")
        }
        _ => format!("{value:.4e}"),
    }
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Higher ones.
    Higher,
    /// Lower ones.
    Lower,
}

impl Better {
    /// Returns whether `value` is better than `other`; of equal ones none is.
    pub fn than(self, value: f64, other: f64) -> bool {
        match self {
            Self::Higher => value > other,
            Self::Lower => value < other,
        }
    }
}

/// A number by which a network is judged: the mean over samples, or what the task makes of sums over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in logs and tables: letters and `_`.
    pub name: &'static str,
    /// How its numbers are written.
    pub unit: Unit,
    /// Which values are better.
    pub better: Better,
}

/// The loss, which every task has.
pub const LOSS: Metric = Metric { name: "loss", unit: Unit::Number, better: Better::Lower };

/// A part of the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What is learned from.
    Train,
    /// What was held out of training, evaluated after each epoch.
    Validation,
    /// What a network is judged by.
    Test,
}

impl Part {
    /// All parts, in the order in which tables show them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns its name in logs: `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Samples of one step.
#[derive(Debug)]
pub struct Batch {
    /// The input of the network; the first axis is that of the samples.
    pub inputs: Tensor,
    /// The number of samples.
    pub samples: usize,
    /// Their targets, in a type that the task knows.
    pub targets: Box<dyn Any + Send + Sync>,
}

/// What a network says of one sample.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Answer {
    /// Another picture: the enlarged one.
    Picture(fixnet_data::Picture),
    /// Names and their probabilities, the most probable first. Of equals the one with the lower number is first.
    Classes(Vec<(String, f64)>),
    /// Numbers with their names: the target of a regression, in its unit.
    Numbers(Vec<(String, f64)>),
    /// Objects with the names of their classes, by falling score, in pixels of the image.
    Objects(Vec<(String, fixnet_data::Detection)>),
}

/// Metrics that follow from the outputs of all samples together, not from sums over them.
pub trait Collector {
    /// Takes the output of a batch.
    ///
    /// # Errors
    /// The output does not fit the targets.
    fn add(&mut self, output: &Tensor, batch: &Batch) -> Result<()>;

    /// Computes the metrics of the task, in their order.
    ///
    /// # Errors
    /// What was collected makes no sense.
    fn finish(&self) -> Result<Vec<f64>>;
}

/// Batches in their order.
pub type Batches = Box<dyn ExactSizeIterator<Item = Result<Batch>> + Send>;

/// The data of a task.
pub trait Data: Send + Sync {
    /// Returns the number of samples of a part; 0 where there is no such part.
    fn len(&self, part: Part) -> usize;

    /// Returns whether a part has no samples.
    fn is_empty(&self, part: Part) -> bool {
        self.len(part) == 0
    }

    /// Returns what the samples of a part are, for messages, such as `digits test`.
    fn name(&self, part: Part) -> String;

    /// Returns the batches of an epoch over the training data, as the configuration shuffles and varies them: a function of its
    /// seed, the number of the epoch (counted from 0) and the index of a sample alone. The first `skip` batches are left out.
    ///
    /// # Errors
    /// The data cannot be read.
    fn epoch(&self, config: &Config, number: u32, skip: usize) -> Result<Batches>;

    /// Returns the batches of a part in their order, not varied.
    ///
    /// # Errors
    /// The data cannot be read.
    fn batches(&self, part: Part, batch_size: usize) -> Result<Batches>;

    /// Returns the samples of a part as named arrays, for other programs: inputs as a network with its own normalization takes
    /// them ([N, C, H, W] from 0 to 1 for images), and targets.
    ///
    /// # Errors
    /// The data cannot be read; or the task has no such form.
    fn arrays(&self, part: Part) -> Result<Vec<(String, Array)>>;

    /// Returns notes for the user on data to learn from: what is odd about them, and what was done with them.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Returns the data in the type that their task knows.
    fn as_any(&self) -> &dyn Any;
}

/// What is learned. The value knows what a network has to know of its data (shapes, classes, normalization), not the data.
pub trait Task: Send + Sync {
    /// Returns its name in recipes.
    fn name(&self) -> &'static str;

    /// Returns the metrics beside the loss, the most important first.
    fn metrics(&self) -> &'static [Metric];

    /// Returns the shape of an input without the axis of the samples.
    fn input_shape(&self) -> Vec<usize>;

    /// Returns what a sample is called in messages, if there are several: `images`, `sequences`, or `samples` of a table.
    fn noun(&self) -> &'static str {
        match self.input_shape().len() {
            3 => "images",
            2 => "sequences",
            _ => "samples",
        }
    }

    /// Returns whether inputs may have other sizes than that of [`input_shape`](Self::input_shape).
    fn any_size(&self) -> bool {
        false
    }

    /// Builds the network of a configuration.
    ///
    /// # Errors
    /// The network does not fit the task or the shape of its inputs.
    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>>;

    /// Puts around a network of the user's own what [`build`](Self::build) puts around a model: a change of units, say.
    fn wrap(&self, net: Box<dyn Layer>) -> Box<dyn Layer> {
        net
    }

    /// Checks settings that depend on the data.
    ///
    /// # Errors
    /// A setting does not fit.
    fn check(&self, config: &Config) -> Result<()>;

    /// Adds to the plan of a network what the data decide: the normalization of inputs, names of classes.
    fn complete(&self, plan: Plan) -> Plan;

    /// Writes what the network has to know of its data to the metadata of a checkpoint.
    fn record(&self, metadata: &mut BTreeMap<String, String>);

    /// Checks that this is the task, with the same data, that a checkpoint recorded. Returns notes for the user.
    ///
    /// # Errors
    /// The data are others; the message names the part that differs.
    fn check_recorded(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>>;

    /// Checks that what a configuration adds to the task ([`configured`](Self::configured)) is what a checkpoint recorded: the network
    /// that it learns from, say.
    ///
    /// # Errors
    /// It is another one; or it cannot be read.
    fn check_configured(&self, _config: &Config, _place: &str, _metadata: &BTreeMap<String, String>) -> Result<()> {
        Ok(())
    }

    /// Returns notes on weights to start from whose metadata these are: that they were trained on other classes, say.
    ///
    /// # Errors
    /// The metadata are damaged.
    fn notes_on_weights(&self, _place: &str, _metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Returns the number of values of the output per sample, for messages and files; `None` where it depends on the input.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// Returns the names of the classes, where the task has classes whose names are known.
    fn class_names(&self) -> Option<&[String]> {
        None
    }

    /// Returns the numbers that classes have in files of COCO, where they came from one; elsewhere they are 0, 1, ….
    fn category_ids(&self) -> Option<&[u64]> {
        None
    }

    /// Returns the task of a network whose classes have these numbers in files of COCO, where the task finds objects.
    ///
    /// # Errors
    /// They are not one for each class.
    fn with_category_ids(&self, _place: &str, _ids: Vec<u64>) -> Result<Option<Arc<dyn Task>>> {
        Ok(None)
    }

    /// Returns the task as it trains by a configuration on these data, where that is not the task itself: with weights of classes, say.
    /// Sessions call it, whoever made the task.
    ///
    /// # Errors
    /// A setting does not fit the data.
    fn configured(&self, _config: &Config, _data: &dyn Data) -> Result<Option<Arc<dyn Task>>> {
        Ok(None)
    }

    /// Gives the graph of a training step what networks of the task want to know of the targets beside their input
    /// ([`Graph::give`]): nothing, unless the task says otherwise.
    ///
    /// # Errors
    /// The targets are none of the task.
    fn prepare(&self, _g: &mut Graph<'_>, _batch: &Batch) -> Result<()> {
        Ok(())
    }

    /// Makes a batch of samples that the caller holds: `inputs` [N, ...] as the network takes them, normalized, and one target per sample.
    ///
    /// # Errors
    /// The inputs or the targets do not fit the task; or it has targets of another form than one number per sample.
    fn batch(&self, _inputs: Tensor, _targets: &[f64]) -> Result<Batch> {
        let reason = format!("expected a task with one target per sample, found {}", self.name());
        Err(crate::Error::Setting { key: "task".into(), reason })
    }

    /// Returns how inputs are normalized before the network, where that is the same for all places of a channel.
    fn normalize(&self) -> Option<&Normalize> {
        None
    }

    /// Computes the loss of a batch, the mean over its samples, or over what [`terms`](Self::terms) counts.
    ///
    /// # Errors
    /// The output does not fit the targets.
    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var>;

    /// Returns how many sums over samples the metrics follow from: one per metric, unless the task says otherwise.
    fn sums(&self) -> usize {
        self.metrics().len()
    }

    /// Computes the sums over the samples of a batch from which the metrics follow: each metric itself, unless the task
    /// [finishes](Self::finish) them otherwise. It is called behind [`loss`](Self::loss) of the batch.
    ///
    /// # Errors
    /// The output does not fit the targets.
    fn score(&self, output: &Tensor, batch: &Batch) -> Result<Vec<f64>>;

    /// Computes the metrics from the sums over all batches, of so many samples: the means, unless the task says otherwise.
    fn finish(&self, sums: &[f64], samples: usize) -> Vec<f64> {
        sums.iter().map(|sum| sum / samples.max(1) as f64).collect()
    }

    /// Returns how many terms the loss of these samples is the mean of, from the sums over them: the samples, unless the task says
    /// otherwise. The loss of several batches, and the gradient of a step, is the sum over all terms divided by their number. Where that
    /// is 0, a loss is that sum itself.
    fn terms(&self, _sums: &[f64], samples: usize) -> f64 {
        samples as f64
    }

    /// Returns what collects the outputs of an evaluation, for a task whose metrics do not follow from sums. It has none to
    /// [finish](Self::finish) then, and an epoch of training has the loss alone.
    fn collector(&self) -> Option<Box<dyn Collector + '_>> {
        None
    }

    /// Loads the test data of a configuration alone, for a network of this task.
    ///
    /// # Errors
    /// A file is missing or broken; the data do not fit the network.
    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>>;

    /// Returns the task of a network whose sequences are made of recordings in this way, where the task knows recordings.
    fn with_clips(&self, _clips: ClipForm) -> Option<Arc<dyn Task>> {
        None
    }

    /// Returns the form of the samples that a network of this task takes, with the names of columns where these are known.
    fn sample_form(&self) -> SampleForm {
        let mut form = SampleForm::of_shape(self.input_shape());
        form.any_size = self.any_size();
        form
    }

    /// Returns what a network of this task says of each sample. The samples have the [form](Self::sample_form) of the task: images of
    /// bytes, rows as they are in a table. The task normalizes them. An answer must not depend on the samples beside it.
    /// [`Predictor`](crate::Predictor) calls it.
    ///
    /// # Errors
    /// An output is not finite; or the task has no answer about single samples.
    fn predict(&self, _net: &dyn Layer, _store: &mut Store, _samples: &[Sample]) -> Result<Vec<Answer>> {
        let reason = format!("expected a task that answers about single samples, found {}", self.name());
        Err(crate::Error::Setting { key: "task".into(), reason })
    }

    /// Evaluates a trained network on test data, and returns what a report shows of it beside curves and tables of metrics.
    ///
    /// # Errors
    /// The data cannot be read.
    fn report(&self, network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)>;
}

/// Checks that samples [N, ...] have the shape that a network takes, and that there is one target for each; returns N.
fn check_given(task: &dyn Task, inputs: &Tensor, targets: usize) -> Result<usize> {
    let (expected, found) = (task.input_shape(), inputs.shape());
    if found.len() != expected.len() + 1 || (found[1..] != expected && !task.any_size()) || found[0] == 0 {
        let expected = format!("[N, {}]", expected.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
        return Err(fixnet_tensor::Error::shape("inputs of a batch", expected, found).into());
    }
    if found[0] != targets {
        let expected = format!("{}, one per sample", found[0]);
        return Err(fixnet_autograd::Error::setting("targets of a batch", expected, targets).into());
    }
    Ok(targets)
}

/// Computes the outputs of a network for samples of one shape, all of them finite.
fn outputs(net: &dyn Layer, store: &mut Store, samples: &[Sample], normalize: &Normalize) -> Result<Tensor> {
    outputs_of(net, store, Sample::batch(samples, normalize)?)
}

/// Computes the outputs of a network for inputs [N, ...] as it takes them, all of them finite.
fn outputs_of(net: &dyn Layer, store: &mut Store, inputs: Tensor) -> Result<Tensor> {
    let mut g = Graph::eval(store);
    let x = g.input(inputs);
    let output = net.forward(&mut g, &x)?.tensor();
    check_finite(&output, 0.0, 0)?;
    Ok(output)
}

/// Returns the loss and the metrics of a task.
pub fn all_metrics(task: &dyn Task) -> impl Iterator<Item = Metric> + use<> {
    std::iter::once(LOSS).chain(task.metrics().iter().copied())
}

/// Returns the metrics of several tasks, each once, and the loss last.
pub fn joined_metrics<'a>(tasks: impl IntoIterator<Item = &'a [Metric]>) -> Vec<Metric> {
    let mut all: Vec<Metric> = Vec::new();
    for metric in tasks.into_iter().flatten() {
        if !all.contains(metric) {
            all.push(*metric);
        }
    }
    all.push(LOSS);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_five_digits() {
        let texts = [0.0, 1.0, -123.456, 12345.678, 123456.7, 0.00123456, 1e-9, 2.5e12].map(|v| Unit::Quantity.text(v));
        assert_eq!(texts, ["0", "1.0000", "-123.46", "12346", "123457", "0.0012346", "1.0000e-9", "2.5000e12"]);
    }
}
