//! Stochastic gradient descent with momentum and weight decay, and its transition-rate twin SGDT.

use super::Schedule;
use fixnet_autograd::{Array, Error, Group, ParamId, Result, Store};
use fixnet_quant::{TransitionRate, WeightQuantizer, requantize};
use fixnet_tensor::{Tensor, map};

/// Settings of transition-rate scheduling (METHOD 3).
#[derive(Debug, Clone, PartialEq)]
pub struct TransitionConfig {
    /// lambda: the first target rate is lambda · sqrt(bits).
    pub factor: f64,
    /// m: the share of the old running rate.
    pub momentum: f64,
    /// How the target rate falls over the run.
    pub schedule: Schedule,
}

impl Default for TransitionConfig {
    fn default() -> Self {
        Self { factor: 5e-3, momentum: 0.99, schedule: Schedule::Cosine }
    }
}

/// Settings of [`Sgd`].
#[derive(Debug, Clone, PartialEq)]
pub struct SgdConfig {
    /// The first learning rate; U_0 and eta with transition-rate scheduling.
    pub lr: f64,
    /// Share of the old momentum buffer.
    pub momentum: f64,
    /// L2 penalty on weights (not on biases, normalizations and scales).
    pub weight_decay: f64,
    /// How the learning rate falls over the run.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub total_steps: u64,
    /// Learning rate of learned scales, which have an Adam of their own without weight decay (METHOD 1).
    pub scale_lr: f64,
    /// Makes this SGDT: latent weights move by U_t, and weight scales stay fixed.
    pub transition: Option<TransitionConfig>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        Self {
            lr: 0.1,
            momentum: 0.9,
            weight_decay: 1e-4,
            schedule: Schedule::Cosine,
            total_steps: 0,
            scale_lr: 1e-5,
            transition: None,
        }
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

/// What an optimizer step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The learning rate.
    pub lr: f64,
    /// The share of integer weights that changed, k_t.
    pub transition_rate: f64,
    /// The schedule's numbers, with SGDT.
    pub transition: Option<TransitionReport>,
}

/// SGD: `v <- momentum · v + (g + decay · w)`, `w <- w - lr · v`.
#[derive(Debug, Clone)]
pub struct Sgd {
    config: SgdConfig,
    /// First buffer of each parameter: momentum, or Adam's mean for scales.
    first: Vec<Option<Tensor>>,
    /// Adam's second moment for scales.
    second: Vec<Option<Tensor>>,
    transition: Option<TransitionRate>,
}

