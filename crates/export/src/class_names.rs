//! Names of classes in the metadata of files.

use crate::Result;
use fixnet_data::{DataDescription, DataError, check_class_names};
use fixnet_nn::detection::RegionRow;
use fixnet_nn::plan::Plan;
use std::collections::BTreeMap;

/// The key of the names in the metadata of packed networks, of exported weights and of ONNX files: a list as JSON.
pub const KEY: &str = "class_names";

/// The entry of a plan's names in the metadata of a file, if it has names.
pub(crate) fn entry(plan: &Plan) -> Option<(String, String)> {
    plan.class_names().map(|names| (KEY.to_string(), to_json(names)))
}

/// The names as they are in metadata.
pub fn to_json(names: &[String]) -> String {
    serde_json::to_string(names).expect("names are plain data")
}

/// Reads the names of classes in the metadata of the file `place`: those of a checkpoint's description of its data, or a list
/// of their own; `None` if there are none.
///
/// # Errors
/// What is there is damaged, or names are empty or the same.
pub fn read(place: &str, metadata: &BTreeMap<String, String>) -> Result<Option<Vec<String>>> {
    let error = |e: DataError| crate::Error::Nn(e.into());
    if let Some(description) = DataDescription::read_from(place, metadata).map_err(error)? {
        return Ok(description.class_names().map(<[String]>::to_vec));
    }
    let Some(text) = metadata.get(KEY) else { return Ok(None) };
    let place = format!("{place}: {KEY}");
    let names: Vec<String> = serde_json::from_str(text).map_err(|e| {
        let found = format!("a damaged one ({e})");
        error(DataError::Unexpected { place: place.clone(), expected: "a list of names".into(), found })
    })?;
    check_class_names(&place, &names, names.len()).map_err(error)?;
    Ok(Some(names))
}

/// As [`read`], of a network whose output has this shape: one name for each of its numbers, or, of a detector's [rows, values], for each
/// class that such a row has, be it an anchor's ([`detection_loss`](fixnet_nn::detection::detection_loss)) or a region's
/// ([`RegionRow`]).
///
/// # Errors
/// As there; or there is not one name for each output.
pub fn of(place: &str, metadata: &BTreeMap<String, String>, output: &[usize]) -> Result<Option<Vec<String>>> {
    let names = read(place, metadata)?;
    if let Some(names) = &names {
        let count = match *output {
            [_, values] => match RegionRow::of_len(values) {
                Some(row) if row.classes == names.len() => row.classes,
                _ => values.saturating_sub(4),
            },
            _ => output.iter().product(),
        };
        let checked = check_class_names(&format!("{place}: {KEY}"), names, count);
        checked.map_err(|e| crate::Error::Nn(e.into()))?;
    }
    Ok(names)
}
