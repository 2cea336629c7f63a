//! Transition-rate scheduling that sets itself ([`TalrRule::Auto`](crate::TalrRule)): the target follows from the *natural*
//! transition rate of the base optimizer, which is measured in the first steps, and the learning rate stays near the base
//! optimizer's.
//!
//! With s_t the share of its first value that the schedule has at step t, T the steps of the run and W = T / 10:
//!
//! ```text
//! U_t = U_0 · s_t · a_t                                    a_t = 1 while t < W
//! n   = sum of k_t / sum of s_t, over W/2 <= t < W         the natural rate for a share of 1
//! R_t = n · s_t
//! K_t = mean of k over the last T / 50 steps or so, 3 to 100; not pulled to 0 by a first value of 0
//! a_(t+1) = a_t · (R_t / K_t)^(20 / T), between 1 and 4
//! ```
//!
//! The paper's rule takes R_0, eta and m as they were best in runs of 80,000 steps from trained weights. In a short run K_t then
//! never reaches R_t, or R_t is a rate at which the network cannot learn. All lengths here are shares of the run, R_t is a rate at
//! which the base optimizer is known to learn, and the limits of a_t bound the harm where the natural rate is none to aim for.
//! `docs/RESULTS.md` has the experiments from which the constants come.

use crate::Transitions;

/// The part of a run after whose steps the natural rate is known; it is measured over the second half of them.
const MEASURED: f64 = 0.1;
/// Of how many means over as many steps as K_t remembers the run consists.
const MEANS: f64 = 50.0;
/// The fewest and the most steps that K_t remembers.
const MEMORY: (f64, f64) = (3.0, 100.0);
/// How often over a run a_t would take on the ratio of the rates.
const TURNS: f64 = 20.0;
/// The smallest and the largest a_t. Below 1 it would hold the base optimizer back, which costs more than it gains where the
/// natural rate rises after it was measured, as it does in networks that are slow to begin.
const LIMITS: (f64, f64) = (1.0, 4.0);
/// The largest ratio of rates, and the inverse of the smallest, that a step counts.
const RATIO: f64 = 8.0;
/// The steps of a run whose length is not known.
const UNKNOWN: u64 = 1000;

/// The place of a step in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Steps before this one.
    pub step: u64,
    /// Steps of the run; 0 if that is not known.
    pub total: u64,
    /// Steps at the beginning in which the schedule rises; nothing is measured in them.
    pub warmup: u64,
    /// s_t: the share of its first value that the schedule has at this step.
    pub share: f64,
}

/// The control of the transition rate relative to the natural one; see the [module](self).
///
/// ```
/// use fixnet_quant::{NaturalRate, Place, Transitions};
/// let step = |rate: &mut NaturalRate, step, changed| {
///     let place = Place { step, total: 200, warmup: 0, share: 1.0 };
///     rate.update(Transitions { changed, weights: 1000 }, place)
/// };
/// let mut rate = NaturalRate::default();
/// // Of 200 steps 20 pass before there is a target; it is the mean rate of the last ten of them.
/// assert!((0..20).all(|i| step(&mut rate, i, 10).is_none()));
/// assert!((step(&mut rate, 20, 5).unwrap() - 0.01).abs() < 1e-12);
/// // The running rate is below it now, so that the learning rate rises.
/// assert!(rate.factor > 1.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NaturalRate {
    /// a_t: what the learning rate of the base optimizer is multiplied by.
    pub factor: f64,
    /// The running sum of rates of which [`running`](Self::running) is the mean.
    sum: f64,
    /// The weights of that sum.
    weight: f64,
    /// The sum of rates while the natural rate is measured.
    measured: f64,
    /// The sum of the schedule's shares in these steps.
    shares: f64,
    /// n, 0 before it is known.
    natural: f64,
}

impl Default for NaturalRate {
    fn default() -> Self {
        Self { factor: 1.0, sum: 0.0, weight: 0.0, measured: 0.0, shares: 0.0, natural: 0.0 }
    }
}

impl NaturalRate {
    /// Returns K_t, 0 before the first step.
    pub fn running(&self) -> f64 {
        if self.weight > 0.0 { self.sum / self.weight } else { 0.0 }
    }

    /// Takes the transitions of a step and moves K_t and a_t. Returns the target R_t, if the natural rate is known yet.
    pub fn update(&mut self, transitions: Transitions, place: Place) -> Option<f64> {
        let total = if place.total == 0 { UNKNOWN } else { place.total };
        let steps = total as f64;
        let memory = 1.0 - 1.0 / (steps / MEANS).clamp(MEMORY.0, MEMORY.1);
        self.sum = memory * self.sum + (1.0 - memory) * transitions.rate();
        self.weight = memory * self.weight + (1.0 - memory);
        let window = libm::round(MEASURED * (total - place.warmup.min(total)) as f64) as u64;
        let known = place.warmup.saturating_add(window.max(2));
        if place.step < known && self.natural == 0.0 {
            if place.step >= place.warmup.saturating_add(window / 2) {
                self.measured += transitions.rate();
                self.shares += place.share;
            }
            return None;
        }
        if self.natural == 0.0 && self.shares > 0.0 {
            self.natural = self.measured / self.shares;
        }
        let target = self.natural * place.share;
        // One weight more on both sides: of few weights none may change for long, which is no reason to give up.
        let one = 1.0 / transitions.weights.max(1) as f64;
        let ratio = ((target + one) / (self.running() + one)).clamp(1.0 / RATIO, RATIO);
        self.factor = (self.factor * libm::pow(ratio, TURNS / steps)).clamp(LIMITS.0, LIMITS.1);
        Some(target)
    }

