//! Evaluation of a network by its task.

use crate::Result;
use crate::scores::{Network, Scores};
use crate::task::{Batch, Collector, Data, Part, Task, all_metrics};
use fixnet_autograd::{Graph, Store};
use fixnet_nn::{Layer, metrics};

/// Samples that are evaluated at a time, at most.
pub const EVALUATED: usize = 256;

/// The mean loss of the sum over its terms, and the metrics that follow from sums over samples.
pub(crate) fn scores_of(task: &dyn Task, loss: f64, sums: &[f64], samples: usize) -> Scores {
    let values = std::iter::once(loss / task.terms(sums, samples).max(1.0)).chain(task.finish(sums, samples));
    Scores { values: all_metrics(task).zip(values).map(|(metric, value)| (metric.name, value)).collect(), samples }
}

/// Runs a network over batches in evaluation and returns the means of loss and metrics.
///
/// # Errors
/// A batch cannot be read, or does not fit the network; or a loss, an output or a metric is not finite.
pub fn evaluate(
    task: &dyn Task,
    net: &dyn Layer,
    store: &mut Store,
    batches: impl Iterator<Item = Result<Batch>>,
) -> Result<Scores> {
    let mut collector = task.collector();
    evaluate_into(task, net, store, batches, collector.as_deref_mut())
}

/// As [`evaluate`], for a task whose metrics do not follow from sums: `collector` is left with what they follow from.
pub(crate) fn evaluate_into<'c>(
    task: &dyn Task,
    net: &dyn Layer,
    store: &mut Store,
    batches: impl Iterator<Item = Result<Batch>>,
    mut collector: Option<&mut (dyn Collector + 'c)>,
) -> Result<Scores> {
    let (mut loss, mut samples, mut sums) = (0.0, 0, vec![0.0; task.sums()]);
    for batch in batches {
        let batch = batch?;
        let mut g = Graph::eval(store);
        let x = g.input(batch.inputs.clone());
        let output = net.forward(&mut g, &x)?;
        let batch_loss = f64::from(task.loss(&mut g, &output, &batch)?.tensor().item());
        let output = output.tensor();
        metrics::check_finite(&output, batch_loss, samples)?;
        let of_batch = task.score(&output, &batch)?;
        loss += batch_loss * task.terms(&of_batch, batch.samples).max(1.0);
        for (i, (total, sum)) in sums.iter_mut().zip(of_batch).enumerate() {
            if !sum.is_finite() {
                let what = task.metrics().get(i).map_or("a metric", |metric| metric.name);
                return Err(fixnet_nn::Error::NotFinite { what, sample: samples, found: sum }.into());
            }
            *total += sum;
        }
        if let Some(collector) = &mut collector {
            collector.add(&output, &batch)?;
        }
        samples += batch.samples;
    }
    let scores = scores_of(task, loss, &sums, samples);
    match collector {
        None => Ok(scores),
        Some(collector) => {
            let names = task.metrics().iter().map(|metric| metric.name);
            let values = scores.values.into_iter().chain(names.zip(collector.finish()?)).collect();
            Ok(Scores { values, samples })
        }
    }
}

/// Evaluates a network on the test part of `data`.
///
/// # Errors
/// As [`evaluate`]; the message names the part.
pub fn evaluate_test(task: &dyn Task, network: &mut Network<'_>, data: &dyn Data) -> Result<Scores> {
    let batches = data.batches(Part::Test, network.batch_size)?;
    evaluate(task, network.net, network.store, batches).map_err(|e| e.within(data.name(Part::Test)))
}
