//! Adam, and AdamW, whose weight decay is decoupled.

use super::{BETAS, EPS, Scalars, Setting, UpdateRule, check_moments, pass};
use fixnet_autograd::Result;
use fixnet_tensor::Tensor;

/// `m <- beta1 · m + (1 - beta1) · g`, `v <- beta2 · v + (1 - beta2) · g²`,
/// `h = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// beta1 and beta2.
    pub betas: [f64; 2],
    /// Keeps the divisor from 0.
    pub eps: f64,
}

impl Default for Adam {
    /// Betas of 0.9 and 0.999, eps of 1e-8.
    fn default() -> Self {
        Self { betas: BETAS, eps: EPS }
    }
}

impl UpdateRule for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("betas", Setting::Pair(&mut self.betas)), ("eps", Setting::Number(&mut self.eps))]
    }

    /// That of METHOD 3.
    fn usual_lr(&self) -> f64 {
        1e-3
    }

    fn check(&self) -> Result<()> {
        check_moments(self.betas, self.eps)
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["adam.exp_avg", "adam.exp_avg_sq"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let moments = Moments::new(self.betas, self.eps, s.t);
        pass(w, g, buffers, s.rate, move |w, g, mv| {
            let root = moments.advance(s.decayed(g, w), mv);
            mv[0] * moments.unbias1 / root
        })
    }
}

/// Adam with decoupled weight decay: that of Adam, with no decay in `g`, plus `decay · w`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// beta1 and beta2.
    pub betas: [f64; 2],
    /// Keeps the divisor from 0.
    pub eps: f64,
}

impl Default for AdamW {
    /// Betas of 0.9 and 0.999, eps of 1e-8.
    fn default() -> Self {
        Self { betas: BETAS, eps: EPS }
    }
}

impl UpdateRule for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("betas", Setting::Pair(&mut self.betas)), ("eps", Setting::Number(&mut self.eps))]
    }

    /// That of METHOD 3.
    fn usual_lr(&self) -> f64 {
        3e-4
    }

    fn usual_weight_decay(&self) -> f64 {
        1e-2
    }

    fn check(&self) -> Result<()> {
        check_moments(self.betas, self.eps)
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["adamw.exp_avg", "adamw.exp_avg_sq"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let moments = Moments::new(self.betas, self.eps, s.t);
        pass(w, g, buffers, s.rate, move |w, g, mv| {
            let root = moments.advance(g, mv);
            mv[0] * moments.unbias1 / root + s.decay * w
        })
    }
}

/// The two moments of Adam's family at step t.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub(super) beta1: f32,
    pub(super) rest1: f32,
    pub(super) beta2: f32,
    rest2: f32,
    /// 1 / (1 - beta1^t).
    pub(super) unbias1: f32,
    /// 1 / sqrt(1 - beta2^t).
    unbias2: f32,
    pub(super) eps: f32,
}

impl Moments {
    pub(super) fn new([beta1, beta2]: [f64; 2], eps: f64, t: u64) -> Self {
        let unbias = |beta: f64| 1.0 / (1.0 - libm::pow(beta, t as f64));
        Self {
            beta1: beta1 as f32,
            rest1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rest2: (1.0 - beta2) as f32,
            unbias1: unbias(beta1) as f32,
            unbias2: unbias(beta2).sqrt() as f32,
            eps: eps as f32,
        }
    }

    /// Moves both moments, and gives the divisor.
    #[inline(always)]
    pub(super) fn advance(&self, g: f32, [m, v]: &mut [f32; 2]) -> f32 {
        *m = self.beta1 * *m + self.rest1 * g;
        *v = self.beta2 * *v + self.rest2 * g * g;
        v.sqrt() * self.unbias2 + self.eps
    }
}
