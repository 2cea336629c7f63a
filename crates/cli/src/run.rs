//! A training run: model, optimizer and place in the data. It knows nothing of folders, logs and bars, so that `train`,
//! `resume` and `verify` take the same steps.

use crate::out::note;
use crate::recipe::Recipe;
use crate::trained::{BATCH, check_data};
use anyhow::{Context, Result, bail};
use fixnet::checkpoint::{self, Checkpoint, Pretrained, Progress, Taken, TensorFile};
use fixnet::data::{ClassDifference, DataDescription};
use fixnet::export::class_names;
use fixnet::optim::StepReport;
use fixnet::prelude::*;
use fixnet::quant::diagnostics::{LayerReport, Watch};
use fixnet::tensor::profile;
use std::collections::BTreeMap;
use std::path::Path;

/// The key of the recipe in the metadata of a checkpoint.
pub(crate) const CONFIG: &str = "config";

/// What a step gave.
pub(crate) struct Step {
    /// The mean loss of the batch.
    pub(crate) loss: f64,
    /// What the optimizer did.
    pub(crate) report: StepReport,
    /// What was seen in each quantized layer, in a step that was looked at.
    pub(crate) layers: Option<Vec<LayerReport>>,
}

/// A run over data that were loaded before.
pub(crate) struct Run<'a> {
    recipe: Recipe,
    data: &'a Split,
    store: Store,
    net: Sequential,
    optimizer: Optimizer,
    description: DataDescription,
    augment: Augment,
    progress: Progress,
    loader: Loader,
    diagnostics: Option<u64>,
}

impl<'a> Run<'a> {
    /// A run that has taken no step.
    pub(crate) fn new(recipe: Recipe, data: &'a Split) -> Result<Self> {
        let store = Store::seeded(recipe.seed);
        Self::build(recipe, data, store)
    }

    /// A run that has taken no step and starts from given weights.
    fn pretrained(recipe: Recipe, data: &'a Split, weights: &Pretrained) -> Result<(Self, Taken)> {
        let store = weights.begin(Store::seeded(recipe.seed));
        let mut run = Self::build(recipe, data, store)?;
        let taken = weights.finish(&mut run.store)?;
        Ok((run, taken))
    }

    /// A run that has taken no step and begins as its recipe says, from the weights in the file of `init` where it has one.
    pub(crate) fn begin(mut recipe: Recipe, init: Option<&TensorFile>, data: &'a Split) -> Result<Self> {
        let Some(file) = init else { return Self::new(recipe, data) };
        let (weights, notes) = crate::import::weights(file, &recipe.resolve()?.model, data)?;
        let (run, taken) = Self::pretrained(recipe, data, &weights).context("--init")?;
        let found = format!("{} of {} parameters and statistics", taken.count, taken.count + taken.missing.len());
        notes.iter().for_each(|line| note!("init: {line}"));
        note!("init: {found} taken; optimizer and quantizers start anew");
        taken.missing.iter().for_each(|name| note!("init: not found: {name}"));
        note_other_classes(file, &data.train)?;
        Ok(run)
    }

    /// A run as it was when the checkpoint was saved.
    pub(crate) fn resumed(recipe: Recipe, data: &'a Split, checkpoint: &Checkpoint) -> Result<Self> {
        let store = checkpoint.expected_in(Store::seeded(recipe.seed));
        let mut run = Self::build(recipe, data, store)?;
        check_data(&run.recipe, checkpoint, data, &run.description)?;
        checkpoint.restore(&mut run.store, Some(&mut run.optimizer))?;
        run.progress = checkpoint.progress();
        run.loader = run.epoch();
        Ok(run)
    }

    fn build(mut recipe: Recipe, data: &'a Split, mut store: Store) -> Result<Self> {
        let parts = recipe.resolve()?;
        let train = &data.train;
        parts.augment.check_for(train.shape())?;
        let input = [train.height, train.width, train.channels];
        let net = models::build(&mut store, &parts.model, input, train.classes, &parts.quant)?;
        let total_steps = u64::from(recipe.epochs) * train.len().div_ceil(recipe.batch_size) as u64;
        let optimizer = Optimizer::new(OptimizerConfig { total_steps, ..parts.optimizer })?;
        let description = DataDescription::of(data);
        let loader = Loader::new(train, recipe.batch_size, description.normalize.clone());
        let (augment, progress) = (parts.augment, Progress::default());
        let mut run =
            Self { recipe, data, store, net, optimizer, description, augment, progress, loader, diagnostics: None };
        run.check_last_batch()?;
        run.loader = run.epoch();
        Ok(run)
    }

    /// That no batch is a single image where a normalization needs several: better known now than after an epoch.
    fn check_last_batch(&mut self) -> Result<()> {
        let (images, size) = (self.data.train.len(), self.recipe.batch_size);
        let last = images.checked_rem(size).filter(|rest| *rest > 0).unwrap_or(size.min(images));
        if last != 1 {
            return Ok(());
        }
        let plan = Plan::of(&self.net, &mut self.store, &self.data.train.shape())?;
        let one_row = |node: &fixnet::plan::Node| {
            let pixels = node.shape().split_last().map_or(1, |(_, pixels)| pixels.iter().product::<usize>());
            node.get::<fixnet::autograd::ops::FixedNorm>().is_some() && pixels == 1
        };
        if let Some(norm) = plan.nodes().iter().find(|node| one_row(node)) {
            bail!(
                "batch_size: expected batches of at least 2 images for the batch norm `{}`, found {size}, which leaves one of \
                 {images} images for the last batch",
                norm.name()
            );
        }
        Ok(())
    }

