//! The first bytes of a file, which say what it is whatever its name.

use crate::{DataError, Result};
use fixnet_files::input_file;
use std::io::Read;
use std::path::Path;

/// Reads so many bytes, or all if there are fewer.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn first_bytes(path: &Path, count: u64) -> Result<Vec<u8>> {
    let io = |source| DataError::Io { place: path.display().to_string(), source };
    let mut start = Vec::new();
    input_file::open(path).map_err(io)?.take(count).read_to_end(&mut start).map_err(io)?;
    Ok(start)
}
