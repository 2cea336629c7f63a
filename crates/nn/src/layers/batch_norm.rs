//! `BatchNorm2d`: normalization of each channel, of images [N, H, W, C] and of features [N, C] alike.

use super::Layer;
use fixnet_autograd::ops::{BatchNorm, RunningStats};
use fixnet_autograd::{Graph, Group, Result, Store, Var};
use fixnet_tensor::Tensor;

/// Batch normalization with a learned factor and offset; eps 1e-5, momentum 0.1.
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    name: String,
    op: BatchNorm,
}

impl BatchNorm2d {
    /// A layer for `channels` channels; keys `name.weight`, `name.bias`, `name.running_mean`, `name.running_var`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(store: &mut Store, name: &str, channels: usize) -> Result<Self> {
        Self::with(store, name, channels, [1e-5, 0.1])
    }

    /// The same with another eps, which is added to the variance, and another momentum, the share of a batch in the running
    /// statistics.
    ///
    /// # Errors
    /// The name is taken.
    pub fn with(store: &mut Store, name: &str, channels: usize, [eps, momentum]: [f32; 2]) -> Result<Self> {
        let op = BatchNorm {
            weight: store.add(&format!("{name}.weight"), Group::Offset, Tensor::full(&[channels], 1.0))?,
            bias: store.add(&format!("{name}.bias"), Group::Offset, Tensor::zeros(&[channels]))?,
            stats: store.add_state(name, RunningStats::new(channels))?,
            eps,
            momentum,
        };
        Ok(Self { name: name.to_string(), op })
    }
}

impl Layer for BatchNorm2d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.batch_norm(x, &self.op).map_err(|e| e.in_layer(&self.name))
    }
}
