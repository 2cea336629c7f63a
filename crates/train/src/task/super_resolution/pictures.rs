//! The data of super-resolution: patches to learn from, whole pictures of any size to judge by.

use super::super::{Batch, Batches, Data, Part};
use super::least_side;
use crate::{Config, Error, Result};
use fixnet_autograd::Array;
use fixnet_data::{DataError, Normalize, PairSplit, Pairs, PatchSettings, Patches};
use std::any::Any;

/// Pairs of pictures in their parts.
#[derive(Debug)]
pub struct Pictures {
    train: Option<Pairs>,
    validation: Option<Pairs>,
    test: Pairs,
    patches: PatchSettings,
    normalize: Normalize,
}

impl Pictures {
    pub(super) fn new(scale: usize, split: PairSplit, patches: PatchSettings, normalize: Normalize) -> Result<Self> {
        let PairSplit { train, test, validation } = split;
        patches.check(&train)?;
        for pairs in [Some(&train), Some(&test), validation.as_ref()].into_iter().flatten() {
            check_pictures(scale, pairs)?;
        }
        Ok(Self { train: Some(train), validation, test, patches, normalize })
    }

    /// Test pictures alone.
    pub(super) fn of_test(scale: usize, test: Pairs, normalize: Normalize) -> Result<Self> {
        check_pictures(scale, &test)?;
        let patches = PatchSettings { side: 1, each: 1, flip: false, quarter_turns: false };
        Ok(Self { train: None, validation: None, test, patches, normalize })
    }

    /// Returns the pictures of a part.
    pub fn part(&self, part: Part) -> Option<&Pairs> {
        match part {
            Part::Train => self.train.as_ref(),
            Part::Validation => self.validation.as_ref(),
            Part::Test => Some(&self.test),
        }
    }
}

/// Checks the scale, and that the metrics can judge every picture.
fn check_pictures(scale: usize, pairs: &Pairs) -> Result<()> {
    let wrong =
        |place: String, expected: String, found: String| Err(DataError::Unexpected { place, expected, found }.into());
    if pairs.scale() != scale {
        let expected = format!("pictures for a scale of {scale}, as the network has");
        return wrong(pairs.name.clone(), expected, pairs.scale().to_string());
    }
    let least = least_side(scale);
    match (0..pairs.len()).find(|&i| pairs.size_of(i).iter().any(|&side| side < least)) {
        None => Ok(()),
        Some(i) => {
            let [height, width] = pairs.size_of(i);
            let expected =
                format!("a small picture of at least {least}x{least} pixels, which SSIM needs at a scale of {scale}");
            wrong(format!("{}: {}", pairs.name, pairs.name_of(i)), expected, format!("{height}x{width}"))
        }
    }
}

impl Data for Pictures {
    /// The number of patches of an epoch, or of pictures to judge by.
    fn len(&self, part: Part) -> usize {
        let each = if part == Part::Train { self.patches.each } else { 1 };
        self.part(part).map_or(0, |pairs| pairs.len().saturating_mul(each))
    }

    fn name(&self, part: Part) -> String {
        self.part(part).map_or_else(|| part.name().into(), |pairs| pairs.name.clone())
    }

    fn epoch(&self, config: &Config, number: u32, skip: usize) -> Result<Batches> {
        let Some(train) = &self.train else { return Ok(Box::new(std::iter::empty())) };
        let patches = Patches::new(train, self.patches, config.batch_size(), &self.normalize, config.seed(), number)?;
        Ok(Box::new(patches.skip_batches(skip).map(|batch| {
            let batch = batch?;
            let samples = batch.small.shape()[0];
            Ok(Batch { inputs: batch.small, samples, targets: Box::new(batch.large) })
        })))
    }

    /// Whole pictures, one at a time, since they have different sizes.
    fn batches(&self, part: Part, _: usize) -> Result<Batches> {
        let Some(pairs) = self.part(part).cloned() else { return Ok(Box::new(std::iter::empty())) };
        let (normalize, pixels) = (self.normalize.clone(), Normalize::none(3));
        Ok(Box::new((0..pairs.len()).map(move |i| {
            let (small, large) = pairs.pair(i)?;
            let (inputs, targets) = (small.normalized(&normalize)?, large.normalized(&pixels)?);
            Ok(Batch { inputs, samples: 1, targets: Box::new(targets) })
        })))
    }

    fn arrays(&self, part: Part) -> Result<Vec<(String, Array)>> {
        let reason = "expected samples of one size, found whole pictures; `fixnet predict` enlarges one";
        Err(Error::Setting { key: format!("samples of {}", self.name(part)), reason: reason.into() })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
