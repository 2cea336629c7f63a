//! Data sets in their parts, as the data of a task: what classification and regression share.

use super::{Batch, Batches, Data, Part};
use crate::{Config, Error, Result};
use fixnet_autograd::Array;
use fixnet_data::{Augment, ClassDifference, DataError, Dataset, Fingerprints, Loader, Normalize, Split, Targets};
use fixnet_export::class_names;
use fixnet_nn::models::Output;
use fixnet_tensor::Tensor;
use std::any::Any;
use std::collections::BTreeMap;

/// Images or rows with targets of one kind, in their parts.
#[derive(Debug)]
pub struct Parts<T: Targets> {
    train: Option<Dataset<T>>,
    validation: Option<Dataset<T>>,
    test: Dataset<T>,
    normalize: Normalize,
    notes: Vec<String>,
}

/// Targets that a task knows behind the type of its batches.
pub trait PartTargets: Targets {
    /// Makes a batch of the task, whose targets are all that its loss and its metrics need.
    fn erased(batch: Self::Batch) -> Batch;

    /// Returns the targets as a named array, for other programs.
    ///
    /// # Errors
    /// They take more memory than there is.
    fn array(&self) -> Result<(String, Array)>;
}

impl<T: Targets> Parts<T> {
    /// All parts of a split, normalized by `normalize`, with notes on what is odd about them.
    pub(super) fn of_split(split: Split<T>, normalize: Normalize, fingerprints: Option<&Fingerprints>) -> Self {
        let notes = fingerprints.map_or_else(Vec::new, |prints| split.notes(prints));
        Self { train: Some(split.train), validation: split.validation, test: split.test, normalize, notes }
    }

    /// These parts, with the notes of the sources that a configuration names.
    pub(super) fn of_sources(self, config: &Config) -> Self {
        let mut notes = config.data().notes();
        notes.extend(self.notes);
        Self { notes, ..self }
    }

    /// A test part alone.
    pub(super) fn of_test(test: Dataset<T>, normalize: Normalize) -> Self {
        Self { train: None, validation: None, test, normalize, notes: Vec::new() }
    }

    /// Returns the samples of a part.
    pub fn part(&self, part: Part) -> Option<&Dataset<T>> {
        match part {
            Part::Train => self.train.as_ref(),
            Part::Validation => self.validation.as_ref(),
            Part::Test => Some(&self.test),
        }
    }
}

/// Checks that the network of a configuration gives values; `expected` says which network is expected.
pub(super) fn check_model(config: &Config, expected: &str) -> Result<()> {
    let model = config.model();
    if model.output() != Output::Values {
        let reason = format!("expected {expected}, found {model}, whose output is of another form");
        return Err(Error::Setting { key: "model.name".into(), reason });
    }
    Ok(())
}

/// What the data of a configuration depend on. Runs of other seeds have the same data where no part of them is drawn.
pub(super) fn data_key(config: &Config) -> String {
    let mut data = config.data().clone();
    if !data.is_drawn() {
        data.seed = 0;
    }
    format!("{data:?}")
}

/// A note on weights to start from whose classes have other names than `own`, if there are as many.
///
/// # Errors
/// The metadata are damaged.
pub(super) fn notes_on_classes(
    place: &str,
    metadata: &BTreeMap<String, String>,
    own: &[String],
) -> Result<Vec<String>> {
    let names = class_names::read(place, metadata).map_err(Error::from)?;
    let names = names.filter(|names| names.len() == own.len());
    let difference = names.and_then(|names| ClassDifference::between(&names, own));
    let note = |d| format!("warning: init: the classes of the data are others than those of the weights: {d}");
    Ok(difference.map(note).into_iter().collect())
}

/// Checks that an augmentation can vary samples of this shape.
pub(super) fn check_augment(config: &Config, shape: &[usize]) -> Result<()> {
    match <[usize; 3]>::try_from(shape) {
        Ok(image) => Ok(config.augment().check_for(image)?),
        Err(_) => check_floats(config.augment()),
    }
}

/// Checks that an augmentation can vary samples of floats.
fn check_floats(augment: Augment) -> Result<()> {
    if augment == (Augment { mixup: augment.mixup, ..Augment::default() }) {
        return Ok(());
    }
    let expected = "mixup alone for samples of floats, such as rows of a table".into();
    let found = "variations of images".into();
    Err(DataError::Unexpected { place: "augmentation".into(), expected, found }.into())
}

impl<T: PartTargets> Data for Parts<T> {
    fn len(&self, part: Part) -> usize {
        self.part(part).map_or(0, Dataset::len)
    }

    fn name(&self, part: Part) -> String {
        self.part(part).map_or_else(|| part.name().into(), |data| data.name.clone())
    }

    fn epoch(&self, config: &Config, number: u32, skip: usize) -> Result<Batches> {
        let Some(train) = &self.train else { return Ok(Box::new(std::iter::empty())) };
        if train.is_floats() {
            check_floats(config.augment())?;
        }
        let loader = Loader::new(train, config.batch_size(), self.normalize.clone())
            .shuffled(config.seed(), number)
            .augmented(config.augment(), config.seed(), number)
            .skip_batches(skip);
        Ok(Box::new(loader.map(|batch| Ok(T::erased(batch?)))))
    }

    fn batches(&self, part: Part, batch_size: usize) -> Result<Batches> {
        let Some(data) = self.part(part) else { return Ok(Box::new(std::iter::empty())) };
        let loader = Loader::new(data, batch_size, self.normalize.clone());
        Ok(Box::new(loader.map(|batch| Ok(T::erased(batch?)))))
    }

    fn arrays(&self, part: Part) -> Result<Vec<(String, Array)>> {
        let Some(data) = self.part(part) else { return Ok(Vec::new()) };
        Ok(vec![inputs(data)?, data.targets().array()?])
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Images [N, C, H, W] from 0 to 1, or rows [N, F] as they are.
fn inputs<T: Targets>(data: &Dataset<T>) -> Result<(String, Array)> {
    if data.row(0).is_some() {
        let shape = [&[data.len()], data.shape()].concat();
        let values = (0..data.len()).filter_map(|i| data.row(i)).flatten().copied().collect();
        return Ok((data.noun().into(), Array::F32(Tensor::from_vec(&shape, values)?)));
    }
    let [h, w, c] = data.image_shape().unwrap_or_default();
    let mut images = Vec::with_capacity(data.len() * h * w * c);
    for i in 0..data.len() {
        let image = data.image(i)?;
        images.extend((0..c).flat_map(|k| image[k..].iter().step_by(c).map(|&v| f32::from(v) / 255.0)));
    }
    Ok(("images".into(), Array::F32(Tensor::from_vec(&[data.len(), c, h, w], images)?)))
}
