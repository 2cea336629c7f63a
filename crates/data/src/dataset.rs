//! Samples with their targets: images with labels, rows of a table with labels or numbers.

use crate::targets::{is_too_fine, too_fine};
use crate::{
    ClipForm, DataError, Result,
    samples::{Moments, OnDemand, Samples, View, noun},
    targets::{Labels, Targets},
};
use fixnet_tensor::rng::{Stream, domain};
use std::{borrow::Cow, sync::Arc};

/// The share of test samples where the source has none.
pub(crate) const TEST_SHARE: f64 = 0.1;

/// Samples of one shape with one target each: images of bytes in H, W, C order, or floats such as the rows of a table. A clone
/// shares the samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset<T: Targets = Labels> {
    /// What it is, for messages: `digits train`.
    pub name: String,
    samples: Samples,
    targets: T,
    /// What the user should know of how its files were read.
    read: Option<String>,
}

impl Dataset {
    /// A data set of images of `shape` (height, width, channels) with labels.
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
        let name = name.into();
        let samples = Samples::images(&name, shape, images)?;
        Self::labelled(name, samples, classes, labels)
    }

    /// A data set of images that are read when they are asked for; `labels` are below `classes`, one an image.
    pub(crate) fn streamed(name: String, from: Arc<dyn OnDemand>, classes: usize, labels: Vec<u16>) -> Result<Self> {
        let samples = Samples::streamed(&name, from, labels.len())?;
        Self::labelled(name, samples, classes, labels)
    }

    /// A data set of samples with one label each, below `classes`.
    pub(crate) fn labelled(name: String, samples: Samples, classes: usize, labels: Vec<u16>) -> Result<Self> {
        if labels.len() != samples.len() {
            let (images_in, labels_in) = (name.clone(), name);
            return Err(DataError::Counts { images_in, images: samples.len(), labels_in, labels: labels.len() });
        }
        let targets = Labels::new(&name, classes, labels)?;
        Ok(Self { name, samples, targets, read: None })
    }

    /// Gives the classes names, the first that of class 0; without, they are called by their numbers.
    ///
    /// # Errors
    /// There is not one name per class, one is empty or there twice, or all together take more than 1 MiB.
    pub fn with_class_names(self, names: Vec<String>) -> Result<Self> {
        Ok(Self { targets: self.targets.with_names(&self.name, names)?, ..self })
    }

    /// What each class is called, the first that of class 0.
    pub fn class_names(&self) -> Cow<'_, [String]> {
        self.targets.names()
    }

    /// The number of classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.targets.classes()
    }

    /// The labels.
    pub fn labels(&self) -> &[u16] {
        self.targets.values()
    }
}

impl<T: Targets> Dataset<T> {
    /// A data set of images of `shape` (height, width, channels) with one target each.
    ///
    /// # Errors
    /// No images, bytes that are no whole number of images, not one target an image, or an image beyond memory.
    pub fn of_images(name: impl Into<String>, shape: [usize; 3], images: Vec<u8>, targets: T) -> Result<Self> {
        let name = name.into();
        let samples = Samples::images(&name, shape, images)?;
        Self::of(name, samples, targets)
    }

    /// A data set of floats: samples of `shape`, such as `[columns]` for the rows of a table, one after the other.
    ///
    /// ```
    /// use fixnet_data::{Dataset, Loader, Normalize, Numbers};
    /// let prices = Numbers::new("houses", Some("price"), vec![100.0, 180.0])?;
    /// let houses = Dataset::of_floats("houses", &[2], vec![40.0, 1.0, 90.0, 3.0], prices)?;
    /// let batch = Loader::new(&houses, 2, Normalize::of(&houses)).next().unwrap()?;
    /// assert_eq!((batch.inputs.data(), &batch.targets[..]), (&[-1.0, -1.0, 1.0, 1.0][..], &[100.0, 180.0][..]));
    /// # Ok::<(), fixnet_data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// No samples, numbers that are no whole number of samples or not finite, not one target a sample, or a sample beyond
    /// memory.
    pub fn of_floats(name: impl Into<String>, shape: &[usize], values: Vec<f32>, targets: T) -> Result<Self> {
        let name = name.into();
        let samples = Samples::floats(&name, shape, values)?;
        Self::of(name, samples, targets)
    }

    /// A data set of samples with one target each.
    pub(crate) fn of(name: String, samples: Samples, targets: T) -> Result<Self> {
        if targets.len() == samples.len() {
            return Ok(Self { name, samples, targets, read: None });
        }
        let expected = format!("{} targets, one for each of the {}", samples.len(), noun(samples.shape()));
        Err(DataError::Unexpected { place: name, expected, found: targets.len().to_string() })
    }

