//! Adamax: Adam with the largest gradient in the place of the second moment.

use super::adam::Moments;
use super::{BETAS, EPS, Scalars, Setting, UpdateRule, check_moments, pass};
use fixnet_autograd::Result;
use fixnet_tensor::Tensor;

/// `m` as in Adam, `u <- max(beta2 · u, |g| + eps)`, `h = m / (1 - beta1^t) / u`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adamax {
    /// beta1 and beta2.
    pub betas: [f64; 2],
    /// Keeps the divisor from 0.
    pub eps: f64,
}

impl Default for Adamax {
    /// Betas of 0.9 and 0.999, eps of 1e-8.
    fn default() -> Self {
        Self { betas: BETAS, eps: EPS }
    }
}

impl UpdateRule for Adamax {
    fn name(&self) -> &'static str {
        "adamax"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("betas", Setting::Pair(&mut self.betas)), ("eps", Setting::Number(&mut self.eps))]
    }

    fn usual_lr(&self) -> f64 {
        2e-3
    }

    fn check(&self) -> Result<()> {
        check_moments(self.betas, self.eps)
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["adamax.exp_avg", "adamax.exp_inf"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let Moments { beta1, rest1, beta2, unbias1, eps, .. } = Moments::new(self.betas, self.eps, s.t);
        pass(w, g, buffers, s.rate, move |w, g, [m, u]: &mut [f32; 2]| {
            let g = s.decayed(g, w);
            *m = beta1 * *m + rest1 * g;
            let (old, new) = (beta2 * *u, g.abs() + eps);
            *u = if old > new { old } else { new };
            *m * unbias1 / *u
        })
    }
}
