//! What a network that answers with a number needs to know of its data: recorded with it, as [`DataDescription`] is with a
//! classifier.
//!
//! [`DataDescription`]: crate::DataDescription

use crate::{
    DataError, Dataset, Fingerprints, Normalize, Numbers, Result, Split,
    columns::check_columns,
    description::{check_last_axis, check_samples, check_shape_of_run, check_sizes},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shape of a sample, the normalization of pixels or columns, the target and its scale; and fingerprints, which tell
/// whether other data are the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NumberDescription {
    /// Height, width and channels of an image, steps and channels of a sequence, or the number of columns of a row.
    pub shape: Vec<usize>,
    /// What each column of a table is called, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    /// Mean and standard deviation of each channel or column over the training data.
    pub normalize: Normalize,
    /// What is predicted.
    pub target: Target,
    /// What tells the data from others; `None` where only the network is known.
    pub fingerprints: Option<Fingerprints>,
}

/// A number that is predicted, and the scale on which it is learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The name of its column, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The mean over the training data.
    pub mean: f32,
    /// The standard deviation over the training data, above 0.
    pub deviation: f32,
}

impl Target {
    /// Returns what the target is called in messages and figures: its column, or `target`.
    pub fn name(&self) -> &str {
        self.column.as_deref().unwrap_or("target")
    }

    /// Returns a number on the scale on which it is learned: `(value - mean) / deviation`.
    pub fn standardized(&self, value: f64) -> f64 {
        (value - f64::from(self.mean)) / f64::from(self.deviation)
    }
}

impl NumberDescription {
    /// The key of a description in the metadata of a checkpoint.
    pub const KEY: &str = "number_description";

    /// Describes `data`.
    pub fn of(data: &Split<Numbers>) -> Self {
        let train = &data.train;
        let [mean, deviation] = train.targets().moments();
        Self {
            shape: train.shape().to_vec(),
            columns: train.columns().map(<[String]>::to_vec),
            normalize: Normalize::of(train),
            target: Target { column: train.targets().column().map(String::from), mean, deviation },
            fingerprints: Some(Fingerprints::of(data)),
        }
    }

    /// Describes the data of a network of which no more is known than its input, its normalization and its target.
    ///
    /// # Errors
    /// The shape is neither that of an image, nor of a sequence or a row, or a number of it is 0 or more than 65536; the channels are not those
    /// of `normalize`; or the scale of the target is none.
    pub fn of_network(place: &str, shape: &[usize], normalize: Normalize, target: Target) -> Result<Self> {
        let description = Self { shape: shape.to_vec(), columns: None, normalize, target, fingerprints: None };
        description.check(place)?;
        Ok(description)
    }

    /// Checks what a file may have wrong.
    fn check(&self, place: &str) -> Result<()> {
        check_sizes(place, &self.shape, None)?;
        check_last_axis(place, &self.shape, &self.normalize, self.columns.as_deref())?;
        let Target { mean, deviation, .. } = self.target;
        match mean.is_finite() && deviation.is_finite() && deviation > 0.0 {
            true => Ok(()),
            false => {
                let expected = "a finite mean and deviation of the target, the deviation above 0".into();
                Err(DataError::Unexpected { place: place.into(), expected, found: format!("{mean} and {deviation}") })
            }
        }
    }

    /// What each column of a table is called, where that is known.
    pub fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
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
        let wrong = |found: String| DataError::Unexpected {
            place: place.clone(),
            expected: "a description of the data".into(),
            found,
        };
        let text = metadata.get(Self::KEY).ok_or_else(|| wrong("none".into()))?;
        let description: Self = serde_json::from_str(text).map_err(|e| wrong(format!("a damaged one ({e})")))?;
        description.check(&place)?;
        Ok(description)
    }

    /// Checks that `data` are samples for this network: of its shape and columns.
    ///
    /// # Errors
    /// They are not; the message names the difference.
    pub fn check_data(&self, data: &Dataset<Numbers>) -> Result<()> {
        check_samples(data, &self.shape, self.columns.as_deref())
    }

    /// Checks that `found` describes the same samples, in the same order: those that a run began with. `place` names where
    /// these are.
    ///
    /// # Errors
    /// It does not; the message names the part that differs.
    pub fn check_same(&self, place: &str, found: &Self) -> Result<()> {
        check_shape_of_run(place, &self.shape, &found.shape)?;
        check_columns(place, self.columns.as_deref(), found.columns.as_deref(), "the run")?;
        if let (Some(expected), Some(column)) = (&self.target.column, &found.target.column)
            && expected != column
        {
            let expected = format!("the target `{expected}`, as the run began with");
            return Err(DataError::Unexpected { place: place.into(), expected, found: format!("`{column}`") });
        }
        let noun = crate::samples::noun(&self.shape);
        Fingerprints::check_same(self.fingerprints.as_ref(), found.fingerprints.as_ref(), place, noun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(values: [f64; 3]) -> Split<Numbers> {
        let rows = |name: &str| {
            let targets = Numbers::new(name, Some("price"), values.to_vec()).unwrap();
            let rows = Dataset::of_floats(name, &[2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 9.0], targets).unwrap();
            rows.with_columns(vec!["size".into(), "age".into()]).unwrap()
        };
        Split::new(rows("train"), rows("test")).unwrap()
    }

    #[test]
    fn a_description_comes_back_and_damage_is_named() {
        let description = NumberDescription::of(&split([10.0, 20.0, 30.0]));
        assert_eq!((description.target.name(), description.target.mean), ("price", 20.0));
        let mut metadata = BTreeMap::new();
        description.write_to(&mut metadata);
        assert_eq!(NumberDescription::read_from("f", &metadata).unwrap(), description);
        let good = metadata[NumberDescription::KEY].clone();
        for (from, to, word) in [
            ("[2]", "[3]", "3 means and deviations, one per column"),
            ("[2]", "[2,2,2,2]", "the shape of an image, a sequence or a row"),
            ("[2]", "[0]", "rows of 1 to 65536"),
            ("\"age\"", "\"age\",\"x\"", "2 names of columns"),
            ("\"deviation\":", "\"deviation\":-", "the deviation above 0"),
            ("{", "", "a damaged one"),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            metadata.insert(NumberDescription::KEY.into(), good.replacen(from, to, 1));
            let e = NumberDescription::read_from("f", &metadata).unwrap_err().to_string();
            assert!(e.starts_with("f: number_description: ") && e.contains(word), "{e}");
        }
        assert!(NumberDescription::read_from("f", &BTreeMap::new()).unwrap_err().to_string().ends_with("found none"));
    }

    #[test]
    fn other_rows_are_told_by_their_part() {
        let run = NumberDescription::of(&split([10.0, 20.0, 30.0]));
        run.check_same("p", &run.clone()).unwrap();
        let e = run.check_same("p", &NumberDescription::of(&split([10.0, 20.0, 31.0]))).unwrap_err().to_string();
        assert!(e.starts_with("p: expected the training rows that the run began with ("), "{e}");
        let mut other = run.clone();
        other.target.column = Some("rent".into());
        let e = run.check_same("p", &other).unwrap_err().to_string();
        assert_eq!(e, "p: expected the target `price`, as the run began with, found `rent`");
    }
}
