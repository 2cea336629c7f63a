//! Residual networks for small images: the narrow CIFAR family, and ResNet-18 with its first layer for 32x32.

use crate::layers::{BasicBlock, BatchNorm2d, Conv2d, GlobalAvgPool2d, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;

/// The CIFAR residual network of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels, option-A shortcuts,
/// global average pooling, a batch norm over the 64 features (METHOD 4) and the classifier.
///
/// # Errors
/// The depth is not 6n + 2, or names in the store are taken.
pub fn resnet_cifar(
    store: &mut Store,
    depth: usize,
    channels: usize,
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    if depth < 8 || !(depth - 2).is_multiple_of(6) {
        return Err(Error::setting("depth of a CIFAR residual network", "6n + 2, such as 20, 32, 44 or 56", depth));
    }
    let net = stem(store, channels, 16, config)?;
    let net = stages(store, net, &[16, 32, 64], (depth - 2) / 6, config, BasicBlock::new)?;
    let net = net.push(GlobalAvgPool2d).push(BatchNorm2d::new(store, "bn2", 64)?);
    Ok(net.push(super::classifier(store, [64, classes], &config.edge()?, true)?))
}

/// ResNet-18 (He et al., CVPR 2016) in its form for small images: the first convolution is 3x3 with stride 1 and no
/// pooling follows; four stages of two blocks with 64, 128, 256 and 512 channels, option-B shortcuts, global average
/// pooling and the classifier.
///
/// # Errors
/// Names in the store are taken.
pub fn resnet18(store: &mut Store, channels: usize, classes: usize, config: &QuantConfig) -> Result<Sequential> {
    let net = stem(store, channels, 64, config)?;
    let net = stages(store, net, &[64, 128, 256, 512], 2, config, |store, name, channels, stride, config| {
        BasicBlock::new(store, name, channels, stride, config)?.projected(store, config)
    })?;
    Ok(net.push(GlobalAvgPool2d).push(super::classifier(store, [512, classes], &config.edge()?, false)?))
}

/// The first convolution, batch norm and ReLU.
fn stem(store: &mut Store, channels: usize, width: usize, config: &QuantConfig) -> Result<Sequential> {
    Ok(Sequential::new()
        .push(Conv2d::quantized(store, "conv1", [channels, width], 3, 1, &config.edge()?, true)?)
        .push(BatchNorm2d::new(store, "bn1", width)?)
        .push(Relu))
}

/// Stages of `blocks` blocks each; each stage but the first halves the image. The first comes from its own width.
fn stages(
    store: &mut Store,
    mut net: Sequential,
    widths: &[usize],
    blocks: usize,
    config: &QuantConfig,
    new: impl Fn(&mut Store, &str, [usize; 2], usize, &QuantConfig) -> Result<BasicBlock>,
) -> Result<Sequential> {
    let mut from = widths[0];
    for (stage, &width) in widths.iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            net = net.push(new(store, &format!("layer{}.{block}", stage + 1), [from, width], stride, config)?);
            from = width;
        }
    }
    Ok(net)
}
