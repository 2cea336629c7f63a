//! Packed networks: one `safetensors` file that holds a whole network, its weight codes packed to their bits.
//!
//! The file is of the kind that checkpoints are (checksum, atomic writing). Its metadata have the operations as JSON
//! (`plan`), each with its settings ([`Operation::settings`]). Its numbers are arrays
//! called after the layer: a weight of b bits is `NAME.codes`: level + offset, b bits each, one after the other from the lowest
//! bit of the first word on; words are U64, little endian, so these are the bytes of one long bit string. All else is F32:
//! units, biases, normalizations, weights of layers that are floats, and other constants under the names of the operands.
//!
//! A layer that is used several times, as the head of a detector is for each level, gives several operations. The arrays of equal ones are in
//! the file once: later ones name the first by its index (`same_as`) and have no settings of their own. Once it is read, they share
//! its memory.
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
use fixnet_nn::plan::operations;
use fixnet_nn::plan::{Node, OUTPUT, Operand, Output, Plan};
use fixnet_tensor::{Budget, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// The key of the operations in the metadata: what has it is a packed network.
pub const PLAN: &str = "plan";
/// The form of a file in which each operation has arrays of its own.
const VERSION: u32 = 1;
/// The form of a file in which operations share arrays.
const SHARING: u32 = 2;
/// How many operations may share the arrays of one: so often may a file ask for the work that its numbers stand for.
const SHARES: usize = 64;
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
    /// The name of the layer, where the node has a longer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<String>,
    /// The index of the node before it whose operation and constants these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_as: Option<usize>,
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
    let mut nodes: Vec<NodeForm> = Vec::new();
    let shared = shared(plan);
    for (index, node) in plan.nodes().iter().enumerate().skip(1) {
        let refuse = |expected, found: &str| Error::Layer { index, layer: node.label(), expected, found: found.into() };
        if let Some(obstacle) = node.op().obstacle() {
            return Err(refuse(obstacle.expected, &obstacle.found));
        }
        let (name, op) = (key(index, node.name()), node.op());
        // Where nothing is shared, files are those of earlier versions.
        let layer = (!shared.is_empty() && node.layer() != node.name()).then(|| node.layer().to_string());
        let (inputs, kind) = (node.inputs(), op.kind().to_string());
        if let Some(&first) = shared.get(&index) {
            let (constants, settings) = (Vec::new(), Settings::new());
            let name = node.name().into();
            nodes.push(NodeForm { name, op: kind, inputs, constants, layer, same_as: Some(first), settings });
            continue;
        }
        let own = op.arrays().into_iter().map(|(part, array)| (part.to_string(), array));
        let constants = node.constants().into_iter().map(|(part, t)| (part, Array::F32(t.clone())));
        for (part, array) in own.chain(constants) {
            if arrays.insert(format!("{name}.{part}"), array).is_some() {
                return Err(refuse("a name that no other layer has", &name));
            }
        }
        let places = |o: (usize, &Operand)| matches!(o.1, Operand::Constant(_)).then_some(o.0);
        let constants: Vec<usize> = node.operands().iter().enumerate().filter_map(places).collect();
        let last = constants.first().is_none_or(|&first| first == inputs.len());
        let constants = if last { Vec::new() } else { constants };
        let name = node.name().into();
        nodes.push(NodeForm { name, op: kind, inputs, constants, layer, same_as: None, settings: op.settings() });
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
    let version = if shared.is_empty() { VERSION } else { SHARING };
    let form = PlanForm { version, input: plan.input_shape().to_vec(), normalized, nodes, outputs };
    Ok((arrays.into_iter().collect(), serde_json::to_string(&form).expect("a plan is plain data")))
}

/// The nodes that need no arrays of their own, each with the first node of its layer that has the same operation and constants.
fn shared(plan: &Plan) -> BTreeMap<usize, usize> {
    let mut firsts: BTreeMap<(&str, &str), Vec<(usize, usize)>> = BTreeMap::new();
    let mut shared = BTreeMap::new();
    for (index, node) in plan.nodes().iter().enumerate().skip(1) {
        let has_arrays = !node.op().arrays().is_empty() || !node.constants().is_empty();
        if node.layer().is_empty() || !has_arrays || node.op().obstacle().is_some() {
            continue;
        }
        let of_layer = firsts.entry((node.layer(), node.op().kind())).or_default();
        match of_layer.iter_mut().find(|(first, uses)| *uses < SHARES && is_same(&plan.nodes()[*first], node)) {
            Some((first, uses)) => {
                *uses += 1;
                shared.insert(index, *first);
            }
            None => of_layer.push((index, 0)),
        }
    }
    shared
}

/// Whether two nodes of one kind have equal settings and numbers, and equal constants at the same places.
fn is_same(a: &Node, b: &Node) -> bool {
    let equal = |a: &Tensor, b: &Tensor| {
        a.shape() == b.shape() && a.data().iter().zip(b.data()).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    let operands = |(a, b): (&Operand, &Operand)| match (a, b) {
        (Operand::Node(_), Operand::Node(_)) => true,
        (Operand::Constant(a), Operand::Constant(b)) => equal(a, b),
        _ => false,
    };
    let arrays = |((a, left), (b, right)): (&(&str, Array), &(&str, Array))| {
        a == b
            && match (left, right) {
                (Array::F32(left), Array::F32(right)) => equal(left, right),
                (Array::U64(left), Array::U64(right)) => left == right,
                (Array::I64(left), Array::I64(right)) => left == right,
                _ => false,
            }
    };
    let (left, right) = (a.op().arrays(), b.op().arrays());
    a.operands().len() == b.operands().len()
        && a.operands().iter().zip(b.operands()).all(operands)
        && a.op().settings() == b.op().settings()
        && left.len() == right.len()
        && left.iter().zip(&right).all(arrays)
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
    if ![VERSION, SHARING].contains(&form.version) {
        return Err(format!("plan: expected version {VERSION} or {SHARING}, found {}", form.version));
    }
    check_sizes(&form.input, "input")?;
    let mut plan = Plan::with_input(&form.input);
    let (mut names, mut uses) = (BTreeSet::new(), BTreeMap::new());
    for (index, node) in form.nodes.iter().enumerate() {
        let index = index + 1;
        let name = key(index, &node.name);
        let own = |e: &dyn std::fmt::Display| format!("plan: layer {index} ({name}): {e}");
        let layer = node.layer.as_deref().unwrap_or(&node.name);
        if let Some(first) = node.same_as {
            let uses = uses.entry(first).or_insert(0usize);
            *uses += 1;
            let (op, operands) = again(&plan, &form.nodes, node, first, *uses).map_err(|e| own(&e))?;
            plan.push_of(layer, &node.name, op, operands).map_err(|e| format!("layer {index}: {e}"))?;
            continue;
        }
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
        plan.push_of(layer, &node.name, op, operands).map_err(|e| format!("layer {index}: {e}"))?;
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

/// The operation and the operands of a node that shares those of node `first`, which it is the `uses`-th to do.
fn again(
    plan: &Plan,
    nodes: &[NodeForm],
    node: &NodeForm,
    first: usize,
    uses: usize,
) -> std::result::Result<(Arc<dyn Operation>, Vec<Operand>), String> {
    let of = first.checked_sub(1).and_then(|i| nodes.get(i)).zip(plan.nodes().get(first));
    // Names of layers are held to one another, as a trace has them.
    let layer = |form: &NodeForm| form.layer.clone().unwrap_or_else(|| form.name.clone());
    let fits = |(form, _): &(&NodeForm, &Node)| {
        form.same_as.is_none() && form.op == node.op && layer(form) == layer(node) && !layer(node).is_empty()
    };
    let Some((_, of)) = of.filter(fits) else {
        return Err(format!("same_as: expected a node of its layer before it with arrays of its own, found {first}"));
    };
    if !node.settings.is_empty() || !node.constants.is_empty() {
        return Err(format!("same_as: expected no settings beside it, found some of a node that is as {first}"));
    }
    if uses > SHARES {
        return Err(format!("same_as: expected at most {SHARES} nodes that are as {first}, found more"));
    }
    let count = of.inputs().len();
    if node.inputs.len() != count {
        return Err(format!("expected {count} inputs, as node {first} has, found {}", node.inputs.len()));
    }
    let mut inputs = node.inputs.iter();
    let operand = |operand: &Operand| match operand {
        Operand::Node(_) => inputs.next().map(|&i| Operand::Node(i)),
        Operand::Constant(t) => Some(Operand::Constant(t.clone())),
    };
    Ok((Arc::clone(of.op()), of.operands().iter().filter_map(operand).collect()))
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
