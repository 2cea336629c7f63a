//! What the rules share that search for gamma every few steps: the count of steps, the search, the saved state.

use super::{GAMMA_MIN, load};
use fixnet_autograd::Array;
use fixnet_tensor::Tensor;

/// Steps between two searches, unless a rule is given its own number.
const EVERY: u64 = 100;

/// A gamma that is searched for anew every `every` steps, the first step included.
#[derive(Debug, Clone)]
pub(super) struct Periodic {
    pub(super) every: u64,
    pub(super) gamma: f32,
    steps: u64,
}

impl Default for Periodic {
    fn default() -> Self {
        Self { every: EVERY, gamma: 1.0, steps: 0 }
    }
}

impl Periodic {
    pub(super) fn new(every: u64) -> Self {
        Self { every: every.max(1), ..Self::default() }
    }

    /// From the text after a rule's name: nothing, or the number of steps.
    pub(super) fn parse(arguments: &[&str]) -> Option<Self> {
        match arguments {
            [] => Some(Self::default()),
            [every] => every.parse().ok().filter(|&n| n > 0).map(Self::new),
            _ => None,
        }
    }

    /// `name`, with the number of steps if it is not the usual one.
    pub(super) fn name(&self, name: &str) -> String {
        if self.every == EVERY { name.into() } else { format!("{name}:{}", self.every) }
    }

    pub(super) fn due(&self) -> bool {
        self.steps.is_multiple_of(self.every)
    }

    pub(super) fn advance(&mut self) {
        self.steps += 1;
    }

    pub(super) fn save(&self) -> Vec<(&'static str, Array)> {
        vec![("gamma", Array::F32(Tensor::scalar(self.gamma))), ("steps", Array::U64(vec![self.steps]))]
    }

    pub(super) fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        self.gamma = load::f32(get, "gamma")?;
        self.steps = load::u64(get, "steps")?;
        Ok(())
    }
}

/// The gamma in [0.001, 1] with the smallest `cost`, and that cost: the best of a grid of factors 0.8, refined by a
/// golden-section search between its neighbours. The larger gamma wins a tie.
pub(super) fn minimize(cost: impl Fn(f32) -> f64) -> (f32, f64) {
    /// The golden section.
    const PHI: f32 = 0.618_034;
    let mut best = (1.0, cost(1.0));
    let mut look = |gamma: f32| {
        let found = cost(gamma);
        if found < best.1 {
            best = (gamma, found);
        }
        (found, best.0)
    };
    let mut gamma = 0.8f32;
    while gamma > GAMMA_MIN {
        look(gamma);
        gamma *= 0.8;
    }
    let coarse = look(GAMMA_MIN).1;
    let (mut low, mut high) = ((coarse * 0.8).max(GAMMA_MIN), (coarse / 0.8).min(1.0));
    let (mut a, mut b) = (high - PHI * (high - low), low + PHI * (high - low));
    let (mut at_a, mut at_b) = (look(a).0, look(b).0);
    // Each round leaves 0.618 of the interval: twelve leave a thousandth of gamma.
    for _ in 0..12 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - PHI * (high - low);
            at_a = look(a).0;
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + PHI * (high - low);
            at_b = look(b).0;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_finds_known_minima() {
        for minimum in [0.001f32, 0.0137, 0.2, 0.61803, 0.999, 1.0] {
            let (gamma, cost) = minimize(|g| f64::from((g.ln() - minimum.ln()).powi(2)));
            assert!((gamma / minimum - 1.0).abs() < 2e-3, "{minimum}: {gamma}");
            assert!(cost < 4e-6);
        }
        assert_eq!(minimize(|_| 1.0).0, 1.0);
    }
}
