//! Quantized operations: `conv2d` and `linear` whose three products are integer products.
//!
//! Both are one operation: a matrix product is a 1x1 convolution of 1x1 images for the kernels as well.

mod fixed;
mod output_scale;
mod packing;

pub use fixed::{FixedConv2d, FixedLinear, FixedProduct, operations};
use output_scale::OutputScale;

use crate::{ActivationQuantizer, GradientQuantizer, Precision, QuantConfig, WeightQuantizer};
use fixnet_autograd::deferred::{self, Deferred};
use fixnet_autograd::gradient::Gradient;
use fixnet_autograd::{Backward, Cx, Error, Grads, Graph, ParamId, Result, Slot, Source, Store, Value, Var};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::{self as tensor, Buffer, Codes, Conv2dGeometry, Sums, Tensor, Window, float, map, reduce};
use std::ops::Range;
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

/// A gradient with a factor for each column, computed where it is needed.
struct Scaled {
    d: Arc<dyn Deferred>,
    /// Repeated, so that narrow rows fill vectors too.
    factors: Buffer<f32>,
}

impl Deferred for Scaled {
    fn shape(&self) -> &[usize] {
        self.d.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        match self.d.slice(Range { start: first, end: first + out.len() }) {
            Some(d) => out.copy_from_slice(d),
            None => self.d.fill(first, out),
        }
        map::scale_columns(out, first, &self.factors);
    }
    fn size(&self) -> usize {
        self.d.size()
    }
}

impl Quantizers {
    fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig, signed: bool) -> Result<Self> {
        let p: Precision = config.precision;
        if p.activation().is_none() {
            return Err(
                Error::setting("bits of a quantized layer", "1 to 8 for weights and activations", p).in_layer(name)
            );
        }
        let weight = WeightQuantizer::new(store, &format!("{name}.weight"), weight, config)?;
        let input = ActivationQuantizer::new(store, &format!("{name}.input"), config, signed)?;
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
}

impl QConv2d {
    /// Quantizers around the latent weight `weight` [O, KH, KW, I] of the layer `name`. `signed` says that the input
    /// may be negative.
    ///
    /// # Errors
    /// The precision is float, or a name is taken.
    pub fn new(
        store: &mut Store,
        name: &str,
        weight: ParamId,
        config: &QuantConfig,
        signed: bool,
        window: Window,
    ) -> Result<Self> {
        Ok(Self { quantizers: Quantizers::new(store, name, weight, config, signed)?, window })
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
        g.store().owns(self.quantizers.weight).map_err(|e| e.in_layer(&self.quantizers.name))?;
        let weight = g.store().state(self.quantizers.weight).weight();
        let shape = g.store().param(weight).value.shape();
        let geometry = Conv2dGeometry::windowed(x.shape(), shape, self.window)
            .map_err(|e| Error::from(e).in_layer(&self.quantizers.name))?;
        if g.is_traced(x) {
            return self.trace(g, &[x]);
        }
        self.quantizers.forward(g, x, Product::Conv2d(geometry))
    }

    /// [`forward`](Self::forward) with a bias [O] added.
    ///
    /// # Errors
    /// As there, or the bias does not fit.
    pub fn forward_biased(&self, g: &mut Graph<'_>, x: &Var, bias: &Var) -> Result<Var> {
        if g.is_traced(x) {
            return self.trace(g, &[x, bias]);
        }
        let y = self.forward(g, x)?;
        g.add_bias(&y, bias).map_err(|e| e.in_layer(&self.quantizers.name))
    }

    fn trace(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let op = FixedConv2d { product: self.fixed(g.store_mut())?, window: self.window };
        g.apply_as(&self.quantizers.name, op, inputs)
    }
}

impl QLinear {
    /// Quantizers around the latent weight `weight` [O, I] of the layer `name`. `signed` says that the input may be
    /// negative.
    ///
    /// # Errors
    /// The precision is float, or a name is taken.
    pub fn new(store: &mut Store, name: &str, weight: ParamId, config: &QuantConfig, signed: bool) -> Result<Self> {
        Ok(Self { quantizers: Quantizers::new(store, name, weight, config, signed)? })
    }

