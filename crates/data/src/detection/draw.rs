//! Boxes drawn on pictures, for reports and predictions.

use super::BoundingBox;
use crate::picture::COLOURS;
use crate::{Picture, Result};

/// Returns a picture with the outlines of boxes, each in its colour. Lines are one pixel wide for each 400 pixels of the longer side,
/// at least one, and lie inside the box; what is outside of the picture is left out.
///
/// # Errors
/// None that a picture would not have had before.
pub fn outlined(picture: &Picture, boxes: &[(BoundingBox, [u8; 3])]) -> Result<Picture> {
    let (height, width) = (picture.height(), picture.width());
    let mut pixels = picture.pixels().to_vec();
    let thick = (height.max(width) / 400).max(1);
    // First and last pixel of a side that the box covers, held to the picture.
    let cover = |from: f32, to: f32, most: usize| {
        let held = |v: f32| v.max(0.0).min(most as f32) as usize;
        (held(from), held(to.ceil()).max(held(from) + 1).min(most))
    };
    for (bbox, colour) in boxes {
        let ((x1, x2), (y1, y2)) = (cover(bbox.x1, bbox.x2, width), cover(bbox.y1, bbox.y2, height));
        for y in y1..y2 {
            for x in x1..x2 {
                let border = y < y1 + thick || y + thick >= y2 || x < x1 + thick || x + thick >= x2;
                if border {
                    pixels[(y * width + x) * COLOURS..][..COLOURS].copy_from_slice(colour);
                }
            }
        }
    }
    Picture::new(height, width, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_lie_on_the_border_of_a_box_and_within_the_picture() {
        let picture = Picture::new(4, 5, vec![0; 60]).unwrap();
        let red = |p: &Picture| -> String {
            let pixel = |i: usize| if p.pixels()[3 * i] == 9 { '#' } else { '.' };
            (0..20).map(pixel).collect()
        };
        let draw = |x1, y1, x2, y2| {
            outlined(&picture, &[(BoundingBox::new(x1, y1, x2, y2), [9, 0, 0])]).map(|p| red(&p)).unwrap()
        };
        assert_eq!(draw(1.0, 0.0, 4.0, 3.0), [".###.", ".#.#.", ".###.", "....."].concat());
        assert_eq!(draw(-3.0, 2.0, 1.5, 99.0), [".....", ".....", "##...", "##..."].concat());
        assert_eq!(draw(9.0, 9.0, 12.0, 12.0), ["....."; 4].concat());
        assert_eq!(outlined(&picture, &[]).unwrap(), picture);
    }
}
