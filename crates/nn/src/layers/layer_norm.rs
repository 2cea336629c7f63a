//! `LayerNorm`: normalization of each row of the last axis, alike in training and evaluation.

use super::Layer;
use fixnet_autograd::{Graph, Group, ParamId, Result, Store, Var};
use fixnet_tensor::Tensor;

/// Layer normalization with a learned factor and offset per channel; eps 1e-5 unless [`with_eps`](Self::with_eps) sets it. Shapes: [.., C] to [.., C].
#[derive(Debug, Clone)]
pub struct LayerNorm {
    name: String,
    weight: ParamId,
    bias: ParamId,
    eps: f32,
}

impl LayerNorm {
    /// Makes a layer for `channels` channels, the last axis; keys `name.weight` and `name.bias`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(store: &mut Store, name: &str, channels: usize) -> Result<Self> {
        Self::with(store, name, channels, 1e-5)
    }

    /// The same with another eps, which is added to the variance.
    ///
    /// # Errors
    /// The name is taken.
    pub fn with(store: &mut Store, name: &str, channels: usize, eps: f32) -> Result<Self> {
        let weight = store.add(&format!("{name}.weight"), Group::Offset, Tensor::full(&[channels], 1.0))?;
        let bias = store.add(&format!("{name}.bias"), Group::Offset, Tensor::zeros(&[channels]))?;
        Ok(Self { name: name.to_string(), weight, bias, eps })
    }

    /// The same layer with another number added to the variance.
    #[must_use]
    pub fn with_eps(self, eps: f32) -> Self {
        Self { eps, ..self }
    }
}

impl Layer for LayerNorm {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let named = |e: fixnet_autograd::Error| e.in_layer(&self.name);
        g.store().owns(self.weight).map_err(named)?;
        let (weight, bias) = (g.param(self.weight), g.param(self.bias));
        g.layer_norm(x, &weight, &bias, self.eps).map_err(named)
    }
}
