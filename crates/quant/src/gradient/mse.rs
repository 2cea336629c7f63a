//! The rule of least squares: the gamma with the smallest squared error over all gradients (METHOD 2.3).

use super::periodic::{Periodic, minimize};
use super::{GradientRule, Observed};
use fixnet_autograd::Array;

/// gamma minimizes `Σ (g - Q(g))^2`, searched for every few steps.
#[derive(Debug, Clone, Default)]
pub struct Mse(Periodic);

impl Mse {
    /// The rule with a search every `every` steps (at least 1).
    pub fn every(every: u64) -> Self {
        Self(Periodic::new(every))
    }

    /// From the text after `mse`.
    pub(super) fn parse(arguments: &[&str]) -> Option<Self> {
        Periodic::parse(arguments).map(Self)
    }
}

impl GradientRule for Mse {
    fn name(&self) -> String {
        self.0.name("mse")
    }
    fn gamma(&self) -> f32 {
        self.0.gamma
    }
    fn needs_gradient(&self) -> bool {
        self.0.due()
    }
    fn observe(&mut self, g: &Observed<'_>) {
        self.0.gamma = minimize(|gamma| g.squared_error(gamma)).0;
    }
    fn update(&mut self, _: f64, _: u8) {
        self.0.advance();
    }
    fn save(&self) -> Vec<(&'static str, Array)> {
        self.0.save()
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        self.0.load(get)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::tests::{heavy, quantize};
    use crate::{GradientQuantizer, Rounding};

    #[test]
    fn no_gamma_of_a_fine_grid_has_a_smaller_error() {
        for rounding in [Rounding::Nearest, Rounding::Stochastic] {
            for (salt, bits) in [(1, 2), (2, 4), (3, 4), (4, 6), (5, 8)] {
                let g = heavy(3000, salt);
                let seen = Observed::new(g.data(), bits, rounding);
                let mut rule = Mse::default();
                rule.observe(&seen);
                let grid = (1..=1000).map(|i| seen.squared_error(i as f32 / 1000.0)).fold(f64::INFINITY, f64::min);
                let found = seen.squared_error(rule.gamma());
                // Rounding to nearest makes the error jagged: the search may miss a dent of the curve.
                assert!(found <= 1.02 * grid, "{bits} {rounding}: {found} at {}, grid {grid}", rule.gamma());
                assert!(found < seen.squared_error(1.0));
            }
        }
    }

    #[test]
    fn it_looks_again_every_few_steps() {
        let mut q = GradientQuantizer::new(4, &Mse::every(3).into(), Rounding::Stochastic).unwrap();
        let gammas: Vec<f32> = (0..7)
            .map(|step| {
                quantize(&mut q, &heavy(500, step));
                q.gamma()
            })
            .collect();
        assert!(gammas[0] == gammas[2] && gammas[3] == gammas[5]);
        assert!(gammas[2] != gammas[3] && gammas[5] != gammas[6]);
    }
}
