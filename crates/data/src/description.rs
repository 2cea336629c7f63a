//! What a result depends on of its data: recorded with a network, so that it can be used without the data and compared with
//! other data.

use crate::columns::check_columns;
use crate::{
    ClassDifference, ClipForm, DataError, Dataset, Normalize, Result, Split, Targets, classes::check_class_names,
    samples::noun,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The largest side, number of channels or number of classes that a description may hold.
const LARGEST: usize = 1 << 16;

/// What a classifier needs to know of the data it was trained on: the shape of a sample, the classes and the normalization of
/// pixels or columns; and fingerprints, which tell whether other data are the same.
///
/// ```
/// use fixnet_data::DataDescription;
/// let digits = fixnet_data::digits()?;
/// let description = DataDescription::of(&digits);
/// assert_eq!((description.shape.clone(), description.class_names().unwrap()[9].as_str()), (vec![28, 28, 1], "9"));
/// let mut metadata = std::collections::BTreeMap::new();
/// description.write_to(&mut metadata);
/// assert_eq!(DataDescription::read_from("a file", &metadata)?, Some(description));
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataDescription {
    /// Height, width and channels of an image, steps and channels of a sequence, or the number of columns of a row.
    pub shape: Vec<usize>,
    /// The number of classes.
    pub classes: usize,
    /// What each class is called; `None` in files of versions that did not record it.
    class_names: Option<Vec<String>>,
    /// What each column of a table is called, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    /// How sequences are made of recordings, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clips: Option<ClipForm>,
    /// Mean and standard deviation of each channel or column over the training data.
    pub normalize: Normalize,
    /// What tells the data from others; `None` where only the network is known.
    pub fingerprints: Option<Fingerprints>,
}

/// [`Dataset::fingerprint`] of the parts of a [`Split`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the training data, without those set apart for validation.
    pub train: String,
    /// Of the test data.
    pub test: String,
    /// Of the data set apart for validation, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
}

impl Fingerprints {
    /// Computes those of `data`.
    pub fn of<T: Targets>(data: &Split<T>) -> Self {
        Self {
            train: data.train.fingerprint(),
            test: data.test.fingerprint(),
            validation: data.validation.as_ref().map(Dataset::fingerprint),
        }
    }

    /// Checks that `found` are the same, where both are known. `place` names the data, whose samples are called `noun`.
    pub(crate) fn check_same(
        expected: Option<&Self>,
        found: Option<&Self>,
        place: &str,
        noun: &'static str,
    ) -> Result<()> {
        let (Some(expected), Some(found)) = (expected, found) else { return Ok(()) };
        let parts = [
            ("training", Some(&expected.train), Some(&found.train)),
            ("validation", expected.validation.as_ref(), found.validation.as_ref()),
            ("test", Some(&expected.test), Some(&found.test)),
        ];
        let Some((part, expected, found)) = parts.into_iter().find(|(_, expected, found)| expected != found) else {
            return Ok(());
        };
        let (place, expected, found) = (place.into(), short(expected), short(found));
        match noun {
            "images" => Err(DataError::OtherImages { place, part, expected, found }),
            _ => {
                let expected = format!("the {part} {noun} that the run began with ({expected})");
                Err(DataError::Unexpected { place, expected, found: format!("others ({found})") })
            }
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
            shape: train.shape().to_vec(),
            classes: train.classes(),
            class_names: Some(train.class_names().to_vec()),
            columns: train.columns().map(<[String]>::to_vec),
            clips: train.clips(),
            normalize: Normalize::of(train),
            fingerprints: Some(Fingerprints::of(data)),
        }
    }

    /// Describes the data of a network of which no more is known than its input, its classes and its normalization.
    ///
    /// # Errors
    /// The shape is neither that of an image, nor of a sequence or a row; a number of it or of the classes is 0 or more than 65536, the
    /// channels are not those of `normalize`, or the names are not one per class.
    pub fn of_network(
        place: &str,
        shape: &[usize],
        classes: usize,
        class_names: Option<Vec<String>>,
        normalize: Normalize,
    ) -> Result<Self> {
        let shape = shape.to_vec();
        let description =
            Self { shape, classes, class_names, columns: None, clips: None, normalize, fingerprints: None };
        description.check(place)?;
        Ok(description)
    }

