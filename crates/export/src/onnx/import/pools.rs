//! Pooling, sums over axes, and padding.

use super::act::Act;
use super::lower::{Item, Lowering, attribute, int, ints, text};
use super::problem::Result;
use super::program::Input;
use super::read::op_of;
use super::{elementwise, fold};
use crate::onnx::messages::Node;
use fixnet_autograd::{Operation, ops};

/// Windows of a pooling of sequences: size, stride and padding.
fn windows_of_steps(low: &Lowering<'_>, node: &Node, steps: usize) -> Result<[usize; 3]> {
    let odd = |expected: &str, found: String| low.odd(node, expected, found);
    let one = |name: &str, default: i64| match ints(node, name).unwrap_or(&[default]) {
        &[v] if v > 0 => Ok(v as usize),
        other => Err(odd(&format!("`{name}` of one number above 0, that of a sequence"), format!("{other:?}"))),
    };
    let (size, stride) = (one("kernel_shape", 0)?, one("strides", 1)?);
    if one("dilations", 1)? != 1 {
        return Err(odd("no dilation", format!("{:?}", ints(node, "dilations"))));
    }
    let padding = super::products::padding_of_steps(low, node, size, stride, steps)?;
    let rest = steps.saturating_add(padding.saturating_mul(2)).saturating_sub(size) % stride;
    if int(node, "ceil_mode", 0) != 0 && rest > 0 {
        return Err(odd("ceil_mode = 0, or windows that fit", "1".into()));
    }
    Ok([size, stride, padding])
}

/// A pooling of the steps of a sequence, by an operation with square windows: on an image with equal columns. `op` makes it from
/// size, stride and padding.
fn over_steps<O: Operation>(
    low: &mut Lowering<'_>,
    node: &Node,
    x: &Act,
    [size, stride, padding]: [usize; 3],
    op: fn(usize, usize, usize) -> O,
) -> Result<Vec<Item>> {
    let mut x = low.column(x)?;
    let columns = size.saturating_sub(padding.saturating_mul(2)).max(1);
    if columns > 15 {
        return Err(low.odd(node, "windows of at most 15 steps", size));
    }
    if columns > 1 {
        let copies = vec![Input::Value(x.value); columns - 1];
        let value = low.op(&x, ops::Concat { axis: 2 }, copies)?;
        x = Act { dims: vec![x.dims[0], x.dims[1], columns], ..x.with(value) };
    }
    let mut y = on_image(low, &x, op(size, stride, padding))?;
    // Where half of a window is padding there are several columns, alike.
    if y.dims[2] > 1 {
        let value = low.op(&y, ops::Slice { axis: 2, start: 0, end: 1 }, Vec::new())?;
        y = Act { dims: vec![y.dims[0], y.dims[1], 1], ..y.with(value) };
    }
    Ok(vec![Item::Act(low.steps(&y)?)])
}

/// Windows of a pooling: size, stride and padding, alike in both directions.
fn windows(low: &Lowering<'_>, node: &Node, x: &Act) -> Result<([usize; 2], usize, usize)> {
    let odd = |expected: &str, found: String| low.odd(node, expected, found);
    let kernel = ints(node, "kernel_shape").unwrap_or(&[]);
    let &[kh, kw] = kernel else { return Err(odd("windows of two axes", format!("{kernel:?}"))) };
    let (Ok(kh), Ok(kw)) = (usize::try_from(kh), usize::try_from(kw)) else {
        return Err(odd("windows above 0", format!("{kernel:?}")));
    };
    let strides = ints(node, "strides").unwrap_or(&[1, 1]);
    let stride = match *strides {
        [a, b] if a == b && a > 0 => a as usize,
        _ => return Err(odd("one stride for rows and columns", format!("{strides:?}"))),
    };
    if let Some(odd_one) = ints(node, "dilations").filter(|d| d.iter().any(|&d| d != 1)) {
        return Err(odd("no dilation", format!("{odd_one:?}")));
    }
    if kh == 0 || kw == 0 {
        return Err(odd("windows above 0", format!("{kernel:?}")));
    }
    let [top, left] = super::products::padding(low, node, [kh, kw], [stride; 2], [x.dims[1], x.dims[2]])?;
    if top != left {
        return Err(odd("as much padding of rows as of columns", format!("{top} and {left}")));
    }
    let rest = |length: usize, k: usize| length.saturating_add(top.saturating_mul(2)).saturating_sub(k) % stride;
    if int(node, "ceil_mode", 0) != 0 && (rest(x.dims[1], kh) > 0 || rest(x.dims[2], kw) > 0) {
        return Err(odd("ceil_mode = 0, or windows that fit", "1".into()));
    }
    Ok(([kh, kw], stride, top))
}

