//! Operations that move numbers or give them other axes.

use super::act::Act;
use super::constant::{BATCH, Constant, Data, MOST};
use super::elementwise::axis_of;
use super::fold::{self, whole_numbers};
use super::lower::{Item, Lowering, int, ints, text};
use super::problem::Result;
use super::read::op_of;
use super::tokens;
use crate::onnx::messages::Node;
use fixnet_autograd::ops;
use std::sync::Arc;

/// Operations that change nothing here: a `Cast` of floats to floats, of constants to what they are.
pub(super) fn same(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let item = low.item(node, 0)?;
    let to = if op_of(node) == "Cast" { int(node, "to", 1) } else { 1 };
    match (&item, to) {
        (Item::Constant(c), 1) if op_of(node) == "Cast" => {
            let Some(values) = c.as_ints().filter(|v| v.len() <= MOST) else { return Ok(vec![item]) };
            if values.contains(&BATCH) {
                return Err(low.odd(node, "numbers that do not depend on the batch", "its length"));
            }
            let floats = values.iter().map(|&v| v as f32).collect();
            Ok(vec![Item::Constant(Arc::new(Constant::floats(&c.shape, floats)))])
        }
        (Item::Constant(c), 6 | 7) => {
            let Some(values) = c.as_floats().filter(|v| v.len() <= MOST) else { return Ok(vec![item]) };
            // Beyond 2^62 there is no length, and the lowest number stands for that of the batch.
            if let Some(odd) = values.iter().find(|v| !v.is_finite() || v.abs() > (1u64 << 62) as f32) {
                return Err(low.odd(node, "numbers that are whole numbers", odd));
            }
            let ints = values.iter().map(|&v| v as i64).collect();
            Ok(vec![Item::Constant(Arc::new(Constant::ints(&c.shape, ints)))])
        }
        (_, 1 | 6 | 7 | 9 | 11) if matches!(item, Item::Constant(_)) || to == 1 => Ok(vec![item]),
        _ => Err(low.odd(node, "floats that stay f32", format!("type {to}"))),
    }
}

pub(super) fn concat(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let items = (0..node.input.len()).map(|i| low.item(node, i)).collect::<Result<Vec<_>>>()?;
    if items.iter().all(|item| matches!(item, Item::Constant(_))) {
        return fold::concat(low, node, &items);
    }
    if items.iter().any(|item| matches!(item, Item::Constant(_))) {
        return tokens::concat(low, node, items, int(node, "axis", 0));
    }
    let mut acts: Vec<Act> = Vec::new();
    for i in 0..items.len() {
        let act = low.act(node, i)?;
        let act = low.unfolded(&act)?;
        acts.push(match acts.first().map(|first| first.order.clone()) {
            Some(order) if order.len() == act.order.len() => low.ordered(&act, &order)?,
            _ => act,
        });
    }
    let Some(first) = acts.first().cloned() else { return Err(low.odd(node, "inputs", "none")) };
    let axis = axis_of(low, node, &first, int(node, "axis", 0))?;
    let mut dims = first.dims.clone();
    for act in &acts[1..] {
        let fits = act.dims.len() == dims.len() && (0..dims.len()).all(|i| i + 1 == axis || act.dims[i] == dims[i]);
        if !fits {
            let found = format!("[N, {:?}] and [N, {:?}]", first.dims, act.dims);
            return Err(low.odd(node, "values that differ in one axis", found));
        }
        dims[axis - 1] = dims[axis - 1].saturating_add(act.dims[axis - 1]);
    }
    let more = acts[1..].iter().map(|act| super::program::Input::Value(act.value)).collect();
    let value = low.op(&first, ops::Concat { axis: first.place(axis) }, more)?;
    Ok(vec![Item::Act(Act { value, dims, ..first })])
}

pub(super) fn flatten(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.act(node, 0)?;
    let axis = int(node, "axis", 1);
    if axis != 1 {
        return Err(low.odd(node, "axis = 1", axis));
    }
    let features = act.dims.iter().product();
    Ok(vec![Item::Act(low.viewed(&act, &[features])?)])
}

