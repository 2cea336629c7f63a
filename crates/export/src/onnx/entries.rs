//! How each operation of a plan is written in ONNX: one entry per kind.

use super::axes;
use super::graph::Attribute;
use super::operands::{Result, is_image, operand, settings, shape_of_input};
use super::tokens;
use super::writer::{Value, Writer, oihw};
use fixnet_autograd::ops;
use fixnet_nn::plan::{Node, Plan};
use fixnet_quant::{FixedConv2d, FixedLinear, FixedProduct, QuantizeInput};
use fixnet_tensor::Tensor;

/// Writes an operation; `plan` has the nodes that it reads.
type Entry = fn(&mut Writer, &Node, &Plan) -> Result<Value>;

/// The operations that can be written.
const ENTRIES: &[(&str, Entry)] = &[
    ("add", |w, node, _| axes::broadcast(w, node, "Add")),
    ("add_bias", add_bias),
    ("avg_pool2d", avg_pool2d),
    ("batch_norm", batch_norm),
    ("clamp", clamp),
    ("concat", axes::concat),
    ("conv2d", conv2d),
    ("div", |w, node, _| axes::broadcast(w, node, "Div")),
    ("exp", |w, node, plan| unary(w, node, plan, "Exp")),
    ("flatten", flatten),
    ("gelu", gelu),
    ("global_avg_pool2d", global_avg_pool2d),
    ("input", input),
    ("layer_norm", axes::layer_norm),
    ("leaky_relu", leaky_relu),
    ("linear", linear),
    ("log", |w, node, plan| unary(w, node, plan, "Log")),
    ("matmul", tokens::matmul),
    ("max_pool2d", max_pool2d),
    ("mean", axes::mean),
    ("mul", |w, node, _| axes::broadcast(w, node, "Mul")),
    ("pad2d", pad2d),
    ("permute", axes::permute),
    ("pixel_shuffle", pixel_shuffle),
    ("proposals", |_, _, _| Err((TWO_STAGES, "proposals".into()))),
    ("quantize", quantize),
    ("prepend", tokens::prepend),
    ("relu", |w, node, plan| unary(w, node, plan, "Relu")),
    ("reshape", reshape),
    ("rprelu", rprelu),
    ("scale", scale),
    ("sigmoid", |w, node, plan| unary(w, node, plan, "Sigmoid")),
    ("slice", axes::slice),
    ("softmax", axes::softmax),
    ("sqrt", |w, node, plan| unary(w, node, plan, "Sqrt")),
    ("sub", |w, node, _| axes::broadcast(w, node, "Sub")),
    ("subsample", subsample),
    ("sum", axes::sum),
    ("tanh", |w, node, plan| unary(w, node, plan, "Tanh")),
    ("upsample_nearest", upsample_nearest),
];

/// What a detector must be. Proposals take non-maximum suppression within the network, of each image and level by itself.
const TWO_STAGES: &str = "a detector of one stage, such as retinanet; one of two stages goes into a packed file (`fixnet export \
                          --packed`)";

/// Writes the operation of a node.
pub(super) fn write(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    if let Some(obstacle) = node.op().obstacle() {
        return Err((obstacle.expected, obstacle.found));
    }
    match ENTRIES.iter().find(|(kind, _)| *kind == node.op().kind()) {
        Some((_, entry)) => entry(w, node, plan),
        None => Err(("an operation with a form in ONNX", node.op().kind().into())),
    }
}

fn pair(n: usize) -> Vec<i64> {
    vec![n as i64; 2]
}

fn unary(w: &mut Writer, node: &Node, _: &Plan, op: &str) -> Result<Value> {
    let x = operand(w, node, 0)?;
    Ok(Value::Real(w.graph.node(node.name(), op, &[&x], &[])))
}

// An end that holds nothing is left out: a missing operand in between has an empty name.
fn clamp(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let bounds = settings::<ops::Clamp>(node)?.bounds();
    let x = operand(w, node, 0)?;
    let [low, high] = [("lowest", bounds.low), ("highest", bounds.high)]
        .map(|(name, v)| if v.is_finite() { w.scalar(name, v) } else { String::new() });
    Ok(Value::Real(match high.is_empty() {
        true => w.graph.node(node.name(), "Clip", &[&x, &low], &[]),
        false => w.graph.node(node.name(), "Clip", &[&x, &low, &high], &[]),
    }))
}

fn leaky_relu(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let &ops::Elementwise::LeakyRelu { slope } = settings(node)? else {
        return Err(("a leaky ReLU", format!("{:?}", node.op())));
    };
    let x = operand(w, node, 0)?;
    Ok(Value::Real(w.graph.node(node.name(), "LeakyRelu", &[&x], &[Attribute::Float("alpha", slope)])))
}

