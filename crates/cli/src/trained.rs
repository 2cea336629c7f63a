//! A trained network as its checkpoint has it: for evaluation, export and reports. The images that it was trained on are not
//! needed: what it depends on of them is in the checkpoint.

use crate::out::note;
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use fixnet::checkpoint::{self, Checkpoint};
use fixnet::data::DataDescription;
use fixnet::metrics::Prediction;
use fixnet::prelude::*;

/// The fingerprint of the training images in checkpoints of fixnet 0.1, which have no description of their data.
const EARLIER: &str = "data";

/// Images that are evaluated at a time.
pub(crate) const BATCH: usize = 256;

/// A network with the state of a checkpoint.
pub(crate) struct Trained {
    store: Store,
    net: Sequential,
    description: DataDescription,
    digest: String,
}

impl Trained {
    /// Builds the network of a recipe with the numbers of its checkpoint.
    pub(crate) fn open(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<Self> {
        let parts = recipe.clone().resolve()?;
        let description = describe(recipe, checkpoint)?;
        // A checkpoint that names a larger model than it holds is refused before there is memory for it.
        let mut store = checkpoint.expected_in(Store::seeded(recipe.seed));
        let net = models::build(&mut store, &parts.model, description.shape, description.classes, &parts.quant)?;
        let mut optimizer = Optimizer::new(parts.optimizer)?;
        checkpoint.restore(&mut store, Some(&mut optimizer))?;
        let digest = checkpoint::digest(&store, &optimizer);
        Ok(Self { store, net, description, digest })
    }

    /// What it was trained on.
    pub(crate) fn description(&self) -> &DataDescription {
        &self.description
    }

    /// blake3 over all state of the run.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    /// Weights and statistics.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Batches of `data`, of fewer images where these are so large that memory would not do.
    fn batches(&mut self, data: &Dataset) -> Result<Loader> {
        let size = Plan::of(&self.net, &mut self.store, &self.description.shape)?.batch(BATCH);
        Ok(Loader::new(data, size, self.description.normalize.clone()))
    }

    /// Evaluates on `data`.
    pub(crate) fn evaluate(&mut self, data: &Dataset) -> Result<Evaluation> {
        let batches = self.batches(data)?;
        Ok(metrics::evaluate(&self.net, &mut self.store, batches)?)
    }

    /// Classifies each image of `data`.
    pub(crate) fn predict(&mut self, data: &Dataset) -> Result<Vec<Prediction>> {
        let batches = self.batches(data)?;
        Ok(metrics::predict(&self.net, &mut self.store, batches)?)
    }

    /// Lists the operations of the network, with the normalization of its input and the names of its classes.
    pub(crate) fn plan(&mut self) -> Result<Plan> {
        let plan = Plan::of(&self.net, &mut self.store, &self.description.shape)?;
        let plan = plan.normalized(self.description.normalize.clone());
        Ok(match self.description.class_names() {
            Some(names) => plan.with_class_names(names.to_vec()),
            None => plan,
        })
    }
}

/// Reads what the run of a checkpoint was trained on: from the checkpoint, or from the data if an earlier version of fixnet
/// wrote it.
pub(crate) fn describe(recipe: &Recipe, checkpoint: &Checkpoint) -> Result<DataDescription> {
    let place = checkpoint.path().display().to_string();
    if let Some(description) = DataDescription::read_from(&place, checkpoint.metadata())? {
        return Ok(description);
    }
    let data = recipe.clone().resolve()?.data.load().with_context(|| {
        format!(
            "{place}: an earlier version of fixnet wrote it, without mean and deviation of its training images, so these \
             are needed"
        )
    })?;
    let description = DataDescription::of(&data);
    check_data(recipe, checkpoint, &data, &description)?;
    Ok(description)
}

/// Checks that `data` are those that the run of a checkpoint began with.
pub(crate) fn check_data(
    recipe: &Recipe,
    checkpoint: &Checkpoint,
    data: &Split,
    found: &DataDescription,
) -> Result<()> {
    let (file, place) = (checkpoint.path().display().to_string(), format!("data {}", recipe.data));
    if let Some(expected) = DataDescription::read_from(&file, checkpoint.metadata())? {
        return Ok(expected.check_same(&place, found)?);
    }
    let Some(train) = checkpoint.metadata().get(EARLIER) else { return Ok(()) };
    if data.train.is_streamed() {
        // The fingerprint of streamed images was another one.
        note!("note: {file}: an earlier version of fixnet wrote it; its streamed images are not compared");
        return Ok(());
    }
    let mut expected = found.clone();
    expected.fingerprints.iter_mut().for_each(|prints| prints.train.clone_from(train));
    Ok(expected.check_same(&place, found)?)
}

/// Reads the test images of a recipe for a network that was trained on data of this description.
pub(crate) fn test_images(recipe: &Recipe, network: &DataDescription) -> Result<Dataset> {
    let config = recipe.clone().resolve()?.data;
    config.load_test(network).with_context(|| format!("data {}", recipe.data))
}
