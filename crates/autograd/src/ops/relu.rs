//! `relu`.

use crate::deferred::{Deferred, Lazy};
use crate::gradient::{Gradient, Through};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Tensor, map};

/// `max(x, 0)`; a NaN stays a NaN, so that it is found.
#[inline(always)]
pub(super) fn relu(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

struct ReluBackward {
    out: Value,
}

impl ReluBackward {
    fn through(self, d: Value) -> Through {
        Through { value: self.out, d, clip: None, plus: None, positive: true }
    }
}

impl Backward for ReluBackward {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(Gradient::from(self.through(Value::Float(grad))).into_tensor(cx.store))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let through = match grad {
            // The value that was quantized is this output: one look at it decides both.
            Gradient::Through(t) if !t.positive => Through { positive: true, ..t },
            Gradient::Deferred(d) => self.through(Value::Deferred(Lazy::of(d))),
            grad => self.through(Value::Float(grad.into_tensor(cx.store))),
        };
        Ok(vec![Some(through.into())])
    }
}

/// The ReLU of a value that is not written out.
struct Deferral(Lazy);

impl Deferred for Deferral {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.0.fill(first, out);
        map::dispatch(
            #[inline(always)]
            || out.iter_mut().for_each(|x| *x = relu(*x)),
        );
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn keep(&self) -> bool {
        self.0.keep()
    }
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
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let out = if let Value::Deferred(lazy) = x.value() {
            Value::Deferred(lazy.relu().map_or_else(|| Lazy::new(Deferral(lazy.clone())), Lazy::of))
        } else {
            let mut out = Tensor::take(x.shape());
            map::map1(x.tensor().data(), out.data_mut(), |&x| relu(x));
            Value::Float(out)
        };
        Ok(g.record_value(out.clone(), vec![g.source(x)], || ReluBackward { out }))
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
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};

    #[test]
    fn gradient_matches_finite_differences() {
        assert!(gradient_error(&[sample(&[4, 5], 1)], 0.01, |g, v| g.relu(&v[0])).unwrap() < 1e-3);
    }
}
