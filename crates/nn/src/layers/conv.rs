//! `Conv2d`: a convolution, in floats or quantized.

use super::Layer;
use fixnet_autograd::{Error, Graph, Group, ParamId, Result, Store, Var};
use fixnet_quant::{QConv2d, QInput, QuantConfig};
use fixnet_tensor::{Tensor, Window};

/// How the weights of a convolution start: normal, with mean 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With variance 2 / (KH · KW · O / groups) (He et al., fan out): for layers that a ReLU follows.
    #[default]
    FanOut,
    /// With variance 1 / (3 · KH · KW · I / groups), that of PyTorch's default.
    FanIn,
    /// With the standard deviation 0.01: for the heads of detectors, which are to say little at first (Lin et al., ICCV 2017).
    Small,
}

impl Start {
    fn deviation(self, of: &Conv2dConfig) -> f32 {
        let ([c_in, c_out], area) = (of.channels, of.kernel[0].saturating_mul(of.kernel[1]));
        let groups = of.window.groups.max(1);
        match self {
            Self::FanOut => libm::sqrtf(2.0 / (area.saturating_mul(c_out) / groups) as f32),
            Self::Small => 0.01,
            Self::FanIn => libm::sqrtf(1.0 / 3usize.saturating_mul(area.saturating_mul(c_in) / groups) as f32),
        }
    }
}

/// The sizes of a [`Conv2d`].
///
/// ```
/// use fixnet_nn::layers::Conv2dConfig;
/// use fixnet_tensor::Window;
/// let halving = Conv2dConfig::square([16, 32], 3).strided(2);
/// assert_eq!((halving.window.stride, halving.window.padding), ([2, 2], [1, 1]));
/// let depthwise = Conv2dConfig { window: Window { groups: 16, ..halving.window }, ..Conv2dConfig::square([16, 16], 3) };
/// # let _ = depthwise;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Channels of the input and of the output, I and O.
    pub channels: [usize; 2],
    /// Rows and columns of a window, KH and KW.
    pub kernel: [usize; 2],
    /// How windows move, and which channels they see.
    pub window: Window,
    /// How the weights start.
    pub start: Start,
}

impl Conv2dConfig {
    /// Square windows of `kernel` x `kernel`, moved by 1, with `kernel / 2` rows and columns of padding: the output is as large
    /// as the input where `kernel` is odd.
    pub fn square(channels: [usize; 2], kernel: usize) -> Self {
        let window = Window { padding: [kernel / 2; 2], ..Window::default() };
        Self { channels, kernel: [kernel; 2], window, start: Start::default() }
    }

    /// The same, moved by `stride`.
    #[must_use]
    pub fn strided(self, stride: usize) -> Self {
        Self { window: Window { stride: [stride; 2], ..self.window }, ..self }
    }
}

/// A convolution, [N, H, W, I] to [N, H', W', O]. It has no bias, since a normalization follows it; where none does,
/// [`biased`](Self::biased) adds one.
///
/// Where it is quantized, all three of its products are integer products; with gradients of 32 bits the two backward ones are
/// float products. With weights of 32 bits behind a quantized input (`32/A/32`) all three are.
#[derive(Debug, Clone)]
pub struct Conv2d {
    name: String,
    weight: ParamId,
    window: Window,
    quantized: Option<QConv2d>,
    /// The quantizer of the input, where only that is quantized.
    input: Option<QInput>,
    bias: Option<ParamId>,
}

impl Conv2d {
    /// Makes a convolution at the precision of `quant`, float if that is 32/32/32. Whether its input has levels of both signs
    /// follows from the input itself ([`Var::is_non_negative`]). The key of its weights, [O, KH, KW, I / groups], is
    /// `name.weight`.
    ///
    /// # Errors
    /// The name is taken, the precision makes no sense, or the groups do not divide the channels.
    pub fn new(store: &mut Store, name: &str, config: Conv2dConfig, quant: &QuantConfig) -> Result<Self> {
        let Conv2dConfig { channels: [c_in, c_out], kernel, window, start } = config;
        let groups = window.groups;
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            let expected = format!("a divisor of {c_in} and {c_out} channels");
            return Err(Error::setting("groups of a convolution", expected, groups).in_layer(name));
        }
        let float = quant.precision.weight().is_none();
        let group = if float { Group::Weight } else { Group::Latent };
        let shape = [c_out, kernel[0], kernel[1], c_in / groups];
        let weight = store.add_normal(&format!("{name}.weight"), group, &shape, start.deviation(&config))?;
        let quantized = match float {
            true => None,
            false => Some(QConv2d::new(store, name, weight, quant, window)?),
        };
        let input = super::quantized_input(store, name, quant)?;
        Ok(Self { name: name.to_string(), weight, window, quantized, input, bias: None })
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
        self.biased_from(store, 0.0)
    }

    /// As [`biased`](Self::biased), with every bias `start` at first.
    ///
    /// # Errors
    /// The name is taken.
    pub fn biased_from(self, store: &mut Store, start: f32) -> Result<Self> {
        let channels = store.param(self.weight).value.shape()[0];
        let bias = store.add(&format!("{}.bias", self.name), Group::Offset, Tensor::full(&[channels], start))?;
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
                let (x, w) = (super::values(self.input.as_ref(), g, x)?, g.param(self.weight));
                let y = match bias {
                    Some(bias) => g.conv2d_biased(&x, &w, bias, self.window),
                    None => g.conv2d(&x, &w, self.window),
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
                let layer =
                    Conv2d::new(&mut store, "c", Conv2dConfig { window, ..Conv2dConfig::square([8, 8], 3) }, &config)
                        .unwrap();
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
        let e = Conv2d::new(
            &mut store,
            "c",
            Conv2dConfig { window, ..Conv2dConfig::square([8, 8], 3) },
            &QuantConfig::float(),
        );
        let e = e.unwrap_err();
        assert_eq!(
            e.to_string(),
            "layer `c`: groups of a convolution: expected a divisor of 8 and 8 channels, found 3"
        );
    }
}
