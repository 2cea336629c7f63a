//! Schedules of a rate over a run: of the learning rate, and of the target transition rate.

use fixnet_autograd::{Error, Result};
use fixnet_tensor::Registry;
use std::f64::consts::PI;

/// A curve that a rate follows over a run. [`register_schedule`] gives one of your own a name in recipes.
///
/// ```
/// use fixnet_nn::optim::{Curve, Schedule, register_schedule, schedules};
/// register_schedule(Curve { name: "square-root", at: |share| (1.0 - share).sqrt() });
/// let curve = schedules()[0];
/// assert_eq!(Schedule::Curve(curve).at(0.8, 75, 100), 0.4);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Curve {
    /// Its name, as recipes write it.
    pub name: &'static str,
    /// The factor of the base at this share of the run, 0 to 1. It must give the same bits on every machine: of functions
    /// beyond arithmetic and the square root take those of the crate `libm`.
    pub at: fn(f64) -> f64,
}

impl PartialEq for Curve {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const CONSTANT: Curve = Curve { name: "constant", at: |_| 1.0 };
const COSINE: Curve = Curve { name: "cosine", at: |share| 0.5 * (1.0 + libm::cos(PI * share)) };
const LINEAR: Curve = Curve { name: "linear", at: |share| 1.0 - share };

static CURVES: Registry<Curve> = Registry::new(&[CONSTANT, COSINE, LINEAR]);

/// Adds a curve to those that recipes can name. One of the same name takes the place of an earlier one.
pub fn register_schedule(curve: Curve) {
    CURVES.add(curve);
}

/// Returns all curves that recipes can name, the latest registered first.
pub fn schedules() -> Vec<Curve> {
    CURVES.all()
}

/// How a rate changes over a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Schedule {
    /// The base times a curve.
    Curve(Curve),
    /// Times `gamma` at each milestone, a fraction of the run.
    Step {
        /// Fractions of the run, 0 to 1.
        milestones: Vec<f64>,
        /// The factor.
        gamma: f64,
    },
    /// A straight line up to the base, then another schedule over what is left of the run.
    Warmup {
        /// How long the rate rises.
        length: Warmup,
        /// What follows.
        then: Box<Schedule>,
    },
}

/// The length of a warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warmup {
    /// Steps.
    Steps(u64),
    /// A fraction of the run, rounded to whole steps.
    Fraction(f64),
}

impl Warmup {
    /// Returns the steps of a warm-up in a run of `total`.
    fn steps(self, total: u64) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Fraction(share) => libm::round(share * total as f64) as u64,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::COSINE
    }
}

impl Schedule {
    /// The rate does not change.
    pub const CONSTANT: Self = Self::Curve(CONSTANT);
    /// Half a cosine from the base to 0.
    pub const COSINE: Self = Self::Curve(COSINE);
    /// A straight line from the base to 0.
    pub const LINEAR: Self = Self::Curve(LINEAR);

    /// This schedule after a warm-up: of `w` steps, step `i` has `(i + 1) / w` of the base.
    ///
    /// ```
    /// use fixnet_nn::optim::{Schedule, Warmup};
    /// let schedule = Schedule::LINEAR.after(Warmup::Steps(4));
    /// assert_eq!([0, 1, 3, 4, 9].map(|i| schedule.at(0.6, i, 10)), [0.15, 0.3, 0.6, 0.6, 0.6 * (1.0 - 5.0 / 6.0)]);
    /// ```
    pub fn after(self, length: Warmup) -> Self {
        Self::Warmup { length, then: Box::new(self) }
    }

    /// The rate at `step` of `total`.
    ///
    /// ```
    /// use fixnet_nn::optim::Schedule;
    /// assert_eq!(Schedule::COSINE.at(0.1, 0, 100), 0.1);
    /// assert!((Schedule::COSINE.at(0.1, 50, 100) - 0.05).abs() < 1e-9);
    /// ```
    pub fn at(&self, base: f64, step: u64, total: u64) -> f64 {
        let share = if total == 0 { 0.0 } else { step.min(total) as f64 / total as f64 };
        match self {
            Self::Curve(curve) => base * (curve.at)(share),
            Self::Step { milestones, gamma } => {
                let passed = milestones.iter().filter(|&&m| m <= share).count();
                base * libm::pow(*gamma, passed as f64)
            }
            Self::Warmup { length, then } => {
                let length = length.steps(total);
                if step < length {
                    base * ((step + 1) as f64 / length as f64)
                } else {
                    then.at(base, step - length, total.saturating_sub(length))
                }
            }
        }
    }

