//! Residual networks: the narrow CIFAR family, ResNet-18 with its first layer for 32x32, and ResNet-18, 34 and 50 as they
//! are for ImageNet.

use super::{Model, ModelKind, image};
use crate::layers::{
    BasicBlock, BatchNorm2d, Bottleneck, Conv2d, Conv2dConfig, GlobalAvgPool2d, Layer, MaxPool2d, Relu, Sequential,
};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;

/// The rows of the registry.
pub(super) const CIFAR: ModelKind = ModelKind {
    form: "resnet8, resnet20, resnet32, resnet44, resnet56",
    about: "for small images; with -b, as in resnet20-b, the shortcuts have convolutions",
    examples: &["resnet8", "resnet8-b", "resnet20", "resnet32", "resnet44", "resnet56"],
    parse: |text| {
        let text = text.strip_prefix("resnet")?;
        let (depth, shortcut) = match text.strip_suffix("-b") {
            Some(depth) => (depth, Shortcut::Projected),
            None => (text, Shortcut::Padded),
        };
        let depth = ["8", "20", "32", "44", "56"].contains(&depth).then(|| depth.parse().ok()).flatten()?;
        Some(Ok(ResNetCifar { depth, shortcut }.into()))
    },
};
pub(super) const SMALL: ModelKind = ModelKind {
    form: "resnet18",
    about: "for small images",
    examples: &["resnet18"],
    parse: |text| (text == "resnet18").then(|| Ok(ResNet18.into())),
};
pub(super) const IMAGENET: ModelKind = ModelKind {
    form: "resnet18-imagenet, resnet34-imagenet, resnet50-imagenet",
    about: "for large images",
    examples: &["resnet18-imagenet", "resnet34-imagenet", "resnet50-imagenet"],
    parse: |text| {
        let depth = text.strip_prefix("resnet")?.strip_suffix("-imagenet")?;
        let depth = ["18", "34", "50"].contains(&depth).then(|| depth.parse().ok()).flatten()?;
        Some(Ok(ResNetImageNet { depth }.into()))
    },
};

/// What a residual network adds where the size of its images changes: "option A" and "option B" of He et al. (CVPR 2016).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shortcut {
    /// Option A: every second pixel, with zeros for the channels that are new.
    #[default]
    Padded,
    /// Option B, a projection: a 1x1 convolution with a stride, and a batch norm.
    Projected,
}

/// `resnet8`, `resnet20`, `resnet32`, `resnet44`, `resnet56`: the [CIFAR residual network](resnet_cifar) of that depth. With
/// [projected shortcuts](Shortcut::Projected) `resnet8-b` and so on: the network that many collections of pretrained weights
/// for CIFAR have, without a batch norm over the pooled features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetCifar {
    /// The depth, 6n + 2.
    pub depth: usize,
    /// The shortcuts where the size changes.
    pub shortcut: Shortcut,
}

impl Model for ResNetCifar {
    fn name(&self) -> String {
        let option = if self.shortcut == Shortcut::Projected { "-b" } else { "" };
        format!("resnet{}{option}", self.depth)
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        resnet_cifar(store, *self, [image(self, input)?[2], outputs], config)
    }
}

/// `resnet18`: [ResNet-18 for small images](resnet18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNet18;

impl Model for ResNet18 {
    fn name(&self) -> String {
        "resnet18".into()
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        resnet18(store, image(self, input)?[2], outputs, config)
    }
}

/// `resnet18-imagenet`, `resnet34-imagenet`, `resnet50-imagenet`: the [residual network](resnet_imagenet) of that depth for
/// large images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNetImageNet {
    /// The depth: 18, 34 or 50.
    pub depth: usize,
}

impl Model for ResNetImageNet {
    fn name(&self) -> String {
        format!("resnet{}-imagenet", self.depth)
    }

    fn published(&self) -> ([usize; 3], usize) {
        ([224, 224, 3], 1000)
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        resnet_imagenet(store, self.depth, image(self, input)?[2], outputs, config)
    }
}

/// The CIFAR residual network of depth 6n + 2, from `channels[0]` channels to `channels[1]` classes: three stages of n blocks
/// with 16, 32 and 64 channels, global average pooling and the classifier. With padded shortcuts a batch norm over the 64
/// features comes before the classifier (METHOD 4).
///
/// # Errors
/// The depth is not 6n + 2, or names in the store are taken.
pub fn resnet_cifar(
    store: &mut Store,
    ResNetCifar { depth, shortcut }: ResNetCifar,
    [channels, classes]: [usize; 2],
    config: &QuantConfig,
) -> Result<Sequential> {
    if depth < 8 || !(depth - 2).is_multiple_of(6) {
        return Err(Error::setting("depth of a CIFAR residual network", "6n + 2, such as 20, 32, 44 or 56", depth));
    }
    let net = stem(store, "", [channels, 16], 3, 1, config)?;
    let (widths, blocks) = ([16, 32, 64], [(depth - 2) / 6; 3]);
    let net = match shortcut {
        Shortcut::Padded => {
            let net = stages(store, net, &widths, &blocks, config, BasicBlock::new)?;
            net.push(GlobalAvgPool2d).push(BatchNorm2d::new(store, "bn2", 64)?)
        }
        Shortcut::Projected => stages(store, net, &widths, &blocks, config, projected)?.push(GlobalAvgPool2d),
    };
    Ok(net.push(super::classifier(store, [64, classes], &config.edge()?)?))
}

