//! The gradient quantizer and its interval rules (LBT; METHOD 2).
//!
//! With `g_max = max|g|` of this step and the clipping factor gamma, the interval is `c = gamma · g_max`, the step
//! `d = c / (2^(b-1) - 1)` and the code `[clip(g, -c, c)/d + u]` with u uniform in (-1/2, 1/2): stochastic rounding.

use fixnet_autograd::deferred::{self, BLOCK, Deferred, Scratch};
use fixnet_autograd::{Array, Error, Result, State, Store};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::rng::Stream;
use fixnet_tensor::{Buffer, Codes, Range, Tensor, map};
use std::fmt;
use std::str::FromStr;

/// How the interval of a gradient quantizer is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GradientRule {
    /// LBT: gamma moves by `beta` a step towards the point where the share of clipped gradients is
    /// `alpha / (2^b - 1)`, the minimum of the error bound of the share `alpha` of largest gradients.
    Lbt {
        /// The share of gradients that counts as large.
        alpha: f32,
        /// The step of gamma.
        beta: f32,
    },
    /// gamma = 1: nothing is clipped.
    MinMax,
    /// A constant gamma.
    Fixed(f32),
}

impl GradientRule {
    /// LBT with the authors' settings for ResNet-20.
    pub const LBT: Self = Self::Lbt { alpha: 1e-3, beta: 1e-3 };
}

impl fmt::Display for GradientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            rule if *rule == Self::LBT => write!(f, "lbt"),
            Self::Lbt { alpha, beta } => write!(f, "lbt:{alpha}:{beta}"),
            Self::MinMax => write!(f, "min-max"),
            Self::Fixed(gamma) => write!(f, "fixed:{gamma}"),
        }
    }
}

impl FromStr for GradientRule {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let bad =
            || Error::setting("gradient rule", "lbt, lbt:ALPHA:BETA, min-max or fixed:GAMMA, numbers in (0, 1]", s);
        let number = |text: &str| text.parse().ok().filter(|v: &f32| *v > 0.0 && *v <= 1.0).ok_or_else(bad);
        match s.split(':').collect::<Vec<_>>()[..] {
            ["lbt"] => Ok(Self::LBT),
            ["lbt", alpha, beta] => Ok(Self::Lbt { alpha: number(alpha)?, beta: number(beta)? }),
            ["min-max"] => Ok(Self::MinMax),
            ["fixed", gamma] => Ok(Self::Fixed(number(gamma)?)),
            _ => Err(bad()),
        }
    }
}

/// The smallest gamma.
const GAMMA_MIN: f32 = 0.001;

/// Quantizes the gradient of one layer's output, and moves its clipping factor once a step.
#[derive(Debug, Clone)]
pub struct GradientQuantizer {
    rule: GradientRule,
    bits: u8,
    range: Range,
    gamma: f32,
    started: bool,
}

impl GradientQuantizer {
    /// A quantizer of `bits` bits that has seen no gradient.
    ///
    /// # Errors
    /// `bits` is not 2 to 8.
    pub fn new(bits: u8, rule: GradientRule) -> Result<Self> {
        if !(2..=8).contains(&bits) {
            return Err(Error::setting("gradient bits", "2 to 8", bits));
        }
        let gamma = if let GradientRule::Fixed(gamma) = rule { gamma } else { 1.0 };
        Ok(Self { rule, bits, range: Range::symmetric(bits)?, gamma, started: false })
    }

    /// The clipping factor, in [0.001, 1].
    pub fn gamma(&self) -> f32 {
        self.gamma
    }

    /// The share of clipped gradients at the minimum of the bound: `alpha / (2^b - 1)` (METHOD 2.1).
    fn target(&self, alpha: f32) -> f64 {
        f64::from(alpha) / f64::from((1u32 << self.bits) - 1)
    }