    /// What is left of the running epoch.
    fn epoch(&self) -> Loader {
        let (seed, epoch) = (self.recipe.seed, self.progress.epoch);
        Loader::new(&self.data.train, self.recipe.batch_size, self.description.normalize.clone())
            .shuffled(seed, epoch)
            .augmented(self.augment, seed, epoch)
            .skip_batches(usize::try_from(self.progress.batches).unwrap_or(usize::MAX))
    }

    /// Has the first step and every `every`-th be looked at; none of them with `None`.
    pub(crate) fn diagnose(&mut self, every: Option<u64>) {
        self.diagnostics = every;
    }

    /// How often steps are looked at.
    pub(crate) fn diagnosed(&self) -> Option<u64> {
        self.diagnostics
    }

    /// Takes a step; `None` if the epoch has no batch left.
    pub(crate) fn step(&mut self) -> Result<Option<Step>> {
        let Some(batch) = self.loader.next().transpose()? else { return Ok(None) };
        profile::mark("load data");
        let step = self.store.step() + 1;
        let due = self.diagnostics.is_some_and(|every| step == 1 || step.is_multiple_of(every));
        let watch = due.then(|| Watch::begin(&mut self.store)).transpose()?;
        let mut g = Graph::train(&mut self.store);
        let x = g.input(batch.images.clone());
        let logits = self.net.forward(&mut g, &x)?;
        let loss = metrics::loss(&mut g, &logits, &batch)?;
        let value = f64::from(loss.tensor().item());
        let hits = metrics::correct(&logits.tensor(), &batch.labels);
        drop((x, logits));
        g.backward(loss)?;
        let report = self.optimizer.step(&mut self.store)?;
        profile::mark("optimizer");
        let layers = watch.map(|watch| watch.finish(&mut self.store));
        self.progress.batches += 1;
        self.progress.seen += batch.labels.len() as u64;
        self.progress.hits += hits as u64;
        self.progress.loss_sum += value * batch.labels.len() as f64;
        Ok(Some(Step { loss: value, report, layers }))
    }

    /// Evaluates on the test images, until `stop` says so: then there is no result.
    pub(crate) fn evaluate(&mut self, stop: impl Fn() -> bool) -> Result<Option<Evaluation>> {
        self.evaluate_on(&self.data.test, stop)
    }

    /// The same on the images set apart for validation; `None` too if there are none.
    pub(crate) fn validate(&mut self, stop: impl Fn() -> bool) -> Result<Option<Evaluation>> {
        match &self.data.validation {
            Some(data) => self.evaluate_on(data, stop),
            None => Ok(None),
        }
    }

    fn evaluate_on(&mut self, data: &'a Dataset, stop: impl Fn() -> bool) -> Result<Option<Evaluation>> {
        let size = Plan::of(&self.net, &mut self.store, &data.shape())?.batch(BATCH);
        let mut stopped = false;
        let batches = Loader::new(data, size, self.description.normalize.clone()).take_while(|_| {
            stopped = stop();
            !stopped
        });
        let result = metrics::evaluate(&self.net, &mut self.store, batches)?;
        Ok((!stopped).then_some(result))
    }

    /// Goes on to the next epoch.
    pub(crate) fn next_epoch(&mut self) {
        self.progress = Progress { epoch: self.progress.epoch + 1, ..Progress::default() };
        self.loader = self.epoch();
    }

    /// Whether all epochs are over.
    pub(crate) fn is_finished(&self) -> bool {
        self.progress.epoch >= self.recipe.epochs
    }

    /// Whether the running epoch has no batch left.
    pub(crate) fn epoch_is_over(&self) -> bool {
        self.loader.len() == 0
    }

    /// Whether the digest of this step is recorded: steps 0, 1, 10, 100, … and the last of each epoch.
    pub(crate) fn digest_is_due(&self) -> bool {
        let step = self.store.step();
        step == 0 || step == 10u64.pow(step.ilog10()) || self.epoch_is_over()
    }

    /// blake3 over all state.
    pub(crate) fn digest(&self) -> String {
        checkpoint::digest(&self.store, &self.optimizer)
    }

    /// Writes a checkpoint.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let mut metadata = BTreeMap::from([
            (CONFIG.to_string(), self.recipe.to_toml()?),
            ("fixnet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ]);
        self.description.write_to(&mut metadata);
        Ok(checkpoint::save(path, &self.store, &self.optimizer, &self.progress, &metadata)?)
    }

    /// What the run was started with.
    pub(crate) fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The model's state.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Where the run stands.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Steps of the whole run.
    pub(crate) fn total_steps(&self) -> u64 {
        self.optimizer.config().total_steps
    }
}

/// Warns if the weights that a run starts from tell as many classes apart as its data have, but other ones: a classifier that
/// was taken over begins with what it learned of those.
fn note_other_classes(file: &TensorFile, data: &Dataset) -> Result<()> {
    let names = class_names::read(&file.path().display().to_string(), &file.header().metadata)?;
    let names = names.filter(|names| names.len() == data.classes);
    if let Some(difference) = names.and_then(|names| ClassDifference::between(&names, &data.class_names())) {
        note!("warning: init: the classes of {} are others than those of the weights: {difference}", data.name);
    }
    Ok(())
}

/// The recipe of the run that a checkpoint belongs to.
pub(crate) fn recipe_of(checkpoint: &Checkpoint) -> Result<Recipe> {
    let path = || checkpoint.path().display().to_string();
    let text = checkpoint
        .metadata()
        .get(CONFIG)
        .with_context(|| format!("{}: expected the recipe in its metadata, found none", path()))?;
    Recipe::from_toml(text, &path())
}
