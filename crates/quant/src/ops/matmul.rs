//! `QMatmul`: a product of two activations whose three directions are integer products, such as the two of attention.
//!
//! For each pair of matrices the output is `y = a^ · b^` or `y = a^ · b^T`. With the output's gradient quantized once, both
//! input gradients are products of its codes and those of the other operand.

use super::head_scale::HeadScale;
use super::output_scale::OutputScale;
use super::{FixedMatmul, check_input, check_scales, gradient_codes};
use crate::{ActivationQuantizer, GradientQuantizer, Precision, QuantConfig, SidedQuantizer};
use fixnet_autograd::deferred::{self, Deferred};
use fixnet_autograd::gradient::Gradient;
use fixnet_autograd::{Backward, Cx, Error, Grads, Graph, ParamId, Result, Slot, Source, Store, Value, Var};
use fixnet_tensor::profile::{self, Work};
use fixnet_tensor::{self as tensor, Codes, Pairs, Sums, Tensor, Turned, float_matmul, map, matmul, reduce};

/// A quantized product of pairs of matrices of two activations: forward as exact integer sums, and both gradients as integer
/// products of the quantized output gradient. With gradients of 32 bits, the backward products are float products of the
/// dequantized operands.
#[derive(Debug, Clone)]
pub struct QMatmul {
    name: String,
    precision: Precision,
    transposed: bool,
    operands: [ActivationQuantizer; 2],
    /// The scales by head of operands whose quantizers have none.
    heads: [Option<HeadScale>; 2],
    gradient: Option<Slot<GradientQuantizer>>,
    output: Option<OutputScale>,
}

impl QMatmul {
    /// Quantizers of both operands of the product `name`, the second of which is transposed if `transposed`; their scales are
    /// `name.left.scale` and `name.right.scale`. Both have the activation bits of `config`. Whether an operand has levels of
    /// both signs follows from the operand itself: [`Var::is_non_negative`].
    ///
    /// # Errors
    /// The precision is float, or a name is taken.
    pub fn new(store: &mut Store, name: &str, transposed: bool, config: &QuantConfig) -> Result<Self> {
        Self::by_heads(store, name, transposed, [None; 2], config)
    }

