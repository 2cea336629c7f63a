//! The embedded data set `digits`: 6,000 training and 1,000 test images of MNIST, as many of each class.
//!
//! `examples/make_digits.rs` made the files; `data/README.md` beside them gives source and licence.

use crate::idx_files::IdxSet;
use crate::source::{Reader, Request, SourceKind};
use crate::{Dataset, Result, Split, idx};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind::new("digits", "embedded digits of MNIST", &Digits);

#[derive(Debug)]
struct Digits;

impl Reader for Digits {
    fn labelled(&self, _: &Request<'_>) -> Result<Split> {
        digits()
    }
}

/// Decodes the embedded images and labels.
///
/// # Errors
/// None in practice: the files are part of the program, and a test reads them.
pub fn digits() -> Result<Split> {
    Split::new(
        half(
            "digits train",
            include_bytes!("../data/digits-train-images-idx3-ubyte.gz"),
            include_bytes!("../data/digits-train-labels-idx1-ubyte.gz"),
        )?,
        half(
            "digits test",
            include_bytes!("../data/digits-test-images-idx3-ubyte.gz"),
            include_bytes!("../data/digits-test-labels-idx1-ubyte.gz"),
        )?,
    )
}

fn half(name: &str, images: &[u8], labels: &[u8]) -> Result<Dataset> {
    let (images, labels) = (idx::Idx::read(name, images, 3)?, idx::Idx::read(name, labels, 1)?);
    idx::pair(name, (name, images), (name, labels), &IdxSet::Mnist)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_balanced() {
        let split = digits().unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.train.shape()), (6000, 1000, &[28, 28, 1][..]));
        for (data, expected) in [(&split.train, 600), (&split.test, 100)] {
            let mut counts = [0; 10];
            data.labels().iter().for_each(|&l| counts[usize::from(l)] += 1);
            assert_eq!(counts, [expected; 10]);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_first_release() {
        let split = digits().unwrap();
        let sums = (crate::checksum(&split.train), crate::checksum(&split.test));
        assert_eq!(sums, (0x9d4e_ff8d_b7c2_0a5a, 0x3474_0d7d_d507_939e), "{sums:#018x?}");
    }
}
