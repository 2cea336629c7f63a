//! `batch_norm`: normalization of each channel over the batch, with running statistics for evaluation.
//!
//! Of an integer product it takes the statistics as exact integer sums of the accumulators and normalizes the
//! accumulators themselves: they are never written as floats. `y = v · a + b` with one `a` and `b` a channel, `v` being
//! the float or the integer as f32; one rounding of the product and one of the sum.

use crate::{Array, Backward, Cx, Error, Grads, Graph, ParamId, Result, Slot, State, Value, Var};
use fixnet_tensor::{Error as TensorError, Tensor, map, reduce};

/// Running mean and variance of each channel: `r <- (1 - momentum) · r + momentum · batch`, the variance unbiased.
#[derive(Debug, Clone)]
pub struct RunningStats {
    /// Mean of each channel.
    pub mean: Tensor,
    /// Variance of each channel.
    pub var: Tensor,
}

impl RunningStats {
    /// Mean 0 and variance 1.
    pub fn new(channels: usize) -> Self {
        Self { mean: Tensor::zeros(&[channels]), var: Tensor::full(&[channels], 1.0) }
    }
}

impl State for RunningStats {
    fn save(&self) -> Vec<(&'static str, Array)> {
        vec![("running_mean", Array::F32(self.mean.clone())), ("running_var", Array::F32(self.var.clone()))]
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        for (name, to) in [("running_mean", &mut self.mean), ("running_var", &mut self.var)] {
            match get(name) {
                Some(Array::F32(t)) if t.shape() == to.shape() => *to = t,
                _ => return Err(format!("`{name}` as f32 {:?}", to.shape())),
            }
        }
        Ok(())
    }
}

/// The parameters and constants of a batch normalization.
#[derive(Debug, Clone, Copy)]
pub struct BatchNorm {
    /// The learned factor of each channel.
    pub weight: ParamId,
    /// The learned offset of each channel.
    pub bias: ParamId,
    /// The running statistics.
    pub stats: Slot<RunningStats>,
    /// Added to the variance.
    pub eps: f32,
    /// Share of the new batch in the running statistics.
    pub momentum: f32,
}

/// An element as f32: integers convert with one rounding.
trait Real: Copy + Sync {
    fn real(self) -> f32;
}
impl Real for f32 {
    #[inline(always)]
    fn real(self) -> f32 {
        self
    }
}
impl Real for i32 {
    #[inline(always)]
    fn real(self) -> f32 {
        self as f32
    }
}

/// `y = v · a + b` for each column.
fn affine<T: Real>(x: &[T], a: &[f32], b: &[f32], out: &mut [f32]) {
    let c = a.len();
    map::rows(out, c, |first, out| {
        for (out, x) in out.chunks_exact_mut(c).zip(x[first * c..].chunks_exact(c)) {
            for (((o, &x), &a), &b) in out.iter_mut().zip(x).zip(a).zip(b) {
                *o = x.real() * a + b;
            }
        }
    });
}

/// Sums over the rows of dy and dy · x^, x^ = v · a + b being the normalized value.
fn gradient_sums<T: Real>(dy: &[f32], x: &[T], a: &[f32], b: &[f32]) -> Vec<f64> {
    let c = a.len();
    reduce::row_sums(dy.len() / c, c, 2 * c, |rows, sums| {
        let (s1, s2) = sums.split_at_mut(c);
        let range = rows.start * c..rows.end * c;
        for (dy, x) in dy[range.clone()].chunks_exact(c).zip(x[range].chunks_exact(c)) {
            for k in 0..c {
                s1[k] += dy[k];
                s2[k] += dy[k] * (x[k].real() * a[k] + b[k]);
            }
        }
    })
}

/// dx = dy · k1 + (v · k2 + k3) for each column.
fn gradient<T: Real>(dy: &mut [f32], x: &[T], k1: &[f32], k2: &[f32], k3: &[f32]) {
    let c = k1.len();
    map::rows(dy, c, |first, dy| {
        for (dy, x) in dy.chunks_exact_mut(c).zip(x[first * c..].chunks_exact(c)) {
            for k in 0..c {
                dy[k] = dy[k] * k1[k] + (x[k].real() * k2[k] + k3[k]);
            }
        }
    });
}

struct BatchNormBackward {
    x: Value,
    /// The normalized value is v · a + b.
    a: Vec<f32>,
    b: Vec<f32>,
    /// The learned factor over the standard deviation.
    slope: Vec<f32>,
}

