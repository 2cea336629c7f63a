//! Transition-rate scheduling (TRS; METHOD 3).
//!
//! A transition is a change of an integer weight by an update. Instead of the learning rate, the user schedules the
//! target rate of transitions R_t, and the learning rate of latent weights U_t adapts to it:
//!
//! ```text
//! k_t = transitions / weights            K_t = m · K_(t-1) + (1 - m) · k_t
//! U_t = max(0, U_(t-1) + eta · (R_t - K_t))
//! ```
//!
//! The last line is one of the paper's three rules; the default ([`TalrRule::Auto`]) sets target and rate by what it measures.

use fixnet_autograd::{Error, Result};
use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

/// Transitions of one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transitions {
    /// Integer weights that changed.
    pub changed: u64,
    /// All integer weights.
    pub weights: u64,
}

impl Transitions {
    /// k_t: the share of integer weights that changed.
    pub fn rate(&self) -> f64 {
        if self.weights == 0 { 0.0 } else { self.changed as f64 / self.weights as f64 }
    }
}

impl Sum for Transitions {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { changed: a.changed + b.changed, weights: a.weights + b.weights })
    }
}

/// How the transition-adaptive learning rate U_t (TALR) follows from the target R_t and the running rate K_t.
///
/// The multiplicative rules leave U_t as it is while K_t is 0. A rate that has become 0 stays 0 with them. As text, `paper` is the
/// additive rule.
///
/// ```
/// use fixnet_quant::TalrRule;
/// for text in ["auto", "additive", "multiplicative", "damped", "damped:0.9"] {
///     assert_eq!(text.parse::<TalrRule>()?.to_string(), text);
/// }
/// assert_eq!("paper".parse::<TalrRule>()?, TalrRule::Additive);
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum TalrRule {
    /// The target follows from the natural rate of the base optimizer, and U_t stays near its learning rate: see
    /// [`NaturalRate`](crate::NaturalRate). lambda, eta and m have no effect.
    #[default]
    Auto,
    /// `U_t = max(0, U_(t-1) + eta · (R_t - K_t))`, the paper's rule.
    Additive,
    /// `U_t = U_(t-1) · R_t / K_t`.
    Multiplicative,
    /// `U_t = m' · U_(t-1) + (1 - m') · U_(t-1) · R_t / K_t`.
    Damped {
        /// m', in [0, 1); the paper takes 0.99.
        momentum: f64,
    },
}

impl TalrRule {
    /// The damped multiplicative rule as in the paper.
    pub const DAMPED: Self = Self::Damped { momentum: 0.99 };
}

impl fmt::Display for TalrRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Auto => f.write_str("auto"),
            Self::Additive => f.write_str("additive"),
            Self::Multiplicative => f.write_str("multiplicative"),
            Self::DAMPED => f.write_str("damped"),
            Self::Damped { momentum } => write!(f, "damped:{momentum}"),
        }
    }
}

impl FromStr for TalrRule {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let momentum = |text: &str| text.parse().ok().filter(|m| (0.0..1.0).contains(m));
        match (s, s.strip_prefix("damped:").and_then(momentum)) {
            ("auto", _) => Ok(Self::Auto),
            ("additive" | "paper", _) => Ok(Self::Additive),
            ("multiplicative", _) => Ok(Self::Multiplicative),
            ("damped", _) => Ok(Self::DAMPED),
            (_, Some(momentum)) => Ok(Self::Damped { momentum }),
            _ => {
                let expected = "auto, paper (additive), multiplicative, damped or damped:M with M in [0, 1)";
                Err(Error::setting("rule of the transition-adaptive learning rate U_t", expected, s))
            }
        }
    }
}

/// The running transition rate K_t (`running`) and the transition-adaptive learning rate U_t (`talr`) of the paper's rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransitionRate {
    /// How U_t moves. With [`TalrRule::Auto`] it stays: that rule is [`NaturalRate`](crate::NaturalRate).
    pub rule: TalrRule,
    /// m, the share of the old running rate.
    pub momentum: f64,
    /// eta, the gain of the additive rule; the paper takes U_0.
    pub eta: f64,
    /// K_t.
    pub running: f64,
    /// U_t.
    pub talr: f64,
}

impl TransitionRate {
    /// K_0 = 0 and U_0 = eta = `learning_rate`, the base optimizer's usual one.
    pub fn new(learning_rate: f64, momentum: f64, rule: TalrRule) -> Self {
        Self { rule, momentum, eta: learning_rate, running: 0.0, talr: learning_rate }
    }

