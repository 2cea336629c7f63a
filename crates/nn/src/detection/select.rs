//! `Selection`: from the output of a detector to the detections of an image.

use super::{AnchorConfig, BoxCode, RegionRow};
use fixnet_autograd::{Error, Result};
use fixnet_data::{BoundingBox, Detection, by_score, nms};
use fixnet_tensor::math;

/// Which anchors become detections, as torchvision's RetinaNet selects them: of each level those with scores above `least`, at most
/// `per_level` by falling score; of these what non-maximum suppression keeps for each class; at most `most` by falling score. Equal
/// scores go by the lower index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Selection {
    /// Scores up to this one are left out.
    pub least: f32,
    /// How many of each level are looked at.
    pub per_level: usize,
    /// Of two boxes of a class whose IoU is above this, the one of the higher score stays.
    pub overlap: f32,
    /// How many detections an image has at most.
    pub most: usize,
    /// The code of boxes.
    pub code: BoxCode,
}

impl Selection {
    /// That of torchvision's RetinaNet.
    pub const RETINANET: Self = Self { least: 0.05, per_level: 1000, overlap: 0.5, most: 300, code: BoxCode::UNIT };
    /// That of torchvision's Faster R-CNN. It looks at all proposals.
    pub const BOX_HEAD: Self =
        Self { least: 0.05, per_level: usize::MAX, overlap: 0.5, most: 100, code: BoxCode::BOX_HEAD };

    /// Selects the detections of an image by falling score. `output` has [anchors, classes + 4] numbers, for the anchors of an input of
    /// `[height, width]`, of which `image` is the part that the image fills: boxes are clipped to it.
    ///
    /// # Errors
    /// The output does not fit the anchors, or a number is not finite.
    pub fn detections(
        &self,
        output: &[f32],
        anchors: &AnchorConfig,
        size: [usize; 2],
        image: &BoundingBox,
        classes: usize,
    ) -> Result<Vec<Detection>> {
        let values = classes + 4;
        anchors.check(size)?;
        let boxes = anchors.boxes(size);
        if output.len() != boxes.len() * values {
            let expected = format!("{} anchors of {values} numbers", boxes.len());
            return Err(Error::setting("the output of a detector", expected, format!("{} numbers", output.len())));
        }
        check_finite(output)?;
        let mut found: Vec<Detection> = Vec::new();
        let mut first = 0;
        for [rows, columns] in anchors.grids(size) {
            let count = rows * columns * anchors.count();
            // Sigmoid rises with the logit, so the scores alone are computed where they may be above.
            let mut candidates: Vec<(usize, usize, f32)> = Vec::new();
            for anchor in first..first + count {
                for (class, &logit) in output[anchor * values..][..classes].iter().enumerate() {
                    let score = 1.0 / (1.0 + math::exp(-logit));
                    if score > self.least {
                        candidates.push((anchor, class, score));
                    }
                }
            }
            let scores: Vec<f32> = candidates.iter().map(|c| c.2).collect();
            for i in by_score(&scores).into_iter().take(self.per_level) {
                let (anchor, class, score) = candidates[i];
                let code = &output[anchor * values + classes..][..4];
                let decoded = self.code.decode([code[0], code[1], code[2], code[3]], &boxes[anchor]);
                found.push(Detection { bbox: clamped(&decoded, image), class, score });
            }
            first += count;
        }
        self.suppressed(&found)
    }

    /// Selects the detections of an image of what a second stage says of proposals: rows of 4 corners, `classes + 1` logits (the first is
    /// that of the background) and as many box codes. A row without area is no proposal. As torchvision's box head does, each proposal may
    /// become a detection of each class.
    ///
    /// # Errors
    /// The output has no such rows, or a number is not finite.
    pub fn of_proposals(&self, output: &[f32], image: &BoundingBox, classes: usize) -> Result<Vec<Detection>> {
        let row = RegionRow { classes };
        if !output.len().is_multiple_of(row.len()) {
            let expected = format!("rows of {} numbers", row.len());
            return Err(Error::setting("the output of a detector", expected, format!("{} numbers", output.len())));
        }
        check_finite(output)?;
        let mut found: Vec<Detection> = Vec::new();
        for values in output.chunks_exact(row.len()) {
            let proposal = row.proposal(values);
            if !proposal.has_area() {
                continue;
            }
            let shares = row.probabilities(values);
            for (class, &score) in shares.iter().enumerate().skip(1).filter(|(_, score)| **score > self.least) {
                let bbox = clamped(&self.code.decode(row.code(values, class), &proposal), image);
                let sides = [bbox.width(), bbox.height()];
                if sides.iter().all(|&side| side >= LEAST_SIDE) {
                    found.push(Detection { bbox, class: class - 1, score });
                }
            }
        }
        self.suppressed(&found)
    }

