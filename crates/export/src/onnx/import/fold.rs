//! What is computed of constants and of shapes alone. The length of the axis of the batch stays open.

use super::constant::{Constant, Data, MOST, is_sound, per_sample};
use super::lower::{Item, Lowering, attribute, int, ints};
use super::problem::Result;
use super::{act, constant, layout, tokens};
use crate::onnx::messages::Node;
use std::sync::Arc;

fn given(c: Constant) -> Result<Vec<Item>> {
    Ok(vec![Item::Constant(Arc::new(c))])
}

/// An input of whole numbers; `None` if it is left out.
pub(super) fn whole_numbers(low: &Lowering<'_>, node: &Node, index: usize) -> Result<Option<Vec<i64>>> {
    match low.constant_or_none(node, index)? {
        None => Ok(None),
        Some(c) => match c.as_ints() {
            Some(values) if values.len() <= 64 => Ok(Some(values.to_vec())),
            _ => Err(low.odd(node, "a short list of whole numbers", format!("{:?}", c.shape))),
        },
    }
}

pub(super) fn constant(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if let Some(t) = attribute(node, "value").and_then(|a| a.t.as_deref()) {
        let name = node.output.first().map_or("", String::as_str);
        return given(Constant { name: None, ..Constant::decode(t, name, false)? });
    }
    if let Some(v) = attribute(node, "value_float").and_then(|a| a.f) {
        return given(Constant::floats(&[], vec![v]));
    }
    if let Some(v) = attribute(node, "value_int").and_then(|a| a.i).filter(|&v| per_sample(v).is_none()) {
        return given(Constant::ints(&[], vec![v]));
    }
    if let Some(a) = attribute(node, "value_ints").filter(|a| a.ints.iter().all(|&v| per_sample(v).is_none())) {
        return given(Constant::ints(&[a.ints.len()], a.ints.clone()));
    }
    if let Some(a) = attribute(node, "value_floats") {
        return given(Constant::floats(&[a.floats.len()], a.floats.clone()));
    }
    Err(low.odd(node, "numbers", "none"))
}

pub(super) fn shape(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let lengths = match low.item(node, 0)? {
        Item::Act(act) => Lowering::lengths(&act),
        Item::Constant(c) => c.shape.iter().map(|&d| d as i64).collect(),
    };
    let rank = lengths.len() as i64;
    let within = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (within(int(node, "start", 0)), within(int(node, "end", rank)));
    let values = lengths[start.min(end)..end].to_vec();
    given(Constant::ints(&[values.len()], values))
}

/// A constant with `len` elements of a shape that is not too large.
fn lengths(low: &Lowering<'_>, node: &Node, values: &[i64]) -> Result<(Vec<usize>, usize)> {
    let shape: Option<Vec<usize>> = values.iter().map(|&v| usize::try_from(v).ok()).collect();
    let len = shape.as_ref().and_then(|s| s.iter().try_fold(1usize, |n, &d| n.checked_mul(d)));
    match (shape, len) {
        (Some(shape), Some(len)) if len <= MOST && is_sound(&shape) => Ok((shape, len)),
        _ => Err(low.odd(node, format!("a constant of at most {MOST} numbers"), format!("the shape {values:?}"))),
    }
}

pub(super) fn of_shape(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let values = whole_numbers(low, node, 0)?.unwrap_or_default();
    let (shape, len) = lengths(low, node, &values)?;
    let value = match attribute(node, "value").and_then(|a| a.t.as_deref()) {
        Some(t) => Constant::decode(t, "value", false)?,
        None => Constant::floats(&[1], vec![0.0]),
    };
    match (&value.data, value.scalar()) {
        (Data::Int(v), Some(_)) => given(Constant::ints(&shape, vec![v[0]; len])),
        (_, Some(v)) => given(Constant::floats(&shape, vec![v; len])),
        _ => Err(low.odd(node, "one number", format!("{:?}", value.shape))),
    }
}

