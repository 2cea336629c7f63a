//! LBT's rule: keep the share of clipped gradients where the error bound of the largest gradients is lowest (METHOD 2.1,
//! 2.2; Kim et al., ECCV 2024).

use super::{GAMMA_MIN, GradientRule, Observed, load};
use fixnet_autograd::{Array, Error, Result};
use fixnet_tensor::Tensor;

/// The smallest beta: with less, gammas near 1 would hardly differ from step to step in f32.
const BETA_MIN: f32 = 1e-6;

/// gamma moves by `beta` a step towards the point where the share of clipped gradients is `alpha / (2^b - 1)`, the minimum
/// of the error bound of the share `alpha` of largest gradients. The first gradient sets it by a walk down from 1.
#[derive(Debug, Clone)]
pub struct Lbt {
    alpha: f32,
    beta: f32,
    gamma: f32,
    started: bool,
}

impl Default for Lbt {
    /// The authors' settings for ResNet-20: alpha = beta = 1e-3.
    fn default() -> Self {
        Self { alpha: 1e-3, beta: 1e-3, gamma: 1.0, started: false }
    }
}

impl Lbt {
    /// The rule for the share `alpha` of largest gradients, with steps of `beta`.
    ///
    /// # Errors
    /// `alpha` is not in (0, 1], or `beta` not in [1e-6, 1].
    pub fn new(alpha: f32, beta: f32) -> Result<Self> {
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(Error::setting("alpha of LBT", "a number in (0, 1]", alpha));
        }
        if !(BETA_MIN..=1.0).contains(&beta) {
            return Err(Error::setting("beta of LBT", "a number from 1e-6 to 1", beta));
        }
        Ok(Self { alpha, beta, ..Self::default() })
    }

    /// From the text after `lbt`.
    pub(super) fn parse(arguments: &[&str]) -> Option<Self> {
        match arguments {
            [] => Some(Self::default()),
            [alpha, beta] => Self::new(alpha.parse().ok()?, beta.parse().ok()?).ok(),
            _ => None,
        }
    }

    /// The share of clipped gradients at the minimum of the bound: `alpha / (2^b - 1)`.
    fn target(&self, bits: u8) -> f64 {
        f64::from(self.alpha) / f64::from((1u32 << bits) - 1)
    }
}

impl GradientRule for Lbt {
    fn name(&self) -> String {
        let default = Self::default();
        match (self.alpha, self.beta) {
            (a, b) if (a, b) == (default.alpha, default.beta) => "lbt".into(),
            (a, b) => format!("lbt:{a}:{b}"),
        }
    }

    fn gamma(&self) -> f32 {
        self.gamma
    }

    fn needs_gradient(&self) -> bool {
        !self.started
    }

    fn observe(&mut self, g: &Observed<'_>) {
        self.gamma = first_gamma(g, self.beta, self.target(g.bits()));
        self.started = true;
    }

    fn update(&mut self, outside: f64, bits: u8) {
        self.gamma = next_gamma(self.gamma, self.beta, outside, self.target(bits));
    }

    fn save(&self) -> Vec<(&'static str, Array)> {
        let started = Array::U64(vec![u64::from(self.started)]);
        vec![("gamma", Array::F32(Tensor::scalar(self.gamma))), ("started", started)]
    }

    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        self.gamma = load::f32(get, "gamma")?;
        self.started = load::u64(get, "started")? != 0;
        Ok(())
    }
}

/// `clamp(gamma + beta · sign(R(G_out) - target), 0.001, 1)`, sign(0) = 0.
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
fn first_gamma(g: &Observed<'_>, beta: f32, target: f64) -> f32 {
    let at = |k: u32| (1.0 - k as f32 * beta).max(GAMMA_MIN);
    let met = |k: u32| g.share_outside(at(k)) >= target;
    let (mut low, mut high) = (0, ((1.0 - GAMMA_MIN) / beta).ceil() as u32);
    while low < high {
        let middle = (low + high) / 2;
        if met(middle) { high = middle } else { low = middle + 1 }
    }
    at(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::tests::{quantize, ramp};
    use crate::{GradientQuantizer, Rounding};

    #[test]
    fn gamma_update_of_method_2_2() {
        assert_eq!(next_gamma(0.5, 0.001, 0.2, 0.1), 0.501);
        assert_eq!(next_gamma(0.5, 0.001, 0.05, 0.1), 0.499);
        // sign(0) = 0, and the clamp at both ends.
        assert_eq!(next_gamma(0.5, 0.001, 0.1, 0.1), 0.5);
        assert_eq!(next_gamma(1.0, 0.001, 0.2, 0.1), 1.0);
        assert_eq!(next_gamma(0.0015, 0.001, 0.0, 0.1), 0.001);
    }

    #[test]
    fn the_first_step_walks_down_to_the_optimal_condition() {
        // 4 bits, alpha 0.15: target 0.15 / 15 = 0.01, so the largest 10 of 1000 lie outside at gamma = 0.99.
        let mut q = GradientQuantizer::new(4, &Lbt::new(0.15, 1e-3).unwrap().into(), Rounding::Stochastic).unwrap();
        for steps in 0..20 {
            quantize(&mut q, &ramp());
            assert!((q.gamma() - 0.99).abs() < if steps == 0 { 1.5e-3 } else { 2.5e-3 }, "{}", q.gamma());
        }
    }

    #[test]
    fn the_walk_is_that_of_single_steps() {
        let g = ramp();
        for (alpha, beta, bits) in
            [(0.15, 1e-3, 4), (0.9, 0.01, 2), (1e-3, 1e-3, 8), (1.0, 0.3, 3), (0.15, BETA_MIN, 4)]
        {
            let rule = Lbt::new(alpha, beta).unwrap();
            let seen = Observed::new(g.data(), bits, Rounding::Nearest);
            let mut gamma = 1f32;
            for k in 1.. {
                if seen.share_outside(gamma) >= rule.target(bits) || gamma <= GAMMA_MIN {
                    break;
                }
                gamma = (1.0 - k as f32 * beta).max(GAMMA_MIN);
            }
            assert_eq!(first_gamma(&seen, beta, rule.target(bits)), gamma, "{alpha} {beta} {bits}");
        }
        // Of equal gradients none is outside below gamma = 1, all are from there on.
        assert_eq!(first_gamma(&Observed::new(&[0.5; 8], 4, Rounding::Nearest), 1e-3, 1e-4), 0.999);
    }

    #[test]
    fn a_state_that_was_saved_goes_on_as_if_never_stopped() {
        let start = || GradientQuantizer::new(4, &Lbt::new(0.15, 1e-2).unwrap().into(), Rounding::Nearest).unwrap();
        let (mut a, mut b) = (start(), start());
        quantize(&mut a, &ramp());
        let saved = fixnet_autograd::State::save(&a);
        let mut get = |name: &str| saved.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        fixnet_autograd::State::load(&mut b, &mut get).unwrap();
        for _ in 0..5 {
            quantize(&mut a, &ramp());
            quantize(&mut b, &ramp());
            assert_eq!(a.gamma(), b.gamma());
        }
        assert!(fixnet_autograd::State::load(&mut b, &mut |_| None).unwrap_err().contains("gamma"));
    }
}
