//! Object detection: the box and the class of each object in an image; focal loss and box codes, average precision.
//!
//! | file | what |
//! |---|---|
//! | here | the task: network, loss, metrics, what a checkpoint records |
//! | `scenes.rs` | its data: images with boxes, on canvases of one size |
//! | `found.rs` | from outputs to detections, and the metrics that follow from all of them |
//! | `outcomes.rs` | what became of each detection and each object at one score |
//! | `report.rs` | what a report shows |

mod found;
mod outcomes;
mod report;
mod scenes;

pub use scenes::Scenes;
use scenes::Targets;

use super::parts;
use super::trial::{self, Trial};
use super::{Answer, Batch, Better, Collector, Data, Metric, Part, Section, Task, TaskKind, Unit, outputs_of};
use crate::scores::{Network, Scores};
use crate::{Config, Error, Result};
use fixnet_autograd::{Graph, Store, Var};
use fixnet_data::{
    AnnotatedImage, Annotation, Augment, BoundingBox, DetectionDescription, DetectionSet, DetectionSplit, Normalize,
    Picture, Sample, SampleForm, check_class_names, on_canvas,
};
use fixnet_nn::Layer;
use fixnet_nn::detection::BoxOutput;
use fixnet_nn::models::{self, ModelSpec, Output};
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// The row of the registry.
pub(super) const KIND: TaskKind =
    TaskKind { name: NAME, metrics: METRICS, trials: TRIALS, check, data_key, load, recorded, of_shape, of_plan };

const NAME: &str = "detection";
const TRIALS: &[Trial] = &[Trial { samples: "scenes", load: trial }];
const METRICS: &[Metric] = &[
    Metric { name: "ap50", unit: Unit::Share, better: Better::Higher },
    Metric { name: "ap", unit: Unit::Share, better: Better::Higher },
    Metric { name: "ap75", unit: Unit::Share, better: Better::Higher },
    Metric { name: "voc_ap", unit: Unit::Share, better: Better::Higher },
];
/// Height and width of canvases where the recipe does not say.
const CANVAS: usize = 128;

/// Detection, for a network that was or will be trained on such images.
#[derive(Debug, Clone)]
pub struct Detection {
    description: DetectionDescription,
    boxes: BoxOutput,
}

impl Detection {
    /// Returns the task of a network, such as RetinaNet, for images of this description.
    ///
    /// # Errors
    /// The network gives no boxes.
    pub fn new(model: &ModelSpec, description: DetectionDescription) -> Result<Self> {
        Ok(Self { boxes: boxes_of(model)?, description })
    }

    /// Returns what the network has to know of its data.
    pub fn description(&self) -> &DetectionDescription {
        &self.description
    }

    fn classes(&self) -> usize {
        self.description.class_names.len()
    }

    /// Selects the detections of one output, in pixels of the canvas, of which the image fills a part.
    fn select(&self, output: &[f32], image: &BoundingBox) -> Result<Vec<fixnet_data::Detection>> {
        let canvas = self.description.canvas;
        Ok(self.boxes.detections(output, canvas, image, self.classes())?)
    }
}

fn boxes_of(model: &ModelSpec) -> Result<BoxOutput> {
    match model.output() {
        Output::Boxes(boxes) => Ok(boxes),
        _ => {
            let reason =
                format!("expected a network that finds objects, such as retinanet or fasterrcnn, found {model}");
            Err(Error::Setting { key: "model.name".into(), reason })
        }
    }
}

fn canvas_of(config: &Config) -> [usize; 2] {
    [config.data().image_size.unwrap_or(CANVAS); 2]
}

fn check(config: &Config) -> Result<()> {
    boxes_of(config.model())?;
    let Augment { flip, brightness, contrast, saturation, .. } = config.augment();
    if config.augment() != (Augment { flip, brightness, contrast, saturation, ..Augment::default() }) {
        let reason = "expected flip, brightness, contrast and saturation alone for detection, found others";
        return Err(Error::Setting { key: "augmentation".into(), reason: reason.into() });
    }
    Ok(())
}

/// Images and their canvas; runs of other seeds have the same where no part of them is drawn.
fn data_key(config: &Config) -> String {
    format!("{} {:?}", parts::data_key(config), canvas_of(config))
}

fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    check(config)?;
    of_split(config, config.data().load_detection()?, canvas_of(config))
}

fn of_split(config: &Config, split: DetectionSplit, canvas: [usize; 2]) -> trial::Loaded {
    let normalize = split.train.normalization()?;
    let description = DetectionDescription::of(&split, canvas, normalize);
    let data = Scenes::of_split(split, &description);
    Ok((Arc::new(Detection::new(config.model(), description)?), Box::new(data)))
}

/// Images with a bright square each, whose box is known.
fn trial(config: &Config) -> trial::Loaded {
    const SIDE: usize = 32;
    let set = |name: &str| {
        let image = |i: usize| {
            let (at, len) = (4 + 2 * i, 12);
            let inside = |k: usize| (at..at + len).contains(&(k / SIDE)) && (at..at + len).contains(&(k % SIDE));
            let pixel = |k: usize| [if inside(k) { 250 } else { (k * 31 % 97) as u8 }; 3];
            let pixels = (0..SIDE * SIDE).flat_map(pixel).collect();
            let corner = at as f32;
            let bbox = BoundingBox::new(corner, corner, corner + len as f32, corner + len as f32);
            let annotations = vec![Annotation::new(bbox, i % 2)];
            let about = AnnotatedImage { name: i.to_string(), id: i as u64, size: [SIDE; 2], annotations };
            Ok((about, Picture::new(SIDE, SIDE, pixels)?))
        };
        let images = (0..trial::SAMPLES).map(image).collect::<Result<_>>()?;
        Ok::<_, Error>(DetectionSet::new(name, vec!["even".into(), "odd".into()], images)?)
    };
    let split = DetectionSplit::new(set("trial train")?, set("trial test")?, None)?;
    of_split(config, split, [SIDE; 2])
}

fn recorded(config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    let description = DetectionDescription::read_from(place, metadata)?;
    Ok(Arc::new(Detection::new(config.model(), description)?))
}

/// A network of which only the shape is known.
fn unseen(canvas: [usize; 2], classes: usize, names: Option<&[String]>, normalize: Normalize) -> DetectionDescription {
    let class_names = match names {
        Some(names) => names.to_vec(),
        None => (0..classes).map(|k| k.to_string()).collect(),
    };
    DetectionDescription { canvas, class_names, category_ids: None, normalize, fingerprints: None }
}

fn of_shape(config: &Config, input: &[usize], classes: usize) -> Result<Arc<dyn Task>> {
    let (&[height, width, 3], false) = (input, input.contains(&0)) else {
        let found = input.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let reason = format!("expected images of three colours, found {found}");
        return Err(Error::Setting { key: "input".into(), reason });
    };
    let description = unseen([height, width], classes, None, Normalize::none(3));
    Ok(Arc::new(Detection::new(config.model(), description)?))
}

fn of_plan(config: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    let wrong = |reason: String| crate::error::run(std::path::Path::new(place), reason);
    let normalize = plan.normalize().cloned().ok_or_else(|| wrong("expected a normalization, found none".into()))?;
    let (input, output) = (plan.input_shape(), plan.output_shape());
    let boxes = boxes_of(config.model())?;
    let found = || format!("a network from {input:?} to {output:?}");
    let form = || {
        wrong(format!("expected one that gives the boxes of {} with their classes, found {}", config.model(), found()))
    };
    let &[h, w, 3] = input else { return Err(form()) };
    let classes = boxes.classes([h, w], output).ok_or_else(form)?;
    let description = unseen([h, w], classes, plan.class_names(), normalize);
    description.check(place)?;
    check_class_names(place, &description.class_names, classes)?;
    Ok(Arc::new(Detection { description, boxes }))
}

fn targets(batch: &Batch) -> Result<&Targets> {
    batch.targets.downcast_ref().ok_or_else(|| {
        fixnet_autograd::Error::setting("targets of a detection", "a batch of images with boxes", "other ones").into()
    })
}

