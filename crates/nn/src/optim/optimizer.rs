//! The optimizer: which parameters move, by which rate, and what they leave behind for the next step.
//!
//! There are three groups of parameters. Latent weights of quantized layers move by the update rule and the learning
//! rate, or, in the transition-rate twin of *any* rule, by the rule and U_t (METHOD 3). Scales of quantizers have an
//! Adam of their own (METHOD 1); those of weights stay fixed in a twin, where a moving scale would cause transitions
//! without an update. All else moves by the rule and the learning rate.

use super::groups::{self, ParamGroup};
use super::rule::Scalars;
use super::saved::unfit;
use super::transition::{self, Scheduler};
use super::{Schedule, Sgd, TransitionConfig, TransitionReport, UpdateRule, update_rules};
use fixnet_autograd::{Array, Error, Group, Param, ParamId, Result, Store, StoreId};
use fixnet_quant::{Transitions, WeightQuantizer, diagnostics, requantize};
use fixnet_tensor::{Tensor, map};
use std::fmt;
use std::str::FromStr;

/// Settings of an [`Optimizer`].
///
/// As text it is the name of an update rule with its usual settings, or that name with a `t` for its transition-rate
/// twin: sgd, adam, adamw, nadam, adamax, rmsprop, adagrad; sgdt, adamt, adamwt, nadamt, adamaxt, rmspropt, adagradt.
///
/// ```
/// use fixnet_nn::optim::{OptimizerConfig, Sgd};
/// let config: OptimizerConfig = "adamt".parse()?;
/// assert_eq!((config.rule.name(), config.lr, config.to_string()), ("adam", 1e-3, "adamt".into()));
/// // A rule with other settings, and its usual learning rate and decay:
/// let config = OptimizerConfig::from(Sgd { momentum: 0.8, nesterov: true });
/// assert_eq!((config.lr, config.weight_decay, config.transition), (0.1, 1e-4, None));
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerConfig {
    /// The update rule.
    pub rule: Box<dyn UpdateRule>,
    /// The first learning rate.
    pub lr: f64,
    /// Weight decay: L2, but decoupled with AdamW.
    pub weight_decay: f64,
    /// How the learning rate changes over the run.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// What the learning rate of latent weights is multiplied by; U_0 of a twin is `latent_lr_factor · lr`.
    pub latent_lr_factor: f64,
    /// Learning rate of learned scales, which have an Adam of their own without weight decay (METHOD 1).
    pub scale_lr: f64,
    /// How that learning rate changes over the run.
    pub scale_schedule: Schedule,
    /// Which parameters decay.
    pub decay_groups: DecayGroups,
    /// Settings of parameters by their names. They are no part of a text.
    pub groups: Vec<ParamGroup>,
    /// The largest norm of all gradients together; larger ones are scaled down to it. Scales of quantizers, and groups with a
    /// norm of their own, are apart.
    pub clip_norm: Option<f64>,
    /// Makes this the transition-rate twin: latent weights move by U_t, and weight scales stay fixed.
    pub transition: Option<TransitionConfig>,
}

impl<T: Into<Box<dyn UpdateRule>>> From<T> for OptimizerConfig {
    /// The usual learning rate and decay of `rule`, a cosine schedule, no twin.
    fn from(rule: T) -> Self {
        let rule = rule.into();
        Self {
            lr: rule.usual_lr(),
            weight_decay: rule.usual_weight_decay(),
            rule,
            schedule: Schedule::COSINE,
            total_steps: 0,
            latent_lr_factor: 1.0,
            scale_lr: 1e-5,
            scale_schedule: Schedule::CONSTANT,
            decay_groups: DecayGroups::default(),
            groups: Vec::new(),
            clip_norm: None,
            transition: None,
        }
    }
}

impl Default for OptimizerConfig {
    /// SGD with momentum 0.9.
    fn default() -> Self {
        Sgd::default().into()
    }
}

impl fmt::Display for OptimizerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.rule, if self.transition.is_some() { "t" } else { "" })
    }
}

impl FromStr for OptimizerConfig {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        if let Ok(rule) = s.parse::<Box<dyn UpdateRule>>() {
            return Ok(rule.into());
        }
        let Some(rule) = s.strip_suffix('t').and_then(|base| base.parse::<Box<dyn UpdateRule>>().ok()) else {
            let names: Vec<_> = update_rules().iter().map(|rule| rule.name()).collect();
            let expected = format!("{}, {}t", names.join(", "), names.join("t, "));
            return Err(Error::setting("optimizer", expected, s));
        };
        Ok(Self { transition: Some(TransitionConfig::default()), ..rule.into() })
    }
}

