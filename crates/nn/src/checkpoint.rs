//! Checkpoints: one `safetensors` file with every number of a run, and the digest of those numbers.
//!
//! A file is written beside its place, flushed to the disk and then renamed; the one that was there before is kept as the
//! previous one. So at any moment, killed or not, a whole checkpoint is there. Each carries a checksum: a file that was cut
//! short or damaged is refused by name, and [`Checkpoint::open_or_previous`] falls back to the previous one.

mod file;
mod foreign;
mod pretrained;

pub use file::{Header, TensorEntry, TensorFile};
pub use pretrained::{Pretrained, Taken};

use crate::optim::Optimizer;
use crate::{Error, Problem, Result};
use fixnet_autograd::{Array, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a run stands: its place in the data, and the sums over the epoch that is running.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Epochs that are finished.
    pub epoch: u32,
    /// Batches of the running epoch that are used up: the place in the order of the data.
    pub batches: u64,
    /// Images of the running epoch so far.
    pub seen: u64,
    /// How many of them were classified correctly.
    pub hits: u64,
    /// The sum of their losses.
    pub loss_sum: f64,
}

impl Progress {
    fn to_array(self) -> Array {
        let Self { epoch, batches, seen, hits, loss_sum } = self;
        Array::U64(vec![u64::from(epoch), batches, seen, hits, loss_sum.to_bits()])
    }

    fn from_array(array: Option<Array>) -> Option<Self> {
        match array? {
            Array::U64(v) => match v[..] {
                [epoch, batches, seen, hits, loss_sum] => {
                    let (epoch, loss_sum) = (epoch.try_into().ok()?, f64::from_bits(loss_sum));
                    Some(Self { epoch, batches, seen, hits, loss_sum })
                }
                _ => None,
            },
            Array::F32(_) => None,
        }
    }
}

fn entries(store: &Store, optimizer: &Optimizer) -> Vec<(String, Array)> {
    let mut all = store.state_dict();
    all.extend(optimizer.state_dict(store));
    all.push(("run.seed_and_step".into(), Array::U64(vec![store.seed(), store.step()])));
    all
}

/// A blake3 hash, in hexadecimal, over names, types, shapes and bits of all state: equal digests mean equal runs.
pub fn digest(store: &Store, optimizer: &Optimizer) -> String {
    let mut hash = blake3::Hasher::new();
    for (name, array) in entries(store, optimizer) {
        let (dtype, shape) = file::form(&array);
        hash.update(format!("{name} {dtype:?} {shape:?}\n").as_bytes());
        file::hash(&array, &mut hash);
    }
    hash.finalize().to_hex().to_string()
}

/// Where [`save`] keeps the checkpoint that was at `path` before: `run/last.safetensors` becomes
/// `run/last.previous.safetensors`.
pub fn previous_path(path: &Path) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(".previous");
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Writes a checkpoint with `metadata`, atomically; one that is there already becomes the previous one. Equal state gives
/// equal bytes. One process at a time may save to a path.
///
/// # Errors
/// The file cannot be written, because the disk is full, say; those that are there stay as they are.
pub fn save(
    path: &Path,
    store: &Store,
    optimizer: &Optimizer,
    progress: &Progress,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let mut arrays = entries(store, optimizer);
    arrays.push(("run.progress".into(), progress.to_array()));
    let part = path.with_extension("part");
    let replace = || {
        file::write(&part, &arrays, metadata)?;
        keep_previous(path)?;
        fs::rename(&part, path)
    };
    replace().map_err(|source| {
        // What was written of it would only fill the disk further.
        let _ = fs::remove_file(&part);
        Error::Save { path: path.to_path_buf(), source }
    })?;
    // The new name must reach the disk as well; not every system can flush a folder.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Writes a file beside its place, waits until it is on the disk, and renames it: an earlier one is whole until the new one
/// is.
///
/// # Errors
/// The file cannot be written; one that was there stays as it is.
pub fn write_atomically(path: &Path, data: &[u8]) -> std::io::Result<()> {
    replace(path, |part| {
        let mut file = fs::File::create(part)?;
        file.write_all(data)?;
        file.sync_all()
    })
}

/// Puts what `write` writes in the place of `path`.
fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    let part = path.with_extension("part");
    write(&part).and_then(|()| fs::rename(&part, path)).inspect_err(|_| {
        // What was written of it would only fill the disk further.
        let _ = fs::remove_file(&part);
    })
}

