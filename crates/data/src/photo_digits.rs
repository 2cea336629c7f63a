//! The data set `photo-digits`: coloured digits on photographs, made on the fly and the same on every machine.
//!
//! Each image of [`digits`](super::digits) is scaled, coloured and put at a random place of a 32x32 crop of a photograph,
//! by absolute difference as in the known MNIST-M (Ganin et al., 2016): `|photo - ink * colour|`. The digit is therefore
//! no colour of its own but a change of what is behind it. Everything is integer arithmetic on numbers that depend on
//! the image's index alone. Test images show other digits on other photographs than training images, so they also ask
//! what a network makes of backgrounds that it never saw; `photo-digits:seen` leaves that question out.

use crate::source::{Reader, Request, SourceKind};
use crate::{Dataset, Picture, Result, Split, digits};
use fixnet_tensor::rng::{Stream, domain};
use image::RgbImage;
use rayon::prelude::*;
use std::path::Path;

/// The row of the registry.
pub(crate) const KIND: SourceKind =
    SourceKind::new("photo-digits[:seen]", "coloured digits on photographs, embedded", &PhotoDigits);

#[derive(Debug)]
struct PhotoDigits;

impl Reader for PhotoDigits {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        if request.source.argument().is_some() { photo_digits_seen() } else { photo_digits() }
    }
}

/// Height and width of an image.
const SIDE: usize = 32;
/// The seed of the data set. Another one would make another data set.
const SEED: u64 = 0x70686f746f;
/// Heights and widths to which a 28x28 digit is scaled.
const SIZES: std::ops::RangeInclusive<u32> = 20..=36;
/// Photographs are dimmed to between this and 256 parts in 256.
const DIMMEST: u32 = 144;
/// A digit must change the pixels behind it by this much on average, summed over the channels (of at most 765).
const CONTRAST: u32 = 160;
/// So many colours are tried for that; the best is taken if none reaches it.
const COLOURS: u64 = 16;

pub(crate) static TRAIN_PHOTOS: [(&str, &[u8]); 3] = [
    ("astronaut.webp", include_bytes!("../data/astronaut.webp")),
    ("coffee.webp", include_bytes!("../data/coffee.webp")),
    ("hubble_deep_field.webp", include_bytes!("../data/hubble_deep_field.webp")),
];
pub(crate) static TEST_PHOTOS: [(&str, &[u8]); 2] =
    [("chelsea.webp", include_bytes!("../data/chelsea.webp")), ("rocket.webp", include_bytes!("../data/rocket.webp"))];

/// Makes the 6,000 training and 1,000 test images.
///
/// # Errors
/// None in practice: digits and photographs are part of the program, and a test reads them.
pub fn photo_digits() -> Result<Split> {
    split(&TEST_PHOTOS)
}

/// As [`photo_digits`], with the test digits on the photographs of the training images (in other crops and colours).
///
/// Training images are the same: a run may be trained on the one and evaluated on the other.
///
/// # Errors
/// None in practice, as above.
pub fn photo_digits_seen() -> Result<Split> {
    split(&TRAIN_PHOTOS)
}

fn split(test_photos: &[(&str, &[u8])]) -> Result<Split> {
    let split = digits()?;
    Split::new(
        half("photo-digits train", &split.train, &TRAIN_PHOTOS, 0)?,
        half("photo-digits test", &split.test, test_photos, 1)?,
    )
}

fn half(name: &str, digits: &Dataset, photos: &[(&str, &[u8])], part: u32) -> Result<Dataset> {
    let decode = |(file, bytes): &(&str, &[u8])| {
        let photo = Picture::decode(Path::new(file), bytes)?;
        let [height, width] = [photo.height(), photo.width()].map(|side| side as u32);
        Ok(RgbImage::from_raw(width, height, photo.pixels().to_vec()).expect("three bytes a pixel"))
    };
    let photos: Vec<RgbImage> = photos.iter().map(decode).collect::<Result<_>>()?;
    let inks: Vec<_> = (0..digits.len()).map(|i| digits.image(i)).collect::<Result<_>>()?;
    let mut images = vec![0; digits.len() * SIDE * SIDE * 3];
    images.par_chunks_exact_mut(SIDE * SIDE * 3).enumerate().for_each(|(i, out)| {
        let draws = Stream::new(SEED, domain::DATA, part, i as u32);
        background(&photos[draws.below(0, photos.len() as u32) as usize], &draws, out);
        let ink = place(&inks[i], digits.shape()[0], &draws);
        let colour = colour(&ink, out, &draws, |v, colour| v.abs_diff(colour));
        for (pixel, &ink) in out.chunks_exact_mut(3).zip(&ink) {
            for (value, &colour) in pixel.iter_mut().zip(&colour) {
                *value = value.abs_diff(shade(ink, colour));
            }
        }
    });
    Dataset::new(name, [SIDE, SIDE, 3], 10, images, digits.labels().to_vec())
}

