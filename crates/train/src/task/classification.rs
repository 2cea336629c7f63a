//! Classification of images, sequences and rows of a table: one class per sample, cross-entropy, top-1 accuracy.

use super::parts::{self, check_augment, data_key};
use super::trial::{self, Trial};
use super::{
    Answer, Batch, Better, Data, Element, LOSS, Matrix, Metric, Part, PartTargets, Parts, Picture, Pictures, Section,
    Table, Task, TaskKind, Teacher, Unit, check_given, outputs,
};
use crate::config::LossSettings;
use crate::scores::{Network, Scores};
use crate::{Config, Error, Result};
use fixnet_autograd::{Array, Graph, Store, Var};
use fixnet_data::{ClipForm, DataDescription, Dataset, Labels, Loader, Normalize, Sample, SampleForm, Split};
use fixnet_nn::metrics::{self, Confusion, Prediction};
use fixnet_nn::models;
use fixnet_nn::plan::Plan;
use fixnet_nn::{Layer, metrics::correct};
use fixnet_tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The row of the registry.
pub(super) const KIND: TaskKind = TaskKind {
    name: NAME,
    metrics: METRICS,
    trials: TRIALS,
    check: check_model,
    data_key,
    load,
    recorded,
    of_shape,
    of_plan,
};

const NAME: &str = "classification";

const TRIALS: &[Trial] =
    &trial::of_shapes([|_| trial(trial::IMAGE), |_| trial(trial::SEQUENCE), |_| trial(trial::ROW)]);

fn trial(shape: &[usize]) -> trial::Loaded {
    let labels = |place: &str| Labels::new(place, 2, (0..trial::SAMPLES as u16).map(|i| i % 2).collect());
    let (task, data) = Classification::of_split(trial::split(shape, labels)?);
    Ok((Arc::new(task), Box::new(data)))
}

const METRICS: &[Metric] = &[
    Metric { name: "accuracy", unit: Unit::Share, better: Better::Higher },
    Metric { name: "top5", unit: Unit::Share, better: Better::Higher },
];

/// Of more classes than these it counts too whether the label is among the five most probable.
const FEW: usize = 10;

/// The fingerprint of the training images in checkpoints of fixnet 0.1, which have no description of their data.
const EARLIER: &str = "data";

/// How many images of each kind a report shows.
const SHOWN: usize = 12;

/// The fingerprint of the teacher in the metadata of checkpoints.
const TEACHER: &str = "teacher";

/// Classification of images or rows, for a network that was or will be trained on data of this description.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    description: DataDescription,
    /// Whether the training images are read from their files on demand.
    streamed: bool,
    /// The share of each label that training spreads over all classes.
    smoothing: f32,
    /// How often each class counts in training, if not alike.
    weights: Option<Vec<f32>>,
    /// Whose probabilities are learned in place of labels, if there is a teacher.
    teacher: Option<Arc<Teacher>>,
}

impl Classification {
    /// Returns the task of a network that is trained on data of this description.
    pub fn new(description: DataDescription) -> Self {
        Self { description, streamed: false, smoothing: 0.0, weights: None, teacher: None }
    }

    /// Returns the task and the data of samples that a program made or read itself.
    pub fn of_split(split: Split) -> (Self, Labelled) {
        let description = DataDescription::of(&split);
        let normalize = description.normalize.clone();
        let task = Self { streamed: split.train.is_streamed(), ..Self::new(description) };
        let data = Parts::of_split(split, normalize, task.description.fingerprints.as_ref());
        (task, data)
    }

    /// Returns what the network has to know of its data.
    pub fn description(&self) -> &DataDescription {
        &self.description
    }
}

/// Images or rows with labels, in their parts.
pub type Labelled = Parts<Labels>;

fn check_model(config: &Config) -> Result<()> {
    parts::check_model(config, "a classifier")
}

fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    let (task, data) = Classification::of_split(config.data().load()?);
    Ok((Arc::new(task), Box::new(data.of_sources(config))))
}

fn recorded(config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    if let Some(description) = DataDescription::read_from(place, metadata)? {
        return Ok(Arc::new(Classification::new(description)));
    }
    let words =
        "an earlier version of fixnet wrote it, without mean and deviation of its training images, so these are needed";
    let split = config.data().load().map_err(|e| Error::from(e).within(format!("{place}: {words}")))?;
    let (task, _) = Classification::of_split(split);
    task.check_recorded(config, place, metadata)?;
    Ok(Arc::new(task))
}