    /// Gives the places of the last axis names: those of the columns of a table.
    ///
    /// # Errors
    /// There is not one name per place.
    pub fn with_columns(self, columns: Vec<String>) -> Result<Self> {
        let expected = self.samples.last_axis();
        if columns.len() != expected {
            let (expected, found) = (format!("{expected} names of columns"), columns.len().to_string());
            return Err(DataError::Unexpected { place: self.name, expected, found });
        }
        Ok(Self { samples: self.samples.with_columns(columns), ..self })
    }

    /// Adds what the user should know of how its files were read.
    pub(crate) fn with_note(self, read: Option<String>) -> Self {
        Self { read, ..self }
    }

    /// What the user should know of how its files were read.
    pub(crate) fn note(&self) -> Option<&str> {
        self.read.as_deref()
    }

    /// The names of the columns, where samples are rows of a table that names them.
    pub fn columns(&self) -> Option<&[String]> {
        self.samples.columns()
    }

    /// How the samples are made of recordings, where they are.
    pub fn clips(&self) -> Option<ClipForm> {
        self.samples.clips()
    }

    /// What the samples stand for.
    pub fn targets(&self) -> &T {
        &self.targets
    }

    /// Checks that the numbers of each column differ by more than floats of 32 bits can hold beside their mean.
    pub(crate) fn check_resolution(&self) -> Result<()> {
        let Moments::Floats(columns) = self.moments() else { return Ok(()) };
        let values =
            |k: usize| (0..self.len()).filter_map(move |i| self.samples.row(i)).map(move |row| row[k % row.len()]);
        for (k, &[mean, deviation]) in columns.iter().enumerate() {
            let first = values(k).next();
            if is_too_fine(mean, deviation) && values(k).any(|v| Some(v) != first) {
                let name = self.columns().and_then(|names| names.get(k)).map_or_else(|| k.to_string(), Clone::clone);
                return Err(too_fine(&format!("{}: column `{name}`", self.name), mean, deviation));
            }
        }
        Ok(())
    }

    pub(crate) fn moments(&self) -> Moments {
        self.samples.moments()
    }

    /// What tells this set from others: a hash (blake3, hex) of shape, number of classes, targets and samples in their order.
    /// Of streamed images, which are not read for it, a sample of 4096, evenly spread, and the lengths of all image files
    /// (with how their images are turned) stand for them.
    pub fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(format!("{:?} {} {}", self.shape(), self.targets.tag(), self.len()).as_bytes());
        hash.update(&self.targets.bytes());
        self.samples.hash_into(&mut hash);
        hash.finalize().to_hex().to_string()
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no sample; never true for a set made by [`Dataset::new`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lengths of a sample's axes: height, width and channels of an image, steps and channels of a sequence, or the columns of a row.
    pub fn shape(&self) -> &[usize] {
        self.samples.shape()
    }

    /// Height, width and channels, where samples are images.
    pub fn image_shape(&self) -> Option<[usize; 3]> {
        self.shape().try_into().ok()
    }

    /// What samples are called in messages: `images`, `sequences` or `rows`.
    pub fn noun(&self) -> &'static str {
        noun(self.shape())
    }

