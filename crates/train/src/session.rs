//! A run in memory: its state, and the steps that it takes. It knows no folder, no log and no command, so that training, resuming
//! and verifying take the same steps; a program may take them in a loop of its own.

mod given;
mod held;
mod passes;
mod place;

pub use held::HeldData;

use crate::earlier;
use crate::evaluation::{EVALUATED, evaluate, scores_of};
use crate::init::Weights;
use crate::judge::Judge;
use crate::model_file;
use crate::run::names::RECIPE;
use crate::scores::Scores;
use crate::task::{Batches, Data, Part, Task};
use crate::{Config, Error, Result};
use fixnet_autograd::{Group, Param, Store};
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{self, Checkpoint, Progress};
use fixnet_nn::optim::{Optimizer, OptimizerConfig, StepReport};
use fixnet_nn::plan::Plan;
use fixnet_quant::diagnostics::{LayerReport, Watch};
use fixnet_tensor::profile;
use passes::Passes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

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

/// A run: model, optimizer and place in the data. The data are borrowed, or shared: a session of an `Arc<dyn Data>` borrows nothing and is a
/// `Session<'static>`.
pub struct Session<'a> {
    config: Config,
    task: Arc<dyn Task>,
    data: HeldData<'a>,
    store: Store,
    net: Box<dyn Layer>,
    optimizer: Optimizer,
    progress: Progress,
    batches: Batches,
    /// Whether steps on batches of the caller's have left `batches` behind.
    behind: bool,
    /// Samples of a batch in evaluation.
    evaluated: usize,
    diagnostics: Option<u64>,
    judge: Option<Judge>,
    /// Steps of an epoch.
    epoch_steps: u64,
    /// Whether a step failed, so that the state belongs to no step.
    failed: bool,
}

impl<'a> Session<'a> {
    /// Makes a run that has taken no step.
    ///
    /// # Errors
    /// The network does not fit the data, or a setting does not.
    pub fn new(config: Config, task: Arc<dyn Task>, data: impl Into<HeldData<'a>>) -> Result<Self> {
        let store = Store::seeded(config.seed());
        let model = model(task.clone());
        Self::build(config, task, data.into(), store, Progress::default(), model)
    }