fn of_shape(_: &Config, input: &[usize], classes: usize) -> Result<Arc<dyn Task>> {
    let normalize = Normalize::none(input.last().copied().unwrap_or(0));
    let description = DataDescription::of_network("the network", input, classes, None, normalize)?;
    Ok(Arc::new(Classification::new(description)))
}

fn of_plan(_: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    let wrong = |reason: String| crate::error::run(std::path::Path::new(place), reason);
    let normalize = plan.normalize().cloned().ok_or_else(|| wrong("expected a normalization, found none".into()))?;
    let (input @ ([_] | [_, _] | [_, _, _]), &[classes]) = (plan.input_shape(), plan.output_shape()) else {
        let found = format!("a network from {:?} to {:?}", plan.input_shape(), plan.output_shape());
        return Err(wrong(format!("expected a classifier of images, sequences or rows, found {found}")));
    };
    let names = plan.class_names().map(<[String]>::to_vec);
    let description = DataDescription::of_network(place, input, classes, names, normalize)?;
    Ok(Arc::new(Classification::new(description)))
}

impl PartTargets for Labels {
    fn erased(batch: fixnet_data::Batch) -> Batch {
        let samples = batch.labels.len();
        Batch { inputs: batch.images.clone(), samples, targets: Box::new(batch) }
    }

    fn array(&self) -> Result<(String, Array)> {
        Ok(("labels".into(), Array::U64(self.values().iter().map(|&l| l.into()).collect())))
    }
}

fn targets(batch: &Batch) -> Result<&fixnet_data::Batch> {
    batch.targets.downcast_ref().ok_or_else(|| {
        fixnet_autograd::Error::setting("targets of a classification", "a batch of labelled images", "other ones")
            .into()
    })
}

