//! `clamp` and `relu`: numbers held to an interval, which from 0 on is the ReLU. Both are part of the passes around them: see
//! [`deferred`](crate::deferred).

use crate::deferred::{Bounds, Deferred, Lazy};
use crate::gradient::{Gradient, Through};
use crate::stored::{Settings, Stored};
use crate::{Backward, Cx, Error, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Tensor, map};
use std::sync::Arc;

struct ClampBackward {
    out: Value,
    bounds: Bounds,
}

impl ClampBackward {
    fn through(self, d: Value) -> Through {
        Through { value: self.out, d, clip: None, plus: None, gate: Some(self.bounds) }
    }
}

impl Backward for ClampBackward {
    fn name(&self) -> &'static str {
        if self.bounds == Bounds::RELU { "relu" } else { "clamp" }
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(Gradient::from(self.through(Value::Float(grad))).into_tensor(cx.store))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let through = match grad {
            // The value that was quantized is this output: one look at it decides both.
            Gradient::Through(t) if t.gate.is_none() => Through { gate: Some(self.bounds), ..t },
            Gradient::Deferred(d) => self.through(Value::Deferred(Lazy::of(d))),
            grad => self.through(Value::Float(grad.into_tensor(cx.store))),
        };
        Ok(vec![Some(through.into())])
    }
}

/// The clamp of a value that is not written out.
struct Deferral(Lazy, Bounds);

impl Deferred for Deferral {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.0.fill(first, out);
        self.1.hold_block(out);
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn keep(&self) -> bool {
        self.0.keep()
    }
    fn depth(&self) -> usize {
        1 + self.0.depth()
    }
}

fn compute(bounds: Bounds, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
    let [x] = exactly(inputs)?;
    let value = x.value().settled();
    let out = if let Value::Deferred(lazy) = &value {
        let taken_along = lazy.clamp(bounds).map(Lazy::of);
        Value::Deferred(taken_along.unwrap_or_else(|| Lazy::new(Deferral(lazy.clone(), bounds))))
    } else {
        let mut out = Tensor::take(x.shape());
        match bounds.is_open() {
            true => map::map1(value.tensor().data(), out.data_mut(), |&x| bounds.hold::<false>(x)),
            false => map::map1(value.tensor().data(), out.data_mut(), |&x| bounds.hold::<true>(x)),
        }
        Value::Float(out)
    };
    Ok(g.record_value(out.clone(), vec![g.source(x)], || ClampBackward { out, bounds }))
}

/// `max(x, 0)`.
#[derive(Debug, Clone, Copy)]
pub struct Relu;

impl Operation for Relu {
    fn kind(&self) -> &'static str {
        "relu"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, _: &[bool]) -> bool {
        true
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        compute(Bounds::RELU, g, inputs)
    }
}

/// `x` held to an interval: `low` where it is below, `high` where it is above.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    bounds: Bounds,
}

impl Clamp {
    /// Makes the clamp to [low, high]; an infinite end holds nothing.
    ///
    /// # Errors
    /// An end is not a number, or the lower one is not below the upper one.
    pub fn new(low: f32, high: f32) -> Result<Self> {
        match low < high {
            true => Ok(Self { bounds: Bounds { low, high } }),
            false => Err(Error::setting("ends of a clamp", "a low one below a high one", format!("{low} and {high}"))),
        }
    }

    /// Returns the interval.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    pub(super) fn read(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        let end = |key: &str, none: f32| Ok::<f32, Error>(stored.setting(key)?.unwrap_or(none));
        Ok(Arc::new(Self::new(end("low", f32::NEG_INFINITY)?, end("high", f32::INFINITY)?)?))
    }
}

impl Operation for Clamp {
    fn kind(&self) -> &'static str {
        "clamp"
    }
    fn title(&self) -> String {
        format!("clamp {}..{}", self.bounds.low, self.bounds.high)
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        self.bounds.low >= 0.0 || (inputs == [true] && self.bounds.high >= 0.0)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        compute(self.bounds, g, inputs)
    }
    /// Its finite ends: JSON has no others.
    fn settings(&self) -> Settings {
        let ends = [("low", self.bounds.low), ("high", self.bounds.high)];
        ends.into_iter().filter(|(_, v)| v.is_finite()).map(|(key, v)| (key.into(), v.into())).collect()
    }
}

impl Graph<'_> {
    /// `max(x, 0)`; the derivative at 0 is 0. A NaN stays a NaN, so that it is found.
    ///
    /// # Errors
    /// None today; the result keeps the form of its siblings.
    pub fn relu(&mut self, x: &Var) -> Result<Var> {
        self.apply(Relu, &[x])
    }

    /// Computes `low` where `x` is below it, `high` where it is above, else `x`: with 0 and 6 the ReLU6. An infinite end holds
    /// nothing. The derivative is 1 between the ends and 0 elsewhere, the ends included. A NaN stays a NaN.
    ///
    /// # Errors
    /// An end is not a number, or the lower one is not below the upper one.
    pub fn clamp(&mut self, x: &Var, low: f32, high: f32) -> Result<Var> {
        self.apply(Clamp::new(low, high)?, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let x = [sample(&[4, 5], 1)];
        assert!(gradient_error(&x, 0.01, |g, v| g.relu(&v[0])).unwrap() < 1e-3);
        for (low, high) in [(-0.5, 0.42), (0.0, 0.42), (f32::NEG_INFINITY, 0.3), (-0.3, f32::INFINITY)] {
            let error = gradient_error(&x, 0.005, |g, v| g.clamp(&v[0], low, high)).unwrap();
            assert!(error < 1e-3, "{low} {high}: {error}");
            // Behind a value that is not written out.
            let inputs = [x[0].clone(), sample(&[5], 2)];
            let deferred = gradient_error(&inputs, 0.001, |g, v| {
                let y = g.add_bias(&v[0], &v[1])?;
                g.clamp(&y, low, high)
            });
            assert!(deferred.unwrap() < 5e-3, "{low} {high}");
        }
    }

    #[test]
    fn values_by_hand_deferred_or_not() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 5], vec![-2.0, 0.5, 3.0, 7.0, f32::NAN]).unwrap());
        let zero = g.input(Tensor::zeros(&[5]));
        let deferred = g.add_bias(&x, &zero).unwrap();
        for x in [&x, &deferred] {
            let y = g.clamp(x, 0.0, 6.0).unwrap();
            assert!(y.is_non_negative() && y.tensor().data()[4].is_nan());
            assert_eq!(y.tensor().data()[..4], [0.0, 0.5, 3.0, 6.0]);
            let twice = g.clamp(&y, 1.0, 2.0).unwrap();
            assert_eq!(twice.tensor().data()[..4], [1.0, 1.0, 2.0, 2.0]);
            let y = g.clamp(x, -1.0, f32::INFINITY).unwrap();
            assert!(!y.is_non_negative());
            assert_eq!(y.tensor().data()[..4], [-1.0, 0.5, 3.0, 7.0]);
            let relu = g.clamp(x, 0.0, f32::INFINITY).unwrap().tensor();
            assert_eq!(relu.data()[..4], g.relu(x).unwrap().tensor().data()[..4]);
        }
        for (low, high) in [(1.0, 1.0), (2.0, 1.0), (f32::NAN, 1.0)] {
            assert!(g.clamp(&x, low, high).unwrap_err().to_string().starts_with("ends of a clamp"));
        }
    }
}