/// ResNet-18 (He et al., CVPR 2016) in its form for small images: the first convolution is 3x3 with stride 1 and no
/// pooling follows; four stages of two blocks with 64, 128, 256 and 512 channels, option-B shortcuts, global average
/// pooling and the classifier.
///
/// # Errors
/// Names in the store are taken.
pub fn resnet18(store: &mut Store, channels: usize, classes: usize, config: &QuantConfig) -> Result<Sequential> {
    let net = stem(store, "", [channels, 64], 3, 1, config)?;
    let net = stages(store, net, &[64, 128, 256, 512], &[2; 4], config, projected)?;
    Ok(net.push(GlobalAvgPool2d).push(super::classifier(store, [512, classes], &config.edge()?)?))
}

/// ResNet-18, 34 or 50 (He et al., CVPR 2016) for large images: the first convolution is 7x7 with stride 2, and a max
/// pooling 3x3 with stride 2 follows; option-B shortcuts. In ResNet-50 the 3x3 convolution of a block has its stride, as in
/// the pretrained networks that are commonly offered.
///
/// # Errors
/// The depth is another one, or names in the store are taken.
pub fn resnet_imagenet(
    store: &mut Store,
    depth: usize,
    channels: usize,
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let body = Body { prefix: "", depth, width: 1.0, small: false, stages: 4 };
    let (parts, widths) = body.build(store, channels, config)?;
    let net = parts.into_iter().fold(Sequential::new(), Sequential::push);
    let channels = [widths[widths.len() - 1], classes];
    Ok(net.push(GlobalAvgPool2d).push(super::classifier(store, channels, &config.edge()?)?))
}

/// The convolutional part of a [`resnet_imagenet`], stage by stage, as detectors read it.
pub(super) struct Body<'a> {
    /// What stands before the names of its layers: empty, or a name with a dot.
    pub(super) prefix: &'a str,
    /// The depth: 18, 34 or 50.
    pub(super) depth: usize,
    /// The factor of all numbers of channels.
    pub(super) width: f64,
    /// Whether the first convolution is 3x3 with stride 2 and no pooling follows.
    pub(super) small: bool,
    /// How many of the four stages there are.
    pub(super) stages: usize,
}

impl Body<'_> {
    /// Makes the stages, the first of which begins with the first convolution and the pooling, and returns them with the channels
    /// that each gives. The images of stage `i`, from 1, are smaller by `2^(i + 1)`, or by `2^i` in the form for small images.
    ///
    /// # Errors
    /// The depth is another one, or names in the store are taken.
    pub(super) fn build(
        &self,
        store: &mut Store,
        channels: usize,
        config: &QuantConfig,
    ) -> Result<(Vec<Sequential>, Vec<usize>)> {
        let narrow = [64, 128, 256, 512].map(|c| ((f64::from(c) * self.width / 4.0).round() as usize).max(1) * 4);
        let (blocks, deep) = match self.depth {
            18 => ([2; 4], false),
            34 => ([3, 4, 6, 3], false),
            50 => ([3, 4, 6, 3], true),
            depth => return Err(Error::setting("depth of an ImageNet residual network", "18, 34 or 50", depth)),
        };
        let widths = if deep { narrow.map(|w| 4 * w) } else { narrow };
        let mut from = narrow[0];
        let mut net = stem(store, self.prefix, [channels, from], if self.small { 3 } else { 7 }, 2, config)?;
        if !self.small {
            net = net.push(MaxPool2d { size: 3, stride: 2, padding: 1 });
        }
        let mut parts = Vec::new();
        for stage in 0..self.stages.min(4) {
            for block in 0..blocks[stage] {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("{}layer{}.{block}", self.prefix, stage + 1);
                let channels = [from, widths[stage]];
                net = match deep {
                    true => net.push(Bottleneck::new(store, &name, channels, stride, config)?),
                    false => net.push(projected(store, &name, channels, stride, config)?),
                };
                from = widths[stage];
            }
            parts.push(std::mem::take(&mut net));
        }
        Ok((parts, widths[..self.stages.min(4)].to_vec()))
    }
}

/// A block with an option-B shortcut.
fn projected(
    store: &mut Store,
    name: &str,
    channels: [usize; 2],
    stride: usize,
    config: &QuantConfig,
) -> Result<BasicBlock> {
    BasicBlock::new(store, name, channels, stride, config)?.projected(store, config)
}

/// The first convolution, batch norm and ReLU.
fn stem(
    store: &mut Store,
    prefix: &str,
    [channels, width]: [usize; 2],
    kernel: usize,
    stride: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    Ok(Sequential::new()
        .push(Conv2d::new(
            store,
            &format!("{prefix}conv1"),
            Conv2dConfig::square([channels, width], kernel).strided(stride),
            &config.edge()?,
        )?)
        .push(BatchNorm2d::new(store, &format!("{prefix}bn1"), width)?)
        .push(Relu))
}

/// Stages of so many `blocks`; each stage but the first halves the image.
fn stages<B: Layer + 'static>(
    store: &mut Store,
    mut net: Sequential,
    widths: &[usize],
    blocks: &[usize],
    config: &QuantConfig,
    new: impl Fn(&mut Store, &str, [usize; 2], usize, &QuantConfig) -> Result<B>,
) -> Result<Sequential> {
    // What the first convolution gives: the middle of a first bottleneck, a quarter of 256, is as wide.
    let mut from = widths[0].min(64);
    for (stage, (&width, &blocks)) in widths.iter().zip(blocks).enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            net = net.push(new(store, &format!("layer{}.{block}", stage + 1), [from, width], stride, config)?);
            from = width;
        }
    }
    Ok(net)
}
