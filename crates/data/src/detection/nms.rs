//! Order of detections, and non-maximum suppression, with every tie settled by the index: the same boxes on every machine.

use super::BoundingBox;
use crate::{DataError, Result};

/// Returns the indices of `scores` by falling score; of equal scores the lower index comes first.
///
/// ```
/// assert_eq!(fixnet_data::by_score(&[0.5, 0.9, 0.5]), [1, 0, 2]);
/// ```
pub fn by_score(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // A stable sort. -0 and 0 are equal scores, which `total_cmp` alone would tell apart.
    order.sort_by(|&a, &b| (scores[b] + 0.0).total_cmp(&(scores[a] + 0.0)));
    order
}

/// Returns which boxes non-maximum suppression keeps, by falling score.
///
/// Boxes are visited in the order of [`by_score`], one after the other; a box is dropped if its [IoU](BoundingBox::iou) with a kept box of
/// the same class is above `threshold`. Without `classes` all boxes are of one class. The result is torchvision's `nms`, or
/// `batched_nms` with classes, where these leave no tie open.
///
/// # Errors
/// There is not one score (and class) per box, a number is not finite, or the threshold is not from 0 to 1.
pub fn nms(boxes: &[BoundingBox], scores: &[f32], classes: Option<&[usize]>, threshold: f32) -> Result<Vec<usize>> {
    let wrong = |expected: &str, found: String| Err(DataError::setting("non-maximum suppression", expected, found));
    let count = boxes.len();
    if scores.len() != count || classes.is_some_and(|classes| classes.len() != count) {
        let found =
            format!("{count} boxes, {} scores, {} classes", scores.len(), classes.map_or(count, <[usize]>::len));
        return wrong("one score and one class per box", found);
    }
    if !(0.0..=1.0).contains(&threshold) {
        return wrong("an IoU from 0 to 1 as threshold", threshold.to_string());
    }
    if let Some(i) = (0..count).find(|&i| !boxes[i].is_finite() || !scores[i].is_finite()) {
        return wrong("finite numbers", format!("{:?} of score {} at index {i}", boxes[i].to_array(), scores[i]));
    }
    let class = |i: usize| classes.map_or(0, |classes| classes[i]);
    let mut kept: Vec<usize> = Vec::new();
    for i in by_score(scores) {
        if kept.iter().all(|&k| class(k) != class(i) || boxes[k].iou(&boxes[i]) <= threshold) {
            kept.push(i);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(x: f32) -> BoundingBox {
        BoundingBox::new(x, 0.0, x + 10.0, 10.0)
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        assert_eq!(by_score(&[0.0, -0.0, 1.0, 0.0]), [2, 0, 1, 3]);
        let boxes = [row(0.0), row(1.0), row(2.0), row(30.0)];
        // All overlap but the last one.
        assert_eq!(nms(&boxes, &[0.5, 0.5, 0.5, 0.5], None, 0.5).unwrap(), [0, 3]);
        assert_eq!(nms(&boxes, &[0.1, 0.5, 0.5, 0.9], None, 0.5).unwrap(), [3, 1]);
        assert_eq!(nms(&[], &[], None, 0.5).unwrap(), [0; 0]);
    }

    #[test]
    fn only_kept_boxes_of_the_class_suppress_and_the_threshold_itself_does_not() {
        // Neighbours share 8 of 12 columns (IoU 2/3), the outer ones 6 of 14.
        let boxes = [row(0.0), row(2.0), row(4.0)];
        let scores = [0.9, 0.8, 0.7];
        assert_eq!(nms(&boxes, &scores, None, 0.5).unwrap(), [0, 2]);
        assert_eq!(nms(&boxes, &scores, None, boxes[0].iou(&boxes[1])).unwrap(), [0, 1, 2]);
        assert_eq!(nms(&boxes, &scores, Some(&[0, 1, 0]), 0.4).unwrap(), [0, 1]);
        assert_eq!(nms(&boxes, &scores, Some(&[4, 1, 3]), 0.0).unwrap(), [0, 1, 2]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let text = |scores: &[f32], classes: Option<&[usize]>, threshold| {
            nms(&[row(0.0)], scores, classes, threshold).unwrap_err().to_string()
        };
        assert!(text(&[], None, 0.5).ends_with("found 1 boxes, 0 scores, 1 classes"));
        assert!(text(&[1.0], Some(&[]), 0.5).ends_with("found 1 boxes, 1 scores, 0 classes"));
        assert!(text(&[1.0], None, f32::NAN).contains("threshold"));
        assert!(text(&[f32::NAN], None, 0.5).contains("score NaN at index 0"));
    }
}
