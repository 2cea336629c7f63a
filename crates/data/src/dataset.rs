//! Labelled images, in memory or read from their files on demand.

use crate::{
    ClassDifference, DataError, Result,
    classes::{check_class_names, numbers},
};
use fixnet_tensor::{
    Budget, Buffer,
    rng::{Stream, domain},
};
use rayon::prelude::*;
use std::{borrow::Cow, fmt, sync::Arc};

/// Images of bytes in N, H, W, C order with one label each. A clone shares the images.
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
    /// `None` where classes are called by their numbers: there may be many.
    class_names: Option<Arc<[String]>>,
    pixels: Pixels,
    labels: Arc<[u16]>,
}

/// Where the bytes of the images are.
#[derive(Debug, Clone)]
enum Pixels {
    Memory(Arc<Vec<u8>>),
    Streamed {
        from: Arc<dyn OnDemand>,
        /// Which of its images these are.
        order: Arc<[u32]>,
        /// Taken beforehand, because a pass over the files may fail, which [`Dataset::moments`] does not.
        sample: Sample,
    },
}

impl PartialEq for Pixels {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Memory(a), Self::Memory(b)) => a == b,
            (Self::Streamed { from: a, order: x, .. }, Self::Streamed { from: b, order: y, .. }) => {
                Arc::ptr_eq(a, b) && x == y
            }
            _ => false,
        }
    }
}

impl Eq for Pixels {}

/// Images that are read from their files when they are asked for.
pub(crate) trait OnDemand: fmt::Debug + Send + Sync {
    /// Height, width and channels of every image.
    fn shape(&self) -> [usize; 3];

    /// Writes the bytes of image `index`, H, W, C, to `out`.
    fn read(&self, index: usize, out: &mut [u8]) -> Result<()>;

    /// What is known of the file of image `index` without reading it, such as its length: a part of the fingerprint.
    fn stamp(&self, _index: usize) -> u64 {
        0
    }
}

/// Images of a set that take more bytes than this are streamed.
pub(crate) const IN_MEMORY: u64 = Budget::DATA.limit();

/// Sums and sums of squares of each channel, and how many pixels they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) sums: Vec<[u64; 2]>,
    pub(crate) count: u64,
}

/// What is known of streamed images from a pass over some of them.
#[derive(Debug, Clone)]
struct Sample {
    moments: Moments,
    /// A hash over the images of the sample in their order, and over the stamps of all images.
    hash: blake3::Hash,
}

/// The sample of streamed images is no more than this many images, evenly spread.
const SAMPLED: usize = 4096;

impl Dataset {
    /// A data set of images of `shape` (height, width, channels).
    ///
    /// # Errors
    /// No images, bytes that are no whole number of images, not one label an image, a label that is not below `classes`, or
    /// an image beyond memory.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        classes: usize,
        images: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Self> {
        let (name, [height, width, channels]) = (name.into(), shape);
        let image = Budget::ARRAY.clone().claim(&format!("{name}: an image"), &shape, 1)?;
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
        let (pixels, labels) = (Pixels::Memory(Arc::new(images)), labels.into());
        Ok(Self { name, height, width, channels, classes, class_names: None, pixels, labels })
    }

    /// Gives the classes names, the first that of class 0; without, they are called by their numbers.
    ///
    /// # Errors
    /// There is not one name per class, one is empty or there twice, or all together take more than 1 MiB.
    pub fn with_class_names(self, names: Vec<String>) -> Result<Self> {
        check_class_names(&self.name, &names, self.classes)?;
        let class_names = (names != numbers(self.classes)).then(|| names.into());
        Ok(Self { class_names, ..self })
    }

