//! `Conv2d`: a convolution, in floats or quantized.

use super::Layer;
use fixnet_autograd::{Error, Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::{Precision, QConv2d, QuantConfig};
use fixnet_tensor::Tensor;

/// A square convolution, [N, H, W, I] to [N, H', W', O]. It has no bias, since a normalization follows it; where none
/// does, [`biased`](Self::biased) adds one.
///
/// Quantized by [`quantized`](Self::quantized), all three of its products are integer products.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    weight: ParamId,
    stride: usize,
    padding: usize,
    quantized: Option<QConv2d>,
    bias: Option<ParamId>,
}

impl Conv2d {
    /// A float convolution with windows of `kernel` x `kernel`, moved by `stride`, with `kernel / 2` rows of padding.
    /// Weights start normal with variance 2 / (kernel² · channels out) (He et al., fan out); key `name.weight`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(store: &mut Store, name: &str, channels: [usize; 2], kernel: usize, stride: usize) -> Result<Self> {
        Self::quantized(store, name, channels, kernel, stride, &QuantConfig::FLOAT, false)
    }

    /// A convolution at the precision of `config`, float if that is 32/32/32. `signed` says that its input may be
    /// negative, as a first layer's is.
    ///
    /// # Errors
    /// The name is taken or the precision makes no sense.
    pub fn quantized(
        store: &mut Store,
        name: &str,
        [c_in, c_out]: [usize; 2],
        kernel: usize,
        stride: usize,
        config: &QuantConfig,
        signed: bool,
    ) -> Result<Self> {
        let float = config.precision == Precision::FLOAT;
        let group = if float { Group::Weight } else { Group::Latent };
        let std = libm::sqrtf(2.0 / (kernel * kernel * c_out) as f32);
        let weight = store.add_normal(&format!("{name}.weight"), group, &[c_out, kernel, kernel, c_in], std)?;
        let padding = kernel / 2;
        let quantized = match float {
            true => None,
            false => Some(QConv2d::new(store, name, weight, config, signed, [stride; 2], [padding; 2])?),
        };
        Ok(Self { name: name.to_string(), weight, stride, padding, quantized, bias: None })
    }

    /// Adds a bias, a float for each channel, 0 at first; key `name.bias`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn biased(self, store: &mut Store) -> Result<Self> {
        let channels = store.param(self.weight).value.shape()[0];
        let bias = store.add(&format!("{}.bias", self.name), Group::Offset, Tensor::zeros(&[channels]))?;
        Ok(Self { bias: Some(bias), ..self })
    }
}

impl Layer for Conv2d {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let named = |e: Error| e.in_layer(&self.name);
        let y = match &self.quantized {
            Some(op) => op.forward(g, x)?,
            None => {
                let w = g.param(self.weight);
                g.conv2d(x, &w, [self.stride; 2], [self.padding; 2]).map_err(named)?
            }
        };
        match self.bias {
            Some(bias) => {
                let bias = g.param(bias);
                g.add_bias(&y, &bias).map_err(named)
            }
            None => Ok(y),
        }
    }
}
