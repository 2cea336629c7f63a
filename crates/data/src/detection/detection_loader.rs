//! Batches of images with boxes: each image on a canvas of one size, normalized; prepared ahead while the network computes.

use super::placement::check_sides;
use super::{Annotation, Composition, Detection, DetectionAugment, DetectionSet, Placement};
use crate::ahead::Ahead;
use crate::picture::COLOURS;
use crate::vary::jitter;
use crate::{DataError, Normalize, Picture, Result};
use fixnet_tensor::{
    Budget, Tensor,
    rng::{Stream, domain},
};
use rayon::prelude::*;
use std::sync::Arc;

/// Images of one step with their objects.
#[derive(Debug, Clone)]
pub struct DetectionBatch {
    /// Normalized images [N, height, width, 3] of the canvas. What no image covers is 0, as the mean colour is.
    pub images: Tensor,
    /// The objects on each canvas, in pixels of the canvas.
    pub annotations: Vec<Vec<Annotation>>,
    /// The objects of each image as its file has them, in pixels of the image: the truth that metrics take. Of a mosaic those of the image itself.
    pub truth: Vec<Vec<Annotation>>,
    /// The index of each image in its set.
    pub indices: Vec<usize>,
    /// Where each image is on its canvas; of a mosaic the place of the image itself.
    pub placements: Vec<Placement>,
    /// Height and width of each image before it was placed.
    pub sizes: Vec<[usize; 2]>,
}

impl DetectionBatch {
    /// Returns what was found on canvas `i` of the batch in pixels of its image, clipped to it. Detections that are outside of it are left
    /// out; the others keep their order.
    ///
    /// # Panics
    /// There is no canvas `i`.
    pub fn back(&self, i: usize, found: &[Detection]) -> Vec<Detection> {
        self.placements[i].detections_back(self.sizes[i], found)
    }
}

/// An iterator over the batches of one epoch.
///
/// The order depends on (seed, epoch) alone and the variation of an image on (seed, epoch, index of the image), so a run that is resumed
/// within an epoch with [`skip_batches`](Self::skip_batches) sees what it would have seen, on any number of threads. The last batch holds
/// what is left. A picture that cannot be read ends the iteration with its error.
///
/// ```
/// use fixnet_data::{DetectionAugment, DetectionLoader, digits_detect};
/// let split = digits_detect()?;
/// let augment = DetectionAugment { scale: 0.5, mosaic: 0.5, ..DetectionAugment::default() };
/// let normalize = split.train.first(8)?.normalization()?;
/// let mut batches = DetectionLoader::new(&split.train, [96, 96], 4, &normalize)?.shuffled(1, 0).augmented(augment, 1, 0)?;
/// let batch = batches.next().unwrap()?;
/// assert_eq!((batch.images.shape(), batch.annotations.len()), (&[4, 96, 96, 3][..], 4));
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug)]
pub struct DetectionLoader {
    plan: Arc<Plan>,
    ahead: Ahead<DetectionBatch>,
}

#[derive(Debug, Clone)]
struct Plan {
    set: DetectionSet,
    canvas: [usize; 2],
    tables: Vec<[f32; 256]>,
    /// The images in their order; `None` is the order of the set.
    order: Option<Vec<usize>>,
    augment: DetectionAugment,
    seed: u64,
    epoch: u32,
}

impl DetectionLoader {
    /// Makes batches of all images of `set` in their order, each in the upper left corner of a canvas of `[height, width]`, as large as it
    /// fits.
    ///
    /// # Errors
    /// The batch size is 0, a side of the canvas is 0 or more than 16384, or `normalize` is not one of three channels.
    pub fn new(set: &DetectionSet, canvas: [usize; 2], batch_size: usize, normalize: &Normalize) -> Result<Self> {
        check(canvas, normalize)?;
        if batch_size == 0 {
            return Err(DataError::setting("batch_size", "at least 1", 0));
        }
        let augment = DetectionAugment { keep: 0.0, ..DetectionAugment::default() };
        let plan =
            Plan { set: set.clone(), canvas, tables: normalize.tables(), order: None, augment, seed: 0, epoch: 0 };
        Ok(Self { plan: Arc::new(plan), ahead: Ahead::new(set.len(), batch_size) })
    }

    /// Shuffles by a permutation that depends on seed and epoch alone.
    #[must_use]
    pub fn shuffled(mut self, seed: u64, epoch: u32) -> Self {
        let plan = Arc::make_mut(&mut self.plan);
        plan.order = Some(Stream::new(seed, domain::SHUFFLE, epoch, 0).permutation(plan.set.len()));
        self
    }

