//! The formula of a forward quantizer: which levels, what a level is worth, what its straight-through estimator passes.
//!
//! A latent value x becomes `q = [clip(x · m / s, min, max)]`, ties to even, with s the scale and m levels in the interval
//! from 0 to s. It counts as `q · s / m` in the LBT scheme and as `q / m` in the TRS scheme. Rounding passes the gradient
//! unchanged, clipping inside the interval only, so with v the quantized value, inside the interval and outside:
//!
//! ```text
//! LBT   dv/dx = 1 | 0      dv/ds = (q - x·m/s) / m | q / m
//! TRS   dv/dx = 1/s | 0    dv/ds = -x/s^2 | 0
//! ```
//!
//! One-bit quantizers are those of METHOD 1: weights and two-sided activations are the sign of x, whose estimator passes
//! where |x| <= s; activations >= 0 are 0 or 1 with m = 1. In the LBT scheme s = 1.

use crate::Scheme;
use fixnet_autograd::Result;
use fixnet_autograd::gradient::Clip;
use fixnet_tensor::{Range, map};

/// What is quantized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operand {
    /// A weight, or an activation of either sign.
    TwoSided,
    /// An activation >= 0.
    Positive,
}

/// The levels of a quantizer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    pub(super) range: Range,
    /// m: levels in the interval from 0 to s.
    pub(super) per_scale: f32,
    /// Whether there is a scale other than 1.
    pub(super) scaled: bool,
    /// Whether a quantized value is the level times the scale.
    pub(super) post_scaled: bool,
}

impl Levels {
    pub(super) fn new(scheme: Scheme, operand: Operand, bits: u8) -> Result<Self> {
        let range = match (operand, scheme) {
            (Operand::Positive, _) => Range::unsigned(bits)?,
            (Operand::TwoSided, Scheme::Trs) if bits > 1 => Range::twos_complement(bits)?,
            (Operand::TwoSided, _) => Range::symmetric(bits)?,
        };
        // In the TRS scheme x = s lies one step above the highest level.
        let above = f32::from(u8::from(scheme == Scheme::Trs && bits > 1));
        Ok(Self {
            range,
            per_scale: range.max() as f32 + above,
            scaled: bits > 1 || scheme == Scheme::Trs,
            post_scaled: bits > 1 && scheme == Scheme::Lbt,
        })
    }

    /// Levels a unit of x. One product in place of a division and a product: the result is the definition.
    pub(super) fn per_unit(&self, s: f32) -> f32 {
        self.per_scale / s
    }

    /// The value of a level, without `s` if `s` is 1.
    pub(super) fn value(&self, s: f32) -> f32 {
        if self.post_scaled { s / self.per_scale } else { 1.0 / self.per_scale }
    }

    /// dv/dx inside the interval, if it is not 1.
    pub(super) fn gain(&self, s: f32) -> Option<f32> {
        (self.scaled && !self.post_scaled).then(|| 1.0 / s)
    }

    /// The codes of a block.
    pub(super) fn quantize(&self, x: &[f32], s: f32, out: &mut [u8]) {
        quantize(self.range, self.per_unit(s), x, out);
    }

    /// The straight-through estimator, for gradients that have the [`gain`](Self::gain) already: `dv/ds` over `dv/dx` is
    /// `(post · q - inside · x·m/s) / m` in both schemes.
    pub(super) fn clip(&self, s: f32) -> Clip {
        let post = f32::from(u8::from(self.post_scaled));
        let factor = 1.0 / f64::from(self.per_scale);
        Clip {
            per_unit: self.per_unit(s),
            low: self.range.min() as f32,
            top: self.range.max() as f32,
            post,
            factor,
            scale: None,
        }
    }
}

/// The codes of a block: `[clip(x · per_unit, min, max)]`, ties to even; of the two levels -1 and +1 the sign of x.
pub(super) fn quantize(range: Range, per_unit: f32, x: &[f32], out: &mut [u8]) {
    if range.is_sign() {
        // The two levels are the bytes 0 and 2.
        map::map1(x, out, |&x| if x < 0.0 { 0 } else { 2 });
    } else {
        map::quantize(x, per_unit, range.min() as f32, range.max() as f32, range.zero(), out);
    }
}
