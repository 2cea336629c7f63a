//! The data set `digits-detect`: embedded digits at random places and sizes on embedded photographs, with their boxes. Images are made when
//! they are asked for, each a function of its index, so a first detector needs no download.
//!
//! A digit is painted over what is behind it, in a colour that differs from it, and all is integer arithmetic. Test images have other digits
//! and other photographs than training images.

use super::{AnnotatedImage, Annotation, BoundingBox, DetectionSet, DetectionSplit};
use crate::photo_digits::{self, colour, extent, scale};
use crate::picture::COLOURS;
use crate::source::{Reader, Request, SourceKind};
use crate::{Dataset, Picture, Result, digits, photos};
use fixnet_tensor::rng::{Stream, domain};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    scaled: true,
    ..SourceKind::new("digits-detect", "for detection: digits with their boxes on photographs, embedded", &DigitsDetect)
};

#[derive(Debug)]
struct DigitsDetect;

impl Reader for DigitsDetect {
    fn detection(&self, _: &Request<'_>) -> Result<DetectionSplit> {
        digits_detect()
    }
}

/// Height and width of an image.
const SIDE: usize = 128;
/// The seed of the data set. Another one would make another data set.
const SEED: u64 = 0x646574656374;
/// Training and test images.
const IMAGES: [usize; 2] = [16000, 500];
/// Digits on an image; those for which no place is found are left out.
const DIGITS: std::ops::RangeInclusive<u32> = 1..=6;
/// Heights and widths to which a 28x28 digit is scaled, its blank border included.
const SIZES: std::ops::RangeInclusive<u32> = 24..=72;
/// A place is drawn at most this often.
const ATTEMPTS: u64 = 12;
/// It is drawn anew where two boxes share this part of the smaller one.
const MOST_COVERED: f32 = 0.125;
/// Photographs are dimmed to between this and 256 parts in 256.
const DIMMEST: u32 = 144;
/// A box goes around all ink of at least this, of 255: fainter ink is hard to see.
const VISIBLE: u8 = 32;

/// Makes 16,000 training and 500 test images of 128x128 with one to six digits each.
///
/// Boxes are made at once and pictures when they are asked for.
///
/// # Errors
/// None in practice: digits and photographs are part of the program, and a test reads them.
pub fn digits_detect() -> Result<DetectionSplit> {
    let split = digits()?;
    DetectionSplit::new(half("digits-detect train", split.train, 0)?, half("digits-detect test", split.test, 1)?, None)
}

fn half(name: &str, digits: Dataset, part: u32) -> Result<DetectionSet> {
    let (small, large) = match part {
        0 => (&photo_digits::TRAIN_PHOTOS[..], photos::TRAIN),
        _ => (&photo_digits::TEST_PHOTOS[..], photos::TEST),
    };
    let photos = small.iter().chain(large).map(|(name, bytes)| Picture::decode(Path::new(name), bytes));
    let maker = Arc::new(Maker { digits, photos: photos.collect::<Result<_>>()?, part });
    let image = |i: usize| {
        let annotations = maker.digits_of(i)?.iter().map(|digit| Annotation::new(digit.bbox, digit.class)).collect();
        Ok(AnnotatedImage { name: format!("{i:04}"), id: i as u64, size: [SIDE, SIDE], annotations })
    };
    let images = (0..IMAGES[part as usize]).into_par_iter().map(image).collect::<Vec<_>>();
    let images = images.into_iter().collect::<Result<_>>()?;
    let names = (0..10).map(|digit| digit.to_string()).collect();
    let from = Arc::clone(&maker);
    DetectionSet::on_demand(name, names, images, Arc::new(move |i| from.picture(i)))
}

/// What images are made of.
struct Maker {
    digits: Dataset,
    photos: Vec<Picture>,
    part: u32,
}

