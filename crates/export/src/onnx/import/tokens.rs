//! Learned tokens before or behind those of a sample: a row of the file that `Expand` repeats for the batch and `Concat` puts there.

use super::act::Act;
use super::constant::{BATCH, Constant};
use super::lower::{Item, Lowering};
use super::problem::Result;
use super::program::{Input, Parameter};
use super::read::op_of;
use crate::onnx::messages::Node;
use fixnet_autograd::ops;
use std::sync::Arc;

/// Whether a constant [1, ..] repeated to the shape `target` is one for each sample of the batch. It is kept as it is: an axis of
/// length 1 stands for that of the batch wherever constants meet values.
pub(super) fn is_repeated(low: &Lowering<'_>, c: &Constant, target: &[i64]) -> bool {
    let Some((&batch, rest)) = target.split_first() else { return false };
    let keeps = |(&d, &to): (&usize, &i64)| to == 1 || i64::try_from(d) == Ok(to);
    (batch == BATCH || low.file.batch == Some(batch))
        && c.as_ints().is_none()
        && c.shape.first() == Some(&1)
        && c.shape.len() == target.len()
        && c.shape[1..].iter().zip(rest).all(keeps)
}

/// A row [1, 1, C] as an operand: a parameter where it is a tensor of the file behind the first layer with weights.
fn row(low: &mut Lowering<'_>, node: &Node, c: &Constant, width: usize) -> Result<Input> {
    let odd =
        |low: &Lowering<'_>, found: String| low.odd(node, format!("a token [1, 1, {width}] of finite floats"), found);
    let Some(value) = c.tensor().filter(|_| c.shape == [1, 1, width]) else {
        return Err(odd(low, format!("{:?}", c.shape)));
    };
    if let Some(v) = c.as_floats().and_then(|v| v.iter().find(|v| !v.is_finite())) {
        return Err(odd(low, v.to_string()));
    }
    match (&c.name, value) {
        (Some(name), value) if low.has_layers() => {
            let name = low.names.parameter(name, node.name.as_deref().unwrap_or(""), op_of(node));
            Ok(Input::Parameter(Parameter { name, shape: c.shape.clone(), value }))
        }
        (_, Some(value)) => Ok(Input::Constant(value)),
        (_, None) => Err(odd(low, "none".into())),
    }
}

/// A token before the tokens of each sample.
fn before(low: &mut Lowering<'_>, node: &Node, c: &Constant, act: &Act) -> Result<Act> {
    let row = row(low, node, c, act.dims[1])?;
    let value = low.op(act, ops::Prepend, vec![row])?;
    Ok(Act::plain(value, vec![act.dims[0] + 1, act.dims[1]]))
}

/// Values and tokens one behind the other along the axis of the tokens, from the last to the first.
pub(super) fn concat(low: &mut Lowering<'_>, node: &Node, items: Vec<Item>, axis: i64) -> Result<Vec<Item>> {
    let mut parts = Vec::new();
    for (i, item) in items.into_iter().enumerate() {
        parts.push(match item {
            Item::Constant(c) => Err(c),
            Item::Act(_) => {
                let act = low.act(node, i)?;
                let act = low.straight(&act)?;
                if act.dims.len() != 2 || !matches!(axis, 1 | -2) {
                    let found = format!("[N, {:?}] and axis {axis}", act.dims);
                    return Err(low.odd(node, "tokens [N, T, C] beside a constant, and axis 1", found));
                }
                Ok(act)
            }
        });
    }
    let mut done: Option<Act> = None;
    for i in (0..parts.len()).rev() {
        done = Some(match (&parts[i], done) {
            (Err(c), Some(act)) => before(low, node, &Arc::clone(c), &act)?,
            // The last one is cut off where it stands before other tokens.
            (Err(c), None) => {
                let Some(Ok(other)) = parts.iter().find(|part| part.is_ok()).cloned() else {
                    return Err(low.odd(node, "a value that depends on the input of the network", "constants"));
                };
                let act = before(low, node, &Arc::clone(c), &other)?;
                let value = low.op(&act, ops::Slice { axis: 1, start: 0, end: 1 }, Vec::new())?;
                Act::plain(value, vec![1, act.dims[1]])
            }
            (Ok(act), None) => act.clone(),
            (Ok(act), Some(rest)) => {
                if act.dims[1] != rest.dims[1] {
                    let found = format!("{} and {}", act.dims[1], rest.dims[1]);
                    return Err(low.odd(node, "tokens of one width", found));
                }
                let value = low.op(act, ops::Concat { axis: 1 }, vec![Input::Value(rest.value)])?;
                Act::plain(value, vec![act.dims[0] + rest.dims[0], act.dims[1]])
            }
        });
    }
    done.map(|act| vec![Item::Act(act)]).ok_or_else(|| low.odd(node, "inputs", "none"))
}
