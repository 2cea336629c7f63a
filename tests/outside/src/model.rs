//! A model of our own, with a layer of our own that is composed of graph operations: the plan, the packed file and the ONNX export
//! come from its `forward`.

use fixnet::autograd;
use fixnet::layers::MaxPool2d;
use fixnet::models::{Model, ModelKind, ModelSpec};
use fixnet::prelude::*;

/// The row of the registry.
pub const KIND: ModelKind =
    ModelKind { form: "spotnet[:WIDTH]", about: "two convolutions", examples: &["spotnet:4"], parse };

/// `spotnet` or `spotnet:8`: two quantized convolutions of this many channels.
#[derive(Debug, Clone, Copy)]
pub struct SpotNet {
    /// The number of channels.
    pub width: usize,
}

fn parse(text: &str) -> Option<autograd::Result<ModelSpec>> {
    let width = match text.strip_prefix("spotnet")? {
        "" => 8,
        width => width.strip_prefix(':')?.parse().ok().filter(|w| (1..=256).contains(w))?,
    };
    Some(Ok(SpotNet { width }.into()))
}

impl Model for SpotNet {
    fn name(&self) -> String {
        format!("spotnet:{}", self.width)
    }

    fn build(
        &self,
        store: &mut Store,
        input: &[usize],
        outputs: usize,
        config: &QuantConfig,
    ) -> autograd::Result<Sequential> {
        let &[height, width, channels] = input else {
            return Err(autograd::Error::setting("input of a spotnet", "an image [H, W, C]", format!("{input:?}")));
        };
        let (edge, pool) = (config.edge()?, MaxPool2d { size: 2, stride: 2, padding: 0 });
        Ok(Sequential::new()
            .push(Conv2d::new(store, "conv1", Conv2dConfig::square([channels, self.width], 3), &edge)?)
            .push(BatchNorm2d::new(store, "bn1", self.width)?)
            .push(Swish)
            .push(pool)
            .push(Conv2d::new(store, "conv2", Conv2dConfig::square([self.width, 2 * self.width], 3), config)?)
            .push(BatchNorm2d::new(store, "bn2", 2 * self.width)?)
            .push(Swish)
            .push(Flatten)
            .push(Linear::quantized(store, "fc1", [height / 2 * (width / 2) * 2 * self.width, 32], config)?)
            .push(BatchNorm2d::new(store, "bn3", 32)?)
            .push(Swish)
            .push(Linear::quantized(store, "fc2", [32, outputs], &edge)?))
    }
}

/// `x · sigmoid(x)`.
struct Swish;

impl Layer for Swish {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Var> {
        let gate = g.sigmoid(x)?;
        g.mul(x, &gate)
    }
}
