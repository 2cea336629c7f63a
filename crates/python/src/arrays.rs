//! NumPy arrays in and out. What lies in memory as it is needed is read where it is; all else is converted by NumPy first. Results are
//! arrays of their own.

use crate::errors::{DataError, Failure, Result, ShapeError};
use fixnet::autograd::Array;
use fixnet::tensor::Tensor;
use numpy::ndarray::{ArrayD, IxDyn};
use numpy::{
    Element, PyArray1, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods, get_array_module,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// An array of NumPy whose numbers lie one behind the other.
pub(crate) struct Dense<'py, T: Element>(PyReadonlyArrayDyn<'py, T>);

impl<T: Element> Dense<'_, T> {
    pub(crate) fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    /// The numbers, row by row.
    pub(crate) fn data(&self) -> PyResult<&[T]> {
        self.0.as_slice().map_err(|e| ShapeError::new_err(format!("an array that is dense in memory is needed: {e}")))
    }
}

/// Reads an array as one of this type, of numbers alone; `what` names it in messages.
pub(crate) fn dense<'py, T: Element>(what: &str, value: &Bound<'py, PyAny>) -> PyResult<Dense<'py, T>> {
    if let Ok(array) = value.cast::<PyArrayDyn<T>>()
        && array.is_c_contiguous()
        && let Ok(view) = array.try_readonly()
        && view.as_slice().is_ok()
    {
        return Ok(Dense(view));
    }
    let py = value.py();
    let module = get_array_module(py)?;
    let array = module.call_method1("asarray", (value,)).map_err(|e| wrapped(py, what, &e))?;
    let kind: String = array.getattr("dtype")?.getattr("kind")?.extract()?;
    if !matches!(kind.as_str(), "f" | "i" | "u" | "b") {
        let found = array.getattr("dtype")?.str()?.to_string();
        return Err(DataError::new_err(format!("{what}: expected an array of real numbers, found {found}")));
    }
    let options = PyDict::new(py);
    options.set_item("dtype", numpy::dtype::<T>(py))?;
    options.set_item("order", "C")?;
    let copied = module.call_method("array", (array,), Some(&options)).map_err(|e| wrapped(py, what, &e))?;
    let view = copied.cast::<PyArrayDyn<T>>()?.try_readonly();
    Ok(Dense(view.map_err(|e| DataError::new_err(format!("{what}: {e}")))?))
}

fn wrapped(py: Python<'_>, what: &str, e: &PyErr) -> PyErr {
    let error = DataError::new_err(format!("{what}: expected an array of numbers, found none: {}", e.value(py)));
    error.set_cause(py, Some(e.clone_ref(py)));
    error
}

/// Returns whether this is an array of bytes without sign, as images are.
pub(crate) fn is_bytes(value: &Bound<'_, PyAny>) -> bool {
    value.cast::<PyUntypedArray>().is_ok_and(|array| array.dtype().is_equiv_to(&numpy::dtype::<u8>(value.py())))
}

/// Copies numbers into a tensor, all of them finite.
pub(crate) fn tensor(what: &str, shape: &[usize], data: &[f32]) -> Result<Tensor> {
    let mut tensor = checked(shape)?;
    if tensor.len() != data.len() {
        return Err(fixnet::tensor::Error::shape("an array", format!("{} elements", data.len()), shape).into());
    }
    tensor.data_mut().copy_from_slice(data);
    if !fixnet::tensor::map::max_abs(data).is_finite() {
        let at = data.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let text = format!("{what}: expected finite numbers, found {} at element {at}", data[at]);
        return Err(Failure::Python(DataError::new_err(text)));
    }
    Ok(tensor)
}

/// A tensor of this shape, if there may be one.
fn checked(shape: &[usize]) -> Result<Tensor> {
    fixnet::tensor::Budget::ARRAY.clone().claim("an array", shape, size_of::<f32>())?;
    Ok(Tensor::take(shape))
}

/// A tensor as an array of its own.
pub(crate) fn array<'py>(py: Python<'py>, tensor: &Tensor) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    owned(py, tensor.shape(), tensor.data().to_vec())
}

/// Numbers as an array of this shape.
pub(crate) fn owned<'py, T: Element>(
    py: Python<'py>,
    shape: &[usize],
    data: Vec<T>,
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let array = ArrayD::from_shape_vec(IxDyn(shape), data);
    let array = array.map_err(|e| ShapeError::new_err(format!("an array of shape {shape:?}: {e}")))?;
    Ok(PyArrayDyn::from_owned_array(py, array))
}

/// An array of the model's state as one of NumPy.
pub(crate) fn state<'py>(py: Python<'py>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    Ok(match array {
        Array::F32(t) => self::array(py, t)?.into_any(),
        Array::U64(v) => PyArray1::from_slice(py, v).into_any(),
        Array::I64(v) => owned(py, &[], vec![*v])?.into_any(),
    })
}

/// An array of NumPy as one of the model's state: whole numbers without sign become `u64`, all others floats.
pub(crate) fn read_state(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Array> {
    if value.cast::<numpy::PyArray1<u64>>().is_ok() {
        return Ok(Array::U64(dense::<u64>(name, value)?.data()?.to_vec()));
    }
    let floats = dense::<f32>(name, value)?;
    Ok(Array::F32(tensor(name, floats.shape(), floats.data()?)?))
}
