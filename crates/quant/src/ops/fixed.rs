//! `FixedProduct`: what a quantized layer computes in evaluation, with no store behind it. Exporters read it, and a network
//! that was read from a file computes with it.

use super::packing::{pack, unpack};
use super::{FixedMatmul, Product, QuantizeInput, Quantizers};
use crate::{FixedInput, Precision, QConv2d, QLinear};
use fixnet_autograd::gradient::{Clip, Gradient, Through};
use fixnet_autograd::ops::{self, Operations};
use fixnet_autograd::{
    Array, Backward, Cx, Error, Grads, Graph, Obstacle, Operation, Parameter, Result, Settings, Store, Stored, Value,
    Var, settings_of,
};
use fixnet_tensor::{Codes, Conv2dGeometry, Range, Tensor, Window, map, reduce};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An integer product whose numbers do not move: `unit · Σ level(x) · level(w)`.
#[derive(Debug, Clone)]
pub struct FixedProduct {
    precision: Precision,
    input: FixedInput,
    weight: Codes,
    units: Tensor,
}

impl FixedProduct {
    /// A product of an input that `input` quantizes and of the levels of `weight` (`[O, KH, KW, I]` or `[O, I]`). `units`
    /// are the real value of a sum of one: `[]` for all output channels or `[O]`.
    ///
    /// # Errors
    /// There is not one unit, or one for each output channel.
    pub fn new(precision: Precision, input: FixedInput, weight: &Codes, units: Tensor) -> Result<Self> {
        let channels = weight.shape().first().copied().unwrap_or(0);
        if !(units.shape().is_empty() || units.shape() == [channels]) {
            return Err(fixnet_tensor::Error::shape("units", format!("[] or [{channels}]"), units.shape()).into());
        }
        Ok(Self { precision, input, weight: weight.with_scale(1.0), units })
    }

    /// The bits of weights, activations and, in training, gradients.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The quantizer of the input.
    pub fn input(&self) -> FixedInput {
        self.input
    }

    /// The levels of the weight, with scale 1.
    pub fn weight(&self) -> &Codes {
        &self.weight
    }

    /// The real value of a sum of one: `[]` for all output channels, or `[O]`.
    pub fn units(&self) -> &Tensor {
        &self.units
    }

    /// The real value of a sum of one in output channel `k`.
    pub fn unit(&self, k: usize) -> f32 {
        self.units.data()[if self.units.len() == 1 { 0 } else { k }]
    }

    /// Whether the scale of the input is known: a training batch sets it.
    pub fn is_ready(&self) -> bool {
        self.input.per_unit > 0.0
    }

    /// [`QConv2d::forward`] with these numbers: [N, H, W, I] to [N, H_out, W_out, O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or the scale of the input is not known.
    pub fn conv2d(&self, g: &mut Graph<'_>, x: &Var, window: Window) -> Result<Var> {
        g.apply(FixedConv2d { product: self.clone(), form: ops::Conv2d { window } }, &[x])
    }

    /// [`QLinear::forward`] with these numbers: [.., I] to [.., O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or the scale of the input is not known.
    pub fn linear(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        g.apply(FixedLinear { product: self.clone(), form: ops::Linear }, &[x])
    }

    fn forward(&self, g: &mut Graph<'_>, inputs: &[&Var], product: Product) -> Result<Var> {
        let &[x, ref bias @ ..] = inputs else { return Err(count(inputs.len())) };
        if !self.is_ready() {
            return Err(Error::setting("scale of an input", "one that a training batch has set", "none"));
        }
        let codes = self.input.quantize(x.value())?;
        let sums = product.forward(&codes, &self.weight)?;
        let sums = match self.units.data() {
            [unit] => sums.scaled(*unit),
            units => sums.with_columns(units)?,
        };
        let source = g.source(x);
        let y = g.record_value(Value::Sums(sums), vec![source], || FixedBackward {
            fixed: self.clone(),
            product,
            value: x.value().clone(),
        });
        bias.iter().try_fold(y, |y, bias| g.add_bias(&y, bias))
    }

    /// Describes the codes, for a packed network.
    fn form(&self) -> CodesForm {
        let (weight, input) = (self.weight.range(), self.input.range);
        CodesForm {
            precision: self.precision.to_string(),
            shape: self.weight.shape().to_vec(),
            weight: (weight.bits(), weight.min()),
            input: (input.bits(), input.min()),
        }
    }

    fn arrays(&self) -> Vec<(&'static str, Array)> {
        vec![
            ("codes", Array::U64(pack(&self.weight))),
            ("units", Array::F32(self.units.clone())),
            ("levels_a_unit", Array::F32(Tensor::scalar(self.input.per_unit))),
        ]
    }

