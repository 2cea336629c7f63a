//! Adagrad: the gradient over the root of the sum of all its squares.

use super::{Scalars, Setting, UpdateRule, at_least_0, check_eps, pass};
use fixnet_autograd::Result;
use fixnet_tensor::Tensor;

/// `v <- v + g²`, `h = g / (1 + (t - 1) · lr_decay) / (sqrt(v) + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// Keeps the divisor from 0.
    pub eps: f64,
    /// How fast the learning rate falls.
    pub lr_decay: f64,
}

impl Default for Adagrad {
    /// eps of 1e-10, no decay.
    fn default() -> Self {
        Self { eps: 1e-10, lr_decay: 0.0 }
    }
}

impl UpdateRule for Adagrad {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("eps", Setting::Number(&mut self.eps)), ("lr_decay", Setting::Number(&mut self.lr_decay))]
    }

    fn usual_lr(&self) -> f64 {
        1e-2
    }

    fn check(&self) -> Result<()> {
        check_eps(self.eps)?;
        at_least_0("learning-rate decay", self.lr_decay)
    }

    fn buffers(&self) -> &'static [&'static str] {
        &["adagrad.sum"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let (fall, eps) = ((1.0 / (1.0 + (s.t - 1) as f64 * self.lr_decay)) as f32, self.eps as f32);
        pass(w, g, buffers, s.rate, move |w, g, [v]: &mut [f32; 1]| {
            let g = s.decayed(g, w);
            *v += g * g;
            fall * g / (v.sqrt() + eps)
        })
    }
}
