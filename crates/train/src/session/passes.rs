//! The batches that one step of the optimizer takes.

use super::Session;
use crate::Result;
use crate::task::Batch;
use fixnet_autograd::Graph;
use fixnet_tensor::profile;

/// The batches of a step together.
#[derive(Debug)]
pub(super) struct Passes {
    pub(super) batches: u64,
    pub(super) samples: usize,
    /// The [terms](crate::task::Task::terms) of all losses.
    terms: f64,
    /// What the loss of the last batch was divided by.
    last: f64,
    /// The loss of the last batch.
    last_loss: f64,
    /// The sums over terms and samples of losses and metrics.
    pub(super) loss_sum: f64,
    pub(super) sums: Vec<f64>,
}

impl Passes {
    /// No batches, with so many sums.
    pub(super) fn new(sums: usize) -> Self {
        let sums = vec![0.0; sums];
        Self { batches: 0, samples: 0, terms: 0.0, last: 1.0, last_loss: 0.0, loss_sum: 0.0, sums }
    }

    /// Takes the loss of a batch, which is the mean of so many terms.
    pub(super) fn add(&mut self, batch: &Batch, loss: f64, terms: f64, sums: &[f64]) {
        self.batches += 1;
        self.samples += batch.samples;
        self.terms += terms;
        (self.last, self.last_loss) = (terms.max(1.0), loss);
        self.loss_sum += loss * self.last;
        self.sums.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }

    /// What the gradients so far are multiplied by before those of a batch of so many terms are added: gradients of means come together
    /// as a sum in which each term counts as much as one of the last batch does.
    pub(super) fn before(&self, terms: f64) -> Option<f32> {
        let next = terms.max(1.0);
        (self.batches > 0 && self.last != next).then(|| (self.last / next) as f32)
    }

    /// What the gradients of all batches are multiplied by to be those of the mean over all terms.
    pub(super) fn after(&self) -> Option<f32> {
        (self.batches > 1).then(|| (self.last / self.terms.max(1.0)) as f32)
    }

    /// The mean loss of the terms. Of one batch it is what was computed, since a quotient may round.
    pub(super) fn loss(&self) -> f64 {
        if self.batches == 1 { self.last_loss } else { self.loss_sum / self.terms.max(1.0) }
    }
}

impl Session<'_> {
    /// Computes the gradients of a step, those of the mean loss over all its samples, or whatever the task counts as
    /// [terms](crate::task::Task::terms).
    pub(super) fn passes(&mut self) -> Result<Passes> {
        let mut all = Passes::new(self.task.sums());
        for _ in 0..self.config.accumulate() {
            let Some(batch) = self.batches.next().transpose()? else { break };
            profile::mark("load data");
            self.pass(&batch, &mut all)?;
        }
        if let Some(factor) = all.after() {
            self.store.scale_grads(factor);
        }
        Ok(all)
    }

    /// Adds the gradients of a batch to those in the store, and its loss and sums to `all`.
    pub(super) fn pass(&mut self, batch: &Batch, all: &mut Passes) -> Result<()> {
        let mut g = Graph::train(&mut self.store);
        self.task.prepare(&mut g, batch)?;
        let x = g.input(batch.inputs.clone());
        let output = self.net.forward(&mut g, &x)?;
        let loss = self.task.loss(&mut g, &output, batch)?;
        let value = f64::from(loss.tensor().item());
        let sums = self.task.score(&output.tensor(), batch)?;
        let terms = self.task.terms(&sums, batch.samples);
        drop((x, output));
        if let Some(factor) = all.before(terms) {
            g.store_mut().scale_grads(factor);
        }
        g.backward(loss)?;
        all.add(batch, value, terms, &sums);
        Ok(())
    }
}
