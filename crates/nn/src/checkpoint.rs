//! Checkpoints: one `safetensors` file with every number of a run, and the digest of those numbers.
//!
//! A file is written beside its place, flushed to the disk and then renamed, so that a reader finds the old one or the
//! new one and never a part.

use crate::optim::Optimizer;
use crate::{Error, Result};
use fixnet_autograd::{Array, Store};
use fixnet_tensor::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

fn entries(store: &Store, optimizer: &Optimizer) -> Vec<(String, Array)> {
    let mut all = store.state_dict();
    all.extend(optimizer.state_dict(store));
    all.push(("run.seed_and_step".into(), Array::U64(vec![store.seed(), store.step()])));
    all
}

/// Type, shape and bytes (little endian) of an array.
fn bytes(array: &Array) -> (Dtype, Vec<usize>, Vec<u8>) {
    match array {
        Array::F32(t) => (Dtype::F32, t.shape().to_vec(), t.data().iter().flat_map(|v| v.to_le_bytes()).collect()),
        Array::U64(v) => (Dtype::U64, vec![v.len()], v.iter().flat_map(|v| v.to_le_bytes()).collect()),
    }
}

/// A blake3 hash, in hexadecimal, over names, types, shapes and bits of all state: equal digests mean equal runs.
pub fn digest(store: &Store, optimizer: &Optimizer) -> String {
    let mut hash = blake3::Hasher::new();
    for (name, array) in entries(store, optimizer) {
        let (dtype, shape, data) = bytes(&array);
        hash.update(format!("{name} {dtype:?} {shape:?}\n").as_bytes());
        hash.update(&data);
    }
    hash.finalize().to_hex().to_string()
}

/// Writes a checkpoint with `metadata`, atomically.
///
/// # Errors
/// The file cannot be written; one that was there before is then untouched.
pub fn save(path: &Path, store: &Store, optimizer: &Optimizer, metadata: &BTreeMap<String, String>) -> Result<()> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let arrays: Vec<_> = entries(store, optimizer).into_iter().map(|(name, array)| (name, bytes(&array))).collect();
    let views = arrays
        .iter()
        .map(|(name, (dtype, shape, data))| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), data)?)))
        .collect::<std::result::Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|e| Error::Checkpoint { path: path.to_path_buf(), reason: e.to_string() })?;
    let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    let data = safetensors::serialize(views, Some(metadata))
        .map_err(|e| Error::Checkpoint { path: path.to_path_buf(), reason: e.to_string() })?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(&data).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    // The new name must reach the disk as well; not every system can flush a folder.
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// The metadata of a checkpoint.
///
/// # Errors
/// The file cannot be read or is no checkpoint.
pub fn read_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let data = read(path)?;
    let (_, header) = SafeTensors::read_metadata(&data)
        .map_err(|e| Error::Checkpoint { path: path.to_path_buf(), reason: e.to_string() })?;
    Ok(header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// Reads a checkpoint into a model of the same form, and into the optimizer if one is given; returns the metadata.
///
/// # Errors
/// The file cannot be read, is damaged, or does not fit the model; the message names the parameter.
pub fn load(path: &Path, store: &mut Store, optimizer: Option<&mut Optimizer>) -> Result<BTreeMap<String, String>> {
    let metadata = read_metadata(path)?;
    let data = read(path)?;
    let damaged = |reason: String| Error::Checkpoint { path: path.to_path_buf(), reason };
    let file = SafeTensors::deserialize(&data).map_err(|e| damaged(e.to_string()))?;
    let get = |name: &str| -> Option<Array> {
        let view = file.tensor(name).ok()?;
        match view.dtype() {
            Dtype::F32 => {
                let values =
                    view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
                Tensor::from_vec(view.shape(), values).ok().map(Array::F32)
            }
            Dtype::U64 => {
                let word = |b: &[u8]| b.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
                Some(Array::U64(view.data().chunks_exact(8).map(word).collect()))
            }
            _ => None,
        }
    };
    let Some(Array::U64(run)) = get("run.seed_and_step") else {
        return Err(damaged("`run.seed_and_step` is missing".into()));
    };
    let &[seed, step] = run.as_slice() else { return Err(damaged("`run.seed_and_step` is not two numbers".into())) };
    if seed != store.seed() {
        return Err(damaged(format!("it belongs to seed {seed}, this model to seed {}", store.seed())));
    }
    let fits = |e: fixnet_autograd::Error| damaged(e.to_string());
    store.load_state_dict(get).map_err(fits)?;
    if let Some(optimizer) = optimizer {
        optimizer.load_state_dict(store, get).map_err(fits)?;
    }
    store.set_step(step);
    Ok(metadata)
}
