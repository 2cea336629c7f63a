//! The one check of the files that a command is told to write: none of them may take the place of what must not be lost.

use crate::usage;
use anyhow::{Result, anyhow};
use fixnet::train::run::place::part_of_run;
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

/// A path that is the same for all paths to one name. What the name itself links to is no matter: a link is replaced.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_path_buf(),
    }
}