/// A digit of an image.
struct Digit {
    class: usize,
    bbox: BoundingBox,
    /// The ink, in rows of `size`, and where it begins; its border may lie outside the image.
    ink: Vec<u8>,
    size: usize,
    at: [isize; 2],
    draws: Stream,
}

impl Maker {
    fn draws(&self, index: usize) -> Stream {
        Stream::new(SEED, domain::DATA, self.part, index as u32)
    }

    /// The digits of image `index`: a function of the part and the index.
    fn digits_of(&self, index: usize) -> Result<Vec<Digit>> {
        let count = DIGITS.start() + self.draws(index).below(0, DIGITS.end() - DIGITS.start() + 1);
        let mut found: Vec<Digit> = Vec::new();
        for number in 1..=count {
            let draws = self.draws(index).within([number, 0, 0, 0]);
            let image = draws.below(0, self.digits.len() as u32) as usize;
            let size = (SIZES.start() + draws.below(1, SIZES.end() - SIZES.start() + 1)) as usize;
            let ink = scale(&self.digits.image(image)?, self.digits.shape()[0], size);
            let inked = |y: usize, x: usize| ink[y * size + x] >= VISIBLE;
            let rows = extent(size, |y| (0..size).any(|x| inked(y, x)));
            let columns = extent(size, |x| (0..size).any(|y| inked(y, x)));
            for attempt in 0..ATTEMPTS {
                // Words 8 to 55 are those of the colour.
                let start = |(_, length): (usize, usize), word: u64| {
                    draws.below(64 + 2 * attempt + word, (SIDE - length + 1) as u32) as usize
                };
                let [top, left] = [start(rows, 0), start(columns, 1)];
                let [y, x] = [top as f32, left as f32];
                let bbox = BoundingBox::new(x, y, x + columns.1 as f32, y + rows.1 as f32);
                let covers =
                    |other: &Digit| bbox.intersection(&other.bbox) >= MOST_COVERED * bbox.area().min(other.bbox.area());
                if !found.iter().any(covers) {
                    let class = usize::from(self.digits.labels()[image]);
                    let at = [top as isize - rows.0 as isize, left as isize - columns.0 as isize];
                    found.push(Digit { class, bbox, ink, size, at, draws });
                    break;
                }
            }
        }
        Ok(found)
    }

    fn picture(&self, index: usize) -> Result<Picture> {
        let mut pixels = self.background(index)?;
        for Digit { ink, size, at, draws, .. } in self.digits_of(index)? {
            // The part of the square that lies in the image.
            let inside =
                |start: isize| (start.max(0) as usize, (start + size as isize).clamp(0, SIDE as isize) as usize);
            let ((top, bottom), (left, right)) = (inside(at[0]), inside(at[1]));
            let places: Vec<[usize; 2]> = (top..bottom).flat_map(|y| (left..right).map(move |x| [y, x])).collect();
            let ink: Vec<u8> = places
                .iter()
                .map(|&[y, x]| ink[(y as isize - at[0]) as usize * size + (x as isize - at[1]) as usize])
                .collect();
            let behind: Vec<u8> =
                places.iter().flat_map(|&[y, x]| pixels[(y * SIDE + x) * COLOURS..][..COLOURS].to_vec()).collect();
            let colour = colour(&ink, &behind, &draws, |_, colour| colour);
            for (&[y, x], ink) in places.iter().zip(ink) {
                let pixel = &mut pixels[(y * SIDE + x) * COLOURS..][..COLOURS];
                pixel.iter_mut().zip(colour).for_each(|(value, colour)| *value = paint(*value, ink, colour));
            }
        }
        Picture::new(SIDE, SIDE, pixels)
    }

