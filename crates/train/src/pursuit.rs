//! Whether the transition rate follows its target: a twin whose K_t stays far from R_t does not do what it is there for, and trains
//! worse than the plain optimizer. The user hears of it once, with what to change.

use crate::Session;
use fixnet_nn::optim::StepReport;
use fixnet_quant::TalrRule;

/// How many times the target the running rate may be, or the other way round, in the mean over an epoch.
const FAR: f64 = 2.0;
/// The share of the run that K_t has to come to R_t.
const PATIENCE: f64 = 0.2;

/// The transition rates of an epoch.
#[derive(Debug, Default)]
pub(crate) struct Pursuit {
    /// Sums of R_t and K_t over the steps of the epoch.
    sums: (f64, f64),
    told: bool,
}

impl Pursuit {
    /// Takes a step of the epoch.
    pub(crate) fn step(&mut self, report: &StepReport) {
        if let Some(t) = &report.transition {
            self.sums = (self.sums.0 + t.target, self.sums.1 + t.running);
        }
    }

    /// Ends the epoch; returns what the user should know, the first time that there is something.
    pub(crate) fn epoch(&mut self, session: &Session<'_>) -> Option<String> {
        let (target, running) = std::mem::take(&mut self.sums);
        let rule = session.config().optimizer().transition.as_ref()?.rule;
        let share = session.store().step() as f64 / session.total_steps().max(1) as f64;
        let advice = advice(rule, target, running).filter(|_| share > PATIENCE && !self.told)?;
        self.told = true;
        let times = if running > target { running / target } else { target / running };
        let side = if running > target { "above" } else { "below" };
        let epoch = session.progress().epoch + 1;
        Some(format!(
            "transition-rate scheduling: in epoch {epoch} the running rate K_t was {times:.1} times {side} its target R_t; {advice}"
        ))
    }
}

/// What to change where the running rate is far from its target.
fn advice(rule: TalrRule, target: f64, running: f64) -> Option<&'static str> {
    let (above, below) = (running > FAR * target, target > FAR * running);
    match rule {
        // Above the target U_t is the base optimizer's, which is what it is to be.
        TalrRule::Auto => below.then_some(
            "U_t is at its limit above the learning rate: a higher optimizer.lr, or optimizer.latent_lr_factor, may train further",
        ),
        TalrRule::Additive if above || below => Some(
            "U_t cannot follow in a run of this length: take transition = \"auto\", or a larger transition.gain",
        ),
        _ => (above || below).then_some("take transition = \"auto\", or another transition.factor"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_within_a_factor_of_two_are_no_matter() {
        for rule in [TalrRule::Auto, TalrRule::Additive, TalrRule::Multiplicative] {
            assert_eq!(advice(rule, 1e-3, 1.9e-3), None);
            assert_eq!(advice(rule, 1.9e-3, 1e-3), None);
            assert_eq!(advice(rule, 0.0, 0.0), None);
            assert!(advice(rule, 2.1e-3, 1e-3).is_some());
        }
        // With few transitions wanted and many there, the base optimizer is what `auto` falls back to.
        assert_eq!(advice(TalrRule::Auto, 0.0, 1e-3), None);
        assert!(advice(TalrRule::Additive, 1e-4, 1e-3).unwrap().contains("transition.gain"));
    }
}