impl Sgd {
    /// An optimizer that has taken no step.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: SgdConfig) -> Result<Self> {
        let check = |what: &'static str, v: f64, below: f64| {
            if v >= 0.0 && v < below {
                Ok(())
            } else {
                Err(Error::setting(what, format!("at least 0 and below {below}"), v))
            }
        };
        check("learning rate", config.lr, f64::INFINITY)?;
        check("momentum", config.momentum, 1.0)?;
        check("weight decay", config.weight_decay, f64::INFINITY)?;
        check("learning rate of scales", config.scale_lr, f64::INFINITY)?;
        if let Some(t) = &config.transition {
            check("transition-rate factor", t.factor, f64::INFINITY)?;
            check("momentum of the running transition rate", t.momentum, 1.0)?;
        }
        let transition = config.transition.as_ref().map(|t| TransitionRate::new(config.lr, t.momentum));
        Ok(Self { config, first: Vec::new(), second: Vec::new(), transition })
    }

    /// The settings.
    pub fn config(&self) -> &SgdConfig {
        &self.config
    }

    /// Moves every parameter that has a gradient, takes the gradients, quantizes the latent weights anew, counts their
    /// transitions and advances the store's step.
    ///
    /// # Errors
    /// A parameter is not finite after the step.
    pub fn step(&mut self, store: &mut Store) -> Result<StepReport> {
        let (step, total) = (store.step(), self.config.total_steps);
        let lr = self.config.schedule.at(self.config.lr, step, total);
        let count = store.params().len();
        self.first.resize(count, None);
        self.second.resize(count, None);
        let fixed: Vec<ParamId> = match self.transition {
            Some(_) => store.states::<WeightQuantizer>().filter_map(|(_, q)| q.scale()).collect(),
            None => Vec::new(),
        };
        for (i, id) in store.ids().enumerate() {
            let Some(grad) = store.param_mut(id).grad.take() else { continue };
            if fixed.contains(&id) {
                continue;
            }
            match store.param(id).group() {
                Group::Scale => self.scale_step(store, id, i, &grad),
                group => self.weight_step(store, id, i, &grad, group, lr),
            }
            let p = store.param(id);
            let top = map::max_abs(p.value.data());
            if !top.is_finite() {
                return Err(Error::NonFinite {
                    what: format!("`{}` after its update", p.name()),
                    step,
                    found: top.to_string(),
                });
            }
        }
        let transitions = requantize(store)?;
        let transition = match (&mut self.transition, &self.config.transition) {
            (Some(state), Some(config)) => {
                let bits = store.states::<WeightQuantizer>().map(|(_, q)| q.bits()).min().unwrap_or(1);
                let target = config.schedule.at(TransitionRate::first_target(config.factor, bits), step, total);
                state.update(transitions, target);
                Some(TransitionReport { target, rate: transitions.rate(), running: state.running, talr: state.talr })
            }
            _ => None,
        };
        store.advance();
        Ok(StepReport { lr, transition_rate: transitions.rate(), transition })
    }

    fn weight_step(&mut self, store: &mut Store, id: ParamId, i: usize, grad: &Tensor, group: Group, lr: f64) {
        let decay = if group == Group::Offset { 0.0 } else { self.config.weight_decay as f32 };
        let momentum = self.config.momentum as f32;
        let rate = match (&self.transition, group) {
            (Some(t), Group::Latent) => t.talr as f32,
            _ => lr as f32,
        } * store.param(id).lr_factor;
        let value = store.param_mut(id).value.data_mut();
        let v = self.first[i].get_or_insert_with(|| Tensor::zeros(grad.shape())).data_mut();
        for ((w, v), g) in value.iter_mut().zip(v).zip(grad.data()) {
            *v = momentum * *v + (g + decay * *w);
            *w -= rate * *v;
        }
    }

    /// Adam for scales: betas 0.9 and 0.999, eps 1e-8. A scale never falls below 1e-8.
    fn scale_step(&mut self, store: &mut Store, id: ParamId, i: usize, grad: &Tensor) {
        let (b1, b2) = (0.9f64, 0.999f64);
        let t = (store.step() + 1) as f64;
        let (c1, c2) = (1.0 - libm::pow(b1, t), 1.0 - libm::pow(b2, t));
        let value = store.param_mut(id).value.data_mut();
        let m = self.first[i].get_or_insert_with(|| Tensor::zeros(grad.shape())).data_mut();
        let v = self.second[i].get_or_insert_with(|| Tensor::zeros(grad.shape())).data_mut();
        for (((w, m), v), &g) in value.iter_mut().zip(m).zip(v).zip(grad.data()) {
            let g = f64::from(g);
            *m = (b1 * f64::from(*m) + (1.0 - b1) * g) as f32;
            *v = (b2 * f64::from(*v) + (1.0 - b2) * g * g) as f32;
            let h = (f64::from(*m) / c1) / ((f64::from(*v) / c2).sqrt() + 1e-8);
            *w = (f64::from(*w) - self.config.scale_lr * h).max(1e-8) as f32;
        }
    }

    /// Every number that the next step depends on, by name, in a fixed order.
    pub fn state_dict(&self, store: &Store) -> Vec<(String, Array)> {
        let mut out = Vec::new();
        for (p, (first, second)) in store.params().iter().zip(self.first.iter().zip(&self.second)) {
            for (kind, buffer) in [("first", first), ("second", second)] {
                if let Some(t) = buffer {
                    out.push((format!("optimizer.{kind}.{}", p.name()), Array::F32(t.clone())));
                }
            }
        }
        if let Some(t) = &self.transition {
            out.push(("optimizer.transition".into(), Array::U64(vec![t.running.to_bits(), t.talr.to_bits()])));
        }
        out
    }

    /// Takes back what [`state_dict`](Self::state_dict) gave. Buffers that are missing start at zero.
    ///
    /// # Errors
    /// A buffer has another shape than its parameter, or the transition state is missing.
    pub fn load_state_dict(&mut self, store: &Store, mut get: impl FnMut(&str) -> Option<Array>) -> Result<()> {
        let mut buffers = |kind: &str| -> Result<Vec<Option<Tensor>>> {
            let load = |p: &fixnet_autograd::Param| {
                let name = format!("optimizer.{kind}.{}", p.name());
                match get(&name) {
                    None => Ok(None),
                    Some(Array::F32(t)) if t.shape() == p.value.shape() => Ok(Some(t)),
                    Some(_) => {
                        let (expected, found) = (format!("f32 {:?}", p.value.shape()), "another form".into());
                        Err(Error::State { name, expected, found })
                    }
                }
            };
            store.params().iter().map(load).collect()
        };
        self.first = buffers("first")?;
        self.second = buffers("second")?;
        if let Some(t) = &mut self.transition {
            match get("optimizer.transition") {
                Some(Array::U64(v)) if v.len() == 2 => {
                    (t.running, t.talr) = (f64::from_bits(v[0]), f64::from_bits(v[1]));
                }
                _ => {
                    let (expected, found) = ("two numbers".into(), "nothing, or another form".into());
                    return Err(Error::State { name: "optimizer.transition".into(), expected, found });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_quant::QuantConfig;

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    #[test]
    fn two_steps_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Weight, tensor(&[1.0])).unwrap();
        let b = store.add("b", Group::Offset, tensor(&[1.0])).unwrap();
        let config =
            SgdConfig { lr: 0.5, momentum: 0.5, weight_decay: 0.5, schedule: Schedule::Constant, ..Default::default() };
        let mut sgd = Sgd::new(config).unwrap();
        // w: v = 1 + 0.5 = 1.5, w = 0.25; v = 0.75 + 1 + 0.125 = 1.875, w = -0.6875. b: v = 1, 1.5; b = 0.5, -0.25.
        for (we, be) in [(0.25, 0.5), (-0.6875, -0.25)] {
            for id in [w, b] {
                store.param_mut(id).grad = Some(tensor(&[1.0]));
            }
            sgd.step(&mut store).unwrap();
            assert_eq!((store.param(w).value.item(), store.param(b).value.item()), (we, be));
        }
        assert_eq!(store.step(), 2);
        sgd.step(&mut store).unwrap();
        assert_eq!(store.param(w).value.item(), -0.6875);
    }

    #[test]
    fn the_twin_moves_latents_by_its_own_rate_and_keeps_weight_scales() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[0.5, -0.5, 0.25, 0.125])).unwrap();
        let b = store.add("b", Group::Offset, tensor(&[0.0])).unwrap();
        let slot = WeightQuantizer::new(&mut store, "w", w, &QuantConfig::new("4/4/32".parse().unwrap())).unwrap();
        requantize(&mut store).unwrap();
        let scale = store.state(slot).scale().unwrap();
        let transition = Some(TransitionConfig { factor: 0.1, momentum: 0.5, schedule: Schedule::Constant });
        let config =
            SgdConfig { lr: 0.5, momentum: 0.0, weight_decay: 0.0, total_steps: 10, transition, ..Default::default() };
        let mut sgd = Sgd::new(SgdConfig { schedule: Schedule::Constant, ..config }).unwrap();
        let before = store.param(scale).value.item();
        let mut talr = 0.5;
        for _ in 0..3 {
            let old = store.param(w).value.data()[0];
            store.param_mut(w).grad = Some(tensor(&[0.1, 0.1, 0.1, 0.1]));
            store.param_mut(b).grad = Some(tensor(&[1.0]));
            store.param_mut(scale).grad = Some(Tensor::scalar(1.0));
            let report = sgd.step(&mut store).unwrap().transition.unwrap();
            approx::assert_relative_eq!(store.param(w).value.data()[0], old - talr as f32 * 0.1, epsilon = 1e-6);
            approx::assert_relative_eq!(report.target, 0.2);
            talr = report.talr;
        }
        assert_ne!(talr, 0.5);
        assert_eq!(store.param(b).value.item(), -1.5);
        assert_eq!(store.param(scale).value.item(), before);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for config in [
            SgdConfig { lr: -1.0, ..Default::default() },
            SgdConfig { lr: f64::NAN, ..Default::default() },
            SgdConfig { momentum: 1.0, ..Default::default() },
        ] {
            assert!(Sgd::new(config).is_err());
        }
    }
}
