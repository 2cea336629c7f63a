//! What a result depends on of its data: recorded with a network, so that it can be used without the data and compared with
//! other data.

use crate::{ClassDifference, DataError, Dataset, Normalize, Result, Split, classes::check_class_names};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest side, number of channels or number of classes that a description may hold.
const LARGEST: usize = 1 << 16;

/// What a network needs to know of the data it was trained on: the shape of an image, the classes and the normalization of
/// pixels; and fingerprints, which tell whether other data are the same.
///
/// ```
/// use fixnet_data::DataDescription;
/// let digits = fixnet_data::digits()?;
/// let description = DataDescription::of(&digits);
/// assert_eq!((description.shape, description.class_names().unwrap()[9].as_str()), ([28, 28, 1], "9"));
/// let mut metadata = std::collections::BTreeMap::new();
/// description.write_to(&mut metadata);
/// assert_eq!(DataDescription::read_from("a file", &metadata)?, Some(description));
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataDescription {
    /// Height, width and channels of an image.
    pub shape: [usize; 3],
    /// The number of classes.
    pub classes: usize,
    /// What each class is called; `None` in files of versions that did not record it.
    class_names: Option<Vec<String>>,
    /// Mean and standard deviation of each channel over the training images.
    pub normalize: Normalize,
    /// What tells the images from others; `None` where only the network is known.
    pub fingerprints: Option<Fingerprints>,
}

/// [`Dataset::fingerprint`] of the parts of a [`Split`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the training images, without those set apart for validation.
    pub train: String,
    /// Of the test images.
    pub test: String,
    /// Of the images set apart for validation, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
}

impl Fingerprints {
    /// Computes those of `data`.
    pub fn of(data: &Split) -> Self {
        Self {
            train: data.train.fingerprint(),
            test: data.test.fingerprint(),
            validation: data.validation.as_ref().map(Dataset::fingerprint),
        }
    }
}

impl DataDescription {
    /// The key of a description in the metadata of a checkpoint.
    pub const KEY: &str = "data_description";

    /// Describes `data`.
    pub fn of(data: &Split) -> Self {
        let train = &data.train;
        Self {
            shape: train.shape(),
            classes: train.classes,
            class_names: Some(train.class_names().to_vec()),
            normalize: Normalize::of(train),
            fingerprints: Some(Fingerprints::of(data)),
        }
    }

    /// Describes the data of a network of which no more is known than its input, its classes and its normalization.
    ///
    /// # Errors
    /// A number of the shape or of the classes is 0 or more than 65536, the channels are not those of `normalize`, or the
    /// names are not one per class.
    pub fn of_network(
        place: &str,
        shape: [usize; 3],
        classes: usize,
        class_names: Option<Vec<String>>,
        normalize: Normalize,
    ) -> Result<Self> {
        let description = Self { shape, classes, class_names, normalize, fingerprints: None };
        description.check(place)?;
        Ok(description)
    }

    /// Checks what a file may have wrong.
    fn check(&self, place: &str) -> Result<()> {
        let wrong =
            |expected: String, found: String| Err(DataError::Unexpected { place: place.into(), expected, found });
        let sizes = [&self.shape[..], &[self.classes]].concat();
        if sizes.iter().any(|size| !(1..=LARGEST).contains(size)) {
            return wrong(format!("images and classes of 1 to {LARGEST}"), format!("{sizes:?}"));
        }
        let channels = self.normalize.mean().len();
        if channels != self.shape[2] {
            return wrong(format!("{} means and deviations, one per channel", self.shape[2]), channels.to_string());
        }
        self.class_names.as_ref().map_or(Ok(()), |names| check_class_names(place, names, self.classes))
    }

    /// What each class is called, the first that of class 0; `None` if it was not recorded.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// Adds the description to the metadata of a file.
    pub fn write_to(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(Self::KEY.into(), serde_json::to_string(self).expect("a description is plain data"));
    }

    /// Reads the description in the metadata of the file `place`; `None` if there is none, as in files of fixnet 0.1.
    ///
    /// # Errors
    /// What is there is damaged or contradicts itself.
    pub fn read_from(place: &str, metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let Some(text) = metadata.get(Self::KEY) else { return Ok(None) };
        let place = format!("{place}: {}", Self::KEY);
        let description: Self = serde_json::from_str(text).map_err(|e| DataError::Unexpected {
            place: place.clone(),
            expected: "a description of the data".into(),
            found: format!("a damaged one ({e})"),
        })?;
        description.check(&place)?;
        Ok(Some(description))
    }

    /// Checks that `data` are images for this network: of its shape, and of the same classes in the same order.
    ///
    /// # Errors
    /// They are not; the message names the difference.
    pub fn check_images(&self, data: &Dataset) -> Result<()> {
        let place = || data.name.clone();
        if data.shape() != self.shape {
            let [expected, found] = [self.shape, data.shape()].map(|shape| format!("{shape:?}"));
            let expected = format!("images of {expected} (height, width, channels), as the network was trained on");
            return Err(DataError::Unexpected { place: place(), expected, found });
        }
        let difference =
            self.class_names.as_ref().and_then(|names| ClassDifference::between(names, &data.class_names()));
        if let Some(difference) = difference {
            return Err(DataError::OtherClasses { place: place(), of: "the network", difference });
        }
        if data.classes != self.classes {
            let expected = format!("images of {} classes, as the network was trained on", self.classes);
            return Err(DataError::Unexpected { place: place(), expected, found: data.classes.to_string() });
        }
        Ok(())
    }

