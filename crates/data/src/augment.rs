//! Augmentation: how training images are varied, and the draw of one variation. `vary.rs` carries it out.

use crate::vary::{Affine, Variation};
use crate::{DataError, Result, Transform};
use fixnet_tensor::rng::{Stream, domain};
use serde::{Deserialize, Serialize};

/// How training images are varied. The default changes nothing.
///
/// In this order: crop and flip; quarter turns; rotation and shift (one bilinear interpolation); brightness, contrast, saturation;
/// normalization; cutout; erasing; mixup or cutmix. All but mixup is integer arithmetic, so the same everywhere. What lies
/// outside an image is black.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// The image is framed with this many black pixels on each side and cropped to its size at a random place.
    pub crop_padding: usize,
    /// Half of the images are mirrored left to right.
    pub flip: bool,
    /// Square images are turned by none to three quarters.
    pub quarter_turns: bool,
    /// Degrees, 0 to 180: turned about its centre by a random angle of at most this many either way.
    pub rotation: f64,
    /// A share of height and width, 0 to 1: moved by at most this much either way, by parts of a pixel too.
    pub shift: f64,
    /// 0 to 1: every value is multiplied by a random factor from 1 - this to 1 + this.
    pub brightness: f64,
    /// 0 to 1: the same for the difference to the mean grey of the image.
    pub contrast: f64,
    /// 0 to 1: the same for the difference to the grey of the pixel; for three channels, others have no colour.
    pub saturation: f64,
    /// A square of this side about a random pixel, as far as it lies inside, becomes 0 after normalization (DeVries and
    /// Taylor, 2017).
    pub cutout: usize,
    /// 0 to 1, alpha of a Beta(alpha, alpha) distribution: each image is mixed with a random other one by a share drawn
    /// from it, and so are their labels (Zhang et al., 2018). Off at 0.
    pub mixup: f64,
    /// 0 to 1, alpha as for mixup: a random window of each image comes from a random other one, as large as that one's share,
    /// and their labels are mixed by their areas (Yun et al., 2019). Off at 0; where mixup is on too, each image has one
    /// of the two.
    pub cutmix: f64,
    /// 0 to 1, a probability: a random rectangle of 2 % to a third of the image, of a ratio of sides from 0.3 to 3.3, becomes 0
    /// after normalization (Zhong et al., 2020).
    pub erasing: f64,
}

/// With what a sample is mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// The index of the other sample.
    pub other: usize,
    /// The share of this sample, at least a half.
    pub share: f32,
    /// Rows and columns, from and to, that are those of the other one; `None` where each number is a mean of both.
    pub window: Option<[[usize; 2]; 2]>,
}

