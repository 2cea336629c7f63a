//! Ready-made models by name: a multilayer perceptron, a LeNet-like network, residual networks, MobileNetV2, ReActNet, transformers
//! for images and for sequences, a convolutional network for sequences, super-resolution, RetinaNet, Faster R-CNN. Each family is a file of this
//! folder and a row of the list here;
//! programs add their own.

mod cnn1d;
mod detector;
mod edsr;
mod faster_rcnn;
mod lenet;
mod mlp;
mod mobilenet;
mod reactnet;
mod resnet;
mod retinanet;
mod vit;
mod vit1d;

pub use cnn1d::{Cnn1d, cnn1d};
pub use detector::{BODY as DETECTOR_BODY, DetectorBody, DetectorOptions, inside_detector, outside_detector};
pub use edsr::{EdsrSpec, Quantized, edsr};
pub use faster_rcnn::FasterRcnnSpec;
pub use lenet::{LeNet, lenet};
pub use mlp::{Mlp, mlp};
pub use mobilenet::{MobileNetV2, mobilenet_v2};
pub use reactnet::{ReActNet18, reactnet18};
pub use resnet::{ResNet18, ResNetCifar, ResNetImageNet, Shortcut, resnet_cifar, resnet_imagenet, resnet18};
pub use retinanet::RetinaNetSpec;
pub use vit::{ViT, vit};
pub use vit1d::{ViT1d, vit1d};

use crate::detection::BoxOutput;
use crate::layers::{Linear, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use fixnet_tensor::{Budget, Registry};
use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What a model computes, and so which tasks it fits.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Numbers per sample, [N, outputs]: logits of classes, say.
    Values,
    /// Images that are larger than those of the input: [N, H, W, C] to [N, scale·H, scale·W, C].
    Image {
        /// How many times higher and wider they are.
        scale: usize,
        /// How far, in pixels of the input, an output pixel sees beyond the input pixel that it lies in.
        reach: usize,
    },
    /// Boxes of objects with their classes, in one of the forms of detectors: [N, H, W, C] to what [`BoxOutput`] says.
    Boxes(BoxOutput),
    /// Something else, for a task of one's own.
    Other,
}

/// A model with its options: what a recipe names. A model of one's own implements `name` and `build`; [`register_model`] gives
/// its family a name in recipes.
///
/// ```
/// use fixnet_autograd::{Result, Store};
/// use fixnet_nn::layers::{Flatten, Linear, Sequential};
/// use fixnet_nn::models::{self, Model, ModelKind, ModelSpec};
/// use fixnet_quant::QuantConfig;
///
/// /// One fully connected layer.
/// #[derive(Debug)]
/// struct Perceptron;
///
/// impl Model for Perceptron {
///     fn name(&self) -> String {
///         "perceptron".into()
///     }
///     fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
///         let inputs = input.iter().product();
///         Ok(Sequential::new().push(Flatten).push(Linear::quantized(store, "fc", [inputs, outputs], config)?))
///     }
/// }
///
/// models::register_model(ModelKind {
///     form: "perceptron",
///     about: "one layer",
///     examples: &["perceptron"],
///     parse: |text| (text == "perceptron").then(|| Ok(Perceptron.into())),
/// });
/// let model: ModelSpec = "perceptron".parse()?;
/// let mut store = Store::seeded(1);
/// models::build(&mut store, &model, [8, 8, 1], 10, &QuantConfig::float())?;
/// assert_eq!(store.params()[0].value.shape(), [10, 64]);
/// # Result::<()>::Ok(())
/// ```
pub trait Model: fmt::Debug + Any + Send + Sync {
    /// The model and its options as text, as recipes write it.
    fn name(&self) -> String;

    /// What it computes.
    fn output(&self) -> Output {
        Output::Values
    }

    /// The shape of an input, without the axis of the samples, and the number of outputs that it was published with: for
    /// weights that come without data.
    fn published(&self) -> ([usize; 3], usize) {
        ([32, 32, 3], 10)
    }

    /// Builds it for inputs of this shape (without the axis of the samples; images are [H, W, C], sequences [T, C]); its parameters go into the
    /// store. `outputs` is the number of values per sample, where the model has [such an output](Output::Values).
    ///
    /// # Errors
    /// The model does not take such inputs; or as [`build`].
    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential>;
}

