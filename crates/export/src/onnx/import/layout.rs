//! Operations that move numbers or give them other axes.

use super::act::{Act, Joined};
use super::constant::{Constant, Data, MOST, batches_of, per_sample};
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
            if values.iter().any(|&v| per_sample(v).is_some()) {
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
    let keeps_zero = int(node, "allowzero", 0) != 0;
    let Some(Target { dims, batch, joined }) = Target::of(low, &act, &target, keeps_zero) else {
        let text = |&d: &i64| match per_sample(d) {
            Some(1) => "N".to_string(),
            Some(n) => format!("{n}·N"),
            None => d.to_string(),
        };
        let found = target.iter().map(text).collect::<Vec<_>>().join(", ");
        let expected = format!("a shape that keeps the batch and the {:?} of each sample", act.dims);
        return Err(low.odd(node, expected, format!("[{found}]")));
    };
    let act = low.viewed(&act, &dims)?;
    Ok(vec![Item::Act(Act { batch, joined, ..act })])
}

/// What a reshape makes of a value: the lengths of a sample, the place of the batch among them, and what is one with it.
struct Target {
    dims: Vec<usize>,
    batch: usize,
    joined: Option<Joined>,
}

impl Target {
    /// The numbers of a sample stay in their order, those before the axis of the batch and those behind it. `None` where a shape
    /// would mix them with it.
    fn of(low: &Lowering<'_>, act: &Act, target: &[i64], keeps_zero: bool) -> Option<Self> {
        let length = |numbers: &[usize]| numbers.iter().map(|&d| d as u128).try_fold(1u128, u128::checked_mul);
        let (before, behind) = act.dims.split_at(act.batch);
        let total = length(before)?.checked_mul(length(behind)?)?;
        let own = Lowering::lengths(act);
        let is_fixed = |i: usize, d: i64| i == 0 && d > 0 && low.file.batch == Some(d);
        // Each length: of a sample, or how many of each sample are one with the batch; one of them may be open.
        let (mut lengths, mut open) = (Vec::new(), None);
        let is_named = target.iter().any(|&d| per_sample(d).is_some());
        for (i, &d) in target.iter().enumerate() {
            let d = if d == 0 && !keeps_zero { *own.get(i)? } else { d };
            lengths.push(match (d, per_sample(d)) {
                (_, Some(count)) => Length::Batch(u128::try_from(count).ok()?),
                (-1, _) if open.replace(i).is_some() => return None,
                (-1, _) => Length::Of(1),
                (d, _) if !is_named && is_fixed(i, d) => Length::Batch(1),
                (d, _) => Length::Of(u128::try_from(d).ok()?),
            });
        }
        let known = lengths.iter().try_fold(1u128, |n, l| n.checked_mul(l.count())).filter(|&n| n > 0)?;
        let has_batch = lengths.iter().any(|l| matches!(l, Length::Batch(_)));
        match open {
            Some(i) if total.is_multiple_of(known) => {
                let rest = total / known;
                lengths[i] = if has_batch { Length::Of(rest) } else { Length::Batch(rest) };
            }
            None if known == total => {}
            _ => return None,
        }
        let place = lengths.iter().position(|l| matches!(l, Length::Batch(_)))?;
        let counts: Option<Vec<usize>> = lengths.iter().map(|l| usize::try_from(l.count()).ok()).collect();
        let mut dims = counts.filter(|dims| dims.len() <= 8)?;
        let is_one = lengths.iter().filter(|l| matches!(l, Length::Batch(_))).count() == 1;
        let (count, first) = (dims[place], length(&dims[..place])?);
        let joined = match length(before)? {
            _ if !is_one => return None,
            n if n == first && count == 1 => None,
            n if n == first => Some(Joined::After),
            n if first.checked_mul(count as u128) == Some(n) => Some(Joined::Before),
            _ => return None,
        };
        if joined.is_none() {
            dims.remove(place);
        }
        batches_of(i64::try_from(count).ok()?)?;
        Some(Self { dims, batch: place + usize::from(joined == Some(Joined::Before)), joined })
    }
}

/// A length of a target shape.
enum Length {
    Of(u128),
    /// That of the batch, with so many of each sample.
    Batch(u128),
}

impl Length {
    fn count(&self) -> u128 {
        match *self {
            Self::Of(count) | Self::Batch(count) => count,
        }
    }
}

/// Moves nothing: the value remembers how its axes lie in memory.
pub(super) fn transpose(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    if let Item::Constant(c) = low.item(node, 0)? {
        return fold::transpose(low, node, &c);
    }
    let act = low.any(node, 0)?;
    let act = low.unfolded(&act)?;
    let axes = act.file_axes();
    let reversed: Vec<i64> = (0..axes.len() as i64).rev().collect();
    let perm = ints(node, "perm").unwrap_or(&reversed);
    let places: Vec<usize> = perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    if sorted != (0..axes.len()).collect::<Vec<_>>() {
        return Err(low.odd(node, format!("each of {} axes once", axes.len()), format!("{perm:?}")));
    }
    // The axes of a sample in their new order, and where that of the batch comes, with the one that is one with it.
    let (mut kept, mut batch) = (Vec::new(), 0);
    for place in places {
        match (axes[place], act.joined) {
            (Some(axis), _) => kept.push(axis),
            (None, joined) => {
                let with = act.joined_axis();
                kept.extend(with.filter(|_| joined == Some(Joined::Before)));
                batch = kept.len();
                kept.extend(with.filter(|_| joined == Some(Joined::After)));
            }
        }
    }
    let dims = kept.iter().map(|&axis| act.dims[axis]).collect();
    let order = act.order.iter().map(|&axis| kept.iter().position(|&k| k == axis).unwrap_or(0)).collect();
    Ok(vec![Item::Act(Act { batch, joined: act.joined, ..Act::in_order(act.value, dims, order) })])
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
    let act = low.moved(node, 0)?;
    let mut act = low.unfolded(&act)?;
    listed.sort_unstable();
    for &axis in &listed {
        let rank = act.dims.len() as i64 + 2;
        let place = if axis < 0 { axis.saturating_add(rank) } else { axis };
        if place < 0 || place >= rank || rank > 8 || (axis < 0 && listed.len() > 1) {
            return Err(low.odd(node, format!("axes from 0 to {}", rank - 1), axis));
        }
        // Before the axis of the batch, which moves, or behind it.
        let place = place as usize;
        let is_before = place <= act.batch;
        act.batch += usize::from(is_before);
        let new = if is_before { place } else { place - 1 };
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