/// Adds an operation on images, and returns its value.
fn on_image(low: &mut Lowering<'_>, x: &Act, op: impl Operation) -> Result<Act> {
    let value = low.op(x, op, Vec::new())?;
    let &[h, w, c] = &low.steps[value - 1].shape[..] else { return Ok(x.with(value)) };
    Ok(Act::in_order(value, vec![c, h, w], vec![1, 2, 0]))
}

pub(super) fn max(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.act(node, 0)?;
    if x.dims.len() == 2 {
        let windows = windows_of_steps(low, node, x.dims[1])?;
        return over_steps(low, node, &x, windows, |size, stride, padding| ops::MaxPool2d { size, stride, padding });
    }
    let x = low.image(node, &x)?;
    let ([size, other], stride, padding) = windows(low, node, &x)?;
    if size != other {
        return Err(low.odd(node, "square windows", format!("{size}x{other}")));
    }
    Ok(vec![Item::Act(on_image(low, &x, ops::MaxPool2d { size, stride, padding })?)])
}

pub(super) fn average(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.act(node, 0)?;
    if x.dims.len() == 2 {
        let [size, stride, padding] = windows_of_steps(low, node, x.dims[1])?;
        return match padding {
            0 if size == x.dims[1] => mean_of_steps(low, &x),
            0 => over_steps(low, node, &x, [size, stride, 0], |size, stride, _| ops::AvgPool2d { size, stride }),
            _ => Err(low.odd(node, "no padding of a sequence", padding)),
        };
    }
    let mut x = low.image(node, &x)?;
    let ([size, other], stride, padding) = windows(low, node, &x)?;
    if padding == 0 && [size, other] == x.dims[1..] {
        return pooled(low, &x, true);
    }
    if size != other {
        return Err(low.odd(node, "square windows, or those of the whole image", format!("{size}x{other}")));
    }
    if padding > 0 {
        if int(node, "count_include_pad", 0) == 0 {
            return Err(low.odd(node, "no padding, or count_include_pad = 1", padding));
        }
        x = on_image(low, &x, ops::Pad2d { padding, value: 0.0 })?;
    }
    Ok(vec![Item::Act(on_image(low, &x, ops::AvgPool2d { size, stride })?)])
}

/// The mean of each channel [C, T] over the steps, which stay as one.
fn mean_of_steps(low: &mut Lowering<'_>, x: &Act) -> Result<Vec<Item>> {
    let x = low.column(x)?;
    let value = low.op(&x, ops::GlobalAvgPool2d, Vec::new())?;
    let flat = Act::plain(value, vec![x.dims[0]]);
    let value = low.reshaped(&flat, &[1, x.dims[0]])?;
    Ok(vec![Item::Act(Act::in_order(value, vec![x.dims[0], 1], vec![1, 0]))])
}

pub(super) fn global(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.act(node, 0)?;
    if x.dims.len() == 2 {
        return mean_of_steps(low, &x);
    }
    let x = low.image(node, &x)?;
    pooled(low, &x, true)
}

/// The mean over an image; with `keep` its axes stay, with length 1.
fn pooled(low: &mut Lowering<'_>, x: &Act, keep: bool) -> Result<Vec<Item>> {
    let c = x.dims[0];
    let value = low.op(x, ops::GlobalAvgPool2d, Vec::new())?;
    let flat = Act::plain(value, vec![c]);
    if !keep {
        return Ok(vec![Item::Act(flat)]);
    }
    let value = low.reshaped(&flat, &[1, 1, c])?;
    Ok(vec![Item::Act(Act::in_order(value, vec![c, 1, 1], vec![1, 2, 0]))])
}

