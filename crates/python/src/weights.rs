//! Networks as other programs take them: arrays by name, safetensors, ONNX files, packed networks.

use crate::arrays;
use crate::errors::{ConfigError, Failure, Result};
use fixnet::autograd::Array;
use fixnet::checkpoint::{Checkpoint, Pretrained, TensorFile};
use fixnet::export::{onnx, torch};
use fixnet::train::run::place;
use fixnet::train::{Exported, Session, Trained};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::Path;

/// The network of a checkpoint.
pub(crate) fn open(path: &Path, best: bool) -> Result<Exported> {
    let (checkpoint, _) = Checkpoint::open_or_previous(&place::existing_checkpoint_or_best(path, best)?)?;
    let config = place::config_of(&checkpoint)?;
    Ok(Exported::of_trained(&mut Trained::open(&config, &checkpoint)?, &config, checkpoint.step())?)
}

/// Writes a file of a form that has a name in Python.
pub(crate) fn write(exported: &Exported, path: &Path, form: &str, opset: Option<u32>) -> Result<()> {
    let codes = match form {
        "onnx-int4" => onnx::CodeType::Int4,
        "onnx-int8" => onnx::CodeType::Int8,
        "onnx-float" => onnx::CodeType::Float,
        "packed" => return Ok(exported.write_packed(path)?),
        "weights" => return Ok(exported.write_weights(path)?),
        "torch" => return Ok(exported.write_torch(path, torch::Names::default())?),
        odd => {
            let known = "onnx-int4, onnx-int8, onnx-float, packed, weights or torch";
            return Err(Failure::Python(ConfigError::new_err(format!("form: expected {known}, found {odd}"))));
        }
    };
    let form = onnx::Form::new(codes);
    let form = opset.map_or(Ok(form), |opset| form.with_opset(opset))?;
    exported.write_onnx(path, form)?;
    Ok(())
}

/// Takes the weights of a file of PyTorch for the model of a session; returns the names of parameters that it lacks.
pub(crate) fn load_torch(session: &mut Session<'_>, path: &Path) -> Result<Vec<String>> {
    let plan = session.plan()?;
    let taken = torch::translate(&TensorFile::weights(path)?, &plan).tensors;
    let (_, store, _) = session.parts();
    let names: Vec<String> = store.params().iter().map(|param| param.name().to_string()).collect();
    let mut missing = Vec::new();
    for name in names {
        match taken.get(&name) {
            Some(tensor) => store.set_value(&name, tensor.clone())?,
            None => missing.push(name),
        }
    }
    Pretrained::new(taken).finish(store)?;
    Ok(missing)
}

/// Arrays by name as a dict of NumPy arrays.
pub(crate) fn dict(py: Python<'_>, arrays: Vec<(String, Array)>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    for (name, array) in &arrays {
        dict.set_item(name, arrays::state(py, array)?)?;
    }
    Ok(dict)
}

/// A dict of NumPy arrays.
pub(crate) fn read(arrays: &Bound<'_, PyDict>) -> PyResult<BTreeMap<String, Array>> {
    let pairs = arrays.iter().map(|(name, value)| {
        let name = name.extract::<String>()?;
        let array = arrays::read_state(&name, &value)?;
        Ok((name, array))
    });
    pairs.collect()
}

/// Writes the network of a run to a file of another form.
#[pyfunction]
#[pyo3(signature = (run, path, form, opset = None, best = false))]
pub(crate) fn export(
    py: Python<'_>,
    run: std::path::PathBuf,
    path: std::path::PathBuf,
    form: &str,
    opset: Option<u32>,
    best: bool,
) -> PyResult<()> {
    crate::pool::compute(py, || write(&open(&run, best)?, &path, form, opset))
}

/// Returns the weights of a run by the names that PyTorch gives them.
#[pyfunction]
#[pyo3(signature = (run, best = false))]
pub(crate) fn torch_state_dict(py: Python<'_>, run: std::path::PathBuf, best: bool) -> PyResult<Bound<'_, PyDict>> {
    let arrays = crate::pool::compute(py, || Ok(open(&run, best)?.torch(torch::Names::default())?))?;
    dict(py, arrays)
}

/// Returns the arrays of a safetensors file.
#[pyfunction]
pub(crate) fn load_file(py: Python<'_>, path: std::path::PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let arrays = crate::pool::compute(py, || {
        let floats = TensorFile::weights(&path)?.floats();
        Ok(floats.into_iter().map(|(name, tensor)| (name, Array::F32(tensor))).collect())
    })?;
    dict(py, arrays)
}

/// Writes arrays to a safetensors file.
#[pyfunction]
#[pyo3(signature = (arrays, path, metadata = None))]
pub(crate) fn save_file(
    py: Python<'_>,
    arrays: &Bound<'_, PyDict>,
    path: std::path::PathBuf,
    metadata: Option<BTreeMap<String, String>>,
) -> PyResult<()> {
    let arrays: Vec<_> = read(arrays)?.into_iter().collect();
    crate::pool::compute(py, || Ok(TensorFile::save(&path, &arrays, &metadata.unwrap_or_default())?))
}
