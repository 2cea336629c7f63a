//! What a detector needs to know of its data: recorded with it, as [`DataDescription`] is with a classifier.
//!
//! [`DataDescription`]: crate::DataDescription

use super::placement::check_sides;
use super::{DetectionSet, DetectionSplit};
use crate::classes::check_class_names;
use crate::error::unexpected;
use crate::{ClassDifference, DataError, Fingerprints, Normalize, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Checks that there is one number for each class, and none twice.
///
/// # Errors
/// There is not. The message begins with `place`.
pub(crate) fn check_category_ids(place: &str, ids: &[u64], classes: usize) -> Result<()> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    match sorted.len() == classes && ids.len() == classes {
        true => Ok(()),
        false => Err(unexpected(
            place,
            format!("{classes} ids of categories that differ"),
            format!("{} of {}", sorted.len(), ids.len()),
        )),
    }
}

/// The canvas, the classes and the normalization of pixels; and fingerprints, which tell whether other data are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionDescription {
    /// Height and width of the canvas on which images are placed.
    pub canvas: [usize; 2],
    /// What each class is called, the first that of class 0.
    pub class_names: Vec<String>,
    /// The number of each class in a file of COCO, where the classes come from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category_ids: Option<Vec<u64>>,
    /// Mean and standard deviation of each colour.
    pub normalize: Normalize,
    /// What tells the data from others; `None` where only the network is known.
    pub fingerprints: Option<Fingerprints>,
}

impl DetectionDescription {
    /// The key of a description in the metadata of a checkpoint.
    pub const KEY: &str = "detection_description";

    /// Describes `data`, of which a network sees canvases of `[height, width]` with this normalization.
    pub fn of(data: &DetectionSplit, canvas: [usize; 2], normalize: Normalize) -> Self {
        let of = |set: &DetectionSet| set.fingerprint().to_string();
        let fingerprints =
            Fingerprints { train: of(&data.train), test: of(&data.test), validation: data.validation.as_ref().map(of) };
        let class_names = data.train.class_names().to_vec();
        let category_ids = data.train.category_ids().map(<[u64]>::to_vec);
        Self { canvas, class_names, category_ids, normalize, fingerprints: Some(fingerprints) }
    }

    /// Checks what a file may have wrong.
    ///
    /// # Errors
    /// A side of the canvas is 0 or more than 16384; there are no classes, or a name is empty or there twice; or the normalization is not
    /// one of three channels. `place` names the file.
    pub fn check(&self, place: &str) -> Result<()> {
        check_sides(place, self.canvas)?;
        if self.class_names.is_empty() {
            return Err(unexpected(place, "at least one class", "none"));
        }
        check_class_names(place, &self.class_names, self.class_names.len())?;
        if let Some(ids) = &self.category_ids {
            check_category_ids(place, ids, self.class_names.len())?;
        }
        match self.normalize.mean().len() {
            3 => Ok(()),
            found => Err(unexpected(place, "a normalization of three channels", found)),
        }
    }

    /// Adds the description to the metadata of a file.
    pub fn write_to(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(Self::KEY.into(), serde_json::to_string(self).expect("a description is plain data"));
    }

    /// Reads the description in the metadata of the file `place`.
    ///
    /// # Errors
    /// There is none, or what is there is damaged or contradicts itself.
    pub fn read_from(place: &str, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let place = format!("{place}: {}", Self::KEY);
        let wrong = |found: String| unexpected(&place, "a description of the data", found);
        let text = metadata.get(Self::KEY).ok_or_else(|| wrong("none".into()))?;
        let description: Self = serde_json::from_str(text).map_err(|e| wrong(format!("a damaged one ({e})")))?;
        description.check(&place)?;
        Ok(description)
    }

    /// Checks that `found` describes the same images, in the same order: those that a run began with. `place` names where these are.
    ///
    /// # Errors
    /// It does not; the message names the part that differs.
    pub fn check_same(&self, place: &str, found: &Self) -> Result<()> {
        if self.canvas != found.canvas {
            let [expected, found] = [self.canvas, found.canvas].map(|canvas| format!("a canvas of {canvas:?}"));
            return Err(unexpected(place, format!("{expected} (height, width), as the run began with"), found));
        }
        if let Some(difference) = ClassDifference::between(&self.class_names, &found.class_names) {
            return Err(DataError::OtherClasses { place: place.into(), of: "the run", difference });
        }
        Fingerprints::check_same(self.fingerprints.as_ref(), found.fingerprints.as_ref(), place, "images")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnotatedImage, Picture};

    fn described(pixel: u8) -> DetectionDescription {
        let image = AnnotatedImage { name: "i".into(), id: 0, size: [1, 1], annotations: vec![] };
        let set = |pixel| {
            let picture = Picture::new(1, 1, vec![pixel; 3]).unwrap();
            DetectionSet::new("d", vec!["a".into(), "b".into()], vec![(image.clone(), picture)]).unwrap()
        };
        DetectionDescription::of(&DetectionSplit::new(set(pixel), set(9), None).unwrap(), [32, 64], Normalize::none(3))
    }

    #[test]
    fn a_description_comes_back_and_knows_its_data() {
        let description = described(1);
        let mut metadata = BTreeMap::new();
        assert!(DetectionDescription::read_from("f", &metadata).unwrap_err().to_string().ends_with("found none"));
        description.write_to(&mut metadata);
        assert_eq!(DetectionDescription::read_from("f", &metadata).unwrap(), description);
        description.check_same("p", &described(1)).unwrap();
        let e = description.check_same("p", &described(2)).unwrap_err().to_string();
        assert!(e.starts_with("p: expected the training images that the run began with ("), "{e}");
        let other = DetectionDescription { canvas: [32, 32], ..described(1) };
        let e = description.check_same("p", &other).unwrap_err().to_string();
        assert!(e.contains("a canvas of [32, 64] (height, width), as the run began with"), "{e}");
        let good = metadata[DetectionDescription::KEY].clone();
        for (from, to, word) in [
            ("[32,64]", "[0,64]", "a height and a width from 1 to 16384"),
            ("\"b\"", "\"a\"", "class names that differ"),
            ("[\"a\",\"b\"]", "[]", "at least one class"),
            ("[0.0,0.0,0.0]", "[0.0,0.0]", "a damaged one"),
            ("{", "", "a damaged one"),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            metadata.insert(DetectionDescription::KEY.into(), good.replacen(from, to, 1));
            let e = DetectionDescription::read_from("f", &metadata).unwrap_err().to_string();
            assert!(e.starts_with("f: detection_description: ") && e.contains(word), "{e}");
        }
    }
}
