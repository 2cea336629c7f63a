//! NAdam: Adam with Nesterov's momentum.

use super::adam::Moments;
use super::{BETAS, EPS, Scalars, Setting, UpdateRule, at_least_0, check_moments, pass};
use fixnet_autograd::{Array, Result};
use fixnet_tensor::Tensor;

/// Adam with Nesterov's momentum. With `mu_t = beta1 · (1 - 0.96^(t · momentum_decay) / 2)` and `P_t` the product of
/// `mu_1` to `mu_t`: `h = ((1 - mu_t) / (1 - P_t) · g + mu_(t+1) / (1 - P_(t+1)) · m) / (sqrt(v / (1 - beta2^t)) + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NAdam {
    /// beta1 and beta2.
    pub betas: [f64; 2],
    /// Keeps the divisor from 0.
    pub eps: f64,
    /// How fast mu rises to beta1.
    pub momentum_decay: f64,
    /// P_t, moved by [`UpdateRule::advance`]; 1 at the start.
    pub mu_product: f64,
}

impl Default for NAdam {
    /// Betas of 0.9 and 0.999, eps of 1e-8, a momentum decay of 4e-3.
    fn default() -> Self {
        Self { betas: BETAS, eps: EPS, momentum_decay: 4e-3, mu_product: 1.0 }
    }
}

/// The name of P_t in a state.
const MU_PRODUCT: &str = "mu_product";

impl NAdam {
    fn mu(&self, t: u64) -> f64 {
        self.betas[0] * (1.0 - 0.5 * libm::pow(0.96, t as f64 * self.momentum_decay))
    }
}

impl UpdateRule for NAdam {
    fn name(&self) -> &'static str {
        "nadam"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("betas", Setting::Pair(&mut self.betas)),
            ("eps", Setting::Number(&mut self.eps)),
            ("momentum_decay", Setting::Number(&mut self.momentum_decay)),
        ]
    }

    fn usual_lr(&self) -> f64 {
        2e-3
    }

    fn check(&self) -> Result<()> {
        check_moments(self.betas, self.eps)?;
        at_least_0("momentum decay", self.momentum_decay)
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["nadam.exp_avg", "nadam.exp_avg_sq"]
    }

    fn advance(&mut self, t: u64) {
        self.mu_product *= self.mu(t);
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let moments = Moments::new(self.betas, self.eps, s.t);
        let (mu, next) = (self.mu(s.t), self.mu(s.t + 1));
        let of_g = ((1.0 - mu) / (1.0 - self.mu_product)) as f32;
        let of_m = (next / (1.0 - self.mu_product * next)) as f32;
        pass(w, g, buffers, s.rate, move |w, g, mv| {
            let g = s.decayed(g, w);
            let root = moments.advance(g, mv);
            (of_g * g + of_m * mv[0]) / root
        })
    }

    fn save(&self) -> Vec<(&'static str, Array)> {
        vec![(MU_PRODUCT, Array::U64(vec![self.mu_product.to_bits()]))]
    }

    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        let product = match get(MU_PRODUCT) {
            Some(Array::U64(bits)) if bits.len() == 1 => f64::from_bits(bits[0]),
            _ => return Err(format!("`{MU_PRODUCT}` as u64 [1]")),
        };
        if !(0.0..=1.0).contains(&product) {
            return Err(format!("`{MU_PRODUCT}` as a finite number from 0 to 1 (as bits of f64), found {product}"));
        }
        self.mu_product = product;
        Ok(())
    }
}