    /// Returns the steps in which the rate rises, in a run of `total`.
    ///
    /// ```
    /// use fixnet_nn::optim::{Schedule, Warmup};
    /// let schedule = Schedule::COSINE.after(Warmup::Fraction(0.1));
    /// assert_eq!([schedule.warmup_steps(200), Schedule::COSINE.warmup_steps(200)], [20, 0]);
    /// ```
    pub fn warmup_steps(&self, total: u64) -> u64 {
        match self {
            Self::Warmup { length, then } => {
                let own = length.steps(total);
                own.saturating_add(then.warmup_steps(total.saturating_sub(own)))
            }
            _ => 0,
        }
    }

    /// Whether the settings are in their ranges; `what` is scheduled.
    pub(super) fn check(&self, what: &'static str) -> Result<()> {
        let refuse = |expected: &str, found: String| Err(Error::setting(what, expected, found));
        match self {
            Self::Step { milestones, .. } if milestones.iter().any(|m| !(0.0..=1.0).contains(m)) => {
                refuse("milestones that are fractions of the run, 0 to 1", format!("{milestones:?}"))
            }
            Self::Step { gamma, .. } if !(*gamma >= 0.0 && gamma.is_finite()) => {
                refuse("a step factor of at least 0", gamma.to_string())
            }
            Self::Warmup { length: Warmup::Fraction(share), .. } if !(0.0..=1.0).contains(share) => {
                refuse("a warm-up of a fraction of the run, 0 to 1", share.to_string())
            }
            Self::Warmup { then, .. } => then.check(what),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates of a run of 100 steps from 0.8.
    fn assert_rates<const N: usize>(schedule: &Schedule, rates: [(u64, f64); N]) {
        for (step, rate) in rates {
            approx::assert_abs_diff_eq!(schedule.at(0.8, step, 100), rate, epsilon = 1e-12);
        }
    }

    #[test]
    fn values_by_hand() {
        let step = Schedule::Step { milestones: vec![0.5, 0.75], gamma: 0.5 };
        let at = |s: u64| step.at(0.8, s, 100);
        assert_eq!([at(0), at(49), at(50), at(74), at(75), at(100)], [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]);
        // A milestone falls on its own step, also where binary fractions round.
        for tenth in 1..10 {
            let step = Schedule::Step { milestones: vec![f64::from(tenth as u32) / 10.0], gamma: 0.5 };
            assert_eq!([10 * tenth - 1, 10 * tenth].map(|s| step.at(0.8, s, 100)), [0.8, 0.4], "{tenth}");
        }
        assert_eq!(Schedule::CONSTANT.at(0.3, 7, 9), 0.3);
        assert!(Schedule::COSINE.at(0.1, 100, 100).abs() < 1e-12);
        assert!(Schedule::COSINE.at(0.1, 120, 100).abs() < 1e-12);
        assert_rates(&Schedule::LINEAR, [(0, 0.8), (25, 0.6), (100, 0.0), (120, 0.0)]);
    }

    #[test]
    fn a_warm_up_comes_before_the_whole_of_the_other_schedule() {
        for length in [Warmup::Steps(20), Warmup::Fraction(0.2)] {
            let schedule = Schedule::COSINE.after(length);
            assert_rates(&schedule, [(0, 0.04), (9, 0.4), (19, 0.8), (20, 0.8)]);
            // Steps 20 to 100 are those of a run of 80.
            assert_eq!(schedule.at(0.8, 50, 100), Schedule::COSINE.at(0.8, 30, 80));
            assert!(schedule.at(0.8, 100, 100).abs() < 1e-12);
        }
        for none in [Warmup::Steps(0), Warmup::Fraction(0.0)] {
            assert_rates(&Schedule::LINEAR.after(none), [(25, 0.6)]);
        }
        // Longer than the run: it rises to the end.
        assert_rates(&Schedule::LINEAR.after(Warmup::Steps(200)), [(99, 0.4)]);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let step = |m: f64, gamma: f64| Schedule::Step { milestones: vec![m], gamma };
        for (bad, word) in [
            (step(30.0, 0.1), "milestones"),
            (step(0.5, f64::NAN), "step factor"),
            (Schedule::LINEAR.after(Warmup::Fraction(1.5)), "warm-up"),
            (step(-0.1, 0.1).after(Warmup::Steps(3)), "milestones"),
        ] {
            let e = bad.check("learning-rate schedule").unwrap_err().to_string();
            assert!(e.contains(word) && e.contains("learning-rate schedule"), "{e}");
        }
        step(1.0, 0.0).after(Warmup::Fraction(0.5)).check("").unwrap();
    }
}
