//! `QInput`: a quantized input alone, for weights of floats (`32/A/32`). It gives the values of levels as floats, and what follows is
//! a float product.

use crate::{ActivationQuantizer, FixedInput, QuantConfig, SidedQuantizer};
use fixnet_autograd::deferred::Lazy;
use fixnet_autograd::gradient::{Clip, Gradient, Through};
use fixnet_autograd::{
    Array, Backward, Cx, Error, Grads, Graph, Obstacle, Operation, Result, Settings, Source, Store, Stored, Value, Var,
    exactly, settings_of,
};
use fixnet_tensor::{Range, Tensor};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The quantizer of an input whose values stay floats: each is that of its level.
#[derive(Debug, Clone)]
pub struct QInput {
    name: String,
    quantizer: ActivationQuantizer,
}

impl QInput {
    /// Makes the quantizer of the input of the layer `name`, called `name.input` as that of a quantized layer is.
    ///
    /// # Errors
    /// The configuration has no activation bits, or the name is taken.
    pub fn new(store: &mut Store, name: &str, config: &QuantConfig) -> Result<Self> {
        let name = format!("{name}.input");
        Ok(Self { quantizer: ActivationQuantizer::new(store, &name, config)?, name })
    }

    /// Records the operation: the output has the shape of `x`.
    ///
    /// # Errors
    /// The input is not finite where the scale is to be set from it.
    pub fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let input = self.quantizer.sided(x.is_non_negative());
        if g.traces(&[x])? {
            let (input, unit) = input.fixed(g.store());
            return g.apply_as(&self.name, QuantizeInput { input, unit }, &[x]);
        }
        let (modes, value) = (g.modes(), x.value().clone());
        let calibrate = modes.calibrate;
        // The way back needs the scale that the way forward had.
        if modes.record && !calibrate && !input.is_set(g.store()) {
            let expected = "one that a training batch has set, where a graph records and does not calibrate";
            return Err(Error::setting("scale of a quantized input", expected, "none").in_layer(&self.name));
        }
        let codes = input.quantize(g.store_mut(), &value, calibrate).map_err(|e| e.in_layer(&self.name))?;
        let sources = std::iter::once(g.source(x)).chain(input.learned_scale().map(Source::Param)).collect();
        Ok(g.record_value(Value::Float(codes.dequantize()), sources, || InputBackward { input, value }))
    }
}

struct InputBackward {
    input: SidedQuantizer,
    value: Value,
}

impl Backward for InputBackward {
    fn name(&self) -> &'static str {
        "quantize"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let Self { input, value } = *self;
        let d = match grad {
            Gradient::Deferred(d) => Value::Deferred(Lazy::of(d)),
            grad => Value::Float(grad.into_tensor(cx.store)),
        };
        let dx = match input.backward(cx.store, value, d) {
            Gradient::Through(dx) if !cx.needs(0) => {
                dx.write_slope(cx.store);
                None
            }
            dx => cx.needs(0).then_some(dx),
        };
        // The scale's gradient goes with that of the value that it scales.
        Ok([dx].into_iter().chain(input.learned_scale().map(|_| None)).collect())
    }
}

/// `unit · level(x)` as floats, with a scale that does not move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizeInput {
    /// The quantizer.
    pub input: FixedInput,
    /// The value of a level.
    pub unit: f32,
}

/// What a packed network has of the levels: bits and the lowest one.
#[derive(Serialize, Deserialize)]
struct LevelsForm {
    levels: (u8, i32),
}

impl QuantizeInput {
    /// Reads the operation from the settings and arrays of a packed network.
    pub(super) fn read(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        let LevelsForm { levels: (bits, min) } = stored.settings()?;
        let range = Range::from_bits_and_min(bits, min).map_err(|e| stored.misfit("levels", "levels", e))?;
        let input = FixedInput { range, per_unit: stored.number("levels_a_unit")? };
        Ok(Arc::new(Self { input, unit: stored.number("unit")? }))
    }
}

/// The derivative: 1 where no level was clipped, else 0.
struct FixedBackward {
    input: FixedInput,
    gain: f32,
    value: Value,
}

impl Backward for FixedBackward {
    fn name(&self) -> &'static str {
        "quantize"
    }
    fn backward(self: Box<Self>, mut grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let FixedInput { range, per_unit } = self.input;
        let [low, top] = [range.min(), range.max()].map(|level| level as f32);
        let clip = Clip { per_unit, low, top, post: 0.0, factor: 0.0, scale: None };
        grad.data_mut().iter_mut().for_each(|d| *d *= self.gain);
        let d = Value::Float(grad);
        let through = Through { value: self.value, d, clip: Some(clip), plus: None, gate: None };
        Ok(vec![Some(Gradient::from(through).into_tensor(cx.store))])
    }
}

