//! The gradient quantizer and the rules that choose its interval (METHOD 2).
//!
//! With `g_max = max|g|` of this step and the clipping factor gamma, the interval is `c = gamma · g_max`, the step
//! `d = c / (2^(b-1) - 1)` and the code `[clip(g, -c, c)/d + u]` with u uniform in (-1/2, 1/2) (stochastic rounding) or 0
//! (nearest). A [`GradientRule`] chooses gamma; each is a file of this folder and a row in `rules.rs`.

mod constant;
mod dsgc;
mod lbt;
mod mse;
mod observed;
mod periodic;
pub(crate) mod report;
mod rule;
mod rules;

pub use constant::{Fixed, MinMax};
pub use dsgc::Dsgc;
pub use lbt::Lbt;
pub use mse::Mse;
pub use observed::Observed;
pub use rule::{CloneRule, GradientRule, Rule, RuleKind};
pub use rules::{register_rule, rules};

use crate::Rounding;
use fixnet_autograd::deferred::{self, BLOCK, Deferred, Scratch};
use fixnet_autograd::{Array, Error, Result, State, Store};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::rng::Stream;
use fixnet_tensor::{Buffer, Codes, Range, map};
use report::GradientReport;

/// The smallest gamma of the rules that move it.
const GAMMA_MIN: f32 = 0.001;

/// Single numbers out of saved state.
mod load {
    use fixnet_autograd::Array;

    type Get<'a> = &'a mut dyn FnMut(&str) -> Option<Array>;

    pub(super) fn f32(get: Get<'_>, name: &str) -> Result<f32, String> {
        match get(name) {
            Some(Array::F32(t)) if t.len() == 1 => Ok(t.item()),
            _ => Err(format!("`{name}` as one f32")),
        }
    }

    pub(super) fn u64(get: Get<'_>, name: &str) -> Result<u64, String> {
        match get(name) {
            Some(Array::U64(v)) if v.len() == 1 => Ok(v[0]),
            _ => Err(format!("`{name}` as one u64")),
        }
    }
}

/// Quantizes the gradient of one layer's output, and lets its rule move the clipping factor once a step.
#[derive(Debug, Clone)]
pub struct GradientQuantizer {
    rule: Rule,
    rounding: Rounding,
    range: Range,
    /// The gamma of this step's first gradient, which further passes of the step keep; `None` while it had none. What is
    /// saved is between steps, so this is not.
    held: Option<f32>,
    /// Whether the next gradient is looked at, and what was seen. Neither reaches a result, so neither is saved.
    watched: bool,
    seen: Option<GradientReport>,
}

/// The smallest maximum of a gradient that is quantized: below it the steps of a narrow interval would be no normal
/// numbers.
const SMALLEST: f32 = 1e-30;

impl GradientQuantizer {
    /// A quantizer of `bits` bits that has seen no gradient.
    ///
    /// # Errors
    /// `bits` is not 2 to 8.
    pub fn new(bits: u8, rule: &Rule, rounding: Rounding) -> Result<Self> {
        if !(2..=8).contains(&bits) {
            return Err(Error::setting("gradient bits", "2 to 8", bits));
        }
        Ok(Self {
            rule: rule.clone(),
            rounding,
            range: Range::symmetric(bits)?,
            held: None,
            watched: false,
            seen: None,
        })
    }

    /// The clipping factor, in (0, 1].
    pub fn gamma(&self) -> f32 {
        self.rule.0.gamma()
    }

    /// What the learning rate of the layer's weight is multiplied by.
    pub fn lr_factor(&self) -> f32 {
        self.rule.0.lr_factor()
    }

    /// From now on, or no longer, gradients are looked at while they are quantized: it takes a multiple of the time and
    /// changes no bit.
    pub fn watch(&mut self, on: bool) {
        self.watched = on;
    }

    /// What was seen of the last gradient since [`watch`](Self::watch). A gradient of zeros has nothing to see.
    pub fn take_report(&mut self) -> Option<GradientReport> {
        self.seen.take()
    }

    /// Quantizes `g`; `name` is the layer's, for messages. `noise` serves stochastic rounding.
    ///
    /// The interval of this step is that of the current gamma, which then moves for the next step. A gradient of zeros,
    /// or of nothing above 1e-30, gives codes of zeros and leaves the rule as it is: it says nothing about the interval.
    ///
    /// # Errors
    /// An element of `g` is NaN or infinite, or the rule's gamma is not in (0, 1].
    pub fn quantize(&mut self, g: &dyn Deferred, noise: Stream, name: &str, step: u64) -> Result<Codes> {
        self.held = None;
        self.quantize_again(g, noise, name, step)
    }