    /// The same with a scale for each of so many heads of an operand [N, H, .., ..], which has two bits or more. Quantized values
    /// have these scales in both schemes, so no factor of the output stands for them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn by_heads(
        store: &mut Store,
        name: &str,
        transposed: bool,
        heads: [Option<usize>; 2],
        config: &QuantConfig,
    ) -> Result<Self> {
        let named = |e: Error| e.in_layer(name);
        let by_head = |i: usize| heads[i].filter(|_| config.precision.activation().is_some_and(|bits| bits > 1));
        let mut operand = |i: usize, side: &str| -> Result<(ActivationQuantizer, Option<HeadScale>)> {
            let key = format!("{name}.{side}");
            match by_head(i) {
                None => Ok((ActivationQuantizer::new(store, &key, config)?, None)),
                Some(heads) => {
                    let quantizer = ActivationQuantizer::unscaled(config)?;
                    Ok((quantizer, Some(HeadScale::new(store, &key, heads, config)?)))
                }
            }
        };
        let (left, left_scale) = operand(0, "left").map_err(named)?;
        let (right, right_scale) = operand(1, "right").map_err(named)?;
        let gradient = match config.precision.gradient() {
            Some(bits) => {
                let quantizer = GradientQuantizer::new(bits, &config.rule, config.gradient_rounding)?;
                store.add_noise(name);
                Some(store.add_state(&format!("{name}.gradient"), quantizer)?)
            }
            None => None,
        };
        let precision = config.precision;
        let (name, operands, heads) = (name.to_string(), [left, right], [left_scale, right_scale]);
        Ok(Self { name, precision, transposed, operands, heads, gradient, output: None })
    }

    /// Adds a factor of the output, `name.output.scale`, learned unless scales are fixed, where quantized values leave out
    /// their scales (the TRS scheme): no normalization follows a product of two activations. The first training batch sets it
    /// to what is left out; there is none if the configuration turns it off ([`QuantConfig::output_scale`]).
    ///
    /// # Errors
    /// The name is taken.
    pub fn output_scaled(mut self, store: &mut Store, config: &QuantConfig) -> Result<Self> {
        if config.output_scale && self.operands.iter().any(ActivationQuantizer::leaves_out) {
            self.output = Some(OutputScale::single(store, &self.name, config)?);
        }
        Ok(self)
    }

    fn turned(&self) -> Turned {
        if self.transposed { Turned::Right } else { Turned::Neither }
    }

    /// Records the operation. Shapes: a [.., M, K] and b [.., K, N], or [.., N, K] if it is transposed, to [.., M, N], as exact
    /// sums. The axes before the matrices are the same.
    ///
    /// # Errors
    /// The sizes do not fit, or an operand that is no layer's output, or the first one of any layer, is not finite.
    pub fn forward(&self, g: &mut Graph<'_>, a: &Var, b: &Var) -> Result<Var> {
        let named = |e: Error| e.in_layer(&self.name);
        let scales = self.operands.iter().filter_map(ActivationQuantizer::scale);
        scales.clone().try_for_each(|scale| g.store().owns(scale)).map_err(named)?;
        let sided = [0, 1].map(|i| self.operands[i].sided([a, b][i].is_non_negative()));
        if self.heads.iter().all(Option::is_none) {
            return self.multiply(g, a, b, sided);
        }
        let (mut values, mut scales) = ([a.clone(), b.clone()], Vec::new());
        for (i, head) in self.heads.iter().enumerate() {
            let Some(head) = head else { continue };
            let scale = head.of(g, &values[i], &sided[i]).map_err(named)?;
            values[i] = g.div(&values[i], &scale).map_err(named)?;
            scales.push(scale);
        }
        let y = self.multiply(g, &values[0], &values[1], sided)?;
        scales.iter().try_fold(y, |y, scale| g.mul(&y, scale)).map_err(named)
    }

    /// The product of operands that were divided by their scales by head, where they have some.
    fn multiply(&self, g: &mut Graph<'_>, a: &Var, b: &Var, sided: [SidedQuantizer; 2]) -> Result<Var> {
        let named = |e: Error| e.in_layer(&self.name);
        if g.traces(&[a, b])? {
            let op = self.fixed(g.store(), sided);
            return g.apply_as(&self.name, op, &[a, b]);
        }
        let pairs = Pairs::of(a.shape(), b.shape(), self.turned()).map_err(|e| named(e.into()))?;
        let calibrate = g.modes().calibrate;
        let is_set =
            sided.iter().all(|q| q.is_set(g.store())) && self.output.is_none_or(|o| o.kept(g.store()).is_some());
        check_scales(g, is_set).map_err(named)?;
        let mut codes = Vec::new();
        let mut omitted = 1.0;
        for (quantizer, x) in sided.iter().zip([a, b]) {
            check_input(g, x, &self.name)?;
            let value = x.value();
            let s = quantizer.prepare(g.store_mut(), value, calibrate).map_err(named)?;
            omitted *= quantizer.missing(s);
            let read = |_: &_| Work { bytes: x.shape().iter().product::<usize>() * (value.size() + 1), macs: 0 };
            let quantize = || quantizer.codes(value, s);
            codes.push(profile::span("quantize input", &self.name, read, quantize).map_err(named)?);
        }
        let [left, right] =
            <[Codes; 2]>::try_from(codes).map_err(|_| named(Error::setting("operands", 2, "others")))?;
        let sums = self.product("product", &pairs, || matmul(&left, &right, self.turned()))?;
        let (sums, unscaled) = match &self.output {
            None => (sums, None),
            Some(output) => {
                let float = |_: &Store| {
                    let [a, b] = [a, b].map(|x| deferred::write(x.value()));
                    Ok(float_matmul(&a, &b, self.turned())?)
                };
                let factor = output.factors(g.store_mut(), |_| Tensor::scalar(omitted), &sums, float, calibrate)?;
                (sums.clone().scaled(factor.item()), Some((sums, factor.item())))
            }
        };
        let inputs = [a, b].map(|x| g.source(x)).into_iter();
        let inputs = inputs.chain(self.learned_scales().map(Source::Param)).collect();
        let [a, b] = [a, b].map(|x| x.value().clone());
        Ok(g.record_value(Value::Sums(sums), inputs, || MatmulBackward {
            matmul: self.clone(),
            sided,
            calibrate,
            pairs,
            values: [a, b],
            codes: [left, right],
            unscaled,
        }))
    }

    /// Runs a product of codes under a span of the profile.
    fn product(
        &self,
        kind: &'static str,
        pairs: &Pairs,
        product: impl FnOnce() -> tensor::Result<Sums>,
    ) -> Result<Sums> {
        let read = pairs.count * pairs.k * (pairs.m + pairs.n);
        let work = |sums: &tensor::Result<Sums>| Work {
            bytes: read + sums.as_ref().map_or(0, Sums::bytes),
            macs: pairs.macs(),
        };
        profile::span(kind, &self.name, work, product).map_err(|e| Error::from(e).in_layer(&self.name))
    }

    fn learned_scales(&self) -> impl Iterator<Item = ParamId> + use<> {
        let output = self.output.filter(|o| o.learned).map(|o| o.scale);
        let [left, right] = [0, 1].map(|i| self.operands[i].learned_scale());
        [left, right, output].into_iter().flatten()
    }

    /// What evaluation computes, with the numbers as they are now.
    fn fixed(&self, store: &Store, sided: [SidedQuantizer; 2]) -> FixedMatmul {
        let [(left, a), (right, b)] = sided.map(|q| q.fixed(store));
        let omitted: f32 = sided.iter().map(|q| q.missing(q.s(store))).fold(1.0, |product, s| product * s);
        let factor = self.output.map(|o| o.kept(store).map_or(omitted, |f| f.item()));
        // The same products in the same order as in `forward`.
        let unit = factor.map_or(a * b, |factor| a * b * factor);
        FixedMatmul { precision: self.precision, inputs: [left, right], unit, transposed: self.transposed }
    }
}

