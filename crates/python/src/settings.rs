//! Keys of a recipe from arguments of Python: `bits="4/4/4"`, `gradient_rule=MyRule()`, `transition={"rule": "damped"}`.

use crate::errors::{ConfigError, Failure, Result};
use crate::rules;
use fixnet::train::config::{KEYS, Key, find_by_flag, value_for};
use fixnet::train::{Config, Error, Settings, TaskData, loaded_for, suggest, task};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyTuple};
use toml::Value;

/// Keys with their values, in the order in which they were given.
pub(crate) type Keys = Vec<(String, Value)>;

/// A recipe with keys of the caller's, and the data where they had to be read for it.
pub(crate) struct Chosen {
    pub(crate) config: Config,
    pub(crate) loaded: Option<TaskData>,
    pub(crate) notes: Vec<String>,
}

/// Reads keyword arguments as keys of a recipe.
pub(crate) fn keys(arguments: Option<&Bound<'_, PyDict>>) -> PyResult<Keys> {
    let mut keys = Keys::new();
    for (name, value) in arguments.into_iter().flat_map(|a| a.iter()) {
        add(&mut keys, &name.extract::<String>()?, &value)?;
    }
    // An optimizer may bring settings, which others then change.
    keys.sort_by_key(|(key, _)| key != "optimizer.name");
    Ok(keys)
}

fn add(keys: &mut Keys, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_table = KEYS.iter().any(|key| key.name.split_once('.').is_some_and(|(table, _)| table == name));
    if let (true, Ok(table)) = (is_table, value.cast::<PyDict>()) {
        for (inner, value) in table.iter() {
            keys.push((format!("{name}.{}", inner.extract::<String>()?), of_python(name, &value)?));
        }
        return Ok(());
    }
    let key = key(name)?;
    let value = match value.extract::<String>() {
        // As the command reads `--set`: a text for a key of numbers is a number.
        Ok(text) if !value.hasattr("gamma")? => value_for(key, &text),
        _ if key.ends_with("gradient_rule") && value.hasattr("gamma")? => rules::registered(value)?.into(),
        _ => of_python(name, value)?,
    };
    keys.push((key.into(), value));
    Ok(())
}

/// The key that an argument means: its whole name, also with `__` for the point, the name of its flag, or its last part.
fn key(name: &str) -> PyResult<&'static str> {
    let whole = name.replace("__", ".");
    let named = |key: &&Key| key.name == whole;
    let last = |key: &&Key| key.name.rsplit('.').next() == Some(name);
    let found = KEYS.iter().find(named).or_else(|| find_by_flag(&name.replace('_', "-")));
    let mut parts = KEYS.iter().filter(last);
    match (found, parts.next(), parts.next()) {
        (Some(key), ..) | (None, Some(key), None) => Ok(key.name),
        (None, Some(one), Some(other)) => {
            let text = format!(
                "{name}: expected a key of a recipe, found one of several; write {0}__{name} or {1}__{name}",
                table(one),
                table(other)
            );
            Err(ConfigError::new_err(text))
        }
        (None, None, _) if whole == "transition" => Ok("transition.rule"),
        (None, None, _) => {
            let near = KEYS.iter().map(|key| key.name.rsplit('.').next().unwrap_or(key.name));
            let near = near.max_by(|a, b| likeness(a, name).total_cmp(&likeness(b, name))).unwrap_or_default();
            let text = format!(
                "{name}: expected a key of a recipe, found none; is it {near}? (fixnet.recipe_keys() lists all)"
            );
            Err(ConfigError::new_err(text))
        }
    }
}

fn table(key: &Key) -> &'static str {
    key.name.split('.').next().unwrap_or(key.name)
}

/// The share of pairs of letters that two words have alike.
fn likeness(a: &str, b: &str) -> f64 {
    let pairs = |text: &str| text.as_bytes().windows(2).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (left, right) = (pairs(a), pairs(b));
    2.0 * left.iter().filter(|pair| right.contains(pair)).count() as f64 / (left.len() + right.len()).max(1) as f64
}

