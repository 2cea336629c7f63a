//! Checkpoints: one `safetensors` file with every number of a run, and the digest of those numbers.
//!
//! A file is written as [`files`] does it, and the one that was there before is kept as the previous one. So at any moment,
//! killed or not, a whole checkpoint is there. Each carries a checksum: a file that was cut short or damaged is refused by
//! name, and [`Checkpoint::open_or_previous`] falls back to the previous one.

mod file;
mod foreign;
mod numbers;
mod pretrained;

pub use file::{Header, TensorEntry, TensorFile};
pub use pretrained::{Pretrained, Taken};

use crate::optim::Optimizer;
use crate::{Error, Problem, Result};
use fixnet_autograd::{Array, Store};
use fixnet_files as files;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The name of the best epoch in a file.
const BEST: &str = "run.best";

/// Where a run stands: its place in the data, and the sums over the epoch that is running.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Epochs that are finished.
    pub epoch: u32,
    /// Batches of the running epoch that are used up: the place in the order of the data.
    pub batches: u64,
    /// Samples of the running epoch so far.
    pub seen: u64,
    /// The sums of their metrics, in the order of the task.
    pub sums: Vec<f64>,
    /// The sum of their losses.
    pub loss_sum: f64,
    /// The best epoch so far, in a run whose epochs are judged.
    pub best: Option<Best>,
}

/// The best epoch of a run so far, by one metric, and how many epochs ago that was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// The value of the metric. It is finite.
    pub value: f64,
    /// The epoch that it was found after, counted from 1.
    pub epoch: u32,
    /// Epochs without improvement since then.
    pub waited: u32,
    /// Whether the run was stopped because it had waited long enough.
    pub stopped: bool,
}

impl Best {
    fn to_array(self) -> Array {
        Array::U64(vec![self.value.to_bits(), self.epoch.into(), self.waited.into(), self.stopped.into()])
    }

    fn from_array(array: &Array) -> Option<Self> {
        let Array::U64(words) = array else { return None };
        let &[value, epoch, waited, stopped @ (0 | 1)] = &words[..] else { return None };
        let value = Some(f64::from_bits(value)).filter(|value| value.is_finite())?;
        Some(Self { value, epoch: epoch.try_into().ok()?, waited: waited.try_into().ok()?, stopped: stopped == 1 })
    }
}

impl Progress {
    /// Returns whether the run was stopped early, after epochs without improvement.
    pub fn is_stopped(&self) -> bool {
        self.best.is_some_and(|best| best.stopped)
    }

    fn to_array(&self) -> Array {
        let mut words = vec![u64::from(self.epoch), self.batches, self.seen];
        words.extend(self.sums.iter().map(|sum| sum.to_bits()));
        words.push(self.loss_sum.to_bits());
        Array::U64(words)
    }

    fn from_array(array: Option<Array>) -> Option<Self> {
        let Some(Array::U64(words)) = array else { return None };
        let (&[epoch, batches, seen], [sums @ .., loss_sum]) = words.split_first_chunk()? else { return None };
        Some(Self {
            epoch: epoch.try_into().ok()?,
            batches,
            seen,
            sums: sums.iter().map(|&word| sum_of(word)).collect(),
            loss_sum: f64::from_bits(*loss_sum),
            best: None,
        })
    }
}

