//! Patches of pairs: what a network that enlarges images learns from. Where a patch is cut, and how it is turned, is drawn for
//! the small picture; the large one follows by the same [`Transform`], scaled.

use crate::ahead::Ahead;
use crate::picture::COLOURS;
use crate::{DataError, Normalize, Pairs, Picture, Result, Transform};
use fixnet_tensor::{
    Budget, Tensor,
    rng::{Stream, domain},
};
use rayon::prelude::*;
use std::sync::Arc;

/// How patches are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchSettings {
    /// Rows and columns of a patch of the small picture.
    pub side: usize,
    /// Patches of each picture in an epoch.
    pub each: usize,
    /// Whether half of them are mirrored left to right.
    pub flip: bool,
    /// Whether they are turned by none to three quarters.
    pub quarter_turns: bool,
}

/// Patches of one step.
#[derive(Debug, Clone)]
pub struct PatchBatch {
    /// Normalized patches of the small pictures, [N, side, side, 3].
    pub small: Tensor,
    /// What they stand for in the large ones, from 0 to 1, [N, scale · side, scale · side, 3].
    pub large: Tensor,
}

impl PatchSettings {
    /// Checks the settings against the pictures.
    ///
    /// # Errors
    /// The side or the number of patches is 0, or a picture is smaller than a patch.
    pub fn check(&self, pairs: &Pairs) -> Result<()> {
        if self.each == 0 {
            return Err(DataError::setting("patches", "at least 1", 0));
        }
        if self.side == 0 {
            return Err(DataError::setting("patch", "at least 1", 0));
        }
        let small = |i: &usize| pairs.size_of(*i).iter().any(|&side| side < self.side);
        match (0..pairs.len()).find(small) {
            None => Ok(()),
            Some(i) => {
                let [height, width] = pairs.size_of(i);
                let place = format!("{}: {}", pairs.name, pairs.name_of(i));
                let expected = format!("a small picture of at least {0}x{0} pixels, the side of a patch", self.side);
                Err(DataError::Unexpected { place, expected, found: format!("{height}x{width}") })
            }
        }
    }

    /// The cut of sample `index` of an epoch from a small picture: a function of these numbers and its size alone.
    fn draw(&self, seed: u64, epoch: u32, index: usize, [height, width]: [usize; 2]) -> Transform {
        let stream = Stream::new(seed, domain::AUGMENT, epoch, index as u32);
        let start = |word, side: usize| stream.below(word, (side - self.side + 1) as u32) as isize;
        Transform {
            top: start(0, height),
            left: start(1, width),
            height: self.side,
            width: self.side,
            flip: self.flip && stream.u32_at(2) >> 31 == 1,
            turns: if self.quarter_turns { (stream.u32_at(11) >> 30) as u8 } else { 0 },
        }
    }
}

/// An iterator over the batches of patches of one epoch.
///
/// Sample `i` is a patch of pair `i` modulo the number of pairs, and its place depends on (seed, epoch, `i`) alone; the order
/// depends on (seed, epoch). A run that is resumed within an epoch with [`skip_batches`](Self::skip_batches) sees what it would
/// have seen, on any number of threads.
#[derive(Debug)]
pub struct Patches {
    plan: Arc<Plan>,
    ahead: Ahead<PatchBatch>,
}

#[derive(Debug)]
struct Plan {
    pairs: Pairs,
    settings: PatchSettings,
    tables: Vec<[f32; 256]>,
    order: Vec<usize>,
    seed: u64,
    epoch: u32,
}

