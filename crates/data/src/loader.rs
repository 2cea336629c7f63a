//! Batches: which samples, in which order, varied and normalized how; prepared ahead while the network computes.

use crate::{
    Augment, Dataset, Draw, Labels, Mix, Normalize, Result, Targets, ahead::Ahead, samples::View, vary::Variation,
};
use fixnet_tensor::{
    Budget, Buffer, Tensor,
    rng::{Stream, domain},
};
use rayon::prelude::*;
use std::sync::Arc;

/// An iterator over the batches of one epoch.
///
/// The order depends on (seed, epoch) alone and the variation of an image on (seed, epoch, index of the image), so a run
/// that is resumed in the middle of an epoch with [`Loader::skip_batches`] sees what it would have seen. The last batch
/// holds what is left.
///
/// On a thread pool of more than one thread the next two batches are prepared, image by image in parallel, while the
/// caller works with the one it has; on one thread each is prepared when it is asked for. The number of threads does not
/// change what comes out. A streamed image that cannot be read ends the iteration with its error.
///
/// ```
/// use fixnet_data::{Augment, Loader, Normalize};
/// let digits = fixnet_data::digits()?;
/// let normalize = Normalize::of(&digits.train);
/// let mut batches = Loader::new(&digits.train, 64, normalize)
///     .shuffled(42, 0)
///     .augmented(Augment { crop_padding: 2, ..Augment::default() }, 42, 0);
/// assert_eq!(batches.len(), 6000_usize.div_ceil(64));
/// assert_eq!(batches.next().unwrap()?.images.shape(), [64, 28, 28, 1]);
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct Loader<T: Targets = Labels> {
    plan: Arc<Plan<T>>,
    ahead: Ahead<T::Batch>,
}

/// What the batches of an epoch follow from.
#[derive(Debug, Clone)]
struct Plan<T: Targets> {
    data: Dataset<T>,
    normalize: Normalize,
    /// What becomes of each byte, where samples are bytes.
    tables: Vec<[f32; 256]>,
    /// The samples in their order; `None` is the order of the data set.
    order: Option<Vec<usize>>,
    augment: Option<(Augment, u64, u32)>,
}

impl<T: Targets> Loader<T> {
    /// All samples of `data` in their order.
    ///
    /// # Panics
    /// `batch_size` is 0, or `normalize` was made for another number of channels or columns.
    pub fn new(data: &Dataset<T>, batch_size: usize, normalize: Normalize) -> Self {
        assert!(batch_size > 0, "a batch holds at least one sample");
        assert_eq!(
            Some(&normalize.mean().len()),
            data.shape().last(),
            "normalization and samples have the same channels"
        );
        let tables = if data.row(0).is_none() { normalize.tables() } else { Vec::new() };
        let plan = Plan { data: data.clone(), normalize, tables, order: None, augment: None };
        Self { plan: Arc::new(plan), ahead: Ahead::new(data.len(), batch_size) }
    }

    /// Shuffles by a permutation that depends on seed and epoch alone.
    pub fn shuffled(mut self, seed: u64, epoch: u32) -> Self {
        let plan = Arc::make_mut(&mut self.plan);
        plan.order = Some(Stream::new(seed, domain::SHUFFLE, epoch, 0).permutation(plan.data.len()));
        self
    }

    /// Varies each image by a draw that depends on seed, epoch and the image's index in the data set alone. Of rows of a table
    /// mixup alone has an effect.
    pub fn augmented(mut self, augment: Augment, seed: u64, epoch: u32) -> Self {
        Arc::make_mut(&mut self.plan).augment = Some((augment, seed, epoch));
        self
    }

    /// Leaves out the first `count` batches, as a resumed run does.
    pub fn skip_batches(mut self, count: usize) -> Self {
        self.ahead.skip(count);
        self
    }
}

impl<T: Targets> Plan<T> {
    /// Writes sample `index`, varied and normalized, to `out`.
    fn sample(&self, index: usize, out: &mut [f32]) -> Result<()> {
        self.data.with_sample(index, |view| match (view, self.data.image_shape()) {
            (View::Bytes(image), Some(shape)) => {
                let draw = |(augment, seed, epoch): (Augment, u64, u32)| augment.draw(seed, epoch, index, shape);
                self.augment.map_or(Variation::NONE, draw).write(image, shape, &self.tables, out);
            }
            (View::Bytes(_), None) => unreachable!("bytes are those of images"),
            (View::Floats(values), _) => {
                out.copy_from_slice(values);
                self.normalize.apply_to(out);
            }
        })
    }