/// The sum of a metric. Until fixnet 0.2 there was one, a count of images, which was written as a whole number: as the bits of a
/// float it would be a number so close to 0 that no sum has it.
fn sum_of(word: u64) -> f64 {
    let sum = f64::from_bits(word);
    if sum.is_subnormal() { word as f64 } else { sum }
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

/// What a checkpoint holds.
fn arrays(store: &Store, optimizer: &Optimizer, progress: &Progress) -> Vec<(String, Array)> {
    let mut arrays = entries(store, optimizer);
    arrays.extend(progress.best.map(|best| (BEST.into(), best.to_array())));
    arrays.push(("run.progress".into(), progress.to_array()));
    arrays
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
    let arrays = arrays(store, optimizer, progress);
    files::replace_keeping(path, &previous_path(path), |to| file::write(to, &arrays, metadata))
        .map_err(|source| Error::Save { path: path.to_path_buf(), source })
}

/// Writes a checkpoint as [`save`] does, in the place of one that is there already: none is kept as the previous one.
///
/// # Errors
/// As [`save`].
pub fn save_single(
    path: &Path,
    store: &Store,
    optimizer: &Optimizer,
    progress: &Progress,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let arrays = arrays(store, optimizer, progress);
    files::replace(path, |to| file::write(to, &arrays, metadata))
        .map_err(|source| Error::Save { path: path.to_path_buf(), source })
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
    /// Reads a checkpoint, compares its checksum and looks at its numbers.
    ///
    /// # Errors
    /// The file cannot be read, is damaged or cut short, is no checkpoint of fixnet, or holds a number that no run has
    /// ([`TensorFile::weights`]).
    pub fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::weights(path)?;
        if file.header().checksum().is_none() {
            return Err(file.damaged(Problem::NoChecksum));
        }
        let missing = |name: &str| file.damaged(Problem::Missing { name: name.into() });
        let (seed, step) = match file.array("run.seed_and_step") {
            Some(Array::U64(v)) if v.len() == 2 => (v[0], v[1]),
            _ => return Err(missing("run.seed_and_step")),
        };
        let mut progress = Progress::from_array(file.array("run.progress")).ok_or_else(|| missing("run.progress"))?;
        // Checkpoints of runs whose epochs are not judged, and those of earlier versions, have none.
        if let Some(array) = file.array(BEST) {
            let odd = || fixnet_autograd::Error::State {
                name: BEST.into(),
                expected: "u64 [4]: the bits of a finite f64, an epoch, epochs without improvement, and 0 or 1".into(),
                found: file::form(&array)
                    .1
                    .iter()
                    .fold("other numbers, or u64".into(), |text, n| format!("{text} [{n}]")),
            };
            progress.best =
                Some(Best::from_array(&array).ok_or_else(|| file.damaged(Problem::Misfit(Box::new(odd()))))?);
        }
        let sums = progress.sums.iter().chain([&progress.loss_sum]);
        if let Some((at, odd)) = sums.enumerate().find(|(_, sum)| !sum.is_finite()) {
            let (name, expected) = ("run.progress".into(), "a finite sum of losses");
            return Err(file.damaged(Problem::Number { name, at: 3 + at, expected, found: *odd as f32 }));
        }
        Ok(Self { file, seed, step, progress })
    }

    /// Reads the checkpoint at `path` or, where that is damaged or missing, the previous one; then also returns what was
    /// wrong with the first.
    ///
    /// # Errors
    /// Neither can be used: the message names both, if there are two. Or the file at `path` could not be opened or read
    /// ([`Error::Unreadable`]): it may be whole, so that going on from the previous one could lose steps.
    pub fn open_or_previous(path: &Path) -> Result<(Self, Option<Error>)> {
        let current = match Self::open(path) {
            Ok(checkpoint) => return Ok((checkpoint, None)),
            Err(e) => e,
        };
        let previous = previous_path(path);
        if !previous.exists() {
            return Err(current);
        }
        let current = match current {
            // What was never read is not damaged.
            Error::Io { path, source } if source.kind() != ErrorKind::NotFound => {
                return Err(Error::Unreadable { path, source, previous });
            }
            other => other,
        };
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
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.file.header().tensors.iter().map(|t| t.name.as_str())
    }

    /// Has a store refuse parameters that this checkpoint does not hold, by name and shape, before there is memory for them:
    /// for the model that it is to be [restored](Self::restore) into.
    #[must_use]
    pub fn expected_in(&self, store: Store) -> Store {
        self.expected_with(store, &BTreeMap::new())
    }

    /// [`expected_in`](Self::expected_in) with tensors that the file does not hold.
    #[must_use]
    pub fn expected_with(&self, store: Store, added: &BTreeMap<String, Array>) -> Store {
        let floats = self.file.header().tensors.iter().filter(|t| t.dtype == "F32");
        let mut shapes: BTreeMap<_, _> = floats.map(|t| (t.name.clone(), t.shape.clone())).collect();
        for (name, array) in added {
            shapes.entry(name.clone()).or_insert_with(|| file::form(array).1);
        }
        store.expecting(shapes, self.path().display().to_string())
    }

    /// The file that it was read from.
    pub fn file(&self) -> &TensorFile {
        &self.file
    }

    /// Returns the file that it was read from, for its weights alone.
    pub fn into_file(self) -> TensorFile {
        self.file
    }

    /// Puts its numbers into a model of the same form, and into the optimizer if one is given.
    ///
    /// With an optimizer this is a run that goes on, so the store must have the seed of that run: what is random in later
    /// steps follows from it. Without one it is a network to evaluate, to export or to train further in another run, which
    /// has the same numbers whatever the seed of the store.
    ///
    /// # Errors
    /// It does not fit the model or the optimizer, which lacks something of it or has more: the message names the
    /// parameter. The store may then hold a part of the new values. Or there is an optimizer, and the store has another
    /// seed.
    pub fn restore(&self, store: &mut Store, optimizer: Option<&mut Optimizer>) -> Result<()> {
        self.restore_with(store, optimizer, &BTreeMap::new())
    }

    /// [`restore`](Self::restore) with tensors that the file does not hold, because the version that wrote it had no such
    /// state. What the file holds comes first.
    ///
    /// # Errors
    /// As there.
    pub fn restore_with(
        &self,
        store: &mut Store,
        optimizer: Option<&mut Optimizer>,
        added: &BTreeMap<String, Array>,
    ) -> Result<()> {
        if optimizer.is_some() && self.seed != store.seed() {
            return Err(self.file.damaged(Problem::Seed { expected: store.seed(), found: self.seed }));
        }
        let misfit = |source| self.file.damaged(Problem::Misfit(Box::new(source)));
        let arrays = |name: &str| self.file.array(name).or_else(|| added.get(name).cloned());
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
