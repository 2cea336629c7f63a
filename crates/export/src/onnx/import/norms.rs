//! Normalizations, and dropout.

use super::act::{Act, positions};
use super::lower::{Item, Lowering, float, int};
use super::problem::Result;
use super::program::Work;
use super::read::op_of;
use crate::onnx::messages::Node;
use fixnet_tensor::Tensor;

/// Vectors of `channels` numbers among the inputs of a node, in the order in which memory has the channels.
fn vector(low: &Lowering<'_>, node: &Node, index: usize, places: &[usize], channels: usize) -> Result<Option<Tensor>> {
    let c = low.constant(node, index)?;
    if c.shape != [channels] || c.as_ints().is_some() {
        return Err(low.odd(node, format!("{channels} floats as input {index}"), format!("{:?}", c.shape)));
    }
    let Some(data) = c.as_floats() else { return Ok(None) };
    if let Some(v) = data.iter().find(|v| !v.is_finite()) {
        return Err(low.odd(node, "finite numbers", format!("{v} in `{}`", node.input[index])));
    }
    let values = if places.is_empty() { data.to_vec() } else { places.iter().map(|&p| data[p]).collect() };
    Ok(Tensor::from_vec(&[channels], values).ok())
}

pub(super) fn batch(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.act(node, 0)?;
    let channels = *act.dims.first().ok_or_else(|| low.odd(node, "an input with channels", "[N]"))?;
    // Channels last, in whatever order the other axes are.
    let mut act = act;
    if act.order.last() != Some(&0) {
        let order: Vec<usize> = act.order.iter().copied().filter(|&axis| axis != 0).chain([0]).collect();
        act = low.ordered(&act, &order)?;
    }
    let gamma = low.constant(node, 1)?;
    let places = match &act.image {
        Some((dims, order)) if gamma.len() == channels && gamma.as_floats().is_some() => positions(dims, order),
        _ => Vec::new(),
    };
    let mut parts: [Option<Tensor>; 4] = Default::default();
    for (i, part) in parts.iter_mut().enumerate() {
        *part = vector(low, node, i + 1, &places, channels)?;
    }
    if let Some(var) = parts[3].as_ref().and_then(|t| t.data().iter().copied().find(|&v| v < 0.0)) {
        return Err(low.odd(node, "variances of at least 0", var));
    }
    let eps = float(node, "epsilon", 1e-5);
    let momentum = 1.0 - float(node, "momentum", 0.9);
    if !(eps > 0.0 && eps.is_finite() && (0.0..=1.0).contains(&momentum)) {
        return Err(low.odd(
            node,
            "epsilon above 0 and a momentum from 0 to 1",
            format!("{eps} and {}", 1.0 - momentum),
        ));
    }
    // Where something else reads the product, that needs the scales which a normalization takes out. That of a sequence is an
    // image of one column, which is normalized as such.
    let steps = (act.dims.len() == 2 && low.readers(act.value) == 0).then(|| low.source(act.value)).flatten();
    let source = steps.filter(|&v| low.readers(v) == 1 && low.is_of_columns(v));
    let own = source.unwrap_or(act.value);
    if low.is_read_once(act.value)
        && let Some(product) = low.product_of(own)
    {
        product.normalized = true;
    }
    let name = low.names.layer(node.input.get(1).map(String::as_str), node.name.as_deref().unwrap_or(""), op_of(node));
    // The nearest to what PyTorch calls 0.1.
    let momentum = if (momentum - 0.1).abs() < 1e-6 { 0.1 } else { momentum };
    let work = Work::BatchNorm { name, parts, channels, settings: [eps, momentum] };
    if source.is_some() {
        let image = Act::in_order(own, vec![act.dims[0], act.dims[1], 1], vec![1, 2, 0]);
        let value = low.push(node, work, own, image.stored())?;
        return Ok(vec![Item::Act(low.steps(&image.with(value))?)]);
    }
    let value = low.push(node, work, act.value, act.stored())?;
    Ok(vec![Item::Act(act.with(value))])
}

pub(super) fn layer(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act = low.any(node, 0)?;
    let act = low.unfolded(&act)?;
    let (rank, axis) = (act.dims.len(), int(node, "axis", -1));
    if !act.ends_in_sample() || (axis != -1 && axis != act.file_axes().len() as i64 - 1) {
        return Err(low.odd(node, "a normalization over the last axis alone", format!("axis {axis}")));
    }
    let mut act = act;
    if act.order.last() != Some(&(rank - 1)) {
        act = low.straight(&act)?;
    }
    let channels = act.dims[rank - 1];
    let weight = vector(low, node, 1, &[], channels)?;
    let bias = match low.optional(node, 2)? {
        Some(_) => vector(low, node, 2, &[], channels)?,
        None => None,
    };
    let eps = float(node, "epsilon", 1e-5);
    if !(eps > 0.0 && eps.is_finite()) {
        return Err(low.odd(node, "epsilon above 0", eps));
    }
    let name = low.names.layer(node.input.get(1).map(String::as_str), node.name.as_deref().unwrap_or(""), op_of(node));
    let work = Work::LayerNorm { name, parts: [weight, bias], channels, eps };
    let value = low.push(node, work, act.value, act.stored())?;
    Ok(vec![Item::Act(act.with(value))])
}

/// A dropout of a network that was exported for training; else the identity.
pub(super) fn dropout(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    let act: Act = low.any(node, 0)?;
    let number =
        |index: usize| -> Result<Option<f32>> { Ok(low.constant_or_none(node, index)?.and_then(|c| c.scalar())) };
    let rate = number(1)?.unwrap_or(0.5);
    let trains = number(2)?.is_some_and(|v| v != 0.0);
    if !trains || rate == 0.0 {
        return Ok(vec![Item::Act(act)]);
    }
    if !(0.0..1.0).contains(&rate) {
        return Err(low.odd(node, "a ratio of at least 0 and below 1", rate));
    }
    let name = low.names.layer(None, node.name.as_deref().unwrap_or(""), op_of(node));
    let value = low.push(node, Work::Dropout { name, rate }, act.value, act.stored())?;
    Ok(vec![Item::Act(act.with(value))])
}
