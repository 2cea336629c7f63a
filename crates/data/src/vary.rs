//! A variation of an image, and how it is carried out: bytes of an image in, numbers for the network out.
//!
//! Without rotation and colour an image is read once and written once, whole rows at a time, through a table of what each
//! byte becomes. All else is done on bytes before, in integers.

use crate::Transform;
use fixnet_tensor::Buffer;

/// One drawn variation: the crop starts at `(dy, dx) - padding` of the image, then columns are mirrored if `flip`, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variation {
    pub(crate) dy: isize,
    pub(crate) dx: isize,
    pub(crate) flip: bool,
    /// Quarter turns counter-clockwise.
    pub(crate) turns: u8,
    pub(crate) affine: Option<Affine>,
    /// Factors of brightness, contrast and saturation in 1/256.
    pub(crate) colour: Option<[i32; 3]>,
    /// Rows and columns of the cutout square, from and to.
    pub(crate) cutout: Option<[[usize; 2]; 2]>,
    /// The same of the rectangle that is erased.
    pub(crate) erased: Option<[[usize; 2]; 2]>,
}

impl Variation {
    /// The image as it is.
    pub(crate) const NONE: Self =
        Self { dy: 0, dx: 0, flip: false, turns: 0, affine: None, colour: None, cutout: None, erased: None };
}

/// A turn and a shift in fixed point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Affine {
    /// Cosine and sine in 1/65536.
    cos: i64,
    sin: i64,
    /// By how much the image moves, down and right, in 1/256 of a pixel.
    shift: [i32; 2],
}

impl Affine {
    /// A turn by `degrees`, counter-clockwise to the eye, then a shift.
    pub(crate) fn new(degrees: f64, shift: [i32; 2]) -> Self {
        let radians = degrees * (std::f64::consts::PI / 180.0);
        let fixed = |v: f64| libm::round(v * 65536.0) as i64;
        Self { cos: fixed(libm::cos(radians)), sin: fixed(libm::sin(radians)), shift }
    }

    /// Each pixel of `out` from where it comes from in `image`, between its four neighbours.
    fn write(&self, image: &[u8], [height, width, channels]: [usize; 3], out: &mut [u8]) {
        let (h, w) = (height as i64, width as i64);
        let at = |y: i64, x: i64, k: usize| match (0..h).contains(&y) && (0..w).contains(&x) {
            true => i64::from(image[(y as usize * width + x as usize) * channels + k]),
            false => 0,
        };
        let [down, right] = self.shift.map(i64::from);
        for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
            // From the centre of the image, in 1/512 of a pixel: the centre of an even side lies between pixels.
            let y = (2 * (i / width) as i64 + 1 - h) * 256 - 2 * down;
            let x = (2 * (i % width) as i64 + 1 - w) * 256 - 2 * right;
            // The inverse turn; then from the first pixel, in 1/256, to the nearest.
            let place = |v: i64, side: i64| (v + ((side - 1) << 24) + (1 << 16)) >> 17;
            let from_y = place(self.cos * y + self.sin * x, h);
            let from_x = place(self.cos * x - self.sin * y, w);
            let (top, left, fy, fx) = (from_y >> 8, from_x >> 8, from_y & 255, from_x & 255);
            if (0..h - 1).contains(&top) && (0..w - 1).contains(&left) {
                // All four neighbours are inside, as they are nearly everywhere.
                let place = (top as usize * width + left as usize) * channels;
                let (above, below) =
                    (&image[place..][..2 * channels], &image[place + width * channels..][..2 * channels]);
                let (fx, fy) = (fx as u32, fy as u32);
                let row = |v: &[u8], k: usize| u32::from(v[k]) * (256 - fx) + u32::from(v[k + channels]) * fx;
                for (k, to) in pixel.iter_mut().enumerate() {
                    *to = ((row(above, k) * (256 - fy) + row(below, k) * fy + 32768) >> 16) as u8;
                }
                continue;
            }
            for (k, to) in pixel.iter_mut().enumerate() {
                let row = |y| at(y, left, k) * (256 - fx) + at(y, left + 1, k) * fx;
                *to = ((row(top) * (256 - fy) + row(top + 1) * fy + 32768) >> 16) as u8;
            }
        }
    }
}

/// `base + (v - base) * factor / 256`, rounded, kept in a byte.
fn blend(v: u8, base: i32, factor: i32) -> u8 {
    (base + (((i32::from(v) - base) * factor + 128) >> 8)).clamp(0, 255) as u8
}

