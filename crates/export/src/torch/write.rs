//! The `state_dict` of a network, for PyTorch.

use super::Names;
use super::parts::{joined, parts};
use crate::{Error, Result};
use fixnet_autograd::Array;
use fixnet_nn::checkpoint::Pretrained;
use fixnet_nn::plan::Plan;

/// Returns the weights and running statistics of a network as PyTorch names and orders them, for `load_state_dict` of the same
/// network there, and `steps` as the count of each batch norm (`num_batches_tracked`). `plan` is the network that `weights` are of,
/// in any precision. A batch norm over pooled features that is the identity is left out, as the networks are there that
/// were read without it.
///
/// ```
/// use fixnet_autograd::Store;
/// use fixnet_export::torch::{self, Names};
/// use fixnet_nn::checkpoint::{Pretrained, TensorFile};
/// use fixnet_nn::{models, plan::Plan};
/// use fixnet_quant::QuantConfig;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights.safetensors");
/// let mut store = Store::seeded(1);
/// let net = models::build(&mut store, &"resnet8-b".parse()?, [32, 32, 3], 10, &QuantConfig::float())?;
/// let plan = Plan::of(&net, &mut store, &[32, 32, 3])?;
/// let arrays = torch::state_dict(&Pretrained::of(&store), &plan, Names::Torchvision, 0)?;
/// assert!(arrays.iter().any(|(name, _)| name == "layer2.0.downsample.0.weight"));
/// TensorFile::save(&path, &arrays, &Default::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A tensor of a layer is not among the weights: they are of another network, or the layer is one of your own that keeps
/// it under another name.
pub fn state_dict(weights: &Pretrained, plan: &Plan, names: Names, steps: u64) -> Result<Vec<(String, Array)>> {
    let mut arrays = Vec::new();
    for layer in parts(plan) {
        let mut ours = Vec::new();
        for (part, shape) in &layer.tensors {
            let name = joined(layer.layer, part);
            let found = match weights.get(&name) {
                Some(t) if t.shape() == shape => {
                    ours.push((part, t));
                    continue;
                }
                Some(t) => format!("`{name}` {:?}", t.shape()),
                None => format!("no `{name}`"),
            };
            let index = plan.nodes().iter().position(|node| node.layer() == layer.layer).unwrap_or_default();
            return Err(Error::Layer { index, layer: layer.layer.into(), expected: "weights of this network", found });
        }
        let identity = layer.identity().is_some_and(|identity| {
            ours.iter().zip(identity).all(|((_, t), (_, value))| t.data().iter().all(|v| *v == value))
        });
        if identity {
            continue;
        }
        let theirs = names.of(layer.layer);
        for (part, t) in ours {
            arrays.push((joined(&theirs, part), Array::F32(layer.leaves(part, t))));
        }
        if layer.norm.is_some() {
            let steps = i64::try_from(steps).unwrap_or(i64::MAX);
            arrays.push((format!("{theirs}.num_batches_tracked"), Array::I64(steps)));
        }
    }
    Ok(arrays)
}
