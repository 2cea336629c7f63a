//! What the papers look at in a training step: errors of gradient quantizers, steps of weights, histograms.
//!
//! [`Watch`] is put around a step. It changes no bit of it: gradients are read where they are quantized, weights are
//! compared before and after.
//!
//! ```
//! use fixnet_autograd::Store;
//! use fixnet_quant::diagnostics::Watch;
//! # let mut store = Store::seeded(1);
//! let watch = Watch::begin(&mut store)?;
//! // … forward, backward, the optimizer's step …
//! for layer in watch.finish(&mut store) {
//!     println!("{}: E(G_L) {:?}", layer.name, layer.gradient.map(|g| g.error.large));
//! }
//! # Ok::<(), fixnet_autograd::Error>(())
//! ```

pub use crate::gradient::report::{ALPHA, Bins, Errors, GRADIENT_BINS, GradientReport, RIVALS};

use crate::{GradientQuantizer, WeightQuantizer, gradient};
use fixnet_autograd::{Result, Store};
use fixnet_tensor::{Codes, Tensor, reduce};

/// The bins of a histogram over latent weights in units of their scale.
pub const LATENT_BINS: Bins = Bins { low: -1.5, high: 1.5, count: 96 };

/// What a step did to one quantized weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightReport {
    /// Weights.
    pub weights: u64,
    /// Those whose level changed.
    pub changed: u64,
    /// The mean effective step of latent weights, `|x_t - x_(t-1)| / s`.
    pub latent_step: f64,
    /// The mean effective step of quantized weights in the same unit, `|q_t - q_(t-1)| / m`; of one bit half of that, so
    /// that a change of sign counts 1.
    pub quantized_step: f64,
    /// The mean distance of latent weights after the step to the nearest transition point, in levels (METHOD 3).
    pub distance: f64,
    /// Latent weights after the step in units of their scale, over [`LATENT_BINS`].
    pub histogram: Vec<u64>,
}

impl WeightReport {
    /// The weight of `q` in `store` against what it was before, latents and codes.
    fn new(q: &WeightQuantizer, store: &Store, before: (&Tensor, &Codes)) -> Self {
        let (m, (min, max)) = (q.levels_per_scale(), q.level_range());
        let param = store.param(q.weight());
        let (now, then) = (param.value.data(), before.0.data());
        let len = now.len();
        let mean = |sum: f64| sum / len.max(1) as f64;
        // Scales are those of rows, or one for all of them.
        let row = param.value.shape().first().map_or(len, |&rows| len / rows.max(1)).max(1);
        let per_unit = q.per_unit(store, row);
        let levels: Vec<f32> = now.iter().enumerate().map(|(i, x)| x * per_unit[i / row]).collect();
        let latent_step = reduce::sum_by(len, |i| (now[i] - then[i]).abs() * per_unit[i / row] / m);
        // One bit has the levels -1 and 1 with one transition point between.
        let (lowest, highest) = if q.bits() == 1 { (0.0, 0.0) } else { (min as f32 + 0.5, max as f32 - 0.5) };
        let nearest = |x: f32| if q.bits() == 1 { 0.0 } else { (x.floor() + 0.5).clamp(lowest, highest) };
        let distance = reduce::sum_by(len, |i| (levels[i] - nearest(levels[i])).abs());
        let (mut changed, mut moved) = (0, 0u64);
        if let Some(codes) = param.codes() {
            for (&a, &b) in codes.bytes().iter().zip(before.1.bytes()) {
                changed += u64::from(a != b);
                moved += u64::from(a.abs_diff(b));
            }
        }
        let apart = if q.bits() == 1 { 2.0 } else { f64::from(m) };
        Self {
            weights: len as u64,
            changed,
            latent_step: mean(latent_step),
            quantized_step: mean(moved as f64 / apart),
            distance: mean(distance),
            histogram: LATENT_BINS.count(levels.iter().map(|x| x / m)),
        }
    }
}

/// What a step did in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerReport {
    /// The layer's name.
    pub name: String,
    /// Its weight.
    pub weight: WeightReport,
    /// The gradient of its output, if that is quantized and not all zeros.
    pub gradient: Option<GradientReport>,
}

/// The names of the quantized layers, in their order.
pub fn layers(store: &Store) -> Vec<String> {
    store.states::<WeightQuantizer>().map(|(name, _)| layer(name).into()).collect()
}

/// The layer that a weight quantizer belongs to.
fn layer(quantizer: &str) -> &str {
    let weight = quantizer.strip_suffix(".quantizer").unwrap_or(quantizer);
    weight.strip_suffix(".weight").unwrap_or(weight)
}

