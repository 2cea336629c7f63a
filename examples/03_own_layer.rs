//! A layer of your own with a derivative of your own: a leaky ReLU, in a network beside the built-in layers.

use fixnet::autograd::{self, Backward, Cx, Grads};
use fixnet::prelude::*;
use fixnet::tensor::map;

/// `y = x` above zero and `slope · x` below.
struct LeakyRelu {
    slope: f32,
}

/// What the derivative needs: the slope, and the output, whose sign is that of the input.
struct LeakyReluBackward {
    slope: f32,
    y: Tensor,
}

impl Backward for LeakyReluBackward {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }
    fn backward(self: Box<Self>, mut grad: Tensor, _: &mut Cx<'_>) -> autograd::Result<Grads> {
        let slope = self.slope;
        map::update1(grad.data_mut(), self.y.data(), |g, &y| *g = if y > 0.0 { *g } else { *g * slope });
        Ok(vec![Some(grad)])
    }
}

impl Layer for LeakyRelu {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> autograd::Result<Var> {
        let slope = self.slope;
        let mut y = Tensor::take(x.shape());
        map::map1(x.tensor().data(), y.data_mut(), |&x| if x > 0.0 { x } else { x * slope });
        Ok(g.record(y.clone(), &[x], || LeakyReluBackward { slope, y }))
    }
}

fn main() -> Result<()> {
    let data = digits()?;
    let mut store = Store::seeded(7);
    let q = QuantConfig::new("4/4/4".parse()?);
    let net = Sequential::new()
        .push(Flatten)
        .push(Linear::new(&mut store, "fc1", 784, 64)?)
        .push(LeakyRelu { slope: 0.1 })
        .push(Linear::quantized(&mut store, "fc2", [64, 64], &q)?)
        .push(Relu)
        .push(Linear::new(&mut store, "fc3", 64, 10)?);
    let normalize = Normalize::of(&data.train);
    let mut optimizer = Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 94, ..OptimizerConfig::default() })?;
    for batch in Loader::new(&data.train, 64, normalize.clone()).shuffled(store.seed(), 0) {
        let batch = batch?;
        let mut g = Graph::train(&mut store);
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x)?;
        let loss = g.cross_entropy(&logits, &batch.labels)?;
        g.backward(loss)?;
        optimizer.step(&mut store)?;
    }
    let test = metrics::evaluate(&net, &mut store, Loader::new(&data.test, 256, normalize))?;
    println!("test accuracy {:.2} % after one epoch", 100.0 * test.accuracy);
    Ok(())
}