/// The brightness of a pixel of three channels (weights of ITU-R BT.601 in 1/256).
fn grey(pixel: &[u8]) -> i32 {
    match pixel {
        &[r, g, b] => (77 * i32::from(r) + 150 * i32::from(g) + 29 * i32::from(b) + 128) >> 8,
        _ => (pixel.iter().map(|&v| i32::from(v)).sum::<i32>() + pixel.len() as i32 / 2) / pixel.len() as i32,
    }
}

/// Brightness, contrast, saturation.
pub(crate) fn jitter(image: &mut [u8], channels: usize, [brightness, contrast, saturation]: [i32; 3]) {
    image.iter_mut().for_each(|v| *v = blend(*v, 0, brightness));
    let pixels = (image.len() / channels).max(1) as u64;
    let sum: u64 = image.chunks_exact(channels).map(|p| grey(p) as u64).sum();
    let mean = ((sum + pixels / 2) / pixels) as i32;
    image.iter_mut().for_each(|v| *v = blend(*v, mean, contrast));
    if channels == 3 {
        for pixel in image.chunks_exact_mut(3) {
            let grey = grey(pixel);
            pixel.iter_mut().for_each(|v| *v = blend(*v, grey, saturation));
        }
    }
}

/// Writes pixels of `C` channels, in reverse order if `flip`.
fn row<const C: usize, T>(from: &[u8], flip: bool, to: &mut [T], of: &impl Fn(usize, u8) -> T) {
    let put = |(to, from): (&mut [T; C], &[u8; C])| {
        for k in 0..C {
            to[k] = of(k, from[k]);
        }
    };
    let (to, from) = (to.as_chunks_mut().0.iter_mut(), from.as_chunks().0.iter());
    if flip { to.zip(from.rev()).for_each(put) } else { to.zip(from).for_each(put) }
}

impl Variation {
    /// Writes the cropped and flipped image to `out`; `of(channel, byte)` is what a byte becomes.
    fn frame<T: Copy>(
        &self,
        image: &[u8],
        [height, width, channels]: [usize; 3],
        out: &mut [T],
        of: impl Fn(usize, u8) -> T,
    ) {
        // The columns of the image that are seen, and where they are written.
        let from = self.dx.clamp(0, width as isize) as usize;
        let to = self.dx.saturating_add_unsigned(width).clamp(0, width as isize) as usize;
        let count = to.saturating_sub(from);
        // Mirrored, column x comes from width - 1 - x + dx.
        let place = if self.flip != (self.dx < 0) { width - count } else { 0 };
        for (y, out) in out.chunks_exact_mut(width * channels).enumerate() {
            let seen = y.checked_add_signed(self.dy).filter(|&y| y < height && count > 0);
            let (start, end) = seen.map_or((0, 0), |_| (place * channels, (place + count) * channels));
            for black in [0..start, end..width * channels] {
                // A border starts and ends with a whole pixel.
                out[black].iter_mut().enumerate().for_each(|(i, v)| *v = of(i % channels, 0));
            }
            let Some(y) = seen else { continue };
            let from = &image[(y * width + from) * channels..][..count * channels];
            let to = &mut out[start..end];
            match channels {
                1 => row::<1, T>(from, self.flip, to, &of),
                3 => row::<3, T>(from, self.flip, to, &of),
                _ => {
                    for (i, to) in to.chunks_exact_mut(channels).enumerate() {
                        let i = if self.flip { count - 1 - i } else { i };
                        let from = &from[i * channels..][..channels];
                        to.iter_mut().zip(from).enumerate().for_each(|(k, (to, &v))| *to = of(k, v));
                    }
                }
            }
        }
    }

