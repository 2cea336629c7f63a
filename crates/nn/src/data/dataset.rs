//! Labelled images in memory.

use super::{DataError, Result};

/// Images of bytes in N, H, W, C order with one label each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// What it is, for messages: `digits train`.
    pub name: String,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Numbers a pixel.
    pub channels: usize,
    /// The number of classes; every label is below it.
    pub classes: usize,
    images: Vec<u8>,
    labels: Vec<u16>,
}

impl Dataset {
    /// A data set of images of `shape` (height, width, channels).
    ///
    /// # Errors
    /// No images, bytes that are no whole number of images, not one label an image, or a label that is not below
    /// `classes`.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        classes: usize,
        images: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self> {
        let (name, [height, width, channels]) = (name.into(), shape);
        let image = height * width * channels;
        if images.is_empty() || image == 0 || classes == 0 {
            return Err(DataError::Empty { place: name });
        }
        if !images.len().is_multiple_of(image) {
            return Err(DataError::Pixels { place: name, found: images.len(), image, shape });
        }
        let count = images.len() / image;
        if labels.len() != count {
            let (images_in, labels_in) = (name.clone(), name);
            return Err(DataError::Counts { images_in, images: count, labels_in, labels: labels.len() });
        }
        check_labels(&name, &labels, classes)?;
        Ok(Self { name, height, width, channels, classes, images, labels })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image; never true for a set made by [`Dataset::new`].
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height, width and channels of an image.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// The bytes of all images, N, H, W, C.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// The bytes of image `index`, H, W, C.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.images.len() / self.labels.len();
        &self.images[index * len..][..len]
    }

    /// The labels.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The first `count` images (all if there are fewer, one if `count` is 0), for quick trials.
    pub fn first(&self, count: usize) -> Self {
        let (count, len) = (count.clamp(1, self.len()), self.images.len() / self.len());
        let (images, labels) = (self.images[..count * len].to_vec(), self.labels[..count].to_vec());
        Self { name: self.name.clone(), images, labels, ..*self }
    }
}

/// Training and test images of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// For learning.
    pub train: Dataset,
    /// For measuring.
    pub test: Dataset,
}

impl Split {
    /// A pair of data sets.
    ///
    /// # Errors
    /// They differ in shape or number of classes.
    pub fn new(train: Dataset, test: Dataset) -> Result<Self> {
        if (train.shape(), train.classes) != (test.shape(), test.classes) {
            let say = |d: &Dataset| format!("{:?} and {} classes", d.shape(), d.classes);
            return Err(DataError::Mismatch { train: say(&train), test: say(&test), place: test.name });
        }
        Ok(Self { train, test })
    }
}

/// Checks that every label is below `classes`.
pub(super) fn check_labels(place: &str, labels: &[u16], classes: usize) -> Result<()> {
    match labels.iter().position(|&l| usize::from(l) >= classes) {
        Some(index) => Err(DataError::Label { place: place.into(), index, found: usize::from(labels[index]), classes }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(shape: [usize; 3], images: usize, labels: &[u16]) -> String {
        Dataset::new("tiny", shape, 3, vec![0; images], labels.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(message([2, 2, 1], 0, &[]), "tiny: expected at least one image of at least one pixel, found none");
        assert_eq!(message([2, 0, 1], 4, &[0]), "tiny: expected at least one image of at least one pixel, found none");
        assert_eq!(message([2, 2, 1], 7, &[0]), "tiny: expected a multiple of 4 bytes ([2, 2, 1] an image), found 7");
        assert_eq!(message([2, 2, 1], 8, &[0]), "tiny: expected 2 labels, one for each image in tiny, found 1");
        assert_eq!(message([2, 2, 1], 8, &[2, 3]), "tiny: label 1: expected 0..=2, found 3");
    }

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
    fn first_keeps_images_with_their_labels() {
        let a = Dataset::new("a", [1, 2, 1], 9, vec![1, 2, 3, 4, 5, 6], vec![7, 8, 6]).unwrap();
        let b = a.first(2);
        assert_eq!((b.images(), b.labels(), b.image(1)), (&[1, 2, 3, 4][..], &[7, 8][..], &[3, 4][..]));
        assert_eq!((a.first(100).len(), a.first(0).len()), (3, 1));
    }
}