/// The quantized layers of a store before a step.
#[derive(Debug)]
pub struct Watch(Vec<(String, WeightQuantizer, Tensor, Codes)>);

impl Watch {
    /// Remembers the weights, and has the gradient quantizers look at what they quantize.
    ///
    /// # Errors
    /// None for quantizers made by [`WeightQuantizer::new`].
    pub fn begin(store: &mut Store) -> Result<Self> {
        let quantizers: Vec<_> =
            store.states::<WeightQuantizer>().map(|(name, q)| (layer(name).to_string(), *q)).collect();
        let before = |(name, q): (String, WeightQuantizer)| {
            let codes = q.codes(store)?;
            Ok((name, q, store.param(q.weight()).value.clone(), codes))
        };
        let before = quantizers.into_iter().map(before).collect::<Result<_>>()?;
        store.states_mut::<GradientQuantizer>().for_each(|(_, q)| q.watch(true));
        Ok(Self(before))
    }

    /// What the step did in each layer, in their order.
    pub fn finish(self, store: &mut Store) -> Vec<LayerReport> {
        let mut gradients: Vec<(String, Option<GradientReport>)> = Vec::new();
        for (name, q) in store.states_mut::<GradientQuantizer>() {
            q.watch(false);
            gradients.push((gradient::layer(name).to_string(), q.take_report()));
        }
        let report = |(name, q, latent, codes): (String, WeightQuantizer, Tensor, Codes)| {
            let weight = WeightReport::new(&q, store, (&latent, &codes));
            let gradient = gradients.iter_mut().find(|(n, _)| *n == name).and_then(|(_, g)| g.take());
            LayerReport { name, weight, gradient }
        };
        self.0.into_iter().map(report).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuantConfig, Scheme, requantize};
    use fixnet_autograd::Group;

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    #[test]
    fn a_weight_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, tensor(&[-2.0, -0.3, 0.1, 0.9])).unwrap();
        let config = QuantConfig { scheme: Scheme::Trs, ..QuantConfig::new("2/2/32".parse().unwrap()) };
        let slot = WeightQuantizer::new(&mut store, "l.weight", w, &config).unwrap();
        let q = *store.state(slot);
        store.param_mut(q.scale().unwrap()).value = Tensor::scalar(1.0);
        // x · 2 in levels -2 to 1: -4, -0.6, 0.2, 1.8, so -2, -1, 0, 1.
        let watch = Watch::begin(&mut store).unwrap();
        store.param_mut(w).value = tensor(&[-1.5, -0.1, 0.35, 0.9]);
        requantize(&mut store).unwrap();
        let [layer] = &watch.finish(&mut store)[..] else { panic!("one layer") };
        // Now -3, -0.2, 0.7, 1.8, so -2, 0, 1, 1: two levels of half the scale moved.
        let found = &layer.weight;
        assert_eq!((layer.name.as_str(), found.weights, found.changed), ("l", 4, 2));
        approx::assert_relative_eq!(found.latent_step, (0.5 + 0.2 + 0.25) / 4.0, max_relative = 1e-6);
        assert_eq!(found.quantized_step, (0.5 + 0.5) / 4.0);
        // Transition points -1.5, -0.5, 0.5.
        approx::assert_relative_eq!(found.distance, (1.5 + 0.3 + 0.2 + 1.3) / 4.0, max_relative = 1e-6);
        // -1.5, -0.1, 0.35 and 0.9 of the scale, in bins of 1/32 from -1.5.
        assert_eq!([0, 44, 59, 76].map(|i| found.histogram[i]), [1; 4]);
        assert!(layer.gradient.is_none());
    }

    /// A layer may be called what quantizers add to its name.
    #[test]
    fn names_lose_one_suffix() {
        let layers = ["head.gradient", "l.weight", "q.quantizer"];
        let found = layers.map(|l| layer(&format!("{l}.weight.quantizer")).to_string());
        assert_eq!(found, layers);
        assert_eq!(layers.map(|l| gradient::layer(&format!("{l}.gradient")).to_string()), layers);
    }

    #[test]
    fn one_bit_has_one_transition_point() {
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, tensor(&[-0.5, 0.25])).unwrap();
        WeightQuantizer::new(&mut store, "l.weight", w, &QuantConfig::new("1/1/32".parse().unwrap())).unwrap();
        let watch = Watch::begin(&mut store).unwrap();
        store.param_mut(w).value = tensor(&[0.5, 0.25]);
        requantize(&mut store).unwrap();
        let found = watch.finish(&mut store).remove(0).weight;
        // A change of sign counts 1, one of two weights changed.
        assert_eq!((found.changed, found.quantized_step, found.latent_step, found.distance), (1, 0.5, 0.5, 0.375));
    }
}
