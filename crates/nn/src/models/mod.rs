//! Ready-made models by name: a multilayer perceptron, a LeNet-like network, residual networks, super-resolution.

mod edsr;
mod resnet;

pub use edsr::{EdsrSpec, Quantized, edsr};
pub use resnet::{resnet_cifar, resnet_imagenet, resnet18};

use crate::layers::{BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Budget;
use std::fmt;
use std::str::FromStr;

/// The name of a model, as recipes write it.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSpec {
    /// `mlp` or `mlp:512-512`: fully connected layers of these widths, each with batch norm and ReLU.
    Mlp(Vec<usize>),
    /// `lenet`: two 5x5 convolutions of 32 and 64 channels with max pooling, 128 features, the classifier.
    LeNet,
    /// `resnet8`, `resnet20`, `resnet32`, `resnet44`, `resnet56`: the CIFAR residual network of that depth.
    ResNet(usize),
    /// `resnet18`: ResNet-18 for small images.
    ResNet18,
    /// `resnet18-imagenet`, `resnet34-imagenet`, `resnet50-imagenet`: the residual network of that depth for large images.
    ImageNet(usize),
    /// `edsr` or `edsr:x3-n16-f64-body-r0.1`: an EDSR-like network that enlarges images.
    Edsr(EdsrSpec),
}

/// What a model is for, and so which targets and loss go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// [N, H, W, C], and with a perceptron [N, F], to [N, outputs]: logits against labels, or a number.
    Classify,
    /// [N, H, W, C] to [N, scale·H, scale·W, C], against the large images.
    Upscale {
        /// How many times higher and wider the output is.
        scale: usize,
    },
}

impl ModelSpec {
    /// What the model is for.
    pub fn task(&self) -> Task {
        match self {
            Self::Edsr(spec) => Task::Upscale { scale: spec.scale },
            _ => Task::Classify,
        }
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp(widths) => write!(f, "mlp:{}", widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-")),
            Self::LeNet => f.write_str("lenet"),
            Self::ResNet(depth) => write!(f, "resnet{depth}"),
            Self::ResNet18 => f.write_str("resnet18"),
            Self::ImageNet(depth) => write!(f, "resnet{depth}-imagenet"),
            Self::Edsr(spec) => spec.fmt(f),
        }
    }
}

impl FromStr for ModelSpec {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        const NAMES: &str = "mlp, mlp:WIDTH-WIDTH…, lenet, resnet8, resnet18, resnet20, resnet32, resnet44, resnet56, \
                             resnet18-imagenet, resnet34-imagenet, resnet50-imagenet, edsr or edsr:OPTIONS";
        let bad = || Error::setting("model", NAMES, s);
        if let Some(widths) = s.strip_prefix("mlp:") {
            let widths: Vec<usize> = widths.split('-').map(|w| w.parse().map_err(|_| bad())).collect::<Result<_>>()?;
            return if widths.iter().all(|w| (1..=65_536).contains(w)) { Ok(Self::Mlp(widths)) } else { Err(bad()) };
        }
        if s.starts_with("edsr") {
            return Ok(Self::Edsr(s.parse()?));
        }
        match s {
            "mlp" => Ok(Self::Mlp(vec![512, 512])),
            "lenet" => Ok(Self::LeNet),
            "resnet8" | "resnet20" | "resnet32" | "resnet44" | "resnet56" => {
                Ok(Self::ResNet(s[6..].parse().map_err(|_| bad())?))
            }
            "resnet18" => Ok(Self::ResNet18),
            "resnet18-imagenet" => Ok(Self::ImageNet(18)),
            "resnet34-imagenet" => Ok(Self::ImageNet(34)),
            "resnet50-imagenet" => Ok(Self::ImageNet(50)),
            _ => Err(bad()),
        }
    }
}

