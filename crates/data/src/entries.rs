//! What is in a folder.

use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// What is in a folder, in the order of the names, without names that begin with a dot.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| DataError::Io { place: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
