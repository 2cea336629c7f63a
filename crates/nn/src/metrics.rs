//! Evaluation: mean loss and top-1 accuracy; what is said of each image, and which classes are taken for each other; how
//! near enlarged pictures are to the originals; average precision of detected boxes.

mod coco;
mod detection;
mod picture;
mod predict;
mod voc;

pub use coco::{COCO_THRESHOLDS, CocoEvaluation, CocoSummary, coco_average_precision};
pub use detection::PrecisionRecall;
pub use picture::{PSNR_MOST, SSIM_WINDOW, psnr, ssim};
pub use predict::{Confusion, Prediction, predict, probabilities};
pub use voc::{VocEvaluation, VocYear, voc_average_precision};

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

/// Computes the cross-entropy of training: with `smoothing` a share of each label is spread over all classes, and the term of each
/// class counts as often as `weights` says, if there are any. Without both it is [`loss`].
///
/// The loss of a sample is `-sum over c of w_c · ((1 - e) · t_c + e / C) · ln p_c`, as in PyTorch with shares of classes; the result is
/// the mean over the samples.
///
/// # Errors
/// As [`loss`]; or there is not one weight per class.
pub fn training_loss(
    g: &mut Graph<'_>,
    logits: &Var,
    batch: &Batch,
    smoothing: f32,
    weights: Option<&[f32]>,
) -> fixnet_autograd::Result<Var> {
    if smoothing == 0.0 && weights.is_none() {
        return loss(g, logits, batch);
    }
    let classes = logits.shape().last().copied().unwrap_or(0);
    if let Some(weights) = weights.filter(|weights| weights.len() != classes) {
        return Err(fixnet_autograd::Error::setting(
            "class weights",
            format!("{classes}, one per class"),
            weights.len(),
        ));
    }
    let mut shares = match &batch.targets {
        Some(targets) => targets.clone(),
        None => {
            let mut shares = Tensor::zeros(&[batch.labels.len(), classes]);
            for (i, (row, &label)) in shares.data_mut().chunks_mut(classes.max(1)).zip(&batch.labels).enumerate() {
                let last = classes.saturating_sub(1);
                let wrong = fixnet_autograd::Error::Label { op: "training_loss", found: label, position: i, last };
                *row.get_mut(label).ok_or(wrong)? = 1.0;
            }
            shares
        }
    };
    for row in shares.data_mut().chunks_mut(classes.max(1)) {
        for (class, share) in row.iter_mut().enumerate() {
            let smooth = (1.0 - smoothing) * *share + smoothing / classes as f32;
            *share = smooth * weights.map_or(1.0, |weights| weights[class]);
        }
    }
    g.cross_entropy_weighted(logits, &shares)
}

/// Computes the distributional loss: the mean over the samples of `-sum over c of p_c · ln s_c`, with s the softmax of the logits and p
/// the probabilities that another network gives the classes of the same samples, [N, classes] (ReActNet, Liu et al., ECCV 2020).
///
/// # Errors
/// The shapes differ, or the batch is empty.
pub fn distributional_loss(g: &mut Graph<'_>, logits: &Var, probabilities: &Tensor) -> fixnet_autograd::Result<Var> {
    g.cross_entropy_soft(logits, probabilities)
}

/// How many logits are ahead of that of the label; of equals the first ones are.
fn rank(logits: &[f32], label: usize) -> usize {
    let of_label = logits[label];
    logits.iter().enumerate().filter(|&(i, &v)| v > of_label || (v == of_label && i < label)).count()
}