    /// Quantizes `g` with stochastic rounding; `name` is the layer's, for messages.
    ///
    /// The interval of this step is that of the current gamma, which then moves for the next step. A gradient of zeros
    /// gives codes of zeros and leaves gamma as it is: it says nothing about the interval.
    ///
    /// # Errors
    /// An element of `g` is NaN or infinite.
    pub fn quantize(&mut self, g: &dyn Deferred, noise: Stream, name: &str, step: u64) -> Result<Codes> {
        let len = deferred::len(g);
        let read = Work { bytes: len * g.size(), macs: 0 };
        let top = profile::span("gradient maximum", name, |_| read, || deferred::max_abs(g));
        if !top.is_finite() {
            let what = format!("the gradient of the output of `{name}`");
            return Err(Error::NonFinite { what, step, found: top.to_string() });
        }
        let mut bytes = Buffer::take(len);
        let levels = self.range.level_max();
        if top > 0.0
            && let GradientRule::Lbt { alpha, beta } = self.rule
            && !self.started
        {
            self.gamma = first_gamma(deferred::write(g).data(), top, beta, self.target(alpha));
            self.started = true;
        }
        let limit = self.gamma * top;
        let per_unit = f32::from(levels) / limit;
        // A gradient so small that the step is no normal number counts as zero.
        if top == 0.0 || !per_unit.is_finite() {
            bytes.fill(self.range.zero());
            return Ok(Codes::new(g.shape(), self.range, 0.0, bytes)?);
        }
        let written = Work { bytes: read.bytes + len, macs: 0 };
        let codes = |first: usize, bytes: &mut [u8]| {
            let mut scratch = Scratch::new();
            let mut outside = 0;
            for (i, bytes) in bytes.chunks_mut(BLOCK).enumerate() {
                let first = first + i * BLOCK;
                let g = deferred::block(g, first..first + bytes.len(), &mut scratch);
                outside += map::quantize_stochastic(g, per_unit, levels, limit, noise, first as u64, bytes);
            }
            outside
        };
        let outside = profile::span("quantize gradient", name, |_| written, || map::chunks(&mut bytes, codes));
        if let GradientRule::Lbt { alpha, beta } = self.rule {
            let outside = outside.into_iter().sum::<u64>() as f64 / len as f64;
            self.gamma = next_gamma(self.gamma, beta, outside, self.target(alpha));
        }
        Ok(Codes::new(g.shape(), self.range, limit / f32::from(levels), bytes)?)
    }
}

/// `clamp(gamma + beta · sign(R(G_out) - target), 0.001, 1)`, sign(0) = 0 (METHOD 2.2).
fn next_gamma(gamma: f32, beta: f32, outside: f64, target: f64) -> f32 {
    let moved = match outside.partial_cmp(&target) {
        Some(std::cmp::Ordering::Greater) => gamma + beta,
        Some(std::cmp::Ordering::Less) => gamma - beta,
        _ => gamma,
    };
    moved.clamp(GAMMA_MIN, 1.0)
}

/// The first gamma on the way down from 1 in steps of beta with `R(G_out) >= target`, found by bisection: the share of
/// clipped gradients only grows on the way down.
fn first_gamma(g: &[f32], top: f32, beta: f32, target: f64) -> f32 {
    let at = |k: u32| (1.0 - k as f32 * beta).max(GAMMA_MIN);
    let met = |k: u32| map::count_above(g, at(k) * top) as f64 / g.len() as f64 >= target;
    let (mut low, mut high) = (0, ((1.0 - GAMMA_MIN) / beta).ceil() as u32);
    while low < high {
        let middle = (low + high) / 2;
        if met(middle) { high = middle } else { low = middle + 1 }
    }
    at(low)
}

impl State for GradientQuantizer {
    fn save(&self) -> Vec<(&'static str, Array)> {
        let gamma = Tensor::scalar(self.gamma);
        vec![("gamma", Array::F32(gamma)), ("started", Array::U64(vec![u64::from(self.started)]))]
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        match (get("gamma"), get("started")) {
            (Some(Array::F32(gamma)), Some(Array::U64(started))) if gamma.len() == 1 && started.len() == 1 => {
                self.gamma = gamma.item();
                self.started = started[0] != 0;
                Ok(())
            }
            _ => Err("`gamma` as one f32 and `started` as one u64".into()),
        }
    }
}

