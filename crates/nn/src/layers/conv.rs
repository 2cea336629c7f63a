//! `Conv2d`: a convolution, in floats or quantized.

use super::Layer;
use fixnet_autograd::{Error, Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::{Precision, QConv2d, QuantConfig};
use fixnet_tensor::{Tensor, Window};

/// A square convolution, [N, H, W, I] to [N, H', W', O]. It has no bias, since a normalization follows it; where none
/// does, [`biased`](Self::biased) adds one.
///
/// Quantized by [`quantized`](Self::quantized), all three of its products are integer products; with gradients of 32 bits
/// the two backward ones are float products.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    weight: ParamId,
    window: Window,
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
        Self::quantized(store, name, channels, kernel, stride, &QuantConfig::float())
    }

    /// A convolution at the precision of `config`, float if that is 32/32/32. Whether its input has levels of both signs
    /// follows from the input itself ([`Var::is_non_negative`]).
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
    ) -> Result<Self> {
        let padding = [kernel / 2; 2];
        let window = Window { stride: [stride; 2], padding, ..Window::default() };
        Self::windowed(store, name, [c_in, c_out], [kernel; 2], window, config)
    }

    /// The same, but weights start normal with variance 1 / (3 · kernel² · channels in), that of PyTorch's usual uniform start:
    /// for networks without normalization, in which a start by fan out would blow up values where channels become fewer.
    ///
    /// # Errors
    /// As [`quantized`](Self::quantized).
    pub fn quantized_by_fan_in(
        store: &mut Store,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        config: &QuantConfig,
    ) -> Result<Self> {
        let window = Window { stride: [stride; 2], padding: [kernel / 2; 2], ..Window::default() };
        let std = libm::sqrtf(1.0 / (3 * kernel.saturating_mul(kernel).saturating_mul(channels[0])) as f32);
        Self::started(store, name, (channels, [kernel; 2], window), std, config)
    }

    /// A convolution with any [`Window`]: dilated, in groups, depthwise. Weights start as those of [`new`](Self::new).
    ///
    /// # Errors
    /// The channels are no multiple of the groups, the name is taken or the precision makes no sense.
    pub fn windowed(
        store: &mut Store,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; 2],
        window: Window,
        config: &QuantConfig,
    ) -> Result<Self> {
        let fan_out = kernel[0].saturating_mul(kernel[1]).saturating_mul(channels[1]) / window.groups.max(1);
        let std = libm::sqrtf(2.0 / fan_out as f32);
        Self::started(store, name, (channels, kernel, window), std, config)
    }

    /// A convolution whose weights start normal with deviation `std`.
    fn started(
        store: &mut Store,
        name: &str,
        ([c_in, c_out], kernel, window): ([usize; 2], [usize; 2], Window),
        std: f32,
        config: &QuantConfig,
    ) -> Result<Self> {
        let groups = window.groups;
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            let expected = format!("a divisor of {c_in} and {c_out} channels");
            return Err(Error::setting("groups of a convolution", expected, groups).in_layer(name));
        }
        let float = config.precision == Precision::FLOAT;
        let group = if float { Group::Weight } else { Group::Latent };
        let shape = [c_out, kernel[0], kernel[1], c_in / groups];
        let weight = store.add_normal(&format!("{name}.weight"), group, &shape, std)?;
        let quantized = match float {
            true => None,
            false => Some(QConv2d::new(store, name, weight, config, window)?),
        };
        Ok(Self { name: name.to_string(), weight, window, quantized, bias: None })
    }

    /// Adds a learned factor of the output where quantized values leave out their scales (see
    /// [`QConv2d::output_scaled`]), for a layer that no normalization follows. `config` is that of the layer.
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(mut self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        self.quantized = self.quantized.map(|op| op.output_scaled(store, config)).transpose()?;
        Ok(self)
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
        g.store().owns(self.weight).map_err(named)?;
        let bias = self.bias.map(|bias| g.param(bias));
        match (&self.quantized, &bias) {
            (Some(op), None) => op.forward(g, x),
            (Some(op), Some(bias)) => op.forward_biased(g, x, bias),
            (None, bias) => {
                let w = g.param(self.weight);
                let y = match bias {
                    Some(bias) => g.conv2d_biased(x, &w, bias, self.window),
                    None => g.conv2d(x, &w, self.window),
                };
                y.map_err(named)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouped_and_depthwise_layers_learn_in_every_precision() {
        use fixnet_quant::{Scheme, WeightScales};
        for (bits, scheme, weight_scales) in [
            ("32/32/32", Scheme::Lbt, WeightScales::Tensor),
            ("4/4/4", Scheme::Lbt, WeightScales::Tensor),
            ("8/8/32", Scheme::Lbt, WeightScales::Channel),
            ("8/8/8", Scheme::Trs, WeightScales::Channel),
        ] {
            let config = QuantConfig { scheme, weight_scales, ..QuantConfig::new(bits.parse().unwrap()) };
            for groups in [2, 8] {
                let mut store = Store::seeded(1);
                let window = Window { padding: [2, 2], dilation: [2, 2], groups, ..Window::default() };
                let layer = Conv2d::windowed(&mut store, "c", [8, 8], [3, 3], window, &config).unwrap();
                let mut g = Graph::train(&mut store);
                let x = g
                    .input(Tensor::from_vec(&[2, 5, 5, 8], (0..400).map(|i| (i % 17) as f32 - 8.0).collect()).unwrap());
                let y = layer.forward(&mut g, &x).unwrap();
                assert_eq!(y.shape(), [2, 5, 5, 8]);
                let target = g.input(Tensor::zeros(y.shape()));
                let loss = g.mse_loss(&y, &target).unwrap();
                g.backward(loss).unwrap();
                let weight = store.param(layer.weight);
                assert_eq!(weight.value.shape(), [8, 3, 3, 8 / groups]);
                assert!(weight.grad.as_ref().unwrap().data().iter().any(|&d| d != 0.0), "{bits} {groups}");
            }
        }
        let mut store = Store::seeded(1);
        let window = Window { groups: 3, ..Window::default() };
        let e = Conv2d::windowed(&mut store, "c", [8, 8], [3, 3], window, &QuantConfig::float()).unwrap_err();
        assert_eq!(
            e.to_string(),
            "layer `c`: groups of a convolution: expected a divisor of 8 and 8 channels, found 3"
        );
    }
}
