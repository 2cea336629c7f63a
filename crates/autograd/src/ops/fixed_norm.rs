//! `FixedNorm`: a batch normalization whose numbers do not move, as evaluation and frozen normalizations have it.

use super::affine::{Affine, Input};
use crate::deferred::{self, Deferred, Lazy};
use crate::gradient::{ColumnGradient, Gradient};
use crate::stored::{Parameter, Stored};
use crate::{Array, Backward, Cx, Grads, Graph, Operation, Result, Value, Var, exactly};
use fixnet_tensor::{Error as TensorError, Tensor};
use std::sync::Arc;

/// The numbers of a batch normalization in evaluation, one for each channel.
#[derive(Debug, Clone)]
pub struct FixedNorm {
    /// The factor of each channel.
    pub weight: Tensor,
    /// The offset of each channel.
    pub bias: Tensor,
    /// The mean of each channel.
    pub mean: Tensor,
    /// The variance of each channel.
    pub var: Tensor,
    /// Added to the variance.
    pub eps: f32,
}

impl FixedNorm {
    /// The factor and offset, `v · a + b`, of each channel of numbers `v` that count as `v · unit(channel)`.
    pub fn factors(&self, unit: impl Fn(usize) -> f32) -> (Vec<f32>, Vec<f32>) {
        let wide = |t: &Tensor, k: usize| f64::from(t.data()[k]);
        let slope = |k| wide(&self.weight, k) * (1.0 / (wide(&self.var, k) + f64::from(self.eps)).sqrt());
        let a = |k| (slope(k) * f64::from(unit(k))) as f32;
        let b = |k| (wide(&self.bias, k) - slope(k) * wide(&self.mean, k)) as f32;
        let channels = 0..self.weight.len();
        (channels.clone().map(a).collect(), channels.map(b).collect())
    }
}

struct FixedNormBackward {
    /// The factor of each channel of the real input.
    slope: Vec<f32>,
}

impl Backward for FixedNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(deferred::write(&ColumnGradient::new(Arc::new(grad), &self.slope)))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let d: Arc<dyn Deferred> = match grad {
            Gradient::Deferred(d) => d,
            grad => Arc::new(grad.into_tensor(cx.store)),
        };
        Ok(vec![Some(Gradient::Deferred(Arc::new(ColumnGradient::new(d, &self.slope))))])
    }
}

impl FixedNorm {
    /// The output, which is computed where it is needed.
    pub(super) fn value(&self, x: &Var) -> Value {
        let input = Input::of(x);
        let (a, b) = self.factors(|k| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => s.unit(k),
        });
        Value::Deferred(Lazy::new(Affine::new(input, &a, &b)))
    }
}

impl Graph<'_> {
    /// [`batch_norm`](Self::batch_norm) with numbers that do not move. The gradient passes to `x`.
    ///
    /// # Errors
    /// The last axis is not as long as the parameters.
    pub fn batch_norm_fixed(&mut self, x: &Var, norm: &FixedNorm) -> Result<Var> {
        self.apply(norm.clone(), &[x])
    }
}

impl FixedNorm {
    /// Reads the numbers back.
    ///
    /// # Errors
    /// An array is missing or has another form.
    pub fn read(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        let [mean, var] = [stored.floats("running_mean")?, stored.floats("running_var")?];
        let [weight, bias] = [stored.floats("weight")?, stored.floats("bias")?];
        Ok(Arc::new(Self { weight, bias, mean, var, eps: stored.number("eps")? }))
    }
}

impl Operation for FixedNorm {
    fn kind(&self) -> &'static str {
        "batch_norm"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let c = self.weight.len();
        if x.len() < 2 || x.last() != Some(&c) {
            return Err(TensorError::shape("batch_norm", format!("[.., {c}]"), x).into());
        }
        match [&self.weight, &self.bias, &self.mean, &self.var].into_iter().find(|t| t.shape() != [c]) {
            Some(odd) => Err(TensorError::shape("batch_norm", format!("[{c}]"), odd.shape()).into()),
            None => Ok(x.to_vec()),
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        self.output_shape(&[x.shape()])?;
        let source = g.source(x);
        Ok(g.record_value(self.value(x), vec![source], || FixedNormBackward { slope: self.factors(|_| 1.0).0 }))
    }
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        let parts =
            [("weight", &self.weight), ("bias", &self.bias), ("running_mean", &self.mean), ("running_var", &self.var)];
        let eps = ("eps", Array::F32(Tensor::scalar(self.eps)));
        parts.map(|(name, t)| (name, Array::F32(t.clone()))).into_iter().chain([eps]).collect()
    }
    fn parameters(&self, _: &[(String, &Tensor)]) -> Vec<Parameter> {
        [("weight", &self.weight), ("bias", &self.bias)].map(|(name, t)| Parameter::float(name, t.shape())).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gradient_error, sample};

    #[test]
    fn the_gradient_matches_finite_differences() {
        let mut var = sample(&[3], 4);
        var.data_mut().iter_mut().for_each(|v| *v += 1.5);
        let norm = FixedNorm { weight: sample(&[3], 1), bias: sample(&[3], 2), mean: sample(&[3], 3), var, eps: 1e-5 };
        let error = gradient_error(&[sample(&[2, 4, 3], 5)], 0.05, |g, v| g.batch_norm_fixed(&v[0], &norm)).unwrap();
        assert!(error < 1e-3, "{error}");
    }
}
