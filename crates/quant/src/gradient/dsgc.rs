//! Direction-sensitive gradient clipping (Zhu et al., CVPR 2020; METHOD 2.3): the interval that turns the gradient least,
//! and a learning rate that falls with the angle that is left.

use super::periodic::{Periodic, minimize};
use super::{GradientRule, Observed, load};
use fixnet_autograd::Array;
use fixnet_tensor::Tensor;

/// gamma minimizes `d = 1 - cos(g, Q(g))`, searched for every few steps; the layer's learning rate is scaled by
/// `max(exp(-20 · d), 0.1)` with the d of the last search.
#[derive(Debug, Clone, Default)]
pub struct Dsgc {
    search: Periodic,
    distance: f32,
}

impl Dsgc {
    /// The rule with a search every `every` steps (at least 1).
    pub fn every(every: u64) -> Self {
        Self { search: Periodic::new(every), distance: 0.0 }
    }

    /// From the text after `dsgc`.
    pub(super) fn parse(arguments: &[&str]) -> Option<Self> {
        Some(Self { search: Periodic::parse(arguments)?, distance: 0.0 })
    }
}

impl GradientRule for Dsgc {
    fn name(&self) -> String {
        self.search.name("dsgc")
    }
    fn gamma(&self) -> f32 {
        self.search.gamma
    }
    fn needs_gradient(&self) -> bool {
        self.search.due()
    }
    fn observe(&mut self, g: &Observed<'_>) {
        let (gamma, distance) = minimize(|gamma| g.cosine_distance(gamma));
        (self.search.gamma, self.distance) = (gamma, distance as f32);
    }
    fn update(&mut self, _: f64, _: u8) {
        self.search.advance();
    }
    fn lr_factor(&self) -> f32 {
        (libm::exp(-20.0 * f64::from(self.distance)) as f32).max(0.1)
    }
    fn save(&self) -> Vec<(&'static str, Array)> {
        let mut all = self.search.save();
        all.push(("distance", Array::F32(Tensor::scalar(self.distance))));
        all
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        self.search.load(get)?;
        self.distance = load::f32(get, "distance")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rounding;
    use crate::gradient::tests::heavy;

    #[test]
    fn no_gamma_of_a_fine_grid_turns_the_gradient_less() {
        for rounding in [Rounding::Nearest, Rounding::Stochastic] {
            for (salt, bits) in [(1, 2), (2, 4), (3, 4), (4, 6)] {
                let g = heavy(3000, salt);
                let seen = Observed::new(g.data(), bits, rounding);
                let mut rule = Dsgc::default();
                rule.observe(&seen);
                let grid = (1..=1000).map(|i| seen.cosine_distance(i as f32 / 1000.0)).fold(f64::INFINITY, f64::min);
                let found = seen.cosine_distance(rule.gamma());
                assert!(found <= 1.02 * grid, "{bits} {rounding}: {found} at {}, grid {grid}", rule.gamma());
                assert_eq!(rule.distance, found as f32);
            }
        }
    }

    #[test]
    fn the_learning_rate_falls_with_the_distance() {
        let factor = |distance| Dsgc { distance, ..Dsgc::default() }.lr_factor();
        // exp(-20 · 0.05) = exp(-1); exp(-20 · 0.2) = 0.018 is held at a tenth.
        assert_eq!(factor(0.0), 1.0);
        approx::assert_relative_eq!(factor(0.05), 0.367_879_44, epsilon = 1e-6);
        assert_eq!(factor(0.2), 0.1);
    }
}
