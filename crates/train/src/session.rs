//! A run in memory: its state, and the steps that it takes. It knows no folder, no log and no command, so that training, resuming
//! and verifying take the same steps; a program may take them in a loop of its own.

use crate::earlier;
use crate::error::run;
use crate::init::Weights;
use crate::run::place::RECIPE;
use crate::task::{Batch, Batches, Data, Part, Task, all_metrics};
use crate::{Config, Error, Result};
use fixnet_autograd::{Graph, Store};
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{self, Checkpoint, Progress};
use fixnet_nn::metrics;
use fixnet_nn::optim::{Optimizer, OptimizerConfig, StepReport};
use fixnet_nn::plan::Plan;
use fixnet_quant::diagnostics::{LayerReport, Watch};
use fixnet_tensor::profile;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Samples that are evaluated at a time, at most.
pub const EVALUATED: usize = 256;

/// The result of a step.
#[derive(Debug)]
pub struct Step {
    /// The mean loss of the batch.
    pub loss: f64,
    /// What the optimizer did.
    pub report: StepReport,
    /// What was seen in each quantized layer, in a step that was looked at.
    pub layers: Option<Vec<LayerReport>>,
}

/// The mean loss over some samples, and then the metrics of the task.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Names and values.
    pub values: Vec<(&'static str, f64)>,
    /// The number of samples.
    pub samples: usize,
}

impl Scores {
    /// The mean loss, and the metrics that follow from sums over samples.
    fn of_sums(task: &dyn Task, loss: f64, sums: &[f64], samples: usize) -> Self {
        let values = std::iter::once(loss / samples.max(1) as f64).chain(task.finish(sums, samples));
        Self { values: all_metrics(task).zip(values).map(|(metric, value)| (metric.name, value)).collect(), samples }
    }

    /// Returns the value of a metric.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(of, _)| *of == name).map(|(_, value)| *value)
    }
}

/// A run: model, optimizer and place in the data.
pub struct Session<'a> {
    config: Config,
    task: Arc<dyn Task>,
    data: &'a dyn Data,
    store: Store,
    net: Box<dyn Layer>,
    optimizer: Optimizer,
    progress: Progress,
    batches: Batches,
    /// Samples of a batch in evaluation.
    evaluated: usize,
    diagnostics: Option<u64>,
}

impl<'a> Session<'a> {
    /// Makes a run that has taken no step.
    ///
    /// # Errors
    /// The network does not fit the data, or a setting does not.
    pub fn new(config: Config, task: Arc<dyn Task>, data: &'a dyn Data) -> Result<Self> {
        let store = Store::seeded(config.seed());
        Self::build(config, task, data, store, Progress::default())
    }

    /// Makes a run that has taken no step and begins as its recipe says, from `weights` where these are given. Notes for the user
    /// are added to `notes`.
    ///
    /// # Errors
    /// As [`new`](Self::new); or most of the weights are those of another model.
    pub fn begin(
        config: Config,
        task: Arc<dyn Task>,
        data: &'a dyn Data,
        weights: Option<&Weights>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let Some(weights) = weights else { return Self::new(config, task, data) };
        let (pretrained, misfits) = weights.read(&config, &*task)?;
        let store = pretrained.begin(Store::seeded(config.seed()));
        let mut session = Self::build(config, task, data, store, Progress::default())?;
        let taken = pretrained.finish(&mut session.store).map_err(|e| Error::from(e).within("--init"))?;
        let found = format!("{} of {} parameters and statistics", taken.count, taken.count + taken.missing.len());
        notes.extend(misfits.iter().map(|line| format!("init: {line}")));
        notes.push(format!("init: {found} taken; optimizer and quantizers start anew"));
        notes.extend(taken.missing.iter().map(|name| format!("init: not found: {name}")));
        notes.extend(weights.notes(&*session.task)?);
        Ok(session)
    }

    /// Makes a run as it was when the checkpoint was saved. Notes for the user are added to `notes`.
    ///
    /// # Errors
    /// The checkpoint does not fit the model, or the data are not those that the run began with; its step is not that of its
    /// place in the data; or an earlier version computed other numbers ([`Error::Earlier`]).
    pub fn resumed(
        config: Config,
        task: Arc<dyn Task>,
        data: &'a dyn Data,
        checkpoint: &Checkpoint,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let place = checkpoint.path().display().to_string();
        // Of other data the place in them means nothing.
        notes.extend(task.check_recorded(&config, &place, checkpoint.metadata())?);
        check_place(&config, data.len(Part::Train), checkpoint)?;
        earlier::check(&config, &*task, checkpoint)?;
        let store = checkpoint.expected_in(Store::seeded(config.seed()));
        let mut session = Self::build(config, task, data, store, checkpoint.progress().clone())?;
        checkpoint.restore(&mut session.store, Some(&mut session.optimizer))?;
        Ok(session)
    }

