//! ONNX: a network for other runtimes.
//!
//! Input: `image`, float [batch, C, H, W], pixels from 0 to 1 (a byte divided by 255); the normalization is in the graph. A
//! network of features takes [batch, F]. Output: `output`, for classifiers the logits [batch, classes].
//!
//! A quantized product is written as
//!
//! ```text
//! x ─ Mul(levels per unit) ─ Clip ─ QuantizeLinear ─ DequantizeLinear ┐
//!                       weight codes (constant) ─ DequantizeLinear ─ Conv or Gemm ─ Mul(a) ─ Add(b)
//! ```
//!
//! Both quantizers have scale 1: what meets in the product are the levels themselves, whole numbers, so a runtime that
//! computes it in floats gives the exact sums of fixnet as long as they are below 2^24. The scales of both operands are in
//! `a`, folded with the batch normalization as fixnet folds it (without one, `a` is the scale and `b` the bias). So what
//! differs from fixnet is the order of sums in layers that are floats, and what their last bits do to the rounding of the
//! quantizers behind them.
//!
//! The levels of an input are UINT8 or INT8, whatever their bits: `Clip` keeps them in their range. Four-bit types would do
//! without it, but several runtimes have none for activations. [`Form`] says how weights are stored.

mod graph;
#[cfg(test)]
mod tests;

use crate::{Error, Result, class_names};
use fixnet_nn::plan::{Node, Op, Plan, Weight};
use fixnet_quant::{FixedInput, FixedProduct};
use fixnet_tensor::{Codes, Range, Tensor};
use graph::{Attribute, Axis, Graph, Type};
use std::collections::BTreeMap;
use std::path::Path;

/// The types of the quantized layers in a file. All forms compute the same network; layers of floats are the same in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Weights are INT8, one code per byte. Opset 13, the form that most runtimes read.
    #[default]
    Int8,
    /// Weights of up to 4 bits are INT4, two codes per byte. Opset 21, the first with that type.
    Int4,
    /// No type but f32: quantizers are `Round` and `Clip`, and weights are the levels as floats. Opset 13, for runtimes
    /// without quantized types.
    Float,
}

impl Form {
    /// Returns the operator set of a file.
    pub fn opset(self) -> i64 {
        match self {
            Self::Int8 | Self::Float => 13,
            Self::Int4 => 21,
        }
    }

    /// Returns the version of the intermediate representation that belongs to the operator set.
    fn ir(self) -> i64 {
        match self {
            Self::Int8 | Self::Float => 7,
            Self::Int4 => 10,
        }
    }

    /// Returns the type of weights with levels of `range`; `None` stands for floats.
    fn weight(self, range: Range) -> Option<Type> {
        match self {
            Self::Float => None,
            Self::Int4 if range.bits() <= 4 => Some(Type::Int4),
            Self::Int4 | Self::Int8 => Some(Type::Int8),
        }
    }
}

/// How a network is written.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The types of the quantized layers.
    pub form: Form,
    /// Texts for the file: what it is, where it comes from. Those of fixnet (version, input, normalization, names of classes)
    /// are added.
    pub metadata: BTreeMap<String, String>,
}

/// The bytes of an ONNX file.
///
/// # Errors
/// A layer has no form in ONNX, or no batch has set the scale of a quantizer.
pub fn encode(plan: &Plan, options: &Options) -> Result<Vec<u8>> {
    let form = options.form;
    let mut writer = Writer { graph: Graph::default(), form, values: Vec::new() };
    for (index, node) in plan.nodes().iter().enumerate() {
        let value = writer.write(node, plan).map_err(|(expected, found)| {
            let layer = if node.name().is_empty() { node.op().kind() } else { node.name().to_string() };
            Error::Layer { index, layer, expected, found }
        })?;
        writer.values.push(value);
    }
    let last = writer.real(plan.nodes().len() - 1);
    let output = writer.graph.named("output".into(), "Identity", &[&last], &[]);
    let axes = |shape: &[usize]| -> Vec<Axis> {
        let lengths = nchw(shape);
        std::iter::once(Axis::Batch).chain(lengths.into_iter().map(Axis::Length)).collect()
    };
    let (from, to) = (axes(plan.input_shape()), axes(plan.output_shape()));
    let graph = writer.graph.finish("fixnet", ("image", &from), (&output, &to));
    let mut metadata = options.metadata.clone();
    metadata.insert("fixnet".into(), env!("CARGO_PKG_VERSION").into());
    metadata.insert("input".into(), "float [batch, C, H, W], pixels from 0 to 1 (bytes divided by 255)".into());
    metadata.extend(class_names::entry(plan));
    if let Some(normalize) = plan.normalize() {
        metadata.insert("mean".into(), format!("{:?}", normalize.mean()));
        metadata.insert("std".into(), format!("{:?}", normalize.std()));
    }
    Ok(graph::model(&graph, (form.ir(), form.opset()), env!("CARGO_PKG_VERSION"), &metadata))
}