struct MatmulBackward {
    matmul: QMatmul,
    /// The quantizers of the operands, with the levels of their signs.
    sided: [SidedQuantizer; 2],
    /// Whether the rule of the gradient quantizer moves.
    calibrate: bool,
    pairs: Pairs,
    /// The operands before quantization.
    values: [Value; 2],
    codes: [Codes; 2],
    /// The output without its factor, and the factor, where there is one.
    unscaled: Option<(Sums, f32)>,
}

impl Backward for MatmulBackward {
    fn name(&self) -> &'static str {
        "qmatmul"
    }

    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }

    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let Self { matmul: op, sided, calibrate, pairs, values, codes, unscaled } = *self;
        let mut grad = grad;
        let mut factor = 1.0;
        if let (Some(output), Some((y, f))) = (op.output, unscaled) {
            factor = f;
            if output.learned {
                let dy = grad.into_tensor(cx.store);
                output.slope(&dy, &y, cx.store)?;
                grad = dy.into();
            }
        }
        let needed = [0, 1].map(|i| cx.needs(i) || sided[i].learned_scale().is_some());
        let [a, b] = &codes;
        // y = a · b^T: da = g · b, db = g^T · a. y = a · b: da = g · b^T, db = a^T · g.
        let (of_left, swapped) = if op.transposed { (Turned::Neither, true) } else { (Turned::Right, false) };
        let given: [Option<Value>; 2] = match op.gradient {
            Some(slot) => {
                let g = gradient_codes(slot, grad, &op.name, calibrate, cx)?;
                // The factor of the output is one for all, so it goes with the scale of the codes.
                let g = g.with_scale(g.scale() * factor);
                const KIND: &str = "input gradient product";
                let da = needed[0].then(|| op.product(KIND, &pairs, || matmul(&g, b, of_left)));
                let db = needed[1].then(|| {
                    let (first, second) = if swapped { (&g, a) } else { (a, &g) };
                    op.product(KIND, &pairs, || matmul(first, second, Turned::Left))
                });
                [da.transpose()?.map(Value::Sums), db.transpose()?.map(Value::Sums)]
            }
            None => {
                let mut g = grad.into_tensor(cx.store);
                if factor != 1.0 {
                    map::scale_columns(g.data_mut(), 0, &reduce::spread(&[factor]));
                }
                let [a, b] = [a, b].map(Codes::dequantize);
                let da = needed[0].then(|| float_matmul(&g, &b, of_left));
                let db = needed[1].then(|| {
                    let (first, second) = if swapped { (&g, &a) } else { (&a, &g) };
                    float_matmul(first, second, Turned::Left)
                });
                [da.transpose()?.map(Value::Float), db.transpose()?.map(Value::Float)]
            }
        };
        let mut grads = Vec::new();
        for (i, ((value, d), quantizer)) in values.into_iter().zip(given).zip(&sided).enumerate() {
            let through = d.map(|d| quantizer.backward(cx.store, value, d));
            grads.push(match through {
                Some(Gradient::Through(through)) if !cx.needs(i) => {
                    through.write_slope(cx.store);
                    None
                }
                through => through,
            });
        }
        // The scales' gradients go with those of the values that they scale.
        Ok(grads.into_iter().chain(op.learned_scales().map(|_| None)).collect())
    }
}