    /// Checks what a file may have wrong.
    fn check(&self, place: &str) -> Result<()> {
        check_sizes(place, &self.shape, Some(self.classes))?;
        check_last_axis(place, &self.shape, &self.normalize, self.columns.as_deref())?;
        self.clips.map_or(Ok(()), |clips| clips.check(place, &self.shape))?;
        self.class_names.as_ref().map_or(Ok(()), |names| check_class_names(place, names, self.classes))
    }

    /// What each class is called, the first that of class 0; `None` if it was not recorded.
    pub fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }

    /// What each column of a table is called, where that is known.
    pub fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
    }

    /// How sequences are made of recordings, where they are.
    pub fn clips(&self) -> Option<ClipForm> {
        self.clips
    }

    /// The same, for sequences that are made of recordings in this way.
    #[must_use]
    pub fn with_clips(self, clips: ClipForm) -> Self {
        Self { clips: Some(clips), ..self }
    }

    /// What samples are called in messages: `images`, `sequences` or `rows`.
    pub fn noun(&self) -> &'static str {
        noun(&self.shape)
    }

    /// Height, width and channels, where samples are images.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        self.shape.as_slice().try_into().ok()
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

    /// Checks that `data` are samples for this network: of its shape and columns, and of the same classes in the same order.
    ///
    /// # Errors
    /// They are not; the message names the difference.
    pub fn check_data(&self, data: &Dataset) -> Result<()> {
        let place = || data.name.clone();
        check_samples(data, &self.shape, self.columns.as_deref())?;
        if let (Some(expected), Some(found)) = (self.clips, data.clips())
            && expected != found
        {
            let expected = format!("features of {expected}, as the network was trained on");
            return Err(DataError::Unexpected { place: place(), expected, found: found.to_string() });
        }
        let difference =
            self.class_names.as_ref().and_then(|names| ClassDifference::between(names, &data.class_names()));
        if let Some(difference) = difference {
            return Err(DataError::OtherClasses { place: place(), of: "the network", difference });
        }
        if data.classes() != self.classes {
            let expected = format!("{} of {} classes, as the network was trained on", self.noun(), self.classes);
            return Err(DataError::Unexpected { place: place(), expected, found: data.classes().to_string() });
        }
        Ok(())
    }

    /// Checks that `found` describes the same samples, in the same order: those that a run began with. `place` names where
    /// these are.
    ///
    /// # Errors
    /// It does not; the message names the part that differs.
    pub fn check_same(&self, place: &str, found: &Self) -> Result<()> {
        check_shape_of_run(place, &self.shape, &found.shape)?;
        check_columns(place, self.columns(), found.columns(), "the run")?;
        if let (Some(expected), Some(names)) = (&self.class_names, &found.class_names)
            && let Some(difference) = ClassDifference::between(expected, names)
        {
            return Err(DataError::OtherClasses { place: place.into(), of: "the run", difference });
        }
        Fingerprints::check_same(self.fingerprints.as_ref(), found.fingerprints.as_ref(), place, self.noun())
    }
}

/// Checks the numbers of a shape, and of classes, that come from a file.
pub(crate) fn check_sizes(place: &str, shape: &[usize], classes: Option<usize>) -> Result<()> {
    let wrong = |expected: String, found: &[usize]| {
        Err(DataError::Unexpected { place: place.into(), expected, found: format!("{found:?}") })
    };
    if !matches!(shape.len(), 1..=3) {
        return wrong("the shape of an image, a sequence or a row".into(), shape);
    }
    let sizes: Vec<usize> = shape.iter().copied().chain(classes).collect();
    match sizes.iter().all(|size| (1..=LARGEST).contains(size)) {
        true => Ok(()),
        false => {
            let classes = if classes.is_some() { " and classes" } else { "" };
            wrong(format!("{}{classes} of 1 to {LARGEST}", noun(shape)), &sizes)
        }
    }
}

