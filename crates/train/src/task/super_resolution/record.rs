//! What a network for super-resolution has to know of its data, and what tells these from others: the record in a checkpoint.

use crate::Result;
use fixnet_data::{DataError, Fingerprints, Normalize, PairSplit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key of the record in the metadata of a checkpoint.
const KEY: &str = "super_resolution";
/// The largest side of an input that a record may have.
const LARGEST: usize = 1 << 14;

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    scale: usize,
    /// Height and width of the patches that it learns from: the shape by which the network is summarized.
    pub(super) input: [usize; 2],
    pub(super) normalize: Normalize,
    fingerprints: Option<Fingerprints>,
}

impl Record {
    pub(super) fn of(scale: usize, split: &PairSplit, input: [usize; 2], normalize: Normalize) -> Self {
        let fingerprints = Fingerprints {
            train: split.train.fingerprint().into(),
            test: split.test.fingerprint().into(),
            validation: split.validation.as_ref().map(|pairs| pairs.fingerprint().into()),
        };
        Self { scale, input, normalize, fingerprints: Some(fingerprints) }
    }

    /// The record of a network whose data are not known.
    pub(super) fn unseen(scale: usize, input: [usize; 2], normalize: Normalize) -> Self {
        Self { scale, input, normalize, fingerprints: None }
    }

    pub(super) fn write_to(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(KEY.into(), serde_json::to_string(self).expect("a record is plain data"));
    }

    /// Reads the record in the metadata of the checkpoint `place`, of a network that enlarges `scale` times.
    pub(super) fn read_from(place: &str, scale: usize, metadata: &BTreeMap<String, String>) -> Result<Self> {
        let place = format!("{place}: {KEY}");
        let wrong = |expected: &str, found: String| DataError::Unexpected {
            place: place.clone(),
            expected: expected.into(),
            found,
        };
        let text =
            metadata.get(KEY).ok_or_else(|| wrong("the record of super-resolution in its metadata", "none".into()))?;
        let record: Self = serde_json::from_str(text).map_err(|e| wrong("a record", format!("a damaged one ({e})")))?;
        if record.scale != scale {
            return Err(wrong(&format!("a scale of {scale}, as the network has"), record.scale.to_string()).into());
        }
        if record.input.iter().any(|side| !(1..=LARGEST).contains(side)) {
            return Err(
                wrong(&format!("an input with sides from 1 to {LARGEST}"), format!("{:?}", record.input)).into()
            );
        }
        match record.normalize.mean().len() {
            3 => Ok(record),
            found => Err(wrong("a normalization of three colours", found.to_string()).into()),
        }
    }

    /// Checks that `found` has the same pictures, in the same order; `place` names where these are.
    pub(super) fn check_same(&self, place: &str, found: &Self) -> Result<()> {
        let (Some(expected), Some(found)) = (&self.fingerprints, &found.fingerprints) else { return Ok(()) };
        let nothing = String::new();
        let validation = |of: &Fingerprints| of.validation.clone().unwrap_or(nothing.clone());
        let parts = [
            ("training", expected.train.clone(), found.train.clone()),
            ("validation", validation(expected), validation(found)),
            ("test", expected.test.clone(), found.test.clone()),
        ];
        let short = |text: &str| if text.is_empty() { "none".into() } else { text.chars().take(16).collect() };
        match parts.into_iter().find(|(_, expected, found)| expected != found) {
            None => Ok(()),
            Some((part, expected, found)) => Err(DataError::OtherImages {
                place: place.into(),
                part,
                expected: short(&expected),
                found: short(&found),
            }
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_damaged_or_of_other_pictures_is_named() {
        let scale = 2;
        let normalize = Normalize::none(3);
        let prints = |train: &str| Fingerprints { train: train.into(), test: "t".into(), validation: None };
        let record = Record { fingerprints: Some(prints("a")), ..Record::unseen(scale, [8, 9], normalize) };
        let mut metadata = BTreeMap::new();
        record.write_to(&mut metadata);
        assert_eq!(Record::read_from("x", scale, &metadata).unwrap(), record);
        let other = Record { fingerprints: Some(prints("b")), ..record.clone() };
        let e = record.check_same("data photos", &other).unwrap_err().to_string();
        assert!(
            e.contains("data photos: expected the training images that the run began with (a), found others (b)"),
            "{e}"
        );
        assert!(record.check_same("", &Record { fingerprints: None, ..other }).is_ok());
        let refused = |text: &str| {
            let metadata = BTreeMap::from([(KEY.to_string(), text.to_string())]);
            Record::read_from("x", scale, &metadata).unwrap_err().to_string()
        };
        let text = &metadata[KEY];
        assert!(refused("{").contains("x: super_resolution: expected a record, found a damaged one"));
        assert!(refused(&text.replace("\"scale\":2", "\"scale\":3")).contains("a scale of 2"));
        assert!(refused(&text.replace("[8,9]", "[8,0]")).contains("sides from 1"));
        assert!(Record::read_from("x", scale, &BTreeMap::new()).unwrap_err().to_string().ends_with("found none"));
    }
}
