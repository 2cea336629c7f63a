//! The networks that whole training steps are measured on, and the step: forward, loss, backward, and SGD with momentum and weight
//! decay or AdamW, on data that is in memory already. `train_step`, `methods` and the peer bench share it.

use fixnet::Result;
use fixnet::autograd::Group;
use fixnet::prelude::*;
use fixnet::tensor::rng::{Stream, domain};

/// A network with its batch.
pub(crate) struct Network {
    /// The name on the command line.
    pub(crate) name: &'static str,
    model: &'static str,
    /// The optimizer of its recipe.
    #[allow(dead_code, reason = "the bench of methods compares optimizers")]
    pub(crate) optimizer: &'static str,
    batch: usize,
    image: [usize; 3],
}

const CLASSES: usize = 10;

/// All of them. `benches/peers/networks.py` has the same list.
pub(crate) const NETWORKS: [Network; 7] = [
    Network { name: "mlp", model: "mlp:512-512", optimizer: "sgd", batch: 128, image: [28, 28, 1] },
    Network { name: "lenet", model: "lenet", optimizer: "sgd", batch: 128, image: [28, 28, 1] },
    Network { name: "resnet20", model: "resnet20", optimizer: "sgd", batch: 128, image: [32, 32, 3] },
    Network { name: "resnet18", model: "resnet18", optimizer: "sgd", batch: 32, image: [32, 32, 3] },
    Network { name: "edsr", model: "edsr", optimizer: "sgd", batch: 16, image: [24, 24, 3] },
    Network { name: "mobilenetv2", model: "mobilenetv2", optimizer: "sgd", batch: 128, image: [32, 32, 3] },
    Network { name: "vit", model: "vit", optimizer: "adamw", batch: 128, image: [32, 32, 3] },
];

enum Target {
    Labels(Vec<usize>),
    Images(Tensor),
}

/// Everything that a training step needs.
pub(crate) struct Training {
    store: Store,
    net: Sequential,
    optimizer: Optimizer,
    images: Tensor,
    target: Target,
}

impl Training {
    /// A network at W/A/G = `bits` with random images and targets, before its first step.
    pub(crate) fn new(network: &Network, bits: &str, gradient_rule: &str, optimizer: &str) -> Result<Self> {
        let mut store = Store::seeded(1);
        let model: ModelSpec = network.model.parse()?;
        let quant = QuantConfig { rule: gradient_rule.parse()?, ..QuantConfig::new(bits.parse()?) };
        let net = models::build(&mut store, &model, network.image, CLASSES, &quant)?;
        let optimizer =
            Optimizer::new(OptimizerConfig { lr: 1e-4, schedule: Schedule::CONSTANT, ..optimizer.parse()? })?;
        let [h, w, c] = network.image;
        let target = match model.output() {
            Output::Values => Target::Labels((0..network.batch).map(|i| i % CLASSES).collect()),
            Output::Image { scale, .. } => Target::Images(normal(&[network.batch, scale * h, scale * w, c], 1)),
            other => panic!("a model of the bench gives values or images, not {other:?}"),
        };
        Ok(Self { store, net, optimizer, images: normal(&[network.batch, h, w, c], 0), target })
    }

    /// The numbers that the network learns, without the scales of quantizers, which a float network lacks. The bench with PyTorch
    /// compares them.
    #[allow(dead_code)]
    pub(crate) fn parameters(&self) -> usize {
        let counted = self.store.params().iter().filter(|p| p.group() != Group::Scale);
        counted.map(|p| p.value.data().len()).sum()
    }

    /// One step; returns the loss.
    pub(crate) fn step(&mut self) -> Result<f32> {
        let mut g = Graph::train(&mut self.store);
        let x = g.input(self.images.clone());
        let y = self.net.forward(&mut g, &x)?;
        let loss = match &self.target {
            Target::Labels(labels) => g.cross_entropy(&y, labels)?,
            Target::Images(images) => {
                let images = g.input(images.clone());
                g.l1_loss(&y, &images)?
            }
        };
        let value = loss.tensor().item();
        drop((x, y));
        g.backward(loss)?;
        self.optimizer.step(&mut self.store)?;
        Ok(value)
    }
}

fn normal(shape: &[usize], salt: u32) -> Tensor {
    let stream = Stream::new(1, domain::INIT, u32::MAX, salt);
    let values = (0..shape.iter().product::<usize>() as u64).map(|i| stream.normal_at(i)).collect();
    Tensor::from_vec(shape, values).expect("as many values as the shape has")
}
