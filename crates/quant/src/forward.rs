//! Quantizers of weights and activations with learned scales (LBT scheme; METHOD 1).
//!
//! A latent value x becomes `q = [clip(x / s, -1 or 0, 1) · n]`, ties to even, and counts as `q · s / n`, with n the
//! largest level. The straight-through estimator passes the gradient through the rounding, and through the clipping
//! inside the interval only. The scale receives what the formula implies (the rule of LSQ):
//! `d(q·s/n)/ds = q/n - x/s` inside and `q/n` outside. One-bit quantizers are those of METHOD 1: `s = 1`, not learned.

use fixnet_autograd::deferred::{self, Clip, Deferred, Through, map_blocks};
use fixnet_autograd::{Array, Error, Group, ParamId, Result, Slot, State, Store, Value};
use fixnet_tensor::{Buffer, Codes, Range, Tensor, map, reduce};

/// A uniform quantizer at one moment: its levels and its scale.
#[derive(Debug, Clone, Copy)]
struct Uniform {
    range: Range,
    s: f32,
}

impl Uniform {
    fn top(&self) -> f32 {
        self.range.max() as f32
    }

    /// Levels a unit of x. One product in place of a division and a product: the result is the definition.
    fn per_unit(&self) -> f32 {
        self.top() / self.s
    }

    fn low(&self) -> f32 {
        if self.range.zero() == 0 { 0.0 } else { -self.top() }
    }

    fn codes(&self, x: &Value) -> Result<Codes> {
        let shape = x.shape();
        let mut bytes = Buffer::take(shape.iter().product());
        if self.range.bits() == 1 && self.range.zero() == 1 {
            // sign(x): the two levels -1 and +1 are the bytes 0 and 2.
            map_blocks(x, &mut bytes, |x, out| map::map1(x, out, |&x| if x < 0.0 { 0 } else { 2 }));
        } else {
            let (unit, low, top, zero) = (self.per_unit(), self.low(), self.top(), self.range.zero());
            map_blocks(x, &mut bytes, |x, out| map::quantize(x, unit, low, top, zero, out));
        }
        Ok(Codes::new(shape, self.range, self.s / self.top(), bytes)?)
    }

    /// The straight-through estimator, with the gradient for `scale`.
    fn clip(&self, scale: Option<ParamId>) -> Clip {
        let (per_unit, low, top) = (self.per_unit(), self.low(), self.top());
        Clip { per_unit, low, top, post: 1.0, factor: 1.0 / f64::from(top), scale }
    }
}

/// Where a scale lives: learned and in the store, or 1.
fn learned_scale(store: &mut Store, name: &str, bits: u8, value: f32) -> Result<Option<ParamId>> {
    if bits == 1 { Ok(None) } else { store.add(name, Group::Scale, Tensor::scalar(value)).map(Some) }
}

/// The quantizer of one latent weight. Its state is that of its parameters: nothing else is saved.
#[derive(Debug, Clone, Copy)]
pub struct WeightQuantizer {
    range: Range,
    weight: ParamId,
    scale: Option<ParamId>,
}

impl WeightQuantizer {
    /// A quantizer of the latent weight `weight` called `name`, with the scale `3·std(w)` to begin with.
    ///
    /// # Errors
    /// `bits` is not 1 to 8, or the names `name.scale`, `name.quantizer` are taken.
    pub fn new(store: &mut Store, name: &str, weight: ParamId, bits: u8) -> Result<Slot<Self>> {
        let std = reduce::mean_std(store.param(weight).value.data()).1;
        // A weight of zeros has no spread; any positive scale serves.
        let s = if std > 0.0 { (3.0 * std) as f32 } else { 1.0 };
        let scale = learned_scale(store, &format!("{name}.scale"), bits, s)?;
        let quantizer = Self { range: Range::symmetric(bits)?, weight, scale };
        store.add_state(&format!("{name}.quantizer"), quantizer)
    }

    /// The latent weight.
    pub fn weight(&self) -> ParamId {
        self.weight
    }

    /// The learned scale, if there is one.
    pub fn scale(&self) -> Option<ParamId> {
        self.scale
    }

    /// The bits of a weight.
    pub fn bits(&self) -> u8 {
        self.range.bits()
    }

    fn uniform(&self, store: &Store) -> Uniform {
        Uniform { range: self.range, s: self.scale.map_or(1.0, |s| store.param(s).value.item()) }
    }

