//! Transition-rate scheduling as a part of an optimizer: it owns U_t, the learning rates of latent weights (METHOD 3).

use super::Schedule;
use fixnet_autograd::{Array, Error, ParamId, Result, Store};
use fixnet_quant::{TalrRule, TransitionRate, Transitions, WeightQuantizer};
use std::fmt;
use std::str::FromStr;

/// Settings of transition-rate scheduling (METHOD 3).
#[derive(Debug, Clone, PartialEq)]
pub struct TransitionConfig {
    /// lambda: the first target rate is lambda · sqrt(bits).
    pub factor: f64,
    /// m: the share of the old running rate.
    pub momentum: f64,
    /// How the target rate falls over the run.
    pub schedule: Schedule,
    /// How U_t follows from the rates.
    pub rule: TalrRule,
    /// The gain of the additive rule, eta = gain · U_0. `None` takes 80,000 over the steps of the run, 100 at most: the
    /// paper's gain is 1 for runs of 80,000 steps, and U_t can go as far in a shorter run only in larger steps.
    pub gain: Option<f64>,
    /// What has a rate of its own.
    pub scope: Scope,
}

impl Default for TransitionConfig {
    fn default() -> Self {
        Self {
            factor: 5e-3,
            momentum: 0.99,
            schedule: Schedule::Cosine,
            rule: TalrRule::Additive,
            gain: None,
            scope: Scope::Model,
        }
    }
}

/// The steps of the runs for which the paper sets eta = U_0.
const PAPER_STEPS: f64 = 80_000.0;

/// The largest gain that is taken unasked: K_t, a mean over about 100 steps, lags too much for a larger one.
const GAIN_MAX: f64 = 100.0;

impl TransitionConfig {
    /// eta over U_0 in a run of `total_steps`; 1 where the gain is not set and that number is 0, not known.
    fn gain(&self, total_steps: u64) -> f64 {
        match (self.gain, total_steps) {
            (Some(gain), _) => gain,
            (None, 0) => 1.0,
            (None, steps) => (PAPER_STEPS / steps as f64).min(GAIN_MAX),
        }
    }
}

/// Whose transitions are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All quantized weights have one k, K and U. Where bit widths differ, R_0 is that of the narrowest weights.
    #[default]
    Model,
    /// Each quantized layer has its own k, K and U, and R_0 by its own bits.
    Layer,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Layer => "layer",
        })
    }
}

impl FromStr for Scope {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let all = [Self::Model, Self::Layer];
        let unknown = || Error::setting("transition scope", "model or layer", s);
        all.into_iter().find(|scope| scope.to_string() == s).ok_or_else(unknown)
    }
}

/// The transition rate of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TransitionReport {
    /// R_t.
    pub target: f64,
    /// k_t.
    pub rate: f64,
    /// K_t.
    pub running: f64,
    /// U_t of the next step.
    pub talr: f64,
}

/// The mean of `parts`, each with its weight; of nothing it is zero.
fn mean(parts: &[(u64, TransitionReport)]) -> TransitionReport {
    let all: u64 = parts.iter().map(|(n, _)| n).sum();
    let of = |value: fn(&TransitionReport) -> f64| match parts {
        // As it is: the mean would round.
        [(_, one)] => value(one),
        _ => parts.iter().map(|(n, r)| *n as f64 * value(r)).sum::<f64>() / all.max(1) as f64,
    };
    TransitionReport {
        target: of(|r| r.target),
        rate: of(|r| r.rate),
        running: of(|r| r.running),
        talr: of(|r| r.talr),
    }
}

/// The rates U_t: one for the model, or one for each weight quantizer in the store's order.
#[derive(Debug, Clone)]
pub(super) struct Scheduler {
    config: TransitionConfig,
    /// K_0 and U_0.
    first: TransitionRate,
    rates: Vec<TransitionRate>,
}

impl Scheduler {
    /// U_0 = `learning_rate`, in a run of `total_steps`.
    pub(super) fn new(config: &TransitionConfig, learning_rate: f64, total_steps: u64) -> Self {
        let first = TransitionRate::new(learning_rate, config.momentum, config.rule);
        let first = TransitionRate { eta: config.gain(total_steps) * learning_rate, ..first };
        Self { config: config.clone(), first, rates: Vec::new() }
    }

    /// The latent weights, in the order of [`rates`](Self::rates) with layer scope.
    fn weights(store: &Store) -> Vec<(ParamId, u8)> {
        store.states::<WeightQuantizer>().map(|(_, q)| (q.weight(), q.bits())).collect()
    }

