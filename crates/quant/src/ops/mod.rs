//! Quantized operations: `conv2d` and `linear` whose three products are integer products, and `matmul` of two activations.
//!
//! The first two are one operation: a matrix product is a 1x1 convolution of 1x1 images for the kernels as well.

mod fixed;
mod fixed_matmul;
mod head_scale;
mod input;
mod matmul;
mod output_scale;
mod packing;
mod shift;
#[cfg(test)]
mod shift_tests;
#[cfg(test)]
mod tests;

pub use fixed::{FixedConv2d, FixedLinear, FixedOperation, FixedProduct, operations};
pub use fixed_matmul::FixedMatmul;
pub use input::{QInput, QuantizeInput};
pub use matmul::QMatmul;
use output_scale::OutputScale;

use crate::{
    ActivationQuantizer, GradientQuantizer, InputShifts, Precision, QuantConfig, SidedQuantizer, WeightQuantizer,
};
use fixnet_autograd::deferred::{self, Deferred};
use fixnet_autograd::gradient::{ColumnGradient, Gradient};
use fixnet_autograd::{Backward, Cx, Error, Grads, Graph, ParamId, Result, Slot, Source, Store, Value, Var};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::{self as tensor, Codes, Conv2dGeometry, Sums, Tensor, Window, float, map, reduce};
use std::sync::Arc;

/// The quantizers of one layer.
#[derive(Debug, Clone)]
struct Quantizers {
    name: String,
    precision: Precision,
    weight: Slot<WeightQuantizer>,
    input: ActivationQuantizer,
    gradient: Option<Slot<GradientQuantizer>>,
    output: Option<OutputScale>,
}

impl Quantizers {
    fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig) -> Result<Self> {
        let p: Precision = config.precision;
        if p.weight().is_none() {
            return Err(
                Error::setting("bits of a quantized layer", "1 to 8 for weights and activations", p).in_layer(name)
            );
        }
        let weight = WeightQuantizer::new(store, &format!("{name}.weight"), weight, config)?;
        let input = ActivationQuantizer::new(store, &format!("{name}.input"), config)?;
        let gradient = match p.gradient() {
            Some(bits) => {
                let quantizer = GradientQuantizer::new(bits, &config.rule, config.gradient_rounding)?;
                store.add_noise(name);
                Some(store.add_state(&format!("{name}.gradient"), quantizer)?)
            }
            None => None,
        };
        Ok(Self { name: name.to_string(), precision: p, weight, input, gradient, output: None })
    }

    fn output_scaled(mut self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        let weight = *store.state(self.weight);
        if config.output_scale && (weight.leaves_out() || self.input.leaves_out()) {
            self.output = Some(OutputScale::new(store, &self.name, &weight, config)?);
        }
        Ok(self)
    }
}

/// A quantized convolution: forward `y = x^ * w^` as exact integer sums, and both gradients as integer products of the
/// quantized output gradient. With gradients of 32 bits, the backward products are float products of the dequantized
/// operands.
#[derive(Debug, Clone)]
pub struct QConv2d {
    quantizers: Quantizers,
    window: Window,
}

/// A quantized fully connected operation, `y = x^ · w^T`.
#[derive(Debug, Clone)]
pub struct QLinear {
    quantizers: Quantizers,
    /// The shift of an input of either sign.
    shift: Option<ParamId>,
}