/// Colour times ink, rounded.
fn shade(ink: u8, colour: u8) -> u8 {
    ((u32::from(ink) * u32::from(colour) + 127) / 255) as u8
}

/// A random crop, half of them mirrored, dimmed by a random factor. Uses draws 1 to 4.
fn background(photo: &RgbImage, draws: &Stream, out: &mut [u8]) {
    let left = draws.below(1, photo.width() - SIDE as u32 + 1);
    let top = draws.below(2, photo.height() - SIDE as u32 + 1);
    let mirrored = draws.below(3, 2) == 1;
    let dim = DIMMEST + draws.below(4, 257 - DIMMEST);
    for (i, pixel) in out.chunks_exact_mut(3).enumerate() {
        let (y, x) = ((i / SIDE) as u32, (i % SIDE) as u32);
        let x = if mirrored { SIDE as u32 - 1 - x } else { x };
        let from = photo.get_pixel(left + x, top + y).0;
        pixel.iter_mut().zip(from).for_each(|(to, v)| *to = ((u32::from(v) * dim + 128) >> 8) as u8);
    }
}

/// The ink of a digit, scaled to a random size and put where all of it is visible. Uses draws 5 to 7.
fn place(digit: &[u8], side: usize, draws: &Stream) -> Vec<u8> {
    let size = (SIZES.start() + draws.below(5, SIZES.end() - SIZES.start() + 1)) as usize;
    let scaled = scale(digit, side, size);
    let inked = |y: usize, x: usize| scaled[y * size + x] > 0;
    let rows = extent(size, |y| (0..size).any(|x| inked(y, x)));
    let columns = extent(size, |x| (0..size).any(|y| inked(y, x)));
    // The first row or column of ink goes anywhere from 0 to the last place that leaves room for the rest.
    let start = |(_, len): (usize, usize), draw| draws.below(draw, (SIDE.saturating_sub(len) + 1) as u32) as usize;
    let (top, left) = (start(rows, 6), start(columns, 7));
    let mut ink = vec![0; SIDE * SIDE];
    for y in 0..rows.1.min(SIDE - top) {
        for x in 0..columns.1.min(SIDE - left) {
            ink[(top + y) * SIDE + left + x] = scaled[(rows.0 + y) * size + columns.0 + x];
        }
    }
    ink
}

/// First index and number of indices of the shortest range that holds all indices with `inked`.
pub(crate) fn extent(size: usize, inked: impl Fn(usize) -> bool) -> (usize, usize) {
    match ((0..size).find(|&i| inked(i)), (0..size).rfind(|&i| inked(i))) {
        (Some(first), Some(last)) => (first, last - first + 1),
        _ => (0, 0),
    }
}

/// Bilinear interpolation of a square image in fixed point with 8 fractional bits.
pub(crate) fn scale(image: &[u8], side: usize, size: usize) -> Vec<u8> {
    // Pixel centres lie at halves: position = (i + 1/2) * side / size - 1/2, kept inside the image.
    let position = |i: usize| ((2 * i + 1) * side * 128 / size).saturating_sub(128).min((side - 1) * 256);
    let mut out = Vec::with_capacity(size * size);
    for y in (0..size).map(position) {
        for x in (0..size).map(position) {
            let (top, left) = (y / 256, x / 256);
            let (bottom, right) = ((top + 1).min(side - 1), (left + 1).min(side - 1));
            let (down, along) = (y % 256, x % 256);
            let row = |y: usize| {
                usize::from(image[y * side + left]) * (256 - along) + usize::from(image[y * side + right]) * along
            };
            out.push(((row(top) * (256 - down) + row(bottom) * down + 32768) >> 16) as u8);
        }
    }
    out
}

