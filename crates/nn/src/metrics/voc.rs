//! Average precision as the Pascal VOC challenge counts it (Everingham et al., 2010).
//!
//! Detections of a class are visited by falling score over all images. Each looks for the object of its image with which its IoU is highest, of
//! equal ones the first, free or not. It is right if the IoU is at least 0.5 and the object is free; a second detection of an object is
//! wrong. Difficult objects and crowds count neither way. Widths are `x2 - x1`, where the VOC kit, whose corners are whole pixels, has
//! `x2 - x1 + 1`: a reader that ends a box behind its last pixel, as `voc:FOLDER` does, makes both the same.

use super::detection::{PrecisionRecall, check, mean, overlap, scenes};
use fixnet_autograd::Result;
use fixnet_data::{Annotation, Detection, by_score};

/// The least IoU of a right detection.
const THRESHOLD: f64 = 0.5;

/// How a curve of precision over recall becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocYear {
    /// 2007 to 2009: the mean of the highest precision at recalls of at least 0, 0.1, …, 1.
    Y2007,
    /// From 2010: the area under the precision, made non-increasing from the right.
    Y2010,
}

/// What [`voc_average_precision`] computes.
#[derive(Debug, Clone, PartialEq)]
pub struct VocEvaluation {
    /// The mean over the classes that have objects; `None` if none has.
    pub map: Option<f64>,
    /// Average precision of each class; `None` if there are no objects of it.
    pub classes: Vec<Option<f64>>,
    /// The curve of each class.
    pub curves: Vec<PrecisionRecall>,
}

/// Computes the average precision of the detections `found` in images with the objects `truth`, one list per image each, with classes below
/// `classes`. Equal scores count in the order of images, then of detections.
///
/// # Errors
/// There is not one list per image, a number is not finite, or a class is not below `classes`.
pub fn voc_average_precision(
    truth: &[Vec<Annotation>],
    found: &[Vec<Detection>],
    classes: usize,
    year: VocYear,
) -> Result<VocEvaluation> {
    check(truth, found, classes)?;
    let (mut all, mut curves) = (Vec::with_capacity(classes), Vec::with_capacity(classes));
    for class in 0..classes {
        let scenes = scenes(truth, found, class);
        let objects = scenes.iter().flat_map(|scene| &scene.truth).filter(|object| !object.is_ignored()).count();
        let places: Vec<(usize, usize)> =
            scenes.iter().enumerate().flat_map(|(i, scene)| (0..scene.found.len()).map(move |j| (i, j))).collect();
        let score = |&(i, j): &(usize, usize)| scenes[i].found[j].score;
        let mut taken: Vec<Vec<bool>> = scenes.iter().map(|scene| vec![false; scene.truth.len()]).collect();
        let mut counted = Vec::new();
        for at in by_score(&places.iter().map(score).collect::<Vec<_>>()) {
            let (i, j) = places[at];
            let found = scenes[i].found[j];
            let mut best = (f64::NEG_INFINITY, None);
            for (object, truth) in scenes[i].truth.iter().enumerate() {
                let overlap = overlap(&found.bbox, &Annotation { crowd: false, ..**truth });
                if overlap > best.0 {
                    best = (overlap, Some(object));
                }
            }
            let matched = best.1.filter(|_| best.0 >= THRESHOLD);
            if matched.is_some_and(|object| scenes[i].truth[object].is_ignored()) {
                continue;
            }
            let is_right = matched.is_some_and(|object| !std::mem::replace(&mut taken[i][object], true));
            counted.push((found.score, is_right));
        }
        let curve = PrecisionRecall::of(&counted, objects);
        all.push((objects > 0).then(|| average(&curve, year)));
        curves.push(curve);
    }
    Ok(VocEvaluation { map: mean(all.iter().flatten().copied()), classes: all, curves })
}

fn average(curve: &PrecisionRecall, year: VocYear) -> f64 {
    match year {
        VocYear::Y2007 => {
            let highest = |i: usize| {
                let points = curve.recall.iter().zip(&curve.precision);
                let points = points.filter(|(recall, _)| **recall >= i as f64 * 0.1);
                points.fold(0.0, |highest: f64, (_, precision)| highest.max(*precision))
            };
            (0..=10).map(highest).sum::<f64>() / 11.0
        }
        VocYear::Y2010 => {
            let points = curve.recall.iter().zip(curve.envelope());
            let (area, _) = points.fold((0.0, 0.0), |(area, before), (&recall, precision)| {
                (area + (recall - before) * precision, recall)
            });
            area
        }
    }
}
