//! What samples stand for: classes ([`Labels`]) or numbers ([`Numbers`]). Data sets and loaders know targets by one trait.

use crate::{ClassDifference, DataError, Mix, Result, classes::check_class_names, classes::numbers, notes};
use fixnet_tensor::{Budget, Tensor};
use std::{borrow::Cow, fmt, sync::Arc};

/// The targets of a data set, one per sample.
pub trait Targets: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Samples of one step with their targets, as the [`Loader`](crate::Loader) makes them.
    type Batch: Send + 'static;

    /// Returns the number of targets.
    fn len(&self) -> usize;

    /// Returns whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the targets of these indices, in their order.
    ///
    /// # Panics
    /// There is no target of an index.
    #[must_use]
    fn select(&self, indices: &[usize]) -> Self;

    /// Returns what they are, for messages: `10 classes`.
    fn kind(&self) -> String;

    /// Returns the word that stands for their kind in the fingerprint of a data set.
    fn tag(&self) -> String;

    /// Returns their bytes in their order, for the fingerprint of a data set.
    fn bytes(&self) -> Vec<u8>;

    /// Checks that `test`, the targets of the data set `place`, are of the kind of these, the targets to learn from.
    ///
    /// # Errors
    /// They are not; the message names the difference.
    fn check_test(&self, place: &str, test: &Self) -> Result<()>;

    /// Returns the group of each sample whose share is kept where a part is drawn: its class. `None` if there are no groups.
    fn groups(&self) -> Option<&[u16]>;

    /// Returns what is odd about them as targets to learn from, in a few words for the user.
    fn note(&self) -> Option<String> {
        None
    }

    /// Makes the batch of `inputs`, whose samples were drawn as `draws` says. Memory is claimed from `budget`, in the name of
    /// the data set `place`.
    ///
    /// # Errors
    /// The targets take more memory than the budget has.
    fn batch(&self, place: &str, inputs: Tensor, draws: &[Draw], budget: &mut Budget) -> Result<Self::Batch>;
}

/// A sample of a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Its index in the data set.
    pub index: usize,
    /// With mixup or cutmix, the sample that it is mixed with.
    pub mixed: Option<Mix>,
}

/// Samples of one step with their classes.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Normalized images [N, H, W, C], or rows [N, F].
    pub images: Tensor,
    /// The class of each sample; of a mixed one that of the larger share.
    pub labels: Vec<usize>,
    /// With mixup or cutmix the share of each class in each sample, [N, classes].
    pub targets: Option<Tensor>,
}

/// Samples of one step with their numbers.
#[derive(Debug, Clone)]
pub struct NumberBatch {
    /// Normalized images [N, H, W, C], or rows [N, F].
    pub inputs: Tensor,
    /// The target of each sample; of a mixed one the mean of both, weighted by their shares.
    pub targets: Vec<f64>,
}

/// Classes, one per sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Every label is below it.
    classes: usize,
    /// `None` where classes are called by their numbers: there may be many.
    names: Option<Arc<[String]>>,
    values: Arc<[u16]>,
}

impl Labels {
    /// Makes labels of the data set `place`, each below `classes`.
    ///
    /// # Errors
    /// There are no classes, or a label is none of them.
    pub fn new(place: &str, classes: usize, values: Vec<u16>) -> Result<Self> {
        if classes == 0 {
            return Err(DataError::Empty { place: place.into() });
        }
        check_labels(place, &values, classes)?;
        Ok(Self { classes, names: None, values: values.into() })
    }

    /// Gives the classes names, the first that of class 0; `place` is the data set, for messages.
    ///
    /// # Errors
    /// There is not one name per class, one is empty or there twice, or all together take more than 1 MiB.
    pub fn with_names(self, place: &str, names: Vec<String>) -> Result<Self> {
        check_class_names(place, &names, self.classes)?;
        let names = (names != numbers(self.classes)).then(|| names.into());
        Ok(Self { names, ..self })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What each class is called, the first that of class 0.
    pub fn names(&self) -> Cow<'_, [String]> {
        match &self.names {
            Some(names) => Cow::Borrowed(names),
            None => Cow::Owned(numbers(self.classes)),
        }
    }

    /// The classes of the samples.
    pub fn values(&self) -> &[u16] {
        &self.values
    }
}

impl Targets for Labels {
    type Batch = Batch;

