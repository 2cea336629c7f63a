//! The logs of a run: files of one JSON object per line, which only grow.

use anyhow::{Context, Result, bail};
use fixnet::{files, input_file};
use serde_json::Value;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The whole lines of a log in the order in which they were written; none if there is no such file.
pub(crate) fn lines(path: &Path) -> Result<Vec<Value>> {
    Ok(parse(path, &read(path)?)?.into_iter().map(|(value, _)| value).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match input_file::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.with_context(|| path.display().to_string()),
    }
}

/// The lines of a log with the lengths that they end at. What was torn at the end is left out.
///
/// # Errors
/// A line in the middle is damaged: what follows would be lost.
fn parse(path: &Path, log: &[u8]) -> Result<Vec<(Value, usize)>> {
    let (mut lines, mut end) = (Vec::new(), 0);
    let mut damaged: Option<(usize, serde_json::Error)> = None;
    let whole = log.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
    for (i, line) in whole.enumerate() {
        end += line.len();
        match (serde_json::from_slice(line), &damaged) {
            (Ok(value), None) => lines.push((value, end)),
            (Err(e), None) => damaged = Some((i + 1, e)),
            (Ok(_), Some((at, e))) => bail!("{}: line {at}: expected JSON, found a damaged line ({e})", path.display()),
            (Err(_), Some(_)) => {}
        }
    }
    Ok(lines)
}

/// A log that this process writes.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Begins a log, in the place of one that is there.
    pub(crate) fn begin(path: PathBuf) -> Result<Self> {
        Self::of(path, &[])
    }

    /// Opens a log, keeping its lines up to the first that `keep` does not want; returns those.
    ///
    /// The lines that are kept become a new file: what else has the bytes of the earlier one, such as a copy of the folder
    /// by hard links, keeps them.
    ///
    /// # Errors
    /// The log is a link, has a damaged line, or cannot be read or written.
    pub(crate) fn open(path: PathBuf, keep: impl Fn(&Value) -> bool) -> Result<(Self, Vec<Value>)> {
        files::refuse_link(&path).with_context(|| path.display().to_string())?;
        let bytes = read(&path)?;
        let kept: Vec<(Value, usize)> =
            parse(&path, &bytes)?.into_iter().take_while(|(value, _)| keep(value)).collect();
        let length = kept.last().map_or(0, |(_, end)| *end);
        let lines = kept.into_iter().map(|(value, _)| value).collect();
        Ok((Self::of(path, &bytes[..length])?, lines))
    }

    fn of(path: PathBuf, begin: &[u8]) -> Result<Self> {
        let file = files::begin_log(&path, begin).with_context(|| path.display().to_string())?;
        Ok(Self { path, file })
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, line: &Value) -> Result<()> {
        // One call a line: a killed process tears none in two, as far as the system goes.
        self.file.write_all(format!("{line}\n").as_bytes()).with_context(|| self.path.display().to_string())
    }

    /// Flushes it to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().with_context(|| self.path.display().to_string())
    }
}
