//! `batch_norm`: normalization of each channel over the batch, with running statistics for evaluation.
//!
//! Of an integer product it takes the statistics as exact integer sums of the accumulators and normalizes the
//! accumulators themselves: they are never written as floats. `y = v · a + b` with one `a` and `b` a channel, `v` being
//! the float or the integer as f32; one rounding of the product and one of the sum. Neither the output nor the gradient
//! of the input is written out: whoever needs them computes them from v.

use super::affine::{Affine, Columns, Input, numbers};
use super::fixed_norm::FixedNorm;
use crate::deferred::{self, BLOCK, Deferred, Lazy, Real, Scratch};
use crate::gradient::{ColumnGradient, Gradient};
use crate::{Array, Backward, Cx, Error, Grads, Graph, Operation, ParamId, Result, Slot, State, Store, Value, Var};
use fixnet_tensor::reduce::{self, LANES, lane, lane_mut, lanes, no_lanes};
use fixnet_tensor::{Error as TensorError, Integers, Tensor, map};
use std::sync::Arc;

/// Running mean and variance of each channel: `r <- (1 - momentum) · r + momentum · batch`, the variance unbiased.
#[derive(Debug, Clone)]
pub struct RunningStats {
    /// Mean of each channel.
    pub mean: Tensor,
    /// Variance of each channel.
    pub var: Tensor,
    /// Whether they stand in for those of the batch in training too: a frozen normalization, which takes a batch of one.
    pub frozen: bool,
}

impl RunningStats {
    /// Mean 0 and variance 1.
    pub fn new(channels: usize) -> Self {
        Self { mean: Tensor::zeros(&[channels]), var: Tensor::full(&[channels], 1.0), frozen: false }
    }
}

impl State for RunningStats {
    fn save(&self) -> Vec<(&'static str, Array)> {
        vec![("running_mean", Array::F32(self.mean.clone())), ("running_var", Array::F32(self.var.clone()))]
    }
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String> {
        let mut fetch = |name: &str| match get(name) {
            Some(Array::F32(t)) if t.shape() == self.mean.shape() => Ok(t),
            _ => Err(format!("`{name}` as f32 {:?}", self.mean.shape())),
        };
        let (mean, var) = (fetch("running_mean")?, fetch("running_var")?);
        (self.mean, self.var) = (mean, var);
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

impl BatchNorm {
    /// What evaluation computes: the parameters and running statistics as they are now.
    pub fn fixed(&self, store: &Store) -> FixedNorm {
        let (value, stats) = (|id| store.param(id).value.clone(), store.state(self.stats));
        let (mean, var) = (stats.mean.clone(), stats.var.clone());
        FixedNorm { weight: value(self.weight), bias: value(self.bias), mean, var, eps: self.eps }
    }
}

/// `dy · k1 + (v · k2 + k3)`: the gradient of the input.
struct InputGradient {
    dy: Arc<dyn Deferred>,
    input: Input,
    k1: Columns,
    k2: Columns,
    k3: Columns,
}

fn input_gradient<T: Real>(dy: &[f32], v: &[T], [k1, k2, k3]: [&[f32]; 3], out: &mut [f32]) {
    let span = k1.len();
    map::dispatch(
        #[inline(always)]
        || {
            for ((out, dy), v) in out.chunks_mut(span).zip(dy.chunks(span)).zip(v.chunks(span)) {
                for (((((o, &dy), &v), &k1), &k2), &k3) in out.iter_mut().zip(dy).zip(v).zip(k1).zip(k2).zip(k3) {
                    *o = dy * k1 + (v.real() * k2 + k3);
                }
            }
        },
    );
}

impl Deferred for InputGradient {
    fn shape(&self) -> &[usize] {
        self.input.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let mut scratch = Scratch::new();
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let first = first + i * BLOCK;
            let range = first..first + out.len();
            let dy = deferred::block(&*self.dy, range.clone(), &mut scratch);
            let k = [&self.k1, &self.k2, &self.k3].map(|k| k.from(first));
            numbers!(&self.input, range, v => input_gradient(dy, v, k, out));
        }
    }
    fn size(&self) -> usize {
        self.dy.size() + self.input.size()
    }
}

/// Adds dy and dy · x^ of whole rows to sums that repeat; x^ = v · a + b is the normalized value.
fn add_sums<T: Real>(dy: &[f32], v: &[T], a: &[f32], b: &[f32], s1: &mut [f32], s2: &mut [f32]) {
    let span = a.len();
    map::dispatch(
        #[inline(always)]
        || {
            for first in lanes(span) {
                let (a, b) = (lane(a, first), lane(b, first));
                let (mut sums, mut products) = (*lane(s1, first), *lane(s2, first));
                for (dy, v) in dy.chunks_exact(span).zip(v.chunks_exact(span)) {
                    let (dy, v) = (lane(dy, first), lane(v, first));
                    for l in 0..LANES {
                        sums[l] += dy[l];
                        products[l] += dy[l] * (v[l].real() * a[l] + b[l]);
                    }
                }
                *lane_mut(s1, first) = sums;
                *lane_mut(s2, first) = products;
            }
            for (range, first) in no_lanes(span, dy.len()) {
                let sums = s1[first..].iter_mut().zip(&mut s2[first..]);
                let factors = a[first..].iter().zip(&b[first..]);
                for (((&dy, &v), (&a, &b)), (s1, s2)) in dy[range.clone()].iter().zip(&v[range]).zip(factors).zip(sums)
                {
                    *s1 += dy;
                    *s2 += dy * (v.real() * a + b);
                }
            }
        },
    );
}

struct BatchNormBackward {
    input: Input,
    /// The normalized value is v · a + b.
    a: Vec<f32>,
    b: Vec<f32>,
    /// The learned factor over the standard deviation.
    slope: Vec<f32>,
    /// Whether mean and variance are constants, not those of the batch.
    frozen: bool,
}

impl Backward for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let Self { input, a, b, slope, frozen } = *self;
        let c = a.len();
        let span = reduce::span(c);
        let rows = input.shape().iter().product::<usize>() / c;
        let dy = grad.source(cx.store);
        let (wide_a, wide_b) = (reduce::spread(&a), reduce::spread(&b));
        let sums = dy.sums(2 * span, input.size(), cx.store, |dy, part, sums| {
            let (s1, s2) = sums.split_at_mut(span);
            numbers!(&input, part, v => add_sums(dy, v, &wide_a, &wide_b, s1, s2));
        });
        let (s1, s2) = (reduce::fold_span(&sums[..span], c), reduce::fold_span(&sums[span..2 * span], c));
        let dx = cx.needs(0).then(|| {
            if frozen {
                return Gradient::Deferred(Arc::new(ColumnGradient::new(dy.grad, &slope)));
            }
            let rows = rows as f64;
            let k2: Vec<f32> = (0..c).map(|k| (-f64::from(slope[k]) * s2[k] / rows * f64::from(a[k])) as f32).collect();
            let k3: Vec<f32> =
                (0..c).map(|k| (-f64::from(slope[k]) * (s1[k] + f64::from(b[k]) * s2[k]) / rows) as f32).collect();
            let (k1, k2, k3) = (Columns::new(&slope), Columns::new(&k2), Columns::new(&k3));
            Gradient::Deferred(Arc::new(InputGradient { dy: dy.grad, input, k1, k2, k3 }))
        });
        let vector = |s: &[f64]| Tensor::from_vec(&[c], s.iter().map(|&s| s as f32).collect()).expect("one a channel");
        Ok(vec![dx, Some(vector(&s2).into()), Some(vector(&s1).into())])
    }
}