/// Checks that normalization and names are those of the last axis.
pub(crate) fn check_last_axis(
    place: &str,
    shape: &[usize],
    normalize: &Normalize,
    columns: Option<&[String]>,
) -> Result<()> {
    let wrong = |expected: String, found: usize| {
        Err(DataError::Unexpected { place: place.into(), expected, found: found.to_string() })
    };
    let (last, found) = (shape.last().copied().unwrap_or(0), normalize.mean().len());
    if found != last {
        let each = if shape.len() == 1 { "column" } else { "channel" };
        return wrong(format!("{last} means and deviations, one per {each}"), found);
    }
    match columns {
        Some(columns) if columns.len() != last => wrong(format!("{last} names of columns"), columns.len()),
        _ => Ok(()),
    }
}

/// Checks that the samples of `data` have the shape and the columns that a network was trained on.
pub(crate) fn check_samples<T: Targets>(data: &Dataset<T>, shape: &[usize], columns: Option<&[String]>) -> Result<()> {
    check_columns(&data.name, columns, data.columns(), "the network")?;
    if data.shape() == shape {
        return Ok(());
    }
    let expected = format!("{} of {}, as the network was trained on", noun(shape), axes(shape));
    Err(DataError::Unexpected { place: data.name.clone(), expected, found: format!("{:?}", data.shape()) })
}

/// Checks that samples have the shape that a run began with.
pub(crate) fn check_shape_of_run(place: &str, expected: &[usize], found: &[usize]) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    let expected = format!("{} of {}, as the run began with", noun(expected), axes(expected));
    Err(DataError::Unexpected { place: place.into(), expected, found: format!("{found:?}") })
}

fn axes(shape: &[usize]) -> String {
    let axes = match shape.len() {
        3 => "height, width, channels",
        2 => "steps, channels",
        _ => "columns",
    };
    format!("{shape:?} ({axes})")
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
            ("[1,1,2]", "[1,1,1,2]", "the shape of an image, a sequence or a row"),
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
    fn columns_are_compared_by_name_and_order() {
        let names = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let of = |a: &str, b: &str| check_columns("t", Some(&names(a)), Some(&names(b)), "the network");
        of("a b", "a b").unwrap();
        assert_eq!(
            text(of("a b c", "a c b")),
            "t: expected the columns of the network, found another order: `c` in place of `b`"
        );
        assert_eq!(
            text(of("a b c", "a d")),
            "t: expected the columns of the network, found others: missing `b`, `c`; unexpected `d`"
        );
        check_columns("t", None, Some(&names("a")), "the network").unwrap();
    }

    #[test]
    fn images_of_other_classes_are_refused() {
        let run = described(["a", "b"], [1, 2, 4, 250], [9, 8, 7, 6]);
        run.check_data(&dataset(["a", "b"], [0; 4])).unwrap();
        let e = text(run.check_data(&dataset(["b", "z"], [0; 4])));
        assert_eq!(
            e,
            "d: expected the classes of the network, found others: missing `a` (class 0); unexpected `z` (class 1); in \
             another place `b` (class 0 instead of 1)"
        );
        let wide = Dataset::new("w", [1, 2, 2], 2, vec![0; 4], vec![0]).unwrap();
        assert!(text(run.check_data(&wide)).starts_with("w: expected images of [1, 1, 2]"));
        // Of a file that does not say what its classes are, their number counts.
        let unnamed = DataDescription { class_names: None, ..run };
        unnamed.check_data(&dataset(["b", "z"], [0; 4])).unwrap();
        let three = Dataset::new("t", [1, 1, 2], 3, vec![0; 2], vec![0]).unwrap();
        assert!(text(unnamed.check_data(&three)).contains("expected images of 2 classes"));
    }
}
