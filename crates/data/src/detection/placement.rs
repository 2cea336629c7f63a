//! `Placement`: where an image, or a window of one, is on a canvas. Pixels and boxes follow the same numbers, and detections come back
//! by them.

use super::resize::resized;
use super::{Annotation, BoundingBox, Detection};
use crate::image_file::MAX_SIDE;
use crate::picture::COLOURS;
use crate::{DataError, Picture, Result};

/// A window of an image, mirrored or not, scaled, and put on a canvas.
///
/// ```
/// use fixnet_data::{BoundingBox, Placement};
/// // 480 rows and 640 columns on a canvas of 160 x 160: a quarter of the size, with 40 empty rows below.
/// let placement = Placement::letterbox([480, 640], [160, 160])?;
/// assert_eq!(placement.size, [120, 160]);
/// let bbox = BoundingBox::new(100.0, 200.0, 300.0, 400.0);
/// assert_eq!(placement.forward(&bbox), BoundingBox::new(25.0, 50.0, 75.0, 100.0));
/// assert_eq!(placement.back(&placement.forward(&bbox)), bbox);
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The window: its first row and column, its height and its width, at least 1 each.
    pub window: [usize; 4],
    /// Whether the window is mirrored left to right.
    pub flip: bool,
    /// The height and the width to which it is scaled, at least 1 each.
    pub size: [usize; 2],
    /// The row and the column of the canvas at which it begins.
    pub at: [usize; 2],
}

impl Placement {
    /// Places a whole image of `[height, width]` in the upper left corner of a canvas, as large as it fits with its proportions; the rest
    /// is padding, to the right or below.
    ///
    /// # Errors
    /// A side is 0 or more than 16384.
    pub fn letterbox(image: [usize; 2], canvas: [usize; 2]) -> Result<Self> {
        check_sides("image", image)?;
        check_sides("canvas", canvas)?;
        let [height, width] = image;
        let window = [0, 0, height, width];
        // The side that fills the canvas is exact; the other one is rounded to whole pixels, to even at a half.
        let size = match canvas[0] * width <= canvas[1] * height {
            true => [canvas[0], rounded(width * canvas[0], height).clamp(1, canvas[1])],
            false => [rounded(height * canvas[1], width).clamp(1, canvas[0]), canvas[1]],
        };
        Ok(Self { window, flip: false, size, at: [0, 0] })
    }

    /// Returns where a box of the image is on the canvas; it may lie outside the part that is shown.
    ///
    /// Each axis is scaled by the ratio of the whole numbers of pixels, in 64 bits and rounded once to 32.
    pub fn forward(&self, bbox: &BoundingBox) -> BoundingBox {
        let [top, left, height, width] = self.window.map(|v| v as f64);
        let [rows, columns] = self.size.map(|v| v as f64);
        let [down, right] = self.at.map(|v| v as f64);
        let x = |x: f32| {
            let x = (f64::from(x) - left) * columns / width;
            let x = if self.flip { columns - x } else { x };
            (right + x) as f32
        };
        let y = |y: f32| (down + (f64::from(y) - top) * rows / height) as f32;
        let [a, b] = [x(bbox.x1), x(bbox.x2)];
        let [x1, x2] = if self.flip { [b, a] } else { [a, b] };
        BoundingBox::new(x1, y(bbox.y1), x2, y(bbox.y2))
    }

    /// Returns where a box of the canvas is in the image: the inverse of [`forward`](Self::forward), up to the last digit of a float where a ratio is
    /// no power of two. It is not clipped.
    pub fn back(&self, bbox: &BoundingBox) -> BoundingBox {
        let [top, left, height, width] = self.window.map(|v| v as f64);
        let [rows, columns] = self.size.map(|v| v as f64);
        let [down, right] = self.at.map(|v| v as f64);
        let x = |x: f32| {
            let x = f64::from(x) - right;
            let x = if self.flip { columns - x } else { x };
            (left + x * width / columns) as f32
        };
        let y = |y: f32| (top + (f64::from(y) - down) * height / rows) as f32;
        let [a, b] = [x(bbox.x1), x(bbox.x2)];
        let [x1, x2] = if self.flip { [b, a] } else { [a, b] };
        BoundingBox::new(x1, y(bbox.y1), x2, y(bbox.y2))
    }

