//! Entries of operations that name axes or broadcast over them.
//!
//! A plan has the channels of an image last, a file has them first. An operation that keeps the number of axes is written
//! with the places that its axes have in the file; one that changes it works on a value in the order of the plan.

use super::graph::Attribute;
use super::operands::{Result, is_image, operand, settings, shape_of_input};
use super::writer::{Value, Writer, oihw};
use fixnet_autograd::ops;
use fixnet_nn::plan::{Node, Operand, Plan};

/// For each axis of an image in the plan, its place in the file.
const PLACES: [i64; 4] = [0, 2, 3, 1];
/// For each axis of an image in the file, the axis in the plan.
const AXES: [usize; 4] = [0, 3, 1, 2];

/// The place in the file of an axis of a value with this shape, without the axis of the batch.
fn place(axis: usize, shape: &[usize]) -> i64 {
    if is_image(shape) { PLACES[axis] } else { axis as i64 }
}

/// A value of the file in the order of the plan.
pub(super) fn in_plan_order(w: &mut Writer, node: &Node, x: String, shape: &[usize]) -> String {
    match is_image(shape) {
        true => w.graph.node(node.name(), "Transpose", &[&x], &[Attribute::Ints("perm", PLACES.to_vec())]),
        false => x,
    }
}

/// A value in the order of the plan as the file has it.
pub(super) fn in_file_order(w: &mut Writer, node: &Node, x: String) -> Value {
    let perm = || AXES.iter().map(|&axis| axis as i64).collect();
    Value::Real(match is_image(node.shape()) {
        true => w.graph.node(node.name(), "Transpose", &[&x], &[Attribute::Ints("perm", perm())]),
        false => x,
    })
}

/// The name of a constant of a node.
pub(super) fn constant_name(node: &Node, index: usize) -> String {
    let layer = if node.name().is_empty() { node.op().kind() } else { node.name() };
    format!("{layer}.{}", node.op().operand(index))
}

/// An operation of two values whose shapes broadcast. The traced ones have as many axes as the output: with fewer, their
/// batch would not stay first.
pub(super) fn broadcast(w: &mut Writer, node: &Node, op: &str) -> Result<Value> {
    let mut names = Vec::new();
    for (index, operand_of) in node.operands().iter().enumerate() {
        names.push(match operand_of {
            Operand::Constant(t) if is_image(node.shape()) => {
                let shape = [&vec![1; 4 - t.shape().len().min(4)][..], t.shape()].concat();
                let (shape, values) = oihw(&shape, t.data());
                w.graph.floats(&constant_name(node, index), &shape, &values)
            }
            Operand::Constant(t) => w.graph.floats(&constant_name(node, index), t.shape(), t.data()),
            Operand::Node(i) => w.real(*i),
        });
    }
    let [x, y] = names.as_slice() else { return Err(("two operands", names.len().to_string())) };
    // A constant factor comes first, as in `Writer::times`.
    let (x, y) = if op == "Mul" && matches!(node.operands()[1], Operand::Constant(_)) { (y, x) } else { (x, y) };
    Ok(Value::Real(w.graph.node(node.name(), op, &[x, y], &[])))
}

/// The sum of `x` over places of the file.
fn sum_over(w: &mut Writer, node: &Node, x: &str, places: &[i64], keep: bool) -> String {
    let axes = w.graph.ints("axes", places);
    w.graph.node(node.name(), "ReduceSum", &[x, &axes], &[Attribute::Int("keepdims", keep.into())])
}

fn reduce(w: &mut Writer, node: &Node, plan: &Plan, axes: &[usize], keep: bool) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let shape = shape_of_input(node, plan);
    if keep {
        let places: Vec<i64> = axes.iter().map(|&axis| place(axis, shape)).collect();
        return Ok(Value::Real(sum_over(w, node, &x, &places, true)));
    }
    let x = in_plan_order(w, node, x, shape);
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let sum = sum_over(w, node, &x, &axes, false);
    Ok(in_file_order(w, node, sum))
}

