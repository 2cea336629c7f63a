//! A LeNet-like network for small images.

use super::{Model, ModelKind, classifier, image};
use crate::layers::{BatchNorm2d, Conv2d, Conv2dConfig, Flatten, Linear, MaxPool2d, Relu, Sequential};
use fixnet_autograd::{Error, Result, Store};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Budget;

/// The row of the registry.
pub(super) const KIND: ModelKind = ModelKind {
    form: "lenet",
    about: "",
    examples: &["lenet"],
    parse: |text| (text == "lenet").then(|| Ok(LeNet.into())),
};

/// `lenet`: two 5x5 convolutions of 32 and 64 channels with max pooling, 128 features, the classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeNet;

impl Model for LeNet {
    fn name(&self) -> String {
        "lenet".into()
    }

    fn build(&self, store: &mut Store, input: &[usize], outputs: usize, config: &QuantConfig) -> Result<Sequential> {
        lenet(store, image(self, input)?, outputs, config)
    }
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
        .push(Conv2d::new(store, "conv1", Conv2dConfig::square([c, 32], 5), &edge)?)
        .push(BatchNorm2d::new(store, "bn1", 32)?)
        .push(Relu)
        .push(pool)
        .push(Conv2d::new(store, "conv2", Conv2dConfig::square([32, 64], 5), config)?)
        .push(BatchNorm2d::new(store, "bn2", 64)?)
        .push(Relu)
        .push(pool)
        .push(Flatten)
        .push(Linear::quantized(store, "fc1", [features, 128], config)?)
        .push(BatchNorm2d::new(store, "bn3", 128)?)
        .push(Relu)
        .push(classifier(store, [128, classes], &edge)?))
}