impl Task for Classification {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> &'static [Metric] {
        if self.description.classes > FEW { METRICS } else { &METRICS[..1] }
    }

    fn input_shape(&self) -> Vec<usize> {
        self.description.shape.clone()
    }

    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
        check_model(config)?;
        let model = config.model();
        let (shape, classes) = (&self.description.shape, self.description.classes);
        Ok(Box::new(models::build(store, model, shape, classes, config.quant())?))
    }

    fn check(&self, config: &Config) -> Result<()> {
        check_augment(config, &self.description.shape)
    }

    fn complete(&self, plan: Plan) -> Plan {
        let plan = plan.normalized(self.description.normalize.clone());
        match self.description.class_names() {
            Some(names) => plan.with_class_names(names.to_vec()),
            None => plan,
        }
    }

    fn record(&self, metadata: &mut BTreeMap<String, String>) {
        self.description.write_to(metadata);
        if let Some(teacher) = &self.teacher {
            metadata.insert(TEACHER.into(), teacher.fingerprint().into());
        }
    }

    fn check_recorded(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let data = format!("data {}", config.data().source);
        if let Some(expected) = DataDescription::read_from(place, metadata)? {
            expected.check_same(&data, &self.description)?;
        } else if let Some(train) = metadata.get(EARLIER) {
            if self.streamed {
                // The fingerprint of streamed images was another one.
                let words = "an earlier version of fixnet wrote it; its streamed images are not compared";
                return Ok(vec![format!("note: {place}: {words}")]);
            }
            let mut expected = self.description.clone();
            expected.fingerprints.iter_mut().for_each(|prints| prints.train.clone_from(train));
            expected.check_same(&data, &self.description)?;
        }
        Ok(Vec::new())
    }

    fn check_configured(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<()> {
        let Some(path) = &config.settings().loss.teacher else { return Ok(()) };
        let teacher = match &self.teacher {
            Some(teacher) => teacher.clone(),
            None => Arc::new(Teacher::open(path, &self.description)?),
        };
        teacher.check_recorded(place, metadata.get(TEACHER).map(String::as_str))
    }

    fn notes_on_weights(&self, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        parts::notes_on_classes(place, metadata, self.description.class_names().unwrap_or_default())
    }

    fn classes(&self) -> Option<usize> {
        Some(self.description.classes)
    }

    fn class_names(&self) -> Option<&[String]> {
        self.description.class_names()
    }

    fn configured(&self, config: &Config, data: &dyn Data) -> Result<Option<Arc<dyn Task>>> {
        let loss = &config.settings().loss;
        if *loss == LossSettings::default() {
            return Ok(None);
        }
        let train = data.as_any().downcast_ref::<Labelled>().and_then(|data| data.part(Part::Train));
        let train = train.ok_or_else(|| {
            fixnet_autograd::Error::setting("training data of a classification", "labelled samples", "other ones")
        })?;
        let mut counts = vec![0; self.description.classes];
        train.targets().values().iter().for_each(|&label| counts[usize::from(label)] += 1);
        let weights = loss.class_weights.of_counts(&counts)?;
        let teacher = loss.teacher.as_deref().map(|path| Teacher::open(path, &self.description)).transpose()?;
        let (smoothing, teacher) = (loss.label_smoothing as f32, teacher.map(Arc::new));
        Ok(Some(Arc::new(Self { smoothing, weights, teacher, ..self.clone() })))
    }

    fn batch(&self, inputs: Tensor, targets: &[f64]) -> Result<Batch> {
        let samples = check_given(self, &inputs, targets.len())?;
        let classes = self.description.classes;
        let class = |(position, &value): (usize, &f64)| match value {
            value if value.fract() == 0.0 && (0.0..classes as f64).contains(&value) => Ok(value as usize),
            odd => {
                let expected = format!("a whole number from 0 to {}", classes - 1);
                let found = format!("{odd} at {position}");
                Err(fixnet_autograd::Error::setting("a target of a classification", expected, found).into())
            }
        };
        let labels = targets.iter().enumerate().map(class).collect::<Result<Vec<usize>>>()?;
        let batch = fixnet_data::Batch { images: inputs.clone(), labels, targets: None };
        Ok(Batch { inputs, samples, targets: Box::new(batch) })
    }

    fn normalize(&self) -> Option<&Normalize> {
        Some(&self.description.normalize)
    }

    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var> {
        let batch = targets(batch)?;
        match (g.modes().record, &self.teacher) {
            (true, Some(teacher)) => {
                let probabilities = teacher.probabilities(&batch.images, &self.description.normalize)?;
                Ok(metrics::distributional_loss(g, output, &probabilities)?)
            }
            (true, None) => Ok(metrics::training_loss(g, output, batch, self.smoothing, self.weights.as_deref())?),
            (false, _) => Ok(metrics::loss(g, output, batch)?),
        }
    }

    fn score(&self, output: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let labels = &targets(batch)?.labels;
        let mut sums = vec![correct(output, labels) as f64];
        if self.metrics().len() > 1 {
            sums.push(metrics::correct_among(output, labels, 5) as f64);
        }
        Ok(sums)
    }

    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>> {
        let place = || format!("data {}", config.data().source);
        let test = config.data().load_test(&self.description).map_err(|e| Error::from(e).within(place()))?;
        Ok(Box::new(Parts::of_test(test, self.description.normalize.clone())))
    }

    fn with_clips(&self, clips: ClipForm) -> Option<Arc<dyn Task>> {
        let description = self.description.clone().with_clips(clips);
        Some(Arc::new(Self { description, ..self.clone() }))
    }

    fn sample_form(&self) -> SampleForm {
        SampleForm::of_shape(self.description.shape.clone())
            .with_columns(self.description.columns())
            .with_clips(self.description.clips())
    }

    fn predict(&self, net: &dyn Layer, store: &mut Store, samples: &[Sample]) -> Result<Vec<Answer>> {
        let logits = outputs(net, store, samples, &self.description.normalize)?;
        let name = |k: usize| match self.description.class_names() {
            Some(names) => names[k].clone(),
            None => k.to_string(),
        };
        if logits.shape() != [samples.len(), self.description.classes] {
            let expected = format!("[{}, {}]", samples.len(), self.description.classes);
            return Err(fixnet_tensor::Error::shape("logits", expected, logits.shape()).into());
        }
        let classes = |row| metrics::probabilities(row).into_iter().map(|(k, p)| (name(k), p)).collect();
        Ok(logits.data().chunks_exact(self.description.classes).map(|row| Answer::Classes(classes(row))).collect())
    }

    fn report(&self, network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let test = data.as_any().downcast_ref::<Labelled>().and_then(|data| data.part(Part::Test));
        let test = test.ok_or_else(|| {
            fixnet_autograd::Error::setting("data of a classification", "labelled images", "other ones")
        })?;
        let Network { net, store, batch_size } = network;
        let batches = Loader::new(test, batch_size, self.description.normalize.clone());
        let predictions = metrics::predict(net, store, batches);
        let predictions = predictions.map_err(|e| Error::from(e).within(test.name.clone()))?;
        let mean = |sum: f64| sum / predictions.len().max(1) as f64;
        let right = predictions.iter().filter(|p| p.is_right()).count();
        let mut values =
            vec![(LOSS.name, mean(predictions.iter().map(|p| p.loss).sum())), (METRICS[0].name, mean(right as f64))];
        if let Some(top) = self.metrics().get(1) {
            values.push((top.name, mean(predictions.iter().filter(|p| p.rank < 5).count() as f64)));
        }
        Ok((Scores { values, samples: predictions.len() }, vec![section(test, &predictions)?]))
    }
}

