//! The quantizer of a layer's input.

use super::levels::{Levels, Operand, quantize};
use super::sign;
use crate::{Deviation, QuantConfig, Scales, Scheme, SignEstimator};
use fixnet_autograd::deferred::{self, Deferred};
use fixnet_autograd::gradient::{Clip, Gradient, Through};
use fixnet_autograd::map_blocks;
use fixnet_autograd::{Error, Group, ParamId, Result, Store, Value};
use fixnet_tensor::{Buffer, Codes, Range, Tensor, map};

/// The quantizer of a layer's input: where its scale is.
///
/// Its levels follow from the value that it quantizes: [`sided`](Self::sided) gives those from 0 on to one that has no element
/// below 0 ([`Var::is_non_negative`](fixnet_autograd::Var::is_non_negative)), and levels of both signs to any other.
#[derive(Debug, Clone, Copy)]
pub struct ActivationQuantizer {
    non_negative: Levels,
    two_sided: Levels,
    scale: Option<ParamId>,
    learned: bool,
    deviation: Deviation,
    /// Whether it is a sign whose derivative is a triangle.
    triangle: bool,
}

impl ActivationQuantizer {
    /// Makes a quantizer called `name`.
    ///
    /// Its scale is set by the first training batch; until then it is 0. It is `3·sigma`, with sigma the deviation of the
    /// normal distribution that the inputs, or for inputs >= 0 their positive half, come from: `std(x)` and
    /// `std(x)/sqrt(1 - 2/pi)`. For one bit of inputs >= 0 in the TRS scheme it is `1.224·sigma`, the upper level of the
    /// best two for such a half.
    ///
    /// # Errors
    /// The configuration has no activation bits, or the name `name.scale` is taken.
    pub fn new(store: &mut Store, name: &str, config: &QuantConfig) -> Result<Self> {
        let mut quantizer = Self::unscaled(config)?;
        // Whether there is a scale depends on scheme and bits alone.
        if quantizer.two_sided.scaled {
            quantizer.scale = Some(store.add(&format!("{name}.scale"), Group::Scale, Tensor::scalar(0.0))?);
        }
        Ok(quantizer)
    }

    /// Makes a quantizer whose scale is 1, for values that were divided by theirs.
    ///
    /// # Errors
    /// The configuration has no activation bits.
    pub(crate) fn unscaled(config: &QuantConfig) -> Result<Self> {
        let Some(bits) = config.precision.activation() else {
            return Err(Error::setting("bits of a quantized activation", "1 to 8", config.precision));
        };
        let triangle = bits == 1 && config.sign_estimator == SignEstimator::Triangle;
        let (non_negative, two_sided) = match triangle {
            // A sign of any value. The levels of the LBT scheme have no scale.
            true => (Levels::new(Scheme::Lbt, Operand::TwoSided, 1)?, Levels::new(Scheme::Lbt, Operand::TwoSided, 1)?),
            false => (
                Levels::new(config.scheme, Operand::Positive, bits)?,
                Levels::new(config.scheme, Operand::TwoSided, bits)?,
            ),
        };
        let learned = config.scales == Scales::Learned;
        Ok(Self { non_negative, two_sided, scale: None, learned, deviation: config.scale_deviation, triangle })
    }

    /// Returns the quantizer with the levels of values that have no element below 0, or of values of either sign.
    pub fn sided(&self, non_negative: bool) -> SidedQuantizer {
        let levels = if non_negative { self.non_negative } else { self.two_sided };
        let Self { scale, learned, deviation, triangle, .. } = *self;
        SidedQuantizer { levels, scale, learned, deviation, triangle }
    }

    /// The scale, if there is one.
    pub fn scale(&self) -> Option<ParamId> {
        self.scale
    }

    /// The scale, if it is learned.
    pub fn learned_scale(&self) -> Option<ParamId> {
        self.scale.filter(|_| self.learned)
    }

    /// Whether quantized values leave out a scale.
    pub(crate) fn leaves_out(&self) -> bool {
        self.scale.is_some() && !self.two_sided.post_scaled
    }
}

/// An [`ActivationQuantizer`] with the levels of the values that it quantizes.
#[derive(Debug, Clone, Copy)]
pub struct SidedQuantizer {
    levels: Levels,
    scale: Option<ParamId>,
    learned: bool,
    deviation: Deviation,
    triangle: bool,
}

impl SidedQuantizer {
    /// The scale, if there is one.
    pub fn scale(&self) -> Option<ParamId> {
        self.scale
    }

    /// The scale, if it is learned.
    pub fn learned_scale(&self) -> Option<ParamId> {
        self.scale.filter(|_| self.learned)
    }

    /// Whether its scale was set, or it has none.
    pub(crate) fn is_set(&self, store: &Store) -> bool {
        self.s(store) > 0.0
    }

    /// What it does with its scale as it is now, and the value of a level. Where the scale was never set, both are 0.
    pub(crate) fn fixed(&self, store: &Store) -> (FixedInput, f32) {
        let range = self.levels.range;
        match self.s(store) {
            s if s > 0.0 => (FixedInput { range, per_unit: self.levels.per_unit(s) }, self.levels.value(s)),
            _ => (FixedInput { range, per_unit: 0.0 }, 0.0),
        }
    }