impl Task for Detection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn input_shape(&self) -> Vec<usize> {
        let [height, width] = self.description.canvas;
        vec![height, width, 3]
    }

    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
        let net = models::build(store, config.model(), self.input_shape(), Self::classes(self), config.quant())?;
        Ok(Box::new(net))
    }

    fn check(&self, config: &Config) -> Result<()> {
        check(config)
    }

    fn complete(&self, plan: Plan) -> Plan {
        plan.normalized(self.description.normalize.clone()).with_class_names(self.description.class_names.clone())
    }

    fn record(&self, metadata: &mut BTreeMap<String, String>) {
        self.description.write_to(metadata);
    }

    fn check_recorded(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let expected = DetectionDescription::read_from(place, metadata)?;
        expected.check_same(&format!("data {}", config.data().source), &self.description)?;
        Ok(Vec::new())
    }

    fn notes_on_weights(&self, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        parts::notes_on_classes(place, metadata, &self.description.class_names)
    }

    fn classes(&self) -> Option<usize> {
        Some(Self::classes(self))
    }

    fn class_names(&self) -> Option<&[String]> {
        Some(&self.description.class_names)
    }

    fn category_ids(&self) -> Option<&[u64]> {
        self.description.category_ids.as_deref()
    }

    fn with_category_ids(&self, place: &str, ids: Vec<u64>) -> Result<Option<Arc<dyn Task>>> {
        let description = DetectionDescription { category_ids: Some(ids), ..self.description.clone() };
        description.check(place)?;
        Ok(Some(Arc::new(Self { description, boxes: self.boxes.clone() })))
    }

    /// Reads outputs as the network of this run gives them: runs of several networks share their data.
    fn configured(&self, config: &Config, _: &dyn Data) -> Result<Option<Arc<dyn Task>>> {
        let boxes = boxes_of(config.model())?;
        Ok((boxes != self.boxes)
            .then(|| Arc::new(Self { boxes, description: self.description.clone() }) as Arc<dyn Task>))
    }

    /// Gives the objects to networks of two stages.
    fn prepare(&self, g: &mut Graph<'_>, batch: &Batch) -> Result<()> {
        g.give(targets(batch)?.truth.clone());
        Ok(())
    }

    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var> {
        let targets = targets(batch)?;
        let (loss, terms) = self.boxes.loss(g, output, self.description.canvas, &targets.truth.objects)?;
        *targets.terms.lock().unwrap_or_else(PoisonError::into_inner) = terms;
        Ok(loss)
    }

    /// The terms of the loss.
    fn sums(&self) -> usize {
        1
    }

    fn score(&self, _: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let terms = *targets(batch)?.terms.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(vec![terms.unwrap_or(batch.samples) as f64])
    }

    /// None: all metrics follow from the detections of all images together.
    fn finish(&self, _: &[f64], _: usize) -> Vec<f64> {
        Vec::new()
    }

    /// Anchors that stand for an object, or regions, so that no loss depends on which images are in a batch together. For the training of
    /// a second stage, which draws a number of regions of each image, images.
    fn terms(&self, sums: &[f64], samples: usize) -> f64 {
        sums.first().copied().unwrap_or(samples as f64)
    }

    fn collector(&self) -> Option<Box<dyn Collector + '_>> {
        Some(Box::new(found::Found::new(self)))
    }

    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>> {
        let place = || format!("data {}", config.data().source);
        let test = config.data().load_test_detection(&self.description.class_names);
        let test = test.map_err(|e| Error::from(e).within(place()))?;
        Ok(Box::new(Scenes::of_test(test, &self.description)))
    }

    fn sample_form(&self) -> SampleForm {
        let mut form = SampleForm::of_shape(self.input_shape());
        form.any_size = true;
        form
    }

    fn predict(&self, net: &dyn Layer, store: &mut Store, samples: &[Sample]) -> Result<Vec<Answer>> {
        let answer = |sample: &Sample| {
            let Sample::Image(image) = sample else {
                let expected = self.sample_form().to_string();
                return Err(fixnet_autograd::Error::setting("a sample of a detection", expected, "numbers").into());
            };
            let [height, width, _] = image.shape();
            let (placed, placement) =
                on_canvas(&image.picture()?, self.description.canvas, &self.description.normalize)?;
            let output = outputs_of(net, store, placed)?;
            let found = self.select(output.data(), &placement.shown())?;
            let back = placement.detections_back([height, width], &found).into_iter();
            let named = back.map(|found| (self.description.class_names[found.class].clone(), found));
            Ok(Answer::Objects(named.collect()))
        };
        samples.iter().map(answer).collect()
    }

    fn report(&self, network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let test = data.as_any().downcast_ref::<Scenes>().and_then(|data| data.part(Part::Test));
        let test = test
            .ok_or_else(|| fixnet_autograd::Error::setting("data of a detection", "images with boxes", "other ones"))?;
        report::report(self, network, data, test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::evaluate;
    use crate::{Session, Settings};

    const SIDE: usize = 32;

    fn config(more: &[(&str, toml::Value)]) -> Config {
        let mut settings = Settings::find("digits-detect").unwrap();
        let usual = [
            ("quantization.bits", toml::Value::from("32/32/32")),
            ("optimizer.name", "sgd".into()),
            ("optimizer.lr", 0.01.into()),
            ("schedule.warmup", 0.0.into()),
            ("run.batch_size", 2.into()),
        ];
        for (key, value) in usual.into_iter().chain(more.iter().cloned()) {
            settings.set(key, value).unwrap();
        }
        settings.check().unwrap()
    }

    /// Images with so many objects each.
    fn loaded(config: &Config, counts: &[usize]) -> trial::Loaded {
        let image = |(i, &count): (usize, &usize)| {
            let pixels = (0..SIDE * SIDE * 3).map(|k| (k * (31 + i) % 251) as u8).collect();
            let square = |k: usize| BoundingBox::new(9.0 * k as f32, 4.0, 9.0 * k as f32 + 8.0, 14.0);
            let annotations = (0..count).map(|k| Annotation::new(square(k), k % 2)).collect();
            let about = AnnotatedImage { name: i.to_string(), id: i as u64, size: [SIDE; 2], annotations };
            Ok((about, Picture::new(SIDE, SIDE, pixels)?))
        };
        let images = counts.iter().enumerate().map(image).collect::<Result<_>>()?;
        let set = DetectionSet::new("squares", vec!["even".into(), "odd".into()], images)?;
        of_split(config, DetectionSplit::new(set.clone(), set, None)?, [SIDE; 2])
    }

    #[test]
    fn the_loss_of_an_evaluation_does_not_depend_on_its_batches() {
        for model in ["retinanet:r18-w0.05-l3to5-c8-n1-a8", "fasterrcnn:r18-w0.05-l3to5-c8-f16-p20-s32-a8"] {
            let config = config(&[("model.name", model.into())]);
            for counts in [&[3, 0, 1][..], &[0, 0]] {
                let (task, data) = loaded(&config, counts).unwrap();
                let mut store = Store::seeded(1);
                let net = task.build(&mut store, &config).unwrap();
                let mut loss = |size| {
                    let batches = data.batches(Part::Test, size).unwrap();
                    evaluate(&*task, &*net, &mut store, batches).unwrap().get("loss").unwrap()
                };
                let (each, whole) = (loss(1), loss(counts.len()));
                assert!((each - whole).abs() < 1e-5 * whole, "{model} of {counts:?}: {each} {whole}");
            }
        }
    }

    /// With normalizations that are frozen, a batch of one image among them.
    #[test]
    fn a_step_of_two_batches_is_that_of_both_together() {
        let model = ("model.name", "retinanet:r18-w0.05-frozen-l3to5-c8-n1-a8".into());
        let step = |batch: i64, together: i64| {
            let more = [model.clone(), ("run.batch_size", batch.into()), ("run.accumulate", together.into())];
            let config = config(&more);
            let (task, data) = loaded(&config, &[3, 0]).unwrap();
            let mut session = Session::new(config, task, &*data).unwrap();
            let values = |session: &Session<'_>| -> Vec<f32> {
                session.store().params().iter().flat_map(|p| p.value.data().to_vec()).collect()
            };
            let before = values(&session);
            let loss = session.step().unwrap().unwrap().loss;
            let seen = session.seen().get("loss").unwrap();
            let moved: Vec<f32> = values(&session).iter().zip(before).map(|(after, before)| after - before).collect();
            (loss, seen, moved)
        };
        let ((loss, seen, moved), (whole, of_whole, expected)) = (step(1, 2), step(2, 1));
        assert!((loss - whole).abs() < 1e-5 * whole && (seen - of_whole).abs() < 1e-5 * whole, "{loss} {seen} {whole}");
        let most = expected.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = moved.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(most > 0.0 && off < 1e-3 * most, "{off} of {most}");
    }
}