impl Patches {
    /// The patches of an epoch, shuffled.
    ///
    /// # Errors
    /// As [`PatchSettings::check`]; or the batch size is 0, or `normalize` is not one of three channels.
    pub fn new(
        pairs: &Pairs,
        settings: PatchSettings,
        batch_size: usize,
        normalize: &Normalize,
        seed: u64,
        epoch: u32,
    ) -> Result<Self> {
        settings.check(pairs)?;
        check_channels(normalize)?;
        if batch_size == 0 {
            return Err(DataError::setting("batch_size", "at least 1", 0));
        }
        let count = pairs.len().saturating_mul(settings.each);
        let order = Stream::new(seed, domain::SHUFFLE, epoch, 0).permutation(count);
        let plan = Plan { pairs: pairs.clone(), settings, tables: normalize.tables(), order, seed, epoch };
        Ok(Self { plan: Arc::new(plan), ahead: Ahead::new(count, batch_size) })
    }

    /// Leaves out the first `count` batches, as a resumed run does.
    #[must_use]
    pub fn skip_batches(mut self, count: usize) -> Self {
        self.ahead.skip(count);
        self
    }
}

impl Plan {
    fn batch(&self, start: usize, count: usize) -> Result<PatchBatch> {
        let side = [self.settings.side, self.settings.side * self.pairs.scale()];
        let shapes = side.map(|side| [count, side, side, COLOURS]);
        let mut budget = Budget::BATCH;
        for shape in shapes {
            budget.claim(&format!("{}: a batch of patches", self.pairs.name), &shape, size_of::<f32>())?;
        }
        let (mut small, mut large) = (Tensor::take(&shapes[0]), Tensor::take(&shapes[1]));
        let [small_len, large_len] = side.map(|side| side * side * COLOURS);
        let outputs =
            small.data_mut().par_chunks_exact_mut(small_len).zip(large.data_mut().par_chunks_exact_mut(large_len));
        let failed = outputs
            .enumerate()
            .filter_map(|(i, (small, large))| self.patch(self.order[start + i], small, large).err().map(|e| (i, e)));
        // Of several errors always the first of the batch.
        match failed.min_by_key(|&(i, _)| i) {
            Some((_, e)) => Err(e),
            None => Ok(PatchBatch { small, large }),
        }
    }

    fn patch(&self, index: usize, small_out: &mut [f32], large_out: &mut [f32]) -> Result<()> {
        let pair = index % self.pairs.len();
        let cut = self.settings.draw(self.seed, self.epoch, index, self.pairs.size_of(pair));
        self.pairs.with_pair(pair, |small, large| {
            cut.write(small.pixels(), small.shape(), small_out, |k, v| self.tables[k][usize::from(v)]);
            cut.scaled(self.pairs.scale()).write(large.pixels(), large.shape(), large_out, |_, v| f32::from(v) / 255.0);
        })
    }
}

impl Iterator for Patches {
    type Item = Result<PatchBatch>;

