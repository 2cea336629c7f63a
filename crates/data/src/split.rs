//! Data in parts: to learn from, to judge by, and held out for judging on the way.

use crate::{DataError, Dataset, Labels, Result, Targets, columns::check_columns};

/// Training and test samples of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<T: Targets = Labels> {
    /// For learning.
    pub train: Dataset<T>,
    /// For measuring at the end.
    pub test: Dataset<T>,
    /// For measuring on the way, if the source has such samples or a share of the training samples was set apart.
    pub validation: Option<Dataset<T>>,
}

impl<T: Targets> Split<T> {
    /// A pair of data sets.
    ///
    /// # Errors
    /// They differ in shape or in the names of their columns, or in the number, the names or the order of their classes.
    pub fn new(train: Dataset<T>, test: Dataset<T>) -> Result<Self> {
        if kind(&train) != kind(&test) {
            return Err(DataError::Mismatch { train: kind(&train), test: kind(&test), place: test.name });
        }
        check_columns(&test.name, train.columns(), test.columns(), "the training data")?;
        train.targets().check_test(&test.name, test.targets())?;
        train.check_resolution()?;
        Ok(Self { train, test, validation: None })
    }

    /// Adds samples for measuring on the way that the source has apart from the training samples.
    ///
    /// # Errors
    /// As [`new`](Self::new), of these samples.
    pub fn with_validation_data(self, validation: Dataset<T>) -> Result<Self> {
        let train = &self.train;
        if kind(train) != kind(&validation) {
            let expected = format!("validation data of {}, as in training", kind(train));
            let found = kind(&validation);
            return Err(DataError::Unexpected { place: validation.name, expected, found });
        }
        check_columns(&validation.name, train.columns(), validation.columns(), "the training data")?;
        train.targets().check_test(&validation.name, validation.targets())?;
        Ok(Self { validation: Some(validation), ..self })
    }

    /// Sets a share of the training samples apart for validation, drawn by `seed` alone; 0 leaves all as it is. The shares of
    /// the classes are kept, and a class of two samples or more has at least one of them in either part.
    ///
    /// # Errors
    /// `share` is not between 0 and 1, there are fewer than two training samples, or there are validation samples already.
    pub fn with_validation(mut self, share: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&share) {
            return Err(DataError::setting("validation", "a share of the training images from 0 to below 1", share));
        }
        if share == 0.0 {
            return Ok(self);
        }
        if let Some(there) = &self.validation {
            let expected = format!("0, since {} has the validation images", there.name);
            return Err(DataError::setting("validation", &expected, share));
        }
        let name = format!("{}, set apart for validation", self.train.name);
        let (train, validation) = match self.train.targets().groups() {
            Some(_) => self.train.apart_by_group(share, seed, &name)?,
            None => self.train.apart(share, seed, &name)?,
        };
        (self.train, self.validation) = (train, Some(validation));
        Ok(self)
    }
}

impl Split {
    /// Checks that the rows of a table share classes: a column in which each row has a value of its own names rows. `alone` says that the
    /// test rows are the training rows.
    ///
    /// # Errors
    /// No class has two rows.
    pub(crate) fn check_classes_recur(&self, target: Option<&str>, alone: bool) -> Result<()> {
        let train = &self.train;
        let test = if alone { &[][..] } else { self.test.labels() };
        let mut occurs = vec![false; train.classes()];
        let mut labels = train.labels().iter().chain(test);
        let recurs = labels.any(|&label| std::mem::replace(&mut occurs[usize::from(label)], true));
        let rows = train.len() + test.len();
        if recurs || train.shape().len() != 1 || rows < 2 {
            return Ok(());
        }
        let place = match target {
            Some(column) => format!("{}: column `{column}`", train.name),
            None => train.name.clone(),
        };
        let names = train.class_names();
        let shown = names.iter().take(2).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Err(DataError::Unexpected {
            place,
            expected: "classes that several rows have (name the column of the classes with --target; the task regression predicts \
                       numbers)"
                .into(),
            found: format!("a class of its own for each of {rows} rows ({shown}, …)"),
        })
    }
}

/// The shape of samples and the kind of their targets.
fn kind<T: Targets>(data: &Dataset<T>) -> String {
    format!("{:?} and {}", data.shape(), data.targets().kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_agree_in_shape() {
        let a = Dataset::new("a", [1, 2, 1], 2, vec![0; 4], vec![0, 1]).unwrap();
        let b = Dataset::new("b", [2, 1, 1], 2, vec![0; 4], vec![0, 1]).unwrap();
        assert!(Split::new(a.clone(), a.clone()).is_ok());
        let e = Split::new(a, b).unwrap_err().to_string();
        assert_eq!(
            e,
            "b: expected test data of [1, 2, 1] and 2 classes, as in training, found [2, 1, 1] and 2 classes"
        );
    }

    #[test]
    fn validation_is_a_share_of_the_training_images_by_seed() {
        let a = Dataset::new("a", [1, 1, 1], 50, (0..50).collect(), (0..50).collect()).unwrap();
        let split = |share, seed| Split::new(a.clone(), a.clone()).unwrap().with_validation(share, seed).unwrap();
        let (one, other) = (split(0.2, 1), split(0.2, 2));
        let apart = one.validation.clone().unwrap();
        assert_eq!((one.train.len(), apart.len(), one.test.len()), (40, 10, 50));
        let mut all = [one.train.labels(), apart.labels()].concat();
        assert!(one.train.labels().is_sorted() && apart.labels().is_sorted());
        all.sort_unstable();
        assert_eq!(all, a.labels());
        assert!((0..10).all(|i| u16::from(apart.image(i).unwrap()[0]) == apart.labels()[i]));
        assert_eq!(one, split(0.2, 1));
        assert_ne!(apart, other.validation.unwrap());
        assert_eq!(split(0.0, 1), Split::new(a.clone(), a.clone()).unwrap());
        assert_eq!(split(0.999, 1).train.len(), 1);
        for share in [-0.1, 1.0, f64::NAN] {
            let e = Split::new(a.clone(), a.clone()).unwrap().with_validation(share, 1).unwrap_err().to_string();
            assert!(e.starts_with("validation: expected a share"), "{e}");
        }
    }
}
