//! Whether the transition rate follows its target: a twin whose K_t stays far from R_t does not do what it is there for, and trains
//! worse than the plain optimizer. A note says so once in a process, with what to change.

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
    /// Sums of R_t and K_t over the steps of the epoch, and the steps.
    sums: (f64, f64),
    steps: u64,
    /// Whether U_t was far above the learning rate at the last step.
    at_limit: bool,
    noted: bool,
}

impl Pursuit {
    /// Takes a step of the epoch.
    pub(crate) fn step(&mut self, report: &StepReport) {
        if let Some(t) = &report.transition {
            self.sums = (self.sums.0 + t.target, self.sums.1 + t.running);
            self.steps += 1;
            self.at_limit = t.talr > 3.0 * report.lr;
        }
    }

    /// Ends the epoch; returns what the user should know, the first time that there is something.
    pub(crate) fn epoch(&mut self, session: &Session<'_>) -> Option<String> {
        let steps = std::mem::take(&mut self.steps).max(1) as f64;
        let (target, running) = std::mem::take(&mut self.sums);
        let (target, running) = (target / steps, running / steps);
        let rule = session.config().optimizer().transition.as_ref()?.rule;
        let share = session.store().step() as f64 / session.total_steps().max(1) as f64;
        let due = share > PATIENCE && !self.noted && (rule != TalrRule::Auto || self.at_limit);
        let advice = advice(rule, target, running).filter(|_| due)?;
        self.noted = true;
        let epoch = session.progress().epoch + 1;
        Some(format!(
            "transition-rate scheduling: in epoch {epoch} the mean of the running rate K_t was {running:.2e}, that of its target R_t \
             {target:.2e}; {advice}"
        ))
    }
}

/// What to change where the running rate is far from its target.
fn advice(rule: TalrRule, target: f64, running: f64) -> Option<&'static str> {
    // Where nothing is to change any more, there is nothing to follow.
    let (above, below) = (target > 0.0 && running > FAR * target, target > FAR * running);
    match rule {
        // Above the target U_t is the base optimizer's, which is what it is to be.
        TalrRule::Auto => below.then_some(
            "U_t is near its limit of four times the learning rate: a higher optimizer.lr, or optimizer.latent_lr_factor, may train further",
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
            assert_eq!(advice(rule, 0.0, 1e-3), None);
            assert!(advice(rule, 2.1e-3, 1e-3).is_some());
        }
        // With few transitions wanted and many there, the base optimizer is what `auto` falls back to.
        assert_eq!(advice(TalrRule::Auto, 1e-4, 1e-3), None);
        assert!(advice(TalrRule::Additive, 1e-4, 1e-3).unwrap().contains("transition.gain"));
    }
}