pub(super) fn reshape(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let Some(target) = whole_numbers(low, node, 1)? else { return Err(low.odd(node, "a shape", "none")) };
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::reshape(low, node, &c, &target);
    }
    let act = low.any(node, 0)?;
    if act.joined {
        return apart(low, node, &act, &target);
    }
    let act = low.act(node, 0)?;
    // The heads of all samples as one axis.
    if let (Some((-1, rest)), Some((_, kept))) = (target.split_first(), act.dims.split_first())
        && rest.len() >= 2
        && rest.len() == kept.len()
        && rest.iter().zip(kept).all(|(&to, &d)| i64::try_from(d) == Ok(to))
        && act.image.is_none()
    {
        return Ok(vec![Item::Act(Act { joined: true, ..act })]);
    }
    let keeps_zero = int(node, "allowzero", 0) != 0;
    let odd = |low: &Lowering<'_>| {
        let text = |&d: &i64| if d == super::constant::BATCH { "N".to_string() } else { d.to_string() };
        let found = target.iter().map(text).collect::<Vec<_>>().join(", ");
        low.odd(
            node,
            format!("a shape that keeps the batch and the {:?} of each sample", act.dims),
            format!("[{found}]"),
        )
    };
    let (Some(&batch), true) = (target.first(), target.len() <= 8) else { return Err(odd(low)) };
    let total: u128 = act.dims.iter().map(|&d| d as u128).product();
    let mut dims: Vec<Option<usize>> = Vec::new();
    for (i, &d) in target.iter().enumerate().skip(1) {
        dims.push(match d {
            -1 => None,
            0 if !keeps_zero => Some(*act.dims.get(i - 1).ok_or_else(|| odd(low))?),
            d => Some(usize::try_from(d).map_err(|_| odd(low))?),
        });
    }
    let known: u128 = dims.iter().flatten().fold(1u128, |n, &d| n.saturating_mul(d as u128));
    let is_batch = batch == super::constant::BATCH || batch == 0 || batch == -1 || low.file.batch == Some(batch);
    let open = dims.iter().filter(|d| d.is_none()).count();
    let fits = match open {
        0 => known == total,
        1 => batch != -1 && known > 0 && total.is_multiple_of(known),
        _ => false,
    };
    if !is_batch || !fits {
        return Err(odd(low));
    }
    let rest = total.checked_div(known).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let dims: Vec<usize> = dims.into_iter().map(|d| d.unwrap_or(rest)).collect();
    Ok(vec![Item::Act(low.viewed(&act, &dims)?)])
}

/// A value whose first axis is that of the batch and another one, as two axes again.
fn apart(low: &Lowering<'_>, node: &Node, act: &Act, target: &[i64]) -> Result<Vec<Item>> {
    let same = |(&to, &d): (&i64, &usize)| i64::try_from(d) == Ok(to);
    let rest = target.get(1..).unwrap_or(&[]);
    let is_batch = matches!(target.first(), Some(&n) if n == BATCH || n == -1 || low.file.batch == Some(n));
    match is_batch && rest.len() == act.dims.len() && rest.iter().zip(&act.dims).all(same) {
        true => Ok(vec![Item::Act(Act { joined: false, ..act.clone() })]),
        false => Err(low.odd(
            node,
            format!("the shape [N, {:?}], of which the first axes are one", act.dims),
            format!("{target:?}"),
        )),
    }
}

/// Moves nothing: the value remembers how its axes lie in memory.
pub(super) fn transpose(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::transpose(low, node, &c);
    }
    let act = low.any(node, 0)?;
    let act = low.unfolded(&act)?;
    if act.joined {
        // The first axis, of two, stays where it is.
        let perm = ints(node, "perm").unwrap_or(&[]);
        let places: Vec<usize> = perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect();
        let mut sorted = places.clone();
        sorted.sort_unstable();
        if places.first() != Some(&0) || sorted != (0..act.dims.len()).collect::<Vec<_>>() {
            return Err(low.odd(node, "each axis once, the first one first", format!("{perm:?}")));
        }
        let dims = places.iter().map(|&p| act.dims[p]).collect();
        let order = act.order.iter().map(|&axis| places.iter().position(|&p| p == axis).unwrap_or(0)).collect();
        return Ok(vec![Item::Act(Act { joined: true, ..Act::in_order(act.value, dims, order) })]);
    }
    let rank = act.dims.len() + 1;
    let reversed: Vec<i64> = (0..rank as i64).rev().collect();
    let perm = ints(node, "perm").unwrap_or(&reversed);
    let places: Vec<usize> = perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(low.odd(node, format!("each of {rank} axes once"), format!("{perm:?}")));
    }
    let batch = places.iter().position(|&p| p == act.batch).unwrap_or(0);
    // The axes of a sample, by their number among these.
    let of_sample = |p: usize| p - usize::from(p > act.batch);
    let places: Vec<usize> = places.into_iter().filter(|&p| p != act.batch).map(of_sample).collect();
    let dims = places.iter().map(|&p| act.dims[p]).collect();
    let new = |axis: usize| places.iter().position(|&p| p == axis).unwrap_or(0);
    let order = act.order.iter().map(|&axis| new(axis)).collect();
    Ok(vec![Item::Act(Act { batch, ..Act::in_order(act.value, dims, order) })])
}

