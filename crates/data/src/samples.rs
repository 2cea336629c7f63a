//! The samples of a data set: images of bytes, in memory or read from their files on demand, or floats in memory.

use crate::{ClipForm, DataError, Result, targets::moments};
use fixnet_tensor::{Budget, Buffer};
use rayon::prelude::*;
use std::{borrow::Cow, fmt, sync::Arc};

/// Samples of one shape. A clone shares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Samples {
    /// The lengths of a sample's axes.
    shape: Vec<usize>,
    count: usize,
    values: Values,
    /// What the places of the last axis are called: the columns of a table.
    columns: Option<Arc<[String]>>,
    /// How they are made of recordings, where they are.
    clips: Option<ClipForm>,
}

/// Where the numbers of the samples are.
#[derive(Debug, Clone)]
enum Values {
    Bytes(Arc<Vec<u8>>),
    /// All of them finite.
    Floats(Arc<Vec<f32>>),
    Streamed {
        from: Arc<dyn OnDemand>,
        /// Which of its images these are.
        order: Arc<[u32]>,
        /// Taken beforehand, because a pass over the files may fail, which [`Samples::moments`] does not.
        sample: Sample,
    },
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::Floats(a), Self::Floats(b)) => a == b,
            (Self::Streamed { from: a, order: x, .. }, Self::Streamed { from: b, order: y, .. }) => {
                Arc::ptr_eq(a, b) && x == y
            }
            _ => false,
        }
    }
}

impl Eq for Values {}

/// A sample as it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum View<'a> {
    Bytes(&'a [u8]),
    Floats(&'a [f32]),
}

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

/// What normalization needs of samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Moments {
    /// Of bytes: exact sums.
    Sums(Sums),
    /// Of floats: mean and deviation of each place of the last axis.
    Floats(Vec<[f32; 2]>),
}

/// Sums and sums of squares of each channel, and how many pixels they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) sums: Vec<[u64; 2]>,
    pub(crate) count: u64,
}

/// What is known of streamed images from a pass over some of them.
#[derive(Debug, Clone)]
struct Sample {
    sums: Sums,
    /// A hash over the images of the sample in their order, and over the stamps of all images.
    hash: blake3::Hash,
}

/// The sample of streamed images is no more than this many images, evenly spread.
const SAMPLED: usize = 4096;

impl Samples {
    /// Images of `shape` (height, width, channels); `name` is the data set.
    pub(crate) fn images(name: &str, shape: [usize; 3], bytes: Vec<u8>) -> Result<Self> {
        let image = Budget::ARRAY.clone().claim(&format!("{name}: an image"), &shape, 1)?;
        if bytes.is_empty() || image == 0 {
            return Err(DataError::Empty { place: name.into() });
        }
        if !bytes.len().is_multiple_of(image) {
            return Err(DataError::Pixels { place: name.into(), found: bytes.len(), image, shape });
        }
        let count = bytes.len() / image;
        Ok(Self { shape: shape.to_vec(), count, values: Values::Bytes(Arc::new(bytes)), columns: None, clips: None })
    }

    /// Floats, samples of `shape` one after the other.
    pub(crate) fn floats(name: &str, shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let wrong =
            |expected: String, found: String| Err(DataError::Unexpected { place: name.into(), expected, found });
        let len = Budget::ARRAY.clone().claim(&format!("{name}: a sample"), shape, size_of::<f32>())?;
        if shape.is_empty() || len == 0 || values.is_empty() {
            return wrong("at least one sample of at least one number".into(), "none".into());
        }
        if !values.len().is_multiple_of(len) {
            return wrong(format!("a multiple of {len} numbers ({shape:?} a sample)"), values.len().to_string());
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return wrong("finite numbers".into(), format!("{} in sample {}", values[at], at / len));
        }
        let count = values.len() / len;
        Ok(Self { shape: shape.to_vec(), count, values: Values::Floats(Arc::new(values)), columns: None, clips: None })
    }

