//! MobileNetV2 (Sandler et al., CVPR 2018): inverted residuals with depthwise convolutions and linear bottlenecks, in
//! torchvision's form for large images and in one for small ones.

use super::{Model, ModelKind, image, name_and_width, with_width};
use crate::layers::{BatchNorm2d, Clamp, Conv2d, Conv2dConfig, Dropout, GlobalAvgPool2d, Linear, Residual, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Window;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "mobilenetv2[:wWIDTH], mobilenetv2-imagenet[:wWIDTH]",
    about: "for small and for large images; w0.5 has half the channels",
    examples: &["mobilenetv2:w0.05", "mobilenetv2-imagenet:w0.05"],
    // What is wrong with a width is said rather than that no model is meant.
    parse: |text| {
        let (name, width) = name_and_width(text);
        let large = match name {
            "mobilenetv2" => false,
            "mobilenetv2-imagenet" => true,
            _ => return None,
        };
        let model = width.map(|width| MobileNetV2 { width, large }).filter(MobileNetV2::fits);
        Some(model.map(Into::into).ok_or_else(|| Error::setting("model", EXPECTED, text)))
    },
};

const EXPECTED: &str = "mobilenetv2 or mobilenetv2-imagenet, with :w0.5 for half the channels (widths from 0.05 to 10)";

/// Expansion of the channels, channels, blocks and the stride of the first of them, for large images.
const STAGES: [[usize; 4]; 7] =
    [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]];

/// `mobilenetv2`, `mobilenetv2-imagenet`, `mobilenetv2:w0.5`: the [network](mobilenet_v2) with so many times the channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MobileNetV2 {
    /// `w0.5`: the factor of all numbers of channels, 0.05 to 10. The last convolution never has fewer than 1280.
    pub width: f64,
    /// Whether it is the form for large images.
    pub large: bool,
}

impl MobileNetV2 {
    fn fits(&self) -> bool {
        (0.05..=10.0).contains(&self.width)
    }

    /// The multiple of 8 that is nearest to so many channels times the width, and at least 0.9 times that.
    fn channels(&self, of: usize, width: f64) -> usize {
        let wanted = of as f64 * width;
        let near = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (near as f64) < 0.9 * wanted { near + 8 } else { near }
    }
}

impl Model for MobileNetV2 {
    fn name(&self) -> String {
        with_width(if self.large { "mobilenetv2-imagenet" } else { "mobilenetv2" }, self.width)
    }

    fn published(&self) -> ([usize; 3], usize) {
        if self.large { ([224, 224, 3], 1000) } else { ([32, 32, 3], 10) }
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        mobilenet_v2(store, *self, [image(self, input)?[2], outputs], config)
    }
}

/// MobileNetV2 from `channels[0]` channels to `channels[1]` classes: a 3x3 convolution to 32 channels, 17 inverted residuals,
/// a 1x1 convolution to 1280, global average pooling, dropout of 0.2 and the classifier. An inverted residual is a 1x1
/// convolution to six times the channels, a 3x3 depthwise one and a 1x1 convolution down, each with a batch norm, the first two
/// with a ReLU6; where the size stays, its input is added. Names and numbers of channels are torchvision's.
///
/// In the form for small images the first convolution and the stage of 24 channels keep the size (stride 1), so that images of
/// 32x32 end as 4x4, and there is no dropout.
///
/// All convolutions but the first are quantized. Those that widen read the output of a linear bottleneck, of either sign, the
/// others what a ReLU6 gives, from 0 to 6. Weights of convolutions start normal by fan out, those of the classifier with a
/// deviation of 0.01.
///
/// # Errors
/// The width is out of its range, or names in the store are taken.
pub fn mobilenet_v2(
    store: &mut Store,
    model: MobileNetV2,
    [channels, classes]: [usize; 2],
    config: &QuantConfig,
) -> Result<Sequential> {
    if !model.fits() {
        return Err(Error::setting("model", EXPECTED, model.name()));
    }
    let strides = if model.large { [2; 2] } else { [1; 2] };
    let (parts, widths) = Body { prefix: "features.", model, strides }.build(store, channels, (&[], 1), config)?;
    let mut net = parts.into_iter().fold(Sequential::new(), Sequential::push);
    let edge = config.edge()?;
    net = net.push(GlobalAvgPool2d);
    if model.large {
        net = net.push(Dropout::new("classifier.0", 0.2)?);
    }
    let classifier = Linear::starting(store, "classifier.1", [widths[0], classes], 0.01, &edge)?;
    Ok(net.push(classifier.output_scaled(store, &edge)?))
}

