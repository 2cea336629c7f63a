//! `batch_norm`: normalization of each channel over the batch, with running statistics for evaluation.
//!
//! Of an integer product it takes the statistics as exact integer sums of the accumulators and normalizes the
//! accumulators themselves: they are never written as floats. `y = v · a + b` with one `a` and `b` a channel, `v` being
//! the float or the integer as f32; one rounding of the product and one of the sum. Neither the output nor the gradient
//! of the input is written out: whoever needs them computes them from v.

use super::relu::relu;
use crate::deferred::{self, BLOCK, Deferred, Lazy, Real, Scratch};
use crate::gradient::Gradient;
use crate::stored::{Parameter, Stored};
use crate::{
    Array, Backward, Cx, Error, Grads, Graph, Operation, ParamId, Result, Slot, State, Store, Value, Var, exactly,
};
use fixnet_tensor::reduce::{self, LANES, lane, lane_mut, lanes, no_lanes};
use fixnet_tensor::{Error as TensorError, Integers, Sums, Tensor, map};
use std::sync::Arc;

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
        let mut fetch = |name: &str| match get(name) {
            Some(Array::F32(t)) if t.shape() == self.mean.shape() => Ok(t),
            _ => Err(format!("`{name}` as f32 {:?}", self.mean.shape())),
        };
        let (mean, var) = (fetch("running_mean")?, fetch("running_var")?);
        *self = Self { mean, var };
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

/// The input of a normalization.
#[derive(Clone)]
enum Input {
    Float(Tensor),
    Sums(Sums),
}

/// Runs `$body` with `$v` the numbers of a range of the input, whichever they are.
macro_rules! numbers {
    ($input:expr, $range:expr, $v:ident => $body:expr) => {
        match $input {
            Input::Float(x) => {
                let $v = &x.data()[$range];
                $body
            }
            Input::Sums(x) => match x.integers($range) {
                Integers::Narrow($v) => $body,
                Integers::Wide($v) => $body,
            },
        }
    };
}

impl Input {
    fn of(x: &Var) -> Self {
        match x.value() {
            Value::Sums(s) => Self::Sums(s.clone()),
            other => Self::Float(other.tensor()),
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Float(x) => x.shape(),
            Self::Sums(x) => x.shape(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Float(x) => x.size(),
            Self::Sums(x) => x.size(),
        }
    }
}

/// Factors and offsets of columns, repeated so that a pass may start at any column.
#[derive(Clone)]
struct Columns {
    columns: usize,
    span: usize,
    values: Vec<f32>,
}

impl Columns {
    fn new(values: &[f32]) -> Self {
        let (columns, span) = (values.len(), reduce::span(values.len()));
        Self { columns, span, values: values.iter().copied().cycle().take(span + columns).collect() }
    }

    /// One number for each position of a span that starts at index `first`.
    fn from(&self, first: usize) -> &[f32] {
        &self.values[first % self.columns..][..self.span]
    }
}

/// `v · a + b`, behind a ReLU if `relu`.
#[derive(Clone)]
pub(super) struct Affine {
    input: Input,
    a: Columns,
    b: Columns,
    relu: bool,
}

fn affine<T: Real, const RELU: bool>(v: &[T], a: &[f32], b: &[f32], out: &mut [f32]) {
    map::dispatch(
        #[inline(always)]
        || {
            for (out, v) in out.chunks_mut(a.len()).zip(v.chunks(a.len())) {
                for (((o, &v), &a), &b) in out.iter_mut().zip(v).zip(a).zip(b) {
                    let y = v.real() * a + b;
                    *o = if RELU { relu(y) } else { y };
                }
            }
        },
    );
}

impl Affine {
    fn new(input: Input, a: &[f32], b: &[f32]) -> Self {
        Self { input, a: Columns::new(a), b: Columns::new(b), relu: false }
    }

    /// Each column of `x` plus its own number.
    pub(super) fn offset(x: &Var, b: &[f32]) -> Self {
        let input = Input::of(x);
        let unit = |k: usize| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => s.unit(k),
        };
        let a: Vec<f32> = (0..b.len()).map(unit).collect();
        Self::new(input, &a, b)
    }
}

impl Deferred for Affine {
    fn shape(&self) -> &[usize] {
        self.input.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let (a, b) = (self.a.from(first), self.b.from(first));
        numbers!(&self.input, first..first + out.len(), v => match self.relu {
            true => affine::<_, true>(v, a, b, out),
            false => affine::<_, false>(v, a, b, out),
        });
    }
    fn size(&self) -> usize {
        self.input.size()
    }
    fn relu(&self) -> Option<Arc<dyn Deferred>> {
        Some(Arc::new(Self { relu: true, ..self.clone() }))
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
        let Self { input, a, b, slope } = *self;
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
    /// `(x - mean) / sqrt(var + eps) · weight + bias` for each channel, the last axis.
    ///
    /// In training with the batch's mean and variance, which also move the running statistics; in evaluation with the
    /// running ones. Shapes: x [N, H, W, C] or [N, C].
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
        if !self.training() {
            let (name, norm) = (self.layer(bn.weight), bn.fixed(self.store()));
            return self.apply_as(&name, norm, &[x]);
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
        }))
    }

    /// [`batch_norm`](Self::batch_norm) with numbers that do not move. No gradient passes it: it is for evaluation.
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
        let input = Input::of(x);
        let (a, b) = self.factors(|k| match &input {
            Input::Float(_) => 1.0,
            Input::Sums(s) => s.unit(k),
        });
        let out = Lazy::new(Affine::new(input, &a, &b));
        Ok(g.record_value::<BatchNormBackward>(Value::Deferred(out), Vec::new(), || unreachable!("no input")))
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
    use crate::Group;
    use crate::check::{gradient_error, sample};
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
        agree(sums.clone(), 0.125);
        agree(sums.with_columns(&[1.0, 2.0, 0.5]).unwrap(), 0.125);
    }

    fn agree(sums: Sums, first_unit: f32) {
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
        let mean: f32 = (0..8).map(|i| sums.to_vec()[3 * i] as f32 * first_unit).sum::<f32>() / 8.0;
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