/// Any [`Model`] as a setting. Those that come with fixnet are read from text:
///
/// ```
/// use fixnet_nn::models::{LeNet, ModelSpec};
/// for text in ["mlp:64-32", "lenet", "resnet20", "resnet18", "resnet50-imagenet", "mobilenetv2:w0.5", "reactnet18", "edsr:x3"] {
///     assert_eq!(text.parse::<ModelSpec>()?.to_string(), text);
/// }
/// assert_eq!(ModelSpec::from(LeNet).get::<LeNet>(), Some(&LeNet));
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ModelSpec(Arc<dyn Model>);

impl<M: Model> From<M> for ModelSpec {
    fn from(model: M) -> Self {
        Self(Arc::new(model))
    }
}

impl ModelSpec {
    /// Returns what it computes.
    pub fn output(&self) -> Output {
        self.0.output()
    }

    /// Returns the shape of an input and the number of outputs that it was published with; see [`Model::published`].
    pub fn published(&self) -> ([usize; 3], usize) {
        self.0.published()
    }

    /// Returns the model, if it is one of this type.
    pub fn get<M: Model>(&self) -> Option<&M> {
        (&*self.0 as &dyn Any).downcast_ref()
    }
}

impl PartialEq for ModelSpec {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl fmt::Display for ModelSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name())
    }
}

/// A family of models that text can name. [`register_model`] adds one of another crate.
#[derive(Debug, Clone, Copy)]
pub struct ModelKind {
    /// How its models are written, for messages and lists: `mlp[:WIDTH-WIDTH…]`.
    pub form: &'static str,
    /// What they are, for lists; empty where the form says it.
    pub about: &'static str,
    /// Small models of the family, at least one per name of the form. The table of networks and the tests that go over all networks
    /// train these. Empty where a model needs a file.
    pub examples: &'static [&'static str],
    /// Makes a model of its text: `None` where the text is none of this family, or makes no sense; an error where the
    /// family has more to say.
    pub parse: fn(&str) -> Option<Result<ModelSpec>>,
}

static KINDS: Registry<ModelKind> = Registry::new(&[
    mlp::KIND,
    lenet::KIND,
    resnet::CIFAR,
    resnet::SMALL,
    resnet::IMAGENET,
    mobilenet::KIND,
    cnn1d::KIND,
    reactnet::KIND,
    vit::KIND,
    vit1d::KIND,
    edsr::KIND,
    retinanet::KIND,
    faster_rcnn::KIND,
]);

/// Adds a family of models to those that recipes and the command can name. A model of the same text takes the place of an
/// earlier one.
pub fn register_model(kind: ModelKind) {
    KINDS.add(kind);
}

/// Returns all families, the latest registered first.
pub fn kinds() -> Vec<ModelKind> {
    KINDS.all()
}

impl FromStr for ModelSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let kinds = kinds();
        kinds.iter().find_map(|kind| (kind.parse)(text)).unwrap_or_else(|| {
            let forms: Vec<&str> = kinds.iter().map(|kind| kind.form).collect();
            Err(Error::setting("model", forms.join(", "), text))
        })
    }
}

/// Builds a model for inputs of this shape, without the axis of the samples; images are [H, W, C], sequences [T, C]. Its parameters go into the
/// store. `outputs` is the number of classes, or of other values per sample; the output of an enlarging model has the channels
/// of its input.
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
    Budget::ARRAY.clone().claim("an input of the model", input, size_of::<f32>())?;
    model.0.build(store, input, outputs, config)
}

/// A name and the factor behind it, as in `mobilenetv2:w0.5`: 1 where there is none, `None` where it is no number.
fn name_and_width(text: &str) -> (&str, Option<f64>) {
    match text.split_once(':') {
        None => (text, Some(1.0)),
        Some((name, width)) => (name, width.strip_prefix('w').and_then(|width| width.parse().ok())),
    }
}

/// The text that [`name_and_width`] reads.
fn with_width(name: &str, width: f64) -> String {
    if width == 1.0 { name.into() } else { format!("{name}:w{width}") }
}

