//! Runs of fixnet 0.1 whose arithmetic has changed since. Their networks still evaluate to the same numbers. To go on with such
//! a run, or to replay it, would mix two methods in silence, so that is refused.
//!
//! What a checkpoint holds tells them, not its version number alone:
//!
//! - One-bit weights and two-sided one-bit activations of the TRS scheme had no scale, which was 1.
//! - Plain optimizers did not learn the weight scales of the TRS scheme, so what they keep of these scales is 0.

use crate::task::Task;
use crate::{Config, Error, Result};
use fixnet_autograd::{Array, Group, Store};
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_quant::{Scales, Scheme, WeightScales};
use fixnet_tensor::Tensor;
use std::collections::BTreeMap;

/// What a weight scale is called, after its weight.
const WEIGHT: &str = ".weight";

/// Returns the scales of one-bit quantizers that a checkpoint lacks, each 1, with what an optimizer would keep of them.
pub(crate) fn added(config: &Config, checkpoint: &Checkpoint) -> BTreeMap<String, Array> {
    let quant = config.quant();
    let mut added = BTreeMap::new();
    if quant.scheme != Scheme::Trs {
        return added;
    }
    let tensors = &checkpoint.file().header().tensors;
    let mut add = |name: String, shape: &[usize]| {
        if tensors.iter().all(|t| t.name != name) {
            for key in ["first", "second"] {
                added.insert(format!("optimizer.{key}.{name}"), Array::F32(Tensor::zeros(shape)));
            }
            added.insert(name, Array::F32(Tensor::full(shape, 1.0)));
        }
    };
    for weight in tensors {
        let Some(layer) = weight.name.strip_suffix(WEIGHT).filter(|layer| !layer.starts_with("optimizer.")) else {
            continue;
        };
        if quant.precision.weight() == Some(1) {
            let by_channel = usize::from(quant.weight_scales == WeightScales::Channel).min(weight.shape.len());
            add(format!("{layer}{WEIGHT}.scale"), &weight.shape[..by_channel]);
        }
        if quant.precision.activation() == Some(1) {
            add(format!("{layer}.input.scale"), &[]);
        }
    }
    added
}

/// Checks that this version computes the steps of a run as the one that began it did.
///
/// # Errors
/// An earlier version computed other numbers; or the checkpoint does not fit the model.
pub(crate) fn check(config: &Config, task: &dyn Task, checkpoint: &Checkpoint) -> Result<()> {
    if config.quant().scheme != Scheme::Trs {
        return Ok(());
    }
    let added = added(config, checkpoint);
    let mut store = checkpoint.expected_with(Store::seeded(config.seed()), &added);
    task.build(&mut store, config)?;
    let scales = || store.params().iter().filter(|p| p.group() == Group::Scale).map(|p| p.name());
    let version = checkpoint.metadata().get("fixnet").map_or("", String::as_str);
    let refuse = |what: String| {
        Err(Error::Earlier {
            path: checkpoint.path().into(),
            version: if version.is_empty() { "unknown".into() } else { version.into() },
            what,
        })
    };
    if let Some(name) = scales().find(|name| added.contains_key(*name)) {
        return refuse(format!("without the scale `{name}`, which one-bit quantizers of the TRS scheme have now"));
    }
    let plain = config.optimizer().transition.is_none() && config.quant().scales == Scales::Learned;
    let weights: Vec<&str> = scales().filter(|name| name.ends_with(&format!("{WEIGHT}.scale"))).collect();
    let never_moved = |name: &&str| {
        ["first", "second"].iter().all(|key| match checkpoint.file().array(&format!("optimizer.{key}.{name}")) {
            Some(Array::F32(kept)) => kept.data().iter().all(|v| *v == 0.0),
            _ => false,
        })
    };
    match weights.first() {
        Some(name)
            if plain && checkpoint.step() > 0 && version.starts_with("0.1.") && weights.iter().all(never_moved) =>
        {
            refuse(format!("with a scale `{name}` that stayed fixed, which plain optimizers learn now"))
        }
        _ => Ok(()),
    }
}