    /// [`quantize`](Self::quantize) of a further gradient of the same step: one that accumulates, or of a layer that is used
    /// twice. The rule moves once a step, so it neither sees this gradient nor moves by it, and gamma is that of the first;
    /// `noise` is to be another one. If all gradients before were zeros, this is the first.
    ///
    /// # Errors
    /// As there.
    pub fn quantize_again(&mut self, g: &dyn Deferred, noise: Stream, name: &str, step: u64) -> Result<Codes> {
        let len = deferred::len(g);
        let read = Work { bytes: len * g.size(), macs: 0 };
        let top = profile::span("gradient maximum", name, |_| read, || deferred::max_abs(g));
        if !top.is_finite() {
            let what = format!("the gradient of the output of `{name}`");
            return Err(Error::NonFinite { what, step, found: top.to_string() });
        }
        let mut bytes = Buffer::take(len);
        if top < SMALLEST {
            bytes.fill(self.range.zero());
            return Ok(Codes::new(g.shape(), self.range, 0.0, bytes)?);
        }
        let (bits, levels, rounding) = (self.range.bits(), self.range.level_max(), self.rounding);
        let rule = &mut *self.rule.0;
        if self.held.is_none() && rule.needs_gradient() {
            let written = deferred::write(g);
            let look = || rule.observe(&Observed::new(written.data(), bits, rounding));
            profile::span("search gamma", name, |_| read, look);
        }
        let gamma = self.held.unwrap_or_else(|| rule.gamma());
        if !(gamma > 0.0 && gamma <= 1.0) {
            return Err(Error::setting("gamma of a gradient rule", "a number in (0, 1]", gamma).in_layer(name));
        }
        if self.watched {
            let written = deferred::write(g);
            self.seen = Some(GradientReport::new(&Observed::new(written.data(), bits, rounding), gamma));
        }
        let limit = gamma * top;
        let per_unit = f32::from(levels) / limit;
        if !per_unit.is_finite() {
            let expected = format!("one whose step is a normal number at a largest gradient of {top}");
            return Err(Error::setting("gamma of a gradient rule", expected, gamma).in_layer(name));
        }
        let written = Work { bytes: read.bytes + len, macs: 0 };
        let codes = |first: usize, bytes: &mut [u8]| {
            let mut scratch = Scratch::new();
            let mut outside = 0;
            for (i, bytes) in bytes.chunks_mut(BLOCK).enumerate() {
                let first = first + i * BLOCK;
                let g = deferred::block(g, first..first + bytes.len(), &mut scratch);
                outside += match rounding {
                    Rounding::Stochastic => {
                        map::quantize_stochastic(g, per_unit, levels, limit, noise, first as u64, bytes)
                    }
                    Rounding::Nearest => map::quantize_nearest(g, per_unit, levels, limit, bytes),
                };
            }
            outside
        };
        let outside = profile::span("quantize gradient", name, |_| written, || map::chunks(&mut bytes, codes));
        if self.held.replace(gamma).is_none() {
            rule.update(outside.into_iter().sum::<u64>() as f64 / len as f64, bits);
        }
        Ok(Codes::new(g.shape(), self.range, limit / f32::from(levels), bytes)?)
    }
}

impl State for GradientQuantizer {
    fn save(&self) -> Vec<(&'static str, Array)> {
        self.rule.0.save()
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        self.rule.0.load(get)
    }
}

/// The layer that a gradient quantizer belongs to.
pub(crate) fn layer(quantizer: &str) -> &str {
    quantizer.strip_suffix(".gradient").unwrap_or(quantizer)
}