/// Writes an ONNX file, atomically; returns its length.
///
/// # Errors
/// As [`encode`]; or the file cannot be written.
pub fn save(path: &Path, plan: &Plan, options: &Options) -> Result<usize> {
    let bytes = encode(plan, options)?;
    fixnet_files::write(path, &bytes).map_err(|source| Error::Write { path: path.to_path_buf(), source })?;
    Ok(bytes.len())
}

/// [H, W, C] as [C, H, W]; other shapes as they are.
fn nchw(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [h, w, c] => vec![c, h, w],
        _ => shape.to_vec(),
    }
}

/// The numbers of a weight [O, KH, KW, I] in the order [O, I, KH, KW], with that shape; others as they are.
fn oihw<T: Copy>(shape: &[usize], values: &[T]) -> (Vec<usize>, Vec<T>) {
    let &[o, kh, kw, i] = shape else { return (shape.to_vec(), values.to_vec()) };
    let area = kh * kw;
    let order = (0..o * i * area).map(|k| values[(k / (i * area) * area + k % area) * i + k / area % i]);
    (vec![o, i, kh, kw], order.collect())
}

/// What the graph has of a value of the plan.
enum Value {
    /// The value, under this name.
    Real(String),
    /// The sums of levels of a product, each worth a unit of its output channel.
    Sums { name: String, product: FixedProduct, image: bool },
}

