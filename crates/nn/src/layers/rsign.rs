//! `RSign` and `RPRelu`, the activations of ReActNet (Liu et al., ECCV 2020): a sign behind a learned shift, and a PReLU between two.

use super::Layer;
use fixnet_autograd::{Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;

/// A number for each channel.
fn channels(store: &mut Store, name: &str, channels: usize, start: f32) -> Result<ParamId> {
    store.add(name, Group::Offset, Tensor::full(&[channels], start))
}

/// `x + b0`, with a learned shift for each channel, of which the quantizer of the layer behind takes the sign.
///
/// The sign of 0 is +1. Its derivative, and so that of the shift, is the quantizer's
/// ([`SignEstimator::Triangle`](fixnet_quant::SignEstimator::Triangle)); the layer behind is made with
/// [`signed`](Self::signed) settings. In a network of floats nothing quantizes: there the value is held to [-1, 1].
#[derive(Debug, Clone)]
pub struct RSign {
    name: String,
    shift: ParamId,
    float: bool,
}

impl RSign {
    /// Makes it for `channels` channels, for a layer of the precision of `config`; the key of the shift is `name.bias`, 0 at first.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(store: &mut Store, name: &str, channels: usize, config: &QuantConfig) -> Result<Self> {
        let shift = self::channels(store, &format!("{name}.bias"), channels, 0.0)?;
        Ok(Self { name: name.to_string(), shift, float: config.precision.activation().is_none() })
    }

    /// Returns the settings of the layer that takes the sign.
    pub fn signed(config: &QuantConfig) -> QuantConfig {
        QuantConfig { sign_estimator: fixnet_quant::SignEstimator::Triangle, ..config.clone() }
    }
}

impl Layer for RSign {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.store().owns(self.shift).map_err(|e| e.in_layer(&self.name))?;
        let shift = g.param(self.shift);
        let y = g.add_bias(x, &shift).map_err(|e| e.in_layer(&self.name))?;
        if self.float { g.clamp(&y, -1.0, 1.0) } else { Ok(y) }
    }
}

/// `PReLU(x + b1) + b2`: [`Graph::rprelu`] with a learned shift, slope and offset for each channel.
#[derive(Debug, Clone)]
pub struct RPRelu {
    name: String,
    shift: ParamId,
    slope: ParamId,
    offset: ParamId,
}

impl RPRelu {
    /// Makes it for `channels` channels, with keys as ReActNet's authors have them: `name.move1.bias` and `name.move2.bias`, 0 at
    /// first, and `name.prelu.weight`, 0.25 at first.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(store: &mut Store, name: &str, channels: usize) -> Result<Self> {
        let mut add = |key: &str, start| self::channels(store, &format!("{name}.{key}"), channels, start);
        let (shift, slope, offset) = (add("move1.bias", 0.0)?, add("prelu.weight", 0.25)?, add("move2.bias", 0.0)?);
        Ok(Self { name: name.to_string(), shift, slope, offset })
    }
}

impl Layer for RPRelu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.store().owns(self.shift).map_err(|e| e.in_layer(&self.name))?;
        let [shift, slope, offset] = [self.shift, self.slope, self.offset].map(|id| g.param(id));
        g.rprelu(x, &shift, &slope, &offset).map_err(|e| e.in_layer(&self.name))
    }
}