impl Augment {
    /// Checks all ranges.
    ///
    /// # Errors
    /// A setting is not in the range that its field states.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("shift", self.shift),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("saturation", self.saturation),
            ("mixup", self.mixup),
            ("cutmix", self.cutmix),
            ("erasing", self.erasing),
        ];
        if !(0.0..=180.0).contains(&self.rotation) {
            return Err(DataError::setting("rotation", "degrees from 0 to 180", self.rotation));
        }
        match shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((key, found)) => Err(DataError::setting(key, "a number from 0 to 1", found)),
            None => Ok(()),
        }
    }

    /// Checks what depends on the images, of `[height, width, channels]`.
    ///
    /// # Errors
    /// The padding is as long as a side: a crop could see nothing of the image; or a square of the cutout would always
    /// blank all of it.
    pub fn check_for(&self, [height, width, _]: [usize; 3]) -> Result<()> {
        let (padding, cutout) = (height.min(width), 2 * height.max(width));
        if self.crop_padding >= padding {
            let expected = format!("less than a side of the images ({height}x{width})");
            return Err(DataError::setting("crop_padding", &expected, self.crop_padding));
        }
        if self.quarter_turns && height != width {
            let found = format!("true with images of {height}x{width}");
            return Err(DataError::setting("quarter_turns", "false, since only square images keep their shape", found));
        }
        if self.cutout >= cutout {
            let expected = format!("less than twice a side of the images ({height}x{width})");
            return Err(DataError::setting("cutout", &expected, self.cutout));
        }
        Ok(())
    }

    /// The variation of image `index` in an epoch: a function of these numbers and the shape alone.
    pub(crate) fn draw(&self, seed: u64, epoch: u32, index: usize, [height, width, _]: [usize; 3]) -> Variation {
        let stream = Stream::new(seed, domain::AUGMENT, epoch, index as u32);
        // -n to n. Far beyond the side of any image a larger number makes no difference.
        let around = |word, n: usize| {
            let n = n.min(usize::from(u16::MAX)) as u32;
            stream.below(word, 2 * n + 1) as i32 - n as i32
        };
        let offset = |word| around(word, self.crop_padding) as isize;
        let affine = (self.rotation > 0.0 || self.shift > 0.0).then(|| {
            // Hundredths of a degree, and 1/256 of a pixel.
            let angle = around(3, (self.rotation * 100.0).round() as usize);
            let shift = |word, side: usize| around(word, (self.shift * side as f64 * 256.0).round() as usize);
            Affine::new(f64::from(angle) / 100.0, [shift(4, height), shift(5, width)])
        });
        let strengths = [self.brightness, self.contrast, self.saturation];
        let colour = strengths.iter().any(|&s| s > 0.0).then(|| {
            let factor = |i: usize| 256 + around(6 + i as u64, (strengths[i] * 256.0).round() as usize);
            [factor(0), factor(1), factor(2)]
        });
        let cutout = (self.cutout > 0).then(|| {
            let range = |word, side: usize| {
                let centre = stream.below(word, u32::try_from(side).unwrap_or(u32::MAX)) as usize;
                let end = centre.saturating_add(self.cutout - self.cutout / 2).min(side);
                [centre.saturating_sub(self.cutout / 2), end]
            };
            [range(9, height), range(10, width)]
        });
        let erased = self.erased(&stream, [height, width]);
        let flip = self.flip && stream.u32_at(2) >> 31 == 1;
        let turns = if self.quarter_turns { (stream.u32_at(11) >> 30) as u8 } else { 0 };
        Variation { dy: offset(0), dx: offset(1), flip, turns, affine, colour, cutout, erased }
    }

    /// How the pixels of image `index`, of `[height, width, channels]`, move in an epoch, so that a target (boxes, another image)
    /// can follow. `None` where they also move by parts of a pixel (rotation, shift).
    pub fn transform(&self, seed: u64, epoch: u32, index: usize, shape: [usize; 3]) -> Option<Transform> {
        let Variation { dy, dx, flip, turns, affine, .. } = self.draw(seed, epoch, index, shape);
        affine.is_none().then_some(Transform { top: dy, left: dx, height: shape[0], width: shape[1], flip, turns })
    }

    /// Rows and columns of the rectangle that erasing blanks, from and to.
    fn erased(&self, stream: &Stream, sides: [usize; 2]) -> Option<[[usize; 2]; 2]> {
        // Words beyond those of `partner`.
        let uniform = |word: u64| f64::from(stream.uniform_at(160 + word));
        if self.erasing <= 0.0 || uniform(0) >= self.erasing {
            return None;
        }
        let area = (sides[0] * sides[1]) as f64;
        // A rectangle that is longer than a side is drawn anew.
        (0..10).find_map(|attempt| {
            let uniform = |word| uniform(1 + 4 * attempt + word);
            let part = area * (0.02 + uniform(0) * (1.0 / 3.0 - 0.02));
            let (low, high) = (libm::log(0.3), libm::log(3.3));
            let ratio = libm::exp(low + uniform(1) * (high - low));
            let lengths = [part * ratio, part / ratio].map(|square| libm::round(libm::sqrt(square)) as usize);
            let fits = lengths.iter().zip(sides).all(|(&length, side)| length > 0 && length < side);
            let range = |axis: usize| {
                let start = (uniform(2 + axis as u64) * (sides[axis] - lengths[axis] + 1) as f64) as usize;
                [start, start + lengths[axis]]
            };
            fits.then(|| [range(0), range(1)])
        })
    }

    /// With what image `index` of `[height, width, channels]` is mixed: `None` without mixup and cutmix. A sample that is no image
    /// has no window. Shares of mixup are 1/2 to 1 in 1/256.
    pub(crate) fn partner(
        &self,
        seed: u64,
        epoch: u32,
        index: usize,
        count: usize,
        shape: Option<[usize; 3]>,
    ) -> Option<Mix> {
        let stream = Stream::new(seed, domain::AUGMENT, epoch, index as u32);
        let cuts = match (self.mixup > 0.0, self.cutmix > 0.0 && shape.is_some()) {
            (false, false) => return None,
            (true, true) => stream.u32_at(13) >> 31 == 1,
            (_, cuts) => cuts,
        };
        let share = beta(if cuts { self.cutmix } else { self.mixup }, |i| stream.u32_at(16 + i));
        // Which of the two is the first is a matter of chance, so the larger share may always be this image's.
        let share = share.max(1.0 - share);
        let other = stream.below(12, u32::try_from(count).unwrap_or(u32::MAX)) as usize;
        let Some([height, width, _]) = shape.filter(|_| cuts) else {
            return Some(Mix { other, share: (libm::round(256.0 * share) / 256.0) as f32, window: None });
        };
        let part = libm::sqrt(1.0 - share);
        let range = |word, side: usize| {
            let length = (part * side as f64) as usize;
            let centre = stream.below(word, u32::try_from(side).unwrap_or(u32::MAX)) as usize;
            [centre.saturating_sub(length / 2), (centre + length - length / 2).min(side)]
        };
        let window @ [[top, bottom], [left, right]] = [range(14, height), range(15, width)];
        let cut = ((bottom - top) * (right - left)) as f64 / ((height * width) as f64);
        Some(Mix { other, share: (1.0 - cut) as f32, window: Some(window) })
    }
}

