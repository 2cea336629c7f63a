//! Trials: a few samples of each kind that a task takes, made in memory, on which every network is tried.

use super::{Data, Task};
use crate::{Config, Result};
use fixnet_data::{Dataset, Split, Targets};
use std::sync::Arc;

/// What a trial gives: the task with its data.
pub(super) type Loaded = Result<(Arc<dyn Task>, Box<dyn Data>)>;

/// A few samples of one kind for a task.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::type_complexity, reason = "a function's type is its documentation here")]
pub struct Trial {
    /// What the samples are, in one word: `images`.
    pub samples: &'static str,
    /// Makes the task and its data, for the model of a configuration.
    pub load: fn(&Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)>,
}

/// Makes the task and the data of a trial.
type Load = fn(&Config) -> Loaded;

/// Trials of images, sequences and rows.
pub(super) const fn of_shapes([images, sequences, rows]: [Load; 3]) -> [Trial; 3] {
    [
        Trial { samples: "images", load: images },
        Trial { samples: "sequences", load: sequences },
        Trial { samples: "rows", load: rows },
    ]
}

/// Samples of each part.
pub(super) const SAMPLES: usize = 2;
/// The shape of an image: the least that the networks for large images take.
pub(super) const IMAGE: &[usize] = &[32, 32, 3];
/// The shape of a sequence: steps and channels.
pub(super) const SEQUENCE: &[usize] = &[12, 5];
/// The shape of a row.
pub(super) const ROW: &[usize] = &[6];

/// Samples of this shape in a training and a test part, with the targets that `targets` makes for the data set of a name.
pub(super) fn split<T: Targets>(
    shape: &[usize],
    targets: impl Fn(&str) -> fixnet_data::Result<T>,
) -> fixnet_data::Result<Split<T>> {
    let count = SAMPLES * shape.iter().product::<usize>();
    let part = |name: &str, shift: usize| {
        let bytes = (0..count).map(|i| ((i + shift) * 31 % 251) as u8);
        match <[usize; 3]>::try_from(shape) {
            Ok(image) => Dataset::of_images(name, image, bytes.collect(), targets(name)?),
            Err(_) => Dataset::of_floats(name, shape, bytes.map(|v| f32::from(v) / 64.0).collect(), targets(name)?),
        }
    };
    Split::new(part("trial train", 0)?, part("trial test", 5)?)
}
