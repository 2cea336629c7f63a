//! ReActNet-18 (Liu et al., ECCV 2020, in the authors' form with the shape of ResNet-18): blocks of one binary convolution between
//! learned shifts, around which floats go by.

use super::{Model, ModelKind, image, name_and_width, with_width};
use crate::layers::{
    AvgPool2d, BatchNorm2d, Conv2d, Conv2dConfig, GlobalAvgPool2d, Layer, Linear, MaxPool2d, RPRelu, RSign, Sequential,
};
use fixnet_autograd::{Error, Graph, Result, Store, Var};
use fixnet_quant::QuantConfig;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "reactnet18[:wWIDTH], reactnet18-imagenet[:wWIDTH]",
    about: "binary activations, for small and for large images; w0.5 has half the channels",
    examples: &["reactnet18:w0.05", "reactnet18-imagenet:w0.05"],
    // What is wrong with a width is said rather than that no model is meant.
    parse: |text| {
        let (name, width) = name_and_width(text);
        let large = match name {
            "reactnet18" => false,
            "reactnet18-imagenet" => true,
            _ => return None,
        };
        let model = width.map(|width| ReActNet18 { width, large }).filter(ReActNet18::fits);
        Some(model.map(Into::into).ok_or_else(|| Error::setting("model", EXPECTED, text)))
    },
};

const EXPECTED: &str = "reactnet18 or reactnet18-imagenet, with :w0.5 for half the channels (widths from 0.05 to 10)";

/// Stages, each of [`BLOCKS`] blocks and of twice the channels of the one before.
const STAGES: usize = 4;
/// Blocks of a stage.
const BLOCKS: usize = 4;
/// How often stages halve height and width: all but the first do.
const HALVED: usize = 1 << (STAGES - 1);

/// `reactnet18`, `reactnet18-imagenet`, `reactnet18:w0.5`: the [network](reactnet18) with so many times the channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReActNet18 {
    /// `w0.5`: the factor of all numbers of channels, 0.05 to 10.
    pub width: f64,
    /// Whether it is the form for large images.
    pub large: bool,
}

impl ReActNet18 {
    fn fits(&self) -> bool {
        (0.05..=10.0).contains(&self.width)
    }
}

impl Model for ReActNet18 {
    fn name(&self) -> String {
        with_width(if self.large { "reactnet18-imagenet" } else { "reactnet18" }, self.width)
    }

    fn published(&self) -> ([usize; 3], usize) {
        if self.large { ([224, 224, 3], 1000) } else { ([32, 32, 3], 10) }
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let [height, width, channels] = image(self, input)?;
        // The stem of the form for large images halves twice, rounded up; what the stages halve has to be even.
        let stem = |length: usize| if self.large { length.div_ceil(2).div_ceil(2) } else { length };
        if [height, width].iter().any(|&length| stem(length) == 0 || !stem(length).is_multiple_of(HALVED)) {
            let multiple = if self.large { 4 * HALVED } else { HALVED };
            let expected = format!("height and width that are multiples of {multiple} for {}", self.name());
            return Err(Error::setting("images", expected, format!("{height}x{width}")));
        }
        reactnet18(store, *self, [channels, outputs], config)
    }
}