    /// The bytes of image `index`, H, W, C.
    ///
    /// # Errors
    /// The samples are floats; or the image is streamed and its file is no longer what it was.
    ///
    /// # Panics
    /// There is no image `index`.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>> {
        self.samples.bytes(index).unwrap_or_else(|| {
            let (place, expected) = (self.name.clone(), "images of bytes".into());
            Err(DataError::Unexpected { place, expected, found: "floats".into() })
        })
    }

    /// The numbers of sample `index`, where samples are floats.
    ///
    /// # Panics
    /// There is no sample `index`.
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.samples.row(index)
    }

    /// Hands sample `index` on, without an allocation.
    pub(crate) fn with_sample<R>(&self, index: usize, to: impl FnOnce(View<'_>) -> R) -> Result<R> {
        self.samples.with(index, to)
    }

    /// Returns whether samples are floats, which augmentations do not vary.
    pub fn is_floats(&self) -> bool {
        self.samples.is_floats()
    }

    /// Whether images are read from their files when they are asked for, because all of them are more than 512 MiB.
    pub fn is_streamed(&self) -> bool {
        self.samples.is_streamed()
    }

    /// The first `count` samples (all if there are fewer, one if `count` is 0), for quick trials.
    ///
    /// # Errors
    /// Images are streamed and the file of one of them is no longer what it was.
    pub fn first(&self, count: usize) -> Result<Self> {
        self.select(self.name.clone(), &(0..count.clamp(1, self.len())).collect::<Vec<_>>())
    }

    /// The samples of these indices, in their order.
    pub(crate) fn select(&self, name: String, indices: &[usize]) -> Result<Self> {
        let (samples, targets) = (self.samples.select(indices)?, self.targets.select(indices));
        Ok(Self { name, samples, targets, read: self.read.clone() })
    }

    /// Sets a share of the samples apart, drawn by `seed`: (the rest, the share), each in the order of the data set. At
    /// least one sample goes to either side.
    ///
    /// # Errors
    /// There are fewer than two samples; images are streamed and the file of one of them is no longer what it was.
    pub(crate) fn apart(&self, share: f64, seed: u64, name: &str) -> Result<(Self, Self)> {
        let count = self.share(share, name)?;
        let order = Stream::new(seed, domain::SPLIT, 0, 0).permutation(self.len());
        self.parted(&order[..count], name)
    }

    /// As [`apart`](Self::apart), with the share of each class kept up to one sample. Of a class with two samples or more there
    /// is at least one in either part, for which the part may grow; an only sample stays with the rest if others can go. These
    /// are of larger classes, up to half of each; where that is too few, the part is smaller.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn apart_by_group(&self, share: f64, seed: u64, name: &str) -> Result<(Self, Self)> {
        let count = self.share(share, name)?;
        let mut order = Stream::new(seed, domain::SPLIT, 0, 0).permutation(self.len());
        // Places at even distances, before which each group is brought together in its random order.
        let place = |i: usize| (2 * i as u128 + 1) * self.len() as u128 / (2 * count as u128);
        let mut places: Vec<usize> = (0..count).map(|i| place(i) as usize).collect();
        if let Some(groups) = self.targets.groups() {
            let mut sorted = order.clone();
            sorted.sort_by_key(|&i| groups[i]);
            if let Some(more) = balanced(&sorted.iter().map(|&i| groups[i]).collect::<Vec<_>>(), &places) {
                (order, places) = (sorted, more);
            }
        }
        self.parted(&places.into_iter().map(|i| order[i]).collect::<Vec<_>>(), name)
    }

    /// How many samples a share is: at least one, and all but one at most.
    fn share(&self, share: f64, name: &str) -> Result<usize> {
        if self.len() < 2 {
            let expected = format!("at least two {}, of which one goes to {name}", self.noun());
            return Err(DataError::Unexpected { place: self.name.clone(), expected, found: "one".into() });
        }
        Ok(((self.len() as f64 * share).round() as usize).clamp(1, self.len() - 1))
    }

    /// The rest, and the samples that were drawn.
    fn parted(&self, drawn: &[usize], name: &str) -> Result<(Self, Self)> {
        let mut is_drawn = vec![false; self.len()];
        drawn.iter().for_each(|&i| is_drawn[i] = true);
        let (drawn, rest): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|&i| is_drawn[i]);
        Ok((self.select(self.name.clone(), &rest)?, self.select(name.into(), &drawn)?))
    }
}