/// A value of TOML.
fn of_python(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.cast::<PyBool>().is_ok() {
        return Ok(Value::Boolean(value.extract()?));
    }
    if let Ok(text) = value.extract::<String>() {
        return Ok(Value::String(text));
    }
    if value.hasattr("__fspath__")? {
        return Ok(Value::String(value.call_method0("__fspath__")?.extract()?));
    }
    // Numbers of NumPy count as those of Python.
    if value.hasattr("__index__")?
        && let Ok(whole) = value.extract::<i64>()
    {
        return Ok(Value::Integer(whole));
    }
    if let Ok(number) = value.extract::<f64>() {
        return Ok(Value::Float(number));
    }
    if value.cast::<PyList>().is_ok() || value.cast::<PyTuple>().is_ok() {
        let values = value.try_iter()?.map(|value| of_python(name, &value?));
        return Ok(Value::Array(values.collect::<PyResult<_>>()?));
    }
    if let Ok(table) = value.cast::<PyDict>() {
        let pairs = table.iter().map(|(k, v)| Ok((k.extract::<String>()?, of_python(name, &v)?)));
        return Ok(Value::Table(pairs.collect::<PyResult<_>>()?));
    }
    let found = value.get_type().name()?.to_string();
    Err(ConfigError::new_err(format!("{name}: expected a text, a number, a list or a table, found {found}")))
}

/// Finds a recipe, or makes one that fits the data, and puts keys into it; as the command does.
pub(crate) fn choose(recipe: Option<&str>, keys: &Keys) -> Result<Chosen> {
    let put = |settings: &mut Settings| -> std::result::Result<(), Error> {
        keys.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
            // Whole numbers for keys of any numbers.
            (key, Value::Integer(whole)) => settings
                .set(key, value.clone())
                .or_else(|e| settings.set(key, Value::Float(*whole as f64)).map_err(|_| e)),
            (key, value) => settings.set(key, value.clone()),
        })
    };
    let mut notes = Vec::new();
    let (mut settings, loaded) = match recipe {
        Some(name) => {
            let settings = Settings::find(name)?;
            settings.clone().check().map_err(|e| e.within(format!("recipe {name}")))?;
            (settings, None)
        }
        None if keys.iter().any(|(key, _)| key == "data.source") => {
            put(&mut Settings::default())?;
            let suggestion = suggest(put)?;
            notes.push(format!("no recipe is given, so settings are chosen for {}", suggestion.data));
            (suggestion.settings, Some(suggestion.loaded))
        }
        None => {
            let known = fixnet::train::config::names();
            let text = format!("expected a recipe ({known}, or a TOML file) or data, found neither");
            return Err(Failure::Python(ConfigError::new_err(text)));
        }
    };
    put(&mut settings)?;
    let config = settings.check()?;
    task::check(&config)?;
    let loaded = loaded_for(loaded, &config)?;
    let (config, changed) = config.with_useful_optimizer()?;
    notes.extend(changed);
    notes.extend(config.notes_on_ineffective(|key| keys.iter().any(|(given, _)| given == key)));
    Ok(Chosen { config, loaded, notes })
}

/// Returns the recipes that come with fixnet.
#[pyfunction]
pub(crate) fn recipes() -> Vec<&'static str> {
    fixnet::train::config::BUILT_IN.iter().map(|(name, _)| *name).collect()
}

/// Returns all keys of a recipe with their values and what they mean.
#[pyfunction]
pub(crate) fn recipe_keys(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let row = |key: &Key| {
        let row = PyDict::new(py);
        row.set_item("name", key.name)?;
        row.set_item("values", key.values())?;
        row.set_item("about", key.about)?;
        Ok(row)
    };
    KEYS.iter().map(row).collect()
}

/// Returns a recipe with its keys put in as TOML.
#[pyfunction]
#[pyo3(signature = (recipe, keys = None))]
pub(crate) fn recipe_toml(
    py: Python<'_>,
    recipe: Option<String>,
    keys: Option<&Bound<'_, PyDict>>,
) -> PyResult<String> {
    let keys = self::keys(keys)?;
    crate::pool::compute(py, || Ok(choose(recipe.as_deref(), &keys)?.config.to_toml()?))
}