/// ReActNet-18 from `channels[0]` channels to `channels[1]` classes: a convolution to 64 channels with a batch norm and no ReLU, four
/// stages of four blocks of 64, 128, 256 and 512 channels, global average pooling and the classifier `fc`. Names are
/// those of the authors.
///
/// For small images the first convolution has windows of 3x3 and keeps the size. For large ones it is 7x7 with stride 2, and a max
/// pooling of 3x3 with stride 2 follows the batch norm.
///
/// The convolutions of the blocks have the precision of `config`, published with 1/1/32: signs of activations and of weights. With
/// more bits the same places have quantizers of both signs. First convolution, shortcuts and classifier are floats (the first and the
/// last take `config.edges`). In floats alone the sign becomes a clamp to [-1, 1]. Weights start normal by fan out.
///
/// # Errors
/// The width is out of its range, or names in the store are taken.
pub fn reactnet18(
    store: &mut Store,
    model: ReActNet18,
    [channels, classes]: [usize; 2],
    config: &QuantConfig,
) -> Result<Sequential> {
    if !model.fits() {
        return Err(Error::setting("model", EXPECTED, model.name()));
    }
    let edge = config.edge()?;
    let first = ((64.0 * model.width).round() as usize).max(1);
    let stem = match model.large {
        true => Conv2dConfig::square([channels, first], 7).strided(2),
        false => Conv2dConfig::square([channels, first], 3),
    };
    let mut net =
        Sequential::new().push(Conv2d::new(store, "conv1", stem, &edge)?).push(BatchNorm2d::new(store, "bn1", first)?);
    if model.large {
        net = net.push(MaxPool2d { size: 3, stride: 2, padding: 1 });
    }
    let mut from = first;
    for stage in 0..STAGES {
        let to = first << stage;
        for block in 0..BLOCKS {
            let name = format!("layer{}.{block}", stage + 1);
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            net = net.push(ReActBlock::new(store, &name, [from, to], stride, config)?);
            from = to;
        }
    }
    let classifier = Linear::quantized(store, "fc", [from, classes], &edge)?;
    Ok(net.push(GlobalAvgPool2d).push(classifier.output_scaled(store, &edge)?))
}

/// `rprelu(bn(conv 3x3(sign(x + b0))) + r)`. The shortcut r is x, or where the size changes the means of 2x2 pixels through a 1x1
/// convolution of floats and a batch norm.
struct ReActBlock {
    sign: RSign,
    conv: Conv2d,
    bn: BatchNorm2d,
    activation: RPRelu,
    shortcut: Option<Sequential>,
}

impl ReActBlock {
    /// Makes a block from `channels[0]` to `channels[1]` channels; keys under `name.move0`, `name.binary_conv`, `name.bn1`,
    /// `name.move1`, `name.prelu`, `name.move2` and, where the size changes, `name.downsample.1` and `name.downsample.2`.
    ///
    /// # Errors
    /// The stride is not 1 or 2, or is 1 where the number of channels changes; or a name is taken.
    fn new(store: &mut Store, name: &str, channels: [usize; 2], stride: usize, config: &QuantConfig) -> Result<Self> {
        let key = |part: &str| format!("{name}.{part}");
        let [from, to] = channels;
        if !(stride == 2 || (stride == 1 && from == to)) {
            let expected = "2, or 1 with as many channels after as before it";
            return Err(Error::setting("stride of a block", expected, stride).in_layer(name));
        }
        let sign = RSign::new(store, &key("move0"), from, config)?;
        let conv = Conv2dConfig::square(channels, 3).strided(stride);
        let conv = Conv2d::new(store, &key("binary_conv"), conv, &RSign::signed(config))?;
        let bn = BatchNorm2d::new(store, &key("bn1"), to)?;
        let activation = RPRelu::new(store, name, to)?;
        let shortcut = match stride {
            1 => None,
            _ => {
                let one = Conv2dConfig::square(channels, 1);
                Some(
                    Sequential::new()
                        .push(AvgPool2d { size: 2, stride: 2 })
                        .push(Conv2d::new(store, &key("downsample.1"), one, &QuantConfig::float())?)
                        .push(BatchNorm2d::new(store, &key("downsample.2"), to)?),
                )
            }
        };
        Ok(Self { sign, conv, bn, activation, shortcut })
    }
}

impl Layer for ReActBlock {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let y = self.sign.forward(g, x)?;
        let y = self.conv.forward(g, &y)?;
        let y = self.bn.forward(g, &y)?;
        let shortcut = match &self.shortcut {
            Some(layers) => layers.forward(g, x)?,
            None => x.clone(),
        };
        let z = g.add(&y, &shortcut)?;
        self.activation.forward(g, &z)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{ModelSpec, network};
    use crate::plan::Plan;
    use fixnet_autograd::{Group, Param};
    use fixnet_quant::{FixedConv2d, QuantizeInput};
    use fixnet_tensor::Tensor;

