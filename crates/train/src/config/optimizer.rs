//! The optimizer of a recipe: its settings, with those that were omitted filled in.

use super::groups;
use super::schedule_kind::{ScheduleKind, curve};
use super::settings::{OptimizerSettings, ScheduleSettings, Settings};
use crate::{Error, Result};
use fixnet_nn::optim::{Optimizer, OptimizerConfig, Schedule, Setting, TransitionConfig, UpdateRule, Warmup};
use fixnet_quant::TalrRule;
use std::collections::BTreeMap;
use toml::Value;

/// Returns the optimizer with its settings, its number of steps not known yet.
///
/// # Errors
/// A setting is out of its range, or belongs to another update rule.
pub(super) fn resolve(settings: &mut Settings) -> Result<OptimizerConfig> {
    let own = &mut settings.optimizer;
    let mut config: OptimizerConfig = own.name.parse()?;
    set(&mut config.lr, &mut own.lr);
    set(&mut config.weight_decay, &mut own.weight_decay);
    fill(&mut *config.rule, own)?;
    config.decay_groups = own.decay_groups;
    config.clip_norm = own.clip_norm;
    config.groups = groups::resolve(&own.groups)?;
    config.scale_lr = own.scale_lr;
    config.latent_lr_factor = own.latent_lr_factor;
    let of = &settings.schedule;
    config.schedule = schedule(of, of.kind, "schedule.warmup", of.warmup)?;
    config.scale_schedule = schedule(of, of.scales, "", 0.0)?;
    let t = &mut settings.transition;
    // Of these two, `auto` follows the learning rate unless it is told otherwise; the paper's schedule is a cosine.
    let auto = t.rule == TalrRule::Auto;
    let kind = t.schedule.unwrap_or(if auto { of.kind } else { curve(Schedule::COSINE) });
    let warmup = t.warmup.unwrap_or(if auto { of.warmup } else { 0.0 });
    if config.transition.is_some() {
        (t.schedule, t.warmup) = (Some(kind), Some(warmup));
    }
    let transition = TransitionConfig {
        factor: t.factor,
        momentum: t.momentum,
        schedule: schedule(of, kind, "transition.warmup", warmup)?,
        rule: t.rule,
        gain: t.gain,
        scope: t.scope,
    };
    match &mut config.transition {
        Some(of_twin) => *of_twin = transition,
        // Without effect here, and held to its ranges all the same.
        None => drop(Optimizer::new(OptimizerConfig { transition: Some(transition), ..config.clone() })?),
    }
    // The optimizer checks its own ranges.
    Optimizer::new(config.clone())?;
    Ok(config)
}

fn set<T: Copy>(to: &mut T, key: &mut Option<T>) {
    *to = *key.get_or_insert(*to);
}

/// Gives an update rule the settings of a recipe, and the recipe those that it left out.
///
/// # Errors
/// A setting is given that the update rule does not have, or the rule has one for which recipes have no key.
fn fill(rule: &mut dyn UpdateRule, own: &mut OptimizerSettings) -> Result<()> {
    let name = rule.name();
    let mut allowed = Vec::new();
    for (key, setting) in rule.settings() {
        allowed.push(key);
        match (key, setting) {
            ("momentum", Setting::Number(v)) => set(v, &mut own.momentum),
            ("nesterov", Setting::Flag(v)) => set(v, &mut own.nesterov),
            ("betas", Setting::Pair(v)) => set(v, &mut own.betas),
            ("eps", Setting::Number(v)) => set(v, &mut own.eps),
            ("momentum_decay", Setting::Number(v)) => set(v, &mut own.momentum_decay),
            ("alpha", Setting::Number(v)) => set(v, &mut own.alpha),
            ("lr_decay", Setting::Number(v)) => set(v, &mut own.lr_decay),
            (_, setting) => fill_own(key, setting, &mut own.own)?,
        }
    }
    let given = [
        ("momentum", own.momentum.is_some()),
        ("nesterov", own.nesterov.is_some()),
        ("betas", own.betas.is_some()),
        ("eps", own.eps.is_some()),
        ("momentum_decay", own.momentum_decay.is_some()),
        ("alpha", own.alpha.is_some()),
        ("lr_decay", own.lr_decay.is_some()),
    ];
    let given = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| (key, key.to_string()));
    let own = own.own.keys().map(|key| (key.as_str(), format!("own.{key}")));
    match given.chain(own).find(|(key, _)| !allowed.contains(key)) {
        None => Ok(()),
        Some((_, key)) => Err(Error::Setting {
            key: format!("optimizer.{key}"),
            reason: format!("expected a setting of {name} ({}), found one that it does not have", allowed.join(", ")),
        }),
    }
}