impl Operation for QuantizeInput {
    fn kind(&self) -> &'static str {
        "quantize"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, _: &[bool]) -> bool {
        self.input.range.min() >= 0
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        if let Some(obstacle) = self.obstacle() {
            return Err(Error::setting("scale of an input", obstacle.expected, obstacle.found));
        }
        let value = self.input.quantize(x.value())?.with_scale(self.unit).dequantize();
        let (input, gain, kept) = (self.input, self.unit * self.input.per_unit, x.value().clone());
        Ok(g.record(value, &[x], || FixedBackward { input, gain, value: kept }))
    }
    fn settings(&self) -> Settings {
        settings_of(&LevelsForm { levels: (self.input.range.bits(), self.input.range.min()) })
    }
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        [("levels_a_unit", self.input.per_unit), ("unit", self.unit)]
            .map(|(name, v)| (name, Array::F32(Tensor::scalar(v))))
            .to_vec()
    }
    fn obstacle(&self) -> Option<Obstacle> {
        let obstacle = Obstacle { expected: "an input scale that a training batch has set", found: "none".into() };
        (self.input.per_unit <= 0.0).then_some(obstacle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_autograd::check::sample;
    use fixnet_autograd::{Group, Modes};

    /// The values are those of the codes of a quantized layer, and the gradients of input and scale those of its quantizer.
    #[test]
    fn values_and_gradients_are_those_of_the_quantizer() {
        for bits in ["32/1/32", "32/3/32"] {
            let config = QuantConfig::new(bits.parse().unwrap());
            let mut store = Store::seeded(0);
            let x = store.add("x", Group::Weight, sample(&[6, 10], 1)).unwrap();
            let layer = QInput::new(&mut store, "l", &config).unwrap();
            let mut g = Graph::train(&mut store);
            let xv = g.param(x);
            let y = layer.forward(&mut g, &xv).unwrap();
            let found = y.tensor();
            let target = g.input(Tensor::zeros(&[6, 10]));
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();
            let sided = layer.quantizer.sided(false);
            let value = Value::Float(sample(&[6, 10], 1));
            let codes = sided.quantize(&mut store, &value, false).unwrap();
            assert_eq!(codes.dequantize().data(), found.data(), "{bits}");
            let (dx, ds) = (store.take_grad(x).unwrap(), sided.learned_scale().map(|s| store.take_grad(s).unwrap()));
            // Of the mean square: 2 y / n.
            let mut d = found.clone();
            d.data_mut().iter_mut().for_each(|d| *d *= 2.0 / 60.0);
            let expected = sided.backward(&store, value, Value::Float(d)).into_tensor(&mut store);
            dx.data().iter().zip(expected.data()).for_each(|(a, b)| approx::assert_relative_eq!(a, b, epsilon = 1e-6));
            if let (Some(found), Some(scale)) = (ds, sided.learned_scale()) {
                approx::assert_relative_eq!(found.item(), store.grad(scale).unwrap().item(), epsilon = 1e-6);
            }
        }
    }

    /// In a plan it is an operation of its own, which is written down and read back, with a straight-through derivative.
    #[test]
    fn a_fixed_input_gives_the_same_values() {
        let mut store = Store::seeded(0);
        let layer = QInput::new(&mut store, "l", &QuantConfig::new("32/4/32".parse().unwrap())).unwrap();
        let x = store.add("x", Group::Weight, sample(&[6, 10], 1)).unwrap();
        let (expected, op) = {
            let mut g = Graph::train(&mut store);
            let x = g.param(x);
            let y = layer.forward(&mut g, &x).unwrap().tensor();
            let (input, unit) = layer.quantizer.sided(false).fixed(g.store());
            (y, QuantizeInput { input, unit })
        };
        let arrays = op.arrays();
        let get = |part: &str| arrays.iter().find(|(name, _)| *name == part).map(|(_, array)| array.clone());
        let read = QuantizeInput::read(&Stored::new("l", &op.settings(), &get)).unwrap();
        assert_eq!(read.get::<QuantizeInput>(), Some(&op));
        let mut g = Graph::with_modes(&mut store, Modes { record: true, ..Modes::EVAL });
        let xv = g.param(x);
        let y = g.apply(op, &[&xv]).unwrap();
        assert_eq!(y.tensor().data(), expected.data());
        let loss = g.mean(&y, &[0, 1], false).unwrap();
        g.backward(loss).unwrap();
        // Nothing is clipped at three deviations.
        let dx = store.grad(x).unwrap();
        dx.data().iter().for_each(|d| approx::assert_relative_eq!(*d, 1.0 / 60.0, epsilon = 1e-7));
        let unset = QuantizeInput { input: FixedInput { per_unit: 0.0, ..op.input }, ..op };
        assert!(unset.obstacle().is_some());
    }
}