impl QConv2d {
    /// Quantizers around the latent weight `weight` [O, KH, KW, I] of the layer `name`. Whether the input has levels of both
    /// signs follows from the input itself: [`Var::is_non_negative`].
    ///
    /// # Errors
    /// The precision is float, or a name is taken.
    pub fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig, window: Window) -> Result<Self> {
        Ok(Self { quantizers: Quantizers::new(store, name, weight, config)?, window })
    }

    /// Adds a factor of the output, `name.output.scale`, learned unless scales are fixed, where quantized values leave
    /// out their scales (the TRS scheme, one-bit weights): for a layer that no normalization follows. The first training
    /// batch sets it to what is left out. There is one factor, or with weight scales by channel one for each channel; none
    /// if the configuration turns it off ([`QuantConfig::output_scale`]).
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        Ok(Self { quantizers: self.quantizers.output_scaled(store, config)?, ..self })
    }

    /// Records the operation. Shapes: x [N, H, W, I] to [N, H_out, W_out, O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or an input that is no layer's output, or the first one of any layer, is not finite.
    pub fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        self.record(g, &[x])
    }

    /// [`forward`](Self::forward) with a bias `[O]` added.
    ///
    /// # Errors
    /// As there, or the bias does not fit.
    pub fn forward_biased(&self, g: &mut Graph<'_>, x: &Var, bias: &Var) -> Result<Var> {
        self.record(g, &[x, bias])
    }

    fn record(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let x = inputs[0];
        g.store().owns(self.quantizers.weight).map_err(|e| e.in_layer(&self.quantizers.name))?;
        let weight = g.store().state(self.quantizers.weight).weight();
        let shape = g.store().param(weight).value.shape();
        let geometry = Conv2dGeometry::windowed(x.shape(), shape, self.window)
            .map_err(|e| Error::from(e).in_layer(&self.quantizers.name))?;
        if g.traces(&[x])? {
            let product = self.fixed(g.store_mut(), x.is_non_negative())?;
            let op = FixedConv2d { product, form: fixnet_autograd::ops::Conv2d { window: self.window } };
            return g.apply_as(&self.quantizers.name, op, inputs);
        }
        self.quantizers.forward(g, inputs, Product::Conv2d(geometry))
    }
}

impl QLinear {
    /// Quantizers around the latent weight `weight` [O, I] of the layer `name`. Whether the input has levels of both signs
    /// follows from the input itself: [`Var::is_non_negative`]. With [`InputShifts::Learned`] one of either sign is shifted by
    /// `name.input.shift`, `[I]`, before it is quantized, and the shift is taken out behind the product (`shift.rs`).
    ///
    /// # Errors
    /// The precision is float, or a name is taken.
    pub fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig) -> Result<Self> {
        let quantizers = Quantizers::new(store, name, weight, config)?;
        let learned = config.input_shifts == InputShifts::Learned;
        let shift = learned.then(|| quantizers.shift(store)).transpose()?;
        Ok(Self { quantizers, shift })
    }

    /// Adds a factor of the output, `name.output.scale`, learned unless scales are fixed, where quantized values leave
    /// out their scales (the TRS scheme, one-bit weights): for a layer that no normalization follows. The first training
    /// batch sets it to what is left out. There is one factor, or with weight scales by channel one for each channel; none
    /// if the configuration turns it off ([`QuantConfig::output_scale`]).
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        Ok(Self { quantizers: self.quantizers.output_scaled(store, config)?, ..self })
    }

    /// Records the operation. Shapes: x [.., I] to [.., O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or an input that is no layer's output, or the first one of any layer, is not finite.
    pub fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        self.record(g, &[x])
    }

    /// Records the operation with a bias `[O]` added: x [.., I] to [.., O].
    ///
    /// # Errors
    /// As [`forward`](Self::forward), or the bias does not fit.
    pub fn forward_biased(&self, g: &mut Graph<'_>, x: &Var, bias: &Var) -> Result<Var> {
        self.record(g, &[x, bias])
    }

    fn record(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        if let Some(shift) = self.shift.filter(|_| !inputs[0].is_non_negative()) {
            return self.record_shifted(g, inputs, shift).map_err(|e| e.in_layer(&self.quantizers.name));
        }
        if g.traces(&inputs[..1])? {
            let product = self.fixed(g.store_mut(), inputs[0].is_non_negative())?;
            let op = FixedLinear { product, form: fixnet_autograd::ops::Linear };
            return g.apply_as(&self.quantizers.name, op, inputs);
        }
        self.quantizers.forward(g, inputs, Product::Linear)
    }
}

/// Which product, with its three directions.
#[derive(Debug, Clone, Copy)]
enum Product {
    Conv2d(Conv2dGeometry),
    Linear,
}

