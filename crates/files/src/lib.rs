//! The one writer of files, and in [`input_file`] the one reader: every file that fixnet writes takes its name here.
//!
//! A file is written beside its place under a random name that nothing had before, flushed to the disk, and renamed; then
//! its folder is flushed. This has three consequences:
//!
//! - Whatever ends the process, or the machine, a name stands for a whole file: the earlier one or the new one.
//! - Nothing is written through a symbolic or hard link. A link in the place of the file is replaced, and what it leads to
//!   stays as it is.
//! - No file of another name is lost, because the random name is only taken where it is free.
//!
//! A log that only grows begins the same way ([`begin_log`]) and is then written through the handle of the new file.
//!
//! Where the system cannot flush folders, the new name reaches the disk when the system chooses to write it: on Windows, on
//! file systems that answer `EINVAL` or `ENOTSUP`, and in folders that this user may write but not read. Any other failure
//! to flush is an error.

#![forbid(unsafe_code)]

pub mod input_file;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Letters and digits that are drawn for the name of an unfinished file.
const DRAWN: usize = 12;
/// What the name of an unfinished file ends with.
const UNFINISHED: &str = ".part";
/// The longest name that an unfinished file carries in its own: file systems have names of up to 255 bytes.
const LONGEST: usize = 200;

/// What is done to the disk. Tests record these operations and let each of them fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Create,
    Write,
    Sync,
    Remove,
    Link,
    Rename,
    SyncFolder,
}

#[cfg(not(test))]
#[inline]
fn begin(_: Operation, _: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use tests::begin;

/// Puts a file with `data` in the place of `path`.
///
/// # Errors
/// As [`replace`].
pub fn write(path: &Path, data: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(data))
}

/// Puts what `write` writes in the place of `path`.
///
/// # Errors
/// The file cannot be written, and an earlier one stays as it is; or the place is taken by a folder, a pipe or a device; or
/// the folder cannot be flushed, in which case the new file may be there.
pub fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    Unfinished::new(path, write)?.take_place()?;
    Ok(())
}

/// As [`replace`]; an earlier file gets the name `previous`.
///
/// # Errors
/// As [`replace`]. At each moment `path` or `previous` is a whole file, if one of them was.
pub fn replace_keeping(
    path: &Path,
    previous: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let new = Unfinished::new(path, write)?;
    keep(path, previous)?;
    new.take_place()?;
    Ok(())
}

/// Puts a log that begins with `data` in the place of `path`; returns it, open to be appended to.
///
/// # Errors
/// As [`replace`].
pub fn begin_log(path: &Path, data: &[u8]) -> io::Result<File> {
    Unfinished::new(path, |file| file.write_all(data))?.take_place()
}

/// Makes a log under a name that is free, and flushes its folder, so that the name outlives a power cut.
///
/// # Errors
/// The name is taken, be it by a link that leads nowhere, or the file cannot be made; or the folder cannot be flushed, in
/// which case the file is there.
pub fn create_log(path: &Path) -> io::Result<File> {
    let folder = Directory::of(path)?;
    begin(Operation::Create, path)?;
    let file = create_new(path)?;
    folder.sync()?;
    Ok(file)
}

/// Makes a file whose name was free.
fn create_new(path: &Path) -> io::Result<File> {
    File::options().append(true).create_new(true).open(path)
}

/// Fails if a symbolic link is in the place of a file or folder that is to be written.
///
/// # Errors
/// There is a link, or the place cannot be examined.
pub fn refuse_link(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "expected a file or folder, found a symbolic link; fixnet does not write through links",
        )),
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Opens a file that serves as a lock and makes it where there is none. It is never written to.
///
/// # Errors
/// The file cannot be opened, or is a link, a folder, a pipe or a device.
pub fn open_lock(path: &Path) -> io::Result<File> {
    match create_log(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            refuse_link(path)?;
            check_place(path)?;
            File::options().append(true).open(path)
        }
        other => other,
    }
}

/// Makes a folder and those above it where they are missing.
///
/// # Errors
/// A folder cannot be made or flushed.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.is_dir()).collect();
    fs::create_dir_all(path)?;
    missing.iter().rev().try_for_each(|made| Directory::of(made)?.sync())
}

