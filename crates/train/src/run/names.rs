//! What the files of a run are called, and whether there is a run.

use fixnet_nn::checkpoint::previous_path;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The last checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint.safetensors";
pub(super) const DAMAGED: &str = "checkpoint.damaged.safetensors";
/// The log of steps and epochs.
pub const METRICS: &str = "metrics.jsonl";
pub(super) const DIGESTS: &str = "digests.jsonl";
pub(super) const DIAGNOSTICS: &str = "diagnostics.jsonl";
pub(super) const PROCESSES: &str = "processes.json";
pub(super) const CONFIG: &str = "config.toml";
pub(super) const START: &str = "start.safetensors";
pub(super) const BEST: &str = "best.safetensors";
/// The folder of event files of TensorBoard.
pub(super) const TENSORBOARD: &str = "tensorboard";
/// The curves that are drawn after each epoch.
pub const CURVES: &str = "curves.svg";
/// The page that `fixnet report` makes of one run.
pub const REPORT: &str = "report.html";
/// The folder where `fixnet plot` puts its figures of one run.
pub const PLOTS: &str = "plots";

/// The files of a run that lie in its folder itself, but for its checkpoints, in the order in which they are written.
pub(super) const FILES: [&str; 10] =
    [CONFIG, METRICS, DIGESTS, DIAGNOSTICS, CURVES, PROCESSES, START, BEST, DAMAGED, REPORT];

/// The key of the recipe in the metadata of a checkpoint.
pub const RECIPE: &str = "config";

/// Returns the checkpoint that a user means by a folder or a file.
pub fn checkpoint_path(run: &Path) -> PathBuf {
    if run.is_dir() { run.join(CHECKPOINT) } else { run.to_path_buf() }
}

/// Returns whether there is a run to go on with.
pub fn has_checkpoint(run: &Path) -> bool {
    let file = run.join(CHECKPOINT);
    // Not `exists`: what cannot be looked at for a moment, or is a link to nowhere, is there.
    [previous_path(&file), file].iter().any(|path| match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(e) => ![ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&e.kind()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::claim;

    #[test]
    fn the_reference_page_has_every_file_of_a_run() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/files.md");
        let page = fs::read_to_string(path).unwrap();
        let previous = previous_path(Path::new(CHECKPOINT)).display().to_string();
        let folders = [TENSORBOARD, PLOTS].map(|folder| format!("{folder}/"));
        let files = FILES.into_iter().chain([CHECKPOINT, &previous]).chain(claim::NAMES);
        for name in files.chain(folders.iter().map(String::as_str)) {
            assert!(page.contains(&format!("`{name}`")), "docs/reference/files.md lacks {name}");
        }
    }
}
