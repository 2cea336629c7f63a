//! `Linear`: a fully connected layer, mostly with a bias, in floats or quantized.

use super::Layer;
use fixnet_autograd::{Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::{QInput, QLinear, QuantConfig};
use fixnet_tensor::Tensor;

/// `y = x · w^T + bias`, [.., I] to [.., O]. The bias stays float.
#[derive(Debug, Clone)]
pub struct Linear {
    name: String,
    weight: ParamId,
    bias: Option<ParamId>,
    quantized: Option<QLinear>,
    /// The quantizer of the input, where only that is quantized.
    input: Option<QInput>,
}

impl Linear {
    /// A float layer. Weights start normal with variance 2 / (I + O) (Glorot), the bias 0; keys `name.weight`,
    /// `name.bias`.
    ///
    /// # Errors
    /// The name is taken.
    pub fn new(store: &mut Store, name: &str, c_in: usize, c_out: usize) -> Result<Self> {
        Self::quantized(store, name, [c_in, c_out], &QuantConfig::float())
    }

    /// A layer at the precision of `config`, float if that is 32/32/32. Whether its input has levels of both signs follows
    /// from the input itself ([`Var::is_non_negative`]).
    ///
    /// # Errors
    /// The name is taken or the precision makes no sense.
    pub fn quantized(store: &mut Store, name: &str, channels: [usize; 2], config: &QuantConfig) -> Result<Self> {
        Self::starting(store, name, channels, glorot(channels), config)
    }

    /// The same with weights that start normal with the standard deviation `deviation`.
    ///
    /// # Errors
    /// As [`quantized`](Self::quantized).
    pub fn starting(
        store: &mut Store,
        name: &str,
        [c_in, c_out]: [usize; 2],
        deviation: f32,
        config: &QuantConfig,
    ) -> Result<Self> {
        Self::made(store, name, [c_in, c_out], (deviation, true), config)
    }

    /// The same without a bias; weights start as those of [`quantized`](Self::quantized).
    ///
    /// # Errors
    /// As there.
    pub fn unbiased(store: &mut Store, name: &str, channels: [usize; 2], config: &QuantConfig) -> Result<Self> {
        Self::made(store, name, channels, (glorot(channels), false), config)
    }

    fn made(
        store: &mut Store,
        name: &str,
        [c_in, c_out]: [usize; 2],
        (deviation, biased): (f32, bool),
        config: &QuantConfig,
    ) -> Result<Self> {
        let float = config.precision.weight().is_none();
        let group = if float { Group::Weight } else { Group::Latent };
        let weight = store.add_normal(&format!("{name}.weight"), group, &[c_out, c_in], deviation)?;
        let bias = match biased {
            true => Some(store.add(&format!("{name}.bias"), Group::Offset, Tensor::zeros(&[c_out]))?),
            false => None,
        };
        let quantized = if float { None } else { Some(QLinear::new(store, name, weight, config)?) };
        let input = super::quantized_input(store, name, config)?;
        Ok(Self { name: name.to_string(), weight, bias, quantized, input })
    }

    /// Adds a learned factor of the output where quantized values leave out their scales (see
    /// [`QLinear::output_scaled`]), for a layer that no normalization follows. `config` is that of the layer.
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(mut self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        self.quantized = self.quantized.map(|op| op.output_scaled(store, config)).transpose()?;
        Ok(self)
    }
}

/// The deviation of Glorot: the square root of 2 / (I + O).
fn glorot([c_in, c_out]: [usize; 2]) -> f32 {
    libm::sqrtf(2.0 / c_in.saturating_add(c_out) as f32)
}

impl Layer for Linear {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.store().owns(self.weight).map_err(|e| e.in_layer(&self.name))?;
        let bias = self.bias.map(|bias| g.param(bias));
        match (&self.quantized, &bias) {
            (Some(op), Some(bias)) => op.forward_biased(g, x, bias),
            (Some(op), None) => op.forward(g, x),
            (None, bias) => {
                let (x, w) = (super::values(self.input.as_ref(), g, x)?, g.param(self.weight));
                let y = match bias {
                    Some(bias) => g.linear_biased(&x, &w, bias),
                    None => g.linear(&x, &w),
                };
                y.map_err(|e| e.in_layer(&self.name))
            }
        }
    }
}
