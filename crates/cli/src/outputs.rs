//! The one check of the files that a command is told to write: none of them may take the place of what must not be lost.

use crate::usage;
use anyhow::{Result, anyhow};
use fixnet::checkpoint::Header;
use fixnet::files::input_file;
use fixnet::train::run::place::part_of_run;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Fails if an output is also an input, is named twice, or is a file of a run. `own` is the part of runs that the command
/// itself makes.
///
/// # Errors
/// As above; the command line is at fault.
pub(crate) fn check(outputs: &[&Path], inputs: &[&Path], own: Option<&str>) -> Result<()> {
    let refuse = |output: &Path, words: &str| Err(usage(anyhow!("{}: {words}", output.display())));
    let places: Vec<PathBuf> = outputs.iter().map(|path| place(path)).collect();
    let inputs: Vec<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for (i, (output, place)) in outputs.iter().zip(&places).enumerate() {
        if places[..i].contains(place) {
            return refuse(output, "expected a file for each output, found one for two");
        }
        if part_of_run(place).is_some_and(|part| Some(part) != own) {
            return refuse(output, "expected a file of its own, found one of a run; choose another name or folder");
        }
        if output.canonicalize().is_ok_and(|output| inputs.contains(&output)) {
            return refuse(output, "expected a file of its own, found the one that is read");
        }
    }
    Ok(())
}

/// Fails if an output would take the place of a file that fixnet did not write, unless that is asked for with `force`.
///
/// # Errors
/// As above; the command line is at fault.
pub(crate) fn check_replaced(outputs: &[&Path], force: bool) -> Result<()> {
    // What a link leads to is not lost: the link is replaced.
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|there| there.is_file());
    let foreign = outputs.iter().find(|output| is_file(output) && !is_of_fixnet(output));
    match foreign.filter(|_| !force) {
        None => Ok(()),
        Some(output) => {
            let words = "expected a new file or one that fixnet wrote, found another one; choose another name, or --force to replace it";
            Err(usage(anyhow!("{}: {words}", output.display())))
        }
    }
}

/// Where a page and an ONNX file name the program that wrote them.
const START: u64 = 1024;

/// Whether fixnet wrote a file: by the checksum that it writes, or by its name near the start. An empty file is nobody's.
fn is_of_fixnet(path: &Path) -> bool {
    let mut start = Vec::new();
    let Ok(file) = input_file::open(path) else { return false };
    if file.take(START).read_to_end(&mut start).is_err() {
        return false;
    }
    let names = |mark: &[u8]| start.windows(mark.len()).any(|part| part == mark);
    let page = start.starts_with(b"<!DOCTYPE html>") && names(b"content=\"fixnet ");
    // The field of the producer: its number with the kind of a text, and its length.
    let onnx = start.first() == Some(&8) && names(b"\x12\x06fixnet");
    start.is_empty() || page || onnx || Header::read(path).is_ok_and(|header| header.checksum().is_some())
}

/// A path that is the same for all paths to one name. What the name itself links to is no matter: a link is replaced.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}