impl Product {
    /// What a product moves and computes: `read` and `written` bytes of images, and the weights.
    fn work(&self, read: usize, written: usize, weight: &Codes) -> Work {
        let macs = match self {
            Self::Conv2d(geometry) => geometry.macs(),
            // Rows of what is read, whichever side that is.
            Self::Linear => (read / weight.shape()[1] * weight.len()) as u64,
        };
        Work { bytes: read + written + weight.len(), macs }
    }
    fn forward(&self, x: &Codes, w: &Codes) -> tensor::Result<tensor::Sums> {
        match self {
            Self::Conv2d(geometry) => tensor::conv2d(x, w, geometry),
            Self::Linear => {
                tensor::linear(&x.reshape(&rows(x.shape()))?, w)?.reshape(&ending(x.shape(), w.shape().first()))
            }
        }
    }
    fn input_grad(&self, g: &Codes, w: &Codes) -> tensor::Result<tensor::Sums> {
        match self {
            Self::Conv2d(geometry) => tensor::conv2d_input_grad(g, w, geometry),
            Self::Linear => tensor::linear_input_grad(&g.reshape(&rows(g.shape()))?, w)?
                .reshape(&ending(g.shape(), w.shape().last())),
        }
    }
    fn weight_grad(&self, x: &Codes, g: &Codes) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => tensor::conv2d_weight_grad(x, g, geometry),
            Self::Linear => tensor::linear_weight_grad(&x.reshape(&rows(x.shape()))?, &g.reshape(&rows(g.shape()))?),
        }
    }
    fn float_forward(&self, x: &Tensor, w: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d(x, w, geometry),
            Self::Linear => {
                float::linear(&x.reshape(&rows(x.shape()))?, w)?.reshape(&ending(x.shape(), w.shape().first()))
            }
        }
    }
    fn float_input_grad(&self, g: &Tensor, w: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d_input_grad(g, w, geometry),
            Self::Linear => float::linear_input_grad(&g.reshape(&rows(g.shape()))?, w)?
                .reshape(&ending(g.shape(), w.shape().last())),
        }
    }
    fn float_weight_grad(&self, x: &Tensor, g: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d_weight_grad(x, g, geometry),
            Self::Linear => float::linear_weight_grad(&x.reshape(&rows(x.shape()))?, &g.reshape(&rows(g.shape()))?),
        }
    }
}

/// The shape of a value as a matrix: the rows of its last axis. A value of one axis is no matrix, which the product refuses.
fn rows(shape: &[usize]) -> Vec<usize> {
    match shape {
        [outer @ .., last] if !outer.is_empty() => vec![outer.iter().product(), *last],
        shape => shape.to_vec(),
    }
}

/// A shape whose last axis has another length.
fn ending(shape: &[usize], last: Option<&usize>) -> Vec<usize> {
    shape[..shape.len().saturating_sub(1)].iter().chain(last).copied().collect()
}

/// Refuses the input of a network that is not finite. What comes of other layers follows from it and from parameters, which are
/// looked at.
fn check_input(g: &Graph<'_>, x: &Var, name: &str) -> Result<()> {
    if let (Value::Float(value), Source::Const) = (x.value(), g.source(x)) {
        let top = map::max_abs(value.data());
        if !top.is_finite() {
            let what = format!("the input of `{name}`");
            return Err(Error::NonFinite { what, step: g.store().step(), found: top.to_string() });
        }
    }
    Ok(())
}

/// Checks that a graph which records has the scales that the way back needs: those that the way forward had.
fn check_scales(g: &Graph<'_>, are_set: bool) -> Result<()> {
    if g.modes().record && !g.modes().calibrate && !are_set {
        let expected = "one that a training batch has set, where a graph records and does not calibrate";
        return Err(Error::setting("scale of a quantized layer", expected, "none"));
    }
    Ok(())
}

/// The gradient of the output of the layer `name` as codes. The rule of the quantizer moves if `calibrate`.
fn gradient_codes(
    slot: Slot<GradientQuantizer>,
    grad: Gradient,
    name: &str,
    calibrate: bool,
    cx: &mut Cx<'_>,
) -> Result<Codes> {
    let (draws, noise, step) = (cx.store.draws(name), cx.noise(name), cx.store.step());
    let grad = deferred_gradient(grad, cx.store);
    let quantizer = cx.state(slot);
    match (calibrate, draws) {
        (true, 0) => quantizer.quantize(&*grad, noise, name, step),
        (true, _) => quantizer.quantize_again(&*grad, noise, name, step),
        // The rule stays as it is: what a copy of it learns is forgotten.
        (false, _) => quantizer.clone().quantize(&*grad, noise, name, step),
    }
}

