//! Entries of operations on rows of tokens: products with a weight of values that have more axes than one, products of two
//! values, and a row before the others.

use super::axes::{constant_name, in_file_order, in_plan_order};
use super::graph::Attribute;
use super::operands::{Result, operand, settings, shape_of_input};
use super::writer::{Value, Writer};
use fixnet_autograd::ops;
use fixnet_nn::plan::{Node, Operand, Plan};
use fixnet_quant::{FixedMatmul, FixedProduct};
use fixnet_tensor::{Codes, Tensor};

/// A value with its last two axes exchanged; `axes` is how many it has, with that of the batch.
fn turned(w: &mut Writer, layer: &str, x: &str, axes: usize) -> String {
    let mut perm: Vec<i64> = (0..axes as i64).collect();
    perm.swap(axes - 2, axes - 1);
    w.graph.node(layer, "Transpose", &[x], &[Attribute::Ints("perm", perm)])
}

/// The numbers of a matrix of so many rows and columns, column by column.
fn by_columns<T: Copy>(rows: usize, columns: usize, at: impl Fn(usize) -> T) -> Vec<T> {
    (0..rows * columns).map(|k| at(k % rows * columns + k / rows)).collect()
}

/// A product of each row with one weight, perhaps quantized, and its bias. (`Gemm` takes matrices alone.)
pub(super) fn linear(w: &mut Writer, node: &Node, plan: &Plan, quantized: Option<&FixedProduct>) -> Result<Value> {
    let layer = node.name();
    let x = operand(w, node, 0)?;
    let mut x = in_plan_order(w, node, x, shape_of_input(node, plan));
    // Weights are written as the product takes them, [I, O]: runtimes move a Transpose across quantizers, and one of them then
    // takes another type for its result.
    let matrix = |shape: &[usize]| match *shape {
        [o, i] => Ok([o, i]),
        _ => Err(("a weight [O, I]", format!("{shape:?}"))),
    };
    let weight = match quantized {
        Some(product) => {
            x = w.quantize(layer, &x, product.input());
            let codes = product.weight();
            let [o, i] = matrix(codes.shape())?;
            let levels = by_columns(o, i, |k| codes.level(k));
            let turned = Codes::from_levels(&[i, o], codes.range(), codes.scale(), &levels);
            w.weight_levels(layer, &turned.map_err(|e| ("levels of their range", e.to_string()))?)
        }
        None => {
            let weight = node.constant("weight").ok_or(("a weight", "none".to_string()))?;
            let [o, i] = matrix(weight.shape())?;
            let values = by_columns(o, i, |k| weight.data()[k]);
            w.graph.floats(&format!("{layer}.weight"), &[i, o], &values)
        }
    };
    let mut y = w.graph.node(layer, "MatMul", &[&x, &weight], &[]);
    if let Some(product) = quantized {
        y = w.whole(layer, y);
        y = w.channels(layer, "Mul", &y, "unit", product.units().data(), false);
    }
    if let Some(bias) = node.constant("bias").map(Tensor::data) {
        y = w.channels(layer, "Add", &y, "bias", bias, false);
    }
    Ok(in_file_order(w, node, y))
}

pub(super) fn matmul(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let quantized = node.get::<FixedMatmul>();
    let transposed = match quantized {
        Some(product) => product.transposed,
        None => settings::<ops::Matmul>(node)?.transposed,
    };
    let mut names = Vec::new();
    for (index, operand_of) in node.operands().iter().enumerate() {
        let (mut x, axes) = match operand_of {
            Operand::Constant(t) => (w.graph.floats(&constant_name(node, index), t.shape(), t.data()), t.shape().len()),
            Operand::Node(i) => {
                let x = w.real(*i);
                let shape = plan.nodes()[*i].shape();
                (in_plan_order(w, node, x, shape), shape.len() + 1)
            }
        };
        // Before the quantizer, as weights are.
        if transposed && index == 1 {
            x = turned(w, node.name(), &x, axes);
        }
        if let Some(product) = quantized {
            let side = ["left", "right"].get(index).ok_or(("two operands", index.to_string()))?;
            x = w.quantize(&format!("{}.{side}", node.name()), &x, product.inputs[index]);
        }
        names.push(x);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut y = w.graph.node(node.name(), "MatMul", &names, &[]);
    if let Some(product) = quantized {
        y = w.whole(node.name(), y);
        let unit = w.scalar(&format!("{}.unit", node.name()), product.unit);
        y = w.times(node.name(), &unit, &y);
    }
    Ok(in_file_order(w, node, y))
}

// The row is repeated for each image of the batch, whose number is that of the input.
pub(super) fn prepend(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let row = node.constant("token").ok_or(("a row", "none".to_string()))?;
    let layer = if node.name().is_empty() { "prepend" } else { node.name() };
    let (shape, values) = (row.shape().to_vec(), row.data().to_vec());
    let row = w.graph.floats(&format!("{layer}.token"), &shape, &values);
    let [start, end] = [("starts", 0), ("ends", 1)].map(|(name, v)| w.graph.ints(name, &[v]));
    let lengths = w.graph.node(layer, "Shape", &[&x], &[]);
    let batch = w.graph.node(layer, "Slice", &[&lengths, &start, &end], &[]);
    let others = w.graph.ints("shape", &[1, shape[2] as i64]);
    let lengths = w.graph.node(layer, "Concat", &[&batch, &others], &[Attribute::Int("axis", 0)]);
    let rows = w.graph.node(layer, "Expand", &[&row, &lengths], &[]);
    Ok(Value::Real(w.graph.node(layer, "Concat", &[&rows, &x], &[Attribute::Int("axis", 1)])))
}
