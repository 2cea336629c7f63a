//! Networks as other programs take them: arrays by name, safetensors, ONNX files, packed networks.

use crate::arrays;
use crate::errors::{ConfigError, Failure, Result};
use fixnet::autograd::{Array, Store};
use fixnet::checkpoint::{Checkpoint, Pretrained, TensorFile};
use fixnet::export::{onnx, packed, torch};
use fixnet::plan::Plan;
use fixnet::train::run::place::{self, RECIPE};
use fixnet::train::{Packed, Session, Task, Trained};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A network with what files say of it.
pub(crate) struct Described {
    plan: Plan,
    weights: Pretrained,
    metadata: BTreeMap<String, String>,
    step: u64,
}

impl Described {
    fn new(plan: Plan, store: &Store, task: &dyn Task, recipe: String, digest: String, step: u64) -> Self {
        let mut metadata = BTreeMap::from([
            (RECIPE.to_string(), recipe),
            ("digest".to_string(), digest),
            ("step".to_string(), step.to_string()),
        ]);
        Packed::describe(task, &mut metadata);
        Self { plan, weights: Pretrained::of(store), metadata, step }
    }

    /// The network of a session as it is now.
    pub(crate) fn of_session(session: &mut Session<'_>, task: Arc<dyn Task>) -> Result<Self> {
        let (plan, recipe, digest) = (session.plan()?, session.config().to_toml()?, session.digest());
        Ok(Self::new(plan, session.store(), &*task, recipe, digest, session.store().step()))
    }

    /// The network of a checkpoint.
    pub(crate) fn open(path: &Path, best: bool) -> Result<Self> {
        let (checkpoint, _) = Checkpoint::open_or_previous(&place::existing_checkpoint_or_best(path, best)?)?;
        let config = place::config_of(&checkpoint)?;
        let mut trained = Trained::open(&config, &checkpoint)?;
        let (plan, task, digest) = (trained.plan()?, trained.task().clone(), trained.digest().to_string());
        Ok(Self::new(plan, trained.store(), &*task, config.to_toml()?, digest, checkpoint.step()))
    }

    /// The weights and statistics by the names of PyTorch.
    pub(crate) fn torch(&self) -> Result<Vec<(String, Array)>> {
        Ok(torch::state_dict(&self.weights, &self.plan, torch::Names::default(), self.step)?)
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &Path, form: &str, opset: Option<u32>) -> Result<()> {
        let codes = match form {
            "onnx-int4" => onnx::CodeType::Int4,
            "onnx-int8" => onnx::CodeType::Int8,
            "onnx-float" => onnx::CodeType::Float,
            "packed" => return Ok(packed::save(path, &self.plan, &self.metadata)?),
            "weights" => return Ok(self.weights.save(path, &self.metadata)?),
            "torch" => {
                let mut metadata = self.metadata.clone();
                metadata.insert("format".into(), "pt".into());
                return Ok(TensorFile::save(path, &self.torch()?, &metadata)?);
            }
            odd => {
                let known = "onnx-int4, onnx-int8, onnx-float, packed, weights or torch";
                return Err(Failure::Python(ConfigError::new_err(format!("form: expected {known}, found {odd}"))));
            }
        };
        let form = onnx::Form::new(codes);
        let form = opset.map_or(Ok(form), |opset| form.with_opset(opset))?;
        onnx::save(path, &self.plan, &onnx::Options { form, metadata: self.metadata.clone() })?;
        Ok(())
    }
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
    crate::pool::compute(py, || Described::open(&run, best)?.write(&path, form, opset))
}

/// Returns the weights of a run by the names that PyTorch gives them.
#[pyfunction]
#[pyo3(signature = (run, best = false))]
pub(crate) fn torch_state_dict(py: Python<'_>, run: std::path::PathBuf, best: bool) -> PyResult<Bound<'_, PyDict>> {
    let arrays = crate::pool::compute(py, || Described::open(&run, best)?.torch())?;
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