/// Counts the rows of logits [N, classes] whose label is among their `k` largest values; of equals the first ones win.
pub fn correct_among(logits: &Tensor, labels: &[usize], k: usize) -> usize {
    let classes = logits.shape().last().copied().unwrap_or(1).max(1);
    logits.data().chunks_exact(classes).zip(labels).filter(|(row, label)| rank(row, **label) < k).count()
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

    /// The numbers of `torch.nn.functional.cross_entropy` (PyTorch 2.15) with shares of classes, `weight` and `label_smoothing`.
    #[test]
    fn smoothed_and_weighted_losses_are_those_of_pytorch() {
        let weights = [0.5, 1.0, 2.0];
        // Smoothing, whether classes have weights, loss, gradient.
        let cases = [
            (
                0.1,
                false,
                0.624_107_6,
                [0.070_978_53, 0.002_889_618, -0.073_868_155, 0.046_491_086, -0.117_053_48, 0.070_562_4],
            ),
            (
                0.0,
                true,
                0.586_467_15,
                [0.175_290_39, 0.039_112_57, -0.214_402_97, 0.091_200_53, -0.167_525_98, 0.076_325_43],
            ),
            (
                0.2,
                true,
                0.781_034_95,
                [0.144_016_19, 0.002_519_856, -0.146_536_05, 0.097_280_56, -0.112_027_71, 0.014_747_125],
            ),
        ];
        let shares = Tensor::from_vec(&[2, 3], vec![0.0, 0.0, 1.0, 0.25, 0.75, 0.0]).unwrap();
        let batch = |targets| Batch { images: Tensor::zeros(&[2, 1]), labels: vec![2, 1], targets };
        for (smoothing, weighted, loss, gradient) in cases {
            let weights = weighted.then_some(&weights[..]);
            let mut store = Store::seeded(0);
            let x = Tensor::from_vec(&[2, 3], vec![0.5, -1.0, 2.0, 0.0, 0.3, -0.7]).unwrap();
            let id = store.add("x", fixnet_autograd::Group::Weight, x).unwrap();
            let mut g = Graph::train(&mut store);
            let x = g.param(id);
            let found = training_loss(&mut g, &x, &batch(Some(shares.clone())), smoothing, weights).unwrap();
            approx::assert_relative_eq!(found.tensor().item(), loss, epsilon = 1e-6);
            g.backward(found).unwrap();
            let found = store.take_grad(id).unwrap();
            found.data().iter().zip(gradient).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, epsilon = 1e-6));
        }
        // Labels are shares of one class.
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 3], vec![0.5, -1.0, 2.0, 0.0, 0.3, -0.7]).unwrap());
        let one = Tensor::from_vec(&[2, 3], vec![0.0, 0.0, 1.0, 0.0, 1.0, 0.0]).unwrap();
        let both = [None, Some(one)]
            .map(|t| training_loss(&mut g, &x, &batch(t), 0.1, Some(&weights)).unwrap().tensor().item());
        assert_eq!(both[0].to_bits(), both[1].to_bits());
        assert!(training_loss(&mut g, &x, &batch(None), 0.1, Some(&weights[..2])).is_err());
    }

    /// The numbers of `-(softmax(teacher, 1) * log_softmax(student, 1)).sum(1).mean()` (PyTorch 2.15).
    #[test]
    fn the_distributional_loss_is_that_of_pytorch() {
        let tensor = |v: [f32; 6]| Tensor::from_vec(&[2, 3], v.to_vec()).unwrap();
        let mut store = Store::seeded(0);
        let student = tensor([0.5, -1.0, 2.0, 0.0, 0.3, -0.7]);
        let id = store.add("x", fixnet_autograd::Group::Weight, student).unwrap();
        let mut g = Graph::train(&mut store);
        let teacher = g.input(tensor([1.0, 0.5, -0.25, 2.0, -1.0, 0.0]));
        let probabilities = g.softmax(&teacher, 1).unwrap().tensor();
        let close = |found: &[f32], expected: [f32; 6]| {
            found.iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, epsilon = 1e-6));
        };
        close(probabilities.data(), [0.528_252_1, 0.320_401_1, 0.151_346_77, 0.843_794_7, 0.042_010_065, 0.114_195_19]);
        let x = g.param(id);
        let loss = distributional_loss(&mut g, &x, &probabilities).unwrap();
        approx::assert_relative_eq!(loss.tensor().item(), 1.554_148_4, epsilon = 1e-6);
        g.backward(loss).unwrap();
        let expected = [-0.176_480_86, -0.140_644_27, 0.317_125_14, -0.246_239_62, 0.216_108_13, 0.030_131_465];
        close(store.grad(id).unwrap().data(), expected);
    }

    #[test]
    fn labels_among_the_first_of_equals() {
        let logits = Tensor::from_vec(&[2, 4], vec![1.0, 3.0, 3.0, 0.0, 2.0, 2.0, 2.0, 2.0]).unwrap();
        let found = [1, 2, 3, 4].map(|k| correct_among(&logits, &[2, 3], k));
        assert_eq!(found, [0, 1, 1, 2]);
        assert_eq!(correct_among(&logits, &[1, 0], 1), correct(&logits, &[1, 0]));
    }

    #[test]
    fn the_first_largest_logit_counts() {
        let logits = Tensor::from_vec(&[3, 2], vec![1.0, 2.0, 3.0, 3.0, 0.0, -1.0]).unwrap();
        assert_eq!(correct(&logits, &[1, 0, 1]), 2);
    }
}
