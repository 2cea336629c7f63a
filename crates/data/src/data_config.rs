//! Which data a run sees: its source and what else decides about them.

use crate::image_file::MAX_SIDE;
use crate::source::Request;
use crate::{DataDescription, DataError, Dataset, PairSplit, Pairs, Result, Source, Split};
use std::any::Any;

/// A source with what else decides which images are seen.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Where the data come from.
    pub source: Source,
    /// Rows and columns to which images of a folder are scaled; `None` takes them as they are.
    pub image_size: Option<usize>,
    /// Where the test data come from, if from elsewhere than the training data.
    pub test: Option<Source>,
    /// The share of the training images that is set apart for validation, 0 to below 1.
    pub validation: f64,
    /// Draws the validation images, and the test images of a folder that has none.
    pub seed: u64,
}

impl DataConfig {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// A setting is out of its range or does not fit the source.
    pub fn check(&self) -> Result<()> {
        match (self.source.kind()?.scaled, self.image_size) {
            (true, Some(size)) if !(1..=MAX_SIDE).contains(&size) => {
                Err(DataError::setting("image_size", "1 to 16384", size))
            }
            (false, Some(size)) => {
                let expected = format!("left out, since images of {} have one size", self.source);
                Err(DataError::setting("image_size", &expected, size))
            }
            _ if !(0.0..1.0).contains(&self.validation) => Err(DataError::setting(
                "validation",
                "a share of the training images from 0 to below 1",
                self.validation,
            )),
            _ => Ok(()),
        }
    }

    /// Reads or makes the data.
    ///
    /// # Errors
    /// A file is missing or broken, or a setting does not fit ([`DataConfig::check`]).
    pub fn load(&self) -> Result<Split> {
        self.check()?;
        let split = self.source.kind()?.reader.labelled(&self.request(&self.source))?;
        let split = match &self.test {
            Some(_) => Split { test: self.load_test(&DataDescription::of(&split))?, ..split },
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads or makes the test images alone, for `network`: no training images are needed, and none are looked at.
    ///
    /// # Errors
    /// A file is missing or broken; the images have another shape than those that the network was trained on, or other
    /// classes ([`DataDescription::check_images`]).
    pub fn load_test(&self, network: &DataDescription) -> Result<Dataset> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        let test = source.kind()?.reader.labelled_test(&self.request(source), network)?;
        network.check_images(&test)?;
        Ok(test)
    }

    /// Reads the pictures of a source for super-resolution, `scale` times enlarged.
    ///
    /// # Errors
    /// The source has no such pictures or no test pictures; a file is missing, broken or of another size.
    pub fn load_pairs(&self, scale: usize) -> Result<PairSplit> {
        self.check()?;
        let read =
            |source: &Source, part, alone| source.kind()?.reader.pairs(&self.request(source), part, scale, alone);
        let train = read(&self.source, "train", false)?;
        let test = match &self.test {
            Some(test) => read(test, "test", true)?,
            None => read(&self.source, "test", false)?,
        };
        PairSplit { train, test, validation: None }.with_validation(self.validation, self.seed)
    }

    /// Reads the test pictures alone.
    ///
    /// # Errors
    /// As [`load_pairs`](Self::load_pairs).
    pub fn load_test_pairs(&self, scale: usize) -> Result<Pairs> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        source.kind()?.reader.pairs(&self.request(source), "test", scale, true)
    }

    /// Reads or makes data of another form, for a task of one's own.
    ///
    /// # Errors
    /// A file is missing or broken, the source has no such data, or a setting does not fit.
    pub fn load_other(&self) -> Result<Box<dyn Any + Send + Sync>> {
        self.check()?;
        self.source.kind()?.reader.other(&self.request(&self.source))
    }

    /// Returns whether other seeds choose other data.
    pub fn is_drawn(&self) -> bool {
        let drawn = |source: &Source| source.kind().is_ok_and(|kind| kind.drawn);
        self.validation != 0.0 || drawn(&self.source) || self.test.as_ref().is_some_and(drawn)
    }

    fn request<'a>(&self, source: &'a Source) -> Request<'a> {
        Request { source, image_size: self.image_size, seed: self.seed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_held_to_the_source() {
        let config = |image_size, validation| DataConfig {
            source: Source::default(),
            test: None,
            image_size,
            validation,
            seed: 4,
        };
        let split = config(None, 0.1).load().unwrap();
        assert_eq!((split.train.len(), split.validation.unwrap().len(), split.test.len()), (5400, 600, 1000));
        let e = config(Some(32), 0.0).load().unwrap_err().to_string();
        assert_eq!(e, "image_size: expected left out, since images of digits have one size, found 32");
    }
}
