//! Functions of one number, and sums, products and the like of values and constants.

use super::act::Act;
use super::constant::{self, Constant};
use super::lower::{Item, Lowering, float, int, text};
use super::problem::Result;
use super::products;
use super::program::{Input, Parameter};
use super::read::op_of;
use crate::onnx::messages::Node;
use fixnet_autograd::ops::{self, Arithmetic, Elementwise};
use fixnet_tensor::Tensor;
use std::sync::Arc;

fn one(act: &Act, value: usize) -> Vec<Item> {
    vec![Item::Act(act.with(value))]
}

pub(super) fn unary(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if let Item::Constant(c) = low.item(node, 0)? {
        let f: fn(f32) -> f32 = match op_of(node) {
            "Sqrt" => f32::sqrt,
            "Neg" => |v| -v,
            _ => return Err(low.odd(node, "an input that depends on that of the network", "a constant")),
        };
        let values = c.as_floats().filter(|v| v.len() <= constant::MOST);
        let values = values.ok_or_else(|| low.odd(node, "a small constant of floats", format!("{:?}", c.shape)))?;
        let values = values.iter().map(|&v| f(v)).collect();
        return Ok(vec![Item::Constant(Arc::new(Constant::floats(&c.shape, values)))]);
    }
    let act = low.any(node, 0)?;
    let op = match op_of(node) {
        "Relu" => return low.op(&act, ops::Relu, Vec::new()).map(|v| one(&act, v)),
        "Neg" => return low.op(&act, ops::Scale { factor: -1.0 }, Vec::new()).map(|v| one(&act, v)),
        "Exp" => Elementwise::Exp,
        "Log" => Elementwise::Log,
        "Sqrt" => Elementwise::Sqrt,
        "Sigmoid" => Elementwise::Sigmoid,
        "Tanh" => Elementwise::Tanh,
        "LeakyRelu" => Elementwise::LeakyRelu { slope: float(node, "alpha", 0.01) },
        "Gelu" if matches!(text(node, "approximate").as_str(), "" | "none") => Elementwise::Gelu,
        _ => return Err(low.odd(node, "approximate = none", text(node, "approximate"))),
    };
    let value = low.op(&act, op, Vec::new())?;
    Ok(one(&act, value))
}

/// `alpha · x + beta` held to 0 to 1, and times `x` of a hard swish.
pub(super) fn hard(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.any(node, 0)?;
    let swish = op_of(node) == "HardSwish";
    let (alpha, beta) = if swish { (1.0 / 6.0, 0.5) } else { (float(node, "alpha", 0.2), float(node, "beta", 0.5)) };
    let scaled = low.op(&act, ops::Scale { factor: alpha }, Vec::new())?;
    let shifted = low.op(&act.with(scaled), Arithmetic::Add, vec![Input::Constant(Tensor::scalar(beta))])?;
    let held = ops::Clamp::new(0.0, 1.0).map_err(|e| low.misfit(node, e))?;
    let mut value = low.op(&act.with(shifted), held, Vec::new())?;
    if swish {
        value = low.op(&act, Arithmetic::Mul, vec![Input::Value(value)])?;
    }
    Ok(one(&act, value))
}

pub(super) fn clip(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.any(node, 0)?;
    let mut ends = [f32::NEG_INFINITY, f32::INFINITY];
    for (i, end) in ends.iter_mut().enumerate() {
        if let Some(c) = low.constant_or_none(node, i + 1)? {
            *end = c.scalar().ok_or_else(|| low.odd(node, "ends of one number", format!("{:?}", c.shape)))?;
        }
    }
    let clamp = ops::Clamp::new(ends[0], ends[1]).map_err(|e| low.misfit(node, e))?;
    let value = low.op(&act, clamp, Vec::new())?;
    Ok(one(&act, value))
}

pub(super) fn softmax(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.any(node, 0)?;
    let act = low.unfolded(&act)?;
    let axis = axis_of(low, node, &act, int(node, "axis", -1))?;
    let value = low.op(&act, ops::Softmax { axis: act.place(axis) }, Vec::new())?;
    Ok(one(&act, value))
}

