//! What a report shows of detection: precision over recall, average precision by class and size, which objects were found, missed and taken
//! for another class, and test images with their boxes.

use super::super::{Curves, Data, Element, Matrix, Part, Picture, Pictures, Section, Table, Unit};
use super::Detection;
use super::found::{Averages, Found};
use super::outcomes::{COUNTED, Counts, OVERLAP, Outcome, Outcomes};
use crate::Result;
use crate::evaluation::evaluate_into;
use crate::scores::{Network, Scores};
use fixnet_data::{DetectionSet, outlined};

/// How many test images a report shows.
const SHOWN: usize = 8;
/// How many classes have a curve, those with the most objects.
const CURVES: usize = 16;
/// The most classes of which each pair has a cell in the matrix.
const CELLS: usize = 40;
/// Colours of objects that were found, of boxes that are none, of objects that were missed, and of boxes of another class.
const FOUND: [u8; 3] = [0, 158, 115];
const FALSE: [u8; 3] = [213, 94, 0];
const MISSED: [u8; 3] = [0, 114, 178];
const OTHER_CLASS: [u8; 3] = [230, 159, 0];

/// Evaluates a network on the test images and describes what it found.
pub(super) fn report(
    task: &Detection,
    network: Network<'_>,
    data: &dyn Data,
    test: &DetectionSet,
) -> Result<(Scores, Vec<Section>)> {
    let Network { net, store, batch_size } = network;
    let mut found = Found::new(task);
    let scores = evaluate_into(task, net, store, data.batches(Part::Test, batch_size)?, Some(&mut found))?;
    let averages = found.averages()?;
    let mut elements = vec![curves(task, &found, &averages)];
    elements.extend(outcomes(task, &found));
    elements.extend([by_class(task, &found, &averages), by_size(&averages), pictures(task, &found, test)?]);
    let section = Section { title: "Test images".into(), elements };
    Ok((scores, vec![section]))
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "none".into(), |value| Unit::Share.text(value))
}

fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Element {
    let columns = columns.iter().enumerate().map(|(i, head)| ((*head).to_string(), i > 0)).collect();
    Element::Table(Table { title: title.into(), columns, rows })
}

fn by_class(task: &Detection, found: &Found<'_>, Averages { coco, voc }: &Averages) -> Element {
    let row = |(class, name): (usize, &String)| {
        let objects = found.truth.iter().flatten().filter(|object| object.class == class).count();
        let ap50 = coco.classes[class].map(|thresholds| thresholds[0]);
        vec![name.clone(), objects.to_string(), cell(ap50), cell(coco.class_ap(class)), cell(voc.classes[class])]
    };
    let rows = task.description().class_names.iter().enumerate().map(row).collect();
    table("Average precision of each class", &["class", "objects", "AP50", "AP", "VOC AP"], rows)
}

fn by_size(averages: &Averages) -> Element {
    let s = &averages.coco.summary;
    let rows = [
        ("all", s.ap, s.ar100),
        ("small (below 32 x 32 pixels)", s.ap_small, s.ar_small),
        ("medium", s.ap_medium, s.ar_medium),
        ("large (from 96 x 96 pixels)", s.ap_large, s.ar_large),
    ];
    let rows = rows.map(|(name, ap, ar)| vec![name.into(), cell(ap), cell(ar)]).to_vec();
    table("By the size of objects", &["objects", "AP", "average recall"], rows)
}