/// Whether whole numbers are equal: of a shape, where exporters leave lengths as they are.
pub(super) fn equal(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let (x, y) = (low.constant(node, 0)?, low.constant(node, 1)?);
    match constant::binary("Equal", &x, &y) {
        Some(c) => given(c),
        None => Err(low.odd(node, "lengths of a shape", format!("{:?} and {:?}", x.shape, y.shape))),
    }
}

/// One of two whole numbers, by a third that is 1 or 0.
pub(super) fn choice(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let [which, x, y] = [low.constant(node, 0)?, low.constant(node, 1)?, low.constant(node, 2)?];
    let (Some(which_of), Some(a), Some(b)) = (which.as_ints(), x.as_ints(), y.as_ints()) else {
        return Err(low.odd(node, "whole numbers of a shape", "floats"));
    };
    let fits = |c: &Constant| c.len() == 1 || c.len() == which.len();
    if which.len() > MOST || !fits(&x) || !fits(&y) {
        let found = format!("{:?}, {:?} and {:?}", which.shape, x.shape, y.shape);
        return Err(low.odd(node, "lists of one length", found));
    }
    let at = |v: &[i64], i: usize| v[if v.len() == 1 { 0 } else { i }];
    let values = which_of.iter().enumerate().map(|(i, &first)| at(if first != 0 { a } else { b }, i)).collect();
    given(Constant::ints(&which.shape, values))
}

/// A constant of one number, repeated; or one of each sample, repeated for the batch.
pub(super) fn expand(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let c = low.constant(node, 0)?;
    let target = whole_numbers(low, node, 1)?.unwrap_or_default();
    if tokens::is_repeated(low, &c, &target) {
        return Ok(vec![Item::Constant(c)]);
    }
    let (shape, len) = lengths(low, node, &target)?;
    if len == c.len() {
        let shape = if shape.len() >= c.shape.len() { shape } else { c.shape.clone() };
        return given(Constant { name: None, shape, data: c.data.clone() });
    }
    match (&c.data, c.len()) {
        (Data::Int(v), 1) => given(Constant::ints(&shape, vec![v[0]; len])),
        (Data::Float(Some(v)), 1) => given(Constant::floats(&shape, vec![v[0]; len])),
        _ => Err(low.odd(node, "one number to repeat", format!("{:?}", c.shape))),
    }
}

pub(super) fn gather(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let indices = low.constant(node, 1)?;
    let Item::Constant(c) = low.item(node, 0)? else { return layout::gathered(low, node, &indices) };
    let (Some(values), Some(at)) = (c.as_ints(), indices.as_ints()) else {
        return Err(low.odd(node, "whole numbers of a shape", "other constants"));
    };
    let length = values.len() as i64;
    let one = |&i: &i64| values.get(usize::try_from(if i < 0 { i.saturating_add(length) } else { i }).ok()?).copied();
    let fits = c.shape.len() == 1 && at.len() <= MOST;
    let found: Option<Vec<i64>> = if fits { at.iter().map(one).collect() } else { None };
    match found {
        Some(found) => given(Constant::ints(&indices.shape, found)),
        None => Err(low.odd(
            node,
            format!("at most {MOST} indices below {length}"),
            format!("the shape {:?}", indices.shape),
        )),
    }
}

pub(super) fn concat(low: &Lowering<'_>, node: &Node, items: &[Item]) -> Result<Vec<Item>> {
    let mut values = Vec::new();
    for item in items {
        let Item::Constant(c) = item else { continue };
        match c.as_ints().filter(|v| c.shape.len() == 1 && values.len() + v.len() <= 64) {
            Some(more) => values.extend_from_slice(more),
            None => return Err(low.odd(node, "short lists of whole numbers", format!("{:?}", c.shape))),
        }
    }
    given(Constant::ints(&[values.len()], values))
}

