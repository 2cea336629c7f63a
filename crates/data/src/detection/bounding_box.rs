//! `BoundingBox`: a rectangle around an object, and its geometry. Data sets, networks and metrics share this one type.

use crate::Transform;
use serde::{Deserialize, Serialize};

/// A rectangle in pixels of an image, from its upper left corner (`x1`, `y1`) to its lower right one (`x2`, `y2`).
///
/// Coordinates are continuous: pixel column 0 is from 0 to 1, so an image of `width` columns ends at `x = width`, and lengths are plain
/// differences, without "+ 1". This is the form of torchvision and of COCO. All arithmetic is `f32` in the order that is written here.
///
/// ```
/// use fixnet_data::BoundingBox;
/// let (a, b) = (BoundingBox::new(0.0, 0.0, 2.0, 2.0), BoundingBox::new(1.0, 0.0, 3.0, 2.0));
/// assert_eq!((a.area(), a.intersection(&b)), (4.0, 2.0));
/// assert_eq!(a.iou(&b), 2.0 / 6.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BoundingBox {
    /// The left side.
    pub x1: f32,
    /// The upper side.
    pub y1: f32,
    /// The right side.
    pub x2: f32,
    /// The lower side.
    pub y2: f32,
}

impl BoundingBox {
    /// Makes a box of its two corners.
    pub const fn new(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// Makes the box of a whole image of `[height, width]`.
    pub fn of_image([height, width]: [usize; 2]) -> Self {
        Self::new(0.0, 0.0, width as f32, height as f32)
    }

    /// Makes a box of its upper left corner, its width and its height, as COCO files have it.
    pub fn from_xywh([x, y, width, height]: [f32; 4]) -> Self {
        Self::new(x, y, x + width, y + height)
    }

    /// Returns the upper left corner, the width and the height.
    pub fn to_xywh(&self) -> [f32; 4] {
        [self.x1, self.y1, self.width(), self.height()]
    }

    /// Returns `[x1, y1, x2, y2]`.
    pub fn to_array(&self) -> [f32; 4] {
        [self.x1, self.y1, self.x2, self.y2]
    }

    /// Returns the width; below 0 if the sides are the wrong way round.
    pub fn width(&self) -> f32 {
        self.x2 - self.x1
    }

    /// Returns the height; below 0 if the sides are the wrong way round.
    pub fn height(&self) -> f32 {
        self.y2 - self.y1
    }

    /// Returns the point in the middle, `[x, y]`.
    pub fn centre(&self) -> [f32; 2] {
        [self.x1 + 0.5 * self.width(), self.y1 + 0.5 * self.height()]
    }

    /// Returns the area in square pixels; 0 if the sides are the wrong way round.
    pub fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Returns whether all four numbers are finite.
    pub fn is_finite(&self) -> bool {
        self.to_array().iter().all(|v| v.is_finite())
    }

    /// Returns whether all four numbers are finite and the box has an area that is above 0 as a float too.
    pub fn has_area(&self) -> bool {
        self.is_finite() && self.x1 < self.x2 && self.y1 < self.y2 && self.area() > 0.0
    }

    /// Returns the area that both boxes cover.
    pub fn intersection(&self, other: &Self) -> f32 {
        self.clipped(other).area()
    }

    /// Computes the intersection over union, 0 to 1: `|a ∩ b| / (|a| + |b| - |a ∩ b|)`; 0 if neither has an area.
    pub fn iou(&self, other: &Self) -> f32 {
        let both = self.intersection(other);
        // Without this, boxes without area would give 0 / 0.
        if both > 0.0 { both / (self.area() + other.area() - both) } else { 0.0 }
    }

    /// Returns the part inside `window`, without area if there is none.
    #[must_use]
    pub fn clipped(&self, window: &Self) -> Self {
        Self {
            x1: self.x1.max(window.x1),
            y1: self.y1.max(window.y1),
            x2: self.x2.min(window.x2),
            y2: self.y2.min(window.y2),
        }
    }

    /// Returns the box in an image that is `y` times as high and `x` times as wide.
    #[must_use]
    pub fn scaled(&self, [y, x]: [f32; 2]) -> Self {
        Self::new(self.x1 * x, self.y1 * y, self.x2 * x, self.y2 * y)
    }

    /// Returns the box moved down by `y` and right by `x`.
    #[must_use]
    pub fn shifted(&self, [y, x]: [f32; 2]) -> Self {
        Self::new(self.x1 + x, self.y1 + y, self.x2 + x, self.y2 + y)
    }

    /// Returns the box in an image of `width` columns that is mirrored left to right.
    #[must_use]
    pub fn mirrored(&self, width: f32) -> Self {
        Self { x1: width - self.x2, x2: width - self.x1, ..*self }
    }

    /// Returns the part inside `window`, in coordinates of the window; `None` if it has no area or less than the share `least` (0 to 1)
    /// of the area of the box.
    pub fn cropped(&self, window: &Self, least: f32) -> Option<Self> {
        let part = self.clipped(window);
        let kept = part.has_area() && part.area() >= least * self.area();
        kept.then(|| part.shifted([-window.y1, -window.x1]))
    }

    /// Returns where the box is in an image that `transform` moved; it may lie outside.
    #[must_use]
    pub fn transformed(&self, transform: &Transform) -> Self {
        let [y1, x1, y2, x2] = transform.boxed([self.y1, self.x1, self.y2, self.x2]);
        Self::new(x1, y1, x2, y2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxed(v: [f32; 4]) -> BoundingBox {
        BoundingBox::new(v[0], v[1], v[2], v[3])
    }

    #[test]
    fn geometry_by_hand() {
        let a = boxed([1.0, 2.0, 5.0, 4.0]);
        assert_eq!((a.width(), a.height(), a.area(), a.centre()), (4.0, 2.0, 8.0, [3.0, 3.0]));
        assert_eq!(BoundingBox::from_xywh(a.to_xywh()), a);
        assert_eq!(a.iou(&a), 1.0);
        // 2 x 1 of 8 and 6.
        assert_eq!(a.iou(&boxed([3.0, 3.0, 6.0, 5.0])), 2.0 / 12.0);
        assert_eq!(a.iou(&boxed([5.0, 2.0, 6.0, 4.0])), 0.0, "a common side is no area");
        let (none, turned) = (boxed([1.0; 4]), boxed([5.0, 2.0, 1.0, 4.0]));
        assert_eq!((none.iou(&none), turned.area(), turned.iou(&a)), (0.0, 0.0, 0.0));
        assert!(a.has_area() && !none.has_area() && !turned.has_area() && !boxed([0.0, 0.0, f32::NAN, 1.0]).has_area());
        assert!(!boxed([0.0, 0.0, 1e-23, 1e-23]).has_area(), "an area that is 0 as a float");
        assert_eq!(a.scaled([2.0, 0.5]), boxed([0.5, 4.0, 2.5, 8.0]));
        assert_eq!(a.mirrored(10.0), boxed([5.0, 2.0, 9.0, 4.0]));
        assert_eq!(a.clipped(&BoundingBox::of_image([3, 4])), boxed([1.0, 2.0, 4.0, 3.0]));
    }

    #[test]
    fn a_crop_keeps_boxes_of_which_enough_is_left() {
        let (a, window) = (boxed([0.0, 0.0, 4.0, 2.0]), boxed([3.0, 1.0, 9.0, 9.0]));
        // One of eight square pixels.
        assert_eq!(a.cropped(&window, 0.125), Some(boxed([0.0, 0.0, 1.0, 1.0])));
        assert_eq!(a.cropped(&window, 0.126), None);
        assert_eq!(a.cropped(&boxed([4.0, 0.0, 9.0, 9.0]), 0.0), None);
    }

    #[test]
    fn boxes_follow_a_transform_as_their_pixels_do() {
        let size = [7, 9];
        for (turns, flip) in [(0, false), (1, false), (2, true), (3, true)] {
            let transform = Transform { turns, flip, ..Transform::identity(size[0], size[1]) };
            // The image is 1 inside the box.
            let a = boxed([2.0, 1.0, 6.0, 3.0]);
            let inside = |i: usize, a: &BoundingBox, width: usize| {
                let [x, y] = [(i % width) as f32, (i / width) as f32];
                u8::from(x >= a.x1 && x < a.x2 && y >= a.y1 && y < a.y2)
            };
            let image: Vec<u8> = (0..63).map(|i| inside(i, &a, 9)).collect();
            let mut moved = vec![9; 63];
            transform.write(&image, [7, 9, 1], &mut moved, |_, v| v);
            let b = a.transformed(&transform);
            assert_eq!(moved, (0..63).map(|i| inside(i, &b, transform.size()[1])).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn iou_is_a_share_and_symmetric(a: [i8; 4], b: [i8; 4]) {
            let (a, b) = (boxed(a.map(f32::from)), boxed(b.map(f32::from)));
            let iou = a.iou(&b);
            prop_assert!((0.0..=1.0).contains(&iou));
            prop_assert_eq!(iou.to_bits(), b.iou(&a).to_bits());
        }
    }
}