    fn len(&self) -> usize {
        self.values.len()
    }

    fn select(&self, indices: &[usize]) -> Self {
        Self { values: indices.iter().map(|&i| self.values[i]).collect(), names: self.names.clone(), ..*self }
    }

    fn kind(&self) -> String {
        format!("{} classes", self.classes)
    }

    fn tag(&self) -> String {
        self.classes.to_string()
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|l| l.to_le_bytes()).collect()
    }

    fn check_test(&self, place: &str, test: &Self) -> Result<()> {
        if self.names != test.names
            && let Some(difference) = ClassDifference::between(&self.names(), &test.names())
        {
            return Err(DataError::OtherClasses { place: place.into(), of: "the training images", difference });
        }
        Ok(())
    }

    fn groups(&self) -> Option<&[u16]> {
        Some(&self.values)
    }

    fn note(&self) -> Option<String> {
        notes::of_labels(self)
    }

    fn batch(&self, place: &str, inputs: Tensor, draws: &[Draw], budget: &mut Budget) -> Result<Batch> {
        let label = |index: usize| usize::from(self.values[index]);
        let labels: Vec<usize> = draws.iter().map(|draw| label(draw.index)).collect();
        if draws.iter().all(|draw| draw.mixed.is_none()) {
            return Ok(Batch { images: inputs, labels, targets: None });
        }
        let shape = [draws.len(), self.classes];
        budget.claim(&format!("{place}: the targets of a batch"), &shape, size_of::<f32>())?;
        let mut targets = Tensor::zeros(&shape);
        for (i, row) in targets.data_mut().chunks_exact_mut(self.classes).enumerate() {
            let (other, share) = draws[i].mixed.map_or((draws[i].index, 1.0), |mix| (mix.other, mix.share));
            row[labels[i]] += share;
            row[label(other)] += 1.0 - share;
        }
        Ok(Batch { images: inputs, labels, targets: Some(targets) })
    }
}

/// Numbers, one per sample, all of them finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    column: Option<Arc<str>>,
    values: Arc<[f64]>,
}

// No number is a NaN.
impl Eq for Numbers {}

impl Numbers {
    /// Makes the targets of the data set `place`, which the column of this name holds where it has one.
    ///
    /// # Errors
    /// A number is not finite, or beyond the range of `f32`, in which networks compute.
    pub fn new(place: &str, column: Option<&str>, values: Vec<f64>) -> Result<Self> {
        match values.iter().position(|&v| !(v as f32).is_finite()) {
            Some(at) => Err(DataError::Unexpected {
                place: format!("{place}: target {at}"),
                expected: "a finite number in the range of f32".into(),
                found: values[at].to_string(),
            }),
            None => Ok(Self { column: column.map(Into::into), values: values.into() }),
        }
    }

    /// The name of the column that they come from, if it has one.
    pub fn column(&self) -> Option<&str> {
        self.column.as_deref()
    }

    /// The numbers.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Computes mean and standard deviation (of a population), rounded to `f32`; the deviation of equal numbers is 1. Sums go
    /// from the first number to the last, so the result is the same everywhere.
    pub fn moments(&self) -> [f32; 2] {
        moments(self.values.iter().copied())
    }
}

/// Numbers that differ by less than this are refused: gradients are divided by their deviation, and would be infinite.
const SMALLEST: f32 = 1e-30;

/// Whether numbers of this mean differ by so little that floats of 32 bits, with their 24 binary digits, blur them: by less than 4 to 8
/// steps of such a float, or by next to nothing.
pub(crate) fn is_too_fine(mean: f32, deviation: f32) -> bool {
    deviation < 4.0 * f32::EPSILON * mean.abs() || deviation < SMALLEST
}

/// The error of such numbers.
pub(crate) fn too_fine(place: &str, mean: f32, deviation: f32) -> DataError {
    let advice = match deviation < SMALLEST {
        true => "multiply all of them by a constant first",
        false => "subtract a constant from all of them first",
    };
    DataError::Unexpected {
        place: place.into(),
        expected: format!("numbers that floats of 32 bits (seven digits) tell apart; {advice}"),
        found: format!("a mean of {mean:e} with a deviation of {deviation:e}"),
    }
}

