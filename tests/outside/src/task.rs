//! A task of our own: where in an image is the spot? Its loss is the mean squared error of row and column, its metric the distance in
//! pixels.

use crate::source::{SIDE, Spotted};
use fixnet::autograd::Array;
use fixnet::data::Sample;
use fixnet::plan::Plan;
use fixnet::prelude::{Graph, Layer, Normalize, Store, Tensor, Var, models};
use fixnet::tensor::rng::{Stream, domain};
use fixnet::train::task::{
    Answer, Batch, Batches, Better, Data, Element, Metric, Part, Section, Table, Task, TaskKind, Unit,
};
use fixnet::train::{Config, Error, Network, Result, Scores, evaluate_test};
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "locate";
/// The key of what a checkpoint records.
const RECORD: &str = "locate";

/// The metric: how far the answer is from the spot, in pixels.
const METRICS: &[Metric] = &[Metric { name: "distance", unit: Unit::Number, better: Better::Lower }];

/// The row of the registry.
pub const KIND: TaskKind = TaskKind {
    name: NAME,
    metrics: METRICS,
    trials: &[],
    check: |_| Ok(()),
    data_key,
    load,
    recorded,
    of_shape,
    of_plan,
};

/// The task. It knows what tells its data from others; none of them where these are not known.
#[derive(Debug, Clone)]
pub struct Locate {
    record: Option<String>,
}

/// Images with spots: three of four to learn from, the others to judge by.
#[derive(Debug)]
pub struct Spots {
    all: Spotted,
}

/// What the network sees of pixels.
fn normalize() -> Normalize {
    Normalize::new(vec![0.1], vec![0.2]).expect("one mean and one deviation above 0")
}

fn setting(key: &str, reason: String) -> Error {
    Error::Setting { key: key.into(), reason }
}

fn data_key(config: &Config) -> String {
    config.data().source.to_string()
}

fn read(config: &Config) -> Result<Spots> {
    let all = config.data().load_other()?.downcast::<Spotted>();
    let found = config.data().source.to_string();
    let all = all.map_err(|_| setting("data.source", format!("expected spots:COUNT, found {found}")))?;
    Ok(Spots { all: *all })
}

fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    let data = read(config)?;
    Ok((Arc::new(Locate { record: Some(data.print()) }), Box::new(data)))
}

fn recorded(_: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    let record = metadata.get(RECORD).cloned();
    let record = record.ok_or_else(|| setting(place, "expected the record of locate, found none".into()))?;
    Ok(Arc::new(Locate { record: Some(record) }))
}

fn of_shape(_: &Config, input: &[usize], _: usize) -> Result<Arc<dyn Task>> {
    match input {
        [SIDE, SIDE, 1] => Ok(Arc::new(Locate { record: None })),
        _ => Err(setting("input", format!("expected {SIDE}x{SIDE}x1, found {input:?}"))),
    }
}

fn of_plan(_: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    match (plan.input_shape(), plan.output_shape()) {
        ([SIDE, SIDE, 1], [2]) => Ok(Arc::new(Locate { record: None })),
        found => Err(setting(place, format!("expected a network from [16, 16, 1] to [2], found {found:?}"))),
    }
}

impl Spots {
    /// The indices of a part.
    fn indices(&self, part: Part) -> Vec<usize> {
        let all = 0..self.all.centres.len();
        match part {
            Part::Train => all.filter(|i| i % 4 != 0).collect(),
            Part::Test => all.filter(|i| i % 4 == 0).collect(),
            Part::Validation => Vec::new(),
        }
    }

    /// What tells these images from others.
    fn print(&self) -> String {
        let sum: u64 = self.all.pixels.iter().zip(1..).map(|(&pixel, place)| u64::from(pixel) * place).sum();
        format!("{} images, {sum}", self.all.centres.len())
    }

    fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let len = SIDE * SIDE;
        let pixels = indices.iter().flat_map(|&i| &self.all.pixels[i * len..][..len]);
        let pixels = pixels.map(|&pixel| f32::from(pixel) / 255.0).collect();
        let inputs = Tensor::from_vec(&[indices.len(), SIDE, SIDE, 1], pixels)?;
        let centres = indices.iter().flat_map(|&i| self.all.centres[i].map(|v| v / SIDE as f32)).collect();
        let targets = Tensor::from_vec(&[indices.len(), 2], centres)?;
        Ok(Batch { inputs: normalize().apply(&inputs)?, samples: indices.len(), targets: Box::new(targets) })
    }

    fn in_order(&self, indices: Vec<usize>, size: usize, skip: usize) -> Result<Batches> {
        let batches = indices.chunks(size).skip(skip).map(|some| self.batch(some)).collect::<Vec<_>>();
        Ok(Box::new(batches.into_iter()))
    }
}