    /// One rate for each key of [`keys`](Self::keys).
    fn rates(&self, store: &Store) -> Vec<TransitionRate> {
        let mut rates = self.rates.clone();
        rates.resize(keys(self.config.scope, store).len(), self.first);
        rates
    }

    /// U_t of each latent weight.
    pub(super) fn talr(&self, store: &Store) -> Vec<(ParamId, f64)> {
        let rates = self.rates(store);
        let rate = |i: usize| rates[if self.config.scope == Scope::Model { 0 } else { i }].talr;
        Self::weights(store).into_iter().enumerate().map(|(i, (id, _))| (id, rate(i))).collect()
    }

    /// Moves K_t and U_t by the transitions of each quantizer. Gives the report of the model, and of each layer with
    /// layer scope.
    pub(super) fn update(
        &mut self,
        store: &Store,
        transitions: &[Transitions],
        total_steps: u64,
    ) -> (TransitionReport, Vec<(String, TransitionReport)>) {
        let weights = Self::weights(store);
        let mut rates = self.rates(store);
        let step = |rate: &mut TransitionRate, transitions: Transitions, bits: u8| {
            let first = TransitionRate::first_target(self.config.factor, bits);
            let target = self.config.schedule.at(first, store.step(), total_steps);
            rate.update(transitions, target);
            let report = TransitionReport { target, rate: transitions.rate(), running: rate.running, talr: rate.talr };
            (transitions.weights, report)
        };
        let parts: Vec<_> = match self.config.scope {
            Scope::Model => {
                let bits = weights.iter().map(|&(_, bits)| bits).min().unwrap_or(1);
                vec![step(&mut rates[0], transitions.iter().copied().sum(), bits)]
            }
            Scope::Layer => {
                let each = rates.iter_mut().zip(transitions).zip(&weights);
                each.map(|((rate, &transitions), &(_, bits))| step(rate, transitions, bits)).collect()
            }
        };
        self.rates = rates;
        let layers = match self.config.scope {
            Scope::Model => Vec::new(),
            Scope::Layer => {
                let names = weights.iter().map(|&(id, _)| store.param(id).name().to_string());
                names.zip(parts.iter().map(|&(_, report)| report)).collect()
            }
        };
        (mean(&parts), layers)
    }

    /// K_t and U_t, as bits of f64.
    pub(super) fn state_dict(&self, store: &Store) -> Vec<(String, Array)> {
        let arrays = self.rates(store).into_iter().map(|t| Array::U64(vec![t.running.to_bits(), t.talr.to_bits()]));
        keys(self.config.scope, store).into_iter().zip(arrays).collect()
    }

    /// The scheduler with the rates that [`state_dict`](Self::state_dict) gave.
    pub(super) fn loaded(&self, store: &Store, get: &mut dyn FnMut(&str) -> Option<Array>) -> Result<Self> {
        let load = |name: String| match get(&name) {
            Some(Array::U64(v)) if v.len() == 2 => {
                Ok(TransitionRate { running: f64::from_bits(v[0]), talr: f64::from_bits(v[1]), ..self.first })
            }
            other => Err(super::optimizer::unfit(name, "u64 [2]".into(), other)),
        };
        let rates = keys(self.config.scope, store).into_iter().map(load).collect::<Result<_>>()?;
        Ok(Self { rates, ..self.clone() })
    }
}

/// The keys of the rates in a state.
fn keys(scope: Scope, store: &Store) -> Vec<String> {
    const KEY: &str = "optimizer.transition";
    match scope {
        Scope::Model => vec![KEY.into()],
        Scope::Layer => store
            .states::<WeightQuantizer>()
            .map(|(_, q)| format!("{KEY}.{}", store.param(q.weight()).name()))
            .collect(),
    }
}

/// A key of rates that a state has although the optimizer has none, whatever their scope.
pub(super) fn foreign(store: &Store, get: &mut dyn FnMut(&str) -> Option<Array>) -> Option<String> {
    [Scope::Model, Scope::Layer].into_iter().flat_map(|scope| keys(scope, store)).find(|key| get(key).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gain_makes_up_for_a_short_run() {
        let unset = TransitionConfig::default();
        assert_eq!([0, 80_000, 160_000, 8_000, 10].map(|steps| unset.gain(steps)), [1.0, 1.0, 0.5, 10.0, 100.0]);
        let set = TransitionConfig { gain: Some(2.0), ..unset };
        assert_eq!([0, 8_000].map(|steps| set.gain(steps)), [2.0, 2.0]);
        assert_eq!(Scheduler::new(&set, 0.1, 8_000).first.eta, 0.2);
    }
}
