//! How training images with boxes are varied: which images are on a canvas, and where. `Placement` carries it out.

use super::placement::check_sides;
use super::{Annotation, DetectionSet, Placement};
use crate::{DataError, Result};
use fixnet_tensor::rng::{Stream, domain};
use serde::{Deserialize, Serialize};

/// How training images with boxes are varied. The default changes nothing: each image is in the upper left corner of the canvas, as
/// large as it fits.
///
/// In this order: mosaic; crop; scale; place on the canvas; flip; colour. All of it is a function of (seed, epoch, index), and the same
/// numbers move pixels and boxes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DetectionAugment {
    /// Half of the images are mirrored left to right.
    pub flip: bool,
    /// 0 to below 1: the image is scaled by a random factor from 1 - this to 1 + this, beyond what fits the canvas, and put at a random
    /// place of it, or a random part of it is shown.
    pub scale: f64,
    /// 0 to below 1: a random window of the image is shown, with up to this share of its height and of its width left out.
    pub crop: f64,
    /// 0 to 1: a box of which less than this share is left on the canvas is dropped; others are clipped.
    pub keep: f64,
    /// 0 to 1: every value is multiplied by a random factor from 1 - this to 1 + this.
    pub brightness: f64,
    /// 0 to 1: the same for the difference to the mean grey of the image.
    pub contrast: f64,
    /// 0 to 1: the same for the difference to the grey of the pixel.
    pub saturation: f64,
    /// 0 to 1, a probability: the canvas is divided into four parts at a random point, and three random images of the set fill the other
    /// parts (Bochkovskiy et al., 2020). Each is half to fully as large as it fits the canvas.
    pub mosaic: f64,
}

impl Default for DetectionAugment {
    fn default() -> Self {
        Self {
            flip: false,
            scale: 0.0,
            crop: 0.0,
            keep: 0.3,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            mosaic: 0.0,
        }
    }
}

/// What is on a canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Composition {
    /// The index of each image with its place: one, or the four of a mosaic, of which the first is the image itself. They do not overlap.
    pub parts: Vec<(usize, Placement)>,
    /// Factors of brightness, contrast and saturation in 1/256.
    pub(crate) colour: Option<[i32; 3]>,
}

/// Words of the random stream of an image. Each part of a mosaic has eight of its own from `PARTS` on.
mod word {
    pub(super) const COLOUR: u64 = 0;
    pub(super) const MOSAIC: u64 = 3;
    pub(super) const CENTRE: u64 = 4;
    pub(super) const PARTNERS: u64 = 6;
    pub(super) const PARTS: u64 = 16;
}