fn deferred_gradient(grad: Gradient, store: &mut Store) -> Arc<dyn Deferred> {
    match grad {
        Gradient::Deferred(d) => d,
        grad => Arc::new(grad.into_tensor(store)),
    }
}

impl Quantizers {
    /// The product with the first of `inputs`, and the second one added as a bias.
    fn forward(&self, g: &mut Graph<'_>, inputs: &[&Var], product: Product) -> Result<Var> {
        let y = self.product(g, inputs[0], product, None)?;
        match inputs.get(1) {
            Some(bias) => g.add_bias(&y, bias).map_err(|e| e.in_layer(&self.name)),
            None => Ok(y),
        }
    }

    /// The product with an input that has `shift` in it already; its share of the output is left in.
    fn product(&self, g: &mut Graph<'_>, x: &Var, product: Product, shift: Option<ParamId>) -> Result<Var> {
        let named = |e: Error| e.in_layer(&self.name);
        g.store().owns(self.weight).map_err(named)?;
        let (modes, input) = (g.modes(), self.input.sided(x.is_non_negative()));
        let calibrate = modes.calibrate;
        let (value, weight) = (x.value().clone(), *g.store().state(self.weight));
        let (len, size) = (x.shape().iter().product::<usize>(), x.value().size());
        let read = |_: &_| Work { bytes: len * (size + 1), macs: 0 };
        check_input(g, x, &self.name)?;
        let is_set = input.is_set(g.store()) && self.output.is_none_or(|o| o.kept(g.store()).is_some());
        check_scales(g, is_set).map_err(named)?;
        let input_scale = input.prepare(g.store_mut(), &value, calibrate).map_err(named)?;
        let quantize = || input.codes(&value, input_scale);
        let codes = profile::span("quantize input", &self.name, read, quantize).map_err(named)?;
        let weight_codes = weight.codes(g.store_mut())?;
        let work = |sums: &tensor::Result<tensor::Sums>| {
            product.work(len, sums.as_ref().map_or(0, |s| s.bytes()), &weight_codes)
        };
        let sums = profile::span("product", &self.name, work, || product.forward(&codes, &weight_codes));
        let mut sums = sums.map_err(|e| named(e.into()))?;
        let mut factors = weight.columns(g.store());
        if let Some(columns) = &factors {
            sums = sums.with_columns(columns)?;
        }
        let mut unscaled = None;
        if let Some(output) = &self.output {
            let omitted = input.missing(input_scale);
            let float = |store: &Store| {
                product
                    .float_forward(&deferred::write(&value), &store.param(weight.weight()).value)
                    .map_err(Error::from)
            };
            let operands = |store: &Store| output.of_operands(store, &weight, omitted);
            let more = output.factors(g.store_mut(), operands, &sums, float, calibrate)?;
            unscaled = Some(sums.clone());
            sums = OutputScale::apply(more.data(), sums)?;
            factors = Some(
                (0..sums.shape()[sums.shape().len() - 1])
                    .map(|k| factors.as_ref().map_or(1.0, |f| f[k]) * more.data()[k % more.len()])
                    .collect(),
            );
        }
        let scales = self.learned_scales(&weight);
        let params = std::iter::once(weight.weight()).chain(scales);
        let inputs = std::iter::once(g.source(x)).chain(params.map(Source::Param)).collect();
        Ok(g.record_value(Value::Sums(sums), inputs, || QuantizedBackward {
            quantizers: self.clone(),
            input,
            calibrate,
            product,
            shift,
            value,
            codes,
            factors,
            unscaled,
        }))
    }

    fn learned_scales(&self, weight: &WeightQuantizer) -> impl Iterator<Item = ParamId> + use<> {
        let output = self.output.filter(|o| o.learned).map(|o| o.scale);
        [self.input.learned_scale(), weight.learned_scale(), output].into_iter().flatten()
    }
}

struct QuantizedBackward {
    quantizers: Quantizers,
    /// That of the input, with the levels of its sign.
    input: SidedQuantizer,
    /// Whether the rule of the gradient quantizer moves.
    calibrate: bool,
    product: Product,
    /// The shift that the input has in it.
    shift: Option<ParamId>,
    /// The input before quantization; the layer before it shares the storage.
    value: Value,
    codes: Codes,
    /// Factors of the output's columns: scales that are not in the codes.
    factors: Option<Vec<f32>>,
    /// The output without its learned factors, where it has some.
    unscaled: Option<Sums>,
}

