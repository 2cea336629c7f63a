//! What is in a folder.

use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// What systems leave in folders on their own, in small letters: it is skipped everywhere.
const LEFT: [&str; 3] = ["thumbs.db", "desktop.ini", "__macosx"];

/// What is in a folder, in the order of the names, without names that begin with a dot (such as `.DS_Store`) and without what
/// systems leave: `Thumbs.db`, `desktop.ini` and `__MACOSX`.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| DataError::Io { place: folder.display().to_string(), source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && !LEFT.contains(&name.to_string_lossy().to_lowercase().as_str())
        {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}