/// The convolutional part of a [`mobilenet_v2`], as a whole or in the parts that detectors read.
pub(super) struct Body<'a> {
    /// What stands before the numbers of its parts, with a dot.
    pub(super) prefix: &'a str,
    pub(super) model: MobileNetV2,
    /// The strides of the first convolution and of the stage of 24 channels.
    pub(super) strides: [usize; 2],
}

impl Body<'_> {
    /// Makes the first `count` parts of the network, and returns them with the channels that each gives. Each of the blocks `ends` ends one,
    /// and so does the last convolution.
    fn build(
        &self,
        store: &mut Store,
        channels: usize,
        (ends, count): (&[usize], usize),
        config: &QuantConfig,
    ) -> Result<(Vec<Sequential>, Vec<usize>)> {
        let Self { prefix, model, strides: [first, second] } = *self;
        let (mut parts, mut widths) = (Vec::new(), Vec::new());
        let mut from = model.channels(32, model.width);
        let stem = Conv2dConfig::square([channels, from], 3).strided(first);
        let mut net = activated(store, Sequential::new(), &format!("{prefix}0"), stem, &config.edge()?)?;
        let mut index = 1;
        for (stage, [expansion, width, blocks, stride]) in STAGES.into_iter().enumerate() {
            let to = model.channels(width, model.width);
            for block in 0..blocks {
                let stride = if block > 0 {
                    1
                } else if stage == 1 {
                    second
                } else {
                    stride
                };
                let name = format!("{prefix}{index}.conv");
                let path = inverted(store, &name, [from, from * expansion, to], stride, config)?;
                net = if stride == 1 && from == to { net.push(Residual(path)) } else { net.push(path) };
                from = to;
                if ends.contains(&index) {
                    parts.push(std::mem::take(&mut net));
                    widths.push(from);
                }
                if parts.len() == count {
                    return Ok((parts, widths));
                }
                index += 1;
            }
        }
        let last = model.channels(1280, model.width.max(1.0));
        net = activated(store, net, &format!("{prefix}{index}"), Conv2dConfig::square([from, last], 1), config)?;
        parts.push(net);
        widths.push(last);
        Ok((parts, widths))
    }

    /// Makes the parts that lead to the first `count` of four levels, each with images half as large as those of the one before, and
    /// returns them with the channels that each gives. As in torchvision's detectors a level is the first block of its size, and that of
    /// the smallest images the last convolution.
    pub(super) fn levels(
        &self,
        store: &mut Store,
        channels: usize,
        count: usize,
        config: &QuantConfig,
    ) -> Result<(Vec<Sequential>, Vec<usize>)> {
        self.build(store, channels, (&[2, 4, 7], count), config)
    }
}

/// Adds a convolution, a batch norm and a ReLU6; keys under `name.0` and `name.1`.
fn activated(
    store: &mut Store,
    net: Sequential,
    name: &str,
    conv: Conv2dConfig,
    config: &QuantConfig,
) -> Result<Sequential> {
    Ok(net
        .push(Conv2d::new(store, &format!("{name}.0"), conv, config)?)
        .push(BatchNorm2d::new(store, &format!("{name}.1"), conv.channels[1])?)
        .push(Clamp::RELU6))
}