    /// The scale as it is now, 1 if there is none.
    pub(crate) fn s(&self, store: &Store) -> f32 {
        self.scale.map_or(1.0, |s| store.param(s).value.item())
    }

    /// What quantized values leave out: the scale `s`, where they are levels alone; of signs the mean magnitude of a normal
    /// distribution whose first scale is `s`.
    pub(crate) fn missing(&self, s: f32) -> f32 {
        match self.levels {
            Levels { post_scaled: true, .. } | Levels { scaled: false, .. } => 1.0,
            Levels { range, .. } if range.is_sign() => s * ((2.0 / std::f64::consts::PI).sqrt() / 3.0) as f32,
            _ => s,
        }
    }

    /// The scale for the input of a layer. One that was never set is taken from this batch, and kept if `calibrate`.
    ///
    /// # Errors
    /// The input is not finite where the scale is to be set from it.
    pub(crate) fn prepare(&self, store: &mut Store, x: &Value, calibrate: bool) -> Result<f32> {
        let mut s = self.s(store);
        if s <= 0.0 {
            s = self.first_scale(&deferred::write(x), store.step())?;
            if let (true, Some(scale)) = (calibrate, self.scale) {
                store.param_mut(scale).value = Tensor::scalar(s);
            }
        }
        Ok(s)
    }

    fn is_signed(&self) -> bool {
        self.levels.range.zero() != 0
    }

    /// Whether quantized values leave out a scale.
    pub(crate) fn leaves_out(&self) -> bool {
        self.scale.is_some() && !self.levels.post_scaled
    }

    /// What the value of a level is, of one of the input: 1, or 1 over the scale where it is left out.
    pub(crate) fn kappa(&self, store: &Store) -> f32 {
        self.levels.gain(self.s(store)).unwrap_or(1.0)
    }

    /// The codes of the input with the scale `s`.
    pub(crate) fn codes(&self, x: &Value, s: f32) -> Result<Codes> {
        let mut bytes = Buffer::take(x.shape().iter().product());
        map_blocks(x, &mut bytes, |x, out| self.levels.quantize(x, s, out));
        Ok(Codes::new(x.shape(), self.levels.range, self.levels.value(s), bytes)?)
    }

    /// Quantizes the input of a layer. A scale that was never set is taken from this batch, and kept if `calibrate`.
    ///
    /// # Errors
    /// The input is not finite where the scale is to be set from it.
    pub fn quantize(&self, store: &mut Store, x: &Value, calibrate: bool) -> Result<Codes> {
        let s = self.prepare(store, x, calibrate)?;
        self.codes(x, s)
    }

    fn first_scale(&self, x: &Tensor, step: u64) -> Result<f32> {
        self.first_scale_of(x.data(), self.deviation, step)
    }

    /// The first scale for these values.
    pub(crate) fn first_scale_of(&self, x: &[f32], deviation: Deviation, step: u64) -> Result<f32> {
        let std = deviation.of(x);
        let deviations = if self.levels.range.bits() == 1 && !self.is_signed() { 1.224 } else { 3.0 };
        let s = if self.is_signed() {
            deviations * std
        } else {
            deviations * std / (1.0 - 2.0 / std::f64::consts::PI).sqrt()
        };
        if !s.is_finite() {
            return Err(Error::NonFinite { what: "the input of a quantizer".into(), step, found: s.to_string() });
        }
        Ok(if s > 0.0 { s as f32 } else { 1.0 })
    }

    /// The gradient of the input `x` from that `d` of the quantized input; the scale's goes along with it.
    pub fn backward(&self, store: &Store, x: Value, d: Value) -> Gradient {
        if self.triangle {
            return sign::gradient(x, d);
        }
        let s = self.s(store);
        let d = match (self.levels.gain(s), d) {
            (None, d) => d,
            (Some(gain), Value::Sums(d)) => Value::Sums(d.scaled(gain)),
            (Some(gain), d) => {
                let d = d.tensor();
                let mut scaled = Tensor::take(d.shape());
                map::map1(d.data(), scaled.data_mut(), |d| d * gain);
                Value::Float(scaled)
            }
        };
        let clip = Clip { scale: self.learned_scale(), ..self.levels.clip(s) };
        Through { value: x, d, clip: Some(clip), plus: None, gate: None }.into()
    }
}

/// The quantizer of an input whose scale does not move: level `[clip(x · per_unit, min, max)]`, ties to even; of the two
/// levels -1 and +1 the sign of x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FixedInput {
    /// The levels.
    pub range: Range,
    /// Levels a unit of x; 0 if no batch has set the scale.
    pub per_unit: f32,
}

impl FixedInput {
    /// The codes of `x`, with scale 1: they are levels alone.
    ///
    /// # Errors
    /// None: the result keeps the form of its siblings.
    pub fn quantize(&self, x: &Value) -> Result<Codes> {
        let mut bytes = Buffer::take(x.shape().iter().product());
        map_blocks(x, &mut bytes, |x, out| quantize(self.range, self.per_unit, x, out));
        Ok(Codes::new(x.shape(), self.range, 1.0, bytes)?)
    }
}