/// A number from Beta(alpha, alpha), 0 < alpha <= 1, by the method of Jöhnk: of pairs u^(1/alpha), v^(1/alpha) the first
/// whose sum is at most 1, as a share of the sum. In logarithms, since the powers may be too small for a number.
fn beta(alpha: f64, word: impl Fn(u64) -> u32) -> f64 {
    let log = |i| libm::log((f64::from(word(i)) + 0.5) / 4_294_967_296.0) / alpha;
    for attempt in 0..64 {
        let (x, y) = (log(2 * attempt), log(2 * attempt + 1));
        let top = x.max(y);
        let (x, y) = (libm::exp(x - top), libm::exp(y - top));
        if top + libm::log(x + y) <= 0.0 {
            return x / (x + y);
        }
    }
    1.0 // never in practice: half of the pairs or more are taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [32, 24, 3];

    fn strong() -> Augment {
        Augment {
            crop_padding: 100,
            flip: true,
            quarter_turns: true,
            rotation: 30.0,
            shift: 0.2,
            brightness: 0.5,
            contrast: 0.5,
            saturation: 1.0,
            cutout: 8,
            mixup: 0.4,
            cutmix: 0.0,
            erasing: 0.5,
        }
    }

    #[test]
    fn all_offsets_and_both_flips_occur_about_equally() {
        let augment = Augment { crop_padding: 2, flip: true, ..Augment::default() };
        let (mut counts, mut flips) = ([[0; 5]; 5], 0);
        for index in 0..5000 {
            let v = augment.draw(1, 2, index, SHAPE);
            counts[(v.dy + 2) as usize][(v.dx + 2) as usize] += 1;
            flips += usize::from(v.flip);
        }
        assert!(counts.iter().flatten().all(|n| (140..260).contains(n)), "{counts:?}");
        assert!((2300..2700).contains(&flips), "{flips}");
    }

    #[test]
    fn seed_epoch_and_index_all_matter() {
        let draw = |seed, epoch, index| {
            (strong().draw(seed, epoch, index, SHAPE), strong().partner(seed, epoch, index, 1000, Some(SHAPE)).unwrap())
        };
        let base = draw(1, 2, 3);
        assert_eq!(base, draw(1, 2, 3));
        assert!([draw(2, 2, 3), draw(1, 3, 3), draw(1, 2, 4)].iter().all(|v| *v != base));
        assert_eq!(Augment::default().draw(1, 2, 3, SHAPE), Variation::NONE);
        assert_eq!(Augment::default().partner(1, 2, 3, 9, Some(SHAPE)), None);
        let absurd = Augment { crop_padding: usize::MAX, cutout: usize::MAX, shift: 1e300, ..Augment::default() };
        absurd.draw(1, 2, 3, SHAPE); // must not overflow
    }

    #[test]
    fn draws_stay_in_their_ranges_and_reach_them() {
        let (mut least, mut most) = ([i32::MAX; 3], [0; 3]);
        for index in 0..2000 {
            let v = strong().draw(1, 0, index, SHAPE);
            for (i, f) in v.colour.unwrap().into_iter().enumerate() {
                (least[i], most[i]) = (least[i].min(f), most[i].max(f));
            }
            for ([from, to], side) in v.cutout.unwrap().into_iter().zip(SHAPE) {
                assert!(from < to && to <= side && (4..=8).contains(&(to - from)), "{from}..{to} of {side}");
            }
        }
        assert!(least.iter().zip([128, 128, 0]).all(|(&l, bound)| (bound..bound + 3).contains(&l)), "{least:?}");
        assert!(most.iter().zip([384, 384, 512]).all(|(&m, bound)| (bound - 2..=bound).contains(&m)), "{most:?}");
    }

    #[test]
    fn shares_of_mixup_follow_their_distribution() {
        // The variance of Beta(a, a) is 1 / (4 (2a + 1)); folded to 1/2..1 about 1/2 it keeps its second moment.
        for alpha in [0.2, 0.5, 1.0] {
            let augment = Augment { mixup: alpha, ..Augment::default() };
            let (mut square, mut partners) = (0.0, [0; 4]);
            for index in 0..4000 {
                let Mix { other: partner, share, window: None } = augment.partner(7, 0, index, 4, Some(SHAPE)).unwrap()
                else {
                    panic!("mixup has no window")
                };
                assert!((0.5..=1.0).contains(&share));
                square += (f64::from(share) - 0.5).powi(2) / 4000.0;
                partners[partner] += 1;
            }
            let expected = 0.25 / (2.0 * alpha + 1.0);
            assert!((square - expected).abs() < 0.005, "{alpha}: {square}, {expected}");
            assert!(partners.iter().all(|n| (880..1120).contains(n)), "{partners:?}");
        }
        let tiny = Augment { mixup: 1e-12, ..Augment::default() };
        assert!((0..50).all(|i| tiny.partner(1, 0, i, 9, None).unwrap().share == 1.0));
    }

    #[test]
    fn windows_of_cutmix_have_the_area_of_the_other_share() {
        let augment = Augment { cutmix: 1.0, ..Augment::default() };
        let mut shares = [0; 4];
        for index in 0..2000 {
            let mix = augment.partner(7, 0, index, 40, Some(SHAPE)).unwrap();
            let [[top, bottom], [left, right]] = mix.window.unwrap();
            assert!(top <= bottom && bottom <= 32 && left <= right && right <= 24);
            let cut = ((bottom - top) * (right - left)) as f32 / (32.0 * 24.0);
            assert!(mix.share >= 0.5 && (mix.share + cut - 1.0).abs() < 1e-6, "{mix:?}");
            shares[((mix.share - 0.5) * 7.99) as usize] += 1;
        }
        // Windows are cut off at the sides, so small ones are more frequent than the shares of mixup.
        assert!(shares.iter().all(|&n| n > 100), "{shares:?}");
        assert_eq!(augment.partner(7, 0, 1, 40, None), None);
        let both = Augment { mixup: 0.5, ..augment };
        let windows = (0..1000).filter(|&i| both.partner(7, 0, i, 40, Some(SHAPE)).unwrap().window.is_some()).count();
        assert!((440..560).contains(&windows), "{windows}");
    }

    #[test]
    fn erased_rectangles_lie_inside_and_are_as_frequent_as_asked_for() {
        let augment = Augment { erasing: 0.25, ..Augment::default() };
        let mut count = 0;
        for index in 0..4000 {
            let Some([[top, bottom], [left, right]]) = augment.draw(1, 0, index, SHAPE).erased else { continue };
            assert!(top < bottom && bottom <= 32 && left < right && right <= 24);
            let share = ((bottom - top) * (right - left)) as f64 / (32.0 * 24.0);
            assert!((0.01..0.37).contains(&share), "{share}");
            count += 1;
        }
        assert!((900..1100).contains(&count), "{count}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert!(strong().check().is_ok() && Augment::default().check().is_ok());
        let none = Augment::default();
        for (augment, key) in [
            (Augment { rotation: 180.5, ..none }, "rotation: expected degrees from 0 to 180, found 180.5"),
            (Augment { shift: -0.1, ..none }, "shift: expected a number from 0 to 1, found -0.1"),
            (Augment { brightness: f64::NAN, ..none }, "brightness: expected a number from 0 to 1, found NaN"),
            (Augment { contrast: 2.0, ..none }, "contrast: expected a number from 0 to 1, found 2"),
            (Augment { saturation: 1.1, ..none }, "saturation: expected a number from 0 to 1, found 1.1"),
            (Augment { cutmix: 1.5, ..none }, "cutmix: expected a number from 0 to 1, found 1.5"),
            (Augment { erasing: -1.0, ..none }, "erasing: expected a number from 0 to 1, found -1"),
            (Augment { mixup: f64::INFINITY, ..none }, "mixup: expected a number from 0 to 1, found inf"),
        ] {
            assert_eq!(augment.check().unwrap_err().to_string(), key);
        }
        let refused = |augment: Augment| augment.check_for([8, 6, 3]).unwrap_err().to_string();
        assert!(Augment { crop_padding: 5, cutout: 15, ..none }.check_for([8, 6, 3]).is_ok());
        let e = refused(Augment { crop_padding: 6, ..none });
        assert_eq!(e, "crop_padding: expected less than a side of the images (8x6), found 6");
        let e = refused(Augment { quarter_turns: true, ..none });
        assert!(e.starts_with("quarter_turns: expected false") && e.ends_with("8x6"), "{e}");
        let e = refused(Augment { cutout: 16, ..none });
        assert_eq!(e, "cutout: expected less than twice a side of the images (8x6), found 16");
    }
}