    /// Writes the varied and normalized image to `out`; `tables` say for each channel what a byte becomes. Black (byte 0)
    /// fills what lies outside, so padding means the same before and after normalization.
    pub(crate) fn write(&self, image: &[u8], shape: [usize; 3], tables: &[[f32; 256]], out: &mut [f32]) {
        let [_, width, channels] = shape;
        let normal = |k: usize, v: u8| tables[k][usize::from(v)];
        if self.affine.is_none() && self.colour.is_none() && self.turns == 0 {
            self.frame(image, shape, out, normal);
        } else {
            let mut bytes = Buffer::<u8>::take(image.len());
            self.frame(image, shape, &mut bytes, |_, v| v);
            if self.turns > 0 {
                // Only images that keep their shape are turned.
                let framed = std::mem::replace(&mut bytes, Buffer::take(image.len()));
                let turn = Transform { turns: self.turns, ..Transform::identity(shape[0], width) };
                turn.write(&framed, shape, &mut bytes, |_, v| v);
            }
            if let Some(affine) = self.affine {
                let framed = std::mem::replace(&mut bytes, Buffer::take(image.len()));
                affine.write(&framed, shape, &mut bytes);
            }
            if let Some(factors) = self.colour {
                jitter(&mut bytes, channels, factors);
            }
            Self::NONE.frame(&bytes, shape, out, normal);
        }
        for [[top, bottom], [left, right]] in [self.cutout, self.erased].into_iter().flatten() {
            for row in out.chunks_exact_mut(width * channels).take(bottom).skip(top) {
                row[left * channels..right * channels].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two rows of three pixels; the table shifts by 100 so that black is not 0.
    fn varied(variation: Variation, shape: [usize; 3], image: &[u8]) -> Vec<f32> {
        let mut out = vec![f32::NAN; image.len()];
        let table = std::array::from_fn(|v| v as f32 + 100.0);
        variation.write(image, shape, &vec![table; shape[2]], &mut out);
        out.iter().map(|v| v - 100.0).collect()
    }

    fn framed(dy: isize, dx: isize, flip: bool) -> Vec<f32> {
        varied(Variation { dy, dx, flip, ..Variation::NONE }, [2, 3, 1], &[1, 2, 3, 4, 5, 6])
    }

    fn turned(degrees: f64, shift: [i32; 2], shape: [usize; 3], image: &[u8]) -> Vec<f32> {
        varied(Variation { affine: Some(Affine::new(degrees, shift)), ..Variation::NONE }, shape, image)
    }

    #[test]
    fn crops_and_flips_by_hand() {
        assert_eq!(framed(0, 0, false), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(framed(0, 0, true), [3., 2., 1., 6., 5., 4.]);
        assert_eq!(framed(1, 0, false), [4., 5., 6., 0., 0., 0.]);
        assert_eq!(framed(-1, -1, false), [0., 0., 0., 0., 1., 2.]);
        assert_eq!(framed(0, 2, true), [0., 0., 3., 0., 0., 6.]);
        assert_eq!(framed(5, 5, false), [0.; 6]);
        assert_eq!(framed(0, isize::MAX, true), [0.; 6]);
        assert_eq!(framed(isize::MIN, 0, true), [0.; 6]);
    }

    #[test]
    fn turns_and_shifts_by_hand() {
        let image = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let square = [3, 3, 1];
        assert_eq!(turned(0.0, [0, 0], square, &image), image.map(f32::from));
        assert_eq!(turned(90.0, [0, 0], square, &image), [3., 6., 9., 2., 5., 8., 1., 4., 7.]);
        assert_eq!(turned(-90.0, [0, 0], square, &image), [7., 4., 1., 8., 5., 2., 9., 6., 3.]);
        assert_eq!(turned(180.0, [0, 0], square, &image), [9., 8., 7., 6., 5., 4., 3., 2., 1.]);
        assert_eq!(turned(90.0, [0, 0], [2, 2, 1], &[1, 2, 3, 4]), [2., 4., 1., 3.]);
        assert_eq!(turned(0.0, [256, -256], square, &image), [0., 0., 0., 2., 3., 0., 5., 6., 0.]);
        // Half a pixel to the right, between black and 8.
        assert_eq!(turned(0.0, [0, 128], [1, 2, 1], &[8, 16]), [4., 12.]);
        // 45 degrees about the one pixel in the centre leaves it.
        assert_eq!(turned(45.0, [0, 0], square, &image)[4], 5.0);
    }

    #[test]
    fn colours_by_hand() {
        let coloured = |factors| {
            varied(Variation { colour: Some(factors), ..Variation::NONE }, [1, 2, 3], &[10, 20, 30, 200, 100, 0])
        };
        assert_eq!(coloured([256; 3]), [10., 20., 30., 200., 100., 0.]);
        assert_eq!(coloured([384, 256, 256]), [15., 30., 45., 255., 150., 0.]);
        // Greys 18 (of 10, 20, 30) and 119, their mean 69: contrast 0 leaves only that.
        assert_eq!(coloured([256, 0, 256]), [69.; 6]);
        assert_eq!(coloured([256, 128, 256]), [40., 45., 50., 135., 85., 35.]);
        assert_eq!(coloured([256, 256, 0]), [18., 18., 18., 119., 119., 119.]);
        let one = Variation { colour: Some([256, 256, 0]), ..Variation::NONE };
        assert_eq!(varied(one, [1, 2, 1], &[3, 9]), [3., 9.]); // one channel has no colour
    }

    #[test]
    fn cutout_clears_its_square_after_normalization() {
        let v = Variation { cutout: Some([[1, 3], [0, 2]]), ..Variation::NONE };
        let out = varied(v, [4, 4, 2], &[7; 32]);
        for (i, &found) in out.iter().enumerate() {
            let (y, x) = (i / 8, i / 2 % 4);
            let inside = (1..3).contains(&y) && x < 2;
            assert_eq!(found, if inside { -100.0 } else { 7.0 }, "{y}, {x}"); // 0 less the 100 of the table
        }
    }

    proptest! {
        /// Rows at a time or pixel by pixel: the same.
        #[test]
        fn frames_equal_a_plain_loop(
            (h, w, c) in (1usize..6, 1usize..6, 1usize..5),
            (dy, dx) in (-7isize..8, -7isize..8),
            flip: bool,
        ) {
            let image: Vec<u8> = (0..h * w * c).map(|i| (i * 7 + 1) as u8).collect();
            let found = varied(Variation { dy, dx, flip, ..Variation::NONE }, [h, w, c], &image);
            for (i, found) in found.into_iter().enumerate() {
                let (y, x, k) = (i / c / w, i / c % w, i % c);
                let x = if flip { w - 1 - x } else { x };
                let (y, x) = (y as isize + dy, x as isize + dx);
                let inside = (0..h as isize).contains(&y) && (0..w as isize).contains(&x);
                let expected = if inside { image[(y as usize * w + x as usize) * c + k] } else { 0 };
                prop_assert_eq!(found, f32::from(expected));
            }
        }

        /// What is said to happen to the pixels happens.
        #[test]
        fn targets_can_follow(side in 1usize..6, c in 1usize..4, index in 0usize..1000, crop_padding in 0usize..5) {
            let augment = crate::Augment { crop_padding, flip: true, quarter_turns: true, ..crate::Augment::default() };
            let (shape, image) = ([side, side, c], (0..side * side * c).map(|i| (i * 7 + 1) as u8).collect::<Vec<u8>>());
            let found = varied(augment.draw(3, 1, index, shape), shape, &image);
            let mut expected = vec![0; image.len()];
            augment.transform(3, 1, index, shape).unwrap().write(&image, shape, &mut expected, |_, v| v);
            prop_assert_eq!(found, expected.into_iter().map(f32::from).collect::<Vec<_>>());
            let turned = crate::Augment { rotation: 3.0, ..augment };
            prop_assert!(turned.transform(3, 1, index, shape).is_none());
        }

        /// A black frame changes nothing inside it: neighbours beyond the border are black.
        #[test]
        fn turns_of_framed_images_are_the_same(
            (h, w, c) in (1usize..6, 1usize..6, 1usize..4), degrees in -180f64..180.0, shift in [-600i32..600, -600i32..600],
        ) {
            let image: Vec<u8> = (0..h * w * c).map(|i| (i * 37 + 11) as u8).collect();
            let (tall, wide) = (h + 4, w + 4);
            let mut framed = vec![0; tall * wide * c];
            let rows = |y: usize| ((y + 2) * wide + 2) * c..((y + 2) * wide + 2 + w) * c;
            (0..h).for_each(|y| framed[rows(y)].copy_from_slice(&image[y * w * c..][..w * c]));
            let (plain, framed) = (turned(degrees, shift, [h, w, c], &image), turned(degrees, shift, [tall, wide, c], &framed));
            for y in 0..h {
                prop_assert_eq!(&plain[y * w * c..][..w * c], &framed[rows(y)]);
            }
        }

        /// Strength 0 of every kind leaves the image as it is.
        #[test]
        fn neutral_turns_and_colours_change_nothing(
            (h, w, c) in (1usize..6, 1usize..6, 1usize..5), seed: u64, degrees in -180f64..180.0,
        ) {
            let image: Vec<u8> = (0..(h * w * c) as u64).map(|i| (seed.wrapping_mul(i + 1) >> 32) as u8).collect();
            let neutral = Variation { affine: Some(Affine::new(0.0, [0; 2])), colour: Some([256; 3]), ..Variation::NONE };
            let plain: Vec<f32> = image.iter().map(|&v| f32::from(v)).collect();
            prop_assert_eq!(varied(neutral, [h, w, c], &image), plain);
            // No interpolation leaves the range of its neighbours, and nothing is read outside.
            let highest = f32::from(*image.iter().max().unwrap());
            prop_assert!(turned(degrees, [3, -700], [h, w, c], &image).iter().all(|&v| (0.0..=highest).contains(&v)));
        }
    }
}