    /// Makes a run of a network of your own, which has taken no step. `build` puts its parameters into the store that it is
    /// given; the model that the configuration names is not looked at. What other calls and the command build from the recipe
    /// alone (`resume`, `verify`, `eval`, `export`) would build that model instead: go on with
    /// [`resumed_with_network`](Self::resumed_with_network), or give the network a name
    /// ([`register_model`](fixnet_nn::models::register_model)).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_network(
        config: Config,
        task: Arc<dyn Task>,
        data: impl Into<HeldData<'a>>,
        build: impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>>,
    ) -> Result<Self> {
        let store = Store::seeded(config.seed());
        let wrapped = wrapped(task.clone(), build);
        Self::build(config, task, data.into(), store, Progress::default(), wrapped)
    }

    /// Makes a run of a network of your own as it was when the checkpoint was saved. Notes for the user are added to `notes`.
    ///
    /// # Errors
    /// As [`resumed`](Self::resumed).
    pub fn resumed_with_network(
        config: Config,
        task: Arc<dyn Task>,
        data: impl Into<HeldData<'a>>,
        checkpoint: &Checkpoint,
        build: impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let wrapped = wrapped(task.clone(), build);
        Self::restored(config, task, data.into(), checkpoint, wrapped, notes)
    }

    /// Makes a run that has taken no step and begins as its recipe says, from `weights` where these are given. Notes for the user
    /// are added to `notes`.
    ///
    /// # Errors
    /// As [`new`](Self::new); or most of the weights are those of another model.
    pub fn begin(
        config: Config,
        task: Arc<dyn Task>,
        data: impl Into<HeldData<'a>>,
        weights: Option<&Weights>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let data = data.into();
        notes.extend(data.notes());
        let Some(weights) = weights else { return Self::new(config, task, data) };
        let (pretrained, misfits) = weights.read(&config, &*task)?;
        let store = pretrained.begin(Store::seeded(config.seed()));
        let model = model(task.clone());
        let mut session = Self::build(config, task, data, store, Progress::default(), model)?;
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
        data: impl Into<HeldData<'a>>,
        checkpoint: &Checkpoint,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let model = model(task.clone());
        Self::restored(config, task, data.into(), checkpoint, model, notes)
    }

    fn restored(
        config: Config,
        task: Arc<dyn Task>,
        data: HeldData<'a>,
        checkpoint: &Checkpoint,
        build: impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>>,
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let path = checkpoint.path().display().to_string();
        model_file::check_unchanged(&config, checkpoint)?;
        let config = model_file::recorded(&config, checkpoint)?;
        // Of other data the place in them means nothing.
        notes.extend(task.check_recorded(&config, &path, checkpoint.metadata())?);
        place::check(&config, data.len(Part::Train), checkpoint)?;
        earlier::check(&config, &*task, checkpoint)?;
        let store = checkpoint.expected_in(Store::seeded(config.seed()));
        let mut session = Self::build(config, task, data, store, checkpoint.progress().clone(), build)?;
        session.task.check_configured(&session.config, &path, checkpoint.metadata())?;
        checkpoint.restore(&mut session.store, Some(&mut session.optimizer))?;
        Ok(session)
    }

    fn build(
        config: Config,
        task: Arc<dyn Task>,
        data: HeldData<'a>,
        mut store: Store,
        mut progress: Progress,
        build: impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>>,
    ) -> Result<Self> {
        task.check(&config)?;
        let task = task.configured(&config, &*data)?.unwrap_or(task);
        model_file::check(&config, &*task)?;
        let net = build(&mut store, &config)?;
        let judge = Judge::of(&config, task.metrics(), &*data)?;
        let samples = data.len(Part::Train);
        let epoch_steps = steps(&config, batches(&config, samples));
        let total_steps = u64::from(config.epochs_at(progress.epoch)) * epoch_steps;
        let optimizer = Optimizer::new(OptimizerConfig { total_steps, ..config.optimizer().clone() })?;
        freeze(&optimizer, &mut store)?;
        let plan = Plan::of(&*net, &mut store, &task.input_shape())?;
        place::check_last_batch(&plan, &store, samples, config.batch_size())?;
        // In the middle of an epoch of an earlier version, metrics that it did not know have no sums until the next.
        if progress.seen == 0 {
            progress.sums.resize(task.sums(), 0.0);
        }
        if let Some(best) = progress.best.as_mut().filter(|_| config.is_extended_after(progress.epoch)) {
            (best.waited, best.stopped) = (0, false);
        }
        let (batches, evaluated) = (epoch(&*data, &config, &progress)?, plan.batch(EVALUATED));
        let diagnostics = None;
        Ok(Self {
            config,
            task,
            data,
            store,
            net,
            optimizer,
            progress,
            batches,
            behind: false,
            evaluated,
            diagnostics,
            judge,
            epoch_steps,
            failed: false,
        })
    }

    /// Has the first step and every `every`-th be looked at; none of them with `None`. The result of a run does not depend on it.
    pub fn diagnose(&mut self, every: Option<u64>) {
        self.diagnostics = every;
    }

    /// How often steps are looked at.
    pub fn diagnosed(&self) -> Option<u64> {
        self.diagnostics
    }

    /// Takes a step: one of the optimizer, over as many batches as the configuration accumulates. The last step of an epoch
    /// takes what is left. `None` if the epoch has no batch left.
    ///
    /// # Errors
    /// A batch cannot be read, or a loss or a gradient is not finite. Statistics may then have moved without weights, so the
    /// session takes no further step and is not saved: go on from its last checkpoint.
    pub fn step(&mut self) -> Result<Option<Step>> {
        if self.epoch_is_over() {
            return Ok(None);
        }
        if self.behind {
            self.batches = epoch(&*self.data, &self.config, &self.progress)?;
            self.behind = false;
        }
        self.step_by(Self::passes).map(Some)
    }

    /// Takes a step with the gradients that `passes` leaves in the store.
    fn step_by(&mut self, passes: impl FnOnce(&mut Self) -> Result<Passes>) -> Result<Step> {
        self.check_usable()?;
        let step = self.store.step() + 1;
        let due = self.diagnostics.is_some_and(|every| step == 1 || step.is_multiple_of(every));
        let watch = due.then(|| Watch::begin(&mut self.store)).transpose()?;
        let passes = passes(self).and_then(|passes| Ok((passes, self.optimizer.step(&mut self.store)?)));
        profile::mark("optimizer");
        let layers = watch.map(|watch| watch.finish(&mut self.store));
        let (passes, report) = passes.inspect_err(|_| {
            self.store.zero_grad();
            self.failed = true;
        })?;
        self.progress.batches += passes.batches;
        self.progress.seen += passes.samples as u64;
        self.progress.loss_sum += passes.loss_sum;
        self.progress.sums.iter_mut().zip(&passes.sums).for_each(|(total, sum)| *total += sum);
        Ok(Step { loss: passes.loss(), report, layers })
    }

    /// Checks that no step has failed.
    fn check_usable(&self) -> Result<()> {
        match self.failed {
            false => Ok(()),
            true => Err(Error::Failed { step: self.store.step() + 1 }),
        }
    }

    /// Takes the steps that are left of the running epoch and goes on to the next. Nothing is evaluated or written;
    /// [`trainer::train`](crate::trainer::train) does all that the command does.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn train_epoch(&mut self) -> Result<()> {
        while self.step()?.is_some() {}
        self.next_epoch()
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

    /// Returns the operations of the network as it is now, with what the data decide: the normalization of inputs, names of
    /// classes.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn plan(&mut self) -> Result<Plan> {
        Ok(self.task.complete(Plan::of(&*self.net, &mut self.store, &self.task.input_shape())?))
    }

    /// Returns the means over the samples that the running epoch has seen so far.
    pub fn seen(&self) -> Scores {
        let Progress { seen, loss_sum, sums, .. } = &self.progress;
        scores_of(&*self.task, *loss_sum, sums, usize::try_from(*seen).unwrap_or(usize::MAX))
    }

    /// Goes on to the next epoch.
    ///
    /// # Errors
    /// The data cannot be read.
    pub fn next_epoch(&mut self) -> Result<()> {
        let Progress { epoch: done, best, .. } = self.progress;
        let sums = vec![0.0; self.task.sums()];
        self.progress = Progress { epoch: done + 1, sums, best, ..Progress::default() };
        self.optimizer.set_total_steps(u64::from(self.config.epochs_at(done + 1)) * self.epoch_steps);
        self.batches = epoch(&*self.data, &self.config, &self.progress)?;
        self.behind = false;
        Ok(())
    }

    /// Returns how epochs are judged, where the configuration says so.
    pub fn judge(&self) -> Option<Judge> {
        self.judge
    }

    /// Judges the epoch whose steps are over by `value`, that of the judge's [score](Judge::score); returns whether it is the best
    /// so far. It is called once for each epoch, before [`next_epoch`](Self::next_epoch), in a run whose epochs are judged.
    pub fn judge_epoch(&mut self, value: f64) -> bool {
        let Some(judge) = self.judge else { return false };
        let epoch = self.progress.epoch + 1;
        let best = judge.after(self.progress.best, epoch, value, self.config.is_extended_after(epoch));
        self.progress.best = Some(best);
        best.epoch == epoch
    }

    /// Returns whether the run has come to its end: all epochs are over, or it was stopped early.
    pub fn is_finished(&self) -> bool {
        self.progress.epoch >= self.config.epochs() || self.progress.is_stopped()
    }

    /// Returns whether the running epoch has no batch left.
    pub fn epoch_is_over(&self) -> bool {
        match self.behind {
            true => self.progress.batches >= batches(&self.config, self.data.len(Part::Train)),
            false => self.batches.len() == 0,
        }
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
        self.check_usable()?;
        Ok(checkpoint::save(path, &self.store, &self.optimizer, &self.progress, &self.metadata()?)?)
    }

    /// Writes a checkpoint in the place of an earlier one, which is not kept.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_single(&self, path: &Path) -> Result<()> {
        self.check_usable()?;
        Ok(checkpoint::save_single(path, &self.store, &self.optimizer, &self.progress, &self.metadata()?)?)
    }

    /// The texts of a checkpoint.
    fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let mut metadata = BTreeMap::from([
            (RECIPE.to_string(), self.config.to_toml()?),
            ("fixnet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ]);
        self.task.record(&mut metadata);
        model_file::record(&self.config, &mut metadata)?;
        Ok(metadata)
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
        u64::from(self.config.epochs()) * self.epoch_steps
    }
}

/// Builds the model that a configuration names.
fn model(task: Arc<dyn Task>) -> impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>> {
    move |store, config| task.build(store, config)
}

/// Builds a network of the user's own, as the task takes it.
fn wrapped(
    task: Arc<dyn Task>,
    build: impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>>,
) -> impl FnOnce(&mut Store, &Config) -> Result<Box<dyn Layer>> {
    move |store, config| Ok(task.wrap(build(store, config)?))
}

/// Returns the batches of an epoch over so many samples.
fn batches(config: &Config, samples: usize) -> u64 {
    samples.div_ceil(config.batch_size()) as u64
}

/// Returns the steps of the optimizer that so many batches take.
fn steps(config: &Config, batches: u64) -> u64 {
    batches.div_ceil(config.accumulate() as u64)
}

/// Freezes the parameters of frozen groups in a store, so that their gradients are not even computed.
fn freeze(optimizer: &Optimizer, store: &mut Store) -> Result<()> {
    let key = "optimizer.groups";
    let frozen = optimizer.frozen(store).map_err(|e| Error::from(e).within(key))?;
    let moves = |p: &Param| p.group() != Group::Scale;
    if store.ids().all(|id| frozen.contains(&id) || !moves(store.param(id))) && !frozen.is_empty() {
        let reason = "expected groups that leave a parameter to learn, found all of them frozen".into();
        return Err(Error::Setting { key: key.into(), reason });
    }
    frozen.into_iter().for_each(|id| store.set_frozen(id, true));
    Ok(())
}

/// Returns the batches that are left of the running epoch.
fn epoch(data: &dyn Data, config: &Config, progress: &Progress) -> Result<Batches> {
    data.epoch(config, progress.epoch, usize::try_from(progress.batches).unwrap_or(usize::MAX))
}
