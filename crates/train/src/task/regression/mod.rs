//! Regression: a number per image or row. The loss is the mean squared error of standardized targets; the metrics are in the unit
//! of the target.
//!
//! | file | what |
//! |---|---|
//! | here | the task: network, loss, metrics, what a checkpoint records |
//! | `report.rs` | what a report shows |

mod report;

use super::parts::{self, check_augment, data_key};
use super::trial::{self, Trial};
use super::{
    Answer, Batch, Better, Data, Metric, Part, PartTargets, Parts, Section, Task, TaskKind, Unit, check_given, outputs,
};
use crate::evaluation::evaluate_test;
use crate::scores::{Network, Scores};
use crate::{Config, Error, Result};
use fixnet_autograd::{Array, Graph, Store, Var, ops};
use fixnet_data::{Normalize, NumberBatch, NumberDescription, Numbers, Sample, SampleForm, Split, Target};
use fixnet_nn::Layer;
use fixnet_nn::layers::Sequential;
use fixnet_nn::models;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The row of the registry.
pub(super) const KIND: TaskKind =
    TaskKind { name: NAME, metrics: METRICS, trials: TRIALS, check, data_key, load, recorded, of_shape, of_plan };

const NAME: &str = "regression";
const TRIALS: &[Trial] =
    &trial::of_shapes([|_| trial(trial::IMAGE), |_| trial(trial::SEQUENCE), |_| trial(trial::ROW)]);
const METRICS: &[Metric] = &[
    Metric { name: "r2", unit: Unit::Number, better: Better::Higher },
    Metric { name: "mse", unit: Unit::Quantity, better: Better::Lower },
    Metric { name: "mae", unit: Unit::Quantity, better: Better::Lower },
];
/// The sums from which they follow, all of standardized targets: of squared and of absolute errors, of targets and of their
/// squares.
const SUMS: usize = 4;

/// Images or rows with a number each, in their parts.
pub type Measured = Parts<Numbers>;

/// Regression, for a network that was or will be trained on data of this description.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    description: NumberDescription,
}

impl Regression {
    /// Returns the task of a network that is trained on data of this description.
    pub fn new(description: NumberDescription) -> Self {
        Self { description }
    }

    /// Returns the task and the data of samples that a program made or read itself.
    pub fn of_split(split: Split<Numbers>) -> (Self, Measured) {
        let description = NumberDescription::of(&split);
        let normalize = description.normalize.clone();
        let data = Parts::of_split(split, normalize, description.fingerprints.as_ref());
        (Self { description }, data)
    }

    /// Returns what the network has to know of its data.
    pub fn description(&self) -> &NumberDescription {
        &self.description
    }

    fn target(&self) -> &Target {
        &self.description.target
    }

    /// The outputs [N, 1] of a batch with its targets.
    fn pairs<'a>(&self, output: &'a Tensor, batch: &'a Batch) -> Result<impl Iterator<Item = (f64, f64)> + 'a> {
        let targets = targets(batch)?;
        Ok(self.values(output, targets.len())?.zip(targets.iter().copied()))
    }

    /// The outputs [N, 1] of so many samples.
    fn values<'a>(&self, output: &'a Tensor, samples: usize) -> Result<impl Iterator<Item = f64> + use<'a>> {
        if output.shape() != [samples, 1] {
            let expected = format!("[{samples}, 1]");
            return Err(fixnet_tensor::Error::shape("outputs of a regression", expected, output.shape()).into());
        }
        Ok(output.data().iter().map(|&v| f64::from(v)))
    }
}

fn trial(shape: &[usize]) -> trial::Loaded {
    let numbers = |place: &str| Numbers::new(place, None, (0..trial::SAMPLES).map(|i| i as f64).collect());
    let (task, data) = Regression::of_split(trial::split(shape, numbers)?);
    Ok((Arc::new(task), Box::new(data)))
}

fn check(config: &Config) -> Result<()> {
    parts::check_model(config, "a network of values, such as mlp")
}

fn load(config: &Config) -> Result<(Arc<dyn Task>, Box<dyn Data>)> {
    let (task, data) = Regression::of_split(config.data().load_numbers()?);
    Ok((Arc::new(task), Box::new(data.of_sources(config))))
}

