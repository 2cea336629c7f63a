//! Packed networks: one `safetensors` file that holds a whole network, its weight codes packed to their bits.
//!
//! The file is of the kind that checkpoints are (checksum, atomic writing). Its metadata have the operations as JSON
//! (`plan`), each with its settings ([`Operation::settings`]). Its numbers are arrays
//! called after the layer: a weight of b bits is `NAME.codes`: level + offset, b bits each, one after the other from the lowest
//! bit of the first word on; words are U64, little endian, so these are the bytes of one long bit string. All else is F32:
//! units, biases, normalizations, weights of layers that are floats, and other constants under the names of the operands.
//!
//! [`load`] gives a [`Plan`], which needs no model to be built and computes the same bits as the network it came from. Where
//! the file has a normalization (`input.mean`, `input.std`), the plan takes pixels from 0 to 1 and normalizes them itself.
//! `class_names` in the metadata is the list of the names of classes, as JSON.

use crate::{Error, Result, class_names};
use fixnet_autograd::ops::Operations;
use fixnet_autograd::{Array, Operation, Settings, Stored};
use fixnet_data::Normalize;
use fixnet_nn::Problem;
use fixnet_nn::checkpoint::TensorFile;
use fixnet_nn::plan::{OUTPUT, Operand, Output, Plan};
use fixnet_quant::ops::operations;
use fixnet_tensor::{Budget, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The key of the operations in the metadata: what has it is a packed network.
pub const PLAN: &str = "plan";
/// The form of the file that this version writes and reads.
const VERSION: u32 = 1;
/// The largest length, stride and so on that a file may name.
const LARGEST: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
struct PlanForm {
    version: u32,
    input: Vec<usize>,
    normalized: bool,
    nodes: Vec<NodeForm>,
    /// Names and nodes; left out where the last node gives the only output under its usual name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<(String, usize)>,
}

#[derive(Serialize, Deserialize)]
struct NodeForm {
    name: String,
    op: String,
    inputs: Vec<usize>,
    /// The places of constant operands, where they are not the last ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constants: Vec<usize>,
    #[serde(flatten)]
    settings: Settings,
}

/// What arrays of a node are called.
fn key(index: usize, name: &str) -> String {
    if name.is_empty() { format!("node{index}") } else { name.to_string() }
}

/// Writes a packed network with `metadata`, atomically.
///
/// # Errors
/// A layer computes by itself, without the graph's operations; no batch has set the scale of a quantizer, two layers have one name, or the file
/// cannot be written.
pub fn save(path: &Path, plan: &Plan, metadata: &BTreeMap<String, String>) -> Result<()> {
    let (arrays, operations) = contents(plan)?;
    let mut metadata = metadata.clone();
    metadata.insert(PLAN.into(), operations);
    metadata.insert("fixnet".into(), env!("CARGO_PKG_VERSION").into());
    metadata.extend(class_names::entry(plan));
    Ok(TensorFile::save(path, &arrays, &metadata)?)
}

/// Returns what a packed network is made of: its arrays, sorted by their names, and its operations as JSON. Equal networks have equal
/// ones, wherever they were read from.
///
/// # Errors
/// As [`save`], but for those of files.
pub fn contents(plan: &Plan) -> Result<(Vec<(String, Array)>, String)> {
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    let mut nodes = Vec::new();
    for (index, node) in plan.nodes().iter().enumerate().skip(1) {
        let refuse = |expected, found: &str| Error::Layer { index, layer: node.label(), expected, found: found.into() };
        if let Some(obstacle) = node.op().obstacle() {
            return Err(refuse(obstacle.expected, &obstacle.found));
        }
        let (name, op) = (key(index, node.name()), node.op());
        let own = op.arrays().into_iter().map(|(part, array)| (part.to_string(), array));
        let constants = node.constants().into_iter().map(|(part, t)| (part, Array::F32(t.clone())));
        for (part, array) in own.chain(constants) {
            if arrays.insert(format!("{name}.{part}"), array).is_some() {
                return Err(refuse("a name that no other layer has", &name));
            }
        }
        let inputs = node.inputs();
        let places = |o: (usize, &Operand)| matches!(o.1, Operand::Constant(_)).then_some(o.0);
        let constants: Vec<usize> = node.operands().iter().enumerate().filter_map(places).collect();
        let last = constants.first().is_none_or(|&first| first == inputs.len());
        let constants = if last { Vec::new() } else { constants };
        let (name, kind) = (node.name().into(), op.kind().into());
        nodes.push(NodeForm { name, op: kind, inputs, constants, settings: op.settings() });
    }
    if let Some(normalize) = plan.normalize() {
        for (key, values) in [("input.mean", normalize.mean()), ("input.std", normalize.std())] {
            arrays.insert(key.into(), Array::F32(Tensor::from_vec(&[values.len()], values.to_vec())?));
        }
    }
    let normalized = plan.normalize().is_some();
    let usual = [Output { name: OUTPUT.into(), node: nodes.len() }];
    let outputs = match plan.outputs() == usual {
        true => Vec::new(),
        false => plan.outputs().iter().map(|o| (o.name.clone(), o.node)).collect(),
    };
    let form = PlanForm { version: VERSION, input: plan.input_shape().to_vec(), normalized, nodes, outputs };
    Ok((arrays.into_iter().collect(), serde_json::to_string(&form).expect("a plan is plain data")))
}

/// Reads a packed network and the metadata that were saved with it.
///
/// # Errors
/// The file cannot be read, is damaged, has no checksum, holds a number that no network has ([`TensorFile::weights`]), or is no packed network;
/// or one image would take more than [`Budget::VALUES`]. The message names the layer.
pub fn load(path: &Path) -> Result<(Plan, BTreeMap<String, String>)> {
    load_within(path, Budget::VALUES)
}

/// [`load`] of a network whose values take at most `values` of memory for one image.
///
/// # Errors
/// As there.
pub fn load_within(path: &Path, values: Budget) -> Result<(Plan, BTreeMap<String, String>)> {
    load_with(path, &operations(), values)
}

/// [`load_within`] of a network that may have these operations.
///
/// # Errors
/// As there.
pub fn load_with(path: &Path, operations: &Operations, mut values: Budget) -> Result<(Plan, BTreeMap<String, String>)> {
    let file = TensorFile::weights(path)?;
    if file.header().checksum().is_none() {
        return Err(Error::Packed { path: path.to_path_buf(), reason: Problem::NoChecksum.to_string() });
    }
    let plan = read(&file, operations).and_then(|plan| {
        values.claim_bytes("evaluating one image", plan.memory()).map(|()| plan).map_err(|e| e.to_string())
    });
    let plan = plan.map_err(|reason| Error::Packed { path: path.to_path_buf(), reason })?;
    let mut metadata = file.header().metadata.clone();
    metadata.remove(PLAN);
    let names = class_names::of(&path.display().to_string(), &metadata, plan.output_shape())?;
    let plan = match names {
        Some(names) => plan.with_class_names(names),
        None => plan,
    };
    Ok((plan, metadata))
}

/// Sizes that no product of two overflows.
fn check_sizes(sizes: &[usize], what: &str) -> std::result::Result<(), String> {
    match sizes.iter().find(|&&s| s > LARGEST) {
        Some(s) => Err(format!("{what}: expected sizes up to {LARGEST}, found {s}")),
        None => Ok(()),
    }
}

/// Checks every whole number of the settings but the lengths of shapes, which are held to a budget.
fn check_settings(settings: &Settings) -> std::result::Result<(), String> {
    fn check(key: &str, value: &Value) -> std::result::Result<(), String> {
        match value {
            Value::Object(parts) => parts.iter().try_for_each(|(key, value)| check(key, value)),
            Value::Array(values) if key != "shape" => values.iter().try_for_each(|value| check(key, value)),
            Value::Number(n) => match n.as_u64() {
                Some(n) if n > LARGEST as u64 => Err(format!("{key}: expected sizes up to {LARGEST}, found {n}")),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
    settings.iter().try_for_each(|(key, value)| check(key, value))
}

fn read(file: &TensorFile, operations: &Operations) -> std::result::Result<Plan, String> {
    let text = file.header().metadata.get(PLAN).ok_or("expected `plan` in its metadata, found none")?;
    let form: PlanForm = serde_json::from_str(text).map_err(|e| format!("plan: {e}"))?;
    if form.version != VERSION {
        return Err(format!("plan: expected version {VERSION}, found {}", form.version));
    }
    check_sizes(&form.input, "input")?;
    let mut plan = Plan::with_input(&form.input);
    let mut names = BTreeSet::new();
    for (index, node) in form.nodes.iter().enumerate() {
        let index = index + 1;
        let name = key(index, &node.name);
        let own = |e: &dyn std::fmt::Display| format!("plan: layer {index} ({name}): {e}");
        check_settings(&node.settings).map_err(|e| own(&e))?;
        let read = Cell::new(false);
        let array = |part: &str| {
            let array = file.array(&format!("{name}.{part}"));
            read.set(read.get() || array.is_some());
            array
        };
        let stored = Stored::new(&name, &node.settings, &array);
        let op = operations.read(&node.op, &stored).map_err(|e| own(&e))?;
        let operands = operands(node, &*op, &array).map_err(|e| own(&e))?;
        // The numbers of each layer are in the file, so all of them take little more than it.
        if read.get() && !names.insert(name.clone()) {
            return Err(format!("layer {index}: expected a name that no other layer has, found {name}"));
        }
        plan.push(&node.name, op, operands).map_err(|e| format!("layer {index}: {e}"))?;
    }
    if !form.outputs.is_empty() {
        let outputs = form.outputs.into_iter().map(|(name, node)| Output { name, node }).collect();
        plan = plan.with_outputs(outputs).map_err(|e| format!("plan: {e}"))?;
    }
    if !form.normalized {
        return Ok(plan);
    }
    let values = |name: &str| match file.array(name) {
        Some(Array::F32(t)) => Ok(t.data().to_vec()),
        _ => Err(format!("expected floats `{name}`, found none")),
    };
    let normalize = Normalize::new(values("input.mean")?, values("input.std")?).map_err(|e| e.to_string())?;
    match form.input.last() == Some(&normalize.mean().len()) {
        true => Ok(plan.normalized(normalize)),
        false => Err(format!("input: expected a mean for each channel, found {}", normalize.mean().len())),
    }
}

/// Puts the inputs of a node and the constants of the file in the order of the operands.
fn operands(
    node: &NodeForm,
    op: &dyn Operation,
    array: &dyn Fn(&str) -> Option<Array>,
) -> std::result::Result<Vec<Operand>, String> {
    let constant = |place: usize| match array(&op.operand(place)) {
        Some(Array::F32(t)) => Some(Operand::Constant(t)),
        _ => None,
    };
    let mut operands: Vec<Operand> = Vec::new();
    let mut inputs = node.inputs.iter();
    if node.constants.is_empty() {
        operands.extend(inputs.map(|&i| Operand::Node(i)));
        while let Some(operand) = constant(operands.len()) {
            operands.push(operand);
        }
        return Ok(operands);
    }
    for place in 0..node.inputs.len().saturating_add(node.constants.len()) {
        operands.push(if node.constants.contains(&place) {
            constant(place).ok_or_else(|| format!("expected floats `{}`, found none", op.operand(place)))?
        } else {
            let input = inputs.next().ok_or_else(|| format!("expected an input at {place}, found none"))?;
            Operand::Node(*input)
        });
    }
    Ok(operands)
}
