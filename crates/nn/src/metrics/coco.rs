//! Average precision and average recall as COCO counts them (Lin et al., 2014), in the form of pycocotools.
//!
//! Detections of an image and a class are visited by falling score, at most 100 of them. Each takes the free object with which its overlap is
//! highest and at least the threshold, of equal ones the later. Crowds, difficult objects and objects outside the range of areas come
//! last: a detection that matches only such an object counts neither way, and neither does an unmatched one outside the range. A crowd is
//! never taken up.

use super::detection::{PrecisionRecall, Scene, check, mean, overlap, scenes};
use fixnet_autograd::Result;
use fixnet_data::{Annotation, Detection};

/// The number of thresholds of the overlap: 0.5, 0.55, …, 0.95.
pub const COCO_THRESHOLDS: usize = 10;
/// The number of recalls at which precision is read: 0, 0.01, …, 1.
const RECALLS: usize = 101;
/// Detections of an image and a class that count.
const MOST: [usize; 3] = [1, 10, 100];
/// Areas from and to, in square pixels: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];

/// The twelve numbers of COCO, 0 to 1; `None` where there are no objects of a kind. By default up to 100 detections count per image and
/// class, and thresholds are 0.5 to 0.95.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CocoSummary {
    /// Average precision, the mean over thresholds and classes.
    pub ap: Option<f64>,
    /// The same at the threshold 0.5.
    pub ap50: Option<f64>,
    /// The same at the threshold 0.75.
    pub ap75: Option<f64>,
    /// Average precision of objects up to 32² square pixels.
    pub ap_small: Option<f64>,
    /// Average precision of objects from 32² to 96² square pixels.
    pub ap_medium: Option<f64>,
    /// Average precision of objects from 96² square pixels on.
    pub ap_large: Option<f64>,
    /// Average recall with one detection per image and class.
    pub ar1: Option<f64>,
    /// Average recall with 10 detections per image and class.
    pub ar10: Option<f64>,
    /// Average recall with 100 detections per image and class.
    pub ar100: Option<f64>,
    /// Average recall of objects up to 32² square pixels.
    pub ar_small: Option<f64>,
    /// Average recall of objects from 32² to 96² square pixels.
    pub ar_medium: Option<f64>,
    /// Average recall of objects from 96² square pixels on.
    pub ar_large: Option<f64>,
}

/// What [`coco_average_precision`] computes.
#[derive(Debug, Clone, PartialEq)]
pub struct CocoEvaluation {
    /// The numbers over all classes.
    pub summary: CocoSummary,
    /// Of each class, objects of all sizes: average precision at each threshold; `None` if there are no objects of the class.
    pub classes: Vec<Option<[f64; COCO_THRESHOLDS]>>,
    /// Of each class the curve at the threshold 0.5.
    pub curves: Vec<PrecisionRecall>,
}

impl CocoEvaluation {
    /// Returns the average precision of a class over all thresholds; `None` if there are no objects of it.
    ///
    /// # Panics
    /// There is no such class.
    pub fn class_ap(&self, class: usize) -> Option<f64> {
        self.classes[class].and_then(mean)
    }
}

/// Computes average precision and average recall of the detections `found` in images with the objects `truth`, one list per image each, with
/// classes below `classes`. Equal scores count in the order of images, then of detections.
///
/// ```
/// use fixnet_data::{Annotation, BoundingBox, Detection};
/// use fixnet_nn::metrics::coco_average_precision;
/// let bbox = BoundingBox::new(10.0, 10.0, 30.0, 40.0);
/// let truth = vec![vec![Annotation::new(bbox, 0)], vec![]];
/// let found = vec![vec![Detection { bbox, class: 0, score: 0.9 }], vec![]];
/// let evaluation = coco_average_precision(&truth, &found, 1)?;
/// assert_eq!((evaluation.summary.ap, evaluation.summary.ap_large), (Some(1.0), None));
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
///
/// # Errors
/// There is not one list per image, a number is not finite, or a class is not below `classes`.
pub fn coco_average_precision(
    truth: &[Vec<Annotation>],
    found: &[Vec<Detection>],
    classes: usize,
) -> Result<CocoEvaluation> {
    check(truth, found, classes)?;
    let of_class = |class: usize| {
        let scenes = scenes(truth, found, class);
        let overlaps: Vec<Vec<Vec<f64>>> = scenes.iter().map(overlaps).collect();
        AREAS.map(|area| ClassCounts::of(&scenes, &overlaps, area))
    };
    let counts: Vec<[ClassCounts; 4]> = (0..classes).map(of_class).collect();
    let with_objects = |area: usize| counts.iter().map(move |of| &of[area]).filter(|of| of.objects > 0);
    let precision = |area: usize, thresholds: std::ops::Range<usize>| {
        mean(with_objects(area).flat_map(|of| thresholds.clone().map(|t| of.average_precision(t))))
    };
    let recall = |area: usize, most: usize| {
        mean(with_objects(area).flat_map(|of| (0..COCO_THRESHOLDS).map(move |t| of.recalls[most][t])))
    };
    let all = || 0..COCO_THRESHOLDS;
    let summary = CocoSummary {
        ap: precision(0, all()),
        ap50: precision(0, 0..1),
        ap75: precision(0, 5..6),
        ap_small: precision(1, all()),
        ap_medium: precision(2, all()),
        ap_large: precision(3, all()),
        ar1: recall(0, 0),
        ar10: recall(0, 1),
        ar100: recall(0, 2),
        ar_small: recall(1, 2),
        ar_medium: recall(2, 2),
        ar_large: recall(3, 2),
    };
    let of_class =
        |of: &[ClassCounts; 4]| (of[0].objects > 0).then(|| std::array::from_fn(|t| of[0].average_precision(t)));
    Ok(CocoEvaluation {
        summary,
        classes: counts.iter().map(of_class).collect(),
        curves: counts.into_iter().map(|[all, ..]| all.curves.into_iter().next().unwrap_or_default()).collect(),
    })
}