    fn parameters(&self, constants: &[(String, &Tensor)]) -> Vec<Parameter> {
        let (shape, bits) = (self.weight.shape().to_vec(), self.weight.range().bits());
        let weight = Parameter { name: "weight".into(), shape, bits };
        let others = constants.iter().map(|(name, t)| Parameter::float(name.clone(), t.shape()));
        std::iter::once(weight).chain(others).collect()
    }

    fn obstacle(&self) -> Option<Obstacle> {
        let obstacle = Obstacle { expected: "an input scale that a training batch has set", found: "none".into() };
        (!self.is_ready()).then_some(obstacle)
    }

    /// Reads a product from the settings and arrays of a packed network.
    fn read(stored: &Stored<'_>) -> Result<Self> {
        let form: Option<CodesForm> = stored.setting("codes")?;
        let form = form.ok_or_else(|| stored.misfit("codes", "the description of codes", "none"))?;
        let range = |(bits, min)| Range::from_bits_and_min(bits, min).map_err(|e| stored.misfit("codes", "levels", e));
        let (weight, input) = (range(form.weight)?, range(form.input)?);
        let codes = match stored.array("codes") {
            Some(Array::U64(words)) => unpack(&words, &form.shape, weight),
            _ => None,
        };
        let expected = || format!("codes of {} bits in the shape {:?}", weight.bits(), form.shape);
        let codes = codes.ok_or_else(|| stored.misfit("codes", expected(), "others or none"))?;
        let precision = form.precision.parse().map_err(|e: Error| stored.misfit("codes", "a precision", e))?;
        let input = FixedInput { range: input, per_unit: stored.number("levels_a_unit")? };
        Self::new(precision, input, &codes, stored.floats("units")?)
    }
}

/// The derivative of a fixed product with respect to its input: a float product, which passes where no level was clipped.
struct FixedBackward {
    fixed: FixedProduct,
    product: Product,
    value: Value,
}

impl Backward for FixedBackward {
    fn name(&self) -> &'static str {
        match self.product {
            Product::Conv2d(_) => "fixed conv2d",
            Product::Linear => "fixed linear",
        }
    }
    fn backward(self: Box<Self>, mut grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { fixed, product, value } = *self;
        let FixedInput { range, per_unit } = fixed.input;
        // A level counts as a unit of its channel, and the input has so many levels per unit.
        let factors: Vec<f32> = fixed.units.data().iter().map(|unit| unit * per_unit).collect();
        map::scale_columns(grad.data_mut(), 0, &reduce::spread(&factors));
        let d = product.float_input_grad(&grad, &fixed.weight.dequantize())?;
        let [low, top] = [range.min(), range.max()].map(|level| level as f32);
        let clip = Clip { per_unit, low, top, post: 0.0, factor: 0.0, scale: None };
        let through = Through { value, d: Value::Float(d), clip: Some(clip), plus: None, gate: None };
        Ok(vec![Some(Gradient::from(through).into_tensor(cx.store))])
    }
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

fn count(found: usize) -> Error {
    Error::setting("inputs of an operation", "1 or 2", found)
}

/// Splits the shapes of the inputs into that of the image and perhaps that of the bias.
fn with_bias<'a>(inputs: &[&'a [usize]]) -> Result<(&'a [usize], Option<&'a [usize]>)> {
    match *inputs {
        [x] => Ok((x, None)),
        [x, bias] => Ok((x, Some(bias))),
        _ => Err(count(inputs.len())),
    }
}

fn operand(index: usize) -> String {
    ["input", "bias"].get(index).map_or_else(|| format!("operand{index}"), ToString::to_string)
}

fn codes_setting(product: &FixedProduct) -> (String, serde_json::Value) {
    ("codes".into(), serde_json::Value::Object(settings_of(&product.form())))
}

/// A quantized operation whose numbers do not move, perhaps with a bias `[O]`: [`FixedConv2d`] or [`FixedLinear`].
#[derive(Debug, Clone)]
pub struct FixedOperation<F> {
    /// The numbers.
    pub product: FixedProduct,
    /// How they meet the input: the settings of the float operation of the same kind.
    pub form: F,
}

/// A quantized convolution whose numbers do not move.
pub type FixedConv2d = FixedOperation<ops::Conv2d>;

/// A quantized fully connected operation whose numbers do not move.
pub type FixedLinear = FixedOperation<ops::Linear>;