/// The shape of an image, for a model that takes images alone.
fn image(model: &dyn Model, input: &[usize]) -> Result<[usize; 3]> {
    let wrong = |_| {
        Error::setting(
            "model",
            format!("one for inputs of the shape {input:?}"),
            format!("{}, which takes images [H, W, C]", model.name()),
        )
    };
    input.try_into().map_err(wrong)
}

/// Widths of layers as a model's name has them, `32-64`: 1 to 65536 each.
fn widths(text: &str) -> Option<Vec<usize>> {
    let widths = text.split('-').map(|w| w.parse().ok()).collect::<Option<Vec<usize>>>()?;
    widths.iter().all(|w| (1..=65_536).contains(w)).then_some(widths)
}

/// The last layer of a classifier, which no normalization follows.
fn classifier(store: &mut Store, channels: [usize; 2], edge: &QuantConfig) -> Result<Linear> {
    Linear::quantized(store, "classifier", channels, edge)?.output_scaled(store, edge)
}

/// A network by its name, and its store: for the tests of each family.
#[cfg(test)]
fn network(text: &str, input: [usize; 3], classes: usize, config: &QuantConfig) -> (Store, Sequential) {
    let mut store = Store::seeded(1);
    let net = build(&mut store, &text.parse().unwrap(), input, classes, config).unwrap();
    (store, net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Layer;
    use fixnet_autograd::{Graph, Group, Param};
    use fixnet_tensor::Tensor;

    #[test]
    fn names_are_read_as_written() {
        for text in [
            "mlp:64-32",
            "lenet",
            "resnet8",
            "resnet18",
            "resnet20",
            "resnet56",
            "resnet20-b",
            "resnet50-imagenet",
            "edsr:x4",
        ] {
            assert_eq!(text.parse::<ModelSpec>().unwrap().to_string(), text);
        }
        for text in ["resnet21", "resnet21-b", "resnet18-b", "mlp:", "mlp:0", "vgg"] {
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
                let model = "resnet20".parse().unwrap();
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
    fn projected_shortcuts_have_weights_and_the_published_number_of_them() {
        let parameters = |model: &str| {
            let mut store = Store::seeded(0);
            let net = build(&mut store, &model.parse().unwrap(), [32, 32, 3], 10, &QuantConfig::float()).unwrap();
            crate::plan::Plan::of(&net, &mut store, &[32, 32, 3]).unwrap().summary().parameters()
        };
        // As collections of pretrained networks for CIFAR-10 tell them.
        for (model, published) in [("resnet20-b", 272_474), ("resnet32-b", 466_906), ("resnet56-b", 855_770)] {
            assert_eq!(parameters(model), published, "{model}");
        }
        // Two convolutions and their norms, in place of the norm over 64 features.
        assert_eq!(parameters("resnet20-b") + 128, parameters("resnet20") + 16 * 32 + 32 * 64 + 2 * (32 + 64));
    }

    #[test]
    fn resnet18_has_the_published_size_and_quantizes_all_but_its_edges() {
        let mut store = Store::seeded(0);
        let net = build(&mut store, &ResNet18.into(), [16, 16, 3], 10, &config("4/4/4", None)).unwrap();
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
            let net = build(&mut store, &ResNetImageNet { depth }.into(), [224, 224, 3], 1000, &QuantConfig::float())
                .unwrap();
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
        let e = build(&mut Store::seeded(0), &LeNet.into(), [7], 1, &config("4/4/4", None)).err().unwrap().to_string();
        assert!(e.contains("inputs of the shape [7]") && e.ends_with("lenet, which takes images [H, W, C]"), "{e}");
    }

    #[test]
    fn models_tell_the_form_of_their_output() {
        assert_eq!(ModelSpec::from(ResNet18).output(), Output::Values);
        let mut store = Store::seeded(0);
        let model = ModelSpec::from(EdsrSpec { scale: 3, ..EdsrSpec::default() });
        let net = build(&mut store, &model, [6, 5, 3], 0, &config("2/2/4", None)).unwrap();
        let Output::Image { scale, .. } = model.output() else { panic!("edsr enlarges") };
        let mut g = Graph::train(&mut store);
        let x = g.input(Tensor::full(&[2, 6, 5, 3], 0.5));
        assert_eq!(net.forward(&mut g, &x).unwrap().shape(), [2, 6 * scale, 5 * scale, 3]);
    }
}
