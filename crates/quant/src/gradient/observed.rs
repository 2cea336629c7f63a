//! What a rule may ask about a gradient: how a gamma would fare on it.
//!
//! Errors are those of the rounding in force. Of stochastic rounding they are expectations, which are exact and need no
//! noise: an element between two levels, at the fraction f from one, has the mean of its own value and the variance
//! f (1 - f) in levels. All sums have one written order ([`reduce::sum_by`]).

use crate::Rounding;
use fixnet_tensor::{map, reduce};

/// The gradient of one layer's output before it is quantized.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    g: &'a [f32],
    top: f32,
    bits: u8,
    rounding: Rounding,
}

impl<'a> Observed<'a> {
    /// A view of `g`, all finite, that will be quantized to `bits` bits.
    ///
    /// # Panics
    /// `bits` is not 2 to 8.
    pub fn new(g: &'a [f32], bits: u8, rounding: Rounding) -> Self {
        assert!((2..=8).contains(&bits), "gradient bits: expected 2 to 8, found {bits}");
        Self { g, top: map::max_abs(g), bits, rounding }
    }

    /// The gradients.
    pub fn values(&self) -> &'a [f32] {
        self.g
    }

    /// `max |g|`.
    pub fn top(&self) -> f32 {
        self.top
    }

    /// Bits of the codes.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// How codes are rounded.
    pub fn rounding(&self) -> Rounding {
        self.rounding
    }

    /// R(G_out): the share of gradients with `|g| > gamma · max |g|`.
    pub fn share_outside(&self, gamma: f32) -> f64 {
        map::count_above(self.g, gamma * self.top) as f64 / self.g.len() as f64
    }

    /// The largest level, and levels a unit of g.
    fn levels(&self, gamma: f32) -> (f32, f32) {
        let top = ((1u32 << (self.bits - 1)) - 1) as f32;
        (top, top / (gamma * self.top))
    }

    /// E(G): the mean of `|g - Q(g)|` (expected), in units of `max |g|` (METHOD 2.4); 0 for a gradient of zeros.
    pub fn mean_error(&self, gamma: f32) -> f64 {
        if self.top == 0.0 {
            return 0.0;
        }
        let (top, per_unit) = self.levels(gamma);
        let sum = match self.rounding {
            Rounding::Nearest => reduce::sum_by(self.g.len(), |i| {
                let x = self.g[i] * per_unit;
                (x - map::round_even(hold(x, top))).abs()
            }),
            // At the fraction f between two levels: the distance f with probability 1 - f, and the other way round.
            Rounding::Stochastic => reduce::sum_by(self.g.len(), |i| {
                let x = self.g[i] * per_unit;
                let held = hold(x, top);
                (x - held).abs() + 2.0 * spread(held)
            }),
        };
        sum * f64::from(gamma) / f64::from(top) / self.g.len() as f64
    }

    /// The magnitudes of G_L, the share `alpha` of largest gradients, at least one of them, in descending order. An
    /// `Observed` of these has the same maximum, and E(G_L) as its mean error.
    pub fn largest(&self, alpha: f64) -> Vec<f32> {
        let mut all: Vec<f32> = self.g.iter().map(|g| g.abs()).collect();
        let count = ((alpha * all.len() as f64).round() as usize).clamp(1, all.len().max(1));
        if count < all.len() {
            all.select_nth_unstable_by(count, |a, b| b.total_cmp(a));
            all.truncate(count);
        }
        all.sort_unstable_by(|a, b| b.total_cmp(a));
        all
    }

    /// `Σ (g - Q(g))^2` (expected), in squared units of `max |g|`.
    pub fn squared_error(&self, gamma: f32) -> f64 {
        let (top, per_unit) = self.levels(gamma);
        let sum = match self.rounding {
            Rounding::Nearest => reduce::sum_by(self.g.len(), |i| {
                let x = self.g[i] * per_unit;
                let error = x - map::round_even(hold(x, top));
                error * error
            }),
            Rounding::Stochastic => reduce::sum_by(self.g.len(), |i| {
                let x = self.g[i] * per_unit;
                let held = hold(x, top);
                (x - held) * (x - held) + spread(held)
            }),
        };
        let level = f64::from(gamma) / f64::from(top);
        sum * level * level
    }

    /// `1 - cos(g, Q(g))`, from the expected product and the expected square of Q(g); 1 where Q(g) is all zeros.
    pub fn cosine_distance(&self, gamma: f32) -> f64 {
        let (top, per_unit) = self.levels(gamma);
        let len = self.g.len();
        let own = reduce::sum_by(len, |i| {
            let x = self.g[i] * per_unit;
            x * x
        });
        let (product, square) = match self.rounding {
            Rounding::Nearest => {
                let q = |x: f32| map::round_even(hold(x, top));
                let product = |i: usize| self.g[i] * per_unit * q(self.g[i] * per_unit);
                let square = |i: usize| q(self.g[i] * per_unit) * q(self.g[i] * per_unit);
                (reduce::sum_by(len, product), reduce::sum_by(len, square))
            }
            Rounding::Stochastic => {
                let product = |i: usize| self.g[i] * per_unit * hold(self.g[i] * per_unit, top);
                let square = |i: usize| {
                    let held = hold(self.g[i] * per_unit, top);
                    held * held + spread(held)
                };
                (reduce::sum_by(len, product), reduce::sum_by(len, square))
            }
        };
        if square > 0.0 { 1.0 - product / (own * square).sqrt() } else { 1.0 }
    }
}