    fn next(&mut self) -> Option<Result<PatchBatch>> {
        let plan = Arc::clone(&self.plan);
        self.ahead.next(move |start, count| plan.batch(start, count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ahead.left();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Patches {}

fn check_channels(normalize: &Normalize) -> Result<()> {
    match normalize.mean().len() {
        COLOURS => Ok(()),
        found => Err(DataError::setting("normalization", "one of three channels", found)),
    }
}

impl Picture {
    /// What a network sees of the picture, [1, H, W, 3]: `(v / 255 - mean) / deviation`.
    ///
    /// # Errors
    /// The normalization is not one of three channels, or the numbers are beyond [`Budget::BATCH`].
    pub fn normalized(&self, normalize: &Normalize) -> Result<Tensor> {
        check_channels(normalize)?;
        let tables = normalize.tables();
        let shape = [1, self.height(), self.width(), COLOURS];
        Budget::BATCH.clone().claim("a picture as numbers", &shape, size_of::<f32>())?;
        let mut out = Tensor::take(&shape);
        let pixels = self.pixels().iter().enumerate();
        out.data_mut().iter_mut().zip(pixels).for_each(|(to, (i, &v))| *to = tables[i % COLOURS][usize::from(v)]);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large pictures whose pixels tell where they are, and small ones that have every second of them.
    fn pairs() -> Pairs {
        let pair = |(name, h, w): (&str, usize, usize)| {
            let large: Vec<u8> =
                (0..4 * h * w).flat_map(|i| [(i / (2 * w)) as u8, (i % (2 * w)) as u8, h as u8]).collect();
            let small = (0..h * w).flat_map(|i| [(2 * (i / w)) as u8, (2 * (i % w)) as u8, h as u8]).collect();
            (name.to_string(), Picture::new(h, w, small).unwrap(), Picture::new(2 * h, 2 * w, large).unwrap())
        };
        Pairs::new("p", 2, [("a", 8, 6), ("b", 5, 9), ("c", 7, 7)].map(pair).to_vec()).unwrap()
    }

    const SETTINGS: PatchSettings = PatchSettings { side: 3, each: 7, flip: true, quarter_turns: true };

    fn batches(seed: u64, epoch: u32, skip: usize) -> Vec<PatchBatch> {
        let normalize = Normalize::none(3);
        Patches::new(&pairs(), SETTINGS, 4, &normalize, seed, epoch)
            .unwrap()
            .skip_batches(skip)
            .map(Result::unwrap)
            .collect()
    }

    fn bits(batches: &[PatchBatch]) -> Vec<u32> {
        batches.iter().flat_map(|b| b.small.data().iter().chain(b.large.data()).map(|v| v.to_bits())).collect()
    }

    #[test]
    fn the_large_patch_shows_what_the_small_one_does() {
        let all = batches(1, 0, 0);
        assert_eq!(all.iter().map(|b| b.small.shape()[0]).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 1]);
        let byte = |v: f32| (v * 255.0).round() as i32;
        let mut seen = std::collections::BTreeSet::new();
        for batch in &all {
            for i in 0..batch.small.shape()[0] {
                let (small, large) = (&batch.small.data()[i * 27..][..27], &batch.large.data()[i * 108..][..108]);
                seen.insert(byte(small[2]));
                for p in 0..9 {
                    // The four large pixels of a small one are those of its place, in some order.
                    let (y, x) = (p / 3, p % 3);
                    let mut found: Vec<[i32; 2]> = (0..4)
                        .map(|q| ((2 * y + q / 2) * 6 + 2 * x + q % 2) * 3)
                        .map(|at| [byte(large[at]), byte(large[at + 1])])
                        .collect();
                    found.sort_unstable();
                    let [r, c] = [byte(small[p * 3]), byte(small[p * 3 + 1])];
                    assert_eq!(found, [[r, c], [r, c + 1], [r + 1, c], [r + 1, c + 1]]);
                }
            }
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [5, 7, 8], "every picture has patches");
    }

    #[test]
    fn patches_are_a_function_of_seed_epoch_and_index() {
        let whole = bits(&batches(5, 1, 0));
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| bits(&batches(5, 1, 0))) == whole, "{threads} threads");
        }
        assert_eq!(bits(&batches(5, 1, 2)), whole[2 * 4 * 135..]);
        assert!(bits(&batches(6, 1, 0)) != whole && bits(&batches(5, 2, 0)) != whole);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |settings, size, normalize| {
            Patches::new(&pairs(), settings, size, &normalize, 1, 0).unwrap_err().to_string()
        };
        let e = refused(PatchSettings { side: 6, ..SETTINGS }, 1, Normalize::none(3));
        assert_eq!(e, "p: b: expected a small picture of at least 6x6 pixels, the side of a patch, found 5x9");
        assert!(
            refused(PatchSettings { side: 0, ..SETTINGS }, 1, Normalize::none(3))
                .contains("patch: expected at least 1")
        );
        assert!(
            refused(PatchSettings { each: 0, ..SETTINGS }, 1, Normalize::none(3))
                .contains("patches: expected at least 1")
        );
        assert!(refused(SETTINGS, 0, Normalize::none(3)).contains("batch_size"));
        assert!(refused(SETTINGS, 1, Normalize::none(1)).contains("three channels"));
    }
}
