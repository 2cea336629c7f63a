//! Evaluation: mean loss and top-1 accuracy; what is said of each image, and which classes are taken for each other; how
//! near enlarged pictures are to the originals.

mod picture;
mod predict;

pub use picture::{PSNR_MOST, SSIM_WINDOW, psnr, ssim};
pub use predict::{Confusion, Prediction, predict, probabilities};

use crate::{Error, Layer, Result};
use fixnet_autograd::{Graph, Store, Var};
use fixnet_data::{self as data, Batch};
use fixnet_tensor::Tensor;

/// The result of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of images whose largest logit is their label, 0 to 1.
    pub accuracy: f64,
    /// How many images.
    pub count: usize,
}

/// The class of the largest logit; the first one wins a tie.
fn best(logits: &[f32]) -> usize {
    (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// How many rows of logits [N, classes] have their largest value at their label; the first one wins a tie.
pub fn correct(logits: &Tensor, labels: &[usize]) -> usize {
    let classes = logits.shape().last().copied().unwrap_or(1).max(1);
    logits.data().chunks_exact(classes).zip(labels).filter(|(row, label)| best(row) == **label).count()
}

/// Computes the cross-entropy of logits with the labels of a batch, or with its shares of classes if its images are mixed.
///
/// # Errors
/// The logits are not one row per image and one column per class.
pub fn loss(g: &mut Graph<'_>, logits: &Var, batch: &Batch) -> fixnet_autograd::Result<Var> {
    match &batch.targets {
        Some(targets) => g.cross_entropy_soft(logits, targets),
        None => g.cross_entropy(logits, &batch.labels),
    }
}

/// Checks what a network gave in evaluation: the outputs of a batch, whose first axis is that of the samples, and its loss.
/// `first` is the number of its first sample.
///
/// # Errors
/// [`Error::NotFinite`]: a NaN or an infinity would count as a loss, and any class could win.
pub fn check_finite(output: &Tensor, loss: f64, first: usize) -> Result<()> {
    let row = output.shape().iter().skip(1).product::<usize>().max(1);
    if let Some(at) = output.data().iter().position(|v| !v.is_finite()) {
        let found = f64::from(output.data()[at]);
        return Err(Error::NotFinite { what: "the output", sample: first + at / row, found });
    }
    match loss.is_finite() {
        true => Ok(()),
        false => Err(Error::NotFinite { what: "the loss", sample: first, found: loss }),
    }
}

/// Runs the model over all batches in evaluation.
///
/// # Errors
/// A batch could not be read, or does not fit the model; or an output or a loss is not finite.
pub fn evaluate(
    net: &dyn Layer,
    store: &mut Store,
    batches: impl Iterator<Item = data::Result<Batch>>,
) -> Result<Evaluation> {
    let (mut loss, mut hits, mut count) = (0.0, 0, 0);
    for batch in batches {
        let batch = batch?;
        let mut g = Graph::eval(store);
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x)?;
        let batch_loss = f64::from(g.cross_entropy(&logits, &batch.labels)?.tensor().item());
        check_finite(&logits.tensor(), batch_loss, count)?;
        loss += batch_loss * batch.labels.len() as f64;
        hits += correct(&logits.tensor(), &batch.labels);
        count += batch.labels.len();
    }
    let n = count.max(1) as f64;
    Ok(Evaluation { loss: loss / n, accuracy: hits as f64 / n, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_no_result() {
        let output = |v: f32| Tensor::from_vec(&[2, 2], vec![1.0, 2.0, v, 3.0]).unwrap();
        check_finite(&output(3e38), 0.5, 7).unwrap();
        let text = |result: Result<()>| result.unwrap_err().to_string();
        let e = text(check_finite(&output(f32::NAN), 0.5, 7));
        assert!(e.starts_with("the output of sample 8: expected a finite number, found NaN"), "{e}");
        assert!(text(check_finite(&output(1.0), f64::INFINITY, 7)).starts_with("the loss of sample 7: "));
    }

    #[test]
    fn the_first_largest_logit_counts() {
        let logits = Tensor::from_vec(&[3, 2], vec![1.0, 2.0, 3.0, 3.0, 0.0, -1.0]).unwrap();
        assert_eq!(correct(&logits, &[1, 0, 1]), 2);
    }
}