/// The clipping factor of each gradient quantizer by layer, in the order of the layers.
pub fn gammas(store: &Store) -> Vec<(String, f32)> {
    store.states::<GradientQuantizer>().map(|(name, q)| (layer(name).into(), q.gamma())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use fixnet_tensor::rng::domain;
    use fixnet_tensor::{Tensor, kernel};

    /// 1000 gradients 0.001, 0.002, …, 1.
    pub(crate) fn ramp() -> Tensor {
        Tensor::from_vec(&[1000], (1..=1000).map(|i| i as f32 / 1000.0).collect()).unwrap()
    }

    /// Gradients with a heavy tail, as real ones have: the third power of normal numbers.
    pub(crate) fn heavy(n: usize, salt: u32) -> Tensor {
        let stream = Stream::new(9, domain::INIT, salt, 0);
        Tensor::from_vec(&[n], (0..n).map(|i| stream.normal_at(i as u64).powi(3)).collect()).unwrap()
    }

    pub(crate) fn quantize(q: &mut GradientQuantizer, g: &Tensor) -> Codes {
        q.quantize(g, Stream::new(1, domain::ROUNDING, 0, 0), "l", 0).unwrap()
    }

    #[test]
    fn zero_tiny_and_infinite_gradients() {
        for rule in ["lbt", "min-max", "fixed:0.5", "mse", "dsgc"] {
            let mut q = GradientQuantizer::new(4, &rule.parse().unwrap(), Rounding::Stochastic).unwrap();
            let state = |q: &GradientQuantizer| format!("{:?}", q.save());
            let (before, unseen) = (q.gamma(), state(&q));
            for g in [Tensor::zeros(&[5]), Tensor::zeros(&[0])] {
                let codes = quantize(&mut q, &g);
                assert!((0..codes.len()).all(|i| codes.level(i) == 0), "{rule}");
                assert_eq!(q.gamma(), before);
            }
            for tiny in [1e-44, 1e-37, 9e-31] {
                let codes = quantize(&mut q, &Tensor::full(&[5], tiny));
                assert!((0..5).all(|i| codes.level(i) == 0), "{rule}");
                assert_eq!((q.gamma(), q.lr_factor()), (before, 1.0), "{rule}: says nothing of the interval");
                assert_eq!(state(&q), unseen, "{rule}");
            }
            for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let noise = Stream::new(1, domain::ROUNDING, 0, 0);
                let e = q.quantize(&Tensor::full(&[5], odd), noise, "conv1", 7).unwrap_err().to_string();
                assert!(e.contains("conv1") && e.contains("step 7"), "{e}");
            }
            // The smallest that is quantized, in the narrowest interval that a rule comes to.
            let small = Tensor::from_vec(&[4], vec![2e-30, -1e-30, 5e-31, 0.0]).unwrap();
            let codes = quantize(&mut q, &small);
            assert!(codes.scale() > 0.0 && codes.level(0) > 0 && q.gamma() > 0.0, "{rule}");
        }
    }

    #[test]
    fn nearest_rounding_by_hand() {
        // gamma 0.5 of max 2: levels -7 to 7 over [-1, 1].
        let g = Tensor::from_vec(&[6], vec![2.0, -1.1, 0.5 / 7.0, 1.5 / 7.0, -2.5 / 7.0, 0.0]).unwrap();
        let mut q = GradientQuantizer::new(4, &"fixed:0.5".parse().unwrap(), Rounding::Nearest).unwrap();
        let codes = quantize(&mut q, &g);
        assert_eq!((0..6).map(|i| codes.level(i)).collect::<Vec<_>>(), [7, -7, 0, 2, -2, 0]);
        assert_eq!(codes.scale(), 1.0 / 7.0);
    }

    /// The mean over many elements is that of the value, and every instruction set draws the same codes.
    #[test]
    fn stochastic_rounding_is_unbiased_and_the_same_on_every_instruction_set() {
        let n = 100_000;
        // The first element is the largest, and sets the step: 1/7 at gamma 1.
        for value in [0.3f32, -0.05, 0.999, -0.5 / 7.0] {
            let mut g = Tensor::full(&[n], value);
            g.data_mut()[0] = 1.0;
            let mut all = Vec::new();
            for &isa in kernel::available_isas() {
                kernel::set_isa(isa).unwrap();
                let mut q = GradientQuantizer::new(4, &MinMax.into(), Rounding::Stochastic).unwrap();
                all.push(quantize(&mut q, &g));
            }
            assert!(all.iter().all(|c| c.bytes() == all[0].bytes()));
            let mean = (1..n).map(|i| f64::from(all[0].level(i))).sum::<f64>() / (n - 1) as f64 / 7.0;
            // Four standard errors of a mean of two neighbouring levels: 4 · 0.5/7 / sqrt(n).
            assert!((mean - f64::from(value)).abs() < 9e-4, "{value}: {mean}");
        }
    }

    #[test]
    fn a_rule_of_ones_own_is_held_to_its_range() {
        #[derive(Debug, Clone)]
        struct Bad(f32);
        impl GradientRule for Bad {
            fn name(&self) -> String {
                format!("bad:{}", self.0)
            }
            fn gamma(&self) -> f32 {
                self.0
            }
        }
        for gamma in [0.0, -1.0, 1.5, f32::NAN] {
            let mut q = GradientQuantizer::new(4, &Bad(gamma).into(), Rounding::Nearest).unwrap();
            let e = q.quantize(&ramp(), Stream::new(1, domain::ROUNDING, 0, 0), "fc1", 0).unwrap_err().to_string();
            assert!(e.contains("fc1") && e.contains("(0, 1]"), "{e}");
        }
        assert_ne!(Rule::from(Bad(0.5)), Rule::default());
        assert_eq!(Rule::from(Lbt::default()), "lbt".parse().unwrap());
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for text in [
            "fixed",
            "fixed:0",
            "fixed:1.5",
            "fixed:x",
            "max",
            "lbt:1",
            "lbt:0:1",
            "lbt:1e-3:9e-7",
            "mse:0",
            "dsgc:x",
            "min-max:1",
            "",
        ] {
            let e = text.parse::<Rule>().unwrap_err().to_string();
            assert!(e.contains(text) && e.contains("lbt[:ALPHA:BETA]"), "{e}");
        }
    }
}
