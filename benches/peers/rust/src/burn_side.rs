//! The two networks in burn.

use crate::{BATCH, CLASSES, DECAY, LR, MOMENTUM, Step, images};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::prelude::*;
use burn::tensor::activation::relu;

/// Convolutions (none for the perceptron) with batch norm, ReLU and pooling, then fully connected layers.
#[derive(Module, Debug)]
struct Net {
    convs: Vec<Conv2d>,
    conv_norms: Vec<BatchNorm>,
    pool: MaxPool2d,
    hidden: Vec<Linear>,
    norms: Vec<BatchNorm>,
    classifier: Linear,
}

impl Net {
    fn new(channels: &[usize], widths: &[usize], device: &Device) -> Self {
        let pairs = |v: &[usize]| v.windows(2).map(|w| [w[0], w[1]]).collect::<Vec<_>>();
        let norm = |[_, out]: &[usize; 2]| BatchNormConfig::new(*out).init(device);
        let conv = |c: &[usize; 2]| {
            let padding = PaddingConfig2d::Explicit(2, 2, 2, 2);
            Conv2dConfig::new(*c, [5, 5]).with_padding(padding).with_bias(false).init(device)
        };
        let (channels, hidden) = (pairs(channels), pairs(widths));
        Self {
            convs: channels.iter().map(conv).collect(),
            conv_norms: channels.iter().map(norm).collect(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            hidden: hidden.iter().map(|[i, o]| LinearConfig::new(*i, *o).init(device)).collect(),
            norms: hidden.iter().map(norm).collect(),
            classifier: LinearConfig::new(widths[widths.len() - 1], CLASSES).init(device),
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for (conv, norm) in self.convs.iter().zip(&self.conv_norms) {
            x = self.pool.forward(relu(norm.forward(conv.forward(x))));
        }
        let mut x: Tensor<2> = x.flatten(1, 3);
        for (linear, norm) in self.hidden.iter().zip(&self.norms) {
            x = relu(norm.forward(linear.forward(x)));
        }
        self.classifier.forward(x)
    }
}

pub fn training(lenet: bool) -> Step {
    let device = Device::flex().autodiff();
    let mut net = match lenet {
        true => Net::new(&[1, 32, 64], &[64 * 49, 128], &device),
        false => Net::new(&[], &[784, 512, 512], &device),
    };
    let plain = Device::flex();
    let x = Tensor::<1>::from_floats(images().as_slice(), &plain).reshape([BATCH, 1, 28, 28]);
    let labels: Vec<i32> = (0..BATCH as i32).map(|i| i % CLASSES as i32).collect();
    let labels = Tensor::<1, Int>::from_ints(labels.as_slice(), &device);
    let x = x.autodiff();
    let loss_of = CrossEntropyLossConfig::new().init(&device);
    let mut sgd = SgdConfig::new()
        .with_momentum(Some(MomentumConfig::new().with_momentum(MOMENTUM).with_dampening(0.0)))
        .with_weight_decay(Some(WeightDecayConfig::new(DECAY as f32)))
        .init();
    Box::new(move || {
        let loss = loss_of.forward(net.forward(x.clone()), labels.clone());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = sgd.step(LR, net.clone(), grads);
        Ok(loss.into_scalar::<f32>())
    })
}