/// Changes which places of sorted groups are drawn as little as it takes for each group of two places or more to have one drawn
/// and one left, and for groups of one place to have it left. What is drawn beyond the number of `places` is taken back from the
/// groups with the most drawn. In place of those in groups of one place, others are drawn of the groups with the smallest share
/// drawn, up to half of a group. `None` if all groups are of one place.
fn balanced(groups: &[u16], places: &[usize]) -> Option<Vec<usize>> {
    let mut is_drawn = vec![false; groups.len()];
    places.iter().for_each(|&place| is_drawn[place] = true);
    // Of each group its places, those drawn first, and how many are drawn.
    let mut all: Vec<(Vec<usize>, usize)> = Vec::new();
    let (mut first, mut lost) = (0, 0);
    for group in groups.chunk_by(|a, b| a == b) {
        let (mut of_group, left): (Vec<usize>, Vec<usize>) =
            (first..first + group.len()).partition(|&place| is_drawn[place]);
        let drawn = of_group.len();
        lost += if group.len() == 1 { drawn } else { 0 };
        of_group.extend(left);
        all.push((of_group, drawn.clamp(usize::from(group.len() > 1), group.len() - 1)));
        first += group.len();
    }
    let mut more = all.iter().map(|(_, drawn)| drawn).sum::<usize>();
    if more == 0 {
        return None;
    }
    while more > places.len() {
        let Some((_, most)) = all.iter_mut().rev().max_by_key(|(_, drawn)| *drawn).filter(|(_, most)| *most > 1) else {
            break;
        };
        *most -= 1;
        more -= 1;
    }
    while more < places.len() && lost > 0 {
        let can_give = all.iter_mut().filter(|(of_group, drawn)| 2 * (drawn + 1) <= of_group.len());
        // Shares as fractions, a/b below c/d where a * d is below c * b.
        let Some((_, least)) = can_give.min_by(|(a, x), (b, y)| (*x * b.len()).cmp(&(*y * a.len()))) else { break };
        *least += 1;
        (more, lost) = (more + 1, lost - 1);
    }
    Some(all.into_iter().flat_map(|(of_group, drawn)| of_group.into_iter().take(drawn)).collect())
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
    fn a_part_by_group_has_the_shares_of_all_classes() {
        // 40 of class 0, 20 of class 1, 4 of class 2, in a mixed order.
        let labels: Vec<u16> = (0..64).map(|i| if i % 16 == 3 { 2 } else { u16::from(i % 3 == 0) }).collect();
        let count = |labels: &[u16]| [0, 1, 2].map(|class| labels.iter().filter(|&&l| l == class).count());
        let all = count(&labels);
        let a = Dataset::new("a", [1, 1, 1], 3, (0..64).collect(), labels).unwrap();
        let (rest, apart) = a.apart_by_group(0.25, 7, "test").unwrap();
        for (found, all) in count(apart.labels()).into_iter().zip(all) {
            assert!(found.abs_diff(all / 4) <= 1, "{found} of {all}");
        }
        assert_eq!((rest.len(), apart.len()), (48, 16));
        assert_eq!(a.apart_by_group(0.25, 7, "test").unwrap().1, apart);
        assert_ne!(a.apart_by_group(0.25, 8, "test").unwrap().1, apart);
    }

    /// A class of few samples is in both parts, whatever the seed.
    #[test]
    fn small_classes_are_in_both_parts() {
        // 90 of class 0, 2 of class 1, 3 of class 2, 1 of class 3.
        let labels: Vec<u16> = (0..96).map(|i| [0, 1, 2, 3][[90, 92, 95].partition_point(|&end| end <= i)]).collect();
        let a = Dataset::new("a", [1, 1, 1], 4, (0..96).collect(), labels).unwrap();
        let count = |d: &Dataset| [0, 1, 2, 3].map(|class| d.labels().iter().filter(|&&l| l == class).count());
        for seed in 0..50 {
            let (rest, apart) = a.apart_by_group(0.05, seed, "test").unwrap();
            assert_eq!((count(&apart), count(&rest)), ([3, 1, 1, 0], [87, 1, 2, 1]), "{seed}");
            let (rest, apart) = a.apart_by_group(0.99, seed, "test").unwrap();
            assert_eq!((count(&rest), count(&apart)), ([1, 1, 1, 1], [89, 1, 2, 0]), "{seed}");
        }
        // Two of each of three classes: the part grows.
        let small = Dataset::new("b", [1, 1, 1], 3, (0..6).collect(), vec![0, 1, 2, 0, 1, 2]).unwrap();
        let (rest, apart) = small.apart_by_group(0.1, 1, "test").unwrap();
        assert_eq!((rest.len(), apart.len()), (3, 3));
        // Places that fall on only samples are filled from larger classes, in their proportion and up to half of them.
        let of = |sizes: &[usize]| {
            let labels: Vec<u16> = sizes.iter().enumerate().flat_map(|(class, &n)| vec![class as u16; n]).collect();
            Dataset::new("d", [1, 1, 1], sizes.len(), vec![0; labels.len()], labels).unwrap()
        };
        let found = |sizes: &[usize], seed| {
            let (rest, apart) = of(sizes).apart_by_group(0.2, seed, "test").unwrap();
            assert_eq!(rest.len() + apart.len(), sizes.iter().sum::<usize>());
            (0..sizes.len()).map(|class| apart.labels().iter().filter(|&&l| l == class as u16).count()).collect()
        };
        let with = |large: &[usize], singles: usize| [large, &vec![1; singles]].concat();
        let drawn = |large: &[usize], singles: usize| [large, &vec![0; singles]].concat();
        for seed in 0..20 {
            let counts: Vec<usize> = found(&with(&[10], 90), seed);
            assert_eq!(counts, drawn(&[5], 90), "{seed}");
            let counts: Vec<usize> = found(&with(&[40, 20], 20), seed);
            assert_eq!(counts, drawn(&[11, 5], 20), "{seed}");
        }
        // Where every class has one sample, any will do.
        let single = Dataset::new("c", [1, 1, 1], 9, (0..9).collect(), (0..9).collect()).unwrap();
        assert_eq!(single.apart_by_group(0.3, 1, "test").unwrap().1.len(), 3);
    }
}