    /// Adds a factor of the output, `name.output.scale`, learned unless scales are fixed, where quantized values leave
    /// out their scales (the TRS scheme, one-bit weights): for a layer that no normalization follows. The first training
    /// batch sets it to what is left out. There is one factor, or with weight scales by channel one for each channel; none
    /// if the configuration turns it off ([`QuantConfig::output_scale`]).
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        Ok(Self { quantizers: self.quantizers.output_scaled(store, config)? })
    }

    /// Records the operation. Shapes: x [N, I] to [N, O], as exact sums.
    ///
    /// # Errors
    /// The sizes do not fit, or an input that is no layer's output, or the first one of any layer, is not finite.
    pub fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        if g.is_traced(x) {
            return self.trace(g, &[x]);
        }
        self.quantizers.forward(g, x, Product::Linear)
    }

    /// [`forward`](Self::forward) with a bias [O] added.
    ///
    /// # Errors
    /// As there, or the bias does not fit.
    pub fn forward_biased(&self, g: &mut Graph<'_>, x: &Var, bias: &Var) -> Result<Var> {
        if g.is_traced(x) {
            return self.trace(g, &[x, bias]);
        }
        let y = self.forward(g, x)?;
        g.add_bias(&y, bias).map_err(|e| e.in_layer(&self.quantizers.name))
    }

    fn trace(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let op = FixedLinear { product: self.fixed(g.store_mut())? };
        g.apply_as(&self.quantizers.name, op, inputs)
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
            Self::Linear => tensor::linear(x, w),
        }
    }
    fn input_grad(&self, g: &Codes, w: &Codes) -> tensor::Result<tensor::Sums> {
        match self {
            Self::Conv2d(geometry) => tensor::conv2d_input_grad(g, w, geometry),
            Self::Linear => tensor::linear_input_grad(g, w),
        }
    }
    fn weight_grad(&self, x: &Codes, g: &Codes) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => tensor::conv2d_weight_grad(x, g, geometry),
            Self::Linear => tensor::linear_weight_grad(x, g),
        }
    }
    fn float_forward(&self, x: &Tensor, w: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d(x, w, geometry),
            Self::Linear => float::linear(x, w),
        }
    }
    fn float_input_grad(&self, g: &Tensor, w: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d_input_grad(g, w, geometry),
            Self::Linear => float::linear_input_grad(g, w),
        }
    }
    fn float_weight_grad(&self, x: &Tensor, g: &Tensor) -> tensor::Result<Tensor> {
        match self {
            Self::Conv2d(geometry) => float::conv2d_weight_grad(x, g, geometry),
            Self::Linear => float::linear_weight_grad(x, g),
        }
    }
}

