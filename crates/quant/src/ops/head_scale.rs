//! Scales by head of an operand of attention: one for each matrix of a sample, [1, H, 1, 1].
//!
//! The operand is divided by them before its quantizer, whose own scale is 1, and the product is multiplied by them behind it. So a
//! quantized value is `s · q / m` as it is with one scale, and the derivatives of division, quantizer and multiplication together
//! are those of the formula (`forward/levels.rs`).

use crate::{Deviation, QuantConfig, Scales, SidedQuantizer};
use fixnet_autograd::{Error, Graph, Group, ParamId, Result, Store, Var};
use fixnet_tensor::Tensor;

/// The scales of one operand, `name.scale`; the first training batch sets them.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadScale {
    scale: ParamId,
    learned: bool,
    deviation: Deviation,
}

impl HeadScale {
    pub(super) fn new(store: &mut Store, name: &str, heads: usize, config: &QuantConfig) -> Result<Self> {
        let scale = store.add(&format!("{name}.scale"), Group::Scale, Tensor::zeros(&[1, heads, 1, 1]))?;
        Ok(Self { scale, learned: config.scales == Scales::Learned, deviation: config.scale_deviation })
    }

    /// The scales for the operand `x` [N, H, M, K]. Those that were never set are taken from this batch, and kept if the graph
    /// calibrates.
    ///
    /// # Errors
    /// The operand has other axes, or is not finite where the scales are to be set from it.
    pub(super) fn of(&self, g: &mut Graph<'_>, x: &Var, sided: &SidedQuantizer) -> Result<Var> {
        g.store().owns(self.scale)?;
        let kept = g.store().param(self.scale).value.clone();
        let heads = kept.len();
        if x.shape().len() != 4 || x.shape()[1] != heads {
            let expected = format!("[N, {heads}, M, K], a scale for each of {heads} heads");
            return Err(Error::setting("operand of a product", expected, format!("{:?}", x.shape())));
        }
        let is_set = kept.data().iter().all(|&s| s > 0.0);
        if !is_set && !g.traces(&[x])? {
            let values = x.tensor();
            let len = x.shape()[2] * x.shape()[3];
            let mut first = Tensor::zeros(kept.shape());
            for (head, s) in first.data_mut().iter_mut().enumerate() {
                let own = values.data().chunks_exact(len.max(1)).skip(head).step_by(heads);
                let own: Vec<f32> = own.flatten().copied().collect();
                *s = sided.first_scale_of(&own, self.deviation, g.store().step())?;
            }
            if !g.modes().calibrate {
                return Ok(g.input(first));
            }
            g.store_mut().param_mut(self.scale).value = first;
        }
        Ok(match self.learned {
            true => g.param(self.scale),
            false => {
                let kept = g.store().param(self.scale).value.clone();
                g.input(kept)
            }
        })
    }
}