    /// Returns what was found on the canvas in pixels of an image of `[height, width]`, clipped to it. Detections that are outside of it are
    /// left out; the others keep their order.
    pub fn detections_back(&self, size: [usize; 2], found: &[Detection]) -> Vec<Detection> {
        let image = BoundingBox::of_image(size);
        let back = |detection: &Detection| Detection { bbox: self.back(&detection.bbox).clipped(&image), ..*detection };
        found.iter().map(back).filter(|detection| detection.bbox.has_area()).collect()
    }

    /// Returns the part of the canvas that shows the image.
    pub fn shown(&self) -> BoundingBox {
        let [down, right] = self.at.map(|v| v as f32);
        BoundingBox::of_image(self.size).shifted([down, right])
    }

    /// Returns an object of the image as it is on the canvas, clipped to the part that is shown; `None` if less than the share `least` of its
    /// box (0 to 1) is there.
    pub fn annotation(&self, annotation: &Annotation, least: f32) -> Option<Annotation> {
        let whole = self.forward(&annotation.bbox);
        let bbox = whole.clipped(&self.shown());
        if !bbox.has_area() || bbox.area() < least * whole.area() {
            return None;
        }
        // The share of the box that its object fills stays as it is.
        let area = annotation.area / annotation.bbox.area() * bbox.area();
        Some(Annotation { bbox, area, ..*annotation })
    }

    /// Returns the pixels that are shown: the window, scaled and mirrored.
    ///
    /// # Errors
    /// The window is not inside the picture, or the result takes more than [`Budget::IMAGE`](fixnet_tensor::Budget::IMAGE).
    pub fn picture(&self, picture: &Picture) -> Result<Picture> {
        let scaled = resized(picture, self.window, self.size)?;
        if !self.flip {
            return Ok(scaled);
        }
        let rows = scaled.pixels().chunks_exact(scaled.width() * COLOURS);
        let pixels = rows.flat_map(|row| row.chunks_exact(COLOURS).rev().flatten().copied()).collect();
        Picture::new(scaled.height(), scaled.width(), pixels)
    }
}

/// Checks a height and a width.
pub(crate) fn check_sides(what: &str, sides: [usize; 2]) -> Result<()> {
    match sides.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        true => Ok(()),
        false => {
            let expected = format!("a height and a width from 1 to {MAX_SIDE}");
            Err(DataError::setting(what, &expected, format!("{}x{}", sides[0], sides[1])))
        }
    }
}

