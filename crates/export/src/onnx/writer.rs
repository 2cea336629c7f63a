//! `Writer`: values of a plan as values of an ONNX graph, and the pieces that several operations are written with.

use super::graph::{Graph, Type};
use super::{CodeType, Form};
use fixnet_quant::{FixedInput, FixedProduct};
use fixnet_tensor::Codes;

/// [H, W, C] as [C, H, W]; other shapes as they are.
pub(super) fn nchw(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [h, w, c] => vec![c, h, w],
        _ => shape.to_vec(),
    }
}

/// The numbers of a weight [O, KH, KW, I] in the order [O, I, KH, KW], with that shape; others as they are.
pub(crate) fn oihw<T: Copy>(shape: &[usize], values: &[T]) -> (Vec<usize>, Vec<T>) {
    let &[o, kh, kw, i] = shape else { return (shape.to_vec(), values.to_vec()) };
    let area = kh * kw;
    let order = (0..o * i * area).map(|k| values[(k / (i * area) * area + k % area) * i + k / area % i]);
    (vec![o, i, kh, kw], order.collect())
}

/// What the graph has of a value of the plan.
pub(super) enum Value {
    /// The value, under this name.
    Real(String),
    /// The sums of levels of a product, each worth a unit of its output channel.
    Sums { name: String, product: FixedProduct, image: bool },
}

/// What was expected and what was found.
pub(super) type Misfit = (&'static str, String);

/// A graph that grows by the operations of a plan.
pub(super) struct Writer {
    pub(super) graph: Graph,
    form: Form,
    values: Vec<Value>,
}

impl Writer {
    pub(super) fn new(form: Form) -> Self {
        Self { graph: Graph::default(), form, values: Vec::new() }
    }

    /// Keeps what the graph has of the next node.
    pub(super) fn push(&mut self, value: Value) {
        self.values.push(value);
    }

    /// What the graph has of node `index`.
    pub(super) fn value(&self, index: usize) -> &Value {
        &self.values[index]
    }

    /// The name of the real value of node `index`.
    pub(super) fn real(&mut self, index: usize) -> String {
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

    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.graph.floats(name, &[], &[value])
    }

    /// `x op values`, with one value for all or one for each channel.
    pub(super) fn channels(
        &mut self,
        layer: &str,
        op: &str,
        x: &str,
        what: &str,
        values: &[f32],
        image: bool,
    ) -> String {
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
    pub(super) fn times(&mut self, layer: &str, factor: &str, x: &str) -> String {
        self.graph.node(layer, "Mul", &[factor, x], &[])
    }

    /// The levels of an input, as floats.
    pub(super) fn quantize(&mut self, layer: &str, x: &str, input: FixedInput) -> String {
        let FixedInput { range, per_unit } = input;
        let float = self.form.codes() == CodeType::Float;
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

    /// The sums of a quantized product, as whole numbers: tract multiplies the weights of a convolution by the factor behind it,
    /// which makes the sums inexact, unless something stands between. These bounds no sum of fixnet reaches. Only the INT8 form
    /// has them: the others are not for such runtimes.
    pub(super) fn whole(&mut self, layer: &str, sums: String) -> String {
        if self.form.codes() != CodeType::Int8 {
            return sums;
        }
        let [low, high] =
            [("least_sum", -2f32.powi(31)), ("largest_sum", 2f32.powi(31))].map(|(n, v)| self.scalar(n, v));
        self.graph.node(layer, "Clip", &[&sums, &low, &high], &[])
    }

    /// The levels of a weight, as floats.
    pub(super) fn weight_levels(&mut self, layer: &str, weight: &Codes) -> String {
        let levels: Vec<i32> = (0..weight.len()).map(|i| weight.level(i)).collect();
        let (shape, levels) = oihw(weight.shape(), &levels);
        let name = format!("{layer}.weight");
        let Some(ty) = self.form.weight(weight.range()) else {
            let floats: Vec<f32> = levels.iter().map(|&q| q as f32).collect();
            return self.graph.floats(&name, &shape, &floats);
        };
        // Asked for precise products, onnxruntime 1.32 makes bytes without sign of such weights and of their zero points, once per product and
        // under one name: it refuses a file in which products share them.
        if ty == Type::Int8 && levels.iter().any(|level| level.abs() >= 64) {
            self.graph.keep_apart();
        }
        let codes = self.graph.levels(&name, &shape, ty, &levels);
        let scale = self.scalar(&format!("{layer}.weight_level"), 1.0);
        let zero = self.graph.levels(&format!("{layer}.weight_zero_point"), &[], ty, &[0]);
        self.graph.node(layer, "DequantizeLinear", &[&codes, &scale, &zero], &[])
    }
}