impl Quantizers {
    fn forward(&self, g: &mut Graph<'_>, x: &Var, product: Product) -> Result<Var> {
        let named = |e: Error| e.in_layer(&self.name);
        g.store().owns(self.weight).map_err(named)?;
        let training = g.training();
        let (value, weight) = (x.value().clone(), *g.store().state(self.weight));
        let (len, size) = (x.shape().iter().product::<usize>(), x.value().size());
        let read = |_: &_| Work { bytes: len * (size + 1), macs: 0 };
        // The input of a network; what comes of other layers follows from it and from parameters, which are looked at.
        if let (Value::Float(x), Source::Const) = (&value, g.source(x)) {
            let top = map::max_abs(x.data());
            if !top.is_finite() {
                let what = format!("the input of `{}`", self.name);
                return Err(Error::NonFinite { what, step: g.store().step(), found: top.to_string() });
            }
        }
        let input_scale = self.input.prepare(g.store_mut(), &value, training).map_err(named)?;
        let checked = self.input.is_checked(g.store(), training);
        let quantize = || self.input.codes(&value, input_scale, checked);
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
            let omitted = self.input.missing(input_scale);
            let float = |store: &Store| {
                product
                    .float_forward(&deferred::write(&value), &store.param(weight.weight()).value)
                    .map_err(Error::from)
            };
            let more = output.factors(g.store_mut(), &weight, omitted, &sums, float, training)?;
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
            product,
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
    product: Product,
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
        let Self { quantizers: q, product, value, codes, factors, unscaled } = *self;
        let weight = *cx.store.state(q.weight);
        let weight_codes = weight.codes(cx.store)?;
        let input_needed = cx.needs(0) || q.input.learned_scale().is_some();
        let mut grad = grad;
        if let (Some(output), Some(y)) = (q.output.filter(|o| o.learned), unscaled) {
            let dy = grad.into_tensor(cx.store);
            output.slope(&dy, &y, cx.store)?;
            grad = dy.into();
        }
        // The products know codes alone, so the gradient that they take has the factors of its columns.
        if let Some(factors) = factors {
            let d: Arc<dyn Deferred> = match grad {
                Gradient::Deferred(d) => d,
                grad => Arc::new(grad.into_tensor(cx.store)),
            };
            grad = Gradient::Deferred(Arc::new(Scaled { d, factors: reduce::spread(&factors) }));
        }
        let (dx, dw) = match q.gradient {
            Some(slot) => {
                let (draws, noise, step) = (cx.store.draws(&q.name), cx.noise(&q.name), cx.store.step());
                let grad: Arc<dyn Deferred> = match grad {
                    Gradient::Deferred(d) => d,
                    grad => Arc::new(grad.into_tensor(cx.store)),
                };
                let quantizer = cx.state(slot);
                let g = match draws {
                    0 => quantizer.quantize(&*grad, noise, &q.name, step)?,
                    _ => quantizer.quantize_again(&*grad, noise, &q.name, step)?,
                };
                let lr_factor = quantizer.lr_factor();
                cx.store.set_lr_factor(weight.weight(), lr_factor);
                drop(grad);
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
                let dw = profile::span("weight gradient product", &q.name, work, || product.weight_grad(&codes, &g))?;
                (dx.map(Value::Sums), dw)
            }
            None => {
                let grad = grad.into_tensor(cx.store);
                let dx =
                    input_needed.then(|| product.float_input_grad(&grad, &weight_codes.dequantize())).transpose()?;
                (dx.map(Value::Float), product.float_weight_grad(&codes.dequantize(), &grad)?)
            }
        };
        if !map::all_finite(dw.data()) {
            let what = format!("the weight gradient of `{}`", q.name);
            return Err(Error::NonFinite { what, step: cx.store.step(), found: "an infinite sum".into() });
        }
        let dw = weight.backward(cx.store, dw);
        let dx = dx.map(|d| q.input.backward(cx.store, value, d));
        let dx = match dx {
            Some(dx) if !cx.needs(0) => {
                dx.write_slope(cx.store);
                None
            }
            dx => dx,
        };
        // The scales' gradients go with those of the values that they scale.
        Ok([dx.map(Gradient::from), Some(dw)].into_iter().chain(q.learned_scales(&weight).map(|_| None)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MinMax, OutputScaleStart, Scales, Scheme, WeightScales};
    use fixnet_autograd::Group;
    use fixnet_autograd::check::sample;

    fn config(bits: &str) -> QuantConfig {
        QuantConfig { rule: MinMax.into(), ..QuantConfig::new(bits.parse().unwrap()) }
    }

    fn window(stride: usize) -> Window {
        Window { stride: [stride; 2], padding: [1, 1], ..Window::default() }
    }

    /// The quantized operation is the float operation on dequantized operands, exactly, where sums fit in 24 bits.
    #[test]
    fn forward_is_the_exact_product_of_the_dequantized_operands() {
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, sample(&[5, 3, 3, 4], 1)).unwrap();
        let layer = QConv2d::new(&mut store, "l", w, &config("4/4/32"), true, window(2)).unwrap();
        let mut g = Graph::train(&mut store);
        let x = g.input(sample(&[2, 5, 6, 4], 2));
        let y = layer.forward(&mut g, &x).unwrap();
        let codes = layer.quantizers.input.quantize(g.store_mut(), x.value(), true).unwrap();
        let weight = g.store().param(w).codes().unwrap().clone();
        let integers =
            |c: &Codes| Tensor::from_vec(c.shape(), (0..c.len()).map(|i| c.level(i) as f32).collect()).unwrap();
        let geometry = Conv2dGeometry::new(x.shape(), &[5, 3, 3, 4], [2, 2], [1, 1], [1, 1]).unwrap();
        let exact = float::conv2d(&integers(&codes), &integers(&weight), &geometry).unwrap();
        let Value::Sums(sums) = y.value() else { panic!("a quantized product gives sums") };
        assert!(sums.to_vec().iter().zip(exact.data()).all(|(&a, &b)| a as f32 == b));
        assert_eq!(sums.scale(), codes.scale() * weight.scale());
    }

    /// With eight bits everywhere the gradients are those of the float layer, up to the quantization steps.
    #[test]
    fn gradients_approach_the_float_layer() {
        let run = |bits: Option<&str>| {
            let mut store = Store::seeded(3);
            let group = if bits.is_some() { Group::Latent } else { Group::Weight };
            let x = store.add("x", Group::Weight, sample(&[16, 24], 2)).unwrap();
            let w = store.add("l.weight", group, sample(&[12, 24], 1)).unwrap();
            let layer = bits.map(|b| QLinear::new(&mut store, "l", w, &config(b), true).unwrap());
            let mut g = Graph::train(&mut store);
            let (xv, wv) = (g.param(x), g.param(w));
            let y = match &layer {
                Some(layer) => layer.forward(&mut g, &xv).unwrap(),
                None => g.linear(&xv, &wv).unwrap(),
            };
            let target = g.input(Tensor::zeros(y.shape()));
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();
            (store.grad(x).unwrap().clone(), store.grad(w).unwrap().clone())
        };
        let (dx, dw) = run(None);
        for (bits, bound) in [("8/8/8", 0.05), ("8/8/32", 0.03)] {
            let (qx, qw) = run(Some(bits));
            for (a, b) in [(&dx, &qx), (&dw, &qw)] {
                let top = map::max_abs(a.data());
                let worst = a.data().iter().zip(b.data()).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
                assert!(worst < bound, "{bits}: {worst}");
            }
        }
    }

    /// Everything that a layer computes and passes back, against the float operation on the quantized values and the
    /// formulas of METHOD 1, in every scheme, with scales by tensor and channel and with output scales.
    #[test]
    fn layers_of_every_kind_agree_with_the_float_operation_on_quantized_values() {
        for (bits, scheme, channels, scaled) in [
            ("4/4/32", Scheme::Lbt, false, false),
            ("4/4/32", Scheme::Lbt, true, false),
            ("4/4/32", Scheme::Trs, false, true),
            ("2/2/32", Scheme::Trs, true, true),
            ("1/1/32", Scheme::Trs, true, true),
            ("1/4/32", Scheme::Lbt, false, true),
            ("3/5/8", Scheme::Lbt, true, false),
            ("3/5/8", Scheme::Trs, true, true),
            ("8/8/8", Scheme::Trs, false, false),
        ] {
            let weight_scales = if channels { WeightScales::Channel } else { WeightScales::Tensor };
            let config = QuantConfig { scheme, weight_scales, ..config(bits) };
            let name = format!("{bits} {scheme} {weight_scales}");
            let mut store = Store::seeded(0);
            // Beyond the steps in which a negative input is refused: here it is clipped.
            store.set_step(10);
            let x = store.add("x", Group::Weight, sample(&[16, 12], 2)).unwrap();
            let w = store.add("l.weight", Group::Latent, sample(&[7, 12], 1)).unwrap();
            let mut layer = QLinear::new(&mut store, "l", w, &config, false).unwrap();
            if scaled {
                layer = layer.output_scaled(&mut store, &config).unwrap();
            }
            let mut g = Graph::train(&mut store);
            let xv = g.param(x);
            let y = layer.forward(&mut g, &xv).unwrap();
            let (found, target) = (y.tensor(), sample(&[16, 7], 5));
            let target_var = g.input(target.clone());
            let loss = g.mse_loss(&y, &target_var).unwrap();
            g.backward(loss).unwrap();

            // The operands' values with all their scales, and the factors of the output.
            let q = &layer.quantizers;
            let weight = *store.state(q.weight);
            let xq = q.input.quantize(&mut store, &Value::Float(sample(&[16, 12], 2)), true).unwrap();
            let mut wq = weight.codes(&mut store).unwrap().dequantize();
            if let Some(columns) = weight.columns(&store) {
                wq.data_mut().chunks_mut(12).zip(columns).for_each(|(row, s)| row.iter_mut().for_each(|w| *w *= s));
            }
            let output = q.output.map(|o| store.param(o.scale).value.data().to_vec()).unwrap_or(vec![1.0]);
            assert_eq!(output.len(), if channels && scaled { 7 } else { 1 }, "{name}");
            let mut diagonal = Tensor::zeros(&[7, 7]);
            (0..7).for_each(|k| diagonal.data_mut()[8 * k] = output[k % output.len()]);
            let mut float = Store::seeded(0);
            let ids: Vec<ParamId> = [("x", xq.dequantize()), ("w", wq), ("d", diagonal)]
                .map(|(name, t)| float.add(name, Group::Weight, t).unwrap())
                .to_vec();
            let mut g = Graph::train(&mut float);
            let v: Vec<Var> = ids.iter().map(|&id| g.param(id)).collect();
            let y = g.linear(&v[0], &v[1]).unwrap();
            let y = g.matmul(&y, &v[2]).unwrap();
            for (a, b) in found.data().iter().zip(y.tensor().data()) {
                approx::assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
            }
            let target = g.input(target);
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();

            // From the quantized values to the latents, by the quantizers themselves: those have their own tests.
            let exact = bits.ends_with("32");
            let close = |what: &str, a: &[f32], b: &[f32]| {
                assert_eq!(a.len(), b.len(), "{name} {what}");
                let top = map::max_abs(b).max(1e-6);
                let worst = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
                assert!(worst < if exact { 1e-4 } else { 0.03 }, "{name} {what}: {worst}");
            };
            let grad = |id: ParamId| float.grad(id).unwrap().clone();
            let dx = store.grad(x).unwrap().data().to_vec();
            let dw = store.grad(w).unwrap().data().to_vec();
            let slopes: Vec<Option<Vec<f32>>> = [q.input.learned_scale(), weight.learned_scale()]
                .map(|s| s.map(|s| store.grad(s).unwrap().data().to_vec()))
                .to_vec();
            let of_output = q.output.map(|o| store.grad(o.scale).unwrap().data().to_vec());
            store.zero_grad();
            let through = q.input.backward(&store, Value::Float(sample(&[16, 12], 2)), Value::Float(grad(ids[0])));
            close("dx", &dx, Gradient::from(through).into_tensor(&mut store).data());
            let mut of_codes = grad(ids[1]);
            if let Some(columns) = weight.columns(&store) {
                let rows = of_codes.data_mut().chunks_mut(12).zip(columns);
                rows.for_each(|(row, s)| row.iter_mut().for_each(|d| *d *= s));
            }
            close("dw", &dw, weight.backward(&mut store, of_codes).into_tensor(&mut store).data());
            for (scale, slope) in [q.input.learned_scale(), weight.learned_scale()].into_iter().zip(slopes) {
                if let (Some(scale), Some(slope)) = (scale, slope) {
                    close("scale", &slope, store.grad(scale).unwrap().data());
                }
            }
            if let Some(found) = of_output {
                let d = grad(ids[2]);
                let each: Vec<f32> = (0..7).map(|k| d.data()[8 * k]).collect();
                close("output scale", &found, &if found.len() == 7 { each } else { vec![each.iter().sum()] });
            }
        }
    }

    /// An output scale starts as what the operands leave out, so that the layer starts as the float layer that it is
    /// made from.
    #[test]
    fn output_scales_start_where_the_float_layer_is() {
        let run = |config: &QuantConfig, training: bool| {
            let mut store = Store::seeded(0);
            let w = store.add("l.weight", Group::Latent, sample(&[7, 64], 1)).unwrap();
            let layer =
                QLinear::new(&mut store, "l", w, config, false).unwrap().output_scaled(&mut store, config).unwrap();
            let mut g = if training { Graph::train(&mut store) } else { Graph::eval(&mut store) };
            let mut x = sample(&[16, 64], 2);
            x.data_mut().iter_mut().for_each(|x| *x = x.max(0.0));
            let (xv, wv) = (g.input(x), g.param(w));
            let (y, float) = (layer.forward(&mut g, &xv).unwrap().tensor(), g.linear(&xv, &wv).unwrap().tensor());
            let kept = layer.quantizers.output.map(|o| store.param(o.scale).value.data()[0]);
            let dot = |a: &Tensor, b: &Tensor| a.data().iter().zip(b.data()).map(|(a, b)| a * b).sum::<f32>();
            (dot(&y, &float) / dot(&float, &float), kept)
        };
        for (bits, bound) in [("8/8/8", 0.02), ("4/4/32", 0.15), ("1/1/32", 0.5)] {
            for weight_scales in [WeightScales::Tensor, WeightScales::Channel] {
                let config = QuantConfig { scheme: Scheme::Trs, weight_scales, ..config(bits) };
                let (share, kept) = run(&config, true);
                assert!((share - 1.0).abs() < bound && kept.unwrap() > 0.0, "{bits} {weight_scales}: {share}");
                assert_eq!(run(&config, false), (share, Some(0.0)), "an evaluation keeps nothing");
            }
        }
        // Values of the LBT scheme have their scales, unless weights have one bit.
        assert!(run(&config("4/4/4"), true).1.is_none());
        assert!(run(&config("1/4/32"), true).1.is_some());
    }

    /// As in EWGS: the first output has the mean magnitude of the float one, of the whole or of each channel.
    #[test]
    fn output_scales_may_start_from_the_output() {
        for weight_scales in [WeightScales::Tensor, WeightScales::Channel] {
            let output_scale_start = OutputScaleStart::Output;
            let config = QuantConfig { scheme: Scheme::Trs, weight_scales, output_scale_start, ..config("1/2/32") };
            let mut store = Store::seeded(0);
            let w = store.add("l.weight", Group::Latent, sample(&[3, 20], 1)).unwrap();
            let layer = QLinear::new(&mut store, "l", w, &config, true).unwrap();
            let layer = layer.output_scaled(&mut store, &config).unwrap();
            let mut g = Graph::train(&mut store);
            let (x, wv) = (g.input(sample(&[8, 20], 2)), g.param(w));
            let (y, float) = (layer.forward(&mut g, &x).unwrap().tensor(), g.linear(&x, &wv).unwrap().tensor());
            let magnitude = |y: &Tensor, k: usize| (0..8).map(|i| y.data()[3 * i + k].abs()).sum::<f32>();
            let of = |y: &Tensor| [0, 1, 2].map(|k| magnitude(y, k));
            let (found, expected) = (of(&y), of(&float));
            match weight_scales {
                WeightScales::Channel => {
                    found.iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, epsilon = 1e-4));
                }
                WeightScales::Tensor => {
                    let (a, b) = (found.iter().sum::<f32>(), expected.iter().sum::<f32>());
                    approx::assert_relative_eq!(a, b, epsilon = 1e-3);
                }
            }
        }
    }

    #[test]
    fn float_precision_and_wrong_shapes_name_the_layer() {
        let mut store = Store::seeded(0);
        let w = store.add("c.weight", Group::Latent, sample(&[5, 3, 3, 4], 1)).unwrap();
        let e = QConv2d::new(&mut store, "c", w, &QuantConfig::float(), false, window(1)).unwrap_err();
        assert!(e.to_string().contains("layer `c`"));
        let layer = QConv2d::new(&mut store, "c", w, &config("4/4/4"), false, window(1)).unwrap();
        let mut g = Graph::train(&mut store);
        let x = g.input(sample(&[2, 5, 6, 3], 2));
        assert!(layer.forward(&mut g, &x).unwrap_err().to_string().contains("layer `c`"));
    }

    #[test]
    fn an_input_that_is_not_finite_is_refused() {
        for bits in ["4/4/4", "1/1/4", "4/4/32"] {
            let mut store = Store::seeded(0);
            let w = store.add("l.weight", Group::Latent, sample(&[5, 4], 1)).unwrap();
            let q = QuantConfig { scales: Scales::Fixed, ..config(bits) };
            let layer = QLinear::new(&mut store, "l", w, &q, true).unwrap();
            let mut run = |x: Tensor, train: bool| {
                let mut g = if train { Graph::train(&mut store) } else { Graph::eval(&mut store) };
                let x = g.input(x);
                layer.forward(&mut g, &x).map(|_| ())
            };
            run(sample(&[3, 4], 2), true).unwrap();
            let mut x = sample(&[3, 4], 2);
            x.data_mut()[5] = f32::NAN;
            for train in [true, false] {
                let e = run(x.clone(), train).unwrap_err().to_string();
                assert!(e.starts_with("the input of `l` is not finite"), "{bits}: {e}");
            }
        }
    }
}