/// An axis of the file, not that of the batch, counted from 1 among the others.
pub(super) fn axis_of(low: &Lowering<'_>, node: &Node, act: &Act, axis: i64) -> Result<usize> {
    let axes = act.file_axes();
    let place = if axis < 0 { axis.saturating_add(axes.len() as i64) } else { axis };
    let found = usize::try_from(place).ok().and_then(|place| *axes.get(place)?);
    found.map(|axis| axis + 1).ok_or_else(|| {
        let batch = axes.iter().position(Option::is_none).unwrap_or(0);
        low.odd(node, format!("an axis from 0 to {}, not that of the batch, {batch}", axes.len() - 1), axis)
    })
}

/// A constant in the order that a value has in memory.
fn stored(low: &Lowering<'_>, node: &Node, act: &Act, c: &Constant) -> Result<(Vec<usize>, Option<Tensor>)> {
    let dims = &act.dims;
    let odd = || low.odd(node, format!("a constant that broadcasts to [1, {dims:?}]"), format!("{:?}", c.shape));
    let axes = act.file_axes();
    let first = axes.len().checked_sub(c.shape.len()).ok_or_else(odd)?;
    let mut padded = vec![1; dims.len()];
    for (axis, &length) in axes[first..].iter().zip(&c.shape) {
        match axis {
            Some(axis) if length == 1 || length == dims[*axis] => padded[*axis] = length,
            None if length == 1 => {}
            _ => return Err(odd()),
        }
    }
    let shape: Vec<usize> = act.order.iter().map(|&axis| padded[axis]).collect();
    let data = match &c.data {
        constant::Data::Float(data) => data.as_ref().map(|d| d.to_vec()),
        constant::Data::Int(_) => return Err(low.odd(node, "a constant of floats", "whole numbers")),
    };
    let tensor = data.and_then(|data| {
        let places = super::act::positions(&padded, &act.order);
        Tensor::from_vec(&shape, places.iter().map(|&p| data[p]).collect()).ok()
    });
    // Without leading axes of length 1.
    let first = shape.iter().position(|&l| l != 1).unwrap_or(shape.len());
    let short = shape[first..].to_vec();
    let tensor = tensor.and_then(|t| t.reshape(&short).ok());
    Ok((short, tensor))
}

/// A constant as an operand: a parameter if it is a tensor of the file behind the first layer with weights, else a constant.
fn operand(low: &mut Lowering<'_>, node: &Node, act: &Act, c: &Constant) -> Result<Input> {
    let (shape, tensor) = stored(low, node, act, c)?;
    let finite = c.as_floats().is_none_or(|v| v.iter().all(|v| v.is_finite()));
    match (&c.name, tensor) {
        (Some(name), value) if c.len() > 1 && finite && low.has_layers() => {
            let name = low.names.parameter(name, node.name.as_deref().unwrap_or(""), op_of(node));
            Ok(Input::Parameter(Parameter { name, shape, value }))
        }
        (_, Some(t)) => Ok(Input::Constant(t)),
        (_, None) => Err(low.odd(node, "a constant with its numbers", "none")),
    }
}

pub(super) fn binary(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let op = op_of(node);
    let kind = match op {
        "Add" => Arithmetic::Add,
        "Sub" => Arithmetic::Sub,
        "Mul" => Arithmetic::Mul,
        _ => Arithmetic::Div,
    };
    if op == "Mod" {
        low.constant(node, 0).and_then(|_| low.constant(node, 1))?;
    }
    match (low.item(node, 0)?, low.item(node, 1)?) {
        (Item::Constant(x), Item::Constant(y)) => match constant::binary(op, &x, &y) {
            Some(c) => Ok(vec![Item::Constant(Arc::new(c))]),
            None => Err(low.odd(node, "constants that fit each other", format!("{:?} and {:?}", x.shape, y.shape))),
        },
        (Item::Act(x), Item::Act(y)) => acts(low, node, x, y, kind),
        (Item::Act(x), Item::Constant(c)) => with_constant(low, node, x, (&c, 1), kind),
        (Item::Constant(c), Item::Act(x)) => with_constant(low, node, x, (&c, 0), kind),
    }
}

