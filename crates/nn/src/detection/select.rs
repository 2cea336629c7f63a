//! `Selection`: from the output of a detector to the detections of an image.

use super::{AnchorConfig, BoxCode};
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
        let boxes = anchors.boxes(size);
        if output.len() != boxes.len() * values {
            let expected = format!("{} anchors of {values} numbers", boxes.len());
            return Err(Error::setting("the output of a detector", expected, format!("{} numbers", output.len())));
        }
        if let Some(odd) = output.iter().find(|v| !v.is_finite()) {
            return Err(Error::setting("the output of a detector", "finite numbers", odd));
        }
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
        let boxes: Vec<BoundingBox> = found.iter().map(|d| d.bbox).collect();
        let scores: Vec<f32> = found.iter().map(|d| d.score).collect();
        let of: Vec<usize> = found.iter().map(|d| d.class).collect();
        let kept = nms(&boxes, &scores, Some(&of), self.overlap);
        let kept = kept.map_err(|e| Error::setting("detections", "boxes with finite numbers", e))?;
        Ok(kept.into_iter().take(self.most).map(|i| found[i]).collect())
    }
}

/// Corners moved into the image, each by itself: a box outside becomes one without area at the edge.
fn clamped(b: &BoundingBox, image: &BoundingBox) -> BoundingBox {
    let (x, y) = (|v: f32| v.clamp(image.x1, image.x2), |v: f32| v.clamp(image.y1, image.y2));
    BoundingBox::new(x(b.x1), y(b.y1), x(b.x2), y(b.y2))
}
