//! What became of each detection and each object of an image, at one score and one overlap: found, taken for another class, false, missed.

use fixnet_data::{Annotation, Detection};

/// Detections below this score do not count.
pub(super) const COUNTED: f32 = 0.3;
/// The least IoU of a detection with its object.
pub(super) const OVERLAP: f32 = 0.5;

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has found the object of this index.
    Found(usize),
    /// It covers the object of this index, which is of another class and which no other detection has found.
    OtherClass(usize),
    /// It covers an object that counts neither way.
    Ignored,
    /// It is on no object, or on one that has been found.
    False,
}

/// The outcomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcomes {
    /// Indices of the detections that count, by falling score, with what became of them.
    pub(super) detections: Vec<(usize, Outcome)>,
    /// Indices of the objects that no detection covers.
    pub(super) missed: Vec<usize>,
}

impl Outcomes {
    /// Judges the detections of an image, which come by falling score. Each takes the free object of its class that it covers best; what is
    /// left then looks for one of another class.
    pub(super) fn of(truth: &[Annotation], found: &[Detection]) -> Self {
        let counted = (0..found.len()).filter(|&i| found[i].score >= COUNTED);
        let mut detections: Vec<(usize, Outcome)> = counted.map(|i| (i, Outcome::False)).collect();
        let mut free = vec![true; truth.len()];
        for same_class in [true, false] {
            for (i, outcome) in &mut detections {
                if *outcome != Outcome::False {
                    continue;
                }
                let iou = |k: usize| truth[k].bbox.iou(&found[*i].bbox);
                let fits = |k: &usize| {
                    let of_class = (truth[*k].class == found[*i].class) == same_class;
                    let counts = same_class || !truth[*k].is_ignored();
                    free[*k] && of_class && counts && iou(*k) >= OVERLAP
                };
                let best = (0..truth.len()).filter(fits).max_by(|&a, &b| iou(a).total_cmp(&iou(b)).then(b.cmp(&a)));
                let Some(k) = best else { continue };
                // A crowd takes any number of detections.
                free[k] = truth[k].crowd;
                *outcome = match same_class {
                    true if truth[k].is_ignored() => Outcome::Ignored,
                    true => Outcome::Found(k),
                    false => Outcome::OtherClass(k),
                };
            }
        }
        let missed = (0..truth.len()).filter(|&k| free[k] && !truth[k].is_ignored()).collect();
        Self { detections, missed }
    }
}

/// The outcomes of all images: rows are classes of objects and columns those of detections. The last row is for detections without an
/// object, the last column for objects without a detection.
pub(super) struct Counts {
    classes: usize,
    counts: Vec<u64>,
}

impl Counts {
    /// Counts the outcomes of images with their objects and detections, of classes below `classes`.
    pub(super) fn of(truth: &[Vec<Annotation>], found: &[Vec<Detection>], classes: usize) -> Self {
        let side = classes + 1;
        let mut counts = vec![0; side * side];
        for (truth, found) in truth.iter().zip(found) {
            let outcomes = Outcomes::of(truth, found);
            for (i, outcome) in outcomes.detections {
                let row = match outcome {
                    Outcome::Found(k) | Outcome::OtherClass(k) => truth[k].class,
                    Outcome::False => classes,
                    Outcome::Ignored => continue,
                };
                counts[row * side + found[i].class] += 1;
            }
            outcomes.missed.into_iter().for_each(|k| counts[truth[k].class * side + classes] += 1);
        }
        Self { classes, counts }
    }

    /// All counts, row by row.
    pub(super) fn all(&self) -> &[u64] {
        &self.counts
    }

    fn at(&self, row: usize, column: usize) -> u64 {
        self.counts[row * (self.classes + 1) + column]
    }

    /// Objects of a class that were found, that were taken for another class, and that were missed.
    pub(super) fn objects(&self, class: usize) -> [u64; 3] {
        let other = (0..self.classes).filter(|&k| k != class).map(|k| self.at(class, k)).sum();
        [self.at(class, class), other, self.at(class, self.classes)]
    }

    /// Detections of a class on objects of another one, and on none.
    pub(super) fn wrong(&self, class: usize) -> [u64; 2] {
        let other = (0..self.classes).filter(|&k| k != class).map(|k| self.at(k, class)).sum();
        [other, self.at(self.classes, class)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_data::BoundingBox;

    fn at(x: f32) -> BoundingBox {
        BoundingBox::new(x, 0.0, x + 10.0, 10.0)
    }

    fn found(x: f32, class: usize, score: f32) -> Detection {
        Detection { bbox: at(x), class, score }
    }

    #[test]
    fn each_detection_and_each_object_has_one_outcome() {
        let object = |x, class| Annotation::new(at(x), class);
        let difficult = Annotation { difficult: true, ..object(200.0, 1) };
        let truth = vec![object(0.0, 0), object(50.0, 1), object(100.0, 0), difficult, object(300.0, 0)];
        let detections = vec![
            // Of another class than the object that the next one finds.
            found(0.0, 1, 0.95),
            found(1.0, 0, 0.9),
            found(2.0, 0, 0.8),
            found(51.0, 0, 0.7),
            found(200.0, 1, 0.6),
            found(400.0, 1, 0.5),
            found(300.0, 0, 0.2),
        ];
        let outcomes = Outcomes::of(&truth, &detections);
        use Outcome::{False, Found, Ignored, OtherClass};
        let expected = [(0, False), (1, Found(0)), (2, False), (3, OtherClass(1)), (4, Ignored), (5, False)];
        assert_eq!((&outcomes.detections[..], &outcomes.missed[..]), (&expected[..], &[2, 4][..]));
        let counts = Counts::of(&[truth, vec![]], &[detections, vec![]], 2);
        assert_eq!(counts.all(), [1, 0, 2, 1, 0, 0, 1, 2, 0]);
        assert_eq!((counts.objects(0), counts.objects(1)), ([1, 0, 2], [0, 1, 0]));
        assert_eq!((counts.wrong(0), counts.wrong(1)), ([1, 1], [0, 2]));
    }

    #[test]
    fn a_crowd_takes_any_number_of_detections() {
        let crowd = Annotation { crowd: true, ..Annotation::new(at(0.0), 0) };
        let outcomes = Outcomes::of(&[crowd], &[found(0.0, 0, 0.9), found(1.0, 0, 0.8)]);
        assert_eq!(outcomes.detections, [(0, Outcome::Ignored), (1, Outcome::Ignored)]);
        assert!(outcomes.missed.is_empty());
    }
}
