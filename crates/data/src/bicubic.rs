//! Bicubic interpolation as MATLAB's `imresize` does it, which papers on super-resolution mean by "bicubic".
//!
//! The cubic kernel with a = -1/2 (Keys, 1981); when an image shrinks, the kernel is widened by the factor, so that nothing
//! aliases; pixels beyond the border are those at the border. The height is resized first and rounded to bytes, then the width: so
//! the small pictures of the usual test sets (Set5, Set14) come out to the bit. Other libraries differ in one of these. Sums are
//! `f64` in a fixed order.

use crate::picture::COLOURS;
use crate::{DataError, Picture, Result};
use rayon::prelude::*;

/// Where a pixel of the result comes from along an axis: source pixels and their weights, which sum to 1.
type Taps = Vec<(usize, f64)>;

/// The cubic kernel with a = -1/2.
fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < 2.0 {
        ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

/// The taps of each of `to` pixels along an axis of `from`.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = to as f64 / from as f64;
    // A kernel that shrinks is as much wider, and lower, as the image becomes smaller.
    let narrow = scale.min(1.0);
    let width = 4.0 / narrow;
    let count = width.ceil() as i64 + 2;
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) / scale - 0.5;
        let first = (centre - width / 2.0).floor() as i64;
        let weights: Vec<(i64, f64)> =
            (first..first + count).map(|k| (k, cubic(narrow * (centre - k as f64)))).collect();
        let sum: f64 = weights.iter().map(|(_, w)| w).sum();
        weights.into_iter().filter(|(_, w)| *w != 0.0).map(|(k, w)| (nearest(k, from), w / sum)).collect()
    };
    (0..to).map(tap).collect()
}

/// The pixel of an axis of `len` pixels that is nearest to place `k`.
fn nearest(k: i64, len: usize) -> usize {
    k.clamp(0, len as i64 - 1) as usize
}

fn byte(v: f64) -> u8 {
    libm::round(v.clamp(0.0, 255.0)) as u8
}

/// Resizes to `height` rows and `width` columns, rounded to bytes.
///
/// # Errors
/// A side is 0 or more than 16384.
///
/// ```
/// use fixnet_data::{Picture, bicubic};
/// let grey = Picture::new(4, 4, vec![77; 48])?;
/// assert_eq!(bicubic(&grey, 2, 6)?.pixels(), [77; 36]);
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
pub fn bicubic(picture: &Picture, height: usize, width: usize) -> Result<Picture> {
    let sides = 1..=crate::image_file::MAX_SIDE;
    if !sides.contains(&height) || !sides.contains(&width) {
        let expected = format!("sides from 1 to {}", sides.end());
        return Err(DataError::setting("a resized picture", &expected, format!("{height}x{width}")));
    }
    let [from_height, from_width, _] = picture.shape();
    let (rows, columns) = (taps(from_height, height), taps(from_width, width));
    let mut pixels = vec![0; height * width * COLOURS];
    pixels.par_chunks_exact_mut(width * COLOURS).zip(&rows).for_each(|(out, taps)| {
        let mut row = vec![0f64; from_width * COLOURS];
        for &(y, weight) in taps {
            let from = &picture.pixels()[y * from_width * COLOURS..][..from_width * COLOURS];
            row.iter_mut().zip(from).for_each(|(sum, &v)| *sum += weight * f64::from(v));
        }
        row.iter_mut().for_each(|v| *v = f64::from(byte(*v)));
        for (pixel, taps) in out.chunks_exact_mut(COLOURS).zip(&columns) {
            for (k, to) in pixel.iter_mut().enumerate() {
                let sum: f64 = taps.iter().map(|&(x, weight)| weight * row[x * COLOURS + k]).sum();
                *to = byte(sum);
            }
        }
    });
    Picture::new(height, width, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of grey pixels.
    fn row(values: &[u8]) -> Picture {
        Picture::new(1, values.len(), values.iter().flat_map(|&v| [v; 3]).collect()).unwrap()
    }

    fn greys(picture: &Picture) -> Vec<u8> {
        picture.pixels().iter().step_by(3).copied().collect()
    }

    #[test]
    fn weights_by_hand() {
        // Twice as wide: pixel 1 lies at (1 + 1/2) / 2 - 1/2 = 1/4. Distances 5/4, 1/4, 3/4, 7/4 give -0.0703125, 0.8671875,
        // 0.2265625, -0.0234375; the first source pixel, -1, is the one at the border.
        let found = &taps(4, 8)[1];
        assert_eq!(found, &[(0, -0.0703125), (0, 0.8671875), (1, 0.2265625), (2, -0.0234375)]);
        assert_eq!(taps(3, 3)[1], [(1, 1.0)]);
        // Half as wide: the kernel has 8 taps at distances 1/4, 3/4, 5/4, 7/4 on both sides.
        let found = &taps(16, 8)[3];
        let half = [0.8671875, 0.2265625, -0.0703125, -0.0234375].map(|w| w / 2.0);
        let places: Vec<usize> = found.iter().map(|t| t.0).collect();
        assert_eq!(places, [3, 4, 5, 6, 7, 8, 9, 10]);
        for (i, &(_, weight)) in found.iter().enumerate() {
            assert_eq!(weight, half[if i < 4 { 3 - i } else { i - 4 }]);
        }
        assert_eq!([-3, -1, 0, 3, 4, 8].map(|k| nearest(k, 4)), [0, 0, 0, 3, 3, 3]);
    }

    #[test]
    fn bytes_by_hand() {
        // 0.8671875 · 100 - 0.0703125 · 100 + 0.2265625 · 200 - 0.0234375 · 0 = 125.0 at pixel 1.
        assert_eq!(greys(&bicubic(&row(&[100, 200, 0, 0]), 1, 8).unwrap())[1], 125);
        // Overshoot is kept in a byte.
        assert_eq!(greys(&bicubic(&row(&[0, 0, 255, 255]), 1, 8).unwrap()), [0, 0, 0, 52, 203, 255, 255, 255]);
        assert!(bicubic(&row(&[1]), 0, 1).unwrap_err().to_string().contains("0x1"));
    }

    /// The same in NumPy (a plain script that gives the small pictures of Set5 and Set14 to the bit at scales of 2, 3 and 4).
    #[test]
    fn a_plain_script_gives_the_same_bytes() {
        let picture = Picture::new(8, 10, (0..8 * 10).flat_map(|i| [(i * i * 7 % 256) as u8; 3]).collect()).unwrap();
        assert_eq!(
            greys(&bicubic(&picture, 4, 5).unwrap()),
            [74, 106, 105, 152, 173, 134, 106, 125, 124, 170, 131, 151, 169, 164, 112, 176, 146, 146, 138, 110]
        );
        assert_eq!(
            greys(&bicubic(&picture, 3, 13).unwrap()),
            [
                135, 58, 56, 114, 115, 123, 103, 91, 124, 168, 183, 178, 168, 177, 135, 86, 82, 168, 199, 146, 106,
                153, 160, 120, 116, 162, 160, 170, 159, 145, 170, 130, 146, 174, 153, 136, 134, 119, 90
            ]
        );
    }

    #[test]
    fn threads_change_nothing() {
        let picture = Picture::new(37, 29, (0..37 * 29 * 3).map(|i| (i * 37 % 251) as u8).collect()).unwrap();
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| bicubic(&picture, 12, 100).unwrap())
        };
        assert_eq!(of(1), of(3));
    }
}