pub(super) fn sum(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let ops::Sum { axes, keep } = settings(node)?;
    reduce(w, node, plan, axes, *keep)
}

// `ReduceMean` takes its axes in another way in the opset of 4-bit weights; a sum takes them alike in both.
pub(super) fn mean(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let ops::Mean { axes, keep } = settings(node)?;
    let shape = shape_of_input(node, plan);
    let count: usize = axes.iter().filter_map(|&axis| shape.get(axis.wrapping_sub(1))).product();
    let x = reduce(w, node, plan, axes, *keep)?;
    let Value::Real(sum) = x else { return Err(("a sum", "another value".into())) };
    let share = w.scalar("share", (1.0 / count as f64) as f32);
    Ok(Value::Real(w.times(node.name(), &share, &sum)))
}

pub(super) fn concat(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::Concat { axis } = *settings(node)?;
    let names = (0..node.operands().len()).map(|i| operand(w, node, i)).collect::<Result<Vec<_>>>()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let axis = Attribute::Int("axis", place(axis, node.shape()));
    Ok(Value::Real(w.graph.node(node.name(), "Concat", &names, &[axis])))
}

pub(super) fn slice(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::Slice { axis, start, end } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let [start, end] = [start, end].map(|n| n as i64);
    let constants = [("starts", start), ("ends", end), ("axes", place(axis, node.shape()))]
        .map(|(name, value)| w.graph.ints(name, &[value]));
    let inputs: Vec<&str> = std::iter::once(x.as_str()).chain(constants.iter().map(String::as_str)).collect();
    Ok(Value::Real(w.graph.node(node.name(), "Slice", &inputs, &[])))
}

pub(super) fn permute(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::Permute { order } = settings(node)?;
    let x = operand(w, node, 0)?;
    let perm = match is_image(node.shape()) {
        true => AXES.iter().map(|&axis| PLACES[order[axis]]).collect(),
        false => order.iter().map(|&axis| axis as i64).collect(),
    };
    Ok(Value::Real(w.graph.node(node.name(), "Transpose", &[&x], &[Attribute::Ints("perm", perm)])))
}

pub(super) fn softmax(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::Softmax { axis } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let axis = Attribute::Int("axis", place(axis, node.shape()));
    Ok(Value::Real(w.graph.node(node.name(), "Softmax", &[&x], &[axis])))
}

// `LayerNormalization` came with opset 17.
pub(super) fn layer_norm(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::LayerNorm { eps } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let layer = if node.name().is_empty() { "layer_norm" } else { node.name() };
    let last = [place(node.shape().len(), node.shape())];
    let channels = node.shape().last().copied().unwrap_or(1);
    let share = w.scalar("share", (1.0 / channels as f64) as f32);
    let total = sum_over(w, node, &x, &last, true);
    let mean = w.times(layer, &share, &total);
    let centred = w.graph.node(layer, "Sub", &[&x, &mean], &[]);
    let squares = w.graph.node(layer, "Mul", &[&centred, &centred], &[]);
    let total = sum_over(w, node, &squares, &last, true);
    let variance = w.times(layer, &share, &total);
    let eps = w.scalar("eps", eps);
    let above = w.graph.node(layer, "Add", &[&variance, &eps], &[]);
    let deviation = w.graph.node(layer, "Sqrt", &[&above], &[]);
    let normalized = w.graph.node(layer, "Div", &[&centred, &deviation], &[]);
    let [weight, bias] = ["weight", "bias"].map(|name| node.constant(name).map(|t| t.data().to_vec()));
    let (Some(weight), Some(bias)) = (weight, bias) else { return Err(("a factor and an offset", "none".into())) };
    let image = is_image(node.shape());
    let scaled = w.channels(layer, "Mul", &normalized, "weight", &weight, image);
    Ok(Value::Real(w.channels(layer, "Add", &scaled, "bias", &bias, image)))
}