/// Detections times objects.
fn overlaps(scene: &Scene<'_>) -> Vec<Vec<f64>> {
    let found = scene.found.iter().take(MOST[2]);
    found.map(|found| scene.truth.iter().map(|truth| overlap(&found.bbox, truth)).collect()).collect()
}

/// A class in a range of areas.
struct ClassCounts {
    /// Objects that count.
    objects: usize,
    /// Of each threshold.
    curves: Vec<PrecisionRecall>,
    /// With 1, 10 and 100 detections, of each threshold.
    recalls: [[f64; COCO_THRESHOLDS]; 3],
}

impl ClassCounts {
    fn of(scenes: &[Scene<'_>], overlaps: &[Vec<Vec<f64>>], [from, to]: [f64; 2]) -> Self {
        let in_range = |area: f64| (from..=to).contains(&area);
        let ignored = |object: &Annotation| object.is_ignored() || !in_range(f64::from(object.area));
        let objects = scenes.iter().flat_map(|scene| &scene.truth).filter(|object| !ignored(object)).count();
        let mut curves = Vec::with_capacity(COCO_THRESHOLDS);
        let mut recalls = [[0.0; COCO_THRESHOLDS]; 3];
        for t in 0..COCO_THRESHOLDS {
            let (mut counted, mut right) = (Vec::new(), [0usize; 3]);
            for (scene, overlaps) in scenes.iter().zip(overlaps) {
                for (rank, matched) in matches(scene, overlaps, threshold(t), ignored).into_iter().enumerate() {
                    let found = scene.found[rank];
                    let is_right = match matched {
                        Some(object) if ignored(scene.truth[object]) => continue,
                        None if !in_range(area(found)) => continue,
                        matched => matched.is_some(),
                    };
                    counted.push((found.score, is_right));
                    right.iter_mut().zip(MOST).for_each(|(right, most)| *right += usize::from(is_right && rank < most));
                }
            }
            for (recalls, right) in recalls.iter_mut().zip(right) {
                recalls[t] = right as f64 / objects as f64;
            }
            curves.push(PrecisionRecall::of(&counted, objects));
        }
        Self { objects, curves, recalls }
    }

    /// The mean of the precision at 101 recalls.
    fn average_precision(&self, t: usize) -> f64 {
        let (curve, envelope) = (&self.curves[t], self.curves[t].envelope());
        let at = |i: usize| {
            // As numpy's `linspace` has them.
            let wanted = if i == RECALLS - 1 { 1.0 } else { i as f64 * 0.01 };
            let first = curve.recall.partition_point(|&recall| recall < wanted);
            envelope.get(first).copied().unwrap_or(0.0)
        };
        (0..RECALLS).map(at).sum::<f64>() / RECALLS as f64
    }
}

/// As numpy's `linspace(0.5, 0.95, 10)` has them.
fn threshold(t: usize) -> f64 {
    if t == COCO_THRESHOLDS - 1 { 0.95 } else { 0.5 + t as f64 * ((0.95 - 0.5) / 9.0) }
}

fn area(found: &Detection) -> f64 {
    let [x1, y1, x2, y2] = found.bbox.to_array().map(f64::from);
    (x2 - x1) * (y2 - y1)
}

/// The object that each detection takes, if any.
fn matches(
    scene: &Scene<'_>,
    overlaps: &[Vec<f64>],
    threshold: f64,
    ignored: impl Fn(&Annotation) -> bool,
) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..scene.truth.len()).collect();
    order.sort_by_key(|&object| ignored(scene.truth[object]));
    let mut taken = vec![false; scene.truth.len()];
    let mut take = |overlaps: &Vec<f64>| {
        let (mut best, mut found) = (threshold.min(1.0 - 1e-10), None);
        for &object in &order {
            if taken[object] && !scene.truth[object].crowd {
                continue;
            }
            // A match that counts is not given up for one that does not.
            if found.is_some_and(|found: usize| !ignored(scene.truth[found])) && ignored(scene.truth[object]) {
                break;
            }
            if overlaps[object] >= best {
                (best, found) = (overlaps[object], Some(object));
            }
        }
        found.inspect(|&object| taken[object] = true)
    };
    overlaps.iter().map(&mut take).collect()
}