    /// The sample at a place of the epoch, and with what it is mixed.
    fn draw(&self, place: usize) -> Draw {
        let index = self.order.as_ref().map_or(place, |order| order[place]);
        let partner = |(augment, seed, epoch): (Augment, u64, u32)| {
            augment.partner(seed, epoch, index, self.data.len(), self.data.image_shape())
        };
        Draw { index, mixed: self.augment.and_then(partner) }
    }

    fn batch(&self, start: usize, count: usize) -> Result<T::Batch> {
        let draws: Vec<Draw> = (start..start + count).map(|place| self.draw(place)).collect();
        let shape = [&[count], self.data.shape()].concat();
        let len: usize = self.data.shape().iter().product();
        let (mut budget, name) = (Budget::BATCH, &self.data.name);
        budget.claim(&format!("{name}: a batch of {}", self.data.noun()), &shape, size_of::<f32>())?;
        let mut inputs = Tensor::take(&shape);
        let write = |draw: Draw, out: &mut [f32]| {
            self.sample(draw.index, out)?;
            let Some(Mix { other, share, window }) = draw.mixed else { return Ok(()) };
            let mut mixed = Buffer::<f32>::take(len);
            self.sample(other, &mut mixed)?;
            match (window, self.data.image_shape()) {
                (Some([[top, bottom], [left, right]]), Some([_, width, channels])) => {
                    let row = width * channels;
                    let rows = out.chunks_exact_mut(row).zip(mixed.chunks_exact(row)).take(bottom).skip(top);
                    let columns = left * channels..right * channels;
                    rows.for_each(|(to, from)| to[columns.clone()].copy_from_slice(&from[columns.clone()]));
                }
                _ => {
                    let rest = 1.0 - share;
                    out.iter_mut().zip(&*mixed).for_each(|(a, &b)| *a = *a * share + b * rest);
                }
            }
            Ok(())
        };
        let chunks = inputs.data_mut().par_chunks_exact_mut(len).with_min_len(8).enumerate();
        let failed = chunks.filter_map(|(i, out)| write(draws[i], out).err().map(|e| (i, e)));
        // Of several errors always the first of the batch.
        if let Some((_, e)) = failed.min_by_key(|&(i, _)| i) {
            return Err(e);
        }
        self.data.targets().batch(name, inputs, &draws, &mut budget)
    }
}

impl<T: Targets> Iterator for Loader<T> {
    type Item = Result<T::Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let plan = Arc::clone(&self.plan);
        self.ahead.next(move |start, count| plan.batch(start, count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ahead.left();
        (left, Some(left))
    }
}

impl<T: Targets> ExactSizeIterator for Loader<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    /// 23 images of 4x4 in two channels; the label is the index.
    fn data() -> Dataset {
        let images = (0..23 * 32).map(|i| (i * 37 % 251) as u8).collect();
        Dataset::new("d", [4, 4, 2], 23, images, (0..23).collect()).unwrap()
    }

    fn labels(loader: Loader) -> Vec<usize> {
        loader.flat_map(|b| b.unwrap().labels).collect()
    }