/// Builds a model for images of `input` = [H, W, C] or, of a perceptron, for rows of `input` = [F]; its parameters go into the
/// store. `outputs` is the number of classes, or of other values per sample; the output of an upscaling model has the
/// channels of its input.
///
/// The first convolution and the last layer take the precision of `config.edges`, all else that of `config.precision`.
/// A perceptron has no first convolution: its first layer is quantized like the rest.
///
/// # Errors
/// The model does not take inputs of this shape; its parameters take more memory than [`Store::within`] gives, or are not those
/// that the store [expects](Store::expecting), which is known before they are made; or names in the store are taken.
pub fn build(
    store: &mut Store,
    model: &ModelSpec,
    input: impl AsRef<[usize]>,
    outputs: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let input = input.as_ref();
    let what = if input.len() == 1 { "a row of the model" } else { "an image of the model" };
    let len = Budget::ARRAY.clone().claim(what, input, size_of::<f32>())?;
    if let (ModelSpec::Mlp(widths), [_] | [_, _, _]) = (model, input) {
        return mlp(store, len, widths, outputs, config);
    }
    let image: [usize; 3] = input.try_into().map_err(|_| {
        let expected = "images [height, width, channels] (a perceptron, mlp, takes rows of numbers)";
        Error::setting("the input of a model", expected, format!("{input:?} for {model}"))
    })?;
    match model {
        ModelSpec::Mlp(widths) => mlp(store, len, widths, outputs, config),
        ModelSpec::LeNet => lenet(store, image, outputs, config),
        ModelSpec::ResNet(depth) => resnet_cifar(store, *depth, image[2], outputs, config),
        ModelSpec::ResNet18 => resnet18(store, image[2], outputs, config),
        ModelSpec::ImageNet(depth) => resnet_imagenet(store, *depth, image[2], outputs, config),
        ModelSpec::Edsr(spec) => edsr(store, image[2], spec, config),
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
        net = net.push(Linear::quantized(store, &format!("fc{}", i + 1), [from, width], config)?);
        net = net.push(BatchNorm2d::new(store, &format!("bn{}", i + 1), width)?).push(Relu);
        from = width;
    }
    Ok(net.push(classifier(store, [from, classes], &config.edge()?)?))
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
    let features = Budget::ARRAY.clone().claim("features of lenet", &[h / 4, w / 4, 64], size_of::<f32>())?;
    let pool = MaxPool2d { size: 2, stride: 2, padding: 0 };
    Ok(Sequential::new()
        .push(Conv2d::quantized(store, "conv1", [c, 32], 5, 1, &edge)?)
        .push(BatchNorm2d::new(store, "bn1", 32)?)
        .push(Relu)
        .push(pool)
        .push(Conv2d::quantized(store, "conv2", [32, 64], 5, 1, config)?)
        .push(BatchNorm2d::new(store, "bn2", 64)?)
        .push(Relu)
        .push(pool)
        .push(Flatten)
        .push(Linear::quantized(store, "fc1", [features, 128], config)?)
        .push(BatchNorm2d::new(store, "bn3", 128)?)
        .push(Relu)
        .push(classifier(store, [128, classes], &edge)?))
}