fn recorded(_: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Arc<dyn Task>> {
    Ok(Arc::new(Regression::new(NumberDescription::read_from(place, metadata)?)))
}

fn of_shape(_: &Config, input: &[usize], _: usize) -> Result<Arc<dyn Task>> {
    let normalize = Normalize::none(input.last().copied().unwrap_or(0));
    let target = Target { column: None, mean: 0.0, deviation: 1.0 };
    Ok(Arc::new(Regression::new(NumberDescription::of_network("the network", input, normalize, target)?)))
}

fn of_plan(config: &Config, place: &str, plan: &Plan) -> Result<Arc<dyn Task>> {
    let wrong = |reason: String| crate::error::run(std::path::Path::new(place), reason);
    let normalize = plan.normalize().cloned().ok_or_else(|| wrong("expected a normalization, found none".into()))?;
    let (input, output) = (plan.input_shape(), plan.output_shape());
    let found = || format!("a network from {input:?} to {output:?} without them");
    let target = target_of(config, plan)
        .ok_or_else(|| wrong(format!("expected one output with factor and offset of its target, found {}", found())))?;
    let description = NumberDescription::of_network(place, input, normalize, target)?;
    Ok(Arc::new(Regression::new(description)))
}

/// The target of a network, from the last two operations of its plan.
fn target_of(config: &Config, plan: &Plan) -> Option<Target> {
    let offset = plan.nodes().get(plan.outputs().first()?.node)?;
    let factor = plan.nodes().get(*offset.inputs().first()?)?;
    let (&[mean], deviation) = (offset.constant("bias")?.data(), factor.get::<ops::Scale>()?.factor) else {
        return None;
    };
    // A number counts columns, and is no name.
    let column = config.data().target.clone().filter(|text| text.parse::<usize>().is_err());
    (plan.output_shape() == [1]).then_some(Target { column, mean, deviation })
}

impl PartTargets for Numbers {
    fn erased(batch: NumberBatch) -> Batch {
        Batch { inputs: batch.inputs, samples: batch.targets.len(), targets: Box::new(batch.targets) }
    }

    fn array(&self) -> Result<(String, Array)> {
        let values: Vec<f32> = self.values().iter().map(|&v| v as f32).collect();
        Ok(("targets".into(), Array::F32(Tensor::from_vec(&[values.len()], values)?)))
    }
}

fn targets(batch: &Batch) -> Result<&Vec<f64>> {
    batch.targets.downcast_ref().ok_or_else(|| {
        fixnet_autograd::Error::setting("targets of a regression", "a batch of numbers", "other ones").into()
    })
}

/// Brings standardized outputs to the unit of the target, so that an exported network answers in it.
struct InUnit {
    mean: f32,
    deviation: f32,
}

impl Layer for InUnit {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> fixnet_autograd::Result<Var> {
        let scaled = g.scale(x, self.deviation)?;
        let mean = g.input(Tensor::from_vec(&[1], vec![self.mean])?);
        g.add_bias(&scaled, &mean)
    }
}

impl Task for Regression {
    fn name(&self) -> &'static str {
        NAME
    }

    fn metrics(&self) -> &'static [Metric] {
        METRICS
    }

    fn input_shape(&self) -> Vec<usize> {
        self.description.shape.clone()
    }

    fn build(&self, store: &mut Store, config: &Config) -> Result<Box<dyn Layer>> {
        check(config)?;
        let net = models::build(store, config.model(), &self.description.shape, 1, config.quant())?;
        Ok(self.wrap(Box::new(net)))
    }

    fn wrap(&self, net: Box<dyn Layer>) -> Box<dyn Layer> {
        let &Target { mean, deviation, .. } = self.target();
        Box::new(Sequential::new().push(net).push(InUnit { mean, deviation }))
    }

    fn check(&self, config: &Config) -> Result<()> {
        check_augment(config, &self.description.shape)
    }

    fn complete(&self, plan: Plan) -> Plan {
        plan.normalized(self.description.normalize.clone())
    }

    fn record(&self, metadata: &mut BTreeMap<String, String>) {
        self.description.write_to(metadata);
    }

    fn check_recorded(&self, config: &Config, place: &str, metadata: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let expected = NumberDescription::read_from(place, metadata)?;
        expected.check_same(&format!("data {}", config.data().source), &self.description)?;
        Ok(Vec::new())
    }

    fn classes(&self) -> Option<usize> {
        Some(1)
    }

    fn batch(&self, inputs: Tensor, targets: &[f64]) -> Result<Batch> {
        let samples = check_given(self, &inputs, targets.len())?;
        let targets = Numbers::new("targets of a batch", None, targets.to_vec())?.values().to_vec();
        Ok(Batch { inputs, samples, targets: Box::new(targets) })
    }

    fn normalize(&self) -> Option<&Normalize> {
        Some(&self.description.normalize)
    }

    fn loss(&self, g: &mut Graph<'_>, output: &Var, batch: &Batch) -> Result<Var> {
        let (target, wanted) = (self.target(), targets(batch)?);
        let wanted: Vec<f32> = wanted.iter().map(|&v| target.standardized(v) as f32).collect();
        let wanted = g.input(Tensor::from_vec(&[wanted.len(), 1], wanted)?);
        let mean = g.input(Tensor::from_vec(&[1], vec![target.mean])?);
        let deviation = g.input(Tensor::from_vec(&[1], vec![target.deviation])?);
        let centred = g.sub(output, &mean)?;
        let found = g.div(&centred, &deviation)?;
        Ok(g.mse_loss(&found, &wanted)?)
    }

    fn sums(&self) -> usize {
        SUMS
    }

    fn score(&self, output: &Tensor, batch: &Batch) -> Result<Vec<f64>> {
        let (mut sums, target) = (vec![0.0; SUMS], self.target());
        for (found, wanted) in self.pairs(output, batch)? {
            let z = target.standardized(wanted);
            let error = (found - wanted) / f64::from(target.deviation);
            sums.iter_mut().zip([error * error, error.abs(), z, z * z]).for_each(|(sum, v)| *sum += v);
        }
        Ok(sums)
    }

    /// R2 is 1 less the squared errors over the squared deviations of the targets from their mean in the same samples. Where all
    /// targets are equal, it is 1 without any error, and else 0.
    fn finish(&self, sums: &[f64], samples: usize) -> Vec<f64> {
        let &[squares, absolute, targets, target_squares] = sums else { return Vec::new() };
        let (n, unit) = (samples.max(1) as f64, f64::from(self.target().deviation));
        let spread = target_squares - targets * targets / n;
        let r2 = match spread > 1e-12 * target_squares {
            true => 1.0 - squares / spread,
            false => f64::from(u8::from(squares == 0.0)),
        };
        vec![r2, squares / n * unit * unit, absolute / n * unit]
    }

    fn load_test(&self, config: &Config) -> Result<Box<dyn Data>> {
        let place = || format!("data {}", config.data().source);
        let test = config.data().load_test_numbers(&self.description).map_err(|e| Error::from(e).within(place()))?;
        Ok(Box::new(Parts::of_test(test, self.description.normalize.clone())))
    }

    fn sample_form(&self) -> SampleForm {
        SampleForm::of_shape(self.description.shape.clone())
            .with_columns(self.description.columns())
            .with_target(self.target().column.as_deref())
    }

    fn predict(&self, net: &dyn Layer, store: &mut Store, samples: &[Sample]) -> Result<Vec<Answer>> {
        let output = outputs(net, store, samples, &self.description.normalize)?;
        let answer = |v: f64| Answer::Numbers(vec![(self.target().name().to_string(), v)]);
        Ok(self.values(&output, samples.len())?.map(answer).collect())
    }

    fn report(&self, mut network: Network<'_>, data: &dyn Data) -> Result<(Scores, Vec<Section>)> {
        let test = data.as_any().downcast_ref::<Measured>().and_then(|data| data.part(Part::Test));
        let test = test.ok_or_else(|| {
            fixnet_autograd::Error::setting("data of a regression", "samples with numbers", "other ones")
        })?;
        let scores = evaluate_test(self, &mut network, data)?;
        let Network { net, store, batch_size } = network;
        let mut pairs = Vec::with_capacity(test.len());
        for batch in data.batches(Part::Test, batch_size)? {
            let batch = batch?;
            let mut g = Graph::eval(store);
            let x = g.input(batch.inputs.clone());
            let output = net.forward(&mut g, &x)?.tensor();
            pairs.extend(self.pairs(&output, &batch)?);
        }
        Ok((scores, vec![report::section(self.target().name(), test, &pairs)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(mean: f32, deviation: f32) -> Regression {
        let target = Target { column: None, mean, deviation };
        Regression::new(NumberDescription::of_network("t", &[1], Normalize::none(1), target).unwrap())
    }

    fn metrics(task: &Regression, batches: &[(&[f32], &[f64])]) -> Vec<f64> {
        let (mut sums, mut count) = (vec![0.0; SUMS], 0);
        for (found, wanted) in batches {
            let output = Tensor::from_vec(&[found.len(), 1], found.to_vec()).unwrap();
            let batch = NumberBatch { inputs: Tensor::zeros(&[found.len(), 1]), targets: wanted.to_vec() };
            let score = task.score(&output, &Numbers::erased(batch)).unwrap();
            sums.iter_mut().zip(score).for_each(|(sum, v)| *sum += v);
            count += found.len();
        }
        task.finish(&sums, count)
    }

    #[test]
    fn metrics_are_those_of_the_whole_part_in_its_unit() {
        // Errors 1, -1, 2 and 0 of targets 2, 4, 6 and 8, whose mean is 5: 6 of squared errors, 20 of squared deviations.
        for (mean, deviation) in [(5.0, 2.0), (0.0, 1.0), (1000.0, 0.5)] {
            let found = metrics(&task(mean, deviation), &[(&[3.0, 3.0, 8.0], &[2.0, 4.0, 6.0]), (&[8.0], &[8.0])]);
            for (found, expected) in found.iter().zip([0.7, 1.5, 1.0]) {
                assert!((found - expected).abs() < 1e-8, "{found} {expected}");
            }
        }
        assert_eq!(metrics(&task(0.0, 1.0), &[(&[3.0, 3.0], &[3.0, 3.0])])[0], 1.0);
        assert_eq!(metrics(&task(0.0, 1.0), &[(&[3.0, 4.0], &[3.0, 3.0])])[0], 0.0);
    }

    #[test]
    fn outputs_are_one_number_a_sample() {
        let batch = NumberBatch { inputs: Tensor::zeros(&[2, 1]), targets: vec![1.0, 2.0] };
        let e = task(0.0, 1.0).score(&Tensor::zeros(&[2, 2]), &Numbers::erased(batch)).unwrap_err().to_string();
        assert!(e.contains("[2, 1]") && e.contains("[2, 2]"), "{e}");
    }
}