    fn build(
        config: Config,
        task: Arc<dyn Task>,
        data: &'a dyn Data,
        mut store: Store,
        mut progress: Progress,
    ) -> Result<Self> {
        task.check(&config)?;
        let net = task.build(&mut store, &config)?;
        let samples = data.len(Part::Train);
        let total_steps = u64::from(config.epochs()) * samples.div_ceil(config.batch_size()) as u64;
        let optimizer = Optimizer::new(OptimizerConfig { total_steps, ..config.optimizer().clone() })?;
        let plan = Plan::of(&*net, &mut store, &task.input_shape())?;
        check_last_batch(&plan, samples, config.batch_size())?;
        progress.sums.resize(task.sums(), 0.0);
        let batches = epoch(data, &config, &progress)?;
        let evaluated = plan.batch(EVALUATED);
        Ok(Self { config, task, data, store, net, optimizer, progress, batches, evaluated, diagnostics: None })
    }

    /// Has the first step and every `every`-th be looked at; none of them with `None`. The result of a run does not depend on it.
    pub fn diagnose(&mut self, every: Option<u64>) {
        self.diagnostics = every;
    }

    /// How often steps are looked at.
    pub fn diagnosed(&self) -> Option<u64> {
        self.diagnostics
    }

    /// Takes a step; `None` if the epoch has no batch left.
    ///
    /// # Errors
    /// The batch cannot be read, or a loss or a gradient is not finite.
    pub fn step(&mut self) -> Result<Option<Step>> {
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        profile::mark("load data");
        let step = self.store.step() + 1;
        let due = self.diagnostics.is_some_and(|every| step == 1 || step.is_multiple_of(every));
        let watch = due.then(|| Watch::begin(&mut self.store)).transpose()?;
        let mut g = Graph::train(&mut self.store);
        let x = g.input(batch.inputs.clone());
        let output = self.net.forward(&mut g, &x)?;
        let loss = self.task.loss(&mut g, &output, &batch)?;
        let value = f64::from(loss.tensor().item());
        let sums = self.task.score(&output.tensor(), &batch)?;
        drop((x, output));
        g.backward(loss)?;
        let report = self.optimizer.step(&mut self.store)?;
        profile::mark("optimizer");
        let layers = watch.map(|watch| watch.finish(&mut self.store));
        self.progress.batches += 1;
        self.progress.seen += batch.samples as u64;
        self.progress.loss_sum += value * batch.samples as f64;
        self.progress.sums.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        Ok(Some(Step { loss: value, report, layers }))
    }

    /// Evaluates on a part of the data, until `stop` says so: then there is no result, nor if the part has no samples.
    ///
    /// # Errors
    /// The data cannot be read; or a loss, an output or a metric is not finite. The message names the part.
    pub fn evaluate(&mut self, part: Part, stop: impl Fn() -> bool) -> Result<Option<Scores>> {
        if self.data.is_empty(part) {
            return Ok(None);
        }
        let mut stopped = false;
        let batches = self.data.batches(part, self.evaluated)?.take_while(|_| {
            stopped = stop();
            !stopped
        });
        let scores = evaluate(&*self.task, &*self.net, &mut self.store, batches);
        let scores = scores.map_err(|e| e.within(self.data.name(part)))?;
        Ok((!stopped).then_some(scores))
    }

    /// Returns the means over the samples that the running epoch has seen so far.
    pub fn seen(&self) -> Scores {
        let Progress { seen, loss_sum, sums, .. } = &self.progress;
        Scores::of_sums(&*self.task, *loss_sum, sums, usize::try_from(*seen).unwrap_or(usize::MAX))
    }

    /// Goes on to the next epoch.
    ///
    /// # Errors
    /// The data cannot be read.
    pub fn next_epoch(&mut self) -> Result<()> {
        let sums = vec![0.0; self.task.sums()];
        self.progress = Progress { epoch: self.progress.epoch + 1, sums, ..Progress::default() };
        self.batches = epoch(self.data, &self.config, &self.progress)?;
        Ok(())
    }

    /// Returns whether all epochs are over.
    pub fn is_finished(&self) -> bool {
        self.progress.epoch >= self.config.epochs()
    }

    /// Returns whether the running epoch has no batch left.
    pub fn epoch_is_over(&self) -> bool {
        self.batches.len() == 0
    }

    /// Returns whether the digest of this step is recorded: steps 0, 1, 10, 100, … and the last of each epoch.
    pub fn digest_is_due(&self) -> bool {
        let step = self.store.step();
        step == 0 || step == 10u64.pow(step.ilog10()) || self.epoch_is_over()
    }

    /// Returns blake3 over all state, in hexadecimal.
    pub fn digest(&self) -> String {
        checkpoint::digest(&self.store, &self.optimizer)
    }

