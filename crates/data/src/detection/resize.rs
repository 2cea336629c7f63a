//! Scaling a window of a picture to any size, in integers: the same bytes everywhere.
//!
//! Bilinear interpolation, whose triangle is widened by the factor where a picture shrinks, so that nothing aliases (the filter of Pillow's
//! `BILINEAR`). Columns first, kept in 1/256, then rows; each sum is divided by the sum of its weights and rounded once.

use crate::picture::COLOURS;
use crate::{DataError, Picture, Result};
use fixnet_tensor::{Budget, Buffer};

/// The source pixels of each target pixel along an axis, with their weights.
struct Axis {
    /// Of each target pixel the first source pixel, the first weight and the number of weights.
    places: Vec<[usize; 3]>,
    weights: Vec<u64>,
}

impl Axis {
    /// From `from` pixels to `to`, both at most 16384.
    fn new(from: usize, to: usize) -> Self {
        let (mut places, mut weights) = (Vec::with_capacity(to), Vec::new());
        // Distances are in units of 1/(2 to) of a source pixel, so that centres of both kinds are whole numbers.
        let reach = 2 * from.max(to);
        for i in 0..to {
            let centre = (2 * i + 1) * from;
            let weight = |j: usize| reach.saturating_sub(((2 * j + 1) * to).abs_diff(centre)) as u64;
            let mut first = (centre.saturating_sub(reach) / to).saturating_sub(1) / 2;
            while weight(first) == 0 {
                first += 1;
            }
            let start = weights.len();
            weights.extend((first..from).map(weight).take_while(|&weight| weight > 0));
            places.push([first, start, weights.len() - start]);
        }
        Self { places, weights }
    }

    fn taps(&self, i: usize) -> (usize, &[u64]) {
        let [first, start, len] = self.places[i];
        (first, &self.weights[start..start + len])
    }
}

/// Scales the window `[top, left, height, width]` of a picture to `[rows, columns]`.
///
/// # Errors
/// The window is empty or not inside the picture, a side of the result is 0 or more than 16384, or it takes more than
/// [`Budget::IMAGE`].
pub(crate) fn resized(picture: &Picture, window: [usize; 4], [rows, columns]: [usize; 2]) -> Result<Picture> {
    let [top, left, height, width] = window;
    let inside =
        |start: usize, len: usize, side: usize| len > 0 && start.checked_add(len).is_some_and(|end| end <= side);
    if !inside(top, height, picture.height()) || !inside(left, width, picture.width()) {
        let expected = format!("a window inside {}x{}", picture.height(), picture.width());
        return Err(DataError::setting("picture", &expected, format!("{height}x{width} from ({top}, {left})")));
    }
    if [rows, columns] == [height, width] {
        return picture.window([top, left], [height, width]);
    }
    let len = Picture::bytes_of(rows, columns)?;
    Budget::IMAGE.clone().claim("a picture, scaled", &[height, columns, COLOURS], size_of::<u16>())?;
    let across = Axis::new(width, columns);
    let mut wide = Buffer::<u16>::take(height * columns * COLOURS);
    for (y, out) in wide.chunks_exact_mut(columns * COLOURS).enumerate() {
        let row = &picture.pixels()[((top + y) * picture.width() + left) * COLOURS..][..width * COLOURS];
        for (i, out) in out.chunks_exact_mut(COLOURS).enumerate() {
            let (first, weights) = across.taps(i);
            let sum: u64 = weights.iter().sum();
            let mut values = [0; COLOURS];
            for (pixel, &weight) in row[first * COLOURS..].chunks_exact(COLOURS).zip(weights) {
                values.iter_mut().zip(pixel).for_each(|(value, &v)| *value += weight * u64::from(v));
            }
            out.iter_mut().zip(values).for_each(|(out, value)| *out = ((256 * value + sum / 2) / sum) as u16);
        }
    }
    let down = Axis::new(height, rows);
    let mut pixels = Vec::with_capacity(len);
    let mut line = vec![0u64; columns * COLOURS];
    for i in 0..rows {
        let (first, weights) = down.taps(i);
        line.fill(0);
        for (row, &weight) in wide[first * columns * COLOURS..].chunks_exact(columns * COLOURS).zip(weights) {
            line.iter_mut().zip(row).for_each(|(value, &v)| *value += weight * u64::from(v));
        }
        let sum = 256 * weights.iter().sum::<u64>();
        pixels.extend(line.iter().map(|value| ((value + sum / 2) / sum) as u8));
    }
    Picture::new(rows, columns, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grey(height: usize, width: usize, values: &[u8]) -> Picture {
        Picture::new(height, width, values.iter().flat_map(|&v| [v; 3]).collect()).unwrap()
    }

    fn first_colour(picture: &Picture) -> Vec<u8> {
        picture.pixels().iter().step_by(3).copied().collect()
    }

    #[test]
    fn values_by_hand() {
        // Twice as wide: between the centres of its neighbours, 3/4 and 1/4.
        let wide = resized(&grey(1, 2, &[0, 100]), [0, 0, 1, 2], [1, 4]).unwrap();
        assert_eq!(first_colour(&wide), [0, 25, 75, 100]);
        // Half as wide: weights 3/8, 3/8 and 1/8 on either side, as far as there are pixels.
        let narrow = resized(&grey(1, 4, &[0, 70, 140, 210]), [0, 0, 1, 4], [1, 2]).unwrap();
        assert_eq!(first_colour(&narrow), [50, 160]);
        // A window, and both axes.
        let window = resized(&grey(3, 3, &[9, 9, 9, 9, 10, 20, 9, 30, 40]), [1, 1, 2, 2], [1, 1]).unwrap();
        assert_eq!(first_colour(&window), [25]);
        for window in [[0, 0, 2, 1], [1, 0, 1, 1], [0, 0, 0, 1], [0, usize::MAX, 1, 1]] {
            assert!(resized(&grey(1, 2, &[0, 0]), window, [1, 1]).is_err());
        }
        assert!(resized(&grey(1, 2, &[0, 0]), [0, 0, 1, 2], [0, 1]).is_err());
        assert!(resized(&grey(1, 2, &[0, 0]), [0, 0, 1, 2], [1 << 15, 1]).is_err());
    }

    proptest! {
        #[test]
        fn equal_pixels_stay_and_values_keep_their_range(h in 1usize..9, w in 1usize..9, rows in 1usize..20, columns in 1usize..20, v: u8) {
            let same = resized(&grey(h, w, &vec![v; h * w]), [0, 0, h, w], [rows, columns]).unwrap();
            prop_assert!(same.pixels().iter().all(|&found| found == v));
            let values: Vec<u8> = (0..h * w).map(|i| (i * 37 % 256) as u8).collect();
            let other = first_colour(&resized(&grey(h, w, &values), [0, 0, h, w], [rows, columns]).unwrap());
            prop_assert!(other.iter().all(|v| values.iter().min() <= Some(v) && Some(v) <= values.iter().max()));
        }
    }
}
