//! Weights of PyTorch, in and out: `safetensors` files of a `state_dict`, under the names of torchvision or of the common CIFAR
//! residual networks.
//!
//! | here | there |
//! |---|---|
//! | `layer2.0.conv1.weight` [O, KH, KW, I] | the same name, [O, I, KH, KW] |
//! | `layer2.0.shortcut`, `layer2.0.shortcut_bn` | `layer2.0.downsample.0`, `.1` or `layer2.0.shortcut.0`, `.1` |
//! | `classifier` | `fc`, `linear` or `classifier` |
//! | weights behind a flattened image, columns H, W, C | columns C, H, W |
//! | batch norm over the pooled features (`bn2` of CIFAR networks) | often not there: it stands for the identity |
//! | (none) | `num_batches_tracked` of batch norms: left out of what is read, and written |
//!
//! [`pretrained`] and [`translate`] read, [`state_dict`] writes. `module.`, `model.` and `_orig_mod.`, which wrappers of PyTorch
//! put before names, are taken off in any order, and the last also within a name. Numbers that are read may be F32, F16, BF16
//! or F64.
//!
//! The weights of quantized layers are their latent weights, floats, both ways: PyTorch computes with them as they are, without
//! the rounding to levels.

mod layout;
mod names;
mod parts;
mod read;
mod write;

pub use names::Names;
pub use read::{Imported, pretrained, translate};
pub use write::state_dict;

use crate::Result;
use fixnet_autograd::Store;
use fixnet_nn::models::{self, ModelSpec};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;

/// The operations of a model in floats.
///
/// # Errors
/// The images are too small for it.
pub fn plan_of(model: &ModelSpec, input: impl AsRef<[usize]>, classes: usize) -> Result<Plan> {
    let (mut store, input) = (Store::seeded(0), input.as_ref());
    let net = models::build(&mut store, model, input, classes, &QuantConfig::float())?;
    Ok(Plan::of(&net, &mut store, input)?)
}
