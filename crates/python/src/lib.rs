//! The native module of the Python package `fixnet`: what Python cannot do itself. The package around it (`python/fixnet`) has the names,
//! the defaults and the documentation.
//!
//! Whatever computes does so without the lock of the interpreter and on a pool of its own (`pool`); a panic becomes an exception; an error
//! becomes one of the classes in `fixnet.errors`.
#![deny(unsafe_code)]

mod arrays;
mod codes;
mod errors;
mod network;
mod pool;
mod predictor;
mod rules;
mod session;
mod settings;
mod targets;
mod train;
mod weights;

use fixnet::train::Scores;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde_json::Value;

/// The loss and the metrics as a dict.
fn scores_dict<'py>(py: Python<'py>, scores: &Scores) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    scores.values.iter().try_for_each(|(name, value)| dict.set_item(name, value))?;
    dict.set_item("samples", scores.samples)?;
    Ok(dict)
}

/// A value of JSON as an object of Python.
fn value<'py>(py: Python<'py>, json: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match json {
        Value::Null => py.None().into_bound(py),
        Value::Bool(v) => pyo3::types::PyBool::new(py, *v).to_owned().into_any(),
        Value::Number(n) => match n.as_i64() {
            Some(whole) => whole.into_pyobject(py)?.into_any(),
            None => n.as_f64().into_pyobject(py)?.into_any(),
        },
        Value::String(text) => text.into_pyobject(py)?.into_any(),
        Value::Array(all) => {
            let list = PyList::empty(py);
            all.iter().try_for_each(|one| list.append(value(py, one)?))?;
            list.into_any()
        }
        Value::Object(all) => {
            let dict = PyDict::new(py);
            all.iter().try_for_each(|(name, one)| dict.set_item(name, value(py, one)?))?;
            dict.into_any()
        }
    })
}

/// Runs the command `fixnet` with these arguments, the first of which is its name; returns its exit code.
#[pyfunction]
fn run_command(py: Python<'_>, arguments: Vec<std::ffi::OsString>) -> PyResult<u8> {
    // Not on the pool: the command makes its own.
    py.detach(|| {
        let run = || fixnet_cli::run(arguments);
        let code = std::panic::catch_unwind(run).map_err(|panic| errors::of_panic(&*panic))?;
        Ok((0..=u8::MAX).find(|&known| code == std::process::ExitCode::from(known)).unwrap_or(1))
    })
}

/// The native module of fixnet.
#[pymodule]
fn _fixnet(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(run_command, m)?)?;
    m.add_function(wrap_pyfunction!(pool::set_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(pool::get_num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(pool::before_fork, m)?)?;
    m.add_function(wrap_pyfunction!(pool::after_fork, m)?)?;
    m.add_function(wrap_pyfunction!(codes::quantize, m)?)?;
    m.add_function(wrap_pyfunction!(codes::quantize_gradient, m)?)?;
    m.add_function(wrap_pyfunction!(codes::matmul_codes, m)?)?;
    m.add_function(wrap_pyfunction!(codes::kernels, m)?)?;
    m.add_function(wrap_pyfunction!(codes::instruction_sets, m)?)?;
    m.add_function(wrap_pyfunction!(codes::get_isa, m)?)?;
    m.add_function(wrap_pyfunction!(codes::cap_isa, m)?)?;
    m.add_function(wrap_pyfunction!(rules::register_gradient_rule, m)?)?;
    m.add_function(wrap_pyfunction!(settings::recipes, m)?)?;
    m.add_function(wrap_pyfunction!(settings::recipe_keys, m)?)?;
    m.add_function(wrap_pyfunction!(settings::recipe_toml, m)?)?;
    m.add_function(wrap_pyfunction!(train::train, m)?)?;
    m.add_function(wrap_pyfunction!(train::resume, m)?)?;
    m.add_function(wrap_pyfunction!(train::read_run, m)?)?;
    m.add_function(wrap_pyfunction!(train::run_digest, m)?)?;
    m.add_function(wrap_pyfunction!(train::evaluate_run, m)?)?;
    m.add_function(wrap_pyfunction!(train::curves, m)?)?;
    m.add_function(wrap_pyfunction!(train::write_report, m)?)?;
    m.add_function(wrap_pyfunction!(weights::export, m)?)?;
    m.add_function(wrap_pyfunction!(weights::torch_state_dict, m)?)?;
    m.add_function(wrap_pyfunction!(weights::load_file, m)?)?;
    m.add_function(wrap_pyfunction!(weights::save_file, m)?)?;
    m.add_class::<codes::GradientState>()?;
    m.add_class::<network::Network>()?;
    m.add_class::<predictor::Predictor>()?;
    m.add_class::<session::Session>()?;
    m.add_class::<session::Batch>()?;
    m.add_class::<session::Batches>()?;
    Ok(())
}
