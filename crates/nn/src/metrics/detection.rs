//! What the average precisions of object detection share: the boxes of each class in each image, their overlap, and the curve of precision
//! over recall.
//!
//! All numbers are `f64`, and sums go over images, then detections, in a fixed order, so results are the same everywhere.

use fixnet_autograd::{Error, Result};
use fixnet_data::{Annotation, BoundingBox, Detection, by_score};

/// Boxes of one class in one image.
pub(super) struct Scene<'a> {
    /// In the order of the image.
    pub(super) truth: Vec<&'a Annotation>,
    /// By falling score; of equal scores the earlier one comes first.
    pub(super) found: Vec<&'a Detection>,
}

/// Checks truth and detections, one list per image.
pub(super) fn check(truth: &[Vec<Annotation>], found: &[Vec<Detection>], classes: usize) -> Result<()> {
    const WHAT: &str = "detections to compare";
    if truth.len() != found.len() {
        let expected = format!("one list of detections per image, {}", truth.len());
        return Err(Error::setting(WHAT, expected, found.len()));
    }
    let boxes = truth.iter().flatten().map(|object| (object.bbox, object.class, object.area));
    let boxes = boxes.chain(found.iter().flatten().map(|object| (object.bbox, object.class, object.score)));
    for (bbox, class, number) in boxes {
        if class >= classes || !bbox.is_finite() || !number.is_finite() {
            let expected = format!("finite numbers and classes below {classes}");
            return Err(Error::setting(WHAT, expected, format!("{:?}, {number}, class {class}", bbox.to_array())));
        }
    }
    Ok(())
}

/// The boxes of a class, image by image.
pub(super) fn scenes<'a>(truth: &'a [Vec<Annotation>], found: &'a [Vec<Detection>], class: usize) -> Vec<Scene<'a>> {
    let scene = |(truth, found): (&'a Vec<Annotation>, &'a Vec<Detection>)| {
        let found: Vec<&Detection> = found.iter().filter(|object| object.class == class).collect();
        let order = by_score(&found.iter().map(|object| object.score).collect::<Vec<_>>());
        Scene {
            truth: truth.iter().filter(|object| object.class == class).collect(),
            found: order.into_iter().map(|i| found[i]).collect(),
        }
    };
    truth.iter().zip(found).map(scene).collect()
}

/// The overlap of a detection with an object: their IoU, or for a crowd the share of the detection that lies inside.
pub(super) fn overlap(found: &BoundingBox, truth: &Annotation) -> f64 {
    let [a, b] = [found, &truth.bbox].map(|bbox| bbox.to_array().map(f64::from));
    let [width, height] = [0, 1].map(|i| a[i + 2].min(b[i + 2]) - a[i].max(b[i]));
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let area = |v: [f64; 4]| (v[2] - v[0]) * (v[3] - v[1]);
    let both = width * height;
    both / if truth.crowd { area(a) } else { area(a) + area(b) - both }
}

/// Precision over recall of one class, by falling score.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PrecisionRecall {
    /// The score of each detection that counts.
    pub scores: Vec<f32>,
    /// The share of the objects that are found by the detections up to this one.
    pub recall: Vec<f64>,
    /// The share of the detections up to this one that are right.
    pub precision: Vec<f64>,
}

impl PrecisionRecall {
    /// Makes a curve of detections, each with its score and whether it is right, image by image; `objects` is the number of objects
    /// to find.
    pub(super) fn of(detections: &[(f32, bool)], objects: usize) -> Self {
        let order = by_score(&detections.iter().map(|(score, _)| *score).collect::<Vec<_>>());
        let (mut curve, mut right) = (Self::default(), 0usize);
        for (i, &at) in order.iter().enumerate() {
            let (score, is_right) = detections[at];
            right += usize::from(is_right);
            curve.scores.push(score);
            curve.recall.push(right as f64 / objects.max(1) as f64);
            curve.precision.push(right as f64 / (i + 1) as f64);
        }
        curve
    }

    /// The precision that the curve reaches at each recall or beyond: never rising.
    pub fn envelope(&self) -> Vec<f64> {
        let mut out = self.precision.clone();
        for i in (1..out.len()).rev() {
            out[i - 1] = out[i - 1].max(out[i]);
        }
        out
    }
}