    /// A random window of a random photograph, turned and mirrored in one of eight ways, its channels in one of six orders, dimmed by a
    /// random factor: nine photographs are few, and a detector should learn digits rather than these.
    fn background(&self, index: usize) -> Result<Vec<u8>> {
        const ORDERS: [[usize; COLOURS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let draws = self.draws(index);
        let photo = &self.photos[draws.below(1, self.photos.len() as u32) as usize];
        let start = |word, side: usize| draws.below(word, (side - SIDE + 1) as u32) as usize;
        let window = photo.window([start(2, photo.height()), start(3, photo.width())], [SIDE, SIDE])?;
        let [turned, upset, mirrored] = [4, 6, 7].map(|word| draws.below(word, 2) == 1);
        let dim = DIMMEST + draws.below(5, 257 - DIMMEST);
        let order = ORDERS[draws.below(8, ORDERS.len() as u32) as usize];
        let flipped = |i: usize, flip: bool| if flip { SIDE - 1 - i } else { i };
        let pixel = |i: usize| {
            let [y, x] = [flipped(i / SIDE, upset), flipped(i % SIDE, mirrored)];
            let place = if turned { x * SIDE + y } else { y * SIDE + x };
            let pixel = &window.pixels()[place * COLOURS..][..COLOURS];
            order.map(|channel| ((u32::from(pixel[channel]) * dim + 128) >> 8) as u8)
        };
        Ok((0..SIDE * SIDE).flat_map(pixel).collect())
    }
}

/// A pixel's value under ink of a colour: their mean, weighted by the ink.
fn paint(value: u8, ink: u8, colour: u8) -> u8 {
    let [value, ink, colour] = [value, ink, colour].map(u32::from);
    ((value * (255 - ink) + colour * ink + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_boxes_are_the_same_everywhere() {
        let split = digits_detect().unwrap();
        let sums = [&split.train, &split.test].map(|set| set.fingerprint()[..16].to_string());
        assert_eq!(
            (split.train.len(), split.test.len(), &split.train.class_names()[..2]),
            (16000, 500, &["0".into(), "1".into()][..])
        );
        let counts = split.train.boxes_per_class();
        assert!(counts.iter().all(|n| (4500..6500).contains(n)), "{counts:?}");
        assert_eq!((split.train.images_without_boxes(), split.train.notes().len()), (0, 0));
        assert_eq!(split.train.picture(17).unwrap(), digits_detect().unwrap().train.picture(17).unwrap());
        assert_eq!(sums, ["be48a2f0d877a904", "ec1d44362e91fd5a"]);
    }

    #[test]
    fn every_digit_is_seen_in_its_box_and_nowhere_else() {
        let split = digits().unwrap();
        let photo = Picture::new(SIDE, SIDE, vec![0; SIDE * SIDE * COLOURS]).unwrap();
        let maker = Maker { digits: split.test, photos: vec![photo], part: 1 };
        for index in 0..40 {
            let (digits, picture) = (maker.digits_of(index).unwrap(), maker.picture(index).unwrap());
            let bright = |y: usize, x: usize| {
                picture.pixels()[(y * SIDE + x) * COLOURS..][..COLOURS].iter().any(|&v| v > VISIBLE)
            };
            let holds = |bbox: &BoundingBox, y: usize, x: usize| {
                (bbox.y1 as usize..bbox.y2 as usize).contains(&y) && (bbox.x1 as usize..bbox.x2 as usize).contains(&x)
            };
            for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
                assert!(!bright(y, x) || digits.iter().any(|digit| holds(&digit.bbox, y, x)), "{index}: {y} {x}");
            }
            for digit in &digits {
                // Ink touches each side of its box.
                let of = |y: usize, x: usize| {
                    let [y, x] = [y as isize - digit.at[0], x as isize - digit.at[1]];
                    digit.ink[y as usize * digit.size + x as usize] >= VISIBLE
                };
                let [x1, y1, x2, y2] = digit.bbox.to_array().map(|v| v as usize);
                assert!((x1..x2).any(|x| of(y1, x)) && (x1..x2).any(|x| of(y2 - 1, x)));
                assert!((y1..y2).any(|y| of(y, x1)) && (y1..y2).any(|y| of(y, x2 - 1)));
            }
        }
    }
}
