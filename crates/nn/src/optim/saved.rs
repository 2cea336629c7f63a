//! Reading the numbers of an optimizer's state, and the errors of those that do not fit.

use fixnet_autograd::{Array, Error, Result};

/// Numbers that a state keeps as the bits of f64. One that is not `right` is an error, with its place.
pub(super) fn doubles(name: &str, bits: &[u64], expected: &str, right: impl Fn(f64) -> bool) -> Result<Vec<f64>> {
    let values: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
    match values.iter().position(|&v| !right(v)) {
        None => Ok(values),
        Some(at) => Err(Error::State {
            name: name.into(),
            expected: format!("finite numbers {expected} (as bits of f64)"),
            found: format!("{} at {at}", values[at]),
        }),
    }
}

/// The error of a state that does not fit.
pub(super) fn unfit(name: String, expected: String, found: Option<Array>) -> Error {
    let found = match found {
        Some(Array::F32(t)) => format!("f32 {:?}", t.shape()),
        Some(Array::U64(v)) => format!("u64 [{}]", v.len()),
        Some(Array::I64(_)) => "i64 []".into(),
        None => "nothing".into(),
    };
    Error::State { name, expected, found }
}