/// Gives a setting that only a rule of another crate has the value of the recipe, and the recipe the one that it left out.
fn fill_own(key: &str, setting: Setting<'_>, own: &mut BTreeMap<String, Value>) -> Result<()> {
    let given = own.get(key);
    let wrong = |expected: &str| Error::Setting {
        key: format!("optimizer.own.{key}"),
        reason: format!("expected {expected}, found {}", given.map(ToString::to_string).unwrap_or_default()),
    };
    let number = |value: &Value| value.as_float().or(value.as_integer().map(|v| v as f64));
    let value = match setting {
        Setting::Number(v) => {
            *v = given.map_or(Some(*v), number).ok_or_else(|| wrong("a number"))?;
            Value::from(*v)
        }
        Setting::Flag(v) => {
            *v = given.map_or(Some(*v), Value::as_bool).ok_or_else(|| wrong("true or false"))?;
            Value::from(*v)
        }
        Setting::Pair(v) => {
            let two = |value: &Value| -> Option<[f64; 2]> {
                value.as_array()?.iter().map(number).collect::<Option<Vec<f64>>>()?.try_into().ok()
            };
            *v = given.map_or(Some(*v), two).ok_or_else(|| wrong("two numbers"))?;
            Value::from(v.to_vec())
        }
        _ => return Err(wrong("a setting of a kind that recipes have")),
    };
    own.insert(key.into(), value);
    Ok(())
}

fn schedule(of: &ScheduleSettings, kind: ScheduleKind, warmup_key: &str, warmup: f64) -> Result<Schedule> {
    let schedule = match kind {
        ScheduleKind::Step => Schedule::Step { milestones: of.milestones.clone(), gamma: of.step_factor },
        ScheduleKind::Curve(curve) => Schedule::Curve(curve),
    };
    match warmup {
        0.0 => Ok(schedule),
        share if share > 0.0 && share < 1.0 => Ok(schedule.after(Warmup::Fraction(share))),
        steps if steps >= 1.0 && steps.fract() == 0.0 => Ok(schedule.after(Warmup::Steps(steps as u64))),
        other => Err(Error::Setting {
            key: warmup_key.into(),
            reason: format!("expected a fraction of the run below 1 or whole steps, found {other}"),
        }),
    }
}

impl Settings {
    /// Takes another optimizer; see [`set`](Self::set).
    ///
    /// # Errors
    /// There is no optimizer of this name.
    pub fn set_optimizer(&mut self, name: &str) -> Result<()> {
        let rule = |name: &str| Ok::<_, fixnet_autograd::Error>(name.parse::<OptimizerConfig>()?.rule.name());
        if rule(name)? != rule(&self.optimizer.name)? {
            let kept = &self.optimizer;
            self.optimizer = OptimizerSettings {
                decay_groups: kept.decay_groups,
                scale_lr: kept.scale_lr,
                latent_lr_factor: kept.latent_lr_factor,
                clip_norm: kept.clip_norm,
                groups: kept.groups.clone(),
                ..OptimizerSettings::default()
            };
        }
        self.optimizer.name = name.into();
        Ok(())
    }
}
