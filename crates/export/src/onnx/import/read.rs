//! A file as a graph: decoded within a budget, with names that are unique and operations that are known.

use super::super::messages::{Graph, Model, Node, Tensor, ValueInfo};
use super::constant::Constant;
use super::problem::{Problem, Result};
use super::{operators, scan};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A graph that was read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) nodes: Vec<Node>,
    pub(super) constants: BTreeMap<String, Arc<Constant>>,
    pub(super) input: String,
    /// The lengths of the input's axes behind that of the batch, where they are fixed.
    pub(super) dims: Option<Vec<Option<usize>>>,
    /// The length of the axis of the batch, where that is fixed.
    pub(super) batch: Option<i64>,
    pub(super) output: String,
    /// How many nodes read each value.
    pub(super) reads: BTreeMap<String, usize>,
}

/// A name for messages: that of the node, or of its first output.
pub(super) fn label(node: &Node) -> String {
    let name = node.name.as_deref().filter(|name| !name.is_empty());
    name.or(node.output.first().map(String::as_str)).unwrap_or("without a name").to_string()
}

pub(super) fn op_of(node: &Node) -> &str {
    node.op_type.as_deref().unwrap_or("")
}

/// The nodes that the output depends on, in the order of the file.
fn live(nodes: Vec<Node>, output: &str) -> Vec<Node> {
    let mut wanted: BTreeSet<String> = BTreeSet::from([output.to_string()]);
    let mut kept: Vec<Node> = Vec::new();
    for node in nodes.into_iter().rev() {
        if node.output.iter().any(|name| !name.is_empty() && wanted.contains(name)) {
            wanted.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    kept
}

fn decode(bytes: &[u8]) -> Result<Model> {
    scan::check(bytes).map_err(Problem::Format)?;
    Model::decode(bytes).map_err(|e| Problem::Format(e.to_string()))
}

/// The name of the only value of a kind, and the lengths of its axes.
type Axes = Option<Vec<Option<i64>>>;

fn only(values: &[ValueInfo], constants: &BTreeMap<String, Arc<Constant>>, part: &str) -> Result<(String, Axes)> {
    // Older files list initializers among the inputs.
    let named = |v: &&ValueInfo| v.name.as_ref().is_some_and(|name| !constants.contains_key(name));
    let values: Vec<&ValueInfo> = values.iter().filter(named).collect();
    let [value] = values[..] else {
        let names: Vec<&str> = values.iter().filter_map(|v| v.name.as_deref()).take(5).collect();
        return Err(Problem::graph(
            format!("{part}s of the graph"),
            "one",
            format!("{} ({})", values.len(), names.join(", ")),
        ));
    };
    let name = value.name.clone().unwrap_or_default();
    let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    if let Some(code) = tensor.and_then(|t| t.elem_type).filter(|&code| code != 1) {
        return Err(Problem::graph(format!("{part} `{name}`"), "floats (f32)", format!("type {code}")));
    }
    let axes = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.iter().map(|d| d.dim_value).collect());
    Ok((name, axes))
}

impl File {
    /// Reads the bytes of a file. With `bare`, weights may have no numbers.
    ///
    /// # Errors
    /// It is no ONNX file of one input and one output, or has operations that are not known.
    pub(super) fn decode(bytes: &[u8], bare: bool) -> Result<Self> {
        let model = decode(bytes)?;
        let own = |domain: Option<&str>| matches!(domain.unwrap_or(""), "" | "ai.onnx");
        let opset = model.opset_import.iter().find(|o| own(o.domain.as_deref())).and_then(|o| o.version).unwrap_or(0);
        let Graph { node, initializer, input, output, .. } =
            model.graph.ok_or_else(|| Problem::Format("expected a graph, found none".into()))?;
        if !(13..=26).contains(&opset) {
            return Err(Problem::Opset(opset));
        }
        let mut constants = BTreeMap::new();
        for t in &initializer {
            let name = t.name.clone().unwrap_or_default();
            let constant = Arc::new(Constant::decode(t, &name, bare)?);
            if constants.insert(name.clone(), constant).is_some() {
                return Err(Problem::tensor(&name, "a name that no other tensor has", "two of it"));
            }
        }
        drop(initializer);
        let (input, axes) = only(&input, &constants, "input")?;
        let (output, _) = only(&output, &BTreeMap::new(), "output")?;
        let mut taken: BTreeSet<&str> = constants.keys().map(String::as_str).chain([input.as_str()]).collect();
        for name in node.iter().flat_map(|n| &n.output).filter(|name| !name.is_empty()) {
            if !taken.insert(name) {
                return Err(Problem::tensor(name, "a value that one node gives", "two of this name"));
            }
        }
        let nodes = live(node, &output);
        let unknown = nodes.iter().filter(|n| !own(n.domain.as_deref()) || !operators::is_known(op_of(n)));
        let unknown: Vec<_> = unknown.map(|n| (op_of(n).to_string(), label(n))).collect();
        if !unknown.is_empty() {
            return Err(Problem::Operations(unknown));
        }
        let mut reads: BTreeMap<String, usize> = BTreeMap::new();
        for name in nodes.iter().flat_map(|n| &n.input).chain([&output]) {
            *reads.entry(name.clone()).or_default() += 1;
        }
        let length = |d: &Option<i64>| d.and_then(|d| usize::try_from(d).ok()).filter(|&d| d > 0);
        let batch = axes.as_ref().and_then(|axes| *axes.first()?).filter(|&n| n > 0);
        let dims = axes.filter(|axes| !axes.is_empty()).map(|axes| axes[1..].iter().map(length).collect());
        Ok(Self { nodes, constants, input, dims, batch, output, reads })
    }
}

/// The bytes of a graph without the numbers of its weights, which a run has in its checkpoints.
///
/// # Errors
/// As [`File::decode`].
pub(super) fn without_weights(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut model = decode(bytes)?;
    model.metadata_props.clear();
    if let Some(graph) = &mut model.graph {
        let mut other: BTreeSet<&str> = BTreeSet::new();
        for node in &graph.node {
            let holds = ["Conv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"].contains(&op_of(node));
            let first = if op_of(node) == "Shape" { 1 } else { 0 };
            let until = if holds { 1 } else { node.input.len() };
            other.extend(node.input.iter().take(until).skip(first).map(String::as_str));
        }
        let is_weight = |t: &Tensor| t.data_type == Some(1) && !other.contains(t.name.as_deref().unwrap_or(""));
        for t in graph.initializer.iter_mut().filter(|t| is_weight(t)) {
            t.raw_data = None;
            t.float_data.clear();
        }
    }
    Ok(model.encode_to_vec())
}
