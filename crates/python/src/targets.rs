//! Targets of batches as arrays, and back: classes, shares of classes, and numbers.

use crate::arrays::{self, dense};
use crate::errors::DataError;
use fixnet::train::task::Batch;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

/// Reads targets. Classes of the type that NumPy gives whole numbers are the usual case, and need no array in between.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
    if let Ok(array) = value.cast::<PyArray1<i64>>()
        && let Ok(view) = array.try_readonly()
        && let Ok(classes) = view.as_slice()
    {
        return Ok(classes.iter().map(|&class| class as f64).collect());
    }
    Ok(dense::<f64>("y", value)?.data()?.to_vec())
}

/// Returns the targets of a batch.
pub(crate) fn array<'py>(py: Python<'py>, batch: &Batch) -> PyResult<Bound<'py, PyAny>> {
    if let Some(batch) = batch.targets.downcast_ref::<fixnet::data::Batch>() {
        return match &batch.targets {
            Some(shares) => Ok(arrays::array(py, shares)?.into_any()),
            None => Ok(PyArray1::from_iter(py, batch.labels.iter().map(|&class| class as i64)).into_any()),
        };
    }
    match batch.targets.downcast_ref::<Vec<f64>>() {
        Some(numbers) => Ok(PyArray1::from_slice(py, numbers).into_any()),
        None => Err(DataError::new_err("the targets of this task are no array; take steps on the batch itself")),
    }
}