    /// Returns all that the next step depends on.
    pub fn save(&self) -> [f64; 6] {
        [self.factor, self.sum, self.weight, self.measured, self.shares, self.natural]
    }

    /// Returns the control with what [`save`](Self::save) gave; `None` if it never gives such numbers.
    pub fn load([factor, sum, weight, measured, shares, natural]: [f64; 6]) -> Option<Self> {
        let right = [sum, weight, measured, shares, natural].iter().all(|v| v.is_finite() && *v >= 0.0);
        let held = (LIMITS.0..=LIMITS.1).contains(&factor) && weight <= 1.0 + 1e-9;
        (right && held).then_some(Self { factor, sum, weight, measured, shares, natural })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    /// The targets of steps that change so many of 1,000 weights, in a run of 100 steps with shares `share(step)`.
    fn run(
        rate: &mut NaturalRate,
        steps: std::ops::Range<u64>,
        changed: impl Fn(u64) -> u64,
        share: impl Fn(u64) -> f64,
    ) -> Vec<Option<f64>> {
        let step = |step| {
            let place = Place { step, total: 100, warmup: 0, share: share(step) };
            rate.update(Transitions { changed: changed(step), weights: 1000 }, place)
        };
        steps.map(step).collect()
    }

    #[test]
    fn the_target_is_the_measured_rate_times_the_schedule() {
        let mut rate = NaturalRate::default();
        // Of ten steps the last five count: rates 0.02 at shares of 0.5 are 0.04 at a share of 1.
        let first = run(&mut rate, 0..10, |step| if step < 5 { 900 } else { 20 }, |_| 0.5);
        assert!(first.iter().all(Option::is_none));
        assert_eq!(rate.factor, 1.0);
        let targets = run(&mut rate, 10..12, |_| 20, |step| if step == 10 { 0.5 } else { 0.25 });
        assert_relative_eq!(targets[0].unwrap(), 0.02, epsilon = 1e-15);
        assert_relative_eq!(targets[1].unwrap(), 0.01, epsilon = 1e-15);
    }

    #[test]
    fn a_step_by_hand() {
        // K remembers 3 steps of 100 (m = 2/3), and began with a share of 1: the mean of equal rates is that rate.
        let mut rate = NaturalRate::default();
        run(&mut rate, 0..10, |_| 9, |_| 1.0);
        assert_relative_eq!(rate.running(), 0.009, epsilon = 1e-15);
        // One step of rate 0.003: K = (m · w · 0.009 + (1 - m) · 0.003) / (m · w + 1 - m), with w = 1 - (2/3)^10.
        let w = 1.0 - (2.0f64 / 3.0).powi(10);
        let k = (2.0 / 3.0 * w * 0.009 + 0.003 / 3.0) / (2.0 / 3.0 * w + 1.0 / 3.0);
        run(&mut rate, 10..11, |_| 3, |_| 1.0);
        assert_relative_eq!(rate.running(), k, epsilon = 1e-15);
        // a = ((0.009 + 0.001) / (K + 0.001))^(20 / 100).
        assert_relative_eq!(rate.factor, (0.010 / (k + 0.001)).powf(0.2), epsilon = 1e-14);
    }

    #[test]
    fn the_factor_stays_within_its_limits_and_turns_back() {
        let mut rate = NaturalRate::default();
        run(&mut rate, 0..10, |_| 100, |_| 1.0);
        run(&mut rate, 10..60, |_| 0, |_| 1.0);
        assert_eq!(rate.factor, LIMITS.1);
        run(&mut rate, 60..100, |_| 1000, |_| 1.0);
        assert_eq!(rate.factor, LIMITS.0);
    }

    #[test]
    fn without_transitions_it_is_the_base_optimizer() {
        let mut rate = NaturalRate::default();
        run(&mut rate, 0..100, |_| 0, |_| 1.0);
        assert_eq!(rate.factor, 1.0);
        // No weights at all, and a run of unknown length.
        let place = Place { step: 5000, total: 0, warmup: 0, share: 1.0 };
        rate.update(Transitions::default(), place);
        assert_eq!(rate.factor, 1.0);
    }

    #[test]
    fn nothing_is_measured_while_the_schedule_rises() {
        let mut rate = NaturalRate::default();
        let step = |rate: &mut NaturalRate, step, changed| {
            let place = Place { step, total: 120, warmup: 20, share: 1.0 };
            rate.update(Transitions { changed, weights: 1000 }, place)
        };
        for i in 0..25 {
            assert_eq!(step(&mut rate, i, 999), None);
        }
        for i in 25..30 {
            assert_eq!(step(&mut rate, i, 7), None);
        }
        assert_relative_eq!(step(&mut rate, 30, 7).unwrap(), 0.007, epsilon = 1e-15);
    }

    #[test]
    fn a_saved_rate_goes_on_as_it_was() {
        let mut rate = NaturalRate::default();
        run(&mut rate, 0..7, |step| 10 + step, |_| 1.0);
        let mut copy = NaturalRate::load(rate.save()).unwrap();
        run(&mut rate, 7..40, |step| 40 - step, |_| 0.7);
        run(&mut copy, 7..40, |step| 40 - step, |_| 0.7);
        assert_eq!(rate, copy);
        assert!(rate.factor > 1.0);
        let wrong = |i: usize, v: f64| {
            let mut saved = rate.save();
            saved[i] = v;
            NaturalRate::load(saved)
        };
        for (i, v) in [(0, 4.5), (0, f64::NAN), (0, 0.9), (1, -1.0), (2, 1.5), (3, f64::INFINITY), (5, -0.1)] {
            assert_eq!(wrong(i, v), None, "{i} {v}");
        }
    }
}