    /// Quantizes the latent weight anew, and keeps and returns the codes.
    ///
    /// # Errors
    /// None for a quantizer made by [`new`](Self::new).
    pub fn requantize(&self, store: &mut Store) -> Result<Codes> {
        let latent = Value::Float(store.param(self.weight).value.clone());
        let codes = self.uniform(store).codes(&latent)?;
        // Shared no longer, so that the optimizer's step moves it in place.
        drop(latent);
        store.param_mut(self.weight).codes = Some(codes.clone());
        Ok(codes)
    }

    /// The codes of the weight, made now if there are none.
    ///
    /// # Errors
    /// As [`requantize`](Self::requantize).
    pub fn codes(&self, store: &mut Store) -> Result<Codes> {
        match &store.param(self.weight).codes {
            Some(codes) => Ok(codes.clone()),
            None => self.requantize(store),
        }
    }

    /// The gradient of the latent weight from that `d` of the quantized weight; the scale's goes along with it.
    pub fn backward(&self, store: &Store, d: Tensor) -> Through {
        let value = Value::Float(store.param(self.weight).value.clone());
        let clip = self.uniform(store).clip(self.scale);
        Through { value, d: Value::Float(d), clip: Some(clip), positive: false }
    }
}

impl State for WeightQuantizer {
    fn save(&self) -> Vec<(&'static str, Array)> {
        Vec::new()
    }
    fn load(&mut self, _: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        Ok(())
    }
}

/// Quantizes every latent weight of the store anew and counts the codes that changed: one step's transitions, of each
/// quantizer in the store's order.
///
/// A weight that was never quantized before counts no transition.
///
/// # Errors
/// None for quantizers made by [`WeightQuantizer::new`].
pub fn requantize(store: &mut Store) -> Result<Vec<crate::Transitions>> {
    let quantizers: Vec<WeightQuantizer> = store.states::<WeightQuantizer>().map(|(_, q)| *q).collect();
    let count = |q: WeightQuantizer| {
        let old = store.param_mut(q.weight).codes.take();
        let new = q.requantize(store)?;
        let changed = old.map_or(0, |old| map::count_different(old.bytes(), new.bytes()));
        Ok(crate::Transitions { changed, weights: new.len() as u64 })
    };
    quantizers.into_iter().map(count).collect()
}

/// The quantizer of a layer's input.
#[derive(Debug, Clone, Copy)]
pub struct ActivationQuantizer {
    range: Range,
    scale: Option<ParamId>,
}

impl ActivationQuantizer {
    /// A quantizer called `name` for inputs >= 0, or of either sign if `signed`. Its scale is set by the first training
    /// batch: `3·std(x)/sqrt(1 - 2/pi)`, or `3·std(x)` if signed; until then it is 0.
    ///
    /// # Errors
    /// `bits` is not 1 to 8, or the name `name.scale` is taken.
    pub fn new(store: &mut Store, name: &str, bits: u8, signed: bool) -> Result<Self> {
        let range = if signed { Range::symmetric(bits)? } else { Range::unsigned(bits)? };
        Ok(Self { range, scale: learned_scale(store, &format!("{name}.scale"), bits, 0.0)? })
    }

    /// The learned scale, if there is one.
    pub fn scale(&self) -> Option<ParamId> {
        self.scale
    }

    fn uniform(&self, store: &Store) -> Uniform {
        Uniform { range: self.range, s: self.scale.map_or(1.0, |s| store.param(s).value.item()) }
    }

    /// Quantizes the input of a layer. A scale that was never set is taken from this batch, and kept if `training`.
    ///
    /// # Errors
    /// The input is not finite where the scale is to be set from it.
    pub fn quantize(&self, store: &mut Store, x: &Value, training: bool) -> Result<Codes> {
        let mut uniform = self.uniform(store);
        if uniform.s <= 0.0 {
            uniform.s = self.first_scale(&deferred::write(x), store.step())?;
            if let (true, Some(scale)) = (training, self.scale) {
                store.param_mut(scale).value = Tensor::scalar(uniform.s);
            }
        }
        uniform.codes(x)
    }

    fn first_scale(&self, x: &Tensor, step: u64) -> Result<f32> {
        let (_, std) = reduce::mean_std(x.data());
        let signed = self.range.zero() != 0;
        let s = if signed { 3.0 * std } else { 3.0 * std / (1.0 - 2.0 / std::f64::consts::PI).sqrt() };
        if !s.is_finite() {
            return Err(Error::NonFinite { what: "the input of a quantizer".into(), step, found: s.to_string() });
        }
        Ok(if s > 0.0 { s as f32 } else { 1.0 })
    }