/// Which parameters decay. Scales of quantizers never do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DecayGroups {
    /// Weights alone, not biases and normalizations.
    #[default]
    Weights,
    /// Weights, biases and normalizations, as in the LBT authors' script.
    All,
}

impl fmt::Display for DecayGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::All => "all",
        })
    }
}

impl FromStr for DecayGroups {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let all = [Self::Weights, Self::All];
        let unknown = || Error::setting("groups that decay", "weights or all", s);
        all.into_iter().find(|groups| groups.to_string() == s).ok_or_else(unknown)
    }
}

/// What an optimizer step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// The learning rate.
    pub lr: f64,
    /// The norm of the gradients before they were clipped, where [`OptimizerConfig::clip_norm`] clips them.
    pub gradient_norm: Option<f64>,
    /// The share of integer weights that changed, k_t.
    pub transition_rate: f64,
    /// k_t of each quantized layer, by its name.
    pub layer_rates: Vec<(String, f64)>,
    /// The numbers of transition-rate scheduling, in a twin; with layer scope their means over all weights.
    pub transition: Option<TransitionReport>,
    /// Those of each quantized layer, by its name, with layer scope.
    pub layers: Vec<(String, TransitionReport)>,
}

/// An optimizer of any update rule, or its transition-rate twin.
///
/// ```
/// use fixnet_autograd::{Graph, Group, Store};
/// use fixnet_nn::optim::{Optimizer, OptimizerConfig, Schedule, TransitionConfig};
/// use fixnet_quant::TalrRule;
/// use fixnet_tensor::Tensor;
///
/// let mut store = Store::seeded(1);
/// let bias = store.add("bias", Group::Offset, Tensor::scalar(1.0))?;
/// // Adam for most parameters; latent weights follow a target transition rate by the multiplicative rule.
/// let transition = TransitionConfig { rule: TalrRule::Multiplicative, ..TransitionConfig::default() };
/// let config = OptimizerConfig { transition: Some(transition), schedule: Schedule::LINEAR, total_steps: 100, ..
///     "adam".parse()? };
/// let mut optimizer = Optimizer::new(config)?;
/// store.param_mut(bias).grad = Some(Tensor::scalar(0.3)); // what a backward pass does
/// let report = optimizer.step(&mut store)?;
/// // Adam's first step is the learning rate, against the sign of the gradient.
/// assert!((store.param(bias).value.item() - (1.0 - 1e-3)).abs() < 1e-7);
/// assert_eq!(report.lr, 1e-3);
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// The store that its buffers belong to, from the first step or the state that was loaded on.
    store: Option<StoreId>,
    /// The buffers of each parameter, none before its first gradient.
    buffers: Vec<Vec<Tensor>>,
    /// The update rule, with what it keeps between steps.
    rule: Box<dyn UpdateRule>,
    transition: Option<Scheduler>,
    /// The learning rate in place of that of the schedule.
    lr: Option<f64>,
    /// The group of each parameter.
    assigned: Vec<Option<usize>>,
}