    /// R_0 = lambda · sqrt(b_w), with `factor` lambda and `bits` b_w.
    pub fn first_target(factor: f64, bits: u8) -> f64 {
        factor * f64::from(bits).sqrt()
    }

    /// Takes the transitions of a step and the target rate R_t, and moves K_t and U_t.
    pub fn update(&mut self, transitions: Transitions, target: f64) {
        self.running = self.momentum * self.running + (1.0 - self.momentum) * transitions.rate();
        let ratio = if self.running > 0.0 { target / self.running } else { 1.0 };
        self.talr = match self.rule {
            TalrRule::Auto => self.talr,
            TalrRule::Additive => (self.talr + self.eta * (target - self.running)).max(0.0),
            TalrRule::Multiplicative => self.talr * ratio,
            TalrRule::Damped { momentum } => momentum * self.talr + (1.0 - momentum) * self.talr * ratio,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The running rates of these steps by hand, with m = 0.9: 0.02, 0.018, 0.1162.
    const STEPS: [(u64, f64); 3] = [(20, 0.05), (0, 0.05), (100, 0.01)];
    const RUNNING: [f64; 3] = [0.02, 0.018, 0.1162];

    fn three_steps(rule: TalrRule, expected: [f64; 3]) {
        let mut t = TransitionRate::new(0.1, 0.9, rule);
        for (((changed, target), running), talr) in STEPS.into_iter().zip(RUNNING).zip(expected) {
            t.update(Transitions { changed, weights: 100 }, target);
            approx::assert_relative_eq!(t.running, running, epsilon = 1e-12);
            approx::assert_relative_eq!(t.talr, talr, epsilon = 1e-12);
        }
    }

    #[test]
    fn three_steps_of_each_rule_by_hand() {
        // 0.1 + 0.1 · (0.05 - 0.02), then + 0.1 · (0.05 - 0.018), then + 0.1 · (0.01 - 0.1162).
        three_steps(TalrRule::Additive, [0.103, 0.1062, 0.09558]);
        // 0.1 · 2.5 = 0.25; 0.25 · 0.05 / 0.018 = 25/36; 25/36 · 0.01 / 0.1162.
        three_steps(TalrRule::Multiplicative, [0.25, 25.0 / 36.0, 0.25 / (36.0 * 0.1162)]);
        // Factors 0.9 + 0.1 · (2.5, 25/9, 0.01 / 0.1162).
        let factors = [1.15, 0.9 + 2.5 / 9.0, 0.9 + 0.001 / 0.1162];
        let damped = [0.1 * factors[0], 0.1 * factors[0] * factors[1], 0.1 * factors[0] * factors[1] * factors[2]];
        three_steps(TalrRule::Damped { momentum: 0.9 }, damped);
        assert_eq!(TalrRule::DAMPED, TalrRule::Damped { momentum: 0.99 });
    }

    #[test]
    fn borders() {
        // The additive rule stops at 0 and rises again.
        let mut t = TransitionRate::new(0.1, 0.9, TalrRule::Additive);
        t.eta = 10.0;
        t.update(Transitions { changed: 100, weights: 100 }, 0.0);
        assert_eq!(t.talr, 0.0);
        t.update(Transitions { changed: 0, weights: 100 }, 1.0);
        approx::assert_relative_eq!(t.talr, 10.0 * (1.0 - 0.09), epsilon = 1e-12);
        // No transition yet: the ratio R/K has no value and U stays.
        for rule in [TalrRule::Multiplicative, TalrRule::DAMPED] {
            let mut t = TransitionRate::new(0.1, 0.9, rule);
            t.update(Transitions { changed: 0, weights: 100 }, 0.05);
            approx::assert_relative_eq!(t.talr, 0.1, epsilon = 1e-15);
        }
        // lambda · sqrt(b).
        assert_eq!(TransitionRate::first_target(5e-3, 4), 1e-2);
        assert_eq!(TransitionRate::first_target(5e-3, 1), 5e-3);
        approx::assert_relative_eq!(TransitionRate::first_target(5e-3, 2), 7.071_067_811_865_476e-3);
        assert_eq!(Transitions::default().rate(), 0.0);
    }

    #[test]
    fn unknown_rules_are_refused_with_the_known_ones() {
        for text in ["subtractive", "damped:1", "damped:x", "damped:"] {
            let e = text.parse::<TalrRule>().unwrap_err().to_string();
            assert!(e.contains(text) && e.contains("multiplicative"), "{e}");
        }
    }
}
