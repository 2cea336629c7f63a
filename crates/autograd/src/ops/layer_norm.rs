//! `layer_norm`: normalization of each row of the last axis, alike in training and evaluation (Ba et al., 2016).

use crate::deferred::{Deferred, Lazy};
use crate::stored::{Parameter, Settings, settings_of};
use crate::value::Value;
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Buffer, Error, Tensor, map, reduce};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// `(x - mean) / sqrt(var + eps) · weight + bias` with mean and variance of each row of the last axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

/// Mean of a row, and the factor `1 / sqrt(var + eps)` of its deviations.
type Row = [f32; 2];

/// The output: computed where it is read, from the input and two numbers a row.
#[derive(Clone)]
struct Normalized {
    x: Tensor,
    rows: Arc<Buffer<Row>>,
    weight: Tensor,
    bias: Tensor,
}

impl Deferred for Normalized {
    fn shape(&self) -> &[usize] {
        self.x.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let c = self.weight.len();
        map::dispatch(
            #[inline(always)]
            || {
                let mut at = first;
                let mut rest = &mut *out;
                while !rest.is_empty() {
                    let (row, column) = (at / c, at % c);
                    let (part, behind) = rest.split_at_mut((c - column).min(rest.len()));
                    let [mean, factor] = self.rows[row];
                    let both = self.weight.data()[column..].iter().zip(&self.bias.data()[column..]);
                    for ((o, &x), (&w, &b)) in part.iter_mut().zip(&self.x.data()[at..]).zip(both) {
                        *o = (x - mean) * factor * w + b;
                    }
                    at += part.len();
                    rest = behind;
                }
            },
        );
    }
    fn size(&self) -> usize {
        4
    }
}

struct LayerNormBackward(Normalized);

impl Backward for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self(Normalized { x, rows, weight, .. }) = *self;
        let c = weight.len();
        let (x, w) = (x.data(), weight.data());
        let mut dx = Tensor::take(grad.shape());
        // One pass for all three: the sums of `g · normalized` and of `g` over the rows, and the gradient of each row.
        let sums = reduce::row_pass(
            dx.data_mut(),
            rows.len(),
            c,
            2 * c,
            #[inline(always)]
            |range: Range<usize>, dx: &mut [f32], sums: &mut [f32]| {
                let (dweight, dbias) = sums.split_at_mut(c);
                for (row, dx) in range.zip(dx.chunks_exact_mut(c)) {
                    let (x, g) = (&x[row * c..][..c], &grad.data()[row * c..][..c]);
                    let [mean, factor] = rows[row];
                    let columns = dweight.iter_mut().zip(dbias.iter_mut());
                    for ((dweight, dbias), (&x, &g)) in columns.zip(x.iter().zip(g)) {
                        *dweight += g * ((x - mean) * factor);
                        *dbias += g;
                    }
                    for (dx, (&g, &w)) in dx.iter_mut().zip(g.iter().zip(w)) {
                        *dx = g * w;
                    }
                    let average = |sum: f64| (sum / c as f64) as f32;
                    let sum = average(reduce::row_sum_by(c, |i| dx[i]));
                    let dot = average(reduce::row_sum_by(c, |i| dx[i] * ((x[i] - mean) * factor)));
                    for (dx, &x) in dx.iter_mut().zip(x) {
                        *dx = (*dx - sum - (x - mean) * factor * dot) * factor;
                    }
                }
            },
        );
        let of = |sums: &[f64]| Tensor::from_vec(&[c], sums.iter().map(|&s| s as f32).collect());
        let dweight = cx.needs(1).then(|| of(&sums[..c])).transpose()?;
        let dbias = cx.needs(2).then(|| of(&sums[c..])).transpose()?;
        Ok(vec![cx.needs(0).then_some(dx), dweight, dbias])
    }
}

impl Operation for LayerNorm {
    fn kind(&self) -> &'static str {
        "layer_norm"
    }
    fn operand(&self, index: usize) -> String {
        ["input", "weight", "bias"].get(index).map_or_else(|| format!("operand{index}"), ToString::to_string)
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x, weight, bias] = exactly(inputs)?;
        match x.last() {
            Some(&c) if x.len() > 1 && c > 0 => match [weight, bias].into_iter().find(|shape| **shape != [c]) {
                Some(odd) => Err(Error::shape("layer_norm", format!("[{c}] for factors and offsets"), odd).into()),
                None => Ok(x.to_vec()),
            },
            _ => Err(Error::shape("layer_norm", "[.., C] with at least one channel", x).into()),
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x, weight, bias] = exactly(inputs)?;
        self.output_shape(&[x.shape(), weight.shape(), bias.shape()])?;
        let [xt, wt, bt] = [x, weight, bias].map(Var::tensor);
        let (c, eps) = (wt.len(), f64::from(self.eps));
        let mut rows = Buffer::<Row>::take(xt.len() / c);
        map::per_row(
            &mut rows,
            c,
            #[inline(always)]
            |first: usize, rows: &mut [Row]| {
                for (rows, x) in rows.iter_mut().zip(xt.data()[first * c..].chunks_exact(c)) {
                    let (mean, variance) = reduce::row_moments(x);
                    *rows = [mean as f32, (1.0 / (variance + eps).sqrt()) as f32];
                }
            },
        );
        let out = Normalized { x: xt, rows: Arc::new(rows), weight: wt, bias: bt };
        let inputs = [x, weight, bias].iter().map(|v| g.source(v)).collect();
        let value = Value::Deferred(Lazy::new(out.clone()));
        Ok(g.record_value(value, inputs, || LayerNormBackward(out)))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
    fn parameters(&self, constants: &[(String, &Tensor)]) -> Vec<Parameter> {
        constants.iter().map(|(name, t)| Parameter::float(name.clone(), t.shape())).collect()
    }
}

impl Graph<'_> {
    /// Computes `(x - mean) / sqrt(var + eps) · weight + bias` with mean and population variance of each row of the last
    /// axis. Shapes: x `[.., C]`, weight and bias `[C]`.
    ///
    /// # Errors
    /// The value has fewer than two axes, or the factors and offsets do not fit the last one.
    pub fn layer_norm(&mut self, x: &Var, weight: &Var, bias: &Var, eps: f32) -> Result<Var> {
        self.apply(LayerNorm { eps }, &[x, weight, bias])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let inputs = [sample(&[2, 3, 5], 1), sample(&[5], 2), sample(&[5], 3)];
        let error = gradient_error(&inputs, 0.01, |g, v| g.layer_norm(&v[0], &v[1], &v[2], 1e-5)).unwrap();
        assert!(error < 2e-3, "{error}");
    }

    #[test]
    fn rows_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 4], vec![1.0, 3.0, 1.0, 3.0]).unwrap());
        let w = g.input(Tensor::from_vec(&[4], vec![1.0, 1.0, 2.0, 2.0]).unwrap());
        let b = g.input(Tensor::full(&[4], 0.5));
        assert_eq!(g.layer_norm(&x, &w, &b, 0.0).unwrap().tensor().data(), [-0.5, 1.5, -1.5, 2.5]);
        let odd = g.input(Tensor::zeros(&[3]));
        let e = g.layer_norm(&x, &odd, &b, 0.0).unwrap_err().to_string();
        assert_eq!(e, "layer_norm: expected shape [4] for factors and offsets, found [3]");
    }
}