/// Axes of an attribute or, from opset 13 on, of the second input.
fn axes(low: &Lowering<'_>, node: &Node) -> Result<Vec<i64>> {
    match ints(node, "axes") {
        Some(axes) => Ok(axes.to_vec()),
        None => Ok(whole_numbers(low, node, 1)?.unwrap_or_default()),
    }
}

pub(super) fn squeeze(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let listed = axes(low, node)?;
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::squeeze(low, node, &c, &listed);
    }
    let act = low.moved(node, 0)?;
    let act = low.unfolded(&act)?;
    let gone = listed.iter().map(|&a| axis_of(low, node, &act, a)).collect::<Result<Vec<_>>>()?;
    if gone.is_empty() || gone.iter().any(|&axis| act.dims[axis - 1] != 1) {
        return Err(low.odd(node, "axes of length 1", format!("{listed:?} of [N, {:?}]", act.dims)));
    }
    without(low, &act, &gone)
}

/// A value without axes of length 1, each counted from 1.
fn without(low: &mut Lowering<'_>, act: &Act, gone: &[usize]) -> Result<Vec<Item>> {
    let kept: Vec<usize> = (0..act.dims.len()).filter(|i| !gone.contains(&(i + 1))).collect();
    let dims: Vec<usize> = kept.iter().map(|&i| act.dims[i]).collect();
    let order = act.order.iter().filter_map(|axis| kept.iter().position(|k| k == axis)).collect();
    let batch = kept.iter().filter(|&&i| i < act.batch).count();
    let target = Act { batch, ..Act::in_order(0, dims, order) };
    let value = low.reshaped(act, &target.stored())?;
    Ok(vec![Item::Act(target.with(value))])
}

pub(super) fn unsqueeze(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let mut listed = axes(low, node)?;
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::unsqueeze(low, node, &c, &listed);
    }
    let act = low.act(node, 0)?;
    let mut act = low.unfolded(&act)?;
    listed.sort_unstable();
    for &axis in &listed {
        let rank = act.dims.len() as i64 + 2;
        let place = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if place < 1 || place >= rank || rank > 8 || (axis < 0 && listed.len() > 1) {
            return Err(low.odd(node, "an axis behind that of the batch", axis));
        }
        let new = place as usize - 1;
        act.dims.insert(new, 1);
        act.order.iter_mut().filter(|a| **a >= new).for_each(|a| *a += 1);
        act.order.insert(0, new);
    }
    let value = low.reshaped(&Act::plain(act.value, Vec::new()), &act.stored())?;
    Ok(vec![Item::Act(act.with(value))])
}

/// A range of an axis.
fn cut(low: &mut Lowering<'_>, act: &Act, axis: usize, start: usize, end: usize) -> Result<Act> {
    let mut dims = act.dims.clone();
    if start == 0 && end == dims[axis - 1] {
        return Ok(act.clone());
    }
    let value = low.op(act, ops::Slice { axis: act.place(axis), start, end }, Vec::new())?;
    dims[axis - 1] = end - start;
    Ok(Act { value, dims, ..act.clone() })
}

