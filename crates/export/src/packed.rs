//! Packed networks: one `safetensors` file that holds a whole network, its weight codes packed to their bits.
//!
//! The file is of the kind that checkpoints are (checksum, atomic writing). Its metadata have the operations as JSON
//! (`plan`). A weight of b bits is `NAME.codes`: level + offset, b bits each, one after the other from the lowest bit of the
//! first word on; words are U64, little endian, so these are the bytes of one long bit string. All else is F32: units,
//! biases, normalizations, weights of layers that are floats.
//!
//! [`load`] gives a [`Plan`], which needs no model to be built and computes the same bits as the network it came from. Where
//! the file has a normalization (`input.mean`, `input.std`), the plan takes pixels from 0 to 1 and normalizes them itself.
//! `class_names` in the metadata is the list of the names of classes, as JSON.

use crate::{Error, Result, class_names};
use fixnet_autograd::Array;
use fixnet_autograd::ops::FixedNorm;
use fixnet_data::Normalize;
use fixnet_nn::checkpoint::TensorFile;
use fixnet_nn::plan::{Numbers, Op, Plan, Weight};
use fixnet_quant::{FixedInput, FixedProduct};
use fixnet_tensor::{Budget, Buffer, Codes, Range, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The key of the operations in the metadata: what has it is a packed network.
pub const PLAN: &str = "plan";
/// The form of the file that this version writes and reads.
const VERSION: u32 = 1;
/// The largest length, stride and so on that a file may name.
const LARGEST: usize = 1 << 16;

#[derive(Serialize, Deserialize)]
struct PlanForm {
    version: u32,
    input: Vec<usize>,
    normalized: bool,
    nodes: Vec<NodeForm>,
}

#[derive(Serialize, Deserialize)]
struct NodeForm {
    name: String,
    #[serde(flatten)]
    op: Op,
    inputs: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    codes: Option<CodesForm>,
}

/// What a quantized weight and its input are, but for the numbers.
#[derive(Serialize, Deserialize)]
struct CodesForm {
    precision: String,
    shape: Vec<usize>,
    /// Bits and lowest level.
    weight: (u8, i32),
    input: (u8, i32),
}

/// Packs levels of `range`, [`Range::bits`] each.
fn pack(codes: &Codes) -> Vec<u64> {
    let range = codes.range();
    let bits = usize::from(range.bits());
    let mut words = vec![0; (codes.len() * bits).div_ceil(64)];
    for (i, &byte) in codes.bytes().iter().enumerate() {
        // The two levels of a sign are the bytes 0 and 2.
        let value = u64::from(if range.is_sign() { byte / 2 } else { byte });
        let (word, shift) = (i * bits / 64, i * bits % 64);
        words[word] |= value << shift;
        if shift + bits > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    words
}

/// The codes of `shape`, if there are as many words as that takes.
fn unpack(words: &[u64], shape: &[usize], range: Range) -> Option<Codes> {
    let bits = usize::from(range.bits());
    let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    if words.len() != len.checked_mul(bits)?.div_ceil(64) {
        return None;
    }
    let mask = ((1u16 << bits) - 1) as u8;
    let mut bytes = Buffer::<u8>::take(len);
    for (i, byte) in bytes.iter_mut().enumerate() {
        let (word, shift) = (i * bits / 64, i * bits % 64);
        let high = if shift + bits > 64 { words[word + 1] << (64 - shift) } else { 0 };
        let value = (words[word] >> shift | high) as u8 & mask;
        *byte = if range.is_sign() { 2 * value } else { value };
    }
    Codes::new(shape, range, 1.0, bytes).ok()
}

/// What arrays of a node are called.
fn key(index: usize, name: &str) -> String {
    if name.is_empty() { format!("node{index}") } else { name.to_string() }
}

/// Writes a packed network with `metadata`, atomically.
///
/// # Errors
/// A layer did not describe itself, no batch has set the scale of a quantizer, two layers have one name, or the file
/// cannot be written.
pub fn save(path: &Path, plan: &Plan, metadata: &BTreeMap<String, String>) -> Result<()> {
    let mut arrays: BTreeMap<String, Array> = BTreeMap::new();
    let mut nodes = Vec::new();
    for (index, node) in plan.nodes().iter().enumerate().skip(1) {
        let refuse = |expected, found: &str| {
            let layer = if node.name().is_empty() { node.op().kind() } else { node.name().into() };
            Err(Error::Layer { index, layer, expected, found: found.into() })
        };
        let (name, numbers) = (key(index, node.name()), node.numbers());
        let mut codes = None;
        let mut own = Vec::new();
        match &numbers.weight {
            Some(Weight::Float(w)) => own.push(("weight", Array::F32(w.clone()))),
            Some(Weight::Quantized(p)) if !p.is_ready() => {
                return refuse("an input scale that a training batch has set", "none");
            }
            Some(Weight::Quantized(p)) => {
                let (weight, input) = (p.weight().range(), p.input().range);
                codes = Some(CodesForm {
                    precision: p.precision().to_string(),
                    shape: p.weight().shape().to_vec(),
                    weight: (weight.bits(), weight.min()),
                    input: (input.bits(), input.min()),
                });
                own.push(("codes", Array::U64(pack(p.weight()))));
                own.push(("units", Array::F32(p.units().clone())));
                own.push(("levels_a_unit", Array::F32(Tensor::scalar(p.input().per_unit))));
            }
            None => {}
        }
        own.extend(numbers.bias.iter().map(|b| ("bias", Array::F32(b.clone()))));
        if let Some(FixedNorm { weight, bias, mean, var, eps }) = &numbers.norm {
            let tensors = [("weight", weight), ("bias", bias), ("running_mean", mean), ("running_var", var)];
            own.extend(tensors.map(|(key, t)| (key, Array::F32(t.clone()))));
            own.push(("eps", Array::F32(Tensor::scalar(*eps))));
        }
        if let Op::Opaque { kind, .. } = node.op() {
            return refuse("a layer that describes itself", kind);
        }
        for (key, array) in own {
            if arrays.insert(format!("{name}.{key}"), array).is_some() {
                return refuse("a name that no other layer has", &name);
            }
        }
        nodes.push(NodeForm { name: node.name().into(), op: node.op().clone(), inputs: node.inputs().to_vec(), codes });
    }
    if let Some(normalize) = plan.normalize() {
        for (key, values) in [("input.mean", normalize.mean()), ("input.std", normalize.std())] {
            arrays.insert(key.into(), Array::F32(Tensor::from_vec(&[values.len()], values.to_vec())?));
        }
    }
    let normalized = plan.normalize().is_some();
    let form = PlanForm { version: VERSION, input: plan.input_shape().to_vec(), normalized, nodes };
    let mut metadata = metadata.clone();
    metadata.insert(PLAN.into(), serde_json::to_string(&form).expect("a plan is plain data"));
    metadata.insert("fixnet".into(), env!("CARGO_PKG_VERSION").into());
    metadata.extend(class_names::entry(plan));
    let arrays: Vec<(String, Array)> = arrays.into_iter().collect();
    Ok(TensorFile::save(path, &arrays, &metadata)?)
}

/// Reads a packed network and the metadata that were saved with it.
///
/// # Errors
/// The file cannot be read, is damaged, holds a number that no network has ([`TensorFile::weights`]), or is no packed network;
/// or one image would take more than [`Budget::VALUES`]. The message names the layer.
pub fn load(path: &Path) -> Result<(Plan, BTreeMap<String, String>)> {
    load_within(path, Budget::VALUES)
}

/// [`load`] of a network whose values take at most `values` of memory for one image.
///
/// # Errors
/// As there.
pub fn load_within(path: &Path, mut values: Budget) -> Result<(Plan, BTreeMap<String, String>)> {
    let file = TensorFile::weights(path)?;
    let plan = read(&file).and_then(|plan| {
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

fn read(file: &TensorFile) -> std::result::Result<Plan, String> {
    let text = file.header().metadata.get(PLAN).ok_or("expected `plan` in its metadata, found none")?;
    let form: PlanForm = serde_json::from_str(text).map_err(|e| format!("plan: {e}"))?;
    if form.version != VERSION {
        return Err(format!("plan: expected version {VERSION}, found {}", form.version));
    }
    check_sizes(&form.input, "input")?;
    let mut plan = Plan::with_input(&form.input);
    let mut names = BTreeSet::new();
    for (index, node) in form.nodes.iter().enumerate() {
        // The numbers of each layer are in the file, so all of them take little more than it.
        let has_numbers = matches!(node.op, Op::Conv2d { .. } | Op::Linear | Op::BatchNorm);
        if has_numbers && !names.insert(key(index + 1, &node.name)) {
            return Err(format!("layer {}: expected a name that no other layer has, found {}", index + 1, node.name));
        }
        check_op(&node.op).map_err(|e| format!("layer {}: {e}", index + 1))?;
        let numbers = numbers(file, node, index + 1)?;
        let inputs = node.inputs.iter().map(|&i| plan.edge(i)).collect::<fixnet_autograd::Result<Vec<_>>>();
        let pushed = inputs.and_then(|inputs| plan.push(&node.name, node.op.clone(), &inputs, numbers));
        pushed.map_err(|e| format!("layer {}: {e}", index + 1))?;
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

/// Sizes that no product of two overflows.
fn check_sizes(sizes: &[usize], what: &str) -> std::result::Result<(), String> {
    match sizes.iter().find(|&&s| s > LARGEST) {
        Some(s) => Err(format!("{what}: expected sizes up to {LARGEST}, found {s}")),
        None => Ok(()),
    }
}

fn check_op(op: &Op) -> std::result::Result<(), String> {
    let sizes: Vec<usize> = match op {
        Op::Conv2d { window: w } => [w.stride, w.padding, w.dilation, [w.groups; 2]].concat(),
        Op::MaxPool2d { size, stride, padding } => vec![*size, *stride, *padding],
        Op::AvgPool2d { size, stride } => vec![*size, *stride],
        Op::Subsample { stride, channels } => vec![*stride, *channels],
        Op::PixelShuffle { factor } => vec![*factor],
        Op::Opaque { kind, .. } => return Err(format!("expected an operation, found {kind}")),
        _ => Vec::new(),
    };
    check_sizes(&sizes, &op.kind())
}

fn numbers(file: &TensorFile, node: &NodeForm, index: usize) -> std::result::Result<Numbers, String> {
    let name = key(index, &node.name);
    let array = |what: &str| file.array(&format!("{name}.{what}"));
    let float = |what: &str| match array(what) {
        Some(Array::F32(t)) => Ok(t),
        _ => Err(format!("layer {index}: expected floats `{name}.{what}`, found none")),
    };
    let scalar = |what: &str| match float(what)?.data() {
        [v] if v.is_finite() => Ok(*v),
        other => Err(format!("layer {index}: `{name}.{what}`: expected one finite number, found {}", other.len())),
    };
    let mut numbers = Numbers::default();
    match node.op {
        Op::BatchNorm => {
            let (mean, var) = (float("running_mean")?, float("running_var")?);
            let norm = FixedNorm { weight: float("weight")?, bias: float("bias")?, mean, var, eps: scalar("eps")? };
            numbers.norm = Some(norm);
        }
        Op::Conv2d { .. } | Op::Linear => {
            numbers.bias = float("bias").ok();
            numbers.weight = Some(match &node.codes {
                None => Weight::Float(float("weight")?),
                Some(form) => {
                    let own = |e: &dyn std::fmt::Display| format!("layer {index} ({name}): {e}");
                    let range = |(bits, min)| Range::from_bits_and_min(bits, min).map_err(|e| own(&e));
                    let (weight, input) = (range(form.weight)?, range(form.input)?);
                    let codes = match array("codes") {
                        Some(Array::U64(words)) => unpack(&words, &form.shape, weight),
                        _ => None,
                    };
                    let codes = codes.ok_or_else(|| {
                        own(&format!("expected codes of {} bits in the shape {:?}", weight.bits(), form.shape))
                    })?;
                    let precision = form.precision.parse().map_err(|e: fixnet_autograd::Error| own(&e))?;
                    let input = FixedInput { range: input, per_unit: scalar("levels_a_unit")? };
                    let product = FixedProduct::new(precision, input, &codes, float("units")?);
                    Weight::Quantized(product.map_err(|e| own(&e))?)
                }
            });
        }
        _ => {}
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_width_come_back() {
        let ranges =
            (1..=8).flat_map(|b| [Range::symmetric(b), Range::unsigned(b), Range::twos_complement(b)]).flatten();
        for range in ranges {
            let step = if range.is_sign() { 2 } else { 1 };
            let all: Vec<i32> = (range.min()..=range.max()).step_by(step).collect();
            let levels: Vec<i32> = all.iter().copied().cycle().take(131).collect();
            let codes = Codes::from_levels(&[131], range, 1.0, &levels).unwrap();
            let words = pack(&codes);
            assert_eq!(words.len(), (131 * usize::from(range.bits())).div_ceil(64));
            assert_eq!(unpack(&words, &[131], range).unwrap().bytes(), codes.bytes());
            assert!(unpack(&words, &[131 + 64], range).is_none());
        }
        // Four bits of 1, 2, 3 above the lowest level -7: the bytes 0x98, 0x0a.
        let codes = Codes::from_levels(&[3], Range::symmetric(4).unwrap(), 1.0, &[1, 2, 3]).unwrap();
        assert_eq!(pack(&codes)[0], 0x0a98);
        assert!(unpack(&[15], &[1], Range::symmetric(4).unwrap()).is_none(), "-7 to 7 have no fifteenth step");
        assert!(unpack(&[], &[usize::MAX, 2], Range::symmetric(4).unwrap()).is_none());
    }
}
