//! The right of one process to write the folder of a run: a lock, and a mark that says who writes.
//!
//! The lock refuses a second process at once. Some network file systems have no locks; there the mark, `writer.json`, is
//! what a second process replaces, and the first one finds that out before its next checkpoint. The mark is also what tells
//! a run that was killed before its first checkpoint from a folder of someone else. It is removed when the process ends.

use crate::Result;
use crate::error::{io, run};
use fixnet_files::{self as files, input_file};
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
pub(crate) const WRITER: &str = "writer.json";
/// The names of both files.
pub(crate) const NAMES: [&str; 2] = [LOCK, WRITER];

/// A process that writes a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Writer {
    /// The version of fixnet.
    fixnet: String,
    host: String,
    pid: u32,
    /// A random text, which no other process has.
    token: String,
}

impl Writer {
    /// This process, with a new token.
    fn new() -> Self {
        let host = input_file::read_to_string(Path::new("/proc/sys/kernel/hostname"), input_file::SETTINGS).ok();
        let host = host.or_else(|| std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME")).ok());
        // Each has keys of its own, which the system draws.
        let random = || RandomState::new().build_hasher().finish();
        Self {
            fixnet: env!("CARGO_PKG_VERSION").into(),
            host: host.map_or_else(|| "unknown".into(), |name| name.trim().to_string()),
            pid: std::process::id(),
            token: format!("{:016x}{:016x}", random(), random()),
        }
    }

    /// The writer that a folder is marked with; none if there is no mark.
    fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(WRITER);
        match input_file::read(&path, input_file::SETTINGS) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => {
                let bytes = other.map_err(io(&path))?;
                serde_json::from_slice(&bytes).map(Some).map_err(|e| run(&path, e.to_string()))
            }
        }
    }
}

/// Whether a process of fixnet has begun a run in a folder.
pub(crate) fn is_marked(folder: &Path) -> bool {
    matches!(Writer::read(folder), Ok(Some(_)))
}

/// Whether a folder has the lock of a run: a file without content.
pub(crate) fn has_empty_lock(folder: &Path) -> bool {
    std::fs::symlink_metadata(folder.join(LOCK)).is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// A folder that this process may write.
pub(crate) struct Claim {
    folder: PathBuf,
    writer: Writer,
    /// What the user should know.
    warning: Option<String>,
    /// Locked while it is open; the system lets go of it when the process ends, however that happens.
    _lock: File,
}

impl Claim {
    /// Locks a folder. Where the file system has no locks, there is a warning.
    ///
    /// # Errors
    /// Another process has the lock, or there can be no file for it.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let lock = files::open_lock(&path).map_err(io(&path))?;
        let warning = match lock.try_lock() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => {
                return Err(run(folder, "another fixnet process is writing to this folder"));
            }
            Err(TryLockError::Error(e)) => Some(format!(
                "{}: the file system has no locks ({e}); make sure that no other process writes to this folder",
                folder.display()
            )),
        };
        Ok(Self { folder: folder.into(), writer: Writer::new(), warning, _lock: lock })
    }

    /// Takes the warning for the user, if there is one.
    pub(crate) fn take_warning(&mut self) -> Option<String> {
        self.warning.take()
    }

    /// Marks the folder as the one of a run that this process writes.
    pub(crate) fn mark(&self) -> Result<()> {
        let path = self.folder.join(WRITER);
        let text = serde_json::to_string(&self.writer).map_err(|e| run(&path, e.to_string()))?;
        files::write(&path, format!("{text}\n").as_bytes()).map_err(io(&path))
    }

    /// Fails if another process has begun to write the folder. A mark that is gone is put back.
    pub(crate) fn check(&self) -> Result<()> {
        match Writer::read(&self.folder)? {
            Some(found) if found == self.writer => Ok(()),
            Some(found) => Err(run(
                &self.folder,
                format!(
                    "process {} on {} has begun to write to this folder, so this process (process {} on {}) stops and \
                     leaves its files as they are",
                    found.pid, found.host, self.writer.pid, self.writer.host
                ),
            )),
            None => self.mark(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the first checkpoint it is what the folder is known by.
        if super::names::has_checkpoint(&self.folder)
            && matches!(Writer::read(&self.folder), Ok(Some(found)) if found == self.writer)
        {
            let _ = files::remove(&self.folder.join(WRITER));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let first = Claim::new(path).unwrap();
        assert!(!is_marked(path) && has_empty_lock(path));
        first.mark().unwrap();
        first.check().unwrap();
        assert!(Claim::new(path).is_err_and(|e| e.to_string().contains("another fixnet process")));
        // As on a file system without locks.
        let second = Claim {
            folder: path.into(),
            writer: Writer::new(),
            warning: None,
            _lock: files::open_lock(&path.join("x")).unwrap(),
        };
        second.mark().unwrap();
        let e = first.check().unwrap_err().to_string();
        assert!(e.contains(&format!("process {} on ", std::process::id())) && e.contains("stops"), "{e}");
        drop(first);
        second.check().unwrap();
        files::remove(&path.join(WRITER)).unwrap();
        second.check().unwrap();
        assert!(is_marked(path));
        drop(second);
        assert!(is_marked(path), "without a checkpoint the mark stays");
        std::fs::write(path.join(WRITER), "mine").unwrap();
        std::fs::write(path.join(LOCK), "mine").unwrap();
        assert!(!is_marked(path) && !has_empty_lock(path));
    }
}
