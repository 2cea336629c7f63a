//! What a report shows of detection: average precision by class and size, and test images with what was found and missed.

use super::super::{Collector, Data, Element, LOSS, Part, Picture, Pictures, Section, Table, Task, Unit};
use super::found::Found;
use super::{Detection, METRICS};
use crate::Result;
use crate::scores::{Network, Scores};
use fixnet_autograd::Graph;
use fixnet_data::{DetectionSet, outlined};
use fixnet_nn::metrics::check_finite;

/// How many test images a report shows.
const SHOWN: usize = 8;
/// Detections below this score are not drawn.
const DRAWN: f32 = 0.3;
/// Colours of objects that were found, of boxes that are none, and of objects that were missed.
const COLOURS: [[u8; 3]; 3] = [[0, 158, 115], [213, 94, 0], [0, 114, 178]];

/// Evaluates a network on the test images and describes what it found.
pub(super) fn report(
    task: &Detection,
    network: Network<'_>,
    data: &dyn Data,
    test: &DetectionSet,
) -> Result<(Scores, Vec<Section>)> {
    let Network { net, store, batch_size } = network;
    let (mut found, mut loss) = (Found::new(task), 0.0);
    for batch in data.batches(Part::Test, batch_size)? {
        let batch = batch?;
        let mut g = Graph::eval(store);
        let x = g.input(batch.inputs.clone());
        let output = net.forward(&mut g, &x)?;
        let batch_loss = f64::from(task.loss(&mut g, &output, &batch)?.tensor().item());
        let output = output.tensor();
        check_finite(&output, batch_loss, found.truth.len())?;
        loss += batch_loss * batch.samples as f64;
        found.add(&output, &batch)?;
    }
    let mut values = vec![(LOSS.name, loss / test.len().max(1) as f64)];
    values.extend(METRICS.iter().map(|metric| metric.name).zip(found.finish()?));
    let elements = vec![by_class(task, &found)?, by_size(&found)?, pictures(task, &found, test)?];
    let section = Section { title: "Test images".into(), elements };
    Ok((Scores { values, samples: test.len() }, vec![section]))
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "none".into(), |value| Unit::Share.text(value))
}

fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> Element {
    let columns = columns.iter().enumerate().map(|(i, head)| ((*head).to_string(), i > 0)).collect();
    Element::Table(Table { title: title.into(), columns, rows })
}

fn by_class(task: &Detection, found: &Found<'_>) -> Result<Element> {
    let (coco, voc) = (found.coco()?, found.voc()?);
    let row = |(class, name): (usize, &String)| {
        let objects = found.truth.iter().flatten().filter(|object| object.class == class).count();
        let ap50 = coco.classes[class].map(|thresholds| thresholds[0]);
        vec![name.clone(), objects.to_string(), cell(ap50), cell(coco.class_ap(class)), cell(voc.classes[class])]
    };
    let rows = task.description().class_names.iter().enumerate().map(row).collect();
    Ok(table("Average precision of each class", &["class", "objects", "AP50", "AP", "VOC AP"], rows))
}

fn by_size(found: &Found<'_>) -> Result<Element> {
    let s = found.coco()?.summary;
    let rows = [
        ("all", s.ap, s.ar100),
        ("small (below 32 x 32 pixels)", s.ap_small, s.ar_small),
        ("medium", s.ap_medium, s.ar_medium),
        ("large (from 96 x 96 pixels)", s.ap_large, s.ar_large),
    ];
    let rows = rows.map(|(name, ap, ar)| vec![name.into(), cell(ap), cell(ar)]).to_vec();
    Ok(table("By the size of objects", &["objects", "AP", "average recall"], rows))
}

/// The first test images with their boxes.
fn pictures(task: &Detection, found: &Found<'_>, test: &DetectionSet) -> Result<Element> {
    let mut pictures = Vec::new();
    for i in 0..test.len().min(SHOWN) {
        let picture = test.picture(i)?;
        let mut boxes = Vec::new();
        let (truth, drawn) = (&found.truth[i], found.found[i].iter().filter(|d| d.score >= DRAWN));
        let mut free: Vec<bool> = vec![true; truth.len()];
        let (mut right, mut wrong) = (0, 0);
        // By falling score, each takes the free object of its class that it covers best.
        for detection in drawn {
            let iou = |k: usize| truth[k].bbox.iou(&detection.bbox);
            let fits = |k: &usize| free[*k] && truth[*k].class == detection.class && iou(*k) >= 0.5;
            let best = (0..truth.len()).filter(fits).max_by(|&a, &b| iou(a).total_cmp(&iou(b)).then(b.cmp(&a)));
            match best {
                Some(k) => (free[k], right) = (false, right + 1),
                None => wrong += 1,
            }
            boxes.push((detection.bbox, COLOURS[usize::from(best.is_none())]));
        }
        let missed = truth.iter().zip(&free).filter(|(object, free)| **free && !object.is_ignored());
        let before = boxes.len();
        boxes.extend(missed.map(|(object, _)| (object.bbox, COLOURS[2])));
        let missed = boxes.len() - before;
        let caption = format!("{right} found, {wrong} false, {missed} missed");
        let name = &test.image(i).name;
        let spoken = format!("{name}: of {} objects {caption}", truth.len());
        let drawn = outlined(&picture, &boxes)?;
        let (shape, pixels) = ([drawn.height(), drawn.width(), 3], drawn.pixels().to_vec());
        pictures.push(Picture { pixels, shape, caption, detail: name.clone(), spoken });
    }
    let note = format!(
        "Boxes with a score of at least {DRAWN}: green where they cover an object of their class by half (IoU of 0.5), red elsewhere; \
         objects that were missed are blue. Classes: {}.",
        task.description().class_names.join(", ")
    );
    let title = "What was found".into();
    Ok(Element::Pictures(Pictures { title, pictures, none: String::new(), note, large: true }))
}