impl Backward for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn backward(self: Box<Self>, mut grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let Self { x, a, b, slope } = &*self;
        let c = a.len();
        let rows = (grad.len() / c) as f64;
        let sums = match x {
            Value::Float(x) => gradient_sums(grad.data(), x.data(), a, b),
            Value::Sums(x) => gradient_sums(grad.data(), x.data(), a, b),
        };
        let (s1, s2) = sums.split_at(c);
        let dx = cx.needs(0).then(|| {
            let k2: Vec<f32> = (0..c).map(|k| (-f64::from(slope[k]) * s2[k] / rows * f64::from(a[k])) as f32).collect();
            let k3: Vec<f32> =
                (0..c).map(|k| (-f64::from(slope[k]) * (s1[k] + f64::from(b[k]) * s2[k]) / rows) as f32).collect();
            match x {
                Value::Float(x) => gradient(grad.data_mut(), x.data(), slope, &k2, &k3),
                Value::Sums(x) => gradient(grad.data_mut(), x.data(), slope, &k2, &k3),
            }
            grad
        });
        let vector = |s: &[f64]| Tensor::from_vec(&[c], s.iter().map(|&s| s as f32).collect()).expect("one a channel");
        Ok(vec![dx, Some(vector(s2)), Some(vector(s1))])
    }
}

/// Mean and population variance of each channel, in f64 and in real units.
fn statistics(x: &Value, c: usize) -> (Vec<f64>, Vec<f64>) {
    match x {
        Value::Sums(x) => {
            let rows = (x.data().len() / c) as i128;
            let scale = f64::from(x.scale());
            let moments = reduce::column_moments(x.data(), c).into_iter().map(|(sum, square)| {
                let sum = i128::from(sum);
                // n Σv² - (Σv)² is exact in 128 bits, so nothing cancels.
                let spread = (rows * square - sum * sum) as f64 / (rows * rows) as f64;
                (sum as f64 / rows as f64 * scale, spread * scale * scale)
            });
            moments.unzip()
        }
        Value::Float(x) => {
            let rows = (x.len() / c) as f64;
            let mean: Vec<f64> = reduce::column_sums(x.data(), c).into_iter().map(|s| s / rows).collect();
            let centre: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
            let x = x.data();
            let squares = reduce::row_sums(x.len() / c, c, c, |rows, sums| {
                for row in x[rows.start * c..rows.end * c].chunks_exact(c) {
                    for k in 0..c {
                        let d = row[k] - centre[k];
                        sums[k] += d * d;
                    }
                }
            });
            let shift = mean.iter().zip(&centre).map(|(m, &c)| m - f64::from(c));
            let var = squares.iter().zip(shift).map(|(s, d)| (s / rows - d * d).max(0.0)).collect();
            (mean, var)
        }
    }
}