    /// What non-maximum suppression leaves.
    fn suppressed(&self, found: &[Detection]) -> Result<Vec<Detection>> {
        let boxes: Vec<BoundingBox> = found.iter().map(|d| d.bbox).collect();
        let scores: Vec<f32> = found.iter().map(|d| d.score).collect();
        let of: Vec<usize> = found.iter().map(|d| d.class).collect();
        let kept = nms(&boxes, &scores, Some(&of), self.overlap);
        let kept = kept.map_err(|e| Error::setting("detections", "boxes with finite numbers", e))?;
        Ok(kept.into_iter().take(self.most).map(|i| found[i]).collect())
    }
}

/// Boxes that are less wide or high are dropped, as torchvision drops them.
const LEAST_SIDE: f32 = 1e-2;

fn check_finite(output: &[f32]) -> Result<()> {
    match output.iter().find(|v| !v.is_finite()) {
        Some(odd) => Err(Error::setting("the output of a detector", "finite numbers", odd)),
        None => Ok(()),
    }
}

/// Corners moved into the image, each by itself: a box outside becomes one without area at the edge.
pub(super) fn clamped(b: &BoundingBox, image: &BoundingBox) -> BoundingBox {
    let (x, y) = (|v: f32| v.clamp(image.x1, image.x2), |v: f32| v.clamp(image.y1, image.y2));
    BoundingBox::new(x(b.x1), y(b.y1), x(b.x2), y(b.y2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(sizes: Vec<Vec<usize>>) -> AnchorConfig {
        AnchorConfig { levels: [3, 4], sizes, ratios: vec![1.0] }
    }

    /// Two classes, 4 x 4 and 2 x 2 places of an image of 32 x 32.
    #[test]
    fn of_anchors_those_with_high_scores_become_detections_and_overlaps_go() {
        let config = anchors(vec![vec![8], vec![16]]);
        let mut output = vec![0.0; 20 * 6];
        output.chunks_exact_mut(6).for_each(|row| row[..2].fill(-9.0));
        // The second place of the first row, in both classes; its neighbour with a code that moves it onto the first.
        output[6..8].copy_from_slice(&[2.0, 1.0]);
        output[12..18].copy_from_slice(&[1.5, -9.0, -1.0, 0.0, 0.0, 0.0]);
        let whole = BoundingBox::of_image([32, 32]);
        let found = Selection::RETINANET.detections(&output, &config, [32, 32], &whole, 2).unwrap();
        let boxes: Vec<(usize, [f32; 4])> = found.iter().map(|d| (d.class, d.bbox.to_array())).collect();
        // Clipped to the image; the moved one is suppressed by the first of its class.
        assert_eq!(boxes, [(0, [4.0, 0.0, 12.0, 4.0]), (1, [4.0, 0.0, 12.0, 4.0])]);
        assert!((found[0].score - 0.880_797).abs() < 1e-6);
        let few = Selection { most: 1, ..Selection::RETINANET };
        assert_eq!(few.detections(&output, &config, [32, 32], &whole, 2).unwrap(), found[..1]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let whole = BoundingBox::of_image([32, 32]);
        let text = |output: &[f32], sizes| {
            Selection::RETINANET.detections(output, &anchors(sizes), [32, 32], &whole, 1).unwrap_err().to_string()
        };
        assert!(text(&[0.0; 80], vec![vec![8]]).contains("levels 3 to 4"));
        assert!(text(&[0.0; 80], vec![vec![8], vec![8, 16]]).contains("equally many sizes"));
        assert!(text(&[0.0; 80], vec![vec![8], vec![16]]).contains("20 anchors of 5 numbers"));
        assert!(text(&[f32::NAN; 100], vec![vec![8], vec![16]]).contains("finite numbers"));
    }
}
