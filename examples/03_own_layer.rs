//! A layer of your own with a derivative of your own: a leaky ReLU, in a network beside the built-in layers.

use fixnet::autograd::{self, Backward, Cx, Grads};
use fixnet::prelude::*;
use fixnet::tensor::map;
use std::sync::Arc;

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
    let (task, data) = Classification::of_split(digits()?);
    let mut settings = Settings::default();
    settings.run.epochs = 1;
    let mut session = Session::with_network(settings.check()?, Arc::new(task), &data, |store, config| {
        let net = Sequential::new()
            .push(Flatten)
            .push(Linear::new(store, "fc1", 784, 64)?)
            .push(LeakyRelu { slope: 0.1 })
            .push(Linear::quantized(store, "fc2", [64, 64], config.quant())?)
            .push(Relu)
            .push(Linear::new(store, "fc3", 64, 10)?);
        Ok(Box::new(net))
    })?;
    session.train_epoch()?;
    let test = session.evaluate(Part::Test, || false)?.and_then(|scores| scores.get("accuracy"));
    println!("test accuracy {:.2} % after one epoch", 100.0 * test.unwrap_or_default());
    Ok(())
}