    fn pixels(loader: Loader) -> Vec<u32> {
        loader.flat_map(|b| b.unwrap().images.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_batch_beyond_its_budget_is_refused_before_memory_is_taken() {
        #[derive(Debug)]
        struct Black;
        impl crate::samples::OnDemand for Black {
            fn shape(&self) -> [usize; 3] {
                [8192, 8192, 1]
            }
            fn read(&self, _: usize, out: &mut [u8]) -> Result<()> {
                out.fill(0);
                Ok(())
            }
        }
        let data = Dataset::streamed("black".into(), Arc::new(Black), 1, vec![0; 17]).unwrap();
        let e = Loader::new(&data, 17, Normalize::of(&data)).next().unwrap().unwrap_err().to_string();
        // 17 images of 256 MiB as floats.
        assert!(e.contains("black: a batch of images: [17, 8192, 8192, 1]") && e.contains("smaller batches"), "{e}");
    }

    #[test]
    fn batches_cover_all_images_and_the_last_is_partial() {
        let data = data();
        let loader = Loader::new(&data, 5, Normalize::of(&data));
        assert_eq!(loader.len(), 5);
        let batches: Vec<Batch> = loader.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|b| b.labels.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
        assert_eq!(batches[4].images.shape(), [3, 4, 4, 2]);
        assert_eq!(batches[4].labels, [20, 21, 22]);
        assert_eq!(Loader::new(&data, 100, Normalize::of(&data)).len(), 1);
    }

    #[test]
    fn images_are_normalized() {
        let data = data();
        let batch = Loader::new(&data, 23, Normalize::of(&data)).next().unwrap().unwrap();
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
        let augment = Augment { crop_padding: 1, flip: true, rotation: 9.0, mixup: 0.4, ..Augment::default() };
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
        let augment = Augment { crop_padding: 1, flip: true, ..Augment::default() };
        let loader = || Loader::new(&data, 23, Normalize::of(&data)).augmented(augment, 5, 1);
        let (plain, mixed) = (loader().next().unwrap().unwrap(), loader().shuffled(9, 0).next().unwrap().unwrap());
        for (place, &index) in mixed.labels.iter().enumerate() {
            assert_eq!(mixed.images.data()[place * 32..][..32], plain.images.data()[index * 32..][..32]);
        }
    }

    #[test]
    fn mixed_images_and_labels_have_the_same_shares() {
        let data = data();
        let augment = Augment { mixup: 1.0, ..Augment::default() };
        let loader = || Loader::new(&data, 23, Normalize::of(&data));
        let plain = loader().next().unwrap().unwrap();
        let mixed = loader().augmented(augment, 3, 1).next().unwrap().unwrap();
        let targets = mixed.targets.unwrap();
        assert!(plain.targets.is_none());
        let mut shared = 0;
        for i in 0..23 {
            let Mix { other: partner, share, .. } = augment.partner(3, 1, i, 23, Some([4, 4, 2])).unwrap();
            let row = &targets.data()[i * 23..][..23];
            assert_eq!(row.iter().sum::<f32>(), 1.0);
            assert!(row[i] >= share && (partner == i || row[partner] == 1.0 - share));
            shared += usize::from(share < 1.0 && partner != i);
            let pixel = |image: usize, k: usize| plain.images.data()[image * 32 + k];
            for k in 0..32 {
                let expected = pixel(i, k) * share + pixel(partner, k) * (1.0 - share);
                assert_eq!(mixed.images.data()[i * 32 + k], expected);
            }
        }
        assert!(shared > 10 && mixed.labels == plain.labels);
    }

    #[test]
    fn windows_come_from_the_other_image_with_its_share_of_the_label() {
        let data = data();
        let augment = Augment { cutmix: 1.0, ..Augment::default() };
        let loader = || Loader::new(&data, 23, Normalize::of(&data));
        let plain = loader().next().unwrap().unwrap();
        let mixed = loader().augmented(augment, 3, 1).next().unwrap().unwrap();
        let targets = mixed.targets.unwrap();
        for i in 0..23 {
            let Mix { other, share, window } = augment.partner(3, 1, i, 23, Some([4, 4, 2])).unwrap();
            let [[top, bottom], [left, right]] = window.unwrap();
            assert!(targets.data()[i * 23 + i] >= share);
            for k in 0..32 {
                let (y, x) = (k / 8, k / 2 % 4);
                let from = if (top..bottom).contains(&y) && (left..right).contains(&x) { other } else { i };
                assert_eq!(mixed.images.data()[i * 32 + k], plain.images.data()[from * 32 + k]);
            }
        }
    }

    #[test]
    fn the_length_counts_batches_under_way_and_an_early_end_is_no_harm() {
        let data = data();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let mut loader = Loader::new(&data, 5, Normalize::of(&data));
            for left in (0..5).rev() {
                loader.next().unwrap().unwrap();
                assert_eq!(loader.len(), left);
            }
            assert!(loader.next().is_none());
            drop(Loader::new(&data, 5, Normalize::of(&data)).next());
        });
    }
}