/// Precision over recall of each class.
fn curves(task: &Detection, found: &Found<'_>, Averages { coco, .. }: &Averages) -> Element {
    let names = &task.description().class_names;
    let count = |class: usize| found.truth.iter().flatten().filter(|object| object.class == class).count();
    let mut classes: Vec<(usize, usize)> = (0..names.len()).map(|class| (class, count(class))).collect();
    classes.retain(|(_, objects)| *objects > 0);
    let with_objects = classes.len();
    classes.sort_by_key(|&(class, objects)| (std::cmp::Reverse(objects), class));
    classes.truncate(CURVES);
    classes.sort_unstable();
    let line = |(class, _): (usize, usize)| {
        let curve = &coco.curves[class];
        let points: Vec<(f64, f64)> = curve.recall.iter().copied().zip(curve.envelope()).collect();
        // A class of which nothing was found is a point at the corner.
        let first = (0.0, points.first().map_or(0.0, |&(_, precision)| precision));
        (names[class].clone(), std::iter::once(first).chain(points).collect())
    };
    let shown = match with_objects > CURVES {
        true => format!(" The {CURVES} classes with the most objects, of {with_objects}."),
        false => String::new(),
    };
    let about = format!(
        "Up: the share of the detections that are right (an IoU of {OVERLAP} or more), as it falls when lower scores count too.{shown}"
    );
    let lines = classes.into_iter().map(line).collect();
    Element::Curves(Curves { title: "Precision over recall".into(), about, x: "recall", lines })
}

/// Which objects were found, missed and taken for another class, and which boxes are on none: a table, and a matrix of few classes.
fn outcomes(task: &Detection, found: &Found<'_>) -> Vec<Element> {
    let names = &task.description().class_names;
    let counts = Counts::of(&found.truth, &found.found, names.len());
    let row = |(class, name): (usize, &String)| {
        let numbers = counts.objects(class).into_iter().chain(counts.wrong(class)).map(|count| count.to_string());
        std::iter::once(name.clone()).chain(numbers).collect()
    };
    let rows = names.iter().enumerate().map(row).collect();
    let columns = ["class", "found", "taken for another class", "missed", "boxes on another class", "false boxes"];
    let title = format!("Found, missed and false, at a score of {COUNTED}");
    let mut elements = vec![table(&title, &columns, rows)];
    if names.len() <= CELLS {
        elements.push(Element::Matrix(Matrix {
            title: "Objects and what they were taken for".into(),
            about: format!(
                "Rows: objects; columns: detections with a score of at least {COUNTED} and an IoU of at least {OVERLAP}. In the last row boxes \
                 without an object, in the last column objects without a box."
            ),
            names: names.iter().cloned().chain([String::from("none")]).collect(),
            counts: counts.all().to_vec(),
        }));
    }
    elements
}

/// The first test images with their boxes.
fn pictures(task: &Detection, found: &Found<'_>, test: &DetectionSet) -> Result<Element> {
    let mut pictures = Vec::new();
    for i in 0..test.len().min(SHOWN) {
        let picture = test.picture(i)?;
        let (truth, detections) = (&found.truth[i], &found.found[i]);
        let outcomes = Outcomes::of(truth, detections);
        let mut boxes = Vec::new();
        let [mut right, mut other, mut wrong] = [0; 3];
        for &(k, outcome) in &outcomes.detections {
            let colour = match outcome {
                Outcome::Found(_) => {
                    right += 1;
                    FOUND
                }
                Outcome::OtherClass(_) => {
                    other += 1;
                    OTHER_CLASS
                }
                Outcome::False => {
                    wrong += 1;
                    FALSE
                }
                Outcome::Ignored => continue,
            };
            boxes.push((detections[k].bbox, colour));
        }
        boxes.extend(outcomes.missed.iter().map(|&k| (truth[k].bbox, MISSED)));
        let missed = outcomes.missed.len();
        let mut caption = format!("{right} found, {wrong} false, {missed} missed");
        if other > 0 {
            caption += &format!(", {other} of another class");
        }
        let name = &test.image(i).name;
        let spoken = format!("{name}: of {} objects {caption}", truth.len());
        let drawn = outlined(&picture, &boxes)?;
        let (shape, pixels) = ([drawn.height(), drawn.width(), 3], drawn.pixels().to_vec());
        pictures.push(Picture { pixels, shape, caption, detail: name.clone(), spoken });
    }
    let note = format!(
        "Boxes with a score of at least {COUNTED}: green where they cover an object of their class by half (IoU of {OVERLAP}), orange on an \
         object of another class, red elsewhere; objects that were missed are blue. Classes: {}.",
        task.description().class_names.join(", ")
    );
    let title = "What was found".into();
    Ok(Element::Pictures(Pictures { title, pictures, none: String::new(), note, large: true }))
}
