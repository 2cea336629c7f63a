//! Multilayer perceptrons: fully connected layers over images or rows of numbers.

use super::{Model, ModelKind, ModelSpec, classifier, widths};
use crate::layers::{BatchNorm2d, Flatten, Linear, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Budget;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "mlp[:WIDTH-WIDTH…]",
    about: "fully connected layers of these widths, 512-512 if omitted",
    examples: &["mlp:8"],
    parse,
};

/// `mlp` or `mlp:512-512`: fully connected layers of these widths, each with batch norm and ReLU, and the classifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mlp {
    /// The widths of the hidden layers.
    pub widths: Vec<usize>,
}

fn parse(text: &str) -> Option<Result<ModelSpec>> {
    let widths = match text.strip_prefix("mlp")? {
        "" => vec![512, 512],
        text => widths(text.strip_prefix(':')?)?,
    };
    Some(Ok(Mlp { widths }.into()))
}

impl Model for Mlp {
    fn name(&self) -> String {
        format!("mlp:{}", self.widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-"))
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        if input.is_empty() {
            return Err(Error::setting("input of an mlp", "at least one axis beside that of the samples", "none"));
        }
        let pixels = Budget::ARRAY.clone().claim("an input of the model", input, size_of::<f32>())?;
        mlp(store, pixels, &self.widths, outputs, config)
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