fn acts(low: &mut Lowering<'_>, node: &Node, x: Act, y: Act, kind: Arithmetic) -> Result<Vec<Item>> {
    let (mut x, mut y) = (x, y);
    if x.image != y.image || x.dims != y.dims {
        (x, y) = (low.unfolded(&x)?, low.unfolded(&y)?);
    }
    if (x.batch, x.joined) != (y.batch, y.joined) {
        let found = format!("axes {} and {}, or one of them joined with another", x.batch, y.batch);
        return Err(low.odd(node, "two values with the axis of the batch in one place", found));
    }
    let fit = x.dims.len() == y.dims.len() && x.dims.iter().zip(&y.dims).all(|(&a, &b)| a == b || a == 1 || b == 1);
    if !fit {
        let found = format!("[N, {:?}] and [N, {:?}]", x.dims, y.dims);
        return Err(low.odd(node, "two values with as many axes, of equal lengths or of length 1", found));
    }
    if x.order != y.order {
        // The larger one stays as it is.
        let size = |a: &Act| a.dims.iter().product::<usize>();
        if size(&x) >= size(&y) {
            y = low.ordered(&y, &x.order.clone())?
        } else {
            x = low.ordered(&x, &y.order.clone())?
        }
    }
    let value = low.op(&x, kind, vec![Input::Value(y.value)])?;
    let dims = x.dims.iter().zip(&y.dims).map(|(&a, &b)| if a == 1 { b } else { a }).collect();
    Ok(vec![Item::Act(Act { value, dims, ..x })])
}

fn with_constant(
    low: &mut Lowering<'_>,
    node: &Node,
    act: Act,
    (c, place): (&Arc<Constant>, usize),
    kind: Arithmetic,
) -> Result<Vec<Item>> {
    if kind == Arithmetic::Add
        && let Some(item) = products::added(low, node, &act, 1 - place)?
    {
        return Ok(vec![item]);
    }
    if let (Arithmetic::Mul, Some(factor)) = (kind, c.scalar().filter(|_| c.shape.len() <= act.dims.len() + 1)) {
        let value = low.op(&act, ops::Scale { factor }, Vec::new())?;
        return Ok(one(&act, value));
    }
    let act = if c.len() == 1 { act } else { low.unfolded(&act)? };
    let other = operand(low, node, &act, c)?;
    let own = Input::Value(act.value);
    let inputs = if place == 0 { vec![other, own] } else { vec![own, other] };
    let value = low.op_of(node, &act, Arc::new(kind), inputs)?;
    Ok(one(&act, value))
}

pub(super) fn pow(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let exponent = low.constant(node, 1)?;
    if let Item::Constant(x) = low.item(node, 0)? {
        let power = constant::binary("Pow", &x, &exponent)
            .filter(|c| c.as_floats().is_some_and(|v| v.iter().all(|v| v.is_finite())));
        return match power {
            Some(c) => Ok(vec![Item::Constant(Arc::new(c))]),
            None => Err(low.odd(node, "a square or a root of a constant", format!("{:?}", exponent.scalar()))),
        };
    }
    let act = low.any(node, 0)?;
    let value = match exponent.scalar() {
        Some(2.0) => low.op(&act, Arithmetic::Mul, vec![Input::Value(act.value)])?,
        Some(0.5) => low.op(&act, Elementwise::Sqrt, Vec::new())?,
        found => return Err(low.odd(node, "the exponent 2 or 0.5", format!("{found:?}"))),
    };
    Ok(one(&act, value))
}

/// `max(x, 0) + slope · min(x, 0)`, the slope learned.
pub(super) fn prelu(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.act(node, 0)?;
    let act = low.unfolded(&act)?;
    let slope = low.constant(node, 1)?;
    let slope = match (slope.scalar(), operand(low, node, &act, &slope)?) {
        (Some(_), Input::Constant(t)) => {
            let name = low.names.parameter(&node.input[1], node.name.as_deref().unwrap_or(""), op_of(node));
            Input::Parameter(Parameter { name, shape: t.shape().to_vec(), value: Some(t) })
        }
        (_, other) => other,
    };
    let below = ops::Clamp::new(f32::NEG_INFINITY, 0.0).map_err(|e| low.misfit(node, e))?;
    let positive = low.op(&act, ops::Relu, Vec::new())?;
    let negative = low.op(&act, below, Vec::new())?;
    let scaled = low.op(&act.with(negative), Arithmetic::Mul, vec![slope])?;
    let value = low.op(&act.with(positive), Arithmetic::Add, vec![Input::Value(scaled)])?;
    Ok(one(&act, value))
}