    /// Checks that `found` describes the same images, in the same order: those that a run began with. `place` names where
    /// these are.
    ///
    /// # Errors
    /// It does not; the message names the part that differs.
    pub fn check_same(&self, place: &str, found: &Self) -> Result<()> {
        if found.shape != self.shape {
            let expected = format!("images of {:?} (height, width, channels), as the run began with", self.shape);
            return Err(DataError::Unexpected { place: place.into(), expected, found: format!("{:?}", found.shape) });
        }
        if let (Some(expected), Some(names)) = (&self.class_names, &found.class_names)
            && let Some(difference) = ClassDifference::between(expected, names)
        {
            return Err(DataError::OtherClasses { place: place.into(), of: "the run", difference });
        }
        let (Some(expected), Some(found)) = (&self.fingerprints, &found.fingerprints) else { return Ok(()) };
        let parts = [
            ("training", Some(&expected.train), Some(&found.train)),
            ("validation", expected.validation.as_ref(), found.validation.as_ref()),
            ("test", Some(&expected.test), Some(&found.test)),
        ];
        match parts.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((part, expected, found)) => Err(DataError::OtherImages {
                place: place.into(),
                part,
                expected: short(expected),
                found: short(found),
            }),
        }
    }
}

/// The beginning of a fingerprint, for messages.
fn short(fingerprint: Option<&String>) -> String {
    fingerprint.map_or_else(|| "none".into(), |text| text.chars().take(12).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(names: [&str; 2], pixels: [u8; 4]) -> Dataset {
        let data = Dataset::new("d", [1, 1, 2], 2, pixels.to_vec(), vec![0, 1]).unwrap();
        data.with_class_names(names.map(String::from).to_vec()).unwrap()
    }

    fn described(names: [&str; 2], train: [u8; 4], test: [u8; 4]) -> DataDescription {
        DataDescription::of(&Split::new(dataset(names, train), dataset(names, test)).unwrap())
    }

    fn text(result: Result<()>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_description_comes_back_to_the_bit() {
        let description = described(["a", "b"], [1, 2, 4, 250], [9, 8, 7, 6]);
        let mut metadata = BTreeMap::new();
        assert_eq!(DataDescription::read_from("f", &metadata).unwrap(), None);
        description.write_to(&mut metadata);
        let read = DataDescription::read_from("f", &metadata).unwrap().unwrap();
        assert_eq!(read, description);
        let bits = |d: &DataDescription| {
            [d.normalize.mean(), d.normalize.std()].concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(&read), bits(&description));
        let good = metadata[DataDescription::KEY].clone();
        for (from, to, word) in [
            ("[1,1,2]", "[1,1,3]", "3 means and deviations, one per channel"),
            ("[1,1,2]", "[0,1,2]", "images and classes of 1 to 65536"),
            ("[1,1,2]", "[1,99999,2]", "images and classes of 1 to 65536"),
            ("\"classes\":2", "\"classes\":3", "3 class names, one per class"),
            ("\"b\"", "\"a\"", "`a` for classes 0 and 1"),
            ("\"std\":[", "\"std\":[-", "deviations above 0"),
            ("{", "", "a damaged one"),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            metadata.insert(DataDescription::KEY.into(), good.replacen(from, to, 1));
            let e = DataDescription::read_from("f", &metadata).unwrap_err().to_string();
            assert!(e.starts_with("f: data_description: ") && e.contains(word), "{e}");
        }
    }

    #[test]
    fn other_images_are_told_by_their_part() {
        let (train, test) = ([1, 2, 4, 250], [9, 8, 7, 6]);
        let run = described(["a", "b"], train, test);
        run.check_same("p", &run.clone()).unwrap();
        let e = text(run.check_same("p", &described(["a", "b"], [4, 250, 1, 2], test)));
        assert!(e.starts_with("p: expected the training images that the run began with ("), "{e}");
        let e = text(run.check_same("p", &described(["a", "b"], train, [9, 8, 7, 5])));
        assert!(e.starts_with("p: expected the test images that the run began with ("), "{e}");
        let e = text(run.check_same("p", &described(["b", "a"], train, test)));
        assert!(e.contains("in another place `b` (class 0 instead of 1)"), "{e}");
        let split = Split::new(dataset(["a", "b"], train), dataset(["a", "b"], test)).unwrap();
        let apart = DataDescription::of(&split.with_validation(0.5, 1).unwrap());
        let e = text(apart.check_same("p", &run));
        assert!(e.contains("training images"), "{e}");
    }

    #[test]
    fn images_of_other_classes_are_refused() {
        let run = described(["a", "b"], [1, 2, 4, 250], [9, 8, 7, 6]);
        run.check_images(&dataset(["a", "b"], [0; 4])).unwrap();
        let e = text(run.check_images(&dataset(["b", "z"], [0; 4])));
        assert_eq!(
            e,
            "d: expected the classes of the network, found others: missing `a` (class 0); unexpected `z` (class 1); in \
             another place `b` (class 0 instead of 1)"
        );
        let wide = Dataset::new("w", [1, 2, 2], 2, vec![0; 4], vec![0]).unwrap();
        assert!(text(run.check_images(&wide)).starts_with("w: expected images of [1, 1, 2]"));
        // Of a file that does not say what its classes are, their number counts.
        let unnamed = DataDescription { class_names: None, ..run };
        unnamed.check_images(&dataset(["b", "z"], [0; 4])).unwrap();
        let three = Dataset::new("t", [1, 1, 2], 3, vec![0; 2], vec![0]).unwrap();
        assert!(text(unnamed.check_images(&three)).contains("expected images of 2 classes"));
    }
}
