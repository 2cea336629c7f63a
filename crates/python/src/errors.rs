//! Errors of fixnet as exceptions of Python. The classes are written in Python (`fixnet/errors.py`), where each has two bases: that of
//! fixnet and that of its kind, such as `ValueError`.

use fixnet::Error;
use fixnet::train::ErrorKind;
use pyo3::PyErr;
use pyo3::import_exception;
use std::any::Any;

import_exception!(fixnet.errors, FixnetError);
import_exception!(fixnet.errors, ConfigError);
import_exception!(fixnet.errors, DataError);
import_exception!(fixnet.errors, ShapeError);
import_exception!(fixnet.errors, NotFiniteError);
import_exception!(fixnet.errors, CheckpointError);
import_exception!(fixnet.errors, RunError);
import_exception!(fixnet.errors, ExportError);
import_exception!(fixnet.errors, FileError);
import_exception!(fixnet.errors, InternalError);

/// A result whose error becomes an exception.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// An error of fixnet, or an exception that Python code raised on the way.
pub(crate) enum Failure {
    Fixnet(Error),
    Python(PyErr),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::Fixnet(e.into())
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Fixnet(e) => exception(&e),
            Failure::Python(e) => e,
        }
    }
}

/// The exception of an error.
fn exception(e: &Error) -> PyErr {
    let text = e.to_string();
    match e.kind() {
        ErrorKind::Setting => ConfigError::new_err(text),
        ErrorKind::Data => DataError::new_err(text),
        ErrorKind::Shape => ShapeError::new_err(text),
        ErrorKind::NotFinite => NotFiniteError::new_err(text),
        ErrorKind::Checkpoint => CheckpointError::new_err(text),
        ErrorKind::Run => RunError::new_err(text),
        ErrorKind::Export => ExportError::new_err(text),
        ErrorKind::File => FileError::new_err(text),
        _ => FixnetError::new_err(text),
    }
}

/// The exception of a panic, which is a fault of fixnet.
pub(crate) fn of_panic(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "an unknown fault".into());
    InternalError::new_err(format!("a fault in fixnet, please report it: {text}"))
}
