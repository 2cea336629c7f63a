//! The header of a NumPy array: one line of text behind a magic number. It is read here, because the crates that read it
//! allocate what it announces before they look for it.

use crate::{Result, error::unexpected};
use std::io::Read;

/// The longest header, far beyond those of plain arrays.
const LONGEST: usize = 1 << 16;

/// What follows `'key':` in the dictionary of a header.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let rest = header.split_once(&format!("'{key}'"))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// The header of an array as text, checked to be whole.
pub(crate) struct Header {
    text: String,
    /// Its length in the file.
    len: u64,
}

impl Header {
    /// Reads it, and nothing behind it.
    ///
    /// # Errors
    /// It is damaged, longer than 64 KiB, or not that of an array.
    pub(crate) fn read(place: &str, from: &mut dyn Read) -> Result<Self> {
        let damaged = |e: std::io::Error| unexpected(place, "a whole array", format!("a damaged one ({e})"));
        let mut start = [0; 8];
        from.read_exact(&mut start).map_err(damaged)?;
        let mut len = [0; 4];
        let bytes = match start {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => 2,
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => 4,
            _ => return Err(unexpected(place, "a NumPy array of format 1 to 3", "another kind of file")),
        };
        from.read_exact(&mut len[..bytes]).map_err(damaged)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > LONGEST {
            return Err(unexpected(place, format!("a header of at most {LONGEST} bytes"), len));
        }
        let mut header = vec![0; len];
        from.read_exact(&mut header).map_err(damaged)?;
        let len = (8 + bytes + header.len()) as u64;
        Ok(Self { text: String::from_utf8_lossy(&header).into_owned(), len })
    }

    /// Its length in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// All of it, for messages.
    pub(crate) fn text(&self) -> String {
        self.text.trim().to_string()
    }

    /// The type of its elements: `<f4`.
    pub(crate) fn descr(&self) -> Option<String> {
        let quoted = value(&self.text, "descr")?.strip_prefix('\'')?;
        Some(quoted.split_once('\'')?.0.to_string())
    }

    /// Whether the last axis is the innermost one.
    pub(crate) fn is_in_rows(&self) -> bool {
        value(&self.text, "fortran_order").is_some_and(|v| v.starts_with("False"))
    }

    /// The lengths of its axes.
    pub(crate) fn shape(&self) -> Option<Vec<usize>> {
        let axes = value(&self.text, "shape")?.strip_prefix('(')?.split_once(')')?.0;
        axes.split(',').map(str::trim).filter(|axis| !axis.is_empty()).map(|axis| axis.parse().ok()).collect()
    }
}
