//! What the tests of runs share: a small data set of MNIST's form, configurations on it, and runs in folders.
#![allow(dead_code, reason = "each test file uses its part")]

use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::run::{Folder, place};
use fixnet_train::trainer::{self, Clock, Every, Watcher};
use fixnet_train::{Config, Session, Settings, task};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with data, and room for runs.
pub(crate) struct Place {
    folder: TempDir,
}

fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let head = std::iter::once(magic).chain(sizes.iter().copied()).flat_map(u32::to_be_bytes);
    head.chain(data.iter().copied()).collect()
}

impl Place {
    /// Images of 8x8 pixels of two classes, `count` to train on and as many to test on.
    /// Some have the wrong class, so that the losses of epochs rise and fall.
    pub(crate) fn new(count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let class = |i: u32| (i % 2) as u8;
        let pixel = |image: u32, i: u32| {
            let bright = image.is_multiple_of(2) == (i % 8 < 4);
            if bright { 200 - (image * 13 % 50) as u8 } else { ((i + image) * 7 % 60) as u8 }
        };
        let pixels: Vec<u8> = (0..count).flat_map(|image| (0..64).map(move |i| pixel(image, i))).collect();
        for part in ["train", "t10k"] {
            let labels = (0..count).map(|i| if i.is_multiple_of(5) { 1 - class(i) } else { class(i) });
            let labels: Vec<u8> = labels.collect();
            let path = |kind: &str| folder.path().join(format!("{part}-{kind}-ubyte"));
            fs::write(path("images-idx3"), idx(0x803, &[count, 8, 8], &pixels)).unwrap();
            fs::write(path("labels-idx1"), idx(0x801, &[count], &labels)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A configuration on these data, with the keys of a recipe.
    pub(crate) fn config(&self, recipe: &str) -> Config {
        let mut settings = Settings::from_toml(recipe, "recipe").unwrap();
        settings.data.source = format!("mnist:{}", self.folder.path().display()).parse().unwrap();
        settings.model.name = "mlp:8".parse().unwrap();
        settings.check().unwrap()
    }
}

/// Takes steps to the end of a run in memory; returns its digest.
pub(crate) fn finish(session: &mut Session<'_>) -> String {
    while !session.is_finished() {
        if session.step().unwrap().is_none() {
            session.next_epoch().unwrap();
        }
    }
    session.digest()
}

/// Does `work` on a pool of so many threads.
pub(crate) fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// Trains a configuration in a folder, in the place of a run that is there.
pub(crate) fn train(config: &Config, path: &Path, every: Every, watcher: &mut dyn Watcher) {
    let (task, data) = task::load(config).unwrap();
    let mut session = Session::new(config.clone(), task, &*data).unwrap();
    let mut folder = Folder::create(path, &session, true, &mut Vec::new()).unwrap();
    trainer::train(&mut session, &mut folder, every, watcher, &mut Clock::new(0)).unwrap();
}

/// Goes on with the run in a folder to its end, or extends it to so many epochs; returns warnings.
pub(crate) fn resume(path: &Path, epochs: Option<u32>, every: Every) -> fixnet_train::Result<Vec<String>> {
    let opened = Folder::open(path)?;
    let (mut folder, checkpoint) = (opened.folder, opened.checkpoint);
    let config = place::config_to_resume(path, &checkpoint, epochs)?;
    let (task, data) = task::load(&config)?;
    let mut session = Session::resumed(config, task, &*data, &checkpoint, &mut Vec::new())?;
    folder.write_config(&session)?;
    let mut clock = Clock::new(session.store().step());
    trainer::train(&mut session, &mut folder, every, &mut (), &mut clock)?;
    Ok(opened.warnings)
}

pub(crate) fn checkpoint(run: &Path) -> Checkpoint {
    Checkpoint::open(&place::checkpoint_path(run)).unwrap()
}

/// Copies the files of a run, as a process that is killed leaves them.
pub(crate) fn copy(run: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(run).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// These files of two runs are equal, to the byte.
pub(crate) fn assert_equal(found: &Path, expected: &Path, names: &[&str]) {
    for name in names {
        let [a, b] = [found, expected].map(|run| fs::read(run.join(name)).unwrap());
        assert!(a == b, "{name} of {} differs: {} and {} bytes", found.display(), a.len(), b.len());
    }
}
