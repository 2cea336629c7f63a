//! Logs: files of one JSON object per line, which only grow.

use super::event::{Event, VERSION};
use crate::error::{io, run};
use crate::{Error, Result};
use fixnet_files::{self as files, input_file};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Returns the whole lines of a log in the order in which they were written; none if there is no such file.
///
/// # Errors
/// The file cannot be read, or a line that is not the last one is damaged.
pub(crate) fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    Ok(parse(path, &read(path)?)?.into_iter().map(|(value, _)| value).collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match input_file::read(path, input_file::LOG) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io(path)),
    }
}

/// Returns the lines of a log with the lengths that they end at. A torn line at the end is left out.
fn parse<T: DeserializeOwned>(path: &Path, log: &[u8]) -> Result<Vec<(T, usize)>> {
    check_version(path, log)?;
    let (mut lines, mut end) = (Vec::new(), 0);
    let mut damaged: Option<(usize, serde_json::Error)> = None;
    let whole = log.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n"));
    for (i, line) in whole.enumerate() {
        end += line.len();
        match (serde_json::from_slice(line), &damaged) {
            (Ok(value), None) => lines.push((value, end)),
            (Err(e), None) => damaged = Some((i + 1, e)),
            // What follows would be lost.
            (Ok(_), Some((at, e))) => {
                return Err(run(
                    path,
                    format!(
                        "line {at}: expected JSON, found a damaged line ({e}); mend or remove this line (a copy of the file keeps it)"
                    ),
                ));
            }
            (Err(_), Some(_)) => {}
        }
    }
    Ok(lines)
}

/// Refuses a log of a later version: what is new in it would be taken for damage.
fn check_version(path: &Path, log: &[u8]) -> Result<()> {
    let first = log.split(|&b| b == b'\n').next().unwrap_or_default();
    match serde_json::from_slice(first) {
        Ok(Event::Header { version, .. }) if version > VERSION => {
            let reason = format!(
                "expected a log of version {VERSION} or earlier, found {version}: use the fixnet that wrote it"
            );
            Err(run(path, reason))
        }
        _ => Ok(()),
    }
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
    pub(crate) fn open<T: DeserializeOwned>(path: PathBuf, keep: impl Fn(&T) -> bool) -> Result<(Self, Vec<T>)> {
        files::refuse_link(&path).map_err(io(&path))?;
        let bytes = read(&path)?;
        let kept: Vec<(T, usize)> = parse(&path, &bytes)?.into_iter().take_while(|(value, _)| keep(value)).collect();
        let length = kept.last().map_or(0, |(_, end)| *end);
        let lines = kept.into_iter().map(|(value, _)| value).collect();
        Ok((Self::of(path, &bytes[..length])?, lines))
    }

    fn of(path: PathBuf, begin: &[u8]) -> Result<Self> {
        let file = files::begin_log(&path, begin).map_err(io(&path))?;
        Ok(Self { path, file })
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, event: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(event);
        let line = line.map_err(|e| Error::Io { path: self.path.clone(), source: e.into() })?;
        // One call per line: a killed process tears none in two, as far as the system goes.
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(io(&self.path))
    }

    /// Flushes it to the disk.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(io(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let header =
            |version: u32| format!("{}\n", serde_json::to_string(&Event::Header { version, step: 0 }).unwrap());
        std::fs::write(&path, header(VERSION)).unwrap();
        assert_eq!(lines::<Event>(&path).unwrap(), [Event::header()]);
        std::fs::write(&path, header(VERSION + 1) + "{\"kind\":\"new\"}\n").unwrap();
        let e = lines::<Event>(&path).unwrap_err().to_string();
        assert!(e.contains("found 4: use the fixnet that wrote it"), "{e}");
        assert!(Log::open::<Event>(path.clone(), |_| true).is_err(), "and nothing of it is cut off");
    }
}
