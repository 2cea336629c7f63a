//! What the command prints: results on standard output, and messages on standard error. Neither ever panics, as `println!`
//! does. A reader such as `head` may close standard output early: what it does not want is lost, and the exit code stays
//! that of the work.
//!
//! Names of files, of tensors and of whatever a file holds may carry characters that command a terminal: they move its
//! cursor, change its title or hide text. Whatever is printed goes through [`escaped`], and so does what is written to text
//! files for people: pages, figures and tables.

use fixnet::train::text::commands;
use std::borrow::Cow;
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

/// Whether a text has no character that commands a terminal, nor a line break.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.contains(|c| commands(c) || c == '\n')
}

/// A text in which each character that commands is written as `\u001b`. That is how JSON writes it in its texts, the only
/// place where JSON has any, so JSON stays JSON with the same values.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(commands) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match commands(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out.into()
}

/// A name within a line: as [`escaped`], line breaks and tabs too.
pub(crate) fn name(text: &str) -> String {
    escaped(text).replace('\n', "\\u000a").replace('\t', "\\u0009")
}

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
    ($($text:tt)*) => {{
        let line = format!("{}\n", format_args!($($text)*));
        $crate::out::write($crate::out::escaped(&line).as_bytes())?
    }};
}

/// A line on standard error; one that cannot be written is lost.
macro_rules! note {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let line = format!("{}\n", format_args!($($text)*));
        let _ = std::io::stderr().write_all($crate::out::escaped(&line).as_bytes());
    }};
}

pub(crate) use {note, say};

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_commands_a_terminal_is_written_out() {
        let cases = [
            ("plain größer 日本 – 3 ± 1 %\n\ttab", "plain größer 日本 – 3 ± 1 %\n\ttab"),
            ("a\u{1b}[31mb", "a\\u001b[31mb"),
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("over\rwritten\u{8}", "over\\u000dwritten\\u0008"),
            // A control sequence in one character, and letters in another order than they are read.
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
            ("exe.\u{202e}gnp", "exe.\\u202egnp"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), expected);
            assert_eq!(escaped(&escaped(text)), expected);
        }
        assert_eq!(name("a\nb\tc\u{1b}"), "a\\u000ab\\u0009c\\u001b");
        assert!(is_plain("größer") && !is_plain("a\nb") && !is_plain("\u{1b}"));
    }

    #[test]
    fn json_stays_json() {
        let value = json!({ "a\u{1b}\u{9b}\n": ["\u{7f}\u{202e}\\u001b", "\"\t\r"] });
        let text = value.to_string();
        let found = escaped(&text);
        assert!(!found.contains(|c: char| c.is_control() || c == '\u{202e}'), "{found}");
        assert_eq!(serde_json::from_str::<Value>(&found).unwrap(), value);
    }
}
