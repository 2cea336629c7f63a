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
    /// The gain of the additive rule: eta = gain · U_0. The paper's is 1, for runs of 80,000 steps; in a run of a thousand
    /// K_t reaches R_t only with a larger one.
    pub gain: f64,
    /// What has a rate of its own.
    pub scope: Scope,
}

impl Default for TransitionConfig {
    fn default() -> Self {
        Self {
            factor: 5e-3,
            momentum: 0.99,
            schedule: Schedule::COSINE,
            rule: TalrRule::Additive,
            gain: 1.0,
            scope: Scope::Model,
        }
    }
}

/// Whose transitions are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
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
    /// U_0 = `learning_rate`.
    pub(super) fn new(config: &TransitionConfig, learning_rate: f64) -> Self {
        let eta = config.gain * learning_rate;
        let first = TransitionRate { eta, ..TransitionRate::new(learning_rate, config.momentum, config.rule) };
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
    /// layer scope, in the store's order.
    pub(super) fn update(
        &mut self,
        store: &Store,
        transitions: &[Transitions],
        total_steps: u64,
    ) -> (TransitionReport, Vec<TransitionReport>) {
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
            Scope::Layer => parts.iter().map(|&(_, report)| report).collect(),
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
                let right = |v: f64| v.is_finite() && v >= 0.0;
                let values = super::saved::doubles(&name, &v, "of at least 0", right)?;
                Ok(TransitionRate { running: values[0], talr: values[1], ..self.first })
            }
            other => Err(super::saved::unfit(name, "u64 [2]".into(), other)),
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