    /// What each class is called, the first that of class 0.
    pub fn class_names(&self) -> Cow<'_, [String]> {
        match &self.class_names {
            Some(names) => Cow::Borrowed(names),
            None => Cow::Owned(numbers(self.classes)),
        }
    }

    /// A data set of images that are read when they are asked for; `labels` are below `classes`, one an image.
    pub(crate) fn streamed(name: String, from: Arc<dyn OnDemand>, classes: usize, labels: Vec<u16>) -> Result<Self> {
        let [height, width, channels] = from.shape();
        Budget::IMAGE.clone().claim(&format!("{name}: an image"), &from.shape(), 1)?;
        let order = (0..labels.len()).map(|i| u32::try_from(i).ok()).collect::<Option<_>>();
        let order = order.ok_or_else(|| DataError::Unexpected {
            place: name.clone(),
            expected: "at most 2^32 images".into(),
            found: labels.len().to_string(),
        })?;
        let moments = Moments { sums: Vec::new(), count: 0 };
        let pixels = Pixels::Streamed { from, order, sample: Sample { moments, hash: blake3::hash(&[]) } };
        let labels = labels.into();
        Self { name, height, width, channels, classes, class_names: None, pixels, labels }.sampled()
    }

    /// Takes a sample of streamed images.
    fn sampled(mut self) -> Result<Self> {
        let Pixels::Streamed { from, order, .. } = &self.pixels else { return Ok(self) };
        let (len, count) = (self.len(), self.len().min(SAMPLED));
        let index = |i: usize| (i as u128 * len as u128 / count as u128) as usize;
        let look = |bytes: &[u8]| (self.moments_of(bytes), blake3::hash(bytes));
        let found = (0..count).into_par_iter().map(|i| self.with_image(index(i), look));
        // Each in its place: of several errors it is always the first, and the hash depends on the order.
        let found = found.collect::<Vec<_>>();
        let (mut moments, mut hash) = (self.moments_of(&[]), blake3::Hasher::new());
        for image in found {
            let (more, of_image) = image?;
            moments = moments.add(more);
            hash.update(of_image.as_bytes());
        }
        for &i in order.iter() {
            hash.update(&from.stamp(i as usize).to_le_bytes());
        }
        let taken = Sample { moments, hash: hash.finalize() };
        if let Pixels::Streamed { sample, .. } = &mut self.pixels {
            *sample = taken;
        }
        Ok(self)
    }

    fn moments_of(&self, bytes: &[u8]) -> Moments {
        let mut sums = vec![[0; 2]; self.channels];
        for pixel in bytes.chunks_exact(self.channels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum = [sum[0] + u64::from(v), sum[1] + u64::from(v) * u64::from(v)];
            }
        }
        Moments { sums, count: (bytes.len() / self.channels) as u64 }
    }

    /// The moments of all images in memory; of streamed ones those of a sample.
    pub(crate) fn moments(&self) -> Moments {
        match &self.pixels {
            Pixels::Streamed { sample, .. } => sample.moments.clone(),
            // Sums of integers: any order gives the same.
            Pixels::Memory(bytes) => bytes
                .par_chunks(self.channels << 16)
                .map(|part| self.moments_of(part))
                .reduce(|| self.moments_of(&[]), Moments::add),
        }
    }

    /// What tells this set from others: a hash (blake3, hex) of shape, number of classes, labels and pixels in their order.
    /// Of streamed images, which are not read for it, a sample of 4096, evenly spread, and the lengths of all image files
    /// stand for them.
    pub fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{:?} {} {}", self.shape(), self.classes, self.len()).as_bytes());
        let labels: Vec<u8> = self.labels.iter().flat_map(|l| l.to_le_bytes()).collect();
        hash.update(&labels);
        match &self.pixels {
            Pixels::Memory(bytes) => hash.update(bytes),
            Pixels::Streamed { sample, .. } => hash.update(sample.hash.as_bytes()),
        };
        hash.finalize().to_hex().to_string()
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

    /// The bytes of image `index`, H, W, C.
    ///
    /// # Errors
    /// The image is streamed and its file is no longer what it was.
    ///
    /// # Panics
    /// There is no image `index`.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        match &self.pixels {
            Pixels::Memory(bytes) => Ok(Cow::Borrowed(self.slice(bytes, index))),
            Pixels::Streamed { from, order, .. } => {
                let mut bytes = vec![0; self.image_len()];
                from.read(order[index] as usize, &mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// The same without an allocation: hands the bytes of image `index` on.
    pub(crate) fn with_image<T>(&self, index: usize, to: impl FnOnce(&[u8]) -> T) -> Result<T> {
        match &self.pixels {
            Pixels::Memory(bytes) => Ok(to(self.slice(bytes, index))),
            Pixels::Streamed { from, order, .. } => {
                let mut bytes = Buffer::take(self.image_len());
                from.read(order[index] as usize, &mut bytes)?;
                Ok(to(&bytes))
            }
        }
    }

    fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn slice<'a>(&self, bytes: &'a [u8], index: usize) -> &'a [u8] {
        &bytes[index * self.image_len()..][..self.image_len()]
    }

    /// Whether images are read from their files when they are asked for, because all of them are more than 512 MiB.
    pub fn is_streamed(&self) -> bool {
        matches!(self.pixels, Pixels::Streamed { .. })
    }

    /// The labels.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// The first `count` images (all if there are fewer, one if `count` is 0), for quick trials.
    ///
    /// # Errors
    /// Images are streamed and the file of one of them is no longer what it was.
    pub fn first(&self, count: usize) -> Result<Self> {
        self.select(self.name.clone(), &(0..count.clamp(1, self.len())).collect::<Vec<_>>())
    }

    /// The images of these indices, in their order.
    pub(crate) fn select(&self, name: String, indices: &[usize]) -> Result<Self> {
        let pixels = match &self.pixels {
            Pixels::Memory(bytes) => {
                let mut chosen = Vec::with_capacity(indices.len() * self.image_len());
                indices.iter().for_each(|&i| chosen.extend_from_slice(self.slice(bytes, i)));
                Pixels::Memory(Arc::new(chosen))
            }
            Pixels::Streamed { from, order, sample } => Pixels::Streamed {
                from: Arc::clone(from),
                order: indices.iter().map(|&i| order[i]).collect(),
                sample: sample.clone(),
            },
        };
        let labels = indices.iter().map(|&i| self.labels[i]).collect();
        Self { name, pixels, labels, class_names: self.class_names.clone(), ..*self }.sampled()
    }

    /// Sets a share of the images apart, drawn by `seed`: (the rest, the share), each in the order of the data set. At
    /// least one image goes to either side.
    ///
    /// # Errors
    /// There are fewer than two images; images are streamed and the file of one of them is no longer what it was.
    pub(crate) fn apart(&self, share: f64, seed: u64, name: &str) -> Result<(Self, Self)> {
        if self.len() < 2 {
            let expected = format!("at least two images, of which one goes to {name}");
            return Err(DataError::Unexpected { place: self.name.clone(), expected, found: "one".into() });
        }
        let count = ((self.len() as f64 * share).round() as usize).clamp(1, self.len() - 1);
        let mut order = Stream::new(seed, domain::SPLIT, 0, 0).permutation(self.len());
        order[..count].sort_unstable();
        order[count..].sort_unstable();
        Ok((self.select(self.name.clone(), &order[count..])?, self.select(name.into(), &order[..count])?))
    }
}

