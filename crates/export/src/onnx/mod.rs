//! ONNX: a network for other runtimes.
//!
//! Input: `image`, float [batch, C, H, W], pixels from 0 to 1 (a byte divided by 255); the normalization is in the graph. A
//! network of features takes [batch, F]. Outputs have the names of the plan, `output` where there is one; for classifiers the
//! logits [batch, classes].
//!
//! A quantized product is written as
//!
//! ```text
//! x ─ Mul(levels per unit) ─ Clip ─ QuantizeLinear ─ DequantizeLinear ┐
//!                       weight codes (constant) ─ DequantizeLinear ─ Conv or Gemm ─ Mul(a) ─ Add(b)
//! ```
//!
//! In the INT8 form a `Clip` that nothing reaches follows the product: it keeps runtimes from multiplying `a` into the weights.
//!
//! Both quantizers have scale 1: what meets in the product are the levels themselves, whole numbers, so a runtime that
//! computes it in floats gives the exact sums of fixnet as long as they are below 2^24. The scales of both operands are in
//! `a`, folded with the batch normalization as fixnet folds it (without one, `a` is the scale and `b` the bias). So what
//! differs from fixnet is the order of sums in layers that are floats, and what their last bits do to the rounding of the
//! quantizers behind them.
//!
//! The levels of an input are UINT8 or INT8, whatever their bits: `Clip` keeps them in their range. Four-bit types would do
//! without it, but several runtimes have none for activations. [`Form`] says how weights are stored.

mod axes;
mod entries;
mod form;
mod graph;
pub mod import;
mod messages;
mod operands;
#[cfg(test)]
mod tests;
mod tokens;
mod writer;

pub use form::{CodeType, Form};

use crate::{Error, Result, class_names};
use fixnet_data::Normalize;
use fixnet_nn::plan::Plan;
use graph::Axis;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
pub(crate) use writer::oihw;
use writer::{Writer, nchw};

/// How a network is written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The types of the quantized layers, and the operator set.
    pub form: Form,
    /// Texts for the file: what it is, where it comes from. Those of fixnet (version, input, normalization, names of classes)
    /// are added.
    pub metadata: BTreeMap<String, String>,
}

/// The bytes of an ONNX file.
///
/// # Errors
/// A layer has no form in ONNX, or no batch has set the scale of a quantizer.
pub fn encode(plan: &Plan, options: &Options) -> Result<Vec<u8>> {
    let form = options.form;
    let mut writer = Writer::new(form);
    let mut layers = BTreeSet::new();
    for (index, node) in plan.nodes().iter().enumerate() {
        // A layer that is used several times has its numbers in the file once.
        let again = !node.layer().is_empty() && !layers.insert((node.layer(), node.op().kind()));
        writer.graph.of_layer(node.layer(), again);
        let value = entries::write(&mut writer, node, plan).map_err(|(expected, found)| {
            let layer = node.label();
            Error::Layer { index, layer, expected, found }
        })?;
        writer.push(value);
    }
    let axes = |shape: &[usize]| -> Vec<Axis> {
        let lengths = nchw(shape);
        std::iter::once(Axis::Batch).chain(lengths.into_iter().map(Axis::Length)).collect()
    };
    let mut outputs = Vec::new();
    for output in plan.outputs() {
        let value = writer.real(output.node);
        let name = writer.graph.named(output.name.clone(), "Identity", &[&value], &[]);
        outputs.push((name, axes(plan.nodes()[output.node].shape())));
    }
    let graph = writer.graph.finish("fixnet", ("image", &axes(plan.input_shape())), &outputs);
    let mut metadata = options.metadata.clone();
    metadata.insert("fixnet".into(), env!("CARGO_PKG_VERSION").into());
    let input = match plan.input_shape().len() {
        1 => "float [batch, F], the columns of a row as they are",
        2 => "float [batch, T, C], the steps of a sequence as they are",
        _ => "float [batch, C, H, W], pixels from 0 to 1 (bytes divided by 255)",
    };
    metadata.insert("input".into(), input.into());
    metadata.extend(class_names::entry(plan));
    metadata.extend(plan.normalize().into_iter().flat_map(normalization));
    Ok(graph::model(graph, (form.ir(), form.opset().into()), env!("CARGO_PKG_VERSION"), metadata))
}

/// Returns a normalization as texts for the metadata of a file: `mean` and `std`, a number for each channel.
pub fn normalization(normalize: &Normalize) -> [(String, String); 2] {
    [("mean", normalize.mean()), ("std", normalize.std())].map(|(key, v)| (key.into(), format!("{v:?}")))
}

/// Writes an ONNX file, atomically; returns its length.
///
/// # Errors
/// As [`encode`]; or the file cannot be written.
pub fn save(path: &Path, plan: &Plan, options: &Options) -> Result<usize> {
    let bytes = encode(plan, options)?;
    fixnet_files::write(path, &bytes).map_err(|source| Error::Write { path: path.to_path_buf(), source })?;
    Ok(bytes.len())
}
