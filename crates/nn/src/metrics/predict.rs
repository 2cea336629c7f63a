//! What a classifier says of each image, and how its classes are taken for each other.

use crate::{Layer, Result};
use fixnet_autograd::{Graph, Store};
use fixnet_data::{self as data, Batch};

/// What a classifier says of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The class that it is.
    pub label: usize,
    /// The class of the largest logit; the first one wins a tie.
    pub class: usize,
    /// The softmax of that class, 0 to 1.
    pub probability: f32,
    /// Its cross-entropy: `-ln softmax[label]`.
    pub loss: f64,
    /// How many classes are more probable than the label; of equals the first ones are.
    pub rank: usize,
}

impl Prediction {
    /// From a row of logits, `label` below their number, which is at least 1.
    fn new(logits: &[f32], label: usize) -> Self {
        let class = super::best(logits);
        // In their order, each from 0 to 1: the sum of at least one 1 neither overflows nor vanishes.
        let sum: f32 = logits.iter().map(|v| libm::expf(v - logits[class])).sum();
        let loss = f64::from(libm::logf(sum) - (logits[label] - logits[class]));
        Self { label, class, probability: 1.0 / sum, loss, rank: super::rank(logits, label) }
    }

    /// Whether it is right.
    pub fn is_right(&self) -> bool {
        self.class == self.label
    }
}

/// The classes of a row of logits with their probabilities (softmax), the most probable first; of equals the lower class.
pub fn probabilities(logits: &[f32]) -> Vec<(usize, f64)> {
    let top = logits.iter().fold(f32::NEG_INFINITY, |top, &v| top.max(v));
    let shares: Vec<f64> = logits.iter().map(|v| f64::from(libm::expf(v - top))).collect();
    let sum: f64 = shares.iter().sum();
    let mut all: Vec<(usize, f64)> = shares.into_iter().map(|share| share / sum).enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

/// Runs the model over all batches in evaluation; one prediction an image, in their order.
///
/// # Errors
/// A batch could not be read, does not fit the model, or has a label that is no class; or an output or a loss is not finite.
pub fn predict(
    net: &dyn Layer,
    store: &mut Store,
    batches: impl Iterator<Item = data::Result<Batch>>,
) -> Result<Vec<Prediction>> {
    let mut out = Vec::new();
    for batch in batches {
        let batch = batch?;
        let mut g = Graph::eval(store);
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x)?;
        // What does not fit is its error.
        let loss = f64::from(g.cross_entropy(&logits, &batch.labels)?.tensor().item());
        let logits = logits.tensor();
        super::check_finite(&logits, loss, out.len())?;
        let classes = logits.len() / batch.labels.len();
        let rows = logits.data().chunks_exact(classes);
        out.extend(rows.zip(&batch.labels).map(|(row, &label)| Prediction::new(row, label)));
    }
    Ok(out)
}

/// How often images of each class were taken for each class.
///
/// ```
/// use fixnet_nn::metrics::Confusion;
/// // Two cats and a dog; one cat was taken for a dog.
/// let confusion = Confusion::of(2, [(0, 0), (0, 1), (1, 1)]);
/// assert_eq!(confusion.count(0, 1), 1);
/// assert_eq!((confusion.recall(0), confusion.precision(1)), (Some(0.5), Some(0.5)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// Rows are labels, columns predictions.
    counts: Vec<u64>,
}

impl Confusion {
    /// Counts pairs of a label and a prediction, both below `classes`; others are left out.
    pub fn of(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; classes * classes];
        for (label, predicted) in pairs {
            if label < classes && predicted < classes {
                counts[label * classes + predicted] += 1;
            }
        }
        Self { classes, counts }
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many images of class `label` were taken for class `predicted`.
    ///
    /// # Panics
    /// One of them is no class.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        assert!(label < self.classes && predicted < self.classes, "a class is below {}", self.classes);
        self.counts[label * self.classes + predicted]
    }

    /// How many images of class `label` there are.
    ///
    /// # Panics
    /// It is no class.
    pub fn images(&self, label: usize) -> u64 {
        (0..self.classes).map(|predicted| self.count(label, predicted)).sum()
    }

    /// The share of the images of class `label` that were recognized; `None` if there are none.
    ///
    /// # Panics
    /// It is no class.
    pub fn recall(&self, label: usize) -> Option<f64> {
        share(self.count(label, label), self.images(label))
    }

    /// The share of the images taken for class `predicted` that are of it; `None` if there are none.
    ///
    /// # Panics
    /// It is no class.
    pub fn precision(&self, predicted: usize) -> Option<f64> {
        let all = (0..self.classes).map(|label| self.count(label, predicted)).sum();
        share(self.count(predicted, predicted), all)
    }
}

fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::{Flatten, Linear, Sequential};
    use crate::metrics::evaluate;
    use fixnet_data::{Loader, Normalize, digits};

    #[test]
    fn probabilities_by_hand() {
        // e^0 : e^ln 3 = 1 : 3.
        let p = Prediction::new(&[5.0, 5.0 + 3f32.ln()], 0);
        assert_eq!((p.label, p.class, p.is_right()), (0, 1, false));
        assert!((p.probability - 0.75).abs() < 1e-6 && (p.loss - 4f64.ln()).abs() < 1e-6, "{p:?}");
        let all = probabilities(&[5.0, 5.0 + 3f32.ln(), 5.0]);
        assert_eq!(all.iter().map(|(class, _)| *class).collect::<Vec<_>>(), [1, 0, 2]);
        assert!((all[0].1 - 0.6).abs() < 1e-6 && (all[2].1 - 0.2).abs() < 1e-6, "{all:?}");
        // Large logits do not overflow, and the first of equals wins.
        let p = Prediction::new(&[3e38, 3e38, -3e38], 1);
        assert_eq!((p.class, p.probability), (0, 0.5));
    }

    #[test]
    fn predictions_agree_with_the_evaluation() {
        let data = digits().unwrap().test;
        let mut store = Store::seeded(3);
        let net = Sequential::new().push(Flatten).push(Linear::new(&mut store, "fc", 28 * 28, 10).unwrap());
        let batches = || Loader::new(&data, 300, Normalize::of(&data));
        let expected = evaluate(&net, &mut store, batches()).unwrap();
        let found = predict(&net, &mut store, batches()).unwrap();
        assert_eq!(found.len(), expected.count);
        let right = found.iter().filter(|p| p.is_right()).count();
        assert_eq!(right as f64 / found.len() as f64, expected.accuracy);
        let loss = found.iter().map(|p| p.loss).sum::<f64>() / found.len() as f64;
        assert!((loss - expected.loss).abs() < 1e-6 * expected.loss, "{loss} {}", expected.loss);
        let confusion = Confusion::of(10, found.iter().map(|p| (p.label, p.class)));
        let diagonal: u64 = (0..10).map(|c| confusion.count(c, c)).sum();
        assert_eq!((diagonal, (0..10).map(|c| confusion.images(c)).sum()), (right as u64, found.len() as u64));
    }

    #[test]
    fn classes_that_never_occur_have_no_shares() {
        let confusion = Confusion::of(3, [(0, 0), (0, 2), (7, 0)]);
        assert_eq!((confusion.classes(), confusion.images(0), confusion.images(1)), (3, 2, 0));
        assert_eq!([confusion.recall(0), confusion.recall(1)], [Some(0.5), None]);
        assert_eq!([0, 1, 2].map(|c| confusion.precision(c)), [Some(1.0), None, Some(0.0)]);
    }
}