    /// Varies each image by a draw that depends on seed, epoch and the image's index in the set alone.
    ///
    /// # Errors
    /// A setting is out of its range ([`DetectionAugment::check`]).
    pub fn augmented(mut self, augment: DetectionAugment, seed: u64, epoch: u32) -> Result<Self> {
        augment.check()?;
        let plan = Arc::make_mut(&mut self.plan);
        (plan.augment, plan.seed, plan.epoch) = (augment, seed, epoch);
        Ok(self)
    }

    /// Leaves out the first `count` batches, as a resumed run does.
    #[must_use]
    pub fn skip_batches(mut self, count: usize) -> Self {
        self.ahead.skip(count);
        self
    }
}

impl Plan {
    fn batch(&self, start: usize, count: usize) -> Result<DetectionBatch> {
        let shape = [count, self.canvas[0], self.canvas[1], COLOURS];
        Budget::BATCH.clone().claim(&format!("{}: a batch of images", self.set.name), &shape, size_of::<f32>())?;
        let indices: Vec<usize> =
            (start..start + count).map(|place| self.order.as_ref().map_or(place, |order| order[place])).collect();
        let compose = |&index: &usize| self.augment.compose(&self.set, self.canvas, self.seed, self.epoch, index);
        let compositions: Vec<Composition> = indices.iter().map(compose).collect::<Result<_>>()?;
        let mut images = Tensor::take(&shape);
        let len = shape[1..].iter().product();
        let outputs = images.data_mut().par_chunks_exact_mut(len).zip(&compositions);
        let failed = outputs.enumerate().filter_map(|(i, (out, of))| self.draw(of, out).err().map(|e| (i, e)));
        // Of several errors always the first of the batch.
        if let Some((_, e)) = failed.min_by_key(|&(i, _)| i) {
            return Err(e);
        }
        Ok(DetectionBatch {
            images,
            annotations: compositions.iter().map(|of| of.annotations(&self.set, self.augment.keep)).collect(),
            truth: indices.iter().map(|&index| self.set.image(index).annotations.clone()).collect(),
            placements: compositions.iter().map(|of| of.parts[0].1).collect(),
            sizes: indices.iter().map(|&index| self.set.image(index).size).collect(),
            indices,
        })
    }

    /// Writes a canvas.
    fn draw(&self, composition: &Composition, out: &mut [f32]) -> Result<()> {
        out.fill(0.0);
        for (index, placement) in &composition.parts {
            let shown = placement.picture(&self.set.picture(*index)?)?;
            let mut pixels = shown.pixels().to_vec();
            if let Some(factors) = composition.colour {
                jitter(&mut pixels, COLOURS, factors);
            }
            put(&pixels, shown.width(), placement.at, &self.tables, self.canvas[1], out);
        }
        Ok(())
    }
}

fn check(canvas: [usize; 2], normalize: &Normalize) -> Result<()> {
    check_sides("canvas", canvas)?;
    match normalize.mean().len() {
        COLOURS => Ok(()),
        odd => Err(DataError::setting("normalization", "one of three channels", odd)),
    }
}

/// Writes pixels, in rows of `width`, normalized to a place on a canvas with so many columns.
fn put(pixels: &[u8], width: usize, [top, left]: [usize; 2], tables: &[[f32; 256]], columns: usize, out: &mut [f32]) {
    let rows = out.chunks_exact_mut(columns * COLOURS).skip(top);
    for (row, from) in rows.zip(pixels.chunks_exact(width * COLOURS)) {
        let to = &mut row[left * COLOURS..][..from.len()];
        to.iter_mut().zip(from).enumerate().for_each(|(i, (to, &v))| *to = tables[i % COLOURS][usize::from(v)]);
    }
}

/// Puts one image on a canvas of `[height, width]` as a [`DetectionLoader`] without augmentation does: normalized [1, H, W, 3], with 0 where
/// the image does not cover it.
///
/// # Errors
/// A side of the canvas is 0 or more than 16384, or `normalize` is not one of three channels.
pub fn on_canvas(image: &Picture, canvas: [usize; 2], normalize: &Normalize) -> Result<(Tensor, Placement)> {
    check(canvas, normalize)?;
    let placement = Placement::letterbox([image.height(), image.width()], canvas)?;
    let shown = placement.picture(image)?;
    let mut out = Tensor::zeros(&[1, canvas[0], canvas[1], COLOURS]);
    put(shown.pixels(), shown.width(), placement.at, &normalize.tables(), canvas[1], out.data_mut());
    Ok((out, placement))
}