/// The mean of some numbers, in their order; `None` if there is none.
pub(super) fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.into_iter().fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{CocoSummary, VocYear, coco_average_precision, voc_average_precision};

    const IMAGES: usize = 40;
    const CLASSES: usize = 5;
    /// The side of an image in quarters of pixels.
    const SIDE: u32 = 4 * 512;

    /// Hashes one after the other, as `tests/fixtures/detection.py` has them.
    struct Words(u32);

    impl Words {
        fn below(&mut self, n: u32) -> u32 {
            self.0 += 1;
            let h = self.0.wrapping_mul(2_654_435_761).wrapping_add(0x9E37_79B9);
            let h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
            let h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
            (h ^ (h >> 15)) % n
        }

        fn score(&mut self) -> f32 {
            (1 + self.below(15)) as f32 / 16.0
        }

        /// A box of width and height in quarters of pixels.
        fn boxed(&mut self, [w, h]: [u32; 2]) -> BoundingBox {
            let (x, y) = (self.below(SIDE - w), self.below(SIDE - h));
            let [x1, y1, x2, y2] = [x, y, x + w, y + h].map(|v| v as f32 / 4.0);
            BoundingBox::new(x1, y1, x2, y2)
        }
    }

    /// The boxes of `tests/fixtures/detection.py`: several classes, ties of scores and of boxes, crowds, images without objects or detections,
    /// and more than 100 detections of a class.
    fn scenes() -> (Vec<Vec<Annotation>>, Vec<Vec<Detection>>) {
        let mut words = Words(0);
        let (mut truth, mut found) = (Vec::new(), Vec::new());
        for image in 0..IMAGES {
            let (mut objects, mut detections) = (Vec::new(), Vec::new());
            for _ in 0..words.below(7) {
                let [least, most] = [[4, 32], [32, 96], [96, 250]][words.below(3) as usize];
                let size = [0, 1].map(|_| 4 * least + words.below(4 * (most - least)));
                let bbox = words.boxed(size);
                let class = words.below(CLASSES as u32 - 1) as usize;
                let area = if words.below(4) == 0 { 0.75 * bbox.area() } else { bbox.area() };
                let (crowd, difficult) = (words.below(9) == 0, words.below(7) == 0);
                let object = Annotation { bbox, class, area, crowd, difficult };
                objects.push(object);
                if words.below(10) == 0 {
                    objects.push(Annotation { crowd: false, difficult: false, ..object });
                }
                for _ in 0..words.below(4) {
                    let by = 1 + most / 8;
                    let moved = bbox.to_array().map(|v| v + (words.below(2 * by + 1) as f32 - by as f32) / 4.0);
                    let moved = BoundingBox::new(moved[0], moved[1], moved[2], moved[3]);
                    let moved = if moved.has_area() { moved } else { bbox };
                    let class = if words.below(8) == 0 { words.below(CLASSES as u32) as usize } else { class };
                    detections.push(Detection { bbox: moved, class, score: words.score() });
                }
            }
            for _ in 0..words.below(5) {
                let size = [0, 1].map(|_| 8 + words.below(600));
                let bbox = words.boxed(size);
                detections.push(Detection { bbox, class: words.below(CLASSES as u32) as usize, score: words.score() });
            }
            for _ in 0..if image % 13 == 5 { 130 } else { 0 } {
                detections.push(Detection { bbox: words.boxed([80, 80]), class: 0, score: words.score() });
            }
            truth.push(objects);
            found.push(detections);
        }
        (truth, found)
    }

    #[derive(serde::Deserialize)]
    struct Expected {
        objects: usize,
        detections: usize,
        coco: [f64; 12],
        coco_classes: [f64; CLASSES],
        voc: [Option<[f64; 2]>; CLASSES],
    }

    fn expected() -> Expected {
        serde_json::from_str(include_str!("../../tests/fixtures/detection.json")).unwrap()
    }

    fn near(found: Option<f64>, expected: f64) {
        // pycocotools has -1 where there are no objects.
        let found = found.unwrap_or(-1.0);
        assert!((found - expected).abs() < 1e-9, "{found}, {expected}");
    }

    #[test]
    fn numbers_of_coco_are_those_of_pycocotools() {
        let (mut truth, found) = scenes();
        let expected = expected();
        assert_eq!(truth.iter().flatten().count(), expected.objects);
        assert_eq!(found.iter().flatten().count(), expected.detections);
        truth.iter_mut().flatten().for_each(|object| object.difficult = false);
        let evaluation = coco_average_precision(&truth, &found, CLASSES).unwrap();
        let CocoSummary { ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, .. } = evaluation.summary;
        let CocoSummary { ar_small, ar_medium, ar_large, .. } = evaluation.summary;
        let all = [ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large];
        all.into_iter().zip(expected.coco).for_each(|(found, expected)| near(found, expected));
        (0..CLASSES).for_each(|class| near(evaluation.class_ap(class), expected.coco_classes[class]));
    }

    #[test]
    fn numbers_of_voc_are_those_of_a_second_implementation() {
        let (truth, found) = scenes();
        for (i, year) in [VocYear::Y2007, VocYear::Y2010].into_iter().enumerate() {
            let evaluation = voc_average_precision(&truth, &found, CLASSES, year).unwrap();
            for (found, expected) in evaluation.classes.iter().zip(expected().voc) {
                near(*found, expected.map_or(-1.0, |both| both[i]));
            }
            near(evaluation.map, mean(expected().voc.iter().flatten().map(|both| both[i])).unwrap());
        }
    }

    fn at(x: f32, score: f32) -> Detection {
        Detection { bbox: BoundingBox::new(x, 0.0, x + 10.0, 10.0), class: 0, score }
    }

    fn object(x: f32) -> Annotation {
        Annotation::new(at(x, 0.0).bbox, 0)
    }

    #[test]
    fn averages_by_hand() {
        // Right, wrong, right of two objects: precision 1, 1/2, 2/3 at recalls 1/2, 1/2, 1.
        let (truth, found) =
            (vec![vec![object(0.0), object(50.0)]], vec![vec![at(0.0, 0.9), at(90.0, 0.8), at(50.0, 0.7)]]);
        let voc = |year| voc_average_precision(&truth, &found, 1, year).unwrap();
        near(voc(VocYear::Y2007).map, (6.0 + 5.0 * 2.0 / 3.0) / 11.0);
        near(voc(VocYear::Y2010).map, 0.5 + 0.5 * 2.0 / 3.0);
        assert_eq!(voc(VocYear::Y2010).curves[0].scores, [0.9, 0.8, 0.7]);
        let coco = coco_average_precision(&truth, &found, 1).unwrap();
        near(coco.summary.ap, (51.0 + 50.0 * 2.0 / 3.0) / 101.0);
        near(coco.summary.ar1, 0.5);
        assert_eq!(coco.curves[0], voc(VocYear::Y2010).curves[0]);
        assert_eq!((coco.summary.ap_medium, coco.summary.ap_small), (None, coco.summary.ap));
    }

    #[test]
    fn a_second_detection_is_wrong_and_ignored_objects_count_neither_way() {
        let twice = vec![vec![at(0.0, 0.9), at(1.0, 0.8)]];
        let precision = |object: Annotation| {
            let truth = vec![vec![object]];
            let voc = voc_average_precision(&truth, &twice, 1, VocYear::Y2010).unwrap();
            let coco = coco_average_precision(&truth, &twice, 1).unwrap();
            (voc.classes[0], voc.curves[0].precision.clone(), coco.curves[0].precision.clone())
        };
        assert_eq!(precision(object(0.0)), (Some(1.0), vec![1.0, 0.5], vec![1.0, 0.5]));
        // A crowd takes any number of detections, a difficult object the first alone.
        assert_eq!(precision(Annotation { crowd: true, ..object(0.0) }), (None, vec![], vec![]));
        assert_eq!(precision(Annotation { difficult: true, ..object(0.0) }), (None, vec![], vec![0.0]));
        let none = coco_average_precision(&[vec![]], &[vec![]], 3).unwrap();
        assert_eq!((none.summary, none.classes), (CocoSummary::default(), vec![None; 3]));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let e = coco_average_precision(&[vec![]], &[], 1).unwrap_err().to_string();
        assert!(e.contains("one list of detections per image, 1") && e.ends_with("found 0"), "{e}");
        for odd in [Detection { class: 1, ..at(0.0, 0.5) }, at(f32::NAN, 0.5), at(0.0, f32::INFINITY)] {
            let e = voc_average_precision(&[vec![]], &[vec![odd]], 1, VocYear::Y2007).unwrap_err().to_string();
            assert!(e.contains("finite numbers and classes below 1"), "{e}");
        }
    }
}