impl Moments {
    fn add(mut self, other: Self) -> Self {
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = [sum[0] + more[0], sum[1] + more[1]];
        }
        Self { count: self.count + other.count, ..self }
    }
}

/// Training and test images of one shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// For learning.
    pub train: Dataset,
    /// For measuring at the end.
    pub test: Dataset,
    /// For measuring on the way, if a share of the training images was set apart.
    pub validation: Option<Dataset>,
}

impl Split {
    /// A pair of data sets.
    ///
    /// # Errors
    /// They differ in shape, or in the number, the names or the order of their classes.
    pub fn new(train: Dataset, test: Dataset) -> Result<Self> {
        if (train.shape(), train.classes) != (test.shape(), test.classes) {
            let say = |d: &Dataset| format!("{:?} and {} classes", d.shape(), d.classes);
            return Err(DataError::Mismatch { train: say(&train), test: say(&test), place: test.name });
        }
        if train.class_names != test.class_names
            && let Some(difference) = ClassDifference::between(&train.class_names(), &test.class_names())
        {
            return Err(DataError::OtherClasses { place: test.name, of: "the training images", difference });
        }
        Ok(Self { train, test, validation: None })
    }

    /// Sets a share of the training images apart for validation, drawn by `seed` alone; 0 leaves all as it is.
    ///
    /// # Errors
    /// `share` is not between 0 and 1, or there are fewer than two training images.
    pub fn with_validation(mut self, share: f64, seed: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&share) {
            return Err(DataError::setting("validation", "a share of the training images from 0 to below 1", share));
        }
        if share > 0.0 {
            let name = format!("{}, set apart for validation", self.train.name);
            let (train, validation) = self.train.apart(share, seed, &name)?;
            (self.train, self.validation) = (train, Some(validation));
        }
        Ok(self)
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
        let b = a.first(2).unwrap();
        assert_eq!(a.fingerprint(), a.clone().fingerprint());
        let others = [
            Dataset::new("a", [1, 2, 1], 9, vec![1, 2, 3, 4, 5, 7], vec![7, 8, 6]).unwrap(),
            Dataset::new("a", [1, 2, 1], 9, vec![1, 2, 3, 4, 5, 6], vec![7, 8, 5]).unwrap(),
            Dataset::new("a", [2, 1, 1], 9, vec![1, 2, 3, 4, 5, 6], vec![7, 8, 6]).unwrap(),
            b.clone(),
        ];
        assert!(others.iter().all(|other| other.fingerprint() != a.fingerprint()));
        assert_eq!((b.len(), b.labels(), &*b.image(1).unwrap()), (2, &[7, 8][..], &[3, 4][..]));
        assert_eq!((a.first(100).unwrap().len(), a.first(0).unwrap().len()), (3, 1));
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