    /// The gradient of the input `x` from that `d` of the quantized input; the scale's goes along with it.
    pub fn backward(&self, store: &Store, x: Value, d: Value) -> Through {
        Through { value: x, d, clip: Some(self.uniform(store).clip(self.scale)), positive: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::deferred::Gradient;

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    fn levels(c: &Codes) -> Vec<i32> {
        (0..c.len()).map(|i| c.level(i)).collect()
    }

    #[test]
    fn weights_of_four_bits_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-1.5, -0.7, -0.05, 0.0, 0.05, 0.15, 0.35, 2.0])).unwrap();
        let slot = WeightQuantizer::new(&mut store, "w", w, 4).unwrap();
        let q = *store.state(slot);
        let std = reduce::mean_std(store.param(w).value.data()).1;
        assert_eq!(store.param(q.scale().unwrap()).value.item(), (3.0 * std) as f32);
        store.param_mut(q.scale().unwrap()).value = Tensor::scalar(0.7);
        // x/s · 7 = x · 10: -15 and 20 clip to -7 and 7; -0.5, 0.5 go to 0, 1.5 to 2, 3.5 to 4 (ties to even).
        let codes = q.requantize(&mut store).unwrap();
        assert_eq!(levels(&codes), [-7, -7, 0, 0, 0, 2, 4, 7]);
        assert!((codes.scale() - 0.1).abs() < 1e-7);
        // STE: nothing outside [-s, s]. Scale: sum of d · (q/7 - x/s inside, q/7 outside).
        let dw = Gradient::from(q.backward(&store, tensor(&[1.0; 8]))).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let expected = -1.0 + (-1.0 + 1.0) + 0.5 / 7.0 + 0.0 - 0.5 / 7.0 + 0.5 / 7.0 + 0.5 / 7.0 + 1.0;
        approx::assert_relative_eq!(store.grad(q.scale().unwrap()).unwrap().item(), expected, epsilon = 1e-5);
    }

    #[test]
    fn one_bit_is_the_sign_with_scale_one() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-2.0, -0.1, 0.0, 0.5])).unwrap();
        let slot = WeightQuantizer::new(&mut store, "w", w, 1).unwrap();
        let q = *store.state(slot);
        let codes = q.codes(&mut store).unwrap();
        assert_eq!((levels(&codes), codes.scale()), (vec![-1, -1, 1, 1], 1.0));
        let dw = Gradient::from(q.backward(&store, tensor(&[1.0; 4]))).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 1.0, 1.0, 1.0]);
        assert!(q.scale().is_none());
        let a = ActivationQuantizer::new(&mut store, "a", 1, false).unwrap();
        let codes = a.quantize(&mut store, &Value::Float(tensor(&[-1.0, 0.4, 0.6, 3.0])), true).unwrap();
        assert_eq!(levels(&codes), [0, 0, 1, 1]);
    }

    #[test]
    fn the_first_batch_sets_the_scale_of_activations_in_training_only() {
        let mut store = Store::seeded(0);
        let a = ActivationQuantizer::new(&mut store, "a", 4, false).unwrap();
        let x = Value::Float(tensor(&[0.0, 1.0, 2.0, 3.0]));
        a.quantize(&mut store, &x, false).unwrap();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), 0.0);
        a.quantize(&mut store, &x, true).unwrap();
        let expected = 3.0 * 1.25f64.sqrt() / (1.0 - 2.0 / std::f64::consts::PI).sqrt();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), expected as f32);
        a.quantize(&mut store, &Value::Float(tensor(&[9.0, 0.0])), true).unwrap();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), expected as f32);
    }

    #[test]
    fn transitions_are_counted() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[0.1, 0.2, -0.3, 0.4])).unwrap();
        let slot = WeightQuantizer::new(&mut store, "w", w, 1).unwrap();
        assert_eq!(requantize(&mut store).unwrap(), [crate::Transitions { changed: 0, weights: 4 }]);
        store.param_mut(w).value = tensor(&[-0.1, 0.2, 0.3, 0.5]);
        assert_eq!(requantize(&mut store).unwrap(), [crate::Transitions { changed: 2, weights: 4 }]);
        assert_eq!(store.state(slot).bits(), 1);
    }
}