/// A float operation that has a quantized one of the same kind.
trait Form: Operation + Clone {
    /// The shape of the output.
    fn shape_of(&self, x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>>;

    /// The product for an input of this shape.
    fn product(&self, x: &[usize], weight: &[usize]) -> Result<Product>;
}

impl Form for ops::Conv2d {
    fn shape_of(&self, x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>> {
        self.shape(x, weight, bias)
    }
    fn product(&self, x: &[usize], weight: &[usize]) -> Result<Product> {
        Ok(Product::Conv2d(Conv2dGeometry::windowed(x, weight, self.window)?))
    }
}

impl Form for ops::Linear {
    fn shape_of(&self, x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>> {
        Self::shape(x, weight, bias)
    }
    fn product(&self, _: &[usize], _: &[usize]) -> Result<Product> {
        Ok(Product::Linear)
    }
}

impl<F: Form + std::fmt::Debug> Operation for FixedOperation<F> {
    fn kind(&self) -> &'static str {
        self.form.kind()
    }
    fn operand(&self, index: usize) -> String {
        operand(index)
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let (x, bias) = with_bias(inputs)?;
        self.form.shape_of(x, self.product.weight.shape(), bias)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let x = inputs.first().ok_or_else(|| count(0))?;
        let product = self.form.product(x.shape(), self.product.weight.shape())?;
        self.product.forward(g, inputs, product)
    }
    fn settings(&self) -> Settings {
        self.form.settings().into_iter().chain([codes_setting(&self.product)]).collect()
    }
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        self.product.arrays()
    }
    fn parameters(&self, constants: &[(String, &Tensor)]) -> Vec<Parameter> {
        self.product.parameters(constants)
    }
    fn precision(&self) -> Option<String> {
        Some(self.product.precision.to_string())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        ops::macs(parameters, output)
    }
    fn obstacle(&self) -> Option<Obstacle> {
        self.product.obstacle()
    }
}

/// Returns the operations that a packed network may have: those of floats, and the quantized products.
pub fn operations() -> Operations {
    Operations::default()
        .with("conv2d", |stored| match stored.has("codes") {
            true => {
                let form: ops::Conv2d = stored.settings()?;
                Ok(Arc::new(FixedConv2d { product: FixedProduct::read(stored)?, form }))
            }
            false => ops::Conv2d::read(stored),
        })
        .with("linear", |stored| match stored.has("codes") {
            true => Ok(Arc::new(FixedLinear { product: FixedProduct::read(stored)?, form: ops::Linear })),
            false => Ok(Arc::new(ops::Linear)),
        })
        .with("quantize", QuantizeInput::read)
        .with("matmul", |stored| match stored.has("codes") {
            true => Ok(Arc::new(FixedMatmul::read(stored)?)),
            false => Ok(Arc::new(stored.settings::<ops::Matmul>()?)),
        })
}

impl Quantizers {
    pub(super) fn fixed(&self, store: &mut Store, non_negative: bool) -> Result<FixedProduct> {
        let sided = self.input.sided(non_negative);
        store.owns(self.weight).map_err(|e| e.in_layer(&self.name))?;
        let weight = *store.state(self.weight);
        let codes = weight.codes(store)?;
        let (input, value) = sided.fixed(store);
        // The same products in the same order as in `forward`.
        let mut units = Tensor::scalar(value * codes.scale());
        let mut times = |factors: &[f32]| -> Result<()> {
            let (len, old) = (factors.len().max(units.len()), units.data().to_vec());
            let at = |v: &[f32], k: usize| v[if v.len() == 1 { 0 } else { k }];
            let values = (0..len).map(|k| at(&old, k) * at(factors, k)).collect();
            let shape: &[usize] = if units.shape().is_empty() && factors.len() == 1 { &[] } else { &[len] };
            units = Tensor::from_vec(shape, values)?;
            Ok(())
        };
        if let Some(columns) = weight.columns(store) {
            times(&columns)?;
        }
        if let Some(output) = &self.output {
            let missing = sided.missing(sided.s(store));
            let factors = output.kept(store).unwrap_or_else(|| output.of_operands(store, &weight, missing));
            times(factors.data())?;
        }
        FixedProduct::new(self.precision, input, &codes, units)
    }
}

impl QConv2d {
    /// What evaluation computes, with the numbers as they are now, of an input that has no element below 0 or one of either
    /// sign. Weights are quantized if they are not yet.
    ///
    /// # Errors
    /// The layer was made in another store.
    pub fn fixed(&self, store: &mut Store, non_negative: bool) -> Result<FixedProduct> {
        self.quantizers.fixed(store, non_negative)
    }
}

impl QLinear {
    /// What evaluation computes, with the numbers as they are now, of an input that has no element below 0 or one of either
    /// sign. Weights are quantized if they are not yet.
    ///
    /// # Errors
    /// The layer was made in another store.
    pub fn fixed(&self, store: &mut Store, non_negative: bool) -> Result<FixedProduct> {
        self.quantizers.fixed(store, non_negative)
    }
}
