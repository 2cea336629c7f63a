//! Ready-made models: a multilayer perceptron, a LeNet-like network and the CIFAR residual networks.

use crate::layers::{BasicBlock, BatchNorm2d, Conv2d, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use std::fmt;
use std::str::FromStr;

/// The name of a model, as recipes write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelSpec {
    /// `mlp` or `mlp:512-512`: fully connected layers of these widths, each with batch norm and ReLU.
    Mlp(Vec<usize>),
    /// `lenet`: two 5x5 convolutions of 32 and 64 channels with max pooling, 128 features, the classifier.
    LeNet,
    /// `resnet20`, `resnet32`, `resnet44`, `resnet56`: the CIFAR residual network of that depth.
    ResNet(usize),
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp(widths) => write!(f, "mlp:{}", widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-")),
            Self::LeNet => f.write_str("lenet"),
            Self::ResNet(depth) => write!(f, "resnet{depth}"),
        }
    }
}

impl FromStr for ModelSpec {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let bad =
            || Error::setting("model", "mlp, mlp:WIDTH-WIDTH…, lenet, resnet20, resnet32, resnet44 or resnet56", s);
        if let Some(widths) = s.strip_prefix("mlp:") {
            let widths: Vec<usize> = widths.split('-').map(|w| w.parse().map_err(|_| bad())).collect::<Result<_>>()?;
            return if widths.iter().all(|w| (1..=65_536).contains(w)) { Ok(Self::Mlp(widths)) } else { Err(bad()) };
        }
        match s {
            "mlp" => Ok(Self::Mlp(vec![512, 512])),
            "lenet" => Ok(Self::LeNet),
            "resnet20" | "resnet32" | "resnet44" | "resnet56" => Ok(Self::ResNet(s[6..].parse().map_err(|_| bad())?)),
            _ => Err(bad()),
        }
    }
}

/// Builds a model for images of `input` = [H, W, C]; its parameters go into the store.
///
/// The first convolution and the classifier take the precision of `config.edges`, all else that of `config.precision`.
/// A perceptron has no first convolution: its first layer is quantized like the rest.
///
/// # Errors
/// The images are too small for the model, or names in the store are taken.
pub fn build(
    store: &mut Store,
    model: &ModelSpec,
    input: [usize; 3],
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    match model {
        ModelSpec::Mlp(widths) => mlp(store, input.iter().product(), widths, classes, config),
        ModelSpec::LeNet => lenet(store, input, classes, config),
        ModelSpec::ResNet(depth) => resnet_cifar(store, *depth, input[2], classes, config),
    }
}

/// A perceptron over `c_in` inputs with hidden layers of `widths`.
///
/// # Errors
/// Names in the store are taken.
pub fn mlp(
    store: &mut Store,
    c_in: usize,
    widths: &[usize],
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let mut net = Sequential::new().push(Flatten);
    let mut from = c_in;
    for (i, &width) in widths.iter().enumerate() {
        // The first layer sees normalized pixels of either sign.
        net = net.push(Linear::quantized(store, &format!("fc{}", i + 1), [from, width], config, i == 0)?);
        net = net.push(BatchNorm2d::new(store, &format!("bn{}", i + 1), width)?).push(Relu);
        from = width;
    }
    Ok(net.push(Linear::quantized(store, "classifier", [from, classes], &config.edge()?, false)?))
}

/// A LeNet-like network: conv 5x5 32, pool, conv 5x5 64, pool, 128 features, classifier; batch norm and ReLU after each.
///
/// # Errors
/// The images are smaller than 4x4, or names in the store are taken.
pub fn lenet(store: &mut Store, [h, w, c]: [usize; 3], classes: usize, config: &QuantConfig) -> Result<Sequential> {
    if h < 4 || w < 4 {
        return Err(Error::setting("image for lenet", "at least 4x4 pixels", format!("{h}x{w}")));
    }
    let edge = config.edge()?;
    let features = (h / 4) * (w / 4) * 64;
    let pool = MaxPool2d { size: 2, stride: 2 };
    Ok(Sequential::new()
        .push(Conv2d::quantized(store, "conv1", [c, 32], 5, 1, &edge, true)?)
        .push(BatchNorm2d::new(store, "bn1", 32)?)
        .push(Relu)
        .push(pool)
        .push(Conv2d::quantized(store, "conv2", [32, 64], 5, 1, config, false)?)
        .push(BatchNorm2d::new(store, "bn2", 64)?)
        .push(Relu)
        .push(pool)
        .push(Flatten)
        .push(Linear::quantized(store, "fc1", [features, 128], config, false)?)
        .push(BatchNorm2d::new(store, "bn3", 128)?)
        .push(Relu)
        .push(Linear::quantized(store, "classifier", [128, classes], &edge, false)?))
}

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
    let edge = config.edge()?;
    let mut net = Sequential::new()
        .push(Conv2d::quantized(store, "conv1", [channels, 16], 3, 1, &edge, true)?)
        .push(BatchNorm2d::new(store, "bn1", 16)?)
        .push(Relu);
    let mut from = 16;
    for (stage, width) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..(depth - 2) / 6 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{}.{block}", stage + 1);
            net = net.push(BasicBlock::new(store, &name, [from, width], stride, config)?);
            from = width;
        }
    }
    Ok(net.push(GlobalAvgPool2d).push(BatchNorm2d::new(store, "bn2", 64)?).push(Linear::quantized(
        store,
        "classifier",
        [64, classes],
        &edge,
        true,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use fixnet_autograd::Graph;
    use fixnet_quant::GradientRule;
    use fixnet_tensor::Tensor;

    #[test]
    fn names_are_read_as_written() {
        for text in ["mlp:64-32", "lenet", "resnet20", "resnet56"] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["resnet21", "mlp:", "mlp:0", "vgg"] {
            assert!(text.parse::<ModelSpec>().unwrap_err().to_string().contains(text));
        }
    }

    #[test]
    fn resnet20_has_the_published_size_and_every_precision_runs() {
        for bits in ["32/32/32", "4/4/4", "1/1/32"] {
            for edges in [None, Some(8)] {
                let config = QuantConfig { precision: bits.parse().unwrap(), rule: GradientRule::LBT, edges };
                let mut store = Store::seeded(0);
                let net = build(&mut store, &ModelSpec::ResNet(20), [32, 32, 3], 10, &config).unwrap();
                let weights =
                    store.params().iter().filter(|p| p.name().ends_with(".weight") && p.value.shape().len() > 1);
                // 267,696 weights of convolutions and 640 of the classifier.
                assert_eq!(weights.map(|p| p.value.len()).sum::<usize>(), 267_696 + 640);
                let mut g = Graph::train(&mut store);
                let x = g.input(Tensor::full(&[2, 32, 32, 3], 0.5));
                assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 10]);
            }
        }
    }
}