/// The first random colour that the photograph behind the ink does not swallow; `inked` gives what full ink of a colour makes of a pixel.
/// Uses draws 8 on.
///
/// By the absolute difference a bright digit on a background of half its brightness vanishes: |b - 2b| = b.
pub(crate) fn colour(ink: &[u8], background: &[u8], draws: &Stream, inked: fn(u8, u8) -> u8) -> [u8; 3] {
    let mut best = (0, [255; 3]);
    for attempt in 0..COLOURS {
        let colour = [0, 1, 2].map(|channel| draws.below(8 + 3 * attempt + channel, 256) as u8);
        let (mut change, mut count) = (0u32, 0);
        for (pixel, _) in background.chunks_exact(3).zip(ink).filter(|&(_, &ink)| ink >= 128) {
            count += 1;
            change += pixel.iter().zip(&colour).map(|(&v, &c)| u32::from(inked(v, c).abs_diff(v))).sum::<u32>();
        }
        if change >= CONTRAST * count {
            return colour;
        }
        if change > best.0 {
            best = (change, colour);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_the_same_everywhere() {
        let split = photo_digits().unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.train.shape()), (6000, 1000, &[32, 32, 3][..]));
        let sums = (crate::checksum(&split.train), crate::checksum(&split.test));
        assert_eq!(sums, (0x4b54_bce5_be5e_3520, 0x27cb_b6b8_d4ec_db2c), "{sums:#018x?}");
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert!(one.install(photo_digits).unwrap() == split);
    }

    #[test]
    fn seen_photographs_change_the_test_images_alone() {
        let (other, seen) = (photo_digits().unwrap(), photo_digits_seen().unwrap());
        assert!(seen.train == other.train);
        assert_eq!(seen.test.labels(), other.test.labels());
        assert!((0..seen.test.len()).all(|i| seen.test.image(i).unwrap() != other.test.image(i).unwrap()));
        // Digits, crops and colours are drawn anew: no test image is a training image.
        let train: std::collections::HashSet<_> = (0..seen.train.len()).map(|i| seen.train.image(i).unwrap()).collect();
        assert!((0..seen.test.len()).all(|i| !train.contains(&seen.test.image(i).unwrap())));
    }

    #[test]
    fn labels_are_those_of_the_digits() {
        let (photos, digits) = (photo_digits().unwrap(), digits().unwrap());
        assert_eq!(photos.train.labels(), digits.train.labels());
        assert_eq!(photos.test.labels(), digits.test.labels());
    }

    #[test]
    fn no_photograph_serves_twice_and_all_stay_small() {
        let all = || TRAIN_PHOTOS.iter().chain(&TEST_PHOTOS);
        let bytes: usize = all().map(|(_, bytes)| bytes.len()).sum();
        assert!(bytes <= 400_000, "{bytes} bytes");
        assert!(TEST_PHOTOS.iter().all(|test| TRAIN_PHOTOS.iter().all(|train| train.1 != test.1)));
    }

    #[test]
    fn scaling_by_hand() {
        assert_eq!(scale(&[10, 20, 30, 40], 2, 2), [10, 20, 30, 40]);
        // Twice as wide: centres at -1/4 (kept at 0), 1/4, 3/4, 5/4 (kept at 1).
        assert_eq!(scale(&[0, 100, 0, 100], 2, 4)[..4], [0, 25, 75, 100]);
        assert_eq!(scale(&[0, 100, 100, 200], 2, 1), [100]);
        assert!(SIZES.clone().all(|size| scale(&[255; 784], 28, size as usize).iter().all(|&v| v == 255)));
    }

    #[test]
    fn all_ink_stays_inside() {
        let digits = digits().unwrap().test;
        for i in 0..digits.len() {
            let draws = Stream::new(SEED, domain::DATA, 1, i as u32);
            let size = (SIZES.start() + draws.below(5, SIZES.end() - SIZES.start() + 1)) as usize;
            let total = |ink: &[u8]| ink.iter().map(|&v| u32::from(v)).sum::<u32>();
            assert_eq!(
                total(&place(&digits.image(i).unwrap(), 28, &draws)),
                total(&scale(&digits.image(i).unwrap(), 28, size)),
                "digit {i} at size {size}"
            );
        }
    }
}