/// A ratio, rounded to the nearest whole number, to even at a half.
fn rounded(a: usize, b: usize) -> usize {
    let (whole, rest) = (a / b, 2 * (a % b));
    whole + usize::from(rest > b || (rest == b && whole % 2 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn letterboxes_by_hand() {
        let size = |image, canvas| Placement::letterbox(image, canvas).unwrap().size;
        assert_eq!(size([480, 640], [320, 320]), [240, 320]);
        assert_eq!(size([640, 480], [320, 320]), [320, 240]);
        assert_eq!(size([10, 10], [30, 40]), [30, 30]);
        assert_eq!(size([1, 16384], [32, 32]), [1, 32]);
        assert_eq!(size([333, 500], [256, 256]), [170, 256]);
        assert_eq!(size([100, 200], [64, 128]), [64, 128]);
        let e = Placement::letterbox([0, 5], [32, 32]).unwrap_err().to_string();
        assert_eq!(e, "image: expected a height and a width from 1 to 16384, found 0x5");
        assert!(Placement::letterbox([1, 5], [32, 1 << 15]).unwrap_err().to_string().starts_with("canvas"));
    }

    #[test]
    fn annotations_are_clipped_and_dropped_by_their_share() {
        let placement = Placement { window: [0, 10, 20, 20], flip: true, size: [10, 10], at: [5, 7] };
        // Half of it is left of the window, which is mirrored.
        let object = Annotation { area: 50.0, ..Annotation::new(BoundingBox::new(5.0, 0.0, 15.0, 10.0), 3) };
        let found = placement.annotation(&object, 0.5).unwrap();
        assert_eq!((found.bbox, found.class), (BoundingBox::new(14.5, 5.0, 17.0, 10.0), 3));
        assert_eq!(found.area, 6.25, "half of the box was object");
        assert_eq!(placement.annotation(&object, 0.51), None);
        let outside = Annotation::new(BoundingBox::new(0.0, 0.0, 10.0, 10.0), 0);
        assert_eq!(placement.annotation(&outside, 0.0), None);
    }

    proptest! {
        /// Of a marked rectangle the box follows to where the marks are.
        #[test]
        fn boxes_follow_pixels(
            (top, left) in (0usize..6, 0usize..6),
            (y, x) in (0usize..8, 0usize..8),
            (h, w) in (1usize..8, 1usize..8),
            by in 1usize..4,
            flip: bool,
        ) {
            let (height, width) = (16, 16);
            let marked = |row: usize, column: usize| (y..y + h).contains(&row) && (x..x + w).contains(&column);
            let pixels = (0..height * width).flat_map(|i| [if marked(i / width, i % width) { 255 } else { 0 }; 3]);
            let picture = Picture::new(height, width, pixels.collect()).unwrap();
            let window = [top, left, height - top, width - left];
            let size = [window[2] * by, window[3] * by];
            let placement = Placement { window, flip, size, at: [3, 2] };
            let shown = placement.picture(&picture).unwrap();
            let bbox = BoundingBox::new(x as f32, y as f32, (x + w) as f32, (y + h) as f32);
            let Some(found) = placement.annotation(&Annotation::new(bbox, 0), 0.0) else {
                prop_assert!(shown.pixels().iter().all(|&v| v < 128));
                return Ok(());
            };
            for (i, pixel) in shown.pixels().chunks_exact(3).enumerate() {
                let (row, column) = (3.5 + (i / size[1]) as f32, 2.5 + (i % size[1]) as f32);
                let inside = row > found.bbox.y1 && row < found.bbox.y2 && column > found.bbox.x1 && column < found.bbox.x2;
                // Interpolation blurs corners; a pixel well inside is marked, and one well outside is not.
                let near = [row - found.bbox.y1, row - found.bbox.y2].iter().chain(&[column - found.bbox.x1, column - found.bbox.x2]).any(|d| d.abs() < by as f32);
                prop_assert!(near || inside == (pixel[0] > 127), "{row} {column} {:?}", found);
                prop_assert!(by > 1 || inside == (pixel[0] == 255), "{row} {column} {:?}", found);
            }
        }

        /// What a network finds on the canvas comes back to the image to the last digit or two of a float.
        #[test]
        fn detections_come_back(image in [1usize..2000, 1usize..2000], canvas in [1usize..600, 1usize..600], at: [f32; 4]) {
            let placement = Placement::letterbox(image, canvas).unwrap();
            let share = at.map(|v| if v.is_finite() { v.abs().fract() } else { 0.5 });
            let bbox = BoundingBox::new(share[0], share[1], share[2], share[3]).scaled(image.map(|v| v as f32));
            let again = placement.back(&placement.forward(&bbox));
            for (a, b) in again.to_array().iter().zip(bbox.to_array()) {
                prop_assert!((a - b).abs() <= 2.0 * f32::EPSILON * b.abs(), "{a} {b}");
            }
            let [rows, columns] = placement.size;
            prop_assert!(rows <= canvas[0] && columns <= canvas[1] && (rows == canvas[0] || columns == canvas[1]));
        }
    }
}