/// The way through an inverted residual of so many channels before, within and after it. Where it does not widen, it has no first
/// convolution.
fn inverted(
    store: &mut Store,
    name: &str,
    [from, middle, to]: [usize; 3],
    stride: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let (mut net, mut index) = (Sequential::new(), 0);
    if middle != from {
        net = activated(store, net, &format!("{name}.0"), Conv2dConfig::square([from, middle], 1), config)?;
        index = 1;
    }
    let depthwise = Conv2dConfig::square([middle, middle], 3).strided(stride);
    let depthwise = Conv2dConfig { window: Window { groups: middle, ..depthwise.window }, ..depthwise };
    net = activated(store, net, &format!("{name}.{index}"), depthwise, config)?;
    let project = Conv2d::new(store, &format!("{name}.{}", index + 1), Conv2dConfig::square([middle, to], 1), config)?;
    Ok(net.push(project).push(BatchNorm2d::new(store, &format!("{name}.{}", index + 2), to)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use crate::models::{ModelSpec, network};
    use fixnet_autograd::{Graph, Group, Param};
    use fixnet_tensor::Tensor;

    #[test]
    fn names_are_read_as_written_and_widths_checked() {
        for text in ["mobilenetv2", "mobilenetv2-imagenet", "mobilenetv2:w0.5", "mobilenetv2-imagenet:w1.4"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        assert_eq!("mobilenetv2:w1.0".parse::<ModelSpec>().unwrap().to_string(), "mobilenetv2");
        for text in [
            "mobilenetv2:",
            "mobilenetv2:w",
            "mobilenetv2:0.5",
            "mobilenetv2:w0",
            "mobilenetv2:wnan",
            "mobilenetv2:w11",
        ] {
            let e = text.parse::<ModelSpec>().unwrap_err().to_string();
            assert!(e.contains("widths from 0.05 to 10") && e.ends_with(text), "{e}");
        }
        let wide = MobileNetV2 { width: f64::INFINITY, large: false };
        assert!(mobilenet_v2(&mut Store::seeded(1), wide, [3, 10], &QuantConfig::float()).is_err());
    }

    /// Parameters and multiply-adds of one image as torchvision's modules have them.
    #[test]
    fn networks_have_the_published_sizes() {
        for (text, input, classes, parameters, macs) in [
            ("mobilenetv2-imagenet", [224, 224, 3], 1000, 3_504_872, 300_774_272u64),
            ("mobilenetv2-imagenet:w0.35", [96, 96, 3], 1000, 1_677_128, 11_934_128),
            ("mobilenetv2-imagenet:w1.4", [160, 160, 3], 1000, 6_108_776, 297_916_400),
            ("mobilenetv2", [32, 32, 3], 10, 2_236_682, 87_976_448),
        ] {
            let (mut store, net) = network(text, input, classes, &QuantConfig::float());
            let summary = crate::plan::Plan::of(&net, &mut store, &input).unwrap().summary();
            assert_eq!((summary.parameters(), summary.macs()), (parameters, macs), "{text}");
        }
    }

    #[test]
    fn all_but_the_edges_are_quantized_and_signs_follow_from_the_values() {
        for bits in ["4/4/4", "2/2/32"] {
            let (mut store, net) =
                network("mobilenetv2:w0.25", [8, 8, 3], 10, &QuantConfig::new(bits.parse().unwrap()));
            let float: Vec<&str> =
                store.params().iter().filter(|p| p.group() == Group::Weight).map(Param::name).collect();
            assert_eq!(float, ["features.0.0.weight", "classifier.1.weight"]);
            let latent = store.params().iter().filter(|p| p.group() == Group::Latent).count();
            assert_eq!(latent, 51, "two convolutions of the first block, three of 16 others, the last one");
            let mut g = Graph::train(&mut store);
            let x =
                g.input(Tensor::from_vec(&[2, 8, 8, 3], (0..384).map(|i| (i % 11) as f32 - 5.0).collect()).unwrap());
            assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 10]);
            drop(g);
            let plan = crate::plan::Plan::of(&net, &mut store, &[8, 8, 3]).unwrap();
            for node in plan.nodes() {
                let Some(conv) = node.get::<fixnet_quant::FixedConv2d>() else { continue };
                let name = node.name();
                // The first convolution of a block that widens reads the output of a linear bottleneck.
                let signed = name == "features.18.0" || (name.ends_with("conv.0.0") && name != "features.1.conv.0.0");
                assert_eq!(conv.product.input().range.min() < 0, signed, "{name}");
            }
        }
    }
}
