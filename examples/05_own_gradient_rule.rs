//! A gradient rule of your own in one file: the interval ends at a multiple of the mean magnitude of a layer's gradients.
//! It is compared with the built-in LBT rule on the embedded digits.

use fixnet::prelude::*;
use fixnet::quant::{Observed, gammas};
use fixnet::tensor::reduce;
use std::sync::Arc;

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
    let (task, data) = Classification::of_split(digits()?);
    let mut settings = Settings::default();
    settings.quantization.gradient_rule = rule;
    (settings.run.epochs, settings.run.seed) = (1, 7);
    let mut session = Session::new(settings.check()?, Arc::new(task), &data)?;
    session.train_epoch()?;
    let test = session.evaluate(Part::Test, || false)?.and_then(|scores| scores.get("accuracy"));
    Ok((test.unwrap_or_default(), gammas(session.store())))
}

fn main() -> Result<()> {
    for rule in [MeanMultiple { factor: 20.0, gamma: 1.0 }.into(), Rule::default()] {
        let name = rule.to_string();
        let (accuracy, gammas) = train(rule)?;
        println!("{name:<18} test accuracy {:.2} %, gamma {gammas:.3?}", 100.0 * accuracy);
    }
    Ok(())
}