    /// Writes a checkpoint.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut metadata = BTreeMap::from([
            (RECIPE.to_string(), self.config.to_toml()?),
            ("fixnet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ]);
        self.task.record(&mut metadata);
        Ok(checkpoint::save(path, &self.store, &self.optimizer, &self.progress, &metadata)?)
    }

    /// What the run was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What is learned.
    pub fn task(&self) -> &dyn Task {
        &*self.task
    }

    /// The model's state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The network with its state, for a step of one's own.
    pub fn parts(&mut self) -> (&dyn Layer, &mut Store, &mut Optimizer) {
        (&*self.net, &mut self.store, &mut self.optimizer)
    }

    /// Where the run stands.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.optimizer.config().total_steps
    }
}

/// Returns the batches that are left of the running epoch.
fn epoch(data: &dyn Data, config: &Config, progress: &Progress) -> Result<Batches> {
    data.epoch(config, progress.epoch, usize::try_from(progress.batches).unwrap_or(usize::MAX))
}

/// Checks that the step of a checkpoint and its place in the data say the same.
fn check_place(config: &Config, samples: usize, checkpoint: &Checkpoint) -> Result<()> {
    let Progress { epoch, batches, seen, .. } = checkpoint.progress();
    let (step, all) = (checkpoint.step(), samples.div_ceil(config.batch_size()) as u64);
    let wrong = |what: &str, found: String| {
        let reason =
            format!("not a usable checkpoint: expected {what}, found {found}; its parts contradict each other");
        Err(run(checkpoint.path(), reason))
    };
    if *epoch > config.epochs() || (*epoch == config.epochs() && *batches > 0) {
        let found = format!("{batches} batches after epoch {epoch}");
        return wrong(&format!("a place within {} epochs", config.epochs()), found);
    }
    if *batches > all {
        return wrong(&format!("at most {all} batches of the running epoch"), batches.to_string());
    }
    if *seen > samples as u64 {
        return wrong(&format!("at most {samples} samples of the running epoch"), seen.to_string());
    }
    // Both factors are below 2^32 or the number of samples, so the product does not overflow 128 bits.
    let expected = u128::from(*epoch) * u128::from(all) + u128::from(*batches);
    if u128::from(step) != expected {
        let place = format!("after {epoch} epochs of {all} batches and {batches} more");
        return wrong(&format!("step {expected} {place}"), format!("step {step}"));
    }
    Ok(())
}

/// Checks that no batch is a single sample where a normalization needs several: better known now than after an epoch.
fn check_last_batch(plan: &Plan, samples: usize, size: usize) -> Result<()> {
    let last = samples.checked_rem(size).filter(|rest| *rest > 0).unwrap_or(size.min(samples));
    if last != 1 {
        return Ok(());
    }
    let one_row = |node: &fixnet_nn::plan::Node| {
        let pixels = node.shape().split_last().map_or(1, |(_, pixels)| pixels.iter().product::<usize>());
        node.get::<fixnet_autograd::ops::FixedNorm>().is_some() && pixels == 1
    };
    match plan.nodes().iter().find(|node| one_row(node)) {
        None => Ok(()),
        Some(norm) => Err(Error::Setting {
            key: "run.batch_size".into(),
            reason: format!(
                "expected batches of at least 2 samples for the batch norm `{}`, found {size}, which leaves one of {samples} \
                 samples for the last batch",
                norm.name()
            ),
        }),
    }
}

/// Runs a network over batches in evaluation and returns the means of loss and metrics.
///
/// # Errors
/// A batch cannot be read, or does not fit the network; or a loss, an output or a metric is not finite.
pub fn evaluate(
    task: &dyn Task,
    net: &dyn Layer,
    store: &mut Store,
    batches: impl Iterator<Item = Result<Batch>>,
) -> Result<Scores> {
    let (mut loss, mut samples, mut sums) = (0.0, 0, vec![0.0; task.sums()]);
    for batch in batches {
        let batch = batch?;
        let mut g = Graph::eval(store);
        let x = g.input(batch.inputs.clone());
        let output = net.forward(&mut g, &x)?;
        let batch_loss = f64::from(task.loss(&mut g, &output, &batch)?.tensor().item());
        let output = output.tensor();
        metrics::check_finite(&output, batch_loss, samples)?;
        loss += batch_loss * batch.samples as f64;
        for (i, (total, sum)) in sums.iter_mut().zip(task.score(&output, &batch)?).enumerate() {
            if !sum.is_finite() {
                let what = task.metrics().get(i).map_or("a metric", |metric| metric.name);
                return Err(fixnet_nn::Error::NotFinite { what, sample: samples, found: sum }.into());
            }
            *total += sum;
        }
        samples += batch.samples;
    }
    Ok(Scores::of_sums(task, loss, &sums, samples))
}
