//! The batches that one step of the optimizer takes.

use crate::task::Batch;

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
