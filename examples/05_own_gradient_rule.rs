//! A gradient rule of your own in one file: the interval ends at a multiple of the mean magnitude of a layer's gradients.
//! It is compared with the built-in LBT rule on the embedded digits.

use fixnet::prelude::*;
use fixnet::quant::{Observed, gammas};
use fixnet::tensor::reduce;

/// `c = factor · mean|g|`, so `gamma = factor · mean|g| / max|g|`, at most 1.
#[derive(Debug, Clone)]
struct MeanMultiple {
    factor: f32,
    gamma: f32,
}

impl GradientRule for MeanMultiple {
    fn name(&self) -> String {
        format!("mean-multiple:{}", self.factor)
    }

    fn gamma(&self) -> f32 {
        self.gamma
    }

    // The mean is that of this step, so each step's gradient is wanted. Nothing is carried over to the next step, and so
    // there is no state for `save` and `load`.
    fn needs_gradient(&self) -> bool {
        true
    }

    fn observe(&mut self, g: &Observed<'_>) {
        let values = g.values();
        // A sum in one written order: the same bits with any number of threads.
        let mean = reduce::sum_by(values.len(), |i| values[i].abs()) / values.len() as f64;
        self.gamma = (self.factor * mean as f32 / g.top()).clamp(1e-3, 1.0);
    }
}

/// Test accuracy after one epoch, and the last gammas.
fn train(rule: Rule) -> Result<(f64, Vec<(String, f32)>)> {
    let data = digits()?;
    let mut store = Store::seeded(7);
    let q = QuantConfig { rule, ..QuantConfig::new("4/4/4".parse()?) };
    let net = models::build(&mut store, &models::LeNet.into(), [28, 28, 1], 10, &q)?;
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
    Ok((test.accuracy, gammas(&store)))
}

fn main() -> Result<()> {
    for rule in [MeanMultiple { factor: 20.0, gamma: 1.0 }.into(), Rule::default()] {
        let name = rule.to_string();
        let (accuracy, gammas) = train(rule)?;
        println!("{name:<18} test accuracy {:.2} %, gamma {gammas:.3?}", 100.0 * accuracy);
    }
    Ok(())
}
