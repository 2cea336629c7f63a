//! The data of detection: images with boxes in their parts, on canvases of one size.

use super::super::{Batch, Batches, Data, Part};
use crate::{Config, Error, Result};
use fixnet_autograd::Array;
use fixnet_data::{
    Annotation, DetectionBatch, DetectionDescription, DetectionLoader, DetectionSet, DetectionSplit, Normalize,
};
use fixnet_nn::detection::{Objects, Truth};
use fixnet_tensor::Tensor;
use std::any::Any;
use std::sync::Mutex;

/// Images with boxes in their parts.
#[derive(Debug)]
pub struct Scenes {
    train: Option<DetectionSet>,
    validation: Option<DetectionSet>,
    test: DetectionSet,
    canvas: [usize; 2],
    normalize: Normalize,
    notes: Vec<String>,
}

impl Scenes {
    pub(super) fn of_split(split: DetectionSplit, description: &DetectionDescription) -> Self {
        let notes = split.notes();
        let DetectionSplit { train, test, validation } = split;
        let (canvas, normalize) = (description.canvas, description.normalize.clone());
        Self { train: Some(train), validation, test, canvas, normalize, notes }
    }

    /// Test images alone.
    pub(super) fn of_test(test: DetectionSet, description: &DetectionDescription) -> Self {
        let (canvas, normalize) = (description.canvas, description.normalize.clone());
        let notes = test.read_notes().to_vec();
        Self { train: None, validation: None, test, canvas, normalize, notes }
    }

    /// Returns the images of a part.
    pub fn part(&self, part: Part) -> Option<&DetectionSet> {
        match part {
            Part::Train => self.train.as_ref(),
            Part::Validation => self.validation.as_ref(),
            Part::Test => Some(&self.test),
        }
    }
}

/// The targets of a batch.
pub(super) struct Targets {
    /// Without its images, which are the inputs.
    pub(super) batch: DetectionBatch,
    /// The objects that are learned. Those that metrics ignore are no targets either.
    pub(super) truth: Truth,
    /// The terms of the last loss of the batch, if they are not its images: counting them anew takes as long as the loss.
    pub(super) terms: Mutex<Option<usize>>,
}

fn erased(batch: fixnet_data::Result<DetectionBatch>) -> Result<Batch> {
    let mut batch = batch?;
    let samples = batch.annotations.len();
    let inputs = std::mem::replace(&mut batch.images, Tensor::zeros(&[0]));
    let objects = |annotations: &Vec<Annotation>| {
        let learned = annotations.iter().filter(|object| !object.is_ignored());
        let (boxes, classes) = learned.map(|object| (object.bbox, object.class)).unzip();
        Objects { boxes, classes }
    };
    let truth = Truth { objects: batch.annotations.iter().map(objects).collect(), images: batch.indices.clone() };
    Ok(Batch { inputs, samples, targets: Box::new(Targets { batch, truth, terms: Mutex::default() }) })
}

impl Data for Scenes {
    fn len(&self, part: Part) -> usize {
        self.part(part).map_or(0, DetectionSet::len)
    }

    fn name(&self, part: Part) -> String {
        self.part(part).map_or_else(|| part.name().into(), |set| set.name.clone())
    }

    fn epoch(&self, config: &Config, number: u32, skip: usize) -> Result<Batches> {
        let Some(train) = &self.train else { return Ok(Box::new(std::iter::empty())) };
        let augment = config.detection_augment();
        let seed = config.seed();
        let loader = DetectionLoader::new(train, self.canvas, config.batch_size(), &self.normalize)?;
        Ok(Box::new(loader.shuffled(seed, number).augmented(augment, seed, number)?.skip_batches(skip).map(erased)))
    }

    fn batches(&self, part: Part, batch_size: usize) -> Result<Batches> {
        let Some(set) = self.part(part) else { return Ok(Box::new(std::iter::empty())) };
        Ok(Box::new(DetectionLoader::new(set, self.canvas, batch_size, &self.normalize)?.map(erased)))
    }

    fn arrays(&self, part: Part) -> Result<Vec<(String, Array)>> {
        let reason =
            "expected samples with one target each, found images with boxes; `fixnet predict` finds the objects of one";
        Err(Error::Setting { key: format!("samples of {}", self.name(part)), reason: reason.into() })
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
