//! `FixedMatmul`: what a quantized product of two activations computes in evaluation, with no store behind it.

use crate::{FixedInput, Precision};
use fixnet_autograd::gradient::{Clip, Gradient, Through};
use fixnet_autograd::ops;
use fixnet_autograd::{
    Array, Backward, Cx, Error, Grads, Graph, Obstacle, Operation, Result, Settings, Stored, Value, Var, exactly,
    settings_of,
};
use fixnet_tensor::{Codes, Range, Tensor, Turned, float_matmul, map, matmul};
use serde::{Deserialize, Serialize};

/// A product of pairs of matrices of two activations whose quantizers do not move: `unit · Σ level(a) · level(b)`. Shapes are
/// those of [`QMatmul`](crate::QMatmul).
#[derive(Debug, Clone)]
pub struct FixedMatmul {
    /// The bits of the operands and, in training, gradients.
    pub precision: Precision,
    /// The quantizers of both operands.
    pub inputs: [FixedInput; 2],
    /// The real value of a sum of one.
    pub unit: f32,
    /// Whether the second operand is transposed.
    pub transposed: bool,
}

/// The settings in packed networks: bits and lowest level of each operand.
#[derive(Serialize, Deserialize)]
struct CodesForm {
    precision: String,
    left: (u8, i32),
    right: (u8, i32),
}

impl FixedMatmul {
    fn form(&self) -> ops::Matmul {
        ops::Matmul { transposed: self.transposed }
    }

    fn turned(&self) -> Turned {
        if self.transposed { Turned::Right } else { Turned::Neither }
    }

    /// Whether the scales of both operands are known: a training batch sets them.
    pub fn is_ready(&self) -> bool {
        self.inputs.iter().all(|input| input.per_unit > 0.0)
    }

    /// Reads a product from the settings and arrays of a packed network.
    pub(super) fn read(stored: &Stored<'_>) -> Result<Self> {
        let form: Option<CodesForm> = stored.setting("codes")?;
        let form = form.ok_or_else(|| stored.misfit("codes", "the description of codes", "none"))?;
        let range = |(bits, min)| Range::from_bits_and_min(bits, min).map_err(|e| stored.misfit("codes", "levels", e));
        let precision = form.precision.parse().map_err(|e: Error| stored.misfit("codes", "a precision", e))?;
        let per_unit = stored.floats("levels_a_unit")?;
        let (left, right) = match *per_unit.data() {
            [left, right] if left.is_finite() && right.is_finite() => (left, right),
            _ => return Err(stored.misfit("levels_a_unit", "two finite numbers", per_unit.len())),
        };
        let inputs = [
            FixedInput { range: range(form.left)?, per_unit: left },
            FixedInput { range: range(form.right)?, per_unit: right },
        ];
        let transposed = stored.settings::<ops::Matmul>()?.transposed;
        Ok(Self { precision, inputs, unit: stored.number("unit")?, transposed })
    }
}

impl Operation for FixedMatmul {
    fn kind(&self) -> &'static str {
        "matmul"
    }
    fn operand(&self, index: usize) -> String {
        self.form().operand(index)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        self.form().output_shape(inputs)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [a, b] = exactly(inputs)?;
        if !self.is_ready() {
            return Err(Error::setting("scale of an input", "one that a training batch has set", "none"));
        }
        let codes = [self.inputs[0].quantize(a.value())?, self.inputs[1].quantize(b.value())?];
        let sums = matmul(&codes[0], &codes[1], self.turned())?.scaled(self.unit);
        let sources = vec![g.source(a), g.source(b)];
        let values = [a, b].map(|x| x.value().clone());
        Ok(g.record_value(Value::Sums(sums), sources, || FixedMatmulBackward { fixed: self.clone(), codes, values }))
    }
    fn settings(&self) -> Settings {
        let range = |i: usize| (self.inputs[i].range.bits(), self.inputs[i].range.min());
        let form = CodesForm { precision: self.precision.to_string(), left: range(0), right: range(1) };
        let codes = ("codes".into(), serde_json::Value::Object(settings_of(&form)));
        self.form().settings().into_iter().chain([codes]).collect()
    }
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        let [left, right] = self.inputs.map(|input| input.per_unit);
        let mut per_unit = Tensor::zeros(&[2]);
        per_unit.data_mut().copy_from_slice(&[left, right]);
        vec![("unit", Array::F32(Tensor::scalar(self.unit))), ("levels_a_unit", Array::F32(per_unit))]
    }
    fn precision(&self) -> Option<String> {
        Some(self.precision.to_string())
    }
    fn obstacle(&self) -> Option<Obstacle> {
        let obstacle = Obstacle { expected: "input scales that a training batch has set", found: "none".into() };
        (!self.is_ready()).then_some(obstacle)
    }
}

/// The derivative of a fixed product with respect to its operands: float products, which pass where no level was clipped.
struct FixedMatmulBackward {
    fixed: FixedMatmul,
    codes: [Codes; 2],
    values: [Value; 2],
}

impl Backward for FixedMatmulBackward {
    fn name(&self) -> &'static str {
        "fixed matmul"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { fixed, codes, values } = *self;
        let [a, b] = codes.map(|c| c.dequantize());
        let (da, db) = match fixed.transposed {
            true => (float_matmul(&grad, &b, Turned::Neither)?, float_matmul(&grad, &a, Turned::Left)?),
            false => (float_matmul(&grad, &b, Turned::Right)?, float_matmul(&a, &grad, Turned::Left)?),
        };
        let mut grads = Vec::new();
        for ((value, d), FixedInput { range, per_unit }) in values.into_iter().zip([da, db]).zip(fixed.inputs) {
            // A level of one operand counts as a unit of the product, and the operand has so many levels per unit.
            let factor = fixed.unit * per_unit;
            let mut scaled = Tensor::take(d.shape());
            map::map1(d.data(), scaled.data_mut(), |d| d * factor);
            let [low, top] = [range.min(), range.max()].map(|level| level as f32);
            let clip = Clip { per_unit, low, top, post: 0.0, factor: 0.0, scale: None };
            let through = Through { value, d: Value::Float(scaled), clip: Some(clip), plus: None, gate: None };
            grads.push(Some(Gradient::from(through).into_tensor(cx.store)));
        }
        Ok(grads)
    }
}