// `Gelu` itself came with opset 20; the error function is in every one since 9.
fn gelu(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let [root, one, half] = [("root_of_half", std::f32::consts::FRAC_1_SQRT_2), ("one", 1.0), ("half", 0.5)]
        .map(|(name, v)| w.scalar(name, v));
    let scaled = w.times(node.name(), &root, &x);
    let erf = w.graph.node(node.name(), "Erf", &[&scaled], &[]);
    let shifted = w.graph.node(node.name(), "Add", &[&erf, &one], &[]);
    let share = w.times(node.name(), &half, &shifted);
    Ok(Value::Real(w.graph.node(node.name(), "Mul", &[&x, &share], &[])))
}

fn input(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let image = is_image(node.shape());
    if !image && !matches!(node.shape().len(), 1 | 2) {
        return Err(("an image [H, W, C], a sequence [T, C] or features [F]", format!("{:?}", node.shape())));
    }
    Ok(Value::Real(match plan.normalize() {
        None => "image".into(),
        Some(normalize) => {
            let centred = w.channels("normalize", "Sub", "image", "mean", normalize.mean(), image);
            w.channels("normalize", "Div", &centred, "std", normalize.std(), image)
        }
    }))
}

fn conv2d(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let (window, product) = match node.get::<FixedConv2d>() {
        Some(FixedConv2d { product, form }) => (form.window, Some(product)),
        None => (settings::<ops::Conv2d>(node)?.window, None),
    };
    let ints = |name, [a, b]: [usize; 2]| Attribute::Ints(name, vec![a as i64, b as i64]);
    let [top, left] = window.padding.map(|p| p as i64);
    let attributes = [
        ints("strides", window.stride),
        Attribute::Ints("pads", vec![top, left, top, left]),
        ints("dilations", window.dilation),
        Attribute::Int("group", window.groups as i64),
    ];
    self::product(w, node, "Conv", product, &attributes)
}

fn linear(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let quantized = node.get::<FixedLinear>().map(|op| &op.product);
    if node.shape().len() > 1 {
        return tokens::linear(w, node, plan, quantized);
    }
    product(w, node, "Gemm", quantized, &[Attribute::Int("transB", 1)])
}

/// A product with its bias: `op` is `Conv` or `Gemm`.
fn product(
    w: &mut Writer,
    node: &Node,
    op: &str,
    quantized: Option<&FixedProduct>,
    attributes: &[Attribute<'_>],
) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let (layer, image) = (node.name(), is_image(node.shape()));
    let bias = node.constant("bias").map(Tensor::data);
    let Some(product) = quantized else {
        let weight = node.constant("weight").ok_or(("a weight", "none".to_string()))?;
        let (shape, values) = oihw(weight.shape(), weight.data());
        let weight = w.graph.floats(&format!("{layer}.weight"), &shape, &values);
        let bias = bias.map(|b| w.graph.floats(&format!("{layer}.bias"), &[b.len()], b));
        let inputs: Vec<&str> = [x.as_str(), &weight].into_iter().chain(bias.as_deref()).collect();
        return Ok(Value::Real(w.graph.node(layer, op, &inputs, attributes)));
    };
    let x = w.quantize(layer, &x, product.input());
    let weight = w.weight_levels(layer, product.weight());
    let sums = w.graph.node(layer, op, &[&x, &weight], attributes);
    let sums = w.whole(layer, sums);
    Ok(match bias {
        None => Value::Sums { name: sums, product: product.clone(), image },
        Some(bias) => {
            let real = w.channels(layer, "Mul", &sums, "unit", product.units().data(), image);
            Value::Real(w.channels(layer, "Add", &real, "bias", bias, image))
        }
    })
}

fn batch_norm(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let norm = settings::<ops::FixedNorm>(node)?;
    let &[input] = node.inputs().as_slice() else { return Err(("one input", "others".into())) };
    let (x, (a, b)) = match w.value(input) {
        Value::Real(name) => (name.clone(), norm.factors(|_| 1.0)),
        Value::Sums { name, product, .. } => (name.clone(), norm.factors(|k| product.unit(k))),
    };
    let (layer, image) = (node.name(), is_image(node.shape()));
    let scaled = w.channels(layer, "Mul", &x, "a", &a, image);
    Ok(Value::Real(w.channels(layer, "Add", &scaled, "b", &b, image)))
}

fn add_bias(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let bias = node.constant("bias").ok_or(("a bias", "none".to_string()))?;
    let layer = if node.name().is_empty() { "add_bias" } else { node.name() };
    Ok(Value::Real(w.channels(layer, "Add", &x, "bias", bias.data(), is_image(node.shape()))))
}

fn rprelu(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let mut x = operand(w, node, 0)?;
    let layer = if node.name().is_empty() { "rprelu" } else { node.name() };
    for (op, what) in [("Add", "shift"), ("PRelu", "slope"), ("Add", "offset")] {
        let values = node.constant(what).ok_or(("a number for each channel", "none".to_string()))?;
        x = w.channels(layer, op, &x, what, values.data(), is_image(node.shape()));
    }
    Ok(Value::Real(x))
}

fn quantize(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let &QuantizeInput { input, unit } = settings(node)?;
    let x = operand(w, node, 0)?;
    let levels = w.quantize(node.name(), &x, input);
    let unit = w.scalar(&format!("{}.unit", node.name()), unit);
    Ok(Value::Real(w.times(node.name(), &unit, &levels)))
}