    /// `count` images that are read when they are asked for.
    pub(crate) fn streamed(name: &str, from: Arc<dyn OnDemand>, count: usize) -> Result<Self> {
        let shape = from.shape();
        Budget::IMAGE.clone().claim(&format!("{name}: an image"), &shape, 1)?;
        let order = (0..count).map(|i| u32::try_from(i).ok()).collect::<Option<_>>();
        let order = order.ok_or_else(|| DataError::Unexpected {
            place: name.into(),
            expected: "at most 2^32 images".into(),
            found: count.to_string(),
        })?;
        let sums = Sums { sums: Vec::new(), count: 0 };
        let values = Values::Streamed { from, order, sample: Sample { sums, hash: blake3::hash(&[]) } };
        Self { shape: shape.to_vec(), count, values, columns: None, clips: None }.sampled()
    }

    /// Gives the places of the last axis names.
    pub(crate) fn with_columns(self, columns: Vec<String>) -> Self {
        Self { columns: Some(columns.into()), ..self }
    }

    /// Says how the samples are made of recordings.
    pub(crate) fn with_clips(self, clips: ClipForm) -> Self {
        Self { clips: Some(clips), ..self }
    }

    pub(crate) fn clips(&self) -> Option<ClipForm> {
        self.clips
    }

    /// Takes a sample of streamed images.
    fn sampled(mut self) -> Result<Self> {
        let Values::Streamed { from, order, .. } = &self.values else { return Ok(self) };
        let (len, count) = (self.len(), self.len().min(SAMPLED));
        let index = |i: usize| (i as u128 * len as u128 / count as u128) as usize;
        let look = |view: View<'_>| match view {
            View::Bytes(bytes) => (self.sums_of(bytes), blake3::hash(bytes)),
            View::Floats(_) => unreachable!("streamed images are bytes"),
        };
        let found = (0..count).into_par_iter().map(|i| self.with(index(i), look));
        // Each in its place: of several errors it is always the first, and the hash depends on the order.
        let found = found.collect::<Vec<_>>();
        let (mut sums, mut hash) = (self.sums_of(&[]), blake3::Hasher::new());
        for image in found {
            let (more, of_image) = image?;
            sums = sums.add(more);
            hash.update(of_image.as_bytes());
        }
        for &i in order.iter() {
            hash.update(&from.stamp(i as usize).to_le_bytes());
        }
        let taken = Sample { sums, hash: hash.finalize() };
        if let Values::Streamed { sample, .. } = &mut self.values {
            *sample = taken;
        }
        Ok(self)
    }

    fn sums_of(&self, bytes: &[u8]) -> Sums {
        let channels = self.last_axis();
        let mut sums = vec![[0; 2]; channels];
        for pixel in bytes.chunks_exact(channels) {
            for (sum, &v) in sums.iter_mut().zip(pixel) {
                *sum = [sum[0] + u64::from(v), sum[1] + u64::from(v) * u64::from(v)];
            }
        }
        Sums { sums, count: (bytes.len() / channels) as u64 }
    }

    /// The moments of all samples in memory; of streamed ones those of a sample.
    pub(crate) fn moments(&self) -> Moments {
        match &self.values {
            Values::Streamed { sample, .. } => Moments::Sums(sample.sums.clone()),
            // Sums of integers: any order gives the same.
            Values::Bytes(bytes) => Moments::Sums(
                bytes
                    .par_chunks(self.last_axis() << 16)
                    .map(|part| self.sums_of(part))
                    .reduce(|| self.sums_of(&[]), Sums::add),
            ),
            Values::Floats(values) => {
                let width = self.last_axis();
                let of = |k: usize| moments(values[k..].iter().step_by(width).map(|&v| f64::from(v)));
                // Each place by itself, so any order of the places gives the same.
                Moments::Floats((0..width).into_par_iter().map(of).collect())
            }
        }
    }

    /// Adds the samples to a fingerprint: of streamed ones the hash of the sample.
    pub(crate) fn hash_into(&self, hash: &mut blake3::Hasher) {
        match &self.values {
            Values::Bytes(bytes) => {
                hash.update(bytes);
            }
            Values::Streamed { sample, .. } => {
                hash.update(sample.hash.as_bytes());
            }
            Values::Floats(values) => {
                hash.update(b"f32");
                for part in values.chunks(1 << 14) {
                    let bytes: Vec<u8> = part.iter().flat_map(|v| v.to_le_bytes()).collect();
                    hash.update(&bytes);
                }
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
    }

    /// The length of the last axis: channels, or columns.
    pub(crate) fn last_axis(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The numbers of a sample.
    pub(crate) fn sample_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of image `index`, or `None` where samples are floats.
    pub(crate) fn bytes(&self, index: usize) -> Option<Result<Cow<'_, [u8]>>> {
        match &self.values {
            Values::Bytes(bytes) => Some(Ok(Cow::Borrowed(self.slice(bytes, index)))),
            Values::Streamed { from, order, .. } => {
                let mut bytes = vec![0; self.sample_len()];
                Some(from.read(order[index] as usize, &mut bytes).map(|()| Cow::Owned(bytes)))
            }
            Values::Floats(_) => None,
        }
    }

    /// The numbers of sample `index`, where samples are floats.
    pub(crate) fn row(&self, index: usize) -> Option<&[f32]> {
        match &self.values {
            Values::Floats(values) => Some(self.slice(values, index)),
            _ => None,
        }
    }

    /// Hands sample `index` on, without an allocation.
    pub(crate) fn with<R>(&self, index: usize, to: impl FnOnce(View<'_>) -> R) -> Result<R> {
        match &self.values {
            Values::Bytes(bytes) => Ok(to(View::Bytes(self.slice(bytes, index)))),
            Values::Floats(values) => Ok(to(View::Floats(self.slice(values, index)))),
            Values::Streamed { from, order, .. } => {
                let mut bytes = Buffer::take(self.sample_len());
                from.read(order[index] as usize, &mut bytes)?;
                Ok(to(View::Bytes(&bytes)))
            }
        }
    }

    fn slice<'a, V>(&self, values: &'a [V], index: usize) -> &'a [V] {
        &values[index * self.sample_len()..][..self.sample_len()]
    }

    pub(crate) fn is_floats(&self) -> bool {
        matches!(self.values, Values::Floats(_))
    }

    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.values, Values::Streamed { .. })
    }

    /// The samples of these indices, in their order.
    pub(crate) fn select(&self, indices: &[usize]) -> Result<Self> {
        let values = match &self.values {
            Values::Bytes(bytes) => Values::Bytes(Arc::new(self.chosen(bytes, indices))),
            Values::Floats(values) => Values::Floats(Arc::new(self.chosen(values, indices))),
            Values::Streamed { from, order, sample } => Values::Streamed {
                from: Arc::clone(from),
                order: indices.iter().map(|&i| order[i]).collect(),
                sample: sample.clone(),
            },
        };
        let (shape, columns) = (self.shape.clone(), self.columns.clone());
        Self { shape, count: indices.len(), values, columns, clips: self.clips }.sampled()
    }

    fn chosen<V: Copy>(&self, values: &[V], indices: &[usize]) -> Vec<V> {
        let mut chosen = Vec::with_capacity(indices.len() * self.sample_len());
        indices.iter().for_each(|&i| chosen.extend_from_slice(self.slice(values, i)));
        chosen
    }
}