/// The last layer of a classifier, which no normalization follows.
fn classifier(store: &mut Store, channels: [usize; 2], edge: &QuantConfig) -> Result<Linear> {
    Linear::quantized(store, "classifier", channels, edge)?.output_scaled(store, edge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use fixnet_autograd::{Graph, Group, Param};
    use fixnet_tensor::Tensor;

    #[test]
    fn names_are_read_as_written() {
        for text in
            ["mlp:64-32", "lenet", "resnet8", "resnet18", "resnet20", "resnet56", "resnet50-imagenet", "edsr:x4"]
        {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["resnet21", "mlp:", "mlp:0", "vgg"] {
            assert!(text.parse::<ModelSpec>().unwrap_err().to_string().contains(text));
        }
    }

    fn config(bits: &str, edges: Option<u8>) -> QuantConfig {
        QuantConfig { edges, ..QuantConfig::new(bits.parse().unwrap()) }
    }

    fn weights(store: &Store) -> usize {
        let weights = store.params().iter().filter(|p| p.name().ends_with(".weight") && p.value.shape().len() > 1);
        weights.map(|p| p.value.len()).sum()
    }

    #[test]
    fn resnet20_has_the_published_size_and_every_precision_runs() {
        for bits in ["32/32/32", "4/4/4", "1/1/32"] {
            for edges in [None, Some(8)] {
                let mut store = Store::seeded(0);
                let model = ModelSpec::ResNet(20);
                let net = build(&mut store, &model, [32, 32, 3], 10, &config(bits, edges)).unwrap();
                // 267,696 weights of convolutions and 640 of the classifier.
                assert_eq!(weights(&store), 267_696 + 640);
                let mut g = Graph::train(&mut store);
                let x = g.input(Tensor::full(&[2, 32, 32, 3], 0.5));
                assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 10]);
            }
        }
    }

    #[test]
    fn resnet18_has_the_published_size_and_quantizes_all_but_its_edges() {
        let mut store = Store::seeded(0);
        let net = build(&mut store, &ModelSpec::ResNet18, [16, 16, 3], 10, &config("4/4/4", None)).unwrap();
        // 11,173,962 parameters in all, of which 9,600 belong to batch norms and 10 are biases.
        assert_eq!(weights(&store), 11_173_962 - 9_600 - 10);
        let float: Vec<&str> = store.params().iter().filter(|p| p.group() == Group::Weight).map(Param::name).collect();
        assert_eq!(float, ["conv1.weight", "classifier.weight"]);
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::full(&[1, 16, 16, 3], 0.5));
        assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [1, 10]);
    }

    #[test]
    fn networks_for_large_images_have_the_published_sizes() {
        // Parameters of the networks for 1000 classes, and multiply-adds of one image of 224 x 224, as published.
        for (depth, parameters, macs) in
            [(18, 11_689_512, 1_814_073_344), (34, 21_797_672, 3_663_761_408), (50, 25_557_032, 4_089_184_256u64)]
        {
            let mut store = Store::seeded(0);
            let net =
                build(&mut store, &ModelSpec::ImageNet(depth), [224, 224, 3], 1000, &QuantConfig::float()).unwrap();
            let summary = crate::plan::Plan::of(&net, &mut store, &[224, 224, 3]).unwrap().summary();
            assert_eq!((summary.parameters(), summary.macs()), (parameters, macs), "{depth}");
        }
    }

    #[test]
    fn a_perceptron_takes_rows_and_other_models_say_so() {
        let mut store = Store::seeded(0);
        let net = build(&mut store, &"mlp:5".parse().unwrap(), [7], 1, &config("4/4/4", None)).unwrap();
        let plan = crate::plan::Plan::of(&net, &mut store, &[7]).unwrap();
        assert_eq!((plan.output_shape(), plan.summary().parameters()), (&[1][..], 7 * 5 + 5 + 2 * 5 + 5 + 1));
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 7], (0..14).map(|v| v as f32 - 7.0).collect()).unwrap());
        assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 1]);
        let e = build(&mut Store::seeded(0), &ModelSpec::LeNet, [7], 1, &config("4/4/4", None)).err().unwrap().to_string();
        assert!(e.contains("expected images [height, width, channels]") && e.ends_with("found [7] for lenet"), "{e}");
    }

    #[test]
    fn tasks_tell_the_shape_of_the_output() {
        assert_eq!(ModelSpec::ResNet18.task(), Task::Classify);
        let mut store = Store::seeded(0);
        let model = ModelSpec::Edsr(EdsrSpec { scale: 3, ..EdsrSpec::default() });
        let net = build(&mut store, &model, [6, 5, 3], 0, &config("2/2/4", None)).unwrap();
        let Task::Upscale { scale } = model.task() else { panic!("edsr upscales") };
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::full(&[2, 6, 5, 3], 0.5));
        assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 6 * scale, 5 * scale, 3]);
    }
}
