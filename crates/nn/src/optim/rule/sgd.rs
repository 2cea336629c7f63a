//! Stochastic gradient descent with momentum.

use super::{Scalars, Setting, UpdateRule, pass, share};
use fixnet_autograd::{Error, Result};
use fixnet_tensor::Tensor;

/// `v <- momentum · v + g`; `h = v`, or with Nesterov's momentum `h = g + momentum · v`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Share of the old buffer.
    pub momentum: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
}

impl Default for Sgd {
    /// A momentum of 0.9.
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false }
    }
}

impl UpdateRule for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![("momentum", Setting::Number(&mut self.momentum)), ("nesterov", Setting::Flag(&mut self.nesterov))]
    }

    /// That of METHOD 3.
    fn usual_lr(&self) -> f64 {
        0.1
    }

    fn usual_weight_decay(&self) -> f64 {
        1e-4
    }

    fn check(&self) -> Result<()> {
        share("momentum", self.momentum)?;
        match self.nesterov && self.momentum == 0.0 {
            true => Err(Error::setting("momentum", "above 0, since nesterov is on", self.momentum)),
            false => Ok(()),
        }
    }

    /// The key is of the time when there was no other rule.
    fn buffers(&self) -> &'static [&'static str] {
        &["first"]
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let momentum = self.momentum as f32;
        if self.nesterov {
            return pass(w, g, buffers, s.rate, move |w, g, [v]: &mut [f32; 1]| {
                let g = s.decayed(g, w);
                *v = momentum * *v + g;
                g + momentum * *v
            });
        }
        pass(w, g, buffers, s.rate, move |w, g, [v]: &mut [f32; 1]| {
            *v = momentum * *v + s.decayed(g, w);
            *v
        })
    }
}
