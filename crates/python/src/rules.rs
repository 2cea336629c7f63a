//! Gradient rules written in Python: a class with a method `gamma`, and what else it needs of the rules of fixnet.
//!
//! A recipe names such a rule `python:NAME`; each layer has a deep copy of the object that was registered under the name. A rule has no way
//! to report an error, so an exception is kept until the step is over, and raised then.

use crate::arrays;
use crate::errors::ConfigError;
use fixnet::autograd::Array;
use fixnet::quant::{GradientRule, Observed, Rule, RuleKind, register_rule};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::{Mutex, Once, PoisonError};

static REGISTERED: Mutex<BTreeMap<String, Py<PyAny>>> = Mutex::new(BTreeMap::new());
static RAISED: Mutex<Option<PyErr>> = Mutex::new(None);
/// Names of what rules save, each leaked once.
static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the exception that a rule raised since the last call.
pub(crate) fn raised() -> Option<PyErr> {
    lock(&RAISED).take()
}

/// Returns the name that a recipe has for a rule of Python, which is registered under it.
pub(crate) fn registered(rule: &Bound<'_, PyAny>) -> PyResult<String> {
    let kind = rule.get_type();
    let name: String = match rule.getattr_opt("name")? {
        Some(name) => name.extract()?,
        None => kind.name()?.to_string(),
    };
    let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fits {
        let text = format!("name of a gradient rule: expected letters, digits, `-`, `_` and `.`, found {name:?}");
        return Err(ConfigError::new_err(text));
    }
    register_gradient_rule(&name, rule)?;
    Ok(format!("python:{name}"))
}

/// Registers a gradient rule under a name: a recipe calls it `python:NAME`.
#[pyfunction]
pub(crate) fn register_gradient_rule(name: &str, rule: &Bound<'_, PyAny>) -> PyResult<()> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| register_rule(RuleKind { form: "python:NAME", parse }));
    lock(&REGISTERED).insert(name.into(), rule.clone().unbind());
    Ok(())
}

fn parse(words: &[&str]) -> Option<Rule> {
    let [name] = words else { return None };
    Python::attach(|py| {
        let rule = lock(&REGISTERED).get(*name)?.clone_ref(py);
        Some(PythonRule { name: format!("python:{name}"), rule: copied(py, &rule).ok()? }.into())
    })
}

fn copied(py: Python<'_>, rule: &Py<PyAny>) -> PyResult<Py<PyAny>> {
    Ok(py.import("copy")?.call_method1("deepcopy", (rule.bind(py),))?.unbind())
}

/// A rule of one layer.
struct PythonRule {
    name: String,
    rule: Py<PyAny>,
}

impl std::fmt::Debug for PythonRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Clone for PythonRule {
    fn clone(&self) -> Self {
        let rule = Python::attach(|py| {
            copied(py, &self.rule).unwrap_or_else(|e| {
                keep(e);
                self.rule.clone_ref(py)
            })
        });
        Self { name: self.name.clone(), rule }
    }
}

/// Keeps the first exception of a step.
fn keep(e: PyErr) {
    lock(&RAISED).get_or_insert(e);
}

impl PythonRule {
    /// Calls a method, where the rule has it.
    fn call<T>(&self, method: &str, then: impl FnOnce(Python<'_>, &Bound<'_, PyAny>) -> PyResult<T>) -> Option<T> {
        Python::attach(|py| match self.rule.bind(py).getattr_opt(method) {
            Ok(Some(method)) => then(py, &method).map_err(keep).ok(),
            Ok(None) => None,
            Err(e) => {
                keep(e);
                None
            }
        })
    }
}

impl GradientRule for PythonRule {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn gamma(&self) -> f32 {
        // No number is a gamma, so a step in which a rule has raised fails.
        if lock(&RAISED).is_some() {
            return f32::NAN;
        }
        self.call("gamma", |_, gamma| if gamma.is_callable() { gamma.call0()?.extract() } else { gamma.extract() })
            .unwrap_or(f32::NAN)
    }

    fn needs_gradient(&self) -> bool {
        self.call("observe", |_, _| Ok(())).is_some()
    }

    fn observe(&mut self, g: &Observed<'_>) {
        self.call("observe", |py, observe| {
            let values = PyArray1::from_slice(py, g.values());
            observe.call1((values, g.bits())).map(drop)
        });
    }

    fn update(&mut self, outside: f64, bits: u8) {
        self.call("update", |_, update| update.call1((outside, bits)).map(drop));
    }

    fn lr_factor(&self) -> f32 {
        self.call("lr_factor", |_, factor| factor.call0()?.extract()).unwrap_or(1.0)
    }

    fn save(&self) -> Vec<(&'static str, Array)> {
        let saved = self.call("state_dict", |_, save| {
            let arrays = save.call0()?;
            let pairs = arrays.cast::<PyDict>()?.iter().map(|(name, value)| {
                let name = name.extract::<String>()?;
                Ok((interned(&name), arrays::read_state(&name, &value)?))
            });
            pairs.collect::<PyResult<Vec<_>>>()
        });
        saved.unwrap_or_default()
    }

    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> Result<(), String> {
        let names: Vec<&'static str> = self.save().into_iter().map(|(name, _)| name).collect();
        if names.is_empty() {
            return Ok(());
        }
        let found: Vec<_> = names.iter().map(|name| (*name, get(name))).collect();
        if let Some((name, _)) = found.iter().find(|(_, array)| array.is_none()) {
            return Err(format!("`{name}` of the rule {}", self.name));
        }
        self.call("load_state_dict", |py, load| {
            let arrays = PyDict::new(py);
            for (name, array) in found.iter().filter_map(|(name, array)| Some((name, array.as_ref()?))) {
                arrays.set_item(name, arrays::state(py, array)?)?;
            }
            load.call1((arrays,)).map(drop)
        })
        .ok_or_else(|| format!("a method load_state_dict of the rule {} that takes its state", self.name))
    }
}

/// A name that lives as long as the process.
fn interned(name: &str) -> &'static str {
    let mut names = lock(&NAMES);
    match names.iter().find(|known| **known == name) {
        Some(known) => known,
        None => {
            names.push(String::leak(name.to_string()));
            names[names.len() - 1]
        }
    }
}
