//! `Matcher`: which anchors stand for which objects.

use fixnet_data::BoundingBox;

/// What an anchor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The object of this index.
    Object(usize),
    /// No object.
    Background,
    /// Neither: it counts nowhere.
    Ignored,
}

/// Assigns anchors to objects by IoU, as torchvision's `Matcher` does: the object of the highest IoU if that is at least `high`, the
/// background below `low`, neither in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matcher {
    /// From this IoU on an anchor stands for an object.
    pub high: f32,
    /// Below this IoU it stands for the background.
    pub low: f32,
    /// Whether each object also gets all anchors that share its highest IoU, however low above 0 that is. Such an anchor stands for the object
    /// of its own highest IoU.
    pub keep_best: bool,
}

impl Matcher {
    /// That of RetinaNet: 0.5, 0.4, and each object gets its best anchors.
    pub const RETINANET: Self = Self { high: 0.5, low: 0.4, keep_best: true };
    /// That of region proposals: 0.7, 0.3, and each object gets its best anchors.
    pub const PROPOSALS: Self = Self { high: 0.7, low: 0.3, keep_best: true };
    /// That of the box head of Faster R-CNN: 0.5 decides.
    pub const REGIONS: Self = Self { high: 0.5, low: 0.5, keep_best: false };

    /// Returns what each anchor stands for. Of objects with equal IoU an anchor takes the first.
    pub fn matches(&self, anchors: &[BoundingBox], objects: &[BoundingBox]) -> Vec<Match> {
        if objects.is_empty() {
            return vec![Match::Background; anchors.len()];
        }
        let mut best_of_object = vec![f32::NEG_INFINITY; objects.len()];
        let mut best = Vec::with_capacity(anchors.len());
        for anchor in anchors {
            let (mut index, mut highest) = (0, f32::NEG_INFINITY);
            for (i, (object, best)) in objects.iter().zip(&mut best_of_object).enumerate() {
                let iou = anchor.iou(object);
                if iou > highest {
                    (index, highest) = (i, iou);
                }
                if iou > *best {
                    *best = iou;
                }
            }
            best.push((index, highest));
        }
        let is_best = |anchor: &BoundingBox| {
            self.keep_best
                && objects.iter().zip(&best_of_object).any(|(object, &best)| best > 0.0 && anchor.iou(object) == best)
        };
        let of = |(anchor, &(index, iou)): (&BoundingBox, &(usize, f32))| match iou {
            iou if iou >= self.high || is_best(anchor) => Match::Object(index),
            iou if iou < self.low => Match::Background,
            _ => Match::Ignored,
        };
        anchors.iter().zip(&best).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Match::{Background, Ignored, Object};

    /// Rows of equal height: the IoU follows from columns.
    fn row(x1: f32, x2: f32) -> BoundingBox {
        BoundingBox::new(x1, 0.0, x2, 10.0)
    }

    #[test]
    fn anchors_by_hand() {
        let objects = [row(0.0, 10.0), row(20.0, 30.0), row(20.0, 30.0)];
        // IoU with the first 0.8, 0.45 (9 of 20), 0.1 of 10; with the others 1 and 0.3.
        let anchors =
            [row(0.0, 8.0), row(1.0, 20.0), row(9.0, 10.0), row(20.0, 30.0), row(27.0, 30.0), row(50.0, 60.0)];
        let plain = Matcher { keep_best: false, ..Matcher::RETINANET };
        let expected = [Object(0), Ignored, Background, Object(1), Background, Background];
        assert_eq!(plain.matches(&anchors, &objects), expected);
        assert_eq!(Matcher::RETINANET.matches(&anchors, &objects), expected);
        assert_eq!(plain.matches(&anchors, &[]), [Background; 6]);
    }

    #[test]
    fn an_object_gets_all_anchors_that_share_its_highest_iou() {
        let objects = [row(0.0, 10.0)];
        let anchors = [row(0.0, 2.0), row(8.0, 10.0), row(0.0, 1.0)];
        assert_eq!(Matcher::RETINANET.matches(&anchors, &objects), [Object(0), Object(0), Background]);
        // The best anchor of the second object is better for the first, and stands for that.
        let both = [row(0.0, 10.0), row(9.0, 40.0)];
        assert_eq!(Matcher::RETINANET.matches(&[row(0.0, 10.0)], &both), [Object(0)]);
    }
}