/// The clipping factor of each gradient quantizer by layer, in the order of the layers.
pub fn gammas(store: &Store) -> Vec<(String, f32)> {
    store.states::<GradientQuantizer>().map(|(name, q)| (name.trim_end_matches(".gradient").into(), q.gamma)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_tensor::rng::domain;

    fn noise() -> Stream {
        Stream::new(1, domain::ROUNDING, 0, 0)
    }

    /// 1000 gradients 0.001, 0.002, …, 1.
    fn ramp() -> Tensor {
        Tensor::from_vec(&[1000], (1..=1000).map(|i| i as f32 / 1000.0).collect()).unwrap()
    }

    #[test]
    fn gamma_update_of_method_2_2() {
        assert_eq!(next_gamma(0.5, 0.001, 0.2, 0.1), 0.501);
        assert_eq!(next_gamma(0.5, 0.001, 0.05, 0.1), 0.499);
        assert_eq!(next_gamma(0.5, 0.001, 0.1, 0.1), 0.5);
        assert_eq!(next_gamma(1.0, 0.001, 0.2, 0.1), 1.0);
        assert_eq!(next_gamma(0.0015, 0.001, 0.0, 0.1), 0.001);
    }

    #[test]
    fn the_first_step_walks_down_to_the_optimal_condition() {
        // 4 bits, alpha 0.15: target 0.15 / 15 = 0.01, so the largest 10 of 1000 lie outside at gamma = 0.99.
        let mut q = GradientQuantizer::new(4, GradientRule::Lbt { alpha: 0.15, beta: 1e-3 }).unwrap();
        q.quantize(&ramp(), noise(), "l", 0).unwrap();
        assert!((q.gamma() - 0.99).abs() < 1.5e-3, "{}", q.gamma());
        // The bound's minimum (METHOD 2.1) over a grid, R taken as locally constant, meets the same condition.
        for _ in 0..20 {
            q.quantize(&ramp(), noise(), "l", 0).unwrap();
            assert!((q.gamma() - 0.99).abs() < 2.5e-3, "{}", q.gamma());
        }
    }

    #[test]
    fn min_max_and_fixed_keep_their_gamma() {
        for (rule, gamma) in [(GradientRule::MinMax, 1.0), (GradientRule::Fixed(0.6), 0.6)] {
            let mut q = GradientQuantizer::new(4, rule).unwrap();
            let codes = q.quantize(&ramp(), noise(), "l", 0).unwrap();
            assert_eq!(q.gamma(), gamma);
            assert_eq!(codes.scale(), gamma / 7.0);
            assert_eq!(codes.level(999), 7);
        }
    }

    #[test]
    fn zero_tiny_and_infinite_gradients() {
        let mut q = GradientQuantizer::new(4, GradientRule::LBT).unwrap();
        let codes = q.quantize(&Tensor::zeros(&[5]), noise(), "l", 0).unwrap();
        assert!((0..5).all(|i| codes.level(i) == 0));
        assert_eq!(q.gamma(), 1.0);
        let codes = q.quantize(&Tensor::full(&[5], 1e-44), noise(), "l", 0).unwrap();
        assert!((0..5).all(|i| codes.level(i) == 0));
        let e = q.quantize(&Tensor::full(&[5], f32::NAN), noise(), "conv1", 7).unwrap_err().to_string();
        assert!(e.contains("conv1") && e.contains("step 7"), "{e}");
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in ["lbt", "lbt:0.01:0.002", "min-max", "fixed:0.8"] {
            assert_eq!(text.parse::<GradientRule>().unwrap().to_string(), text);
        }
        for text in ["fixed", "fixed:0", "fixed:1.5", "fixed:x", "max", "lbt:1"] {
            assert!(text.parse::<GradientRule>().unwrap_err().to_string().contains(text));
        }
    }
}