impl Graph<'_> {
    /// `(x - mean) / sqrt(var + eps) · weight + bias` for each channel, the last axis.
    ///
    /// In training with the batch's mean and variance, which also move the running statistics; in evaluation with the
    /// running ones. Shapes: x [N, H, W, C] or [N, C].
    ///
    /// # Errors
    /// The last axis is not as long as the parameters, or a training batch has fewer than two rows.
    pub fn batch_norm(&mut self, x: &Var, bn: &BatchNorm) -> Result<Var> {
        const OP: &str = "batch_norm";
        let c = self.store().param(bn.weight).value.len();
        let rows = x.shape().iter().product::<usize>() / c.max(1);
        if x.shape().len() < 2 || x.shape().last() != Some(&c) {
            return Err(TensorError::shape(OP, format!("[.., {c}]"), x.shape()).into());
        }
        let training = self.training();
        if training && rows < 2 {
            return Err(Error::setting("rows of a batch to normalize", "at least 2 in training", rows));
        }
        let (mean, var) = if training {
            statistics(x.value(), c)
        } else {
            let stats = self.store().state(bn.stats);
            let wide = |t: &Tensor| t.data().iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            (wide(&stats.mean), wide(&stats.var))
        };
        if training {
            let (keep, take) = (1.0 - f64::from(bn.momentum), f64::from(bn.momentum));
            let unbiased = rows as f64 / (rows as f64 - 1.0);
            let stats = self.store_mut().state_mut(bn.stats);
            for (r, m) in stats.mean.data_mut().iter_mut().zip(&mean) {
                *r = (keep * f64::from(*r) + take * m) as f32;
            }
            for (r, v) in stats.var.data_mut().iter_mut().zip(&var) {
                *r = (keep * f64::from(*r) + take * v * unbiased) as f32;
            }
        }
        let inv: Vec<f64> = var.iter().map(|v| 1.0 / (v + f64::from(bn.eps)).sqrt()).collect();
        let unit = match x.value() {
            Value::Float(_) => 1.0,
            Value::Sums(s) => f64::from(s.scale()),
        };
        let (weight, bias) = (self.param(bn.weight), self.param(bn.bias));
        let (wt, bt) = (weight.tensor(), bias.tensor());
        let wide = |t: &Tensor, k: usize| f64::from(t.data()[k]);
        let a: Vec<f32> = (0..c).map(|k| (wide(&wt, k) * inv[k] * unit) as f32).collect();
        let b: Vec<f32> = (0..c).map(|k| (wide(&bt, k) - wide(&wt, k) * inv[k] * mean[k]) as f32).collect();
        let mut out = Tensor::take(x.shape());
        match x.value() {
            Value::Float(x) => affine(x.data(), &a, &b, out.data_mut()),
            Value::Sums(x) => affine(x.data(), &a, &b, out.data_mut()),
        }
        Ok(self.record(out, &[x, &weight, &bias], || BatchNormBackward {
            x: x.value().clone(),
            a: inv.iter().map(|i| (i * unit) as f32).collect(),
            b: inv.iter().zip(&mean).map(|(i, m)| (-i * m) as f32).collect(),
            slope: (0..c).map(|k| (wide(&wt, k) * inv[k]) as f32).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{gradient_error, sample};
    use crate::{Group, Store};
    use fixnet_tensor::Sums;

    fn layer(store: &mut Store, c: usize) -> BatchNorm {
        BatchNorm {
            weight: store.add("weight", Group::Offset, sample(&[c], 8)).unwrap(),
            bias: store.add("bias", Group::Offset, sample(&[c], 9)).unwrap(),
            stats: store.add_state("stats", RunningStats::new(c)).unwrap(),
            eps: 1e-5,
            momentum: 0.1,
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let error = gradient_error(&[sample(&[6, 3], 1), sample(&[3], 2), sample(&[3], 3)], 0.01, |g, v| {
            let ids: Vec<_> = g.store().ids().collect();
            let name = format!("stats{}", g.store().states::<RunningStats>().count());
            let stats = g.store_mut().add_state(&name, RunningStats::new(3))?;
            g.batch_norm(&v[0], &BatchNorm { weight: ids[1], bias: ids[2], stats, eps: 1e-5, momentum: 0.1 })
        });
        assert!(error.unwrap() < 5e-3);
    }

    #[test]
    fn sums_and_floats_agree_and_running_statistics_move() {
        let integers: Vec<i32> = (0..24).map(|i| (i * 37) % 101 - 50).collect();
        let sums = Sums::new(&[2, 2, 2, 3], 0.125, integers.into()).unwrap();
        let run = |value: Value| {
            let mut store = Store::seeded(0);
            let bn = layer(&mut store, 3);
            let x = store.add("x", Group::Weight, sums.to_tensor()).unwrap();
            let mut g = Graph::train(&mut store);
            let input = g.record_value(value, vec![Source::Param(x)], || Identity);
            let y = g.batch_norm(&input, &bn).unwrap();
            let target = g.input(Tensor::full(y.shape(), 0.3));
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();
            let stats = store.state(bn.stats).clone();
            (y.tensor(), store.grad(x).unwrap().clone(), store.grad(bn.weight).unwrap().clone(), stats)
        };
        let (y, dx, dw, stats) = run(Value::Sums(sums.clone()));
        let (y2, dx2, dw2, stats2) = run(Value::Float(sums.to_tensor()));
        for (a, b) in [(&y, &y2), (&dx, &dx2), (&dw, &dw2), (&stats.mean, &stats2.mean), (&stats.var, &stats2.var)] {
            for (a, b) in a.data().iter().zip(b.data()) {
                approx::assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
            }
        }
        // Running mean: a tenth of the batch's.
        let mean: f32 = (0..8).map(|i| sums.data()[3 * i] as f32 * 0.125).sum::<f32>() / 8.0;
        approx::assert_relative_eq!(stats.mean.data()[0], 0.1 * mean, epsilon = 1e-6);
    }

    struct Identity;
    impl Backward for Identity {
        fn name(&self) -> &'static str {
            "identity"
        }
        fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
            Ok(vec![Some(grad)])
        }
    }
    use crate::Source;
}
