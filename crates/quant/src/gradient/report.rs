//! What a gradient quantizer met in a step: its errors beside those that other rules would have made, and a histogram.

use super::{Observed, Rule};

/// The share of gradients that counts as large, G_L: LBT's alpha as the authors set it.
pub const ALPHA: f64 = 1e-3;

/// The rules whose errors are told for each gradient besides that in force: what each would have chosen for it.
pub const RIVALS: [&str; 6] = ["lbt", "min-max", "fixed:0.8", "fixed:0.6", "mse", "dsgc"];

/// The bins of a histogram over gradients in units of the largest one. Ends take what is beyond.
pub const GRADIENT_BINS: Bins = Bins { low: -1.0, high: 1.0, count: 80 };

/// Bins of equal width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bins {
    /// Where the first begins.
    pub low: f32,
    /// Where the last ends.
    pub high: f32,
    /// How many there are.
    pub count: usize,
}

impl Bins {
    /// How many of `values` lie in each bin, `[low, next)`; the first and the last take what is beyond.
    pub fn count(&self, values: impl Iterator<Item = f32>) -> Vec<u64> {
        let mut counts = vec![0; self.count];
        let per_unit = self.count as f32 / (self.high - self.low);
        for v in values {
            // Below 0 it saturates.
            let i = ((v - self.low) * per_unit) as usize;
            counts[i.min(self.count - 1)] += 1;
        }
        counts
    }
}

/// What a clipping factor does to one gradient, in units of `max |g|` (METHOD 2.4). With stochastic rounding errors are
/// expectations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// gamma.
    pub gamma: f32,
    /// E(G): the mean of `|g - Q(g)|`.
    pub all: f64,
    /// E(G_L): the same over the largest gradients, a share of [`ALPHA`].
    pub large: f64,
}

/// What a gradient quantizer met in a step.
#[derive(Debug, Clone, PartialEq)]
pub struct GradientReport {
    /// `max |g|`.
    pub top: f32,
    /// R(G_out): the share of gradients outside the interval.
    pub outside: f64,
    /// The errors with the gamma in force.
    pub error: Errors,
    /// The errors that each of [`RIVALS`] would have made.
    pub rivals: Vec<(&'static str, Errors)>,
    /// Over [`GRADIENT_BINS`].
    pub histogram: Vec<u64>,
}

impl GradientReport {
    /// A look at the gradient `g`, which is quantized with `gamma`.
    pub fn new(g: &Observed<'_>, gamma: f32) -> Self {
        let large = g.largest(ALPHA);
        let large = Observed::new(&large, g.bits(), g.rounding());
        let errors = |gamma| Errors { gamma, all: g.mean_error(gamma), large: large.mean_error(gamma) };
        let rival = |name| {
            let rule: Rule = str::parse(name).expect("a rule of this crate");
            (name, errors(rule.first_gamma(g)))
        };
        let unit = g.top();
        Self {
            top: g.top(),
            outside: g.share_outside(gamma),
            error: errors(gamma),
            rivals: RIVALS.map(rival).into(),
            histogram: GRADIENT_BINS.count(g.values().iter().map(|v| v / unit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rounding;

    #[test]
    fn bins_by_hand() {
        let bins = Bins { low: -1.0, high: 1.0, count: 4 };
        assert_eq!(bins.count([-7.0, -1.0, -0.5, -0.1, 0.0, 0.49, 0.5, 1.0, 3.0].into_iter()), [2, 2, 2, 3]);
    }

    #[test]
    fn a_gradient_by_hand() {
        // 3 bits at gamma 0.5: levels -3 to 3 over [-1, 1], a level is a sixth of the largest gradient. 2 is six levels and
        // clipped to three; -0.5 lies at 1.5 levels and 0.1 at 0.3, which nearest rounding moves by 0.5 and 0.3.
        let g = [2.0, -0.5, 0.1];
        let report = GradientReport::new(&Observed::new(&g, 3, Rounding::Nearest), 0.5);
        assert_eq!((report.top, report.outside, report.error.gamma), (2.0, 1.0 / 3.0, 0.5));
        approx::assert_relative_eq!(report.error.all, 3.8 / 3.0 / 6.0, max_relative = 1e-6);
        // The largest one alone, by half of itself.
        approx::assert_relative_eq!(report.error.large, 0.5, max_relative = 1e-6);
        let rival = |name| report.rivals.iter().find(|(n, _)| *n == name).unwrap().1;
        // At gamma 1 levels are 2/3: the largest has no error, the others lie at 0.75 and 0.15 levels of a third each.
        let min_max = rival("min-max");
        assert_eq!((min_max.gamma, min_max.large), (1.0, 0.0));
        approx::assert_relative_eq!(min_max.all, (0.25 + 0.15) / 3.0 / 3.0, max_relative = 1e-6);
        assert_eq!((rival("fixed:0.8").gamma, rival("lbt").gamma), (0.8, 0.999));
        approx::assert_relative_eq!(rival("fixed:0.8").large, 0.2, max_relative = 1e-5);
        assert!(rival("mse").gamma > 0.5 && rival("dsgc").gamma > 0.001);
        assert_eq!(report.histogram.iter().sum::<u64>(), 3);
        assert_eq!([report.histogram[79], report.histogram[30], report.histogram[42]], [1, 1, 1]);
    }
}