impl Data for Spots {
    fn len(&self, part: Part) -> usize {
        self.indices(part).len()
    }

    fn name(&self, part: Part) -> String {
        format!("spots {}", part.name())
    }

    fn epoch(&self, config: &Config, number: u32, skip: usize) -> Result<Batches> {
        let train = self.indices(Part::Train);
        let order = Stream::new(config.seed(), domain::SHUFFLE, number, 0).permutation(train.len());
        self.in_order(order.into_iter().map(|i| train[i]).collect(), config.batch_size(), skip)
    }

    fn batches(&self, part: Part, batch_size: usize) -> Result<Batches> {
        self.in_order(self.indices(part), batch_size, 0)
    }

    fn arrays(&self, part: Part) -> Result<Vec<(String, Array)>> {
        let batch = self.batch(&self.indices(part))?;
        let targets = targets(&batch)?.clone();
        Ok(vec![("images".into(), Array::F32(batch.inputs)), ("centres".into(), Array::F32(targets))])
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Row and column of the spots, from 0 to 1.
fn targets(batch: &Batch) -> Result<&Tensor> {
    let targets = batch.targets.downcast_ref();
    targets.ok_or_else(|| setting("batch", "expected the centres of spots, found other targets".into()))
}

/// The distances of answers [N, 2] from the targets, in pixels.
fn distances(output: &Tensor, targets: &Tensor) -> Vec<f64> {
    let distance = |(a, b): (&[f32], &[f32])| {
        let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        SIDE as f64 * squares.sqrt()
    };
    output.data().chunks(2).zip(targets.data().chunks(2)).map(distance).collect()
}

impl Task for Locate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn input_shape(&self) -> Vec<usize> {
        vec![SIDE, SIDE, 1]
    }

    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
        Ok(Box::new(models::build(store, config.model(), [SIDE, SIDE, 1], 2, config.quant())?))
    }

    fn check(&self, _: &Config) -> Result<()> {
        Ok(())
    }

    fn complete(&self, plan: Plan) -> Plan {
        plan.normalized(normalize())
    }

    fn record(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.extend(self.record.clone().map(|record| (RECORD.to_string(), record)));
    }

    fn check_recorded(&self, _: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        match (metadata.get(RECORD), &self.record) {
            (Some(expected), Some(found)) if expected != found => {
                Err(setting(place, format!("expected {expected}, found {found}: the data are others")))
            }
            _ => Ok(Vec::new()),
        }
    }

    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var> {
        let target = g.input(targets(batch)?.clone());
        let difference = g.sub(output, &target)?;
        let square = g.mul(&difference, &difference)?;
        Ok(g.mean(&square, &[0, 1], false)?)
    }

    fn score(&self, output: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        Ok(vec![distances(output, targets(batch)?).iter().sum()])
    }

    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>> {
        Ok(Box::new(read(config)?))
    }

    fn predict(&self, net: &dyn Layer, store: &mut Store, samples: &[Sample]) -> Result<Vec<Answer>> {
        let mut g = Graph::eval(store);
        let x = g.input(Sample::batch(samples, &normalize())?);
        let output = net.forward(&mut g, &x)?.tensor();
        let place = |v: f32| f64::from(v) * SIDE as f64;
        let answer = |at: &[f32]| vec![("row".to_string(), place(at[0])), ("column".to_string(), place(at[1]))];
        Ok(output.data().chunks(2).map(|at| Answer::Numbers(answer(at))).collect())
    }

    fn report(&self, mut network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let scores = evaluate_test(self, &mut network, data)?;
        let far = scores.get(METRICS[0].name).unwrap_or_default();
        let table = Table {
            title: "Spots".into(),
            columns: vec![("images".into(), true), ("mean distance, pixels".into(), true)],
            rows: vec![vec![scores.samples.to_string(), format!("{far:.3}")]],
        };
        Ok((scores, vec![Section { title: "Where the spots are".into(), elements: vec![Element::Table(table)] }]))
    }
}
