//! The quantizer of a latent weight, with one scale or one for each output channel.

use super::levels::{Levels, Operand};
use crate::{QuantConfig, Scales, WeightScales};
use fixnet_autograd::gradient::{Clip, Gradient, Through};
use fixnet_autograd::{Array, Error, Group, ParamId, Result, Slot, State, Store, Value};
use fixnet_tensor::{Buffer, Codes, Tensor, map, reduce};

/// The quantizer of one latent weight. Its state is that of its parameters: nothing else is saved.
///
/// The first axis of a weight is that of output channels. With a scale for each of them in the LBT scheme, codes leave
/// the scales out: they are factors of the columns of a product, [`columns`](Self::columns).
#[derive(Debug, Clone, Copy)]
pub struct WeightQuantizer {
    levels: Levels,
    weight: ParamId,
    scale: Option<ParamId>,
    learned: bool,
    by_channel: bool,
}

impl WeightQuantizer {
    /// A quantizer of the latent weight `weight` called `name`, with the scale `3·std(w)` to begin with, of the whole
    /// weight or of each output channel.
    ///
    /// # Errors
    /// The weight is of another store or has no axis, the configuration has no weight bits, or the names `name.scale`, `name.quantizer` are taken.
    pub fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig) -> Result<Slot<Self>> {
        let Some(bits) = config.precision.weight() else {
            return Err(Error::setting("bits of a quantized weight", "1 to 8", config.precision));
        };
        store.owns(weight).map_err(|e| e.in_layer(name))?;
        let shape = store.param(weight).value.shape();
        if shape.is_empty() {
            return Err(fixnet_tensor::Error::shape("quantized weight", "at least one axis", shape).into());
        }
        let levels = Levels::new(config.scheme, Operand::TwoSided, bits)?;
        let by_channel = levels.scaled && config.weight_scales == WeightScales::Channel;
        let scale = match levels.scaled {
            true => {
                let first =
                    first_scales(&store.param(weight).value, by_channel, |w| 3.0 * config.scale_deviation.of(w));
                Some(store.add(&format!("{name}.scale"), Group::Scale, first)?)
            }
            false => None,
        };
        let learned = config.scales == Scales::Learned;
        store.add_state(&format!("{name}.quantizer"), Self { levels, weight, scale, learned, by_channel })
    }

    /// The latent weight.
    pub fn weight(&self) -> ParamId {
        self.weight
    }

    /// The scale, or the scales of output channels, if there are any.
    pub fn scale(&self) -> Option<ParamId> {
        self.scale
    }

    /// The scale or scales, if they are learned.
    pub fn learned_scale(&self) -> Option<ParamId> {
        self.scale.filter(|_| self.learned)
    }

    /// The bits of a weight.
    pub fn bits(&self) -> u8 {
        self.levels.range.bits()
    }

    /// One scale, or one for each output channel.
    fn scales<'a>(&self, store: &'a Store) -> &'a [f32] {
        self.scale.map_or(&[1.0], |s| store.param(s).value.data())
    }

    /// Levels a unit of x, `m / s`, for each row of `row` elements.
    pub(crate) fn per_unit(&self, store: &Store, row: usize) -> Vec<f32> {
        let (rows, scales) = (store.param(self.weight).value.len().div_ceil(row), self.scales(store));
        (0..rows).map(|r| self.levels.per_unit(scales[r % scales.len()])).collect()
    }

    /// m: levels in the interval from 0 to the scale.
    pub fn levels_per_scale(&self) -> f32 {
        self.levels.per_scale
    }

    /// The smallest and the largest level.
    pub fn level_range(&self) -> (i32, i32) {
        (self.levels.range.min(), self.levels.range.max())
    }

    /// The factors of a product's columns that the codes leave out.
    pub fn columns(&self, store: &Store) -> Option<Vec<f32>> {
        (self.by_channel && self.levels.post_scaled).then(|| self.scales(store).to_vec())
    }

    /// Whether quantized values leave out a scale, or have none (one bit).
    pub(crate) fn leaves_out(&self) -> bool {
        !self.levels.post_scaled
    }

    /// What quantized values leave out, for all or for each output channel: the scale; of one-bit weights the mean
    /// magnitude, which is the factor that brings them closest to the latents.
    pub(crate) fn missing(&self, store: &Store, by_channel: bool) -> Tensor {
        let latent = &store.param(self.weight).value;
        match self.scale {
            _ if self.levels.post_scaled => first_scales(latent, by_channel, |_| 1.0),
            Some(scale) if !self.levels.range.is_sign() => match store.param(scale).value.clone() {
                scales if scales.len() > 1 || !by_channel => scales,
                scale => Tensor::full(&latent.shape()[..1], scale.item()),
            },
            _ => first_scales(latent, by_channel, |w| reduce::sum_by(w.len(), |i| w[i].abs()) / w.len() as f64),
        }
    }

    /// Quantizes the latent weight anew, and keeps and returns the codes.
    ///
    /// # Errors
    /// The scale has another shape than the quantizer gave it.
    pub fn requantize(&self, store: &mut Store) -> Result<Codes> {
        if let Some(scale) = self.scale.map(|s| store.param(s)) {
            let (found, latent) = (scale.value.shape(), store.param(self.weight).value.shape());
            if found != &latent[..usize::from(self.by_channel)] {
                let expected = if self.by_channel { "one number an output channel" } else { "one number, []" };
                let (name, found) = (scale.name().to_string(), format!("f32 {found:?}"));
                return Err(Error::State { name, expected: expected.into(), found });
            }
        }
        let (latent, scales) = (&store.param(self.weight).value, self.scales(store));
        let mut bytes = Buffer::take(latent.len());
        let value = if self.by_channel {
            let row = (latent.len() / scales.len().max(1)).max(1);
            map::rows(&mut bytes, row, |first, out| {
                let latents = latent.data()[first * row..].chunks(row);
                for ((out, latents), &s) in out.chunks_mut(row).zip(latents).zip(&scales[first..]) {
                    self.levels.quantize(latents, s, out);
                }
            });
            self.levels.value(1.0)
        } else {
            map::chunks(&mut bytes, |first, out| {
                self.levels.quantize(&latent.data()[first..][..out.len()], scales[0], out)
            });
            self.levels.value(scales[0])
        };
        let codes = Codes::new(latent.shape(), self.levels.range, value, bytes)?;
        store.set_codes(self.weight, codes.clone());
        Ok(codes)
    }

    /// The codes of the weight, made now if there are none of the weight and the scale as they are.
    ///
    /// # Errors
    /// As [`requantize`](Self::requantize).
    pub fn codes(&self, store: &mut Store) -> Result<Codes> {
        match store.codes(self.weight, self.scale) {
            Some(codes) => Ok(codes.clone()),
            None => self.requantize(store),
        }
    }

    /// The gradient of the latent weight from that `d` of the *codes' values*: of the quantized weight without what
    /// [`columns`](Self::columns) holds, times those. The scale's goes along with it.
    pub fn backward(&self, store: &mut Store, mut d: Tensor) -> Gradient {
        let scales = self.scales(store).to_vec();
        if self.by_channel {
            return self.backward_by_channel(store, d, &scales).into();
        }
        if let Some(gain) = self.levels.gain(scales[0]) {
            map::chunks(d.data_mut(), |_, d| d.iter_mut().for_each(|d| *d *= gain));
        }
        let value = Value::Float(store.param(self.weight).value.clone());
        let clip = Clip { scale: self.learned_scale(), ..self.levels.clip(scales[0]) };
        Through { value, d: Value::Float(d), clip: Some(clip), plus: None, gate: None }.into()
    }

    /// Each row with its own scale. Both schemes divide by it: LBT because `d` has the factor of its column, TRS because
    /// the quantized value is the level alone.
    fn backward_by_channel(&self, store: &mut Store, mut d: Tensor, scales: &[f32]) -> Tensor {
        let latent = store.param(self.weight).value.clone();
        let row = (latent.len() / scales.len().max(1)).max(1);
        let mut slopes = Vec::with_capacity(scales.len());
        for ((d, x), &s) in d.data_mut().chunks_mut(row).zip(latent.data().chunks(row)).zip(scales) {
            let Clip { per_unit, low, top, post, factor, .. } = self.levels.clip(s);
            let inside = |level: f32| (level >= low) & (level <= top);
            d.iter_mut().for_each(|d| *d /= s);
            if self.learned {
                let slope = reduce::sum_by(x.len(), |i| {
                    let level = x[i] * per_unit;
                    let held = if level < low { low } else { level };
                    let held = if held > top { top } else { held };
                    d[i] * (post * map::round_even(held) - if inside(level) { level } else { 0.0 })
                });
                slopes.push((slope * factor) as f32);
            }
            d.iter_mut().zip(x).for_each(|(d, &x)| *d = if inside(x * per_unit) { *d } else { 0.0 });
        }
        if let Some(scale) = self.learned_scale() {
            let slopes = Tensor::from_vec(&[scales.len()], slopes).expect("one slope a channel");
            store.accumulate(scale, slopes).expect("checked when the weight was quantized");
        }
        d
    }
}

/// `f` of the whole weight [] or of each output channel [O]. Where it is 0 (a weight of zeros), any positive scale serves.
fn first_scales(weight: &Tensor, by_channel: bool, f: impl Fn(&[f32]) -> f64) -> Tensor {
    let scale = |w: &[f32]| match f(w) {
        s if s > 0.0 => s as f32,
        _ => 1.0,
    };
    if !by_channel {
        return Tensor::scalar(scale(weight.data()));
    }
    let channels = weight.shape()[0];
    let row = (weight.len() / channels.max(1)).max(1);
    let scales = weight.data().chunks(row).map(scale).collect();
    Tensor::from_vec(&[channels], scales).expect("one scale a channel")
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
        let old = store.param(q.weight).codes().cloned();
        let new = q.requantize(store)?;
        let changed = old.map_or(0, |old| map::count_different(old.bytes(), new.bytes()));
        Ok(crate::Transitions { changed, weights: new.len() as u64 })
    };
    quantizers.into_iter().map(count).collect()
}
