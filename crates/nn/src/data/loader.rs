//! Batches: which images, in which order, varied and normalized how.

use super::{Augment, Dataset, Normalize, augment::Variation};
use fixnet_tensor::{
    Tensor,
    rng::{Stream, domain},
};
use rayon::prelude::*;

/// Images and labels of one step.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Normalized images, N, H, W, C.
    pub images: Tensor,
    /// The class of each image.
    pub labels: Vec<usize>,
}

/// An iterator over the batches of one epoch.
///
/// The order depends on (seed, epoch) alone and the variation of an image on (seed, epoch, index of the image), so a run
/// that is resumed in the middle of an epoch with [`Loader::skip_batches`] sees what it would have seen. Images of a batch
/// are prepared in parallel; the number of threads does not matter. The last batch holds what is left.
///
/// ```
/// use fixnet_nn::data::{Augment, Loader, Normalize, Source};
/// let digits = Source::Digits.load()?;
/// let normalize = Normalize::of(&digits.train);
/// let mut batches = Loader::new(&digits.train, 64, normalize)
///     .shuffled(42, 0)
///     .augmented(Augment { crop_padding: 2, flip: false }, 42, 0);
/// assert_eq!(batches.len(), 6000_usize.div_ceil(64));
/// assert_eq!(batches.next().unwrap().images.shape(), [64, 28, 28, 1]);
/// # Ok::<(), fixnet_nn::data::DataError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loader<'a> {
    data: &'a Dataset,
    batch_size: usize,
    tables: Vec<[f32; 256]>,
    /// The images in their order; `None` is the order of the data set.
    order: Option<Vec<usize>>,
    augment: Option<(Augment, u64, u32)>,
    /// The position in the order of the next image.
    next: usize,
}

impl<'a> Loader<'a> {
    /// All images of `data` in their order.
    ///
    /// # Panics
    /// `batch_size` is 0, or `normalize` was made for another number of channels.
    pub fn new(data: &'a Dataset, batch_size: usize, normalize: Normalize) -> Self {
        assert!(batch_size > 0, "a batch holds at least one image");
        assert_eq!(normalize.mean().len(), data.channels, "normalization and images have the same channels");
        Self { data, batch_size, tables: normalize.tables(), order: None, augment: None, next: 0 }
    }

    /// Shuffles by a permutation that depends on seed and epoch alone.
    pub fn shuffled(mut self, seed: u64, epoch: u32) -> Self {
        self.order = Some(Stream::new(seed, domain::SHUFFLE, epoch, 0).permutation(self.data.len()));
        self
    }

    /// Varies each image by a draw that depends on seed, epoch and the image's index in the data set alone.
    pub fn augmented(mut self, augment: Augment, seed: u64, epoch: u32) -> Self {
        self.augment = Some((augment, seed, epoch));
        self
    }

    /// Leaves out the first `count` batches, as a resumed run does.
    pub fn skip_batches(mut self, count: usize) -> Self {
        self.next = count.saturating_mul(self.batch_size).min(self.data.len());
        self
    }
}

impl Iterator for Loader<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let count = self.batch_size.min(self.data.len() - self.next);
        if count == 0 {
            return None;
        }
        let start = self.next;
        self.next += count;
        let index = |i: usize| self.order.as_ref().map_or(start + i, |order| order[start + i]);
        let [height, width, channels] = self.data.shape();
        let mut images = Tensor::take(&[count, height, width, channels]);
        images.data_mut().par_chunks_exact_mut(height * width * channels).with_min_len(8).enumerate().for_each(
            |(i, out)| {
                let index = index(i);
                let variation =
                    self.augment.map_or(Variation::NONE, |(augment, seed, epoch)| augment.draw(seed, epoch, index));
                variation.write(self.data, index, &self.tables, out);
            },
        );
        let labels = (0..count).map(|i| usize::from(self.data.labels()[index(i)])).collect();
        Some(Batch { images, labels })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.data.len() - self.next).div_ceil(self.batch_size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Loader<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// 23 images of 4x4 in two channels; the label is the index.
    fn data() -> Dataset {
        let images = (0..23 * 32).map(|i| (i * 37 % 251) as u8).collect();
        Dataset::new("d", [4, 4, 2], 23, images, (0..23).collect()).unwrap()
    }

    fn labels(loader: Loader) -> Vec<usize> {
        loader.flat_map(|b| b.labels).collect()
    }

    fn pixels(loader: Loader) -> Vec<u32> {
        loader.flat_map(|b| b.images.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn batches_cover_all_images_and_the_last_is_partial() {
        let data = data();
        let loader = Loader::new(&data, 5, Normalize::of(&data));
        assert_eq!(loader.len(), 5);
        let batches: Vec<Batch> = loader.collect();
        assert_eq!(batches.iter().map(|b| b.labels.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        assert_eq!(batches[4].images.shape(), [3, 4, 4, 2]);
        assert_eq!(batches[4].labels, [20, 21, 22]);
        assert_eq!(Loader::new(&data, 100, Normalize::of(&data)).len(), 1);
    }

    #[test]
    fn images_are_normalized() {
        let data = data();
        let batch = Loader::new(&data, 23, Normalize::of(&data)).next().unwrap();
        for channel in 0..2 {
            let values = || batch.images.data().iter().skip(channel).step_by(2).map(|&v| f64::from(v));
            let count = values().count() as f64;
            assert!((values().sum::<f64>() / count).abs() < 1e-6);
            assert!((values().map(|v| v * v).sum::<f64>() / count - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_order_is_a_function_of_seed_and_epoch() {
        let data = data();
        let order = |seed, epoch, size| labels(Loader::new(&data, size, Normalize::of(&data)).shuffled(seed, epoch));
        let base = order(1, 2, 5);
        assert_eq!(base, order(1, 2, 7), "the batch size does not matter");
        assert!(base != order(2, 2, 5) && base != order(1, 3, 5));
        let mut sorted = base;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..23).collect::<Vec<_>>());
    }

    #[test]
    fn threads_and_skipped_batches_change_nothing() {
        let data = data();
        let augment = Augment { crop_padding: 1, flip: true };
        let loader = || Loader::new(&data, 4, Normalize::of(&data)).shuffled(5, 1).augmented(augment, 5, 1);
        let whole = pixels(loader());
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| pixels(loader())) == whole, "{threads} threads");
        }
        assert_eq!(pixels(loader().skip_batches(2)), whole[2 * 4 * 32..]);
        assert_eq!((loader().skip_batches(2).len(), loader().skip_batches(6).count()), (4, 0));
        assert_eq!(loader().skip_batches(usize::MAX).count(), 0);
        assert_ne!(whole, pixels(loader().augmented(augment, 5, 2)), "another epoch varies otherwise");
    }

    #[test]
    fn a_variation_belongs_to_the_image_not_to_its_place() {
        let data = data();
        let augment = Augment { crop_padding: 1, flip: true };
        let loader = || Loader::new(&data, 23, Normalize::of(&data)).augmented(augment, 5, 1);
        let (plain, mixed) = (loader().next().unwrap(), loader().shuffled(9, 0).next().unwrap());
        for (place, &index) in mixed.labels.iter().enumerate() {
            assert_eq!(mixed.images.data()[place * 32..][..32], plain.images.data()[index * 32..][..32]);
        }
    }
}
