//! A trained network as its checkpoint has it: for evaluation, export and reports ([`Predictor`](crate::Predictor) answers about
//! new samples). The data that it was trained on are not
//! needed: what it depends on of them is in the checkpoint.

use crate::earlier;
use crate::evaluation::{EVALUATED, evaluate_test};
use crate::model_file;
use crate::scores::{Network, Scores};
use crate::task::{self, Data, Section, Task};
use crate::{Config, Result};
use fixnet_autograd::Store;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{self, Checkpoint};
use fixnet_nn::optim::Optimizer;
use fixnet_nn::plan::Plan;
use std::sync::Arc;

/// A network with the state of a checkpoint.
pub struct Trained {
    task: Arc<dyn Task>,
    store: Store,
    net: Box<dyn Layer>,
    digest: String,
}

impl Trained {
    /// Builds the network of a recipe with the numbers of its checkpoint.
    ///
    /// # Errors
    /// The checkpoint does not fit the model.
    pub fn open(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let config = &model_file::recorded(config, checkpoint)?;
        let task = task::recorded(config, &checkpoint.path().display().to_string(), checkpoint.metadata())?;
        // A checkpoint that names a larger model than it holds is refused before there is memory for it.
        let added = earlier::added(config, checkpoint);
        let mut store = checkpoint.expected_with(Store::seeded(config.seed()), &added);
        let net = task.build(&mut store, config)?;
        let mut optimizer = Optimizer::new(config.optimizer().clone())?;
        checkpoint.restore_with(&mut store, Some(&mut optimizer), &added)?;
        let digest = checkpoint::digest(&store, &optimizer);
        Ok(Self { task, store, net, digest })
    }

    /// Returns a store that accepts the parameters that a checkpoint of this configuration may have, and no others, before there
    /// is memory for them.
    pub fn expected(config: &Config, checkpoint: &Checkpoint, store: Store) -> Store {
        checkpoint.expected_with(store, &earlier::added(config, checkpoint))
    }

    /// What was learned.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// blake3 over all state of the run, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Weights and statistics.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The network with its state.
    pub fn parts(&mut self) -> (&dyn Layer, &mut Store) {
        (&*self.net, &mut self.store)
    }

    /// Returns the samples of a batch in evaluation: fewer where they are so large that memory would not do.
    ///
    /// # Errors
    /// The network does not fit its own input: none for one that was trained.
    pub fn batch_size(&mut self) -> Result<usize> {
        Ok(Plan::of(&*self.net, &mut self.store, &self.task.input_shape())?.batch(EVALUATED))
    }

    /// Returns the network with its state and the size of its batches in evaluation.
    ///
    /// # Errors
    /// As [`batch_size`](Self::batch_size).
    pub fn network(&mut self) -> Result<Network<'_>> {
        let batch_size = self.batch_size()?;
        Ok(Network { net: &*self.net, store: &mut self.store, batch_size })
    }

    /// Evaluates on the test part of `data`.
    ///
    /// # Errors
    /// The data cannot be read, or do not fit the network.
    pub fn evaluate(&mut self, data: &dyn Data) -> Result<Scores> {
        let task = self.task.clone();
        evaluate_test(&*task, &mut self.network()?, data)
    }

    /// Evaluates on the test part of `data`, and returns what a report shows of it.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn report(&mut self, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let task = self.task.clone();
        task.report(self.network()?, data)
    }

    /// Returns the operations of the network, with the normalization of its input and the names of its classes.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn plan(&mut self) -> Result<Plan> {
        let plan = Plan::of(&*self.net, &mut self.store, &self.task.input_shape())?;
        Ok(self.task.complete(plan))
    }
}
