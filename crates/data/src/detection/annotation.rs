//! What is known of an object in an image (`Annotation`), what a network says of one (`Detection`), and what can be wrong with a
//! box in a file.

use super::BoundingBox;
use crate::{DataError, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Display;

/// An object in an image: its box and its class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Where it is, in pixels of the image.
    pub bbox: BoundingBox,
    /// The index of its class.
    pub class: usize,
    /// Square pixels, by which metrics tell small objects from large ones. COCO files give the area of the object's mask, which is less
    /// than that of the box; elsewhere it is the area of the box.
    pub area: f32,
    /// Whether the box is around a crowd of objects, COCO's `iscrowd`: detections inside it count neither way, however many they are.
    pub crowd: bool,
    /// Whether the object is hard to recognize, VOC's `difficult`: a detection of it counts neither way.
    pub difficult: bool,
}

impl Annotation {
    /// Makes an annotation of a plain object, whose area is that of its box.
    pub fn new(bbox: BoundingBox, class: usize) -> Self {
        Self { bbox, class, area: bbox.area(), crowd: false, difficult: false }
    }

    /// Returns whether metrics ignore the object: a crowd or a difficult one. Networks are usually not trained on such boxes.
    pub fn is_ignored(&self) -> bool {
        self.crowd || self.difficult
    }
}

/// An object that a network found in an image.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Detection {
    /// Where it is, in pixels of the image.
    pub bbox: BoundingBox,
    /// The index of its class.
    pub class: usize,
    /// How sure the network is, 0 to 1.
    pub score: f32,
}

/// What is wrong with an annotation or with an entry of an annotation file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnnotationFault {
    /// A box is not inside its image.
    Outside,
    /// A box has no width or no height.
    NoArea,
    /// A number is not finite, or none at all.
    NotANumber,
    /// A class is not in the list of classes.
    UnknownClass,
    /// An id, a name or an image is there twice.
    Duplicate,
    /// An image is not there, or an annotation refers to none.
    MissingImage,
    /// The size of an image is not the one that the annotation file states.
    OtherSize,
    /// The file is not in its format, or lacks something.
    Damaged,
}

/// Where something stands in an annotation file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a, E: Display> {
    /// The file.
    pub(crate) file: &'a str,
    /// The part of it: `line 3`, `annotation 17`.
    pub(crate) element: E,
}

impl<E: Display> Place<'_, E> {
    /// Makes the error of what stands here.
    pub(crate) fn error(&self, fault: AnnotationFault, expected: impl ToString, found: impl ToString) -> DataError {
        DataError::Annotation {
            place: self.file.into(),
            element: self.element.to_string(),
            fault,
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// Checks a box of an image of `size` (height, width) and clips what rounding put beyond the border, at most one pixel.
    pub(crate) fn checked(&self, bbox: BoundingBox, [height, width]: [usize; 2]) -> Result<BoundingBox> {
        /// Tools round coordinates, and count pixels from 0 or from 1.
        const BEYOND: f32 = 1.0;
        let found = || format!("{:?} (x1, y1, x2, y2)", bbox.to_array());
        if !bbox.is_finite() {
            return Err(self.error(AnnotationFault::NotANumber, "finite coordinates", found()));
        }
        if !bbox.has_area() {
            return Err(self.error(
                AnnotationFault::NoArea,
                "a box with an area (remove it if there is no object)",
                found(),
            ));
        }
        let image = BoundingBox::of_image([height, width]);
        let inside = bbox.clipped(&image);
        let beyond = bbox.x1.min(bbox.y1) < -BEYOND || bbox.x2 > image.x2 + BEYOND || bbox.y2 > image.y2 + BEYOND;
        match beyond || !inside.has_area() {
            true => {
                let expected = format!("a box inside the image of {height}x{width} (height, width)");
                Err(self.error(AnnotationFault::Outside, expected, found()))
            }
            false => Ok(inside),
        }
    }

    /// Reads a finite number.
    pub(crate) fn number(&self, name: &str, text: &str) -> Result<f32> {
        let value = text.trim().parse::<f32>().ok().filter(|v| v.is_finite());
        value.ok_or_else(|| {
            self.error(AnnotationFault::NotANumber, format!("a finite number as {name}"), shortened(text.trim()))
        })
    }
}

/// A text of a file as messages have it.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 40;
    let start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() { format!("`{start}…`") } else { format!("`{start}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_checked_and_clipped_by_a_pixel_at_most() {
        let place = Place { file: "f", element: "line 3" };
        let check = |v: [f32; 4]| place.checked(BoundingBox::new(v[0], v[1], v[2], v[3]), [10, 20]);
        assert_eq!(check([-1.0, 0.0, 21.0, 10.5]).unwrap(), BoundingBox::new(0.0, 0.0, 20.0, 10.0));
        let fault = |v| match check(v).unwrap_err() {
            DataError::Annotation { fault, .. } => fault,
            e => panic!("{e}"),
        };
        assert_eq!(fault([-1.5, 0.0, 5.0, 5.0]), AnnotationFault::Outside);
        assert_eq!(fault([0.0, 0.0, 5.0, 11.5]), AnnotationFault::Outside);
        assert_eq!(fault([20.0, 0.0, 21.0, 5.0]), AnnotationFault::Outside);
        assert_eq!(fault([3.0, 3.0, 3.0, 5.0]), AnnotationFault::NoArea);
        assert_eq!(fault([3.0, f32::NAN, 3.0, 5.0]), AnnotationFault::NotANumber);
        let e = check([0.0, 0.0, 30.0, 5.0]).unwrap_err().to_string();
        let expected = "f: line 3: expected a box inside the image of 10x20 (height, width), found [0.0, 0.0, 30.0, 5.0] \
                        (x1, y1, x2, y2)";
        assert_eq!(e, expected);
        assert!(place.number("x", " 1e3 ").unwrap() == 1000.0 && place.number("x", "inf").is_err());
        assert!(place.number("x", &"9".repeat(99)).unwrap_err().to_string().ends_with("9…`"));
    }
}