fn scale(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let factor = w.scalar("factor", settings::<ops::Scale>(node)?.factor);
    Ok(Value::Real(w.times(node.name(), &factor, &x)))
}

/// The attributes of a pooling operation.
fn pool(size: usize, stride: usize, padding: usize) -> [Attribute<'static>; 3] {
    [("kernel_shape", pair(size)), ("strides", pair(stride)), ("pads", vec![padding as i64; 4])]
        .map(|(name, values)| Attribute::Ints(name, values))
}

fn max_pool2d(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::MaxPool2d { size, stride, padding } = *settings(node)?;
    let x = operand(w, node, 0)?;
    Ok(Value::Real(w.graph.node(node.name(), "MaxPool", &[&x], &pool(size, stride, padding))))
}

fn avg_pool2d(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::AvgPool2d { size, stride } = *settings(node)?;
    let x = operand(w, node, 0)?;
    Ok(Value::Real(w.graph.node(node.name(), "AveragePool", &[&x], &pool(size, stride, 0))))
}

fn global_avg_pool2d(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let pooled = w.graph.node(node.name(), "GlobalAveragePool", &[&x], &[]);
    Ok(Value::Real(w.graph.node(node.name(), "Flatten", &[&pooled], &[])))
}

/// The value with its channels last, if it is an image, where that changes the order of the numbers.
fn channels_last(w: &mut Writer, node: &Node, x: String, shape: &[usize]) -> String {
    match *shape {
        [h, width, c] if c > 1 && h * width > 1 => {
            w.graph.node(node.name(), "Transpose", &[&x], &[Attribute::Ints("perm", vec![0, 2, 3, 1])])
        }
        _ => x,
    }
}

// Features are in the order H, W, C: that of the weights behind.
fn flatten(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let x = channels_last(w, node, x, shape_of_input(node, plan));
    Ok(Value::Real(w.graph.node(node.name(), "Flatten", &[&x], &[])))
}

fn reshape(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let x = operand(w, node, 0)?;
    let x = channels_last(w, node, x, shape_of_input(node, plan));
    let lengths: Vec<i64> = [-1].into_iter().chain(node.shape().iter().map(|&n| n as i64)).collect();
    let shape = w.graph.ints("shape", &lengths);
    let reshaped = w.graph.node(node.name(), "Reshape", &[&x, &shape], &[]);
    Ok(Value::Real(match is_image(node.shape()) {
        true => w.graph.node(node.name(), "Transpose", &[&reshaped], &[Attribute::Ints("perm", vec![0, 3, 1, 2])]),
        false => reshaped,
    }))
}

fn pad2d(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::Pad2d { padding, value } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let p = padding as i64;
    let pads = w.graph.ints("pads", &[0, 0, p, p, 0, 0, p, p]);
    let value = w.scalar("value", value);
    Ok(Value::Real(w.graph.node(node.name(), "Pad", &[&x, &pads, &value], &[])))
}

fn subsample(w: &mut Writer, node: &Node, plan: &Plan) -> Result<Value> {
    let ops::Subsample { stride, channels } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let step = stride as i64;
    let constants = [("starts", [0, 0]), ("ends", [i64::MAX; 2]), ("axes", [2, 3]), ("steps", [step; 2])]
        .map(|(name, values)| w.graph.ints(name, &values));
    let inputs: Vec<&str> = std::iter::once(x.as_str()).chain(constants.iter().map(String::as_str)).collect();
    let kept = w.graph.node(node.name(), "Slice", &inputs, &[]);
    let more = channels - shape_of_input(node, plan).last().unwrap_or(&channels);
    let (before, after) = ((more / 2) as i64, (more - more / 2) as i64);
    let pads = w.graph.ints("pads", &[0, before, 0, 0, 0, after, 0, 0]);
    Ok(Value::Real(w.graph.node(node.name(), "Pad", &[&kept, &pads], &[])))
}

fn pixel_shuffle(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::PixelShuffle { factor } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let attributes = [Attribute::Int("blocksize", factor as i64), Attribute::Text("mode", "CRD")];
    Ok(Value::Real(w.graph.node(node.name(), "DepthToSpace", &[&x], &attributes)))
}

fn upsample_nearest(w: &mut Writer, node: &Node, _: &Plan) -> Result<Value> {
    let ops::UpsampleNearest { factor } = *settings(node)?;
    let x = operand(w, node, 0)?;
    let scales = w.graph.floats("scales", &[4], &[1.0, 1.0, factor as f32, factor as f32]);
    let attributes = [
        Attribute::Text("mode", "nearest"),
        Attribute::Text("coordinate_transformation_mode", "asymmetric"),
        Attribute::Text("nearest_mode", "floor"),
    ];
    // The region of interest, which this mode does not use, stays empty.
    Ok(Value::Real(w.graph.node(node.name(), "Resize", &[&x, "", &scales], &attributes)))
}