/// `x` held to [-top, top] by compare and select.
#[inline(always)]
fn hold(x: f32, top: f32) -> f32 {
    let x = if x < -top { -top } else { x };
    if x > top { top } else { x }
}

/// The variance of stochastic rounding, f (1 - f), with f the distance to the nearest level.
#[inline(always)]
fn spread(x: f32) -> f32 {
    let f = (x - map::round_even(x)).abs();
    f * (1.0 - f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_by_hand() {
        // 3 bits at gamma 0.5: levels -3 to 3 over [-1, 1], so 2.0 is six levels and clipped to three, -0.5 lies at 1.5
        // and goes to 2 (to even), 0.1 at 0.3 goes to 0.
        let g = [2.0, -0.5, 0.1];
        let nearest = Observed::new(&g, 3, Rounding::Nearest);
        let level = 0.5f64 / 3.0;
        approx::assert_relative_eq!(
            nearest.squared_error(0.5),
            (9.0 + 0.25 + 0.09) * level * level,
            max_relative = 1e-6
        );
        let cosine = (6.0 * 3.0 + 1.5 * 2.0) / ((36.0 + 2.25 + 0.09) * (9.0 + 4.0f64)).sqrt();
        approx::assert_relative_eq!(nearest.cosine_distance(0.5), 1.0 - cosine, max_relative = 1e-6);
        assert_eq!(nearest.share_outside(0.5), 1.0 / 3.0);
        assert_eq!((nearest.top(), nearest.bits(), nearest.values().len()), (2.0, 3, 3));

        let stochastic = Observed::new(&g, 3, Rounding::Stochastic);
        approx::assert_relative_eq!(
            stochastic.squared_error(0.5),
            (9.0 + 0.25 + 0.21) * level * level,
            max_relative = 1e-6
        );
        let cosine = (18.0 + 2.25 + 0.09) / ((36.0 + 2.25 + 0.09) * (9.0 + (2.25 + 0.25) + (0.09 + 0.21f64))).sqrt();
        approx::assert_relative_eq!(stochastic.cosine_distance(0.5), 1.0 - cosine, max_relative = 1e-6);
        // In levels: 3 outside, then 0.5 and 0.3 by rounding; by stochastic rounding 2 · 0.5 · 0.5 and 2 · 0.3 · 0.7. A
        // level is 0.5 / 3 of the largest gradient.
        approx::assert_relative_eq!(nearest.mean_error(0.5), 3.8 / 3.0 * level, max_relative = 1e-6);
        approx::assert_relative_eq!(stochastic.mean_error(0.5), 3.92 / 3.0 * level, max_relative = 1e-6);
        assert_eq!(nearest.largest(0.67), [2.0, 0.5]);
        assert_eq!((nearest.largest(0.0), nearest.largest(1.0)), (vec![2.0], vec![2.0, 0.5, 0.1]));
        assert_eq!(Observed::new(&[0.0; 3], 3, Rounding::Nearest).mean_error(0.5), 0.0);
        assert_eq!(Observed::new(&[1.0, 0.0], 2, Rounding::Nearest).cosine_distance(1.0), 0.0);
    }
}
