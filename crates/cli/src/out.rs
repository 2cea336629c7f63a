//! What the command prints: results on standard output, which a reader such as `head` may close early, and messages on
//! standard error. Neither ever panics, as `println!` does.

use std::fmt;
use std::io::{self, Write};

/// Standard output could not be written.
#[derive(Debug)]
pub(crate) struct OutputError(pub(crate) io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// Writes bytes to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(OutputError)
}

/// A line on standard output; leaves the function with an error if that cannot be written.
macro_rules! say {
    ($($text:tt)*) => { $crate::out::write(format!("{}\n", format_args!($($text)*)).as_bytes())? };
}

/// A line on standard error; one that cannot be written is lost.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

pub(crate) use {note, say};
