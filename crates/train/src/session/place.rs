//! Whether the parts of a checkpoint agree: its step, its place in the data and its best epoch.

use super::{batches, steps};
use crate::error::run;
use crate::{Config, Error, Result};
use fixnet_autograd::Store;
use fixnet_autograd::ops::{FixedNorm, RunningStats};
use fixnet_nn::checkpoint::{Checkpoint, Progress};
use fixnet_nn::plan::Plan;

/// Checks that the step of a checkpoint and its place in the data say the same, and that a run can have its best epoch.
///
/// # Errors
/// They contradict each other, or the configuration.
pub(super) fn check(config: &Config, samples: usize, checkpoint: &Checkpoint) -> Result<()> {
    let Progress { epoch, batches: used, seen, best, .. } = checkpoint.progress();
    let all = batches(config, samples);
    let (step, epoch_steps, together) = (checkpoint.step(), steps(config, all), config.accumulate());
    let wrong = |what: &str, found: String| {
        let reason =
            format!("not a usable checkpoint: expected {what}, found {found}; its parts contradict each other");
        Err(run(checkpoint.path(), reason))
    };
    if *epoch > config.epochs() || (*epoch == config.epochs() && *used > 0) {
        let found = format!("{used} batches after epoch {epoch}");
        return wrong(&format!("a place within {} epochs", config.epochs()), found);
    }
    if *used > all {
        return wrong(&format!("at most {all} batches of the running epoch"), used.to_string());
    }
    if *used < all && !used.is_multiple_of(together as u64) {
        return wrong(&format!("whole steps of {together} batches in the running epoch"), format!("{used} batches"));
    }
    if *seen > samples as u64 {
        return wrong(&format!("at most {samples} samples of the running epoch"), seen.to_string());
    }
    // Both factors are below 2^32 or the number of samples, so the product does not overflow 128 bits.
    let expected = u128::from(*epoch) * u128::from(epoch_steps) + u128::from(steps(config, *used));
    if u128::from(step) != expected {
        let place = format!("after {epoch} epochs of {all} batches and {used} more");
        return wrong(&format!("step {expected} {place}"), format!("step {step}"));
    }
    let Some(best) = best else { return Ok(()) };
    if best.epoch == 0 || best.epoch.checked_add(best.waited).is_none_or(|last| last > *epoch) {
        let found = format!("epoch {} and {} without improvement", best.epoch, best.waited);
        return wrong(&format!("a best epoch within the {epoch} that are over"), found);
    }
    if best.stopped && (*used > 0 || config.settings().run.patience.is_none_or(|most| best.waited < most)) {
        let found = format!("one that stopped after {} epochs without improvement", best.waited);
        return wrong("a run that goes on", found);
    }
    Ok(())
}

/// Checks that no batch is a single sample where a normalization needs several: better known now than after an epoch. Those of the `store`
/// that are frozen need none.
pub(super) fn check_last_batch(plan: &Plan, store: &Store, samples: usize, size: usize) -> Result<()> {
    let last = samples.checked_rem(size).filter(|rest| *rest > 0).unwrap_or(size.min(samples));
    if last != 1 {
        return Ok(());
    }
    let frozen: Vec<&str> = store.states::<RunningStats>().filter(|(_, s)| s.frozen).map(|(name, _)| name).collect();
    let one_row = |node: &fixnet_nn::plan::Node| {
        let pixels = node.shape().split_last().map_or(1, |(_, pixels)| pixels.iter().product::<usize>());
        node.get::<FixedNorm>().is_some() && pixels == 1 && !frozen.contains(&node.name())
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