pub(super) fn reduce(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.moved(node, 0)?;
    let x = low.unfolded(&x)?;
    let keep = int(node, "keepdims", 1) != 0;
    let listed = match ints(node, "axes") {
        Some(axes) => axes.to_vec(),
        None => fold::whole_numbers(low, node, 1)?.unwrap_or_default(),
    };
    let mut axes = listed.iter().map(|&a| elementwise::axis_of(low, node, &x, a)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        return Err(low.odd(node, "axes to reduce", "none"));
    }
    let mean = op_of(node) == "ReduceMean";
    if mean && x.dims.len() == 3 && axes == [2, 3] && x.batch == 0 {
        let x = low.ordered(&x, &[1, 2, 0])?;
        return pooled(low, &x, keep);
    }
    let mut places: Vec<usize> = axes.iter().map(|&axis| x.place(axis)).collect();
    places.sort_unstable();
    let value = match mean {
        true => low.op(&x, ops::Mean { axes: places, keep }, Vec::new())?,
        false => low.op(&x, ops::Sum { axes: places, keep }, Vec::new())?,
    };
    let gone = |axis: usize| axes.contains(&(axis + 1));
    if keep {
        let dims = x.dims.iter().enumerate().map(|(i, &d)| if gone(i) { 1 } else { d }).collect();
        return Ok(vec![Item::Act(Act { value, dims, ..x })]);
    }
    let kept: Vec<usize> = (0..x.dims.len()).filter(|&i| !gone(i)).collect();
    let number = |axis: usize| kept.iter().position(|&k| k == axis);
    let order = x.order.iter().filter_map(|&axis| number(axis)).collect();
    let batch = kept.iter().filter(|&&i| i < x.batch).count();
    Ok(vec![Item::Act(Act { batch, ..Act::in_order(value, kept.iter().map(|&i| x.dims[i]).collect(), order) })])
}

pub(super) fn pad(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let x = low.act(node, 0)?;
    let mode = text(node, "mode");
    if !matches!(mode.as_str(), "" | "constant") {
        return Err(low.odd(node, "mode = constant", mode));
    }
    let pads = fold::whole_numbers(low, node, 1)?.unwrap_or_default();
    let value = low.constant_or_none(node, 2)?.and_then(|c| c.scalar()).unwrap_or(0.0);
    if attribute(node, "axes").is_some() || low.optional(node, 3)?.is_some() {
        return Err(low.odd(node, "padding of all axes", "a list of axes"));
    }
    if pads.iter().all(|&p| p == 0) {
        return Ok(vec![Item::Act(x)]);
    }
    let x = low.image(node, &x)?;
    let small = |p: i64| usize::try_from(p).ok().filter(|&p| p < 1 << 24);
    match pads[..] {
        [0, 0, a, b, 0, 0, c, d] if a == b && b == c && c == d && small(a).is_some() => {
            let padding = small(a).unwrap_or(0);
            Ok(vec![Item::Act(on_image(low, &x, ops::Pad2d { padding, value })?)])
        }
        // Channels of zeros on both sides, as a shortcut without weights has them.
        [0, before, 0, 0, 0, after, 0, 0] if value == 0.0 && small(before).is_some() && small(after).is_some() => {
            let (before, after) = (small(before).unwrap_or(0), small(after).unwrap_or(0));
            let more = before + after;
            if before != more / 2 {
                return Err(low.odd(node, "as many channels on both sides", format!("{before} and {after}")));
            }
            let channels = x.dims[0] + more;
            Ok(vec![Item::Act(on_image(low, &x, ops::Subsample { stride: 1, channels })?)])
        }
        _ => Err(low.odd(node, "as much padding on each side of an image, or of channels", format!("{pads:?}"))),
    }
}