    #[test]
    fn names_are_read_as_written_and_widths_checked() {
        for text in ["reactnet18", "reactnet18-imagenet", "reactnet18:w0.5", "reactnet18-imagenet:w0.125"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["reactnet18:", "reactnet18:0.5", "reactnet18:w0.01", "reactnet18-imagenet:w11"] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("widths from 0.05 to 10") && e.ends_with(text), "{e}");
        }
        for (model, input, word) in [
            (ReActNet18 { width: 1.0, large: false }, [12, 16, 3], "multiples of 8 for reactnet18, found 12x16"),
            (ReActNet18 { width: 1.0, large: true }, [224, 200, 3], "multiples of 32 for reactnet18-imagenet"),
        ] {
            let e = model.build(&mut Store::seeded(0), &input, 10, &QuantConfig::float()).err().unwrap().to_string();
            assert!(e.contains(word), "{e}");
        }
    }

    /// Parameters as a module of PyTorch with the authors' layers has them, and multiply-adds of its convolutions.
    #[test]
    fn networks_have_the_published_sizes() {
        for (text, input, classes, parameters, macs) in [
            ("reactnet18-imagenet", [224, 224, 3], 1000, 11_704_424, 1_814_073_344u64),
            ("reactnet18", [32, 32, 3], 10, 11_188_874, 555_422_720),
        ] {
            let (mut store, net) = network(text, input, classes, &QuantConfig::float());
            let summary = Plan::of(&net, &mut store, &input).unwrap().summary();
            assert_eq!((summary.parameters(), summary.macs()), (parameters, macs), "{text}");
        }
    }

    #[test]
    fn only_the_convolutions_of_blocks_are_binary() {
        for (bits, latents) in [("1/1/32", 16), ("1/1/4", 16), ("32/1/32", 0), ("4/4/4", 16)] {
            let (mut store, net) =
                network("reactnet18:w0.125", [16, 16, 3], 10, &QuantConfig::new(bits.parse().unwrap()));
            let float: Vec<&str> =
                store.params().iter().filter(|p| p.group() == Group::Weight).map(Param::name).collect();
            let ends = float.iter().filter(|name| !name.contains("binary_conv")).copied().collect::<Vec<_>>();
            let shortcuts = ["layer2", "layer3", "layer4"].map(|stage| format!("{stage}.0.downsample.1.weight"));
            let expected = [&["conv1.weight".to_string()], &shortcuts[..], &["fc.weight".to_string()]].concat();
            assert_eq!(ends, expected, "{bits}");
            let latent = store.params().iter().filter(|p| p.group() == Group::Latent).count();
            assert_eq!((latent, float.len() - ends.len()), (latents, 16 - latents), "{bits}");
            assert!(store.find("layer4.3.move2.bias").is_ok() && store.find("layer1.0.prelu.weight").is_ok());
            let mut g = Graph::train(&mut store);
            let x = Tensor::from_vec(&[2, 16, 16, 3], (0..1536).map(|i| (i % 11) as f32 - 5.0).collect()).unwrap();
            let x = g.input(x);
            assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 10]);
            drop(g);
            let plan = Plan::of(&net, &mut store, &[16, 16, 3]).unwrap();
            let products = plan.nodes().iter().filter_map(|node| node.get::<FixedConv2d>().map(|c| c.product.input()));
            let inputs = plan.nodes().iter().filter_map(|node| node.get::<QuantizeInput>().map(|q| q.input));
            let ranges: Vec<_> = products.chain(inputs).map(|input| input.range).collect();
            assert_eq!(ranges.len(), 16, "{bits}");
            assert!(ranges.iter().all(|range| range.is_sign() == bits.contains("/1/") && range.min() < 0), "{bits}");
        }
    }
}