impl Backward for QuantizedBackward {
    fn name(&self) -> &'static str {
        match self.product {
            Product::Conv2d(_) => "qconv2d",
            Product::Linear => "qlinear",
        }
    }

    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }

    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let Self { quantizers: q, input, calibrate, product, shift, value, codes, factors, unscaled } = *self;
        let weight = *cx.store.state(q.weight);
        let weight_codes = weight.codes(cx.store)?;
        let input_needed = cx.needs(0) || q.input.learned_scale().is_some() || shift.is_some();
        let mut grad = grad;
        if let (Some(output), Some(y)) = (q.output.filter(|o| o.learned), unscaled) {
            let dy = grad.into_tensor(cx.store);
            output.slope(&dy, &y, cx.store)?;
            if let Some(shift) = shift {
                q.slope_of_shift(shift, &dy, cx.store)?;
            }
            grad = dy.into();
        }
        // The products know codes alone, so the gradient that they take has the factors of its columns.
        if let Some(factors) = factors {
            let d = deferred_gradient(grad, cx.store);
            grad = Gradient::Deferred(Arc::new(ColumnGradient::new(d, &factors)));
        }
        // Of a frozen weight with a frozen scale no gradient is wanted.
        let scale_learns = weight.learned_scale().is_some_and(|scale| !cx.store.param(scale).is_frozen());
        let weight_needed = cx.needs(1) || scale_learns;
        let columns = weight_codes.shape()[0];
        let (dx, mut dw, sums) = match q.gradient {
            Some(slot) => {
                let g = gradient_codes(slot, grad, &q.name, calibrate, cx)?;
                let lr_factor = cx.store.state(slot).lr_factor();
                cx.store.set_lr_factor(weight.weight(), lr_factor);
                let written = |sums: &tensor::Result<tensor::Sums>| sums.as_ref().map_or(0, |s| s.bytes());
                let dx = input_needed.then(|| {
                    let work = |s: &_| Work {
                        macs: product.work(codes.len(), 0, &weight_codes).macs,
                        ..product.work(g.len(), written(s), &weight_codes)
                    };
                    profile::span("input gradient product", &q.name, work, || product.input_grad(&g, &weight_codes))
                });
                let dx = dx.transpose()?;
                let work = |_: &_| product.work(codes.len(), g.len() + 4 * weight_codes.len(), &weight_codes);
                let product = || product.weight_grad(&codes, &g);
                let dw = weight_needed.then(|| profile::span("weight gradient product", &q.name, work, product));
                (dx.map(Value::Sums), dw.transpose()?, shift.map(|_| shift::sums_of_codes(&g)))
            }
            None => {
                let grad = grad.into_tensor(cx.store);
                let sums = shift.map(|_| reduce::column_sums(grad.data(), columns).to_vec());
                let dx =
                    input_needed.then(|| product.float_input_grad(&grad, &weight_codes.dequantize())).transpose()?;
                let dw = weight_needed.then(|| product.float_weight_grad(&codes.dequantize(), &grad));
                (dx.map(Value::Float), dw.transpose()?, sums)
            }
        };
        if let (Some(shift), Some(sums), Some(d)) = (shift, &sums, &dx) {
            q.shift_gradients((shift, &input), dw.as_mut(), sums, d, cx)?;
        }
        if dw.as_ref().is_some_and(|dw| !map::all_finite(dw.data())) {
            let what = format!("the weight gradient of `{}`", q.name);
            return Err(Error::NonFinite { what, step: cx.store.step(), found: "an infinite sum".into() });
        }
        let dw = dw.map(|dw| weight.backward(cx.store, dw));
        let dx = dx.map(|d| input.backward(cx.store, value, d));
        let dx = match dx {
            Some(Gradient::Through(dx)) if !cx.needs(0) => {
                dx.write_slope(cx.store);
                None
            }
            dx => dx,
        };
        // The scales' gradients go with those of the values that they scale.
        Ok([dx, dw].into_iter().chain(q.learned_scales(&weight).map(|_| None)).collect())
    }
}