/// Removes a file or a link, if there is one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    begin(Operation::Remove, path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives a file another name in its folder.
///
/// # Errors
/// The file cannot be renamed, or the folder cannot be flushed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let folder = Directory::of(to)?;
    begin(Operation::Rename, to)?;
    fs::rename(from, to)?;
    folder.sync()
}

/// Removes what killed processes left of files that were to take the place of `path`. No other process may be writing that
/// file.
///
/// # Errors
/// The folder cannot be read, or a file cannot be removed.
pub fn remove_unfinished(path: &Path) -> io::Result<()> {
    let prefix = unfinished_prefix(path)?;
    for entry in fs::read_dir(folder_of(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let drawn = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .and_then(|name| name.strip_suffix(UNFINISHED.as_bytes()));
        if drawn.is_some_and(|drawn| drawn.len() == DRAWN && drawn.iter().all(u8::is_ascii_alphanumeric)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// The folder in which a path lies.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn no_file() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "expected a file, found a folder, a pipe or a device")
}

/// Fails if what is in the place of a file is none.
fn check_place(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(no_file()),
        _ => Ok(()),
    }
}

fn unfinished_prefix(path: &Path) -> io::Result<OsString> {
    let name = path.file_name().ok_or_else(no_file)?;
    let mut prefix = if name.len() <= LONGEST { name.to_os_string() } else { "fixnet".into() };
    prefix.push(".");
    Ok(prefix)
}

/// A second name for the file at `path`, if there is one. A hard link leaves no moment without a file at `path`; where the
/// file system has none, the file is renamed, and for that moment `previous` is the one to read.
fn keep(path: &Path, previous: &Path) -> io::Result<()> {
    // A link is replaced without further names: what it leads to stays.
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        return Ok(());
    }
    remove(previous)?;
    begin(Operation::Link, previous)?;
    fs::hard_link(path, previous).or_else(|_| fs::rename(path, previous))
}

/// A folder that can be flushed, unless the system has no way to do so.
struct Directory {
    path: PathBuf,
    open: Option<File>,
}

impl Directory {
    /// Opens the folder in which `path` lies.
    fn of(path: &Path) -> io::Result<Self> {
        let path = folder_of(path).to_path_buf();
        let open = match cfg!(unix).then(|| File::open(&path)).transpose() {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => None,
            other => other?,
        };
        Ok(Self { path, open })
    }

    fn sync(&self) -> io::Result<()> {
        let Some(folder) = &self.open else { return Ok(()) };
        match begin(Operation::SyncFolder, &self.path).and_then(|()| folder.sync_all()) {
            Err(e) if [ErrorKind::InvalidInput, ErrorKind::Unsupported].contains(&e.kind()) => Ok(()),
            other => other,
        }
    }
}

/// A file that is on the disk under a random name; removed when it is dropped.
struct Unfinished {
    file: NamedTempFile<File>,
    path: PathBuf,
    folder: Directory,
}

impl Unfinished {
    fn new(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<Self> {
        check_place(path)?;
        // Opened first: once the file has its name, only the flush itself may fail.
        let folder = Directory::of(path)?;
        let file = tempfile::Builder::new()
            .prefix(&unfinished_prefix(path)?)
            .suffix(UNFINISHED)
            .rand_bytes(DRAWN)
            .make_in(folder_of(path), |random| {
                begin(Operation::Create, random)?;
                create_new(random)
            })?;
        let new = Self { file, path: path.to_path_buf(), folder };
        begin(Operation::Write, new.file.path())?;
        let mut buffered = BufWriter::with_capacity(1 << 20, new.file.as_file());
        write(&mut buffered)?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        begin(Operation::Sync, new.file.path())?;
        new.file.as_file().sync_all()?;
        Ok(new)
    }

    fn take_place(self) -> io::Result<File> {
        begin(Operation::Rename, &self.path)?;
        let file = self.file.persist(&self.path).map_err(|e| e.error)?;
        self.folder.sync()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests;
