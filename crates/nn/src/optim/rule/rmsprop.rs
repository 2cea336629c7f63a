//! RMSProp: the gradient over the root of its mean square.

use super::{EPS, Scalars, Setting, UpdateRule, check_eps, pass, share};
use fixnet_autograd::Result;
use fixnet_tensor::Tensor;

/// `v <- alpha · v + (1 - alpha) · g²`, `h <- momentum · h + g / (sqrt(v) + eps)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// Share of the old mean square.
    pub alpha: f64,
    /// Keeps the divisor from 0.
    pub eps: f64,
    /// Share of the old direction.
    pub momentum: f64,
}

impl Default for RmsProp {
    /// An alpha of 0.99, eps of 1e-8, no momentum.
    fn default() -> Self {
        Self { alpha: 0.99, eps: EPS, momentum: 0.0 }
    }
}

impl UpdateRule for RmsProp {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn settings(&mut self) -> Vec<(&'static str, Setting<'_>)> {
        vec![
            ("alpha", Setting::Number(&mut self.alpha)),
            ("eps", Setting::Number(&mut self.eps)),
            ("momentum", Setting::Number(&mut self.momentum)),
        ]
    }

    fn usual_lr(&self) -> f64 {
        1e-2
    }

    fn check(&self) -> Result<()> {
        share("alpha", self.alpha)?;
        check_eps(self.eps)?;
        share("momentum", self.momentum)
    }

    fn buffers(&self) -> &'static [&'static str] {
        match self.momentum {
            0.0 => &["rmsprop.square_avg"],
            _ => &["rmsprop.square_avg", "rmsprop.momentum_buffer"],
        }
    }

    fn update(&self, w: &mut [f32], g: &[f32], buffers: &mut [Tensor], s: Scalars) -> f32 {
        let (rest, alpha, eps) = ((1.0 - self.alpha) as f32, self.alpha as f32, self.eps as f32);
        let ratio = move |w: f32, g: f32, v: &mut f32| {
            let g = s.decayed(g, w);
            *v = alpha * *v + rest * g * g;
            g / (v.sqrt() + eps)
        };
        if self.momentum == 0.0 {
            return pass(w, g, buffers, s.rate, move |w, g, [v]: &mut [f32; 1]| ratio(w, g, v));
        }
        let momentum = self.momentum as f32;
        pass(w, g, buffers, s.rate, move |w, g, [v, h]: &mut [f32; 2]| {
            *h = momentum * *h + ratio(w, g, v);
            *h
        })
    }
}
