//! The batches that one step of the optimizer takes.

use super::Session;
use crate::Result;
use crate::task::Batch;
use fixnet_autograd::Graph;
use fixnet_tensor::profile;

/// The batches of a step together.
#[derive(Debug, Default)]
pub(super) struct Passes {
    pub(super) batches: u64,
    pub(super) samples: usize,
    /// Samples of the last batch.
    pub(super) last: usize,
    /// The mean loss of the last batch.
    pub(super) last_loss: f64,
    /// The sums over samples of losses and metrics.
    pub(super) loss_sum: f64,
    pub(super) sums: Vec<f64>,
}

impl Passes {
    pub(super) fn add(&mut self, batch: &Batch, loss: f64, sums: &[f64]) {
        self.batches += 1;
        self.samples += batch.samples;
        (self.last, self.last_loss) = (batch.samples, loss);
        self.loss_sum += loss * batch.samples as f64;
        self.sums.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }

    /// The mean loss of the samples. Of one batch it is what was computed, since a quotient may round.
    pub(super) fn loss(&self) -> f64 {
        if self.batches == 1 { self.last_loss } else { self.loss_sum / self.samples as f64 }
    }
}

impl Session<'_> {
    /// Computes the gradients of a step, those of the mean loss over all its samples.
    pub(super) fn passes(&mut self) -> Result<Passes> {
        let mut all = Passes { sums: vec![0.0; self.task.sums()], ..Passes::default() };
        for _ in 0..self.config.accumulate() {
            let Some(batch) = self.batches.next().transpose()? else { break };
            profile::mark("load data");
            // Gradients of means come together as a sum in which each counts as much as the last batch does.
            if all.batches > 0 && all.last != batch.samples {
                self.store.scale_grads((all.last as f64 / batch.samples as f64) as f32);
            }
            let (value, sums) = self.pass(&batch)?;
            all.add(&batch, value, &sums);
        }
        if all.batches > 1 {
            self.store.scale_grads((all.last as f64 / all.samples as f64) as f32);
        }
        Ok(all)
    }

    /// Adds the gradients of the mean loss over a batch to those in the store; returns the loss, and the sums of the metrics.
    pub(super) fn pass(&mut self, batch: &Batch) -> Result<(f64, Vec<f64>)> {
        let mut g = Graph::train(&mut self.store);
        self.task.prepare(&mut g, batch)?;
        let x = g.input(batch.inputs.clone());
        let output = self.net.forward(&mut g, &x)?;
        let loss = self.task.loss(&mut g, &output, batch)?;
        let value = f64::from(loss.tensor().item());
        let sums = self.task.score(&output.tensor(), batch)?;
        drop((x, output));
        g.backward(loss)?;
        Ok((value, sums))
    }
}