pub(super) fn slice(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let (Some(starts), Some(ends)) = (whole_numbers(low, node, 1)?, whole_numbers(low, node, 2)?) else {
        return Err(low.odd(node, "starts and ends", "none"));
    };
    let axes = whole_numbers(low, node, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = whole_numbers(low, node, 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [&ends, &axes, &steps].iter().any(|list| list.len() != starts.len()) {
        return Err(low.odd(node, "as many starts as ends, axes and steps", starts.len()));
    }
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::slice(low, node, &c, [&starts, &ends, &axes, &steps]);
    }
    let act = low.moved(node, 0)?;
    let mut act = low.unfolded(&act)?;
    let mut strides = Vec::new();
    for i in 0..starts.len() {
        let axis = axis_of(low, node, &act, axes[i])?;
        let length = act.dims[axis - 1] as i64;
        let within = |v: i64| if v < 0 { v.saturating_add(length).max(0) } else { v.min(length) };
        let (start, end) = (within(starts[i]), within(ends[i]));
        if steps[i] != 1 && (start, end) == (0, length) && steps[i] > 0 {
            strides.push((axis, steps[i]));
            continue;
        }
        if steps[i] != 1 || start >= end {
            return Err(low.odd(node, "a range forwards with step 1", format!("{start}..{end} by {}", steps[i])));
        }
        act = cut(low, &act, axis, start as usize, end as usize)?;
    }
    match strides[..] {
        [] => Ok(vec![Item::Act(act)]),
        // Every second pixel, as a shortcut without weights has it.
        [(2, a), (3, b)] | [(3, a), (2, b)] if a == b && act.batch == 0 && act.dims.len() == 3 && a < 1 << 24 => {
            let act = low.image(node, &act)?;
            let value = low.op(&act, ops::Subsample { stride: a as usize, channels: act.dims[0] }, Vec::new())?;
            let dims = vec![act.dims[0], act.dims[1].div_ceil(a as usize), act.dims[2].div_ceil(a as usize)];
            Ok(vec![Item::Act(Act { value, dims, ..act })])
        }
        _ => Err(low.odd(node, "one step for rows and columns of an image", format!("{strides:?}"))),
    }
}

pub(super) fn split(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.moved(node, 0)?;
    let act = low.unfolded(&act)?;
    let axis = axis_of(low, node, &act, int(node, "axis", 0))?;
    let (length, parts) = (act.dims[axis - 1], node.output.len());
    let each = length.div_ceil(parts.max(1));
    let sizes = whole_numbers(low, node, 1)?
        .unwrap_or_else(|| (0..parts).map(|i| each.min(length.saturating_sub(i * each)) as i64).collect());
    let (mut start, mut items) = (0usize, Vec::new());
    for &size in &sizes {
        let end = usize::try_from(size)
            .ok()
            .and_then(|size| start.checked_add(size))
            .filter(|&end| end <= length && end > start);
        let end = end.ok_or_else(|| low.odd(node, format!("parts of {length}"), format!("{sizes:?}")))?;
        items.push(Item::Act(cut(low, &act, axis, start, end)?));
        start = end;
    }
    match start == length {
        true => Ok(items),
        false => Err(low.odd(node, format!("parts of {length} in all"), format!("{sizes:?}"))),
    }
}

/// One position of an axis, which goes.
pub(super) fn gathered(low: &mut Lowering<'_>, node: &Node, indices: &Constant) -> Result<Vec<Item>> {
    let act = low.moved(node, 0)?;
    let act = low.unfolded(&act)?;
    let axis = axis_of(low, node, &act, int(node, "axis", 0))?;
    let length = act.dims[axis - 1] as i64;
    let index = match (&indices.data, indices.shape.len()) {
        (Data::Int(v), 0) => v.first().map(|&i| if i < 0 { i.saturating_add(length) } else { i }),
        _ => None,
    };
    let Some(index) = index.filter(|&i| i >= 0 && i < length) else {
        return Err(low.odd(node, format!("one index below {length}"), format!("{:?}", indices.as_ints())));
    };
    let one = cut(low, &act, axis, index as usize, index as usize + 1)?;
    without(low, &one, &[axis])
}

pub(super) fn depth_to_space(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.act(node, 0)?;
    let act = low.image(node, &act)?;
    let block = int(node, "blocksize", 0);
    let factor = usize::try_from(block).ok().filter(|&b| b > 0 && b < 1 << 16 && text(node, "mode") == "CRD");
    let factor = factor
        .ok_or_else(|| low.odd(node, "mode CRD and a block above 0", format!("{} {block}", text(node, "mode"))))?;
    let value = low.op(&act, ops::PixelShuffle { factor }, Vec::new())?;
    let dims = vec![act.dims[0] / (factor * factor), act.dims[1] * factor, act.dims[2] * factor];
    Ok(vec![Item::Act(Act { value, dims, ..act })])
}