impl DetectionAugment {
    /// Checks all ranges.
    ///
    /// # Errors
    /// A setting is not in the range that its field states.
    pub fn check(&self) -> Result<()> {
        for (key, share) in [("scale", self.scale), ("crop", self.crop)] {
            if !(0.0..1.0).contains(&share) {
                return Err(DataError::setting(key, "a number from 0 to below 1", share));
            }
        }
        let shares = [
            ("keep", self.keep),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
            ("mosaic", self.mosaic),
        ];
        match shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((key, found)) => Err(DataError::setting(key, "a number from 0 to 1", found)),
            None => Ok(()),
        }
    }

    /// Draws what is on a canvas of `[height, width]` for image `index` in an epoch: a function of these numbers and of the sizes of the
    /// images alone.
    ///
    /// # Errors
    /// A side of the canvas is 0 or more than 16384.
    ///
    /// # Panics
    /// There is no image `index`.
    pub fn compose(
        &self,
        set: &DetectionSet,
        canvas: [usize; 2],
        seed: u64,
        epoch: u32,
        index: usize,
    ) -> Result<Composition> {
        check_sides("canvas", canvas)?;
        let stream = Stream::new(seed, domain::AUGMENT, epoch, index as u32);
        let uniform = |word| f64::from(stream.uniform_at(word));
        let strengths = [self.brightness, self.contrast, self.saturation];
        let colour = strengths.iter().any(|&s| s > 0.0).then(|| {
            let factor = |i: usize| {
                let most = (strengths[i] * 256.0).round() as u32;
                256 - most as i32 + stream.below(word::COLOUR + i as u64, 2 * most + 1) as i32
            };
            [factor(0), factor(1), factor(2)]
        });
        if self.mosaic == 0.0 || uniform(word::MOSAIC) >= self.mosaic || canvas.iter().any(|&side| side < 4) {
            let place = Area { at: [0, 0], size: canvas, canvas, mosaic: false };
            return Ok(Composition {
                parts: vec![(index, self.place(&stream, 0, set.image(index).size, place)?)],
                colour,
            });
        }
        // In the middle half of either axis.
        let cut = |axis: usize| {
            let quarter = canvas[axis] / 4;
            quarter + stream.below(word::CENTRE + axis as u64, (canvas[axis] - 2 * quarter + 1) as u32) as usize
        };
        let [row, column] = [cut(0), cut(1)];
        let mut parts = Vec::with_capacity(4);
        for part in 0..4 {
            let count = u32::try_from(set.len()).unwrap_or(u32::MAX);
            let of = if part == 0 { index } else { stream.below(word::PARTNERS + part, count) as usize };
            let [below, right] = [part / 2 == 1, part % 2 == 1];
            let size = [if below { canvas[0] - row } else { row }, if right { canvas[1] - column } else { column }];
            let at = [if below { row } else { 0 }, if right { column } else { 0 }];
            parts.push((of, self.place(&stream, part, set.image(of).size, Area { at, size, canvas, mosaic: true })?));
        }
        Ok(Composition { parts, colour })
    }

    /// Draws where an image of `size` is in a part of the canvas.
    fn place(&self, stream: &Stream, part: u64, size: [usize; 2], area: Area) -> Result<Placement> {
        let word = |i: u64| word::PARTS + 8 * part + i;
        let uniform = |i| f64::from(stream.uniform_at(word(i)));
        let below = |i, count: usize| stream.below(word(i), u32::try_from(count).unwrap_or(u32::MAX)) as usize;
        let [mut top, mut left, mut height, mut width] = [0, 0, size[0], size[1]];
        if self.crop > 0.0 {
            let length = |i, side: usize| {
                let shown = libm::round(side as f64 * (1.0 - self.crop * uniform(i)));
                (shown as usize).clamp(1, side)
            };
            [height, width] = [length(0, height), length(1, width)];
            [top, left] = [below(2, size[0] - height + 1), below(3, size[1] - width + 1)];
        }
        let fit = Placement::letterbox([height, width], area.canvas)?;
        let half = if area.mosaic { 0.5 + 0.5 * uniform(4) } else { 1.0 };
        let factor = half * (1.0 + self.scale * (2.0 * uniform(5) - 1.0));
        let mut placed = Placement { window: [top, left, height, width], flip: false, size: fit.size, at: area.at };
        let moves = area.mosaic || self.scale > 0.0 || self.crop > 0.0;
        for axis in 0..2 {
            let whole = libm::round(fit.size[axis] as f64 * factor).max(1.0) as usize;
            let room = area.size[axis];
            let length = placed.window[2 + axis];
            if whole <= room {
                placed.size[axis] = whole;
                placed.at[axis] += if moves { below(6 + axis as u64, room - whole + 1) } else { 0 };
            } else {
                // A part of the window fills the room.
                let shown = libm::round(length as f64 * room as f64 / whole as f64).max(1.0) as usize;
                let shown = shown.min(length);
                placed.window[axis] += below(6 + axis as u64, length - shown + 1);
                placed.window[2 + axis] = shown;
                placed.size[axis] = room;
            }
        }
        // The word after those of all parts: as many bits as parts.
        placed.flip = self.flip && stream.u32_at(word::PARTS + 32) >> (31 - part) & 1 == 1;
        Ok(placed)
    }
}

/// A part of a canvas.
#[derive(Clone, Copy)]
struct Area {
    at: [usize; 2],
    size: [usize; 2],
    canvas: [usize; 2],
    mosaic: bool,
}

impl Composition {
    /// Returns the objects on the canvas: those of each part in their order, of which at least the share `keep` is shown.
    pub fn annotations(&self, set: &DetectionSet, keep: f64) -> Vec<Annotation> {
        let of = |(index, placement): &(usize, Placement)| {
            let all = set.image(*index).annotations.iter();
            all.filter_map(|object| placement.annotation(object, keep as f32)).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of).collect()
    }
}
