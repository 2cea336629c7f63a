//! An update rule of our own: the sign of the momentum (Chen et al. 2023, "Symbolic discovery of optimization algorithms").

use fixnet::optim::{Scalars, Setting, UpdateRule, pass};
use fixnet::tensor::Tensor;

/// `lion`, and `liont` with transition-rate scheduling.
#[derive(Debug, Clone)]
pub struct Lion {
    /// The share of the old momentum in the direction, and in the momentum itself.
    pub betas: [f64; 2],
    /// How much of the direction is the sign; the rest is the momentum itself. No rule of fixnet has such a setting.
    pub sharpness: f64,
}

impl Default for Lion {
    fn default() -> Self {
        Self { betas: [0.9, 0.99], sharpness: 1.0 }
    }
}

impl UpdateRule for Lion {
    fn name(&self) -> &'static str {
        "lion"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("betas", Setting::Pair(&mut self.betas)), ("sharpness", Setting::Number(&mut self.sharpness))]
    }

    fn usual_lr(&self) -> f64 {
        1e-3
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["lion.momentum"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], scalars: Scalars) -> f32 {
        let ([beta1, beta2], sharpness) = (self.betas.map(|beta| beta as f32), self.sharpness as f32);
        pass(w, g, buffers, scalars.rate, move |w, g, [m]: &mut [f32; 1]| {
            let momentum = beta1 * *m + (1.0 - beta1) * g;
            let direction = sharpness * momentum.signum() + (1.0 - sharpness) * momentum;
            *m = beta2 * *m + (1.0 - beta2) * g;
            direction + scalars.decay * w
        })
    }
}
