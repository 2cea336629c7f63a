//! `layer_norm`: normalization of each row of the last axis, alike in training and evaluation (Ba et al., 2016).

use crate::stored::{Parameter, Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Buffer, Error, Tensor, map, reduce};
use serde::{Deserialize, Serialize};

/// `(x - mean) / sqrt(var + eps) · weight + bias` with mean and variance of each row of the last axis.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

struct LayerNormBackward {
    weight: Tensor,
    /// The rows before the factor and offset.
    normalized: Tensor,
    /// `1 / sqrt(var + eps)` of each row.
    inverse: Buffer<f32>,
}

impl Backward for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { weight, normalized, inverse } = *self;
        let c = weight.len();
        let (x, g) = (normalized.data(), grad.data());
        let sums = |product: Option<&Tensor>| {
            let sums = reduce::column_sums(product.unwrap_or(&grad).data(), c);
            Tensor::from_vec(&[c], sums.iter().map(|&s| s as f32).collect())
        };
        let dweight = cx.needs(1).then(|| {
            let mut product = Tensor::take(grad.shape());
            map::map2(g, x, product.data_mut(), |g, x| g * x);
            sums(Some(&product))
        });
        let dbias = cx.needs(2).then(|| sums(None));
        let dx = cx.needs(0).then(|| {
            let mut dx = Tensor::take(grad.shape());
            map::rows(dx.data_mut(), c, |first, out| {
                for (i, out) in out.chunks_exact_mut(c).enumerate() {
                    let row = (first + i) * c..(first + i + 1) * c;
                    let (x, g) = (&x[row.clone()], &g[row]);
                    out.iter_mut().zip(g.iter().zip(weight.data())).for_each(|(o, (&g, &w))| *o = g * w);
                    let mean = |sum: f64| (sum / c as f64) as f32;
                    let (sum, dot) = (mean(reduce::sum(out)), mean(reduce::sum_by(c, |k| out[k] * x[k])));
                    let inverse = inverse[first + i];
                    out.iter_mut().zip(x).for_each(|(o, &x)| *o = (*o - sum - x * dot) * inverse);
                }
            });
            dx
        });
        Ok(vec![dx, dweight.transpose()?, dbias.transpose()?])
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
        let mut normalized = Tensor::take(xt.shape());
        let mut inverse = Buffer::take(xt.len() / c);
        // Sums of a row have the order of `reduce::sum`.
        map::rows_with(normalized.data_mut(), c, &mut inverse, |first, out, inverse| {
            for (i, (out, inverse)) in out.chunks_exact_mut(c).zip(inverse).enumerate() {
                let row = &xt.data()[(first + i) * c..][..c];
                let (mean, deviation) = reduce::mean_std(row);
                let (mean, factor) = (mean as f32, (1.0 / (deviation * deviation + eps).sqrt()) as f32);
                out.iter_mut().zip(row).for_each(|(o, &x)| *o = (x - mean) * factor);
                *inverse = factor;
            }
        });
        let mut out = Tensor::take(xt.shape());
        map::rows(out.data_mut(), c, |first, out| {
            for (out, row) in out.chunks_exact_mut(c).zip(normalized.data()[first * c..].chunks_exact(c)) {
                for ((o, &x), (&w, &b)) in out.iter_mut().zip(row).zip(wt.data().iter().zip(bt.data())) {
                    *o = x * w + b;
                }
            }
        });
        Ok(g.record(out, &[x, weight, bias], || LayerNormBackward { weight: wt, normalized, inverse }))
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