/// Mean and population variance of each channel, in f64 and in real units.
fn statistics(x: &Input, c: usize) -> (Vec<f64>, Vec<f64>) {
    match x {
        Input::Sums(x) => {
            let rows = (x.len() / c) as i128;
            let moments = x.moments(c);
            let moments = moments.iter().enumerate().map(|(k, &(sum, square))| {
                let scale = f64::from(x.unit(k));
                let sum = i128::from(sum);
                // n Σv² - (Σv)² is exact in 128 bits, so nothing cancels.
                let spread = (rows * square - sum * sum) as f64 / (rows * rows) as f64;
                (sum as f64 / rows as f64 * scale, spread * scale * scale)
            });
            moments.unzip()
        }
        Input::Float(x) => {
            let rows = (x.len() / c) as f64;
            let mean: Vec<f64> = reduce::column_sums(x.data(), c).iter().map(|s| s / rows).collect();
            let centre: Vec<f32> = mean.iter().map(|&m| m as f32).collect();
            let (x, wide, span) = (x.data(), reduce::spread(&centre), reduce::span(c));
            let squares = reduce::row_sums(x.len() / c, c, span, |rows, sums| {
                for x in x[rows.start * c..rows.end * c].chunks(span) {
                    for ((s, &x), &m) in sums.iter_mut().zip(x).zip(&*wide) {
                        let d = x - m;
                        *s += d * d;
                    }
                }
            });
            let squares = reduce::fold_span(&squares, c);
            let shift = mean.iter().zip(&centre).map(|(m, &c)| m - f64::from(c));
            // Not `max`, which would make 0 of a NaN.
            let positive = |v: f64| if v < 0.0 { 0.0 } else { v };
            let var = squares.iter().zip(shift).map(|(s, d)| positive(s / rows - d * d)).collect();
            (mean, var)
        }
    }
}

