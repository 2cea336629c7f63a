//! What the command prints: results on standard output, and messages on standard error. Neither ever panics, as `println!`
//! does. A reader such as `head` may close standard output early: what it does not want is lost, and the exit code stays
//! that of the work.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

/// Standard output could not be written.
#[derive(Debug)]
pub(crate) struct OutputError(io::Error);

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output: {}", self.0)
    }
}

impl std::error::Error for OutputError {}

/// Writes bytes to standard output.
pub(crate) fn write(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(OutputError(e)),
        _ => Ok(()),
    }
}

/// A path as JSON has it, whose texts are UTF-8: what is none of a path becomes a sign for that.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
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