impl Optimizer {
    /// An optimizer that has taken no step.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: OptimizerConfig) -> Result<Self> {
        let check = |what: &'static str, v: f64, below: f64| {
            if v >= 0.0 && v < below {
                Ok(())
            } else {
                Err(Error::setting(what, format!("at least 0 and below {below}"), v))
            }
        };
        config.rule.check()?;
        check("learning rate", config.lr, f64::INFINITY)?;
        check("learning-rate factor of latent weights", config.latent_lr_factor, f64::INFINITY)?;
        check("weight decay", config.weight_decay, f64::INFINITY)?;
        check("learning rate of scales", config.scale_lr, f64::INFINITY)?;
        config.schedule.check("learning-rate schedule")?;
        config.scale_schedule.check("schedule of the learning rate of scales")?;
        if let Some(t) = &config.transition {
            check("transition-rate factor", t.factor, f64::INFINITY)?;
            check("momentum of the running transition rate", t.momentum, 1.0)?;
            check("gain of the additive rule of U_t", t.gain, f64::INFINITY)?;
            t.schedule.check("transition-rate schedule")?;
            if let fixnet_quant::TalrRule::Damped { momentum } = t.rule {
                check("momentum of the damped rule of U_t", momentum, 1.0)?;
            }
        }
        config.groups.iter().try_for_each(ParamGroup::check)?;
        config.clip_norm.map_or(Ok(()), groups::check_norm)?;
        let first = config.lr * config.latent_lr_factor;
        let transition = config.transition.as_ref().map(|t| Scheduler::new(t, first));
        let rule = config.rule.clone();
        Ok(Self { config, store: None, buffers: Vec::new(), rule, transition, lr: None, assigned: Vec::new() })
    }

    /// The settings.
    pub fn config(&self) -> &OptimizerConfig {
        &self.config
    }

    /// Sets the learning rate of the next steps, in place of that of the schedule; `None` goes back to the schedule. It is no
    /// part of the [state](Self::state_dict): whoever sets it sets it anew after a restart. The rate of scales, and U_t of a
    /// twin, are not touched.
    ///
    /// # Errors
    /// It is below 0 or not finite.
    pub fn set_lr(&mut self, lr: Option<f64>) -> Result<()> {
        match lr.filter(|lr| !(0.0..f64::INFINITY).contains(lr)) {
            Some(odd) => Err(Error::setting("learning rate", "at least 0 and finite", odd)),
            None => {
                self.lr = lr;
                Ok(())
            }
        }
    }

    /// Sets the steps of the whole run, which schedules of the next steps depend on. It is no part of the
    /// [state](Self::state_dict).
    pub fn set_total_steps(&mut self, steps: u64) {
        self.config.total_steps = steps;
    }

    /// The group of a parameter, if it is in one.
    fn group(&self, i: usize) -> Option<&ParamGroup> {
        self.assigned.get(i).copied().flatten().map(|group| &self.config.groups[group])
    }

    /// Assigns parameters to groups, once for each number of parameters.
    fn assign(&mut self, store: &Store) -> Result<()> {
        if self.assigned.len() != store.params().len() {
            self.assigned = groups::assign(&self.config.groups, store)?;
        }
        Ok(())
    }

    /// Clips gradients by the norms of groups, and all others by the common one, which it returns.
    fn clip(&self, store: &mut Store) -> Option<f64> {
        let members = |store: &Store, group: Option<usize>| -> Vec<ParamId> {
            let own = |i: usize| self.assigned[i].filter(|&g| self.config.groups[g].clip_norm.is_some());
            let moves = |i: usize| self.group(i).is_none_or(|g| !g.frozen);
            let ids = store.ids().enumerate();
            ids.filter(|&(i, id)| own(i) == group && moves(i) && store.param(id).group() != Group::Scale)
                .map(|(_, id)| id)
                .collect()
        };
        for (g, group) in self.config.groups.iter().enumerate() {
            if let Some(limit) = group.clip_norm {
                let ids = members(store, Some(g));
                groups::clip(store, &ids, limit);
            }
        }
        self.config.clip_norm.map(|limit| {
            let ids = members(store, None);
            groups::clip(store, &ids, limit)
        })
    }

    /// Moves every parameter that has a gradient, takes the gradients, quantizes the latent weights anew, counts their
    /// transitions and advances the store's step, which is the clock of schedules and of Adam's bias correction.
    ///
    /// # Errors
    /// The store is not that of the steps before; the pattern of a group matches no parameter; a gradient has another shape than its parameter, or this one another than
    /// before; or a parameter, or what the optimizer keeps of it, is not finite after the step.
    pub fn step(&mut self, store: &mut Store) -> Result<StepReport> {
        store.owns(*self.store.get_or_insert(store.id()))?;
        let (step, total) = (store.step(), self.config.total_steps);
        let lr = self.lr.unwrap_or_else(|| self.config.schedule.at(self.config.lr, step, total));
        self.assign(store)?;
        let gradient_norm = self.clip(store);
        self.rule.advance(step + 1);
        let fixed = self.fixed(store);
        let talr = self.transition.as_ref().map_or_else(Vec::new, |t| t.talr(store, total));
        self.buffers.resize(store.params().len(), Vec::new());
        for (i, id) in store.ids().enumerate() {
            let Some(grad) = store.take_grad(id) else { continue };
            let p = store.param(id);
            for found in self.buffers[i].iter().map(Tensor::shape).chain([grad.shape()]) {
                if found != p.value.shape() {
                    let expected = format!("a gradient of {:?} for `{}`, and such a state", p.value.shape(), p.name());
                    return Err(fixnet_tensor::Error::shape("optimizer", expected, found).into());
                }
            }
            let keys = self.keys(store, &fixed, i, id);
            if keys.is_empty() {
                continue;
            }
            self.buffers[i].resize_with(keys.len(), || Tensor::zeros(grad.shape()));
            let rate = match store.param(id).group() {
                Group::Latent => {
                    let own = talr.iter().find(|(latent, _)| *latent == id).map(|&(_, rate)| rate);
                    own.unwrap_or(lr * self.config.latent_lr_factor)
                }
                _ => lr,
            };
            let rate = rate * self.group(i).map_or(1.0, |group| group.lr_factor);
            let top = self.move_parameter(store, id, i, &grad, rate as f32 * store.param(id).lr_factor);
            if !top.is_finite() {
                return Err(Error::NonFinite {
                    what: format!("`{}`, or what the optimizer keeps of it, after its update", store.param(id).name()),
                    step,
                    found: top.to_string(),
                });
            }
        }
        let transitions = requantize(store)?;
        let transition_rate = transitions.iter().copied().sum::<Transitions>().rate();
        let scheduled = self.transition.as_mut().map(|t| t.update(store, &transitions, total));
        let (transition, layers) = scheduled.map_or((None, Vec::new()), |(model, layers)| (Some(model), layers));
        let names = diagnostics::layers(store);
        let layer_rates = names.iter().cloned().zip(transitions.iter().map(|t| t.rate())).collect();
        let layers = names.into_iter().zip(layers).collect();
        store.advance();
        Ok(StepReport { lr, gradient_norm, transition_rate, layer_rates, transition, layers })
    }

    /// The scales that do not move: those of weights, in a twin.
    fn fixed(&self, store: &Store) -> Vec<ParamId> {
        match self.transition {
            Some(_) => store.states::<WeightQuantizer>().filter_map(|(_, q)| q.scale()).collect(),
            None => Vec::new(),
        }
    }

    /// The keys of a parameter's buffers. Every parameter that moves has some.
    fn keys(&self, store: &Store, fixed: &[ParamId], i: usize, id: ParamId) -> &'static [&'static str] {
        match store.param(id).group() {
            _ if self.group(i).is_some_and(|group| group.frozen) => &[],
            Group::Scale if fixed.contains(&id) => &[],
            Group::Scale => &["first", "second"],
            _ => self.rule.buffers(),
        }
    }

    /// Moves the `i`-th parameter; gives the largest magnitude in it and in its buffers.
    fn move_parameter(&mut self, store: &mut Store, id: ParamId, i: usize, grad: &Tensor, rate: f32) -> f32 {
        let t = store.step() + 1;
        let group = store.param(id).group();
        let (factor, own_decay) = self.group(i).map_or((1.0, None), |g| (g.lr_factor, g.weight_decay));
        let (value, buffers) = (store.param_mut(id).value.data_mut(), &mut self.buffers[i]);
        if group == Group::Scale {
            let lr = self.config.scale_schedule.at(self.config.scale_lr, t - 1, self.config.total_steps);
            let lr = lr * factor;
            return scale_step(value, grad.data(), buffers, lr, t);
        }
        let decays = group != Group::Offset || self.config.decay_groups == DecayGroups::All;
        let decay = if decays { self.config.weight_decay } else { 0.0 };
        let decay = own_decay.unwrap_or(decay) as f32;
        self.rule.update(value, grad.data(), buffers, Scalars::new(rate, decay, t))
    }

    /// Every number that the next step depends on, by name, in a fixed order: for each parameter that moves its
    /// buffers, zeros before its first gradient; then the scalars of the rule and of transition-rate scheduling.
    pub fn state_dict(&self, store: &Store) -> Vec<(String, Array)> {
        let fixed = self.fixed(store);
        let frozen = |p: &Param| self.config.groups.iter().find(|g| g.matches(p.name())).is_some_and(|g| g.frozen);
        let mut out = Vec::new();
        for (i, id) in store.ids().enumerate() {
            let p = store.param(id);
            // Before the first step, parameters have no groups yet.
            if frozen(p) {
                continue;
            }
            for (k, key) in self.keys(store, &fixed, i, id).iter().enumerate() {
                let buffer = self.buffers.get(i).and_then(|b| b.get(k)).cloned();
                let buffer = buffer.unwrap_or_else(|| Tensor::zeros(p.value.shape()));
                out.push((name(key, p), Array::F32(buffer)));
            }
        }
        out.extend(self.rule.save().into_iter().map(|(key, array)| (self.of_rule(key), array)));
        out.extend(self.transition.iter().flat_map(|t| t.state_dict(store)));
        out
    }

    /// Takes back what [`state_dict`](Self::state_dict) gave.
    ///
    /// # Errors
    /// An array is missing or has another form, as in the state of another optimizer; this one is then unchanged.
    pub fn load_state_dict(&mut self, store: &Store, mut get: impl FnMut(&str) -> Option<Array>) -> Result<()> {
        self.assign(store)?;
        let fixed = self.fixed(store);
        let mut load = |key: &str, p: &Param| match get(&name(key, p)) {
            Some(Array::F32(t)) if t.shape() == p.value.shape() => Ok(t),
            other => Err(unfit(name(key, p), format!("f32 {:?}", p.value.shape()), other)),
        };
        let buffers = store
            .ids()
            .enumerate()
            .map(|(i, id)| self.keys(store, &fixed, i, id).iter().map(|key| load(key, store.param(id))).collect())
            .collect::<Result<Vec<Vec<Tensor>>>>()?;
        let mut rule = self.config.rule.clone();
        let mut last = None;
        let loaded = rule.load(&mut |key| {
            let name = self.of_rule(key);
            let found = get(&name);
            last = Some((name, found.clone()));
            found
        });
        if let Err(expected) = loaded {
            let (name, found) = last.unwrap_or_else(|| (self.of_rule(""), None));
            return Err(unfit(name, expected, found));
        }
        let transition = match &self.transition {
            Some(t) => Some(t.loaded(store, &mut get)?),
            None => match transition::foreign(store, &mut get) {
                Some(name) => {
                    return Err(unfit(name.clone(), format!("no such state for {}", self.config), get(&name)));
                }
                None => None,
            },
        };
        self.store = Some(store.id());
        (self.buffers, self.rule, self.transition) = (buffers, rule, transition);
        Ok(())
    }

    /// The name of what the update rule keeps, in a state.
    fn of_rule(&self, key: &str) -> String {
        format!("optimizer.{}.{key}", self.rule.name())
    }
}

