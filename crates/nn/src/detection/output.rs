//! `BoxOutput`: what the numbers that a detector gives stand for, and so how its loss and its detections follow from them.

use super::{AnchorConfig, DetectionLoss, Objects, RegionRow, Selection, detection_loss, evaluated_loss};
use fixnet_autograd::{Graph, Result, Var};
use fixnet_data::{BoundingBox, Detection};

/// The output of a detector.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BoxOutput {
    /// The logits of the classes and the box code of each of these anchors: [N, anchors, classes + 4].
    Anchors(AnchorConfig),
    /// Proposals with what a second stage says of them, [rows](RegionRow): [N, proposals, 4 + 5 · (classes + 1)]. A graph that records
    /// must have been [given](Graph::give) the [`Truth`](super::Truth) of a batch. The output is the loss itself then, a scalar: the second
    /// stage learns from a sample of regions about the objects.
    Proposals {
        /// The anchors of the first stage.
        anchors: AnchorConfig,
        /// How many proposals an image has.
        most: usize,
    },
}

impl BoxOutput {
    /// Returns the classes of an output of this shape, without the axis of the batch, for images of `[height, width]`; `None` if it is
    /// that of another network.
    pub fn classes(&self, size: [usize; 2], shape: &[usize]) -> Option<usize> {
        match (self, shape) {
            (Self::Anchors(anchors), &[count, values]) => {
                anchors.check(size).ok()?;
                (values > 4 && anchors.boxes(size).len() == count).then(|| values - 4)
            }
            (Self::Proposals { most, .. }, &[count, values]) if count == *most => {
                RegionRow::of_len(values).map(|row| row.classes)
            }
            _ => None,
        }
    }

    /// Computes the loss of images of `[height, width]`, a scalar, and the number of terms that it is the mean of: the anchors that stand for
    /// an object, or the proposals that have an area. It is divided by 1 where there are none. The loss that a second stage computes in
    /// training is the mean of several kinds, so it has no such number.
    ///
    /// # Errors
    /// The output does not fit the objects.
    pub fn loss(
        &self,
        g: &mut Graph<'_>,
        output: &Var,
        size: [usize; 2],
        objects: &[Objects],
    ) -> Result<(Var, Option<usize>)> {
        let (loss, terms) = match self {
            Self::Proposals { .. } if output.shape().is_empty() => return Ok((output.clone(), None)),
            Self::Proposals { .. } => evaluated_loss(g, output, objects)?,
            Self::Anchors(anchors) => {
                detection_loss(g, output, &anchors.boxes(size), objects, &DetectionLoss::RETINANET)?
            }
        };
        Ok((loss, Some(terms)))
    }

    /// Selects the detections of the output of one image, on a canvas of `[height, width]` of which it fills the part `image`.
    ///
    /// # Errors
    /// The output is none of such a network, or a number is not finite.
    pub fn detections(
        &self,
        output: &[f32],
        size: [usize; 2],
        image: &BoundingBox,
        classes: usize,
    ) -> Result<Vec<Detection>> {
        match self {
            Self::Anchors(anchors) => Selection::RETINANET.detections(output, anchors, size, image, classes),
            Self::Proposals { .. } => Selection::BOX_HEAD.of_proposals(output, image, classes),
        }
    }
}