impl Sums {
    fn add(mut self, other: Self) -> Self {
        for (sum, more) in self.sums.iter_mut().zip(other.sums) {
            *sum = [sum[0] + more[0], sum[1] + more[1]];
        }
        Self { count: self.count + other.count, ..self }
    }
}

/// What samples of a shape are called in messages: `images`, `sequences` or `rows`.
pub(crate) fn noun(shape: &[usize]) -> &'static str {
    match shape.len() {
        3 => "images",
        2 => "sequences",
        _ => "rows",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_whole_samples_of_finite_numbers() {
        let text =
            |shape: &[usize], values: &[f32]| Samples::floats("d", shape, values.to_vec()).unwrap_err().to_string();
        assert_eq!(text(&[2], &[1.0; 3]), "d: expected a multiple of 2 numbers ([2] a sample), found 3");
        assert_eq!(text(&[2], &[1.0, 2.0, 3.0, f32::NAN]), "d: expected finite numbers, found NaN in sample 1");
        for shape in [&[][..], &[0]] {
            assert!(text(shape, &[1.0]).contains("at least one sample of at least one number"));
        }
        assert!(text(&[1 << 40, 1 << 40], &[1.0]).contains("bytes of memory"));
    }

    #[test]
    fn moments_of_floats_are_those_of_each_column() {
        let samples = Samples::floats("d", &[2], vec![1.0, 7.0, 3.0, 7.0]).unwrap();
        assert_eq!(samples.moments(), Moments::Floats(vec![[2.0, 1.0], [7.0, 1.0]]));
    }
}