/// Mean and standard deviation of some numbers, summed in their order and rounded to `f32`. Equal numbers get a deviation of 1.
pub(crate) fn moments(values: impl Iterator<Item = f64> + Clone) -> [f32; 2] {
    let (count, sum) = values.clone().fold((0u64, 0.0), |(n, sum), v| (n + 1, sum + v));
    let mean = sum / count.max(1) as f64;
    let squares: f64 = values.clone().map(|v| (v - mean) * (v - mean)).sum();
    let deviation = (squares / count.max(1) as f64).sqrt() as f32;
    // What rounding makes of equal numbers is no deviation.
    let first = values.clone().next();
    let varies = deviation > 0.0 && values.clone().any(|v| Some(v) != first);
    [mean as f32, if varies { deviation } else { 1.0 }]
}

impl Targets for Numbers {
    type Batch = NumberBatch;

    fn len(&self) -> usize {
        self.values.len()
    }

    fn select(&self, indices: &[usize]) -> Self {
        Self { column: self.column.clone(), values: indices.iter().map(|&i| self.values[i]).collect() }
    }

    fn kind(&self) -> String {
        "numbers".into()
    }

    fn tag(&self) -> String {
        "numbers".into()
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn check_test(&self, place: &str, test: &Self) -> Result<()> {
        match (&self.column, &test.column) {
            (Some(expected), Some(found)) if expected != found => Err(DataError::Unexpected {
                place: place.into(),
                expected: format!("the target `{expected}`, as in training"),
                found: format!("`{found}`"),
            }),
            _ => {
                let [mean, mut deviation] = self.moments();
                let varies = self.values.iter().any(|v| *v != self.values[0]);
                if self.values.iter().all(|v| (v - self.values[0]).abs() < f64::from(SMALLEST)) {
                    // Where a float has none for it, it is 1.
                    deviation = deviation.min(SMALLEST / 2.0);
                }
                let name = || format!("{place}: target `{}`", self.column.as_deref().unwrap_or("target"));
                if varies && is_too_fine(mean, deviation) { Err(too_fine(&name(), mean, deviation)) } else { Ok(()) }
            }
        }
    }

    fn groups(&self) -> Option<&[u16]> {
        None
    }

    fn note(&self) -> Option<String> {
        notes::of_numbers(self)
    }

    fn batch(&self, _: &str, inputs: Tensor, draws: &[Draw], _: &mut Budget) -> Result<NumberBatch> {
        let target = |draw: &Draw| match draw.mixed {
            Some(Mix { other, share, .. }) => {
                let share = f64::from(share);
                self.values[draw.index] * share + self.values[other] * (1.0 - share)
            }
            None => self.values[draw.index],
        };
        Ok(NumberBatch { inputs, targets: draws.iter().map(target).collect() })
    }
}

/// Checks that every label is below `classes`.
pub(crate) fn check_labels(place: &str, labels: &[u16], classes: usize) -> Result<()> {
    match labels.iter().position(|&l| usize::from(l) >= classes) {
        Some(index) => Err(DataError::Label { place: place.into(), index, found: usize::from(labels[index]), classes }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_finite_and_have_moments() {
        let numbers = |values: &[f64]| Numbers::new("d", Some("price"), values.to_vec());
        assert_eq!(numbers(&[1.0, 3.0]).unwrap().moments(), [2.0, 1.0]);
        assert_eq!(numbers(&[0.1, 0.1, 0.1]).unwrap().moments(), [0.1, 1.0]);
        for odd in [f64::NAN, f64::INFINITY, 1e39] {
            let e = numbers(&[1.0, odd]).unwrap_err().to_string();
            assert_eq!(e, format!("d: target 1: expected a finite number in the range of f32, found {odd}"));
        }
        let other = Numbers::new("d", Some("size"), vec![1.0]).unwrap();
        let e = numbers(&[1.0]).unwrap().check_test("t", &other).unwrap_err().to_string();
        assert_eq!(e, "t: expected the target `price`, as in training, found `size`");
    }

    #[test]
    fn mixed_numbers_are_weighted_means() {
        let numbers = Numbers::new("d", None, vec![1.0, 5.0]).unwrap();
        let draws = [
            Draw { index: 0, mixed: Some(Mix { other: 1, share: 0.75, window: None }) },
            Draw { index: 1, mixed: None },
        ];
        let batch = numbers.batch("d", Tensor::zeros(&[2, 1]), &draws, &mut Budget::BATCH.clone()).unwrap();
        assert_eq!(batch.targets, [2.0, 5.0]);
    }
}
