//! Opens input files: the one way in which the workspace opens a file that it reads.
//!
//! Opening a named pipe waits for a writer, and opening a device may do anything. So a path is asked what it is before it is
//! opened, and the open file is asked again, in case another one took its place in between.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// A path that names something other than a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a regular file, found {found}")]
pub struct NotAFile {
    /// What the path names: `a folder`, `a named pipe`, ….
    pub found: &'static str,
}

/// Opens a regular file for reading. Links are followed.
///
/// # Errors
/// The file cannot be opened, or is not a regular file: then the error holds a [`NotAFile`]. It never waits for a pipe.
///
/// ```
/// use fixnet_files::input_file;
///
/// let folder = tempfile::tempdir()?;
/// let e = input_file::open(folder.path()).unwrap_err();
/// assert_eq!(e.to_string(), "expected a regular file, found a folder");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn open(path: &Path) -> io::Result<File> {
    check(&std::fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Without influence on regular files; a pipe that took the place of one is opened without waiting, and refused.
        options.custom_flags((rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits() as i32);
    }
    let file = options.open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The most bytes of a file that is read whole: recipes, grids and what else is written by hand or is one record of a run.
pub const SETTINGS: u64 = 16 << 20;
/// The most bytes of a log.
pub const LOG: u64 = 512 << 20;

/// A file that is longer than its reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a file of at most {most} bytes, found a longer one")]
pub struct TooLong {
    /// The most bytes that are read.
    pub most: u64,
}

/// Reads a whole regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`], or the file cannot be read, or it is longer: then the error holds a [`TooLong`].
///
/// ```
/// use fixnet_files::input_file;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("x");
/// std::fs::write(&path, "text")?;
/// assert_eq!(input_file::read(&path, 4)?, b"text");
/// let e = input_file::read(&path, 3).unwrap_err();
/// assert_eq!(e.to_string(), "expected a file of at most 3 bytes, found a longer one");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        false => Ok(bytes),
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong { most })),
    }
}

/// Reads a whole regular file of at most `most` bytes as text.
///
/// # Errors
/// As [`read`], or the file is not UTF-8.
pub fn read_to_string(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Describes what a path names, for messages: `a file`, `a folder`, `a named pipe`, ….
pub fn kind(path: &Path) -> &'static str {
    std::fs::metadata(path).map_or("nothing that can be read", |metadata| name_of(metadata.file_type()))
}

fn check(metadata: &Metadata) -> io::Result<()> {
    match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, NotAFile { found: name_of(metadata.file_type()) })),
    }
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_file() {
        return "a file";
    }
    if kind.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
    }
    "a device"
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};

    fn not_a_file(path: &Path) -> NotAFile {
        let e = open(path).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::InvalidInput);
        *e.get_ref().and_then(|e| e.downcast_ref()).unwrap()
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("file"), "text").unwrap();
        for (name, target) in [("to file", "file"), ("to pipe", "pipe")] {
            std::os::unix::fs::symlink(at(target), at(name)).unwrap();
        }
        assert_eq!(
            (read_to_string(&at("file"), 4).unwrap(), read(&at("to file"), 4).unwrap()),
            ("text".into(), b"text".to_vec())
        );
        for (path, found) in [
            (at("pipe"), "a named pipe"),
            (at("to pipe"), "a named pipe"),
            (at("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
            (dir.path().into(), "a folder"),
        ] {
            assert_eq!((not_a_file(&path).found, kind(&path)), (found, found));
        }
        assert_eq!(open(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
