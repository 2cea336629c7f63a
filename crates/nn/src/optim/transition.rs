//! Transition-rate scheduling as a part of an optimizer: it owns U_t, the learning rates of latent weights (METHOD 3).

use super::Schedule;
use fixnet_autograd::{Array, Error, ParamId, Result, Store};
use fixnet_quant::{NaturalRate, Place, TalrRule, TransitionRate, Transitions, WeightQuantizer};
use std::fmt;
use std::str::FromStr;

/// Settings of transition-rate scheduling (METHOD 3). With [`TalrRule::Auto`] `factor`, `momentum` and `gain` have no effect.
#[derive(Debug, Clone, PartialEq)]
pub struct TransitionConfig {
    /// lambda: the first target rate is lambda · sqrt(bits).
    pub factor: f64,
    /// m: the share of the old running rate.
    pub momentum: f64,
    /// How the target rate falls over the run; with [`TalrRule::Auto`] U_t too.
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
            rule: TalrRule::Auto,
            gain: 1.0,
            scope: Scope::Model,
        }
    }
}

impl TransitionConfig {
    /// Returns the paper's rule with its constants, which are for runs of about 80,000 steps from trained weights.
    pub fn paper() -> Self {
        Self { rule: TalrRule::Additive, ..Self::default() }
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
    /// R_t; with [`TalrRule::Auto`] k_t itself while the natural rate is measured.
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

/// The control of U_t, with K_t.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Control {
    Paper(TransitionRate),
    Natural(NaturalRate),
}

/// The rates U_t: one for the model, or one for each weight quantizer in the store's order.
#[derive(Debug, Clone)]
pub(super) struct Scheduler {
    config: TransitionConfig,
    /// U_0.
    learning_rate: f64,
    /// The control before the first step.
    first: Control,
    controls: Vec<Control>,
}

impl Scheduler {
    /// U_0 = `learning_rate`.
    pub(super) fn new(config: &TransitionConfig, learning_rate: f64) -> Self {
        let eta = config.gain * learning_rate;
        let first = match config.rule {
            TalrRule::Auto => Control::Natural(NaturalRate::default()),
            rule => Control::Paper(TransitionRate { eta, ..TransitionRate::new(learning_rate, config.momentum, rule) }),
        };
        Self { config: config.clone(), learning_rate, first, controls: Vec::new() }
    }

    /// The latent weights, in the order of [`controls`](Self::controls) with layer scope.
    fn weights(store: &Store) -> Vec<(ParamId, u8)> {
        store.states::<WeightQuantizer>().map(|(_, q)| (q.weight(), q.bits())).collect()
    }

    /// One control for each key of [`keys`](Self::keys).
    fn controls(&self, store: &Store) -> Vec<Control> {
        let mut controls = self.controls.clone();
        controls.resize(keys(self.config.scope, store).len(), self.first);
        controls
    }

    /// U_t of `control` at a step.
    fn rate(&self, control: &Control, step: u64, total_steps: u64) -> f64 {
        match control {
            Control::Paper(rate) => rate.talr,
            Control::Natural(rate) => self.config.schedule.at(self.learning_rate, step, total_steps) * rate.factor,
        }
    }

    /// U_t of each latent weight at the store's step.
    pub(super) fn talr(&self, store: &Store, total_steps: u64) -> Vec<(ParamId, f64)> {
        let controls = self.controls(store);
        let rate = |i: usize| {
            let control = &controls[if self.config.scope == Scope::Model { 0 } else { i }];
            self.rate(control, store.step(), total_steps)
        };
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
        let mut controls = self.controls(store);
        let step = |control: &mut Control, transitions: Transitions, bits: u8| {
            let (schedule, step) = (&self.config.schedule, store.step());
            let (target, running) = match control {
                Control::Paper(rate) => {
                    let first = TransitionRate::first_target(self.config.factor, bits);
                    let target = schedule.at(first, step, total_steps);
                    rate.update(transitions, target);
                    (target, rate.running)
                }
                Control::Natural(rate) => {
                    let warmup = schedule.warmup_steps(total_steps);
                    let place = Place { step, total: total_steps, warmup, share: schedule.at(1.0, step, total_steps) };
                    let target = rate.update(transitions, place);
                    (target.unwrap_or_else(|| transitions.rate()), rate.running())
                }
            };
            let talr = self.rate(control, step + 1, total_steps);
            (transitions.weights, TransitionReport { target, rate: transitions.rate(), running, talr })
        };
        let parts: Vec<_> = match self.config.scope {
            Scope::Model => {
                let bits = weights.iter().map(|&(_, bits)| bits).min().unwrap_or(1);
                vec![step(&mut controls[0], transitions.iter().copied().sum(), bits)]
            }
            Scope::Layer => {
                let each = controls.iter_mut().zip(transitions).zip(&weights);
                each.map(|((control, &transitions), &(_, bits))| step(control, transitions, bits)).collect()
            }
        };
        self.controls = controls;
        let layers = match self.config.scope {
            Scope::Model => Vec::new(),
            Scope::Layer => parts.iter().map(|&(_, report)| report).collect(),
        };
        (mean(&parts), layers)
    }

    /// What each control keeps, as bits of f64: of the paper's rules K_t and U_t.
    pub(super) fn state_dict(&self, store: &Store) -> Vec<(String, Array)> {
        let kept = |control| match control {
            Control::Paper(t) => vec![t.running, t.talr],
            Control::Natural(rate) => rate.save().to_vec(),
        };
        let bits = |control| Array::U64(kept(control).into_iter().map(f64::to_bits).collect());
        keys(self.config.scope, store).into_iter().zip(self.controls(store).into_iter().map(bits)).collect()
    }

    /// The scheduler with what [`state_dict`](Self::state_dict) gave.
    pub(super) fn loaded(&self, store: &Store, get: &mut dyn FnMut(&str) -> Option<Array>) -> Result<Self> {
        let load = |name: String| {
            let found = get(&name);
            let unfit = |expected: &str| super::saved::unfit(name.clone(), expected.into(), found.clone());
            let Some(Array::U64(bits)) = &found else { return Err(unfit("u64 of the transition rate")) };
            let right = |v: f64| v.is_finite() && v >= 0.0;
            let values = super::saved::doubles(&name, bits, "of at least 0", right)?;
            match (self.first, values.as_slice()) {
                (Control::Paper(first), &[running, talr]) => {
                    Ok(Control::Paper(TransitionRate { running, talr, ..first }))
                }
                (Control::Paper(_), _) => Err(unfit("u64 [2]")),
                (Control::Natural(_), values) => values
                    .try_into()
                    .ok()
                    .and_then(NaturalRate::load)
                    .map(Control::Natural)
                    .ok_or_else(|| unfit("u64 [6], a factor within its limits and sums of rates")),
            }
        };
        let controls = keys(self.config.scope, store).into_iter().map(load).collect::<Result<_>>()?;
        Ok(Self { controls, ..self.clone() })
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
