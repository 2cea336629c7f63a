//! A small convolutional network for sequences: speech, readings of sensors.

use super::{Model, ModelKind, ModelSpec, classifier, widths};
use crate::layers::{BatchNorm2d, Conv1d, Conv1dConfig, GlobalAvgPool2d, MaxPool1d, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "cnn1d[:WIDTH-WIDTH…]",
    about: "convolutions over the steps of a sequence with these widths, 32-64-64 if omitted",
    examples: &["cnn1d:8-8"],
    parse,
};

/// Steps of a window.
const KERNEL: usize = 5;

/// `cnn1d` or `cnn1d:32-64-64`: the [network](cnn1d) with these widths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cnn1d {
    /// The channels of the blocks.
    pub widths: Vec<usize>,
}

impl Default for Cnn1d {
    /// Three blocks of 32, 64 and 64 channels.
    fn default() -> Self {
        Self { widths: vec![32, 64, 64] }
    }
}

fn parse(text: &str) -> Option<Result<ModelSpec>> {
    let widths = match text.strip_prefix("cnn1d")? {
        "" => Cnn1d::default().widths,
        text => widths(text.strip_prefix(':')?)?,
    };
    Some(Ok(Cnn1d { widths }.into()))
}

impl Model for Cnn1d {
    fn name(&self) -> String {
        format!("cnn1d:{}", self.widths.iter().map(usize::to_string).collect::<Vec<_>>().join("-"))
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        let &[_, channels] = input else {
            let expected = format!("one for inputs of the shape {input:?}");
            return Err(Error::setting("model", expected, format!("{}, which takes sequences [T, C]", self.name())));
        };
        cnn1d(store, channels, &self.widths, outputs, config)
    }
}

/// A network over sequences of `channels` channels: for each width a convolution over 5 steps, a batch norm, a ReLU and a pooling
/// that halves the number of steps (the largest of 3, every second); then the mean over the steps that are left, and the
/// classifier. Sequences may have any number of steps.
///
/// The first convolution and the classifier take the precision of `config.edges`, the others that of `config.precision`.
///
/// # Errors
/// There is no width, or names in the store are taken.
pub fn cnn1d(
    store: &mut Store,
    channels: usize,
    widths: &[usize],
    classes: usize,
    config: &QuantConfig,
) -> Result<Sequential> {
    let Some(&last) = widths.last() else {
        return Err(Error::setting("widths of cnn1d", "at least one", "none"));
    };
    let edge = config.edge()?;
    let (mut net, mut from) = (Sequential::new(), channels);
    for (i, &width) in widths.iter().enumerate() {
        let (name, config) = (format!("conv{}", i + 1), if i == 0 { &edge } else { config });
        net = net
            .push(Conv1d::new(store, &name, Conv1dConfig::same([from, width], KERNEL), config)?)
            .push(BatchNorm2d::new(store, &format!("bn{}", i + 1), width)?)
            .push(Relu)
            .push(MaxPool1d { size: 3, stride: 2 });
        from = width;
    }
    Ok(net.push(GlobalAvgPool2d).push(classifier(store, [last, classes], &edge)?))
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::*;
    use crate::Layer;
    use crate::plan::Plan;
    use fixnet_autograd::Graph;
    use fixnet_tensor::Tensor;

    #[test]
    fn every_precision_runs_and_the_plan_gives_the_same_bits() {
        let model: ModelSpec = "cnn1d:8-16".parse().unwrap();
        assert_eq!(
            (model.to_string(), "cnn1d".parse::<ModelSpec>().unwrap().to_string()),
            ("cnn1d:8-16".into(), "cnn1d:32-64-64".into())
        );
        for (bits, edges) in [("32/32/32", None), ("4/4/4", None), ("4/4/4", Some(8)), ("1/1/32", Some(4))] {
            let mut store = Store::seeded(2);
            let config = QuantConfig { edges, ..QuantConfig::new(bits.parse().unwrap()) };
            let net = build(&mut store, &model, [23, 10], 7, &config).unwrap();
            let x: Vec<f32> = (0..3 * 23 * 10).map(|i| (i * 11 % 17) as f32 / 4.0 - 2.0).collect();
            let x = Tensor::from_vec(&[3, 23, 10], x).unwrap();
            // A step of calibration and training.
            let mut g = Graph::train(&mut store);
            let input = g.input(x.clone());
            let y = net.forward(&mut g, &input).unwrap();
            assert_eq!(y.shape(), [3, 7]);
            let loss = g.cross_entropy(&y, &[0, 5, 6]).unwrap();
            g.backward(loss).unwrap();
            let conv = store.params().iter().find(|p| p.name() == "conv2.weight").unwrap();
            assert_eq!(conv.value.shape(), [16, 5, 1, 8]);
            assert!(conv.grad.as_ref().unwrap().data().iter().any(|&d| d != 0.0), "{bits}");
            let mut g = Graph::eval(&mut store);
            let input = g.input(x.clone());
            let y = net.forward(&mut g, &input).unwrap();
            let expected = y.tensor().data().to_vec();
            let plan = Plan::of(&net, &mut store, &[23, 10]).unwrap();
            // Weights, two numbers per channel of a norm, and the classifier with its biases.
            let scales = if bits == "32/32/32" { 0 } else { plan.summary().parameters() - (400 + 640 + 48 + 119) };
            assert_eq!(plan.summary().parameters(), 400 + 640 + 48 + 119 + scales);
            assert_eq!(plan.run(x).unwrap().first().data(), expected, "{bits} {edges:?}");
        }
        let e = build(&mut Store::seeded(0), &model, [8, 8, 1], 7, &QuantConfig::float()).err().unwrap().to_string();
        assert!(e.ends_with("cnn1d:8-16, which takes sequences [T, C]"), "{e}");
        assert!("cnn1d:0".parse::<ModelSpec>().is_err() && "cnn1d:".parse::<ModelSpec>().is_err());
    }
}
