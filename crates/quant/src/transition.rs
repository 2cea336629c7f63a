//! Transition-rate scheduling (TRS; METHOD 3).
//!
//! A transition is a change of an integer weight by an update. Instead of the learning rate, the user schedules the
//! target rate of transitions R_t, and the learning rate of latent weights U_t adapts to it:
//!
//! ```text
//! k_t = transitions / weights            K_t = m · K_(t-1) + (1 - m) · k_t
//! U_t = max(0, U_(t-1) + eta · (R_t - K_t))
//! ```

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

/// The running transition rate K_t (`running`) and the transition-adaptive learning rate U_t (`talr`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransitionRate {
    /// m, the share of the old running rate.
    pub momentum: f64,
    /// eta, the gain; the paper takes U_0.
    pub eta: f64,
    /// K_t.
    pub running: f64,
    /// U_t.
    pub talr: f64,
}

impl TransitionRate {
    /// K_0 = 0 and U_0 = eta = `learning_rate`, the base optimizer's usual one.
    pub fn new(learning_rate: f64, momentum: f64) -> Self {
        Self { momentum, eta: learning_rate, running: 0.0, talr: learning_rate }
    }

    /// R_0 = lambda · sqrt(b_w), with `factor` lambda and `bits` b_w.
    pub fn first_target(factor: f64, bits: u8) -> f64 {
        factor * f64::from(bits).sqrt()
    }

    /// Takes the transitions of a step and the target rate R_t, and moves K_t and U_t.
    pub fn update(&mut self, transitions: Transitions, target: f64) {
        self.running = self.momentum * self.running + (1.0 - self.momentum) * transitions.rate();
        self.talr = (self.talr + self.eta * (target - self.running)).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_by_hand() {
        let mut t = TransitionRate::new(0.1, 0.9);
        let steps = [(20, 0.05, 0.02, 0.103), (0, 0.05, 0.018, 0.1062), (100, 0.01, 0.1162, 0.09558)];
        for (changed, target, running, talr) in steps {
            t.update(Transitions { changed, weights: 100 }, target);
            approx::assert_relative_eq!(t.running, running, epsilon = 1e-12);
            approx::assert_relative_eq!(t.talr, talr, epsilon = 1e-12);
        }
        t.eta = 10.0;
        t.update(Transitions { changed: 100, weights: 100 }, 0.0);
        assert_eq!(t.talr, 0.0);
        assert_eq!(TransitionRate::first_target(5e-3, 4), 1e-2);
        assert_eq!(Transitions::default().rate(), 0.0);
    }
}
