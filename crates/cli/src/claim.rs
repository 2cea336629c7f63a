//! The right of one process to write the folder of a run: a lock, and a mark that says who writes.
//!
//! The lock refuses a second process at once. Some network file systems have no locks; there the mark, `writer.json`, is
//! what a second process replaces, and the first one finds that out before its next checkpoint. The mark is also what tells
//! a run that was killed before its first checkpoint from a folder of someone else. It is removed when the process ends.

use crate::out::note;
use anyhow::{Context, Result, bail};
use fixnet::{files, input_file};
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
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
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
        let name = || path.display().to_string();
        match input_file::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            other => Ok(Some(serde_json::from_slice(&other.with_context(name)?).with_context(name)?)),
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
    /// Locked while it is open; the system lets go of it when the process ends, however that happens.
    _lock: File,
}

impl Claim {
    /// Locks a folder. Where the file system has no locks, the user is warned.
    ///
    /// # Errors
    /// Another process has the lock, or there can be no file for it.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK);
        let lock = files::open_lock(&path).with_context(|| path.display().to_string())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: another fixnet process is writing to this folder", folder.display())
            }
            Err(TryLockError::Error(e)) => note!(
                "warning: {}: the file system has no locks ({e}); make sure that no other process writes to this folder",
                folder.display()
            ),
        }
        Ok(Self { folder: folder.into(), writer: Writer::new(), _lock: lock })
    }

    /// Marks the folder as the one of a run that this process writes.
    pub(crate) fn mark(&self) -> Result<()> {
        let path = self.folder.join(WRITER);
        let text = format!("{}\n", serde_json::to_string(&self.writer)?);
        files::write(&path, text.as_bytes()).with_context(|| path.display().to_string())
    }

    /// Fails if another process has begun to write the folder. A mark that is gone is put back.
    pub(crate) fn check(&self) -> Result<()> {
        match Writer::read(&self.folder)? {
            Some(found) if found == self.writer => Ok(()),
            Some(found) => bail!(
                "{}: process {} on {} has begun to write to this folder, so this process (process {} on {}) stops and \
                 leaves its files as they are",
                self.folder.display(),
                found.pid,
                found.host,
                self.writer.pid,
                self.writer.host
            ),
            None => self.mark(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Before the first checkpoint it is what the folder is known by.
        if crate::folder::has_checkpoint(&self.folder)
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
        let second =
            Claim { folder: path.into(), writer: Writer::new(), _lock: files::open_lock(&path.join("x")).unwrap() };
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