/// The same numbers under another shape.
fn with_shape(low: &Lowering<'_>, node: &Node, c: &Constant, shape: Vec<usize>) -> Result<Vec<Item>> {
    let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    match len == Some(c.len()) && shape.len() <= 8 && is_sound(&shape) {
        true => given(Constant { name: c.name.clone(), shape, data: c.data.clone() }),
        false => Err(low.odd(node, format!("a shape of {} numbers", c.len()), format!("{shape:?}"))),
    }
}

pub(super) fn reshape(low: &Lowering<'_>, node: &Node, c: &Constant, target: &[i64]) -> Result<Vec<Item>> {
    let known = target.iter().filter(|&&d| d > 0).try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?));
    let rest = known.and_then(|known| c.len().checked_div(known)).unwrap_or(0);
    let one = |(i, &d): (usize, &i64)| match d {
        -1 => rest,
        0 => c.shape.get(i).copied().unwrap_or(0),
        d => usize::try_from(d).unwrap_or(0),
    };
    with_shape(low, node, c, target.iter().enumerate().map(one).collect())
}

pub(super) fn squeeze(low: &Lowering<'_>, node: &Node, c: &Constant, axes: &[i64]) -> Result<Vec<Item>> {
    let rank = c.shape.len() as i64;
    let gone = |i: usize| match axes {
        [] => c.shape[i] == 1,
        axes => axes.iter().any(|&a| a == i as i64 || a.saturating_add(rank) == i as i64),
    };
    with_shape(low, node, c, (0..c.shape.len()).filter(|&i| !gone(i)).map(|i| c.shape[i]).collect())
}

pub(super) fn unsqueeze(low: &Lowering<'_>, node: &Node, c: &Constant, axes: &[i64]) -> Result<Vec<Item>> {
    let mut shape = c.shape.clone();
    let rank = (c.shape.len() + axes.len()) as i64;
    let mut places: Vec<i64> = axes.iter().map(|&a| if a < 0 { a.saturating_add(rank) } else { a }).collect();
    places.sort_unstable();
    for place in places {
        match usize::try_from(place).ok().filter(|&p| p <= shape.len() && shape.len() < 8) {
            Some(p) => shape.insert(p, 1),
            None => return Err(low.odd(node, "axes of the result", format!("{axes:?}"))),
        }
    }
    with_shape(low, node, c, shape)
}

pub(super) fn transpose(low: &Lowering<'_>, node: &Node, c: &Constant) -> Result<Vec<Item>> {
    let rank = c.shape.len();
    let order: Vec<usize> = match ints(node, "perm") {
        Some(perm) => perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect(),
        None => (0..rank).rev().collect(),
    };
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(low.odd(node, format!("each of {rank} axes once"), format!("{order:?}")));
    }
    let data = match &c.data {
        Data::Float(None) => Data::Float(None),
        Data::Float(Some(v)) => {
            Data::Float(Some(Arc::new(act::positions(&c.shape, &order).iter().map(|&p| v[p]).collect())))
        }
        Data::Int(v) => Data::Int(Arc::new(act::positions(&c.shape, &order).iter().map(|&p| v[p]).collect())),
    };
    let shape = order.iter().map(|&axis| c.shape[axis]).collect();
    given(Constant { name: c.name.clone(), shape, data })
}

pub(super) fn slice(
    low: &Lowering<'_>,
    node: &Node,
    c: &Constant,
    [starts, ends, axes, steps]: [&[i64]; 4],
) -> Result<Vec<Item>> {
    let values = c.as_ints().filter(|_| c.shape.len() == 1);
    let (Some(values), [start], [end], [0 | -1], [1]) = (values, starts, ends, axes, steps) else {
        return Err(low.odd(node, "a range of a list of whole numbers", format!("{:?}", c.shape)));
    };
    let length = values.len() as i64;
    let within = |v: i64| (if v < 0 { v.saturating_add(length) } else { v }).clamp(0, length) as usize;
    let (start, end) = (within(*start), within(*end));
    let found = values[start.min(end)..end].to_vec();
    given(Constant::ints(&[found.len()], found))
}
