//! How much each class counts in the loss of a classification: classes of few samples are otherwise learned last.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The weights of classes in the loss: the word `none` or `balanced`, or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected none, balanced, or a list with a number per class")]
pub enum ClassWeights {
    /// One of two rules.
    Rule(ClassRule),
    /// A weight for each class, in their order.
    Each(Vec<f64>),
}

/// A rule by which class weights follow from the training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassRule {
    /// All classes count alike.
    None,
    /// A class counts as the inverse of its number of training samples: all classes have the same share of the loss.
    Balanced,
}

impl Default for ClassWeights {
    fn default() -> Self {
        Self::Rule(ClassRule::None)
    }
}

impl ClassWeights {
    /// Checks what does not depend on the data.
    ///
    /// # Errors
    /// A weight is below 0 or not finite, or none is above 0.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Each(weights)
                if weights.iter().any(|w| !(*w >= 0.0 && w.is_finite())) || !weights.iter().any(|w| *w > 0.0) =>
            {
                Err(wrong("weights of at least 0, and one above it".into(), format!("{weights:?}")))
            }
            _ => Ok(()),
        }
    }

    /// Returns the weights of classes with so many training samples each, scaled to a mean of 1 over these samples, so that the
    /// loss keeps its size; `None` if all classes count alike. A class without samples has the weight 0.
    ///
    /// # Errors
    /// There is not one weight per class.
    pub fn of_counts(&self, counts: &[usize]) -> Result<Option<Vec<f32>>> {
        let raw: Vec<f64> = match self {
            Self::Rule(ClassRule::None) => return Ok(None),
            Self::Rule(ClassRule::Balanced) => {
                counts.iter().map(|&n| if n == 0 { 0.0 } else { 1.0 / n as f64 }).collect()
            }
            Self::Each(weights) if weights.len() != counts.len() => {
                return Err(wrong(format!("{} weights, one per class", counts.len()), weights.len().to_string()));
            }
            Self::Each(weights) => weights.clone(),
        };
        let samples: usize = counts.iter().sum();
        let total: f64 = raw.iter().zip(counts).map(|(w, &n)| w * n as f64).sum();
        if total <= 0.0 {
            return Err(wrong("a weight above 0 for a class that has training samples".into(), format!("{raw:?}")));
        }
        let scaled: Vec<f32> = raw.iter().map(|w| (w * samples as f64 / total) as f32).collect();
        match scaled.iter().all(|w| w.is_finite()) {
            true => Ok(Some(scaled)),
            false => Err(wrong("weights of one order of magnitude".into(), format!("{raw:?}"))),
        }
    }
}

fn wrong(expected: String, found: String) -> Error {
    Error::Setting { key: "loss.class_weights".into(), reason: format!("expected {expected}, found {found}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_a_mean_of_one_over_the_training_samples() {
        let balanced = ClassWeights::Rule(ClassRule::Balanced);
        // Of 8 samples 6 and 2: each class has half of the loss, 8 / (2 · 6) and 8 / (2 · 2).
        assert_eq!(balanced.of_counts(&[6, 2]).unwrap(), Some(vec![8.0 / 12.0, 2.0]));
        assert_eq!(balanced.of_counts(&[4, 0, 4]).unwrap(), Some(vec![1.0, 0.0, 1.0]));
        assert_eq!(ClassWeights::default().of_counts(&[6, 2]).unwrap(), None);
        // 3 · 1 + 1 · 5 = 8 over four samples.
        assert_eq!(ClassWeights::Each(vec![1.0, 5.0]).of_counts(&[3, 1]).unwrap(), Some(vec![0.5, 2.5]));
    }

    #[test]
    fn weights_that_make_no_sense_are_refused() {
        for each in [vec![-1.0, 1.0], vec![f64::NAN], vec![0.0, 0.0]] {
            assert!(ClassWeights::Each(each).check().is_err());
        }
        let e = ClassWeights::Each(vec![1.0]).of_counts(&[1, 1]).unwrap_err().to_string();
        assert!(e.contains("loss.class_weights") && e.contains("2 weights"), "{e}");
        assert!(ClassWeights::Each(vec![0.0, 1.0]).of_counts(&[5, 0]).is_err());
        for (each, counts) in [(vec![1e308, 1e308], [5, 5]), (vec![1.0, 1e39], [5, 0])] {
            let e = ClassWeights::Each(each).of_counts(&counts).unwrap_err().to_string();
            assert!(e.contains("loss.class_weights") && e.contains("magnitude"), "{e}");
        }
    }
}