/// What was expected and what was found.
type Misfit = (&'static str, String);

struct Writer {
    graph: Graph,
    form: Form,
    values: Vec<Value>,
}

impl Writer {
    /// The name of the real value of node `index`.
    fn real(&mut self, index: usize) -> String {
        match &self.values[index] {
            Value::Real(name) => name.clone(),
            Value::Sums { name, product, image } => {
                let (name, units, image) = (name.clone(), product.units().clone(), *image);
                let layer = name.split('/').next().unwrap_or_default().to_string();
                let real = self.channels(&layer, "Mul", &name, "unit", units.data(), image);
                self.values[index] = Value::Real(real.clone());
                real
            }
        }
    }

    fn scalar(&mut self, name: &str, value: f32) -> String {
        self.graph.floats(name, &[], &[value])
    }

    /// `x op values`, with one value for all or one for each channel.
    fn channels(&mut self, layer: &str, op: &str, x: &str, what: &str, values: &[f32], image: bool) -> String {
        let shape = match (values.len(), image) {
            (1, _) => vec![],
            (c, true) => vec![c, 1, 1],
            (c, false) => vec![c],
        };
        let constant = self.graph.floats(&format!("{layer}.{what}"), &shape, values);
        match op {
            "Mul" => self.times(layer, &constant, x),
            _ => self.graph.node(layer, op, &[x, &constant], &[]),
        }
    }

    /// `factor · x`. The constant comes first: where it is second, onnxruntime multiplies the weights of a float convolution
    /// by it, which rounds differently, and OpenCV 5.0 takes a `MaxPool` behind a quantized product for one of integers.
    fn times(&mut self, layer: &str, factor: &str, x: &str) -> String {
        self.graph.node(layer, "Mul", &[factor, x], &[])
    }

    /// The levels of an input, as floats.
    fn quantize(&mut self, layer: &str, x: &str, input: FixedInput) -> String {
        let FixedInput { range, per_unit } = input;
        let float = self.form == Form::Float;
        let levels = if range.is_sign() {
            let (zero, minus, plus) =
                (self.scalar("zero", 0.0), self.scalar("minus_one", -1.0), self.scalar("one", 1.0));
            let negative = self.graph.node(layer, "Less", &[x, &zero], &[]);
            self.graph.node(layer, "Where", &[&negative, &minus, &plus], &[])
        } else {
            let constant = self.scalar(&format!("{layer}.levels_per_unit"), per_unit);
            let scaled = self.times(layer, &constant, x);
            let low = self.scalar(&format!("{layer}.lowest"), range.min() as f32);
            let high = self.scalar(&format!("{layer}.highest"), range.max() as f32);
            let held = self.graph.node(layer, "Clip", &[&scaled, &low, &high], &[]);
            // To the nearest level, ties to even, as `QuantizeLinear` rounds.
            if float { self.graph.node(layer, "Round", &[&held], &[]) } else { held }
        };
        if float {
            return levels;
        }
        let scale = self.scalar(&format!("{layer}.level"), 1.0);
        let zero = self.graph.levels(&format!("{layer}.zero_point"), &[], Type::of_levels(range), &[0]);
        let codes = self.graph.node(layer, "QuantizeLinear", &[&levels, &scale, &zero], &[]);
        self.graph.node(layer, "DequantizeLinear", &[&codes, &scale, &zero], &[])
    }

    /// The levels of a weight, as floats.
    fn weight_levels(&mut self, layer: &str, weight: &Codes) -> String {
        let levels: Vec<i32> = (0..weight.len()).map(|i| weight.level(i)).collect();
        let (shape, levels) = oihw(weight.shape(), &levels);
        let name = format!("{layer}.weight");
        let Some(ty) = self.form.weight(weight.range()) else {
            let floats: Vec<f32> = levels.iter().map(|&q| q as f32).collect();
            return self.graph.floats(&name, &shape, &floats);
        };
        let codes = self.graph.levels(&name, &shape, ty, &levels);
        let scale = self.scalar(&format!("{layer}.weight_level"), 1.0);
        let zero = self.graph.levels(&format!("{layer}.weight_zero_point"), &[], ty, &[0]);
        self.graph.node(layer, "DequantizeLinear", &[&codes, &scale, &zero], &[])
    }

    /// A product with its bias: `op` is `Conv` or `Gemm`.
    fn product(
        &mut self,
        node: &Node,
        op: &str,
        x: &str,
        attributes: &[Attribute<'_>],
    ) -> std::result::Result<Value, Misfit> {
        let (layer, image) = (node.name(), node.shape().len() == 3);
        let bias = node.numbers().bias.as_ref().map(Tensor::data);
        match node.numbers().weight.as_ref() {
            None => Err(("a weight", "none".into())),
            Some(Weight::Float(w)) => {
                let (shape, values) = oihw(w.shape(), w.data());
                let w = self.graph.floats(&format!("{layer}.weight"), &shape, &values);
                let bias = bias.map(|b| self.graph.floats(&format!("{layer}.bias"), &[b.len()], b));
                let inputs: Vec<&str> = [x, &w].into_iter().chain(bias.as_deref()).collect();
                Ok(Value::Real(self.graph.node(layer, op, &inputs, attributes)))
            }
            Some(Weight::Quantized(product)) if !product.is_ready() => {
                Err(("an input scale that a training batch has set", "none".into()))
            }
            Some(Weight::Quantized(product)) => {
                let x = self.quantize(layer, x, product.input());
                let w = self.weight_levels(layer, product.weight());
                let sums = self.graph.node(layer, op, &[&x, &w], attributes);
                Ok(match bias {
                    None => Value::Sums { name: sums, product: product.clone(), image },
                    Some(bias) => {
                        let real = self.channels(layer, "Mul", &sums, "unit", product.units().data(), image);
                        Value::Real(self.channels(layer, "Add", &real, "bias", bias, image))
                    }
                })
            }
        }
    }

    fn write(&mut self, node: &Node, plan: &Plan) -> std::result::Result<Value, Misfit> {
        let layer = node.name();
        let pair = |n: usize| vec![n as i64; 2];
        let pool = |size: usize, stride: usize, padding: usize| {
            [("kernel_shape", pair(size)), ("strides", pair(stride)), ("pads", vec![padding as i64; 4])]
                .map(|(name, values)| Attribute::Ints(name, values))
        };
        if let Op::BatchNorm = node.op() {
            let norm = node.numbers().norm.as_ref().ok_or(("the numbers of a normalization", "none".to_string()))?;
            let (x, (a, b)) = match &self.values[node.inputs()[0]] {
                Value::Real(name) => (name.clone(), norm.factors(|_| 1.0)),
                Value::Sums { name, product, .. } => (name.clone(), norm.factors(|k| product.unit(k))),
            };
            let image = node.shape().len() == 3;
            let scaled = self.channels(layer, "Mul", &x, "a", &a, image);
            return Ok(Value::Real(self.channels(layer, "Add", &scaled, "b", &b, image)));
        }
        let inputs: Vec<String> = node.inputs().iter().map(|&i| self.real(i)).collect();
        let x = inputs.first().map_or("", String::as_str);
        let from: &[usize] = node.inputs().first().map_or(&[], |&i| plan.nodes()[i].shape());
        let name = match node.op() {
            Op::Input => {
                let image = node.shape().len() == 3;
                if !image && node.shape().len() != 1 {
                    return Err(("an image [H, W, C] or features [F]", format!("{:?}", node.shape())));
                }
                match plan.normalize() {
                    None => "image".into(),
                    Some(normalize) => {
                        let centred = self.channels("normalize", "Sub", "image", "mean", normalize.mean(), image);
                        self.channels("normalize", "Div", &centred, "std", normalize.std(), image)
                    }
                }
            }
            Op::Conv2d { window } => {
                let ints = |name, [a, b]: [usize; 2]| Attribute::Ints(name, vec![a as i64, b as i64]);
                let [top, left] = window.padding.map(|p| p as i64);
                let attributes = [
                    ints("strides", window.stride),
                    Attribute::Ints("pads", vec![top, left, top, left]),
                    ints("dilations", window.dilation),
                    Attribute::Int("group", window.groups as i64),
                ];
                return self.product(node, "Conv", x, &attributes);
            }
            Op::Linear => return self.product(node, "Gemm", x, &[Attribute::Int("transB", 1)]),
            Op::BatchNorm => unreachable!("written above"),
            Op::Relu => self.graph.node(layer, "Relu", &[x], &[]),
            Op::Add => self.graph.node(layer, "Add", &[x, &inputs[1]], &[]),
            Op::MaxPool2d { size, stride, padding } => {
                self.graph.node(layer, "MaxPool", &[x], &pool(*size, *stride, *padding))
            }
            Op::AvgPool2d { size, stride } => self.graph.node(layer, "AveragePool", &[x], &pool(*size, *stride, 0)),
            Op::GlobalAvgPool2d => {
                let pooled = self.graph.node(layer, "GlobalAveragePool", &[x], &[]);
                self.graph.node(layer, "Flatten", &[&pooled], &[])
            }
            // Features are in the order H, W, C: that of the weights behind.
            Op::Flatten => match *from {
                [h, w, c] if c > 1 && h * w > 1 => {
                    let x = self.graph.node(layer, "Transpose", &[x], &[Attribute::Ints("perm", vec![0, 2, 3, 1])]);
                    self.graph.node(layer, "Flatten", &[&x], &[])
                }
                _ => self.graph.node(layer, "Flatten", &[x], &[]),
            },
            Op::Subsample { stride, channels } => {
                let step = *stride as i64;
                let constants = [("starts", [0, 0]), ("ends", [i64::MAX; 2]), ("axes", [2, 3]), ("steps", [step; 2])]
                    .map(|(name, values)| self.graph.ints(name, &values));
                let inputs: Vec<&str> = std::iter::once(x).chain(constants.iter().map(String::as_str)).collect();
                let kept = self.graph.node(layer, "Slice", &inputs, &[]);
                let more = channels - from.last().unwrap_or(channels);
                let (before, after) = ((more / 2) as i64, (more - more / 2) as i64);
                let pads = self.graph.ints("pads", &[0, before, 0, 0, 0, after, 0, 0]);
                self.graph.node(layer, "Pad", &[&kept, &pads], &[])
            }
            Op::PixelShuffle { factor } => {
                let attributes = [Attribute::Int("blocksize", *factor as i64), Attribute::Text("mode", "CRD")];
                self.graph.node(layer, "DepthToSpace", &[x], &attributes)
            }
            Op::Opaque { kind, .. } => return Err(("a layer that describes itself", kind.clone())),
        };
        Ok(Value::Real(name))
    }
}
