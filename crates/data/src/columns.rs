//! Names of columns: how those of two tables are compared.

use crate::listed::listed;
use crate::{DataError, Result};

/// Checks that two tables have the same columns in the same order, where both name them. `of` says whose the first are.
pub(crate) fn check_columns(
    place: &str,
    expected: Option<&[String]>,
    found: Option<&[String]>,
    of: &str,
) -> Result<()> {
    let (Some(expected), Some(found)) = (expected, found) else { return Ok(()) };
    if expected == found {
        return Ok(());
    }
    let without = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| !others.contains(name)).map(|name| format!("`{name}`")).collect()
    };
    let parts = [("missing", without(expected, found)), ("unexpected", without(found, expected))];
    let named = parts.iter().filter(|(_, names)| !names.is_empty());
    let named: Vec<String> = named.map(|(what, names)| format!("{what} {}", listed(names))).collect();
    let found = match (named.is_empty(), expected.iter().zip(found).position(|(a, b)| a != b)) {
        (true, Some(at)) => format!("another order: `{}` in place of `{}`", found[at], expected[at]),
        _ => format!("others: {}", named.join("; ")),
    };
    Err(DataError::Unexpected { place: place.into(), expected: format!("the columns of {of}"), found })
}