impl Graph<'_> {
    /// A normalization with the running statistics, whose factor and offset still learn.
    fn batch_norm_frozen(&mut self, x: &Var, bn: &BatchNorm, norm: &FixedNorm) -> Result<Var> {
        norm.output_shape(&[x.shape()])?;
        let (input, slope) = (Input::of(x), norm.factors(|_| 1.0).0);
        let inv = |k: usize| 1.0 / (f64::from(norm.var.data()[k]) + f64::from(norm.eps)).sqrt();
        let unit = |k: usize| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => f64::from(s.unit(k)),
        };
        let channels = 0..slope.len();
        let a = channels.clone().map(|k| (inv(k) * unit(k)) as f32).collect();
        let b = channels.map(|k| (-inv(k) * f64::from(norm.mean.data()[k])) as f32).collect();
        let (weight, bias) = (self.param(bn.weight), self.param(bn.bias));
        let inputs = [x, &weight, &bias].map(|v| self.source(v)).to_vec();
        Ok(self.record_value(norm.value(x), inputs, || BatchNormBackward { input, a, b, slope, frozen: true }))
    }

    /// `(x - mean) / sqrt(var + eps) · weight + bias` for each channel, the last axis.
    ///
    /// With [`Modes::batch_statistics`](crate::Modes), as in training, with the batch's mean and variance, which also move
    /// the running statistics; else, as in evaluation, with the running ones. Shapes: x [N, H, W, C] or [N, C].
    ///
    /// # Errors
    /// The last axis is not as long as the parameters and statistics; a training batch has fewer than two rows, or a mean or
    /// variance that is not finite as `f32`; or the parameters are of another store.
    pub fn batch_norm(&mut self, x: &Var, bn: &BatchNorm) -> Result<Var> {
        const OP: &str = "batch_norm";
        self.store().owns(bn.weight)?;
        self.store().owns(bn.bias)?;
        self.store().owns(bn.stats)?;
        let c = self.store().param(bn.weight).value.len();
        let rows = x.shape().iter().product::<usize>() / c.max(1);
        if x.shape().len() < 2 || x.shape().last() != Some(&c) {
            return Err(TensorError::shape(OP, format!("[.., {c}]"), x.shape()).into());
        }
        let modes = self.modes();
        if !modes.batch_statistics {
            let (name, norm) = (self.layer(bn.weight), bn.fixed(self.store()));
            return match modes.record && !self.is_traced(x) {
                true => self.batch_norm_frozen(x, bn, &norm),
                false => self.apply_as(&name, norm, &[x]),
            };
        }
        if rows < 2 {
            return Err(Error::setting("rows of a batch to normalize", "at least 2 in training", rows));
        }
        let stats = self.store().state(bn.stats);
        let others = [&self.store().param(bn.bias).value, &stats.mean, &stats.var];
        if let Some(odd) = others.into_iter().find(|t| t.len() != c) {
            return Err(TensorError::shape(OP, format!("[{c}]"), odd.shape()).into());
        }
        let input = Input::of(x);
        let (mean, var) = statistics(&input, c);
        let (keep, take) = (1.0 - f64::from(bn.momentum), f64::from(bn.momentum));
        let unbiased = rows as f64 / (rows as f64 - 1.0);
        let step = self.store().step();
        let stats = self.store_mut().state_mut(bn.stats);
        let moved = |old: &Tensor, new: &[f64], factor: f64| -> Vec<f32> {
            old.data().iter().zip(new).map(|(r, v)| (keep * f64::from(*r) + take * v * factor) as f32).collect()
        };
        let (next_mean, next_var) = (moved(&stats.mean, &mean, 1.0), moved(&stats.var, &var, unbiased));
        // They outlive the step, and would make each later evaluation worthless.
        if let Some(odd) = next_mean.iter().chain(&next_var).find(|v| !v.is_finite()) {
            let what = "a mean or variance of a batch norm's input".to_string();
            return Err(Error::NonFinite { what, step, found: odd.to_string() });
        }
        stats.mean.data_mut().copy_from_slice(&next_mean);
        stats.var.data_mut().copy_from_slice(&next_var);
        let inv: Vec<f64> = var.iter().map(|v| 1.0 / (v + f64::from(bn.eps)).sqrt()).collect();
        let unit = |k: usize| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => f64::from(s.unit(k)),
        };
        let units: Vec<f64> = (0..c).map(unit).collect();
        let (weight, bias) = (self.param(bn.weight), self.param(bn.bias));
        let (wt, bt) = (weight.tensor(), bias.tensor());
        let wide = |t: &Tensor, k: usize| f64::from(t.data()[k]);
        let a: Vec<f32> = (0..c).map(|k| (wide(&wt, k) * inv[k] * units[k]) as f32).collect();
        let b: Vec<f32> = (0..c).map(|k| (wide(&bt, k) - wide(&wt, k) * inv[k] * mean[k]) as f32).collect();
        let out = Lazy::new(Affine::new(input.clone(), &a, &b));
        let inputs = [x, &weight, &bias].map(|v| self.source(v)).to_vec();
        Ok(self.record_value(Value::Deferred(out), inputs, || BatchNormBackward {
            input,
            a: inv.iter().zip(&units).map(|(i, unit)| (i * unit) as f32).collect(),
            b: inv.iter().zip(&mean).map(|(i, m)| (-i * m) as f32).collect(),
            slope: (0..c).map(|k| (wide(&wt, k) * inv[k]) as f32).collect(),
            frozen: false,
        }))
    }
}

#[cfg(test)]
mod tests;