impl Optimizer {
    /// Returns the parameters that [groups](OptimizerConfig::groups) freeze, in the order of the store.
    ///
    /// # Errors
    /// The pattern of a group matches no parameter.
    pub fn frozen(&self, store: &Store) -> Result<Vec<ParamId>> {
        let assigned = &self.config.groups;
        let found = groups::assign(assigned, store)?.into_iter();
        Ok(store.ids().zip(found).filter(|(_, g)| g.is_some_and(|g| assigned[g].frozen)).map(|(id, _)| id).collect())
    }
}

/// The name of a parameter's buffer in a state.
fn name(key: &str, p: &Param) -> String {
    format!("optimizer.{key}.{}", p.name())
}

/// Adam for scales: betas 0.9 and 0.999, eps 1e-8, in f64, since they are few and their steps small. A scale never falls
/// below 1e-8.
fn scale_step(value: &mut [f32], grad: &[f32], buffers: &mut [Tensor], lr: f64, t: u64) -> f32 {
    let (b1, b2, t) = (0.9f64, 0.999f64, t as f64);
    let (c1, c2) = (1.0 - libm::pow(b1, t), 1.0 - libm::pow(b2, t));
    let [m, v] = buffers else { unreachable!("scales have two buffers") };
    for (((w, m), v), &g) in value.iter_mut().zip(m.data_mut()).zip(v.data_mut()).zip(grad) {
        let g = f64::from(g);
        *m = (b1 * f64::from(*m) + (1.0 - b1) * g) as f32;
        *v = (b2 * f64::from(*v) + (1.0 - b2) * g * g) as f32;
        let h = (f64::from(*m) / c1) / ((f64::from(*v) / c2).sqrt() + 1e-8);
        *w = (f64::from(*w) - lr * h).max(1e-8) as f32;
    }
    map::max_abs(value).max(map::max_abs(m.data())).max(map::max_abs(v.data()))
}