/// Gives the checkpoint at `path`, if there is one, its second name. A link leaves no moment without a file at `path`;
/// where the file system has none, it is renamed, and for that moment the previous one is the one to load.
fn keep_previous(path: &Path) -> std::io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let previous = previous_path(path);
    match fs::remove_file(&previous) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::hard_link(path, &previous).or_else(|_| fs::rename(path, &previous))
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    file: TensorFile,
    seed: u64,
    step: u64,
    progress: Progress,
}

impl Checkpoint {
    /// Reads a checkpoint and compares its checksum.
    ///
    /// # Errors
    /// The file cannot be read, is damaged or cut short, or is no checkpoint of fixnet.
    pub fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::read(path)?;
        if file.header().checksum().is_none() {
            return Err(file.damaged(Problem::NoChecksum));
        }
        let missing = |name: &str| file.damaged(Problem::Missing { name: name.into() });
        let (seed, step) = match file.array("run.seed_and_step") {
            Some(Array::U64(v)) if v.len() == 2 => (v[0], v[1]),
            _ => return Err(missing("run.seed_and_step")),
        };
        let progress = Progress::from_array(file.array("run.progress")).ok_or_else(|| missing("run.progress"))?;
        Ok(Self { file, seed, step, progress })
    }

    /// Reads the checkpoint at `path` or, where that is damaged or missing, the previous one; then also gives what was
    /// wrong with the first.
    ///
    /// # Errors
    /// Neither can be used. The message tells of both, if there are two.
    pub fn open_or_previous(path: &Path) -> Result<(Self, Option<Error>)> {
        let current = match Self::open(path) {
            Ok(checkpoint) => return Ok((checkpoint, None)),
            Err(e) => e,
        };
        let previous = previous_path(path);
        if !previous.exists() {
            return Err(current);
        }
        match Self::open(&previous) {
            Ok(checkpoint) => Ok((checkpoint, Some(current))),
            Err(e) => Err(Error::NoCheckpoint { current: Box::new(current), previous: Box::new(e) }),
        }
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The texts that were saved with it.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.file.header().metadata
    }

    /// Steps of the optimizer that it is after.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Where the run stood.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.file.header().tensors.iter().map(|t| t.name.as_str())
    }

    /// Puts its numbers into a model of the same form, and into the optimizer if one is given.
    ///
    /// # Errors
    /// It does not fit the model or the optimizer, which lacks something of it or has more: the message names the
    /// parameter. The store may then hold a part of the new values.
    pub fn restore(&self, store: &mut Store, optimizer: Option<&mut Optimizer>) -> Result<()> {
        if self.seed != store.seed() {
            return Err(self.file.damaged(Problem::Seed { expected: store.seed(), found: self.seed }));
        }
        let misfit = |source| self.file.damaged(Problem::Misfit(source));
        let arrays = |name: &str| self.file.array(name);
        store.load_state_dict(arrays).map_err(misfit)?;
        let mut known: BTreeSet<String> = store.state_dict().into_iter().map(|(name, _)| name).collect();
        match optimizer {
            Some(optimizer) => {
                optimizer.load_state_dict(store, arrays).map_err(misfit)?;
                known.extend(optimizer.state_dict(store).into_iter().map(|(name, _)| name));
            }
            None => known.extend(self.names().filter(|name| name.starts_with("optimizer.")).map(String::from)),
        }
        let mut entries = self.file.header().tensors.iter();
        if let Some(odd) = entries.find(|t| !known.contains(&t.name) && !t.name.starts_with("run.")) {
            let (name, expected) = (odd.name.clone(), "none of that name".to_string());
            let found = format!("{} {:?}", odd.dtype.to_lowercase(), odd.shape);
            return Err(misfit(fixnet_autograd::Error::State { name, expected, found }));
        }
        store.set_step(self.step);
        Ok(())
    }
}