impl Iterator for DetectionLoader {
    type Item = Result<DetectionBatch>;

    fn next(&mut self) -> Option<Result<DetectionBatch>> {
        let plan = Arc::clone(&self.plan);
        self.ahead.next(move |start, count| plan.batch(start, count))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.ahead.left();
        (left, Some(left))
    }
}

impl ExactSizeIterator for DetectionLoader {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnotatedImage, BoundingBox};

    /// Images of several sizes, black but for a rectangle in a colour of its image, which has a box. One image has no box.
    fn set() -> DetectionSet {
        let sizes = [[40, 64], [64, 40], [32, 32], [50, 90], [24, 100]];
        let image = |i: usize| {
            let [height, width] = sizes[i];
            let (y, x, h, w) = (4 + i, 6 + 2 * i, 12, 16);
            let inside = |p: usize| (y..y + h).contains(&(p / width)) && (x..x + w).contains(&(p % width));
            let colour = [255, 50 * i as u8, 200];
            let pixels = (0..height * width).flat_map(|p| if inside(p) && i != 2 { colour } else { [0; 3] });
            let bbox = BoundingBox::new(x as f32, y as f32, (x + w) as f32, (y + h) as f32);
            let annotations = if i == 2 { vec![] } else { vec![Annotation::new(bbox, i)] };
            let image = AnnotatedImage { name: format!("{i}"), id: i as u64, size: [height, width], annotations };
            (image, Picture::new(height, width, pixels.collect()).unwrap())
        };
        DetectionSet::new("d", (0..5).map(|i| i.to_string()).collect(), (0..5).map(image).collect()).unwrap()
    }

    const STRONG: DetectionAugment = DetectionAugment {
        flip: true,
        scale: 0.5,
        crop: 0.3,
        keep: 0.0,
        brightness: 0.0,
        contrast: 0.0,
        saturation: 0.0,
        mosaic: 0.5,
    };

    fn batches(augment: DetectionAugment, seed: u64, epoch: u32, skip: usize) -> Vec<DetectionBatch> {
        let loader = DetectionLoader::new(&set(), [48, 56], 2, &Normalize::none(3)).unwrap().shuffled(seed, epoch);
        loader.augmented(augment, seed, epoch).unwrap().skip_batches(skip).map(Result::unwrap).collect()
    }

    fn bits(batches: &[DetectionBatch]) -> Vec<u32> {
        let of = |batch: &DetectionBatch| {
            let boxes = batch.annotations.iter().flatten().flat_map(|of| of.bbox.to_array());
            batch.images.data().iter().copied().chain(boxes).map(f32::to_bits).collect::<Vec<_>>()
        };
        batches.iter().flat_map(of).collect()
    }

    #[test]
    fn batches_are_a_function_of_seed_epoch_and_index() {
        let augment = DetectionAugment { brightness: 0.3, contrast: 0.3, saturation: 0.5, ..STRONG };
        let whole = batches(augment, 5, 1, 0);
        assert_eq!(whole.iter().map(|b| b.images.shape()[0]).collect::<Vec<_>>(), [2, 2, 1]);
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(pool.install(|| bits(&batches(augment, 5, 1, 0))) == bits(&whole), "{threads} threads");
        }
        assert!(bits(&batches(augment, 5, 1, 1)) == bits(&whole[1..]));
        assert!(bits(&batches(augment, 6, 1, 0)) != bits(&whole) && bits(&batches(augment, 5, 2, 0)) != bits(&whole));
        // The variation of an image is the same wherever it is in the order.
        let plain = DetectionLoader::new(&set(), [48, 56], 5, &Normalize::none(3)).unwrap();
        let plain = plain.augmented(augment, 5, 1).unwrap().next().unwrap().unwrap();
        for (i, &index) in whole[0].indices.iter().enumerate() {
            assert_eq!(whole[0].placements[i], plain.placements[index]);
            let len = 48 * 56 * 3;
            assert!(whole[0].images.data()[i * len..][..len] == plain.images.data()[index * len..][..len]);
        }
    }

    #[test]
    fn boxes_follow_their_pixels_through_all_augmentations() {
        let (mut seen, mut mosaics, mut flips) = (0, 0, 0);
        for epoch in 0..60 {
            for batch in batches(STRONG, 3, epoch, 0) {
                for (i, annotations) in batch.annotations.iter().enumerate() {
                    let canvas = &batch.images.data()[i * 48 * 56 * 3..][..48 * 56 * 3];
                    mosaics += usize::from(annotations.len() > 1);
                    flips += usize::from(batch.placements[i].flip);
                    for object in annotations {
                        let bbox = object.bbox;
                        assert!(bbox.has_area() && bbox.clipped(&BoundingBox::of_image([48, 56])) == bbox);
                        for (p, pixel) in canvas.chunks_exact(3).enumerate() {
                            let (y, x) = ((p / 56) as f32 + 0.5, (p % 56) as f32 + 0.5);
                            // Well inside a box is its colour, at full strength.
                            let inside = (y - bbox.y1).min(bbox.y2 - y).min(x - bbox.x1).min(bbox.x2 - x);
                            if inside > 3.0 {
                                let expected = [1.0, 50.0 * object.class as f32 / 255.0, 200.0 / 255.0];
                                assert!(
                                    pixel.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01),
                                    "{object:?} {y} {x} {pixel:?}"
                                );
                                seen += 1;
                            }
                        }
                    }
                    // Outside all boxes all is black.
                    for (p, pixel) in canvas.chunks_exact(3).enumerate() {
                        let (y, x) = ((p / 56) as f32 + 0.5, (p % 56) as f32 + 0.5);
                        let near = |a: &Annotation| {
                            y > a.bbox.y1 - 3.0 && y < a.bbox.y2 + 3.0 && x > a.bbox.x1 - 3.0 && x < a.bbox.x2 + 3.0
                        };
                        assert!(pixel[0] == 0.0 || annotations.iter().any(near), "{y} {x} {annotations:?}");
                    }
                }
            }
        }
        assert!(seen > 3000 && mosaics > 50 && flips > 50, "{seen} {mosaics} {flips}");
    }

    #[test]
    fn one_image_is_put_on_a_canvas_as_in_a_batch() {
        let set = set();
        let normalize = set.normalization().unwrap();
        let batch = DetectionLoader::new(&set, [48, 56], 5, &normalize).unwrap().next().unwrap().unwrap();
        for (i, of_batch) in batch.images.data().chunks_exact(48 * 56 * 3).enumerate() {
            let (alone, placement) = on_canvas(&set.picture(i).unwrap(), [48, 56], &normalize).unwrap();
            assert!(alone.data() == of_batch && placement == batch.placements[i], "{i}");
        }
        let picture = set.picture(0).unwrap();
        assert!(on_canvas(&picture, [0, 8], &normalize).is_err());
        assert!(on_canvas(&picture, [8, 8], &Normalize::none(1)).is_err());
    }

    #[test]
    fn without_augmentation_detections_come_back_to_their_images() {
        let set = set();
        let batch = DetectionLoader::new(&set, [48, 56], 5, &Normalize::none(3)).unwrap().next().unwrap().unwrap();
        for i in 0..5 {
            assert_eq!(batch.placements[i], Placement::letterbox(set.image(i).size, [48, 56]).unwrap());
            let found: Vec<Detection> =
                batch.annotations[i].iter().map(|a| Detection { bbox: a.bbox, class: a.class, score: 0.5 }).collect();
            for (back, truth) in batch.back(i, &found).iter().zip(&set.image(i).annotations) {
                let pairs = back.bbox.to_array().into_iter().zip(truth.bbox.to_array());
                assert!(
                    pairs.clone().all(|(a, b)| (a - b).abs() < 1e-5) && back.class == truth.class,
                    "{back:?} {truth:?}"
                );
            }
        }
        // What lies in the padding alone is left out.
        let padding = Detection { bbox: BoundingBox::new(0.0, 40.0, 9.0, 48.0), class: 0, score: 0.5 };
        assert!(batch.back(4, &[padding]).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let set = set();
        let refused = |canvas, size, channels| {
            DetectionLoader::new(&set, canvas, size, &Normalize::none(channels)).unwrap_err().to_string()
        };
        assert!(refused([0, 8], 1, 3).starts_with("canvas: expected a height and a width"));
        assert!(refused([8, 8], 0, 3).starts_with("batch_size"));
        assert!(refused([8, 8], 1, 1).contains("three channels"));
        for (augment, key) in [
            (DetectionAugment { scale: 1.0, ..STRONG }, "scale"),
            (DetectionAugment { crop: -0.1, ..STRONG }, "crop"),
            (DetectionAugment { keep: f64::NAN, ..STRONG }, "keep"),
            (DetectionAugment { mosaic: 1.5, ..STRONG }, "mosaic"),
        ] {
            let loader = DetectionLoader::new(&set, [8, 8], 1, &Normalize::none(3)).unwrap();
            assert!(loader.augmented(augment, 1, 0).unwrap_err().to_string().starts_with(key));
        }
    }
}