/// What a report shows of the test images.
fn section(test: &Dataset, predictions: &[Prediction]) -> Result<Section> {
    let names = test.class_names();
    let confusion = Confusion::of(test.classes(), predictions.iter().map(|p| (p.label, p.class)));
    let right: Vec<usize> = (0..predictions.len()).filter(|&i| predictions[i].is_right()).collect();
    let mut wrong: Vec<usize> = (0..predictions.len()).filter(|&i| !predictions[i].is_right()).collect();
    wrong.sort_by(|&a, &b| predictions[b].probability.total_cmp(&predictions[a].probability));
    wrong.truncate(SHOWN);
    let pictures = |title: &str, indices: &[usize], none: &str, note: &str| -> Result<Element> {
        let pictures = indices.iter().map(|&i| picture(test, i, predictions[i], &names)).collect::<Result<_>>()?;
        Ok(Element::Pictures(Pictures {
            title: title.into(),
            pictures,
            none: none.into(),
            note: note.into(),
            large: false,
        }))
    };
    let counts = (0..test.classes()).flat_map(|label| (0..test.classes()).map(move |class| (label, class)));
    let matrix = Matrix {
        title: "Confusion matrix".into(),
        about: format!(
            "Rows are labels, columns predictions; percent of the row. {}, {} {}.",
            test.name,
            predictions.len(),
            test.noun()
        ),
        names: names.to_vec(),
        counts: counts.map(|(label, class)| confusion.count(label, class)).collect(),
    };
    let mut elements = vec![Element::Matrix(matrix), Element::Table(classes_table(&confusion, &names, test.noun()))];
    if test.image_shape().is_some() && !test.is_floats() {
        let note = if wrong.is_empty() { "" } else { "Label → prediction, and its probability." };
        elements.extend([
            pictures("Wrong, and most certain", &wrong, "No image is classified wrongly.", note)?,
            pictures("Right", &varied(&right, predictions), "No image is classified rightly.", "")?,
        ]);
    }
    Ok(Section { title: format!("Test {}", test.noun()), elements })
}

fn classes_table(confusion: &Confusion, names: &[String], noun: &str) -> Table {
    // Of classes that are called by their numbers these are enough.
    let named = names.iter().enumerate().any(|(class, name)| *name != class.to_string());
    let share = |v: Option<f64>| v.map_or_else(|| "–".into(), |v| Unit::Share.text(v));
    let row = |class: usize| {
        let mut row = vec![class.to_string()];
        row.extend(named.then(|| names[class].clone()));
        row.extend([
            confusion.images(class).to_string(),
            share(confusion.recall(class)),
            share(confusion.precision(class)),
        ]);
        row
    };
    let mut columns = vec![("class".to_string(), true)];
    columns.extend(named.then(|| ("name".to_string(), false)));
    columns.extend([noun, "recall", "precision"].map(|head| (head.to_string(), true)));
    Table { title: "Each class".into(), columns, rows: (0..confusion.classes()).map(row).collect() }
}

/// Images of as many classes as there are, the first of each, then the first of what is left.
fn varied(indices: &[usize], predictions: &[Prediction]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let (mut first, more): (Vec<usize>, Vec<usize>) = indices.iter().partition(|&&i| seen.insert(predictions[i].label));
    first.sort_by_key(|&i| predictions[i].label);
    first.extend(more);
    first.truncate(SHOWN);
    first
}

fn picture(data: &Dataset, index: usize, p: Prediction, names: &[String]) -> Result<Picture> {
    let [height, width, channels] = data.image_shape().unwrap_or_default();
    let bytes = data.image(index)?;
    // An image that is neither grey nor coloured is shown by its first channel.
    let (pixels, channels) = match channels {
        3 => (bytes.to_vec(), 3),
        _ => (bytes.iter().step_by(channels.max(1)).copied().collect(), 1),
    };
    let (label, class) = (&names[p.label], &names[p.class]);
    let probability = f64::from(p.probability);
    Ok(Picture {
        pixels,
        shape: [height, width, channels],
        caption: if p.is_right() { class.clone() } else { format!("{label} → {class}") },
        detail: format!("{:.1} %", 100.0 * probability),
        spoken: format!("Test image {index}: label {label}, predicted {class} with {}", Unit::Share.text(probability)),
    })
}
