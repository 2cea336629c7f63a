//! `softmax` over one axis.

use super::axes::around;
use crate::deferred::{BLOCK, Deferred};
use crate::stored::{Settings, settings_of};
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Tensor, map, math, reduce};
use serde::{Deserialize, Serialize};

/// `exp(x) / Σ exp(x)`, with the sum over one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis; that of the batch is 0.
    pub axis: usize,
}

/// Calls `f(start, k, block)` for each run of positions on an axis: the run has the elements `k`, `k + inner`, .. of `block`,
/// which begins at the index `start` of the tensor.
fn for_runs(out: &mut [f32], [_, length, inner]: [usize; 3], f: impl Fn(usize, usize, &mut [f32]) + Sync) {
    let columns = length * inner;
    if columns == 0 {
        return;
    }
    map::rows(out, columns, |first, out| {
        for (i, out) in out.chunks_exact_mut(columns).enumerate() {
            (0..inner).for_each(|k| f((first + i) * columns, k, out));
        }
    });
}

/// The largest number, of 16 lanes; a NaN is passed over.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let larger = |m: f32, v: f32| if v > m { v } else { m };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut blocks = row.chunks_exact(16);
    for block in &mut blocks {
        for (lane, &v) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, v);
        }
    }
    let rest = blocks.remainder().iter();
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |m, &v| larger(m, v))
}

/// The softmax of a row whose numbers lie side by side, in place.
#[inline(always)]
fn normalize_row(row: &mut [f32]) {
    // The largest one is taken off, so that no exponential overflows. A NaN reaches every element of the row.
    let top = largest(row);
    for v in row.iter_mut() {
        *v = math::exp(*v - top);
    }
    let sum = reduce::row_sum_by(row.len(), |i| row[i]) as f32;
    for v in row.iter_mut() {
        *v /= sum;
    }
}

struct SoftmaxBackward {
    axis: usize,
    y: Tensor,
}

impl Backward for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn backward(self: Box<Self>, mut grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let parts @ [_, length, inner] = around("softmax", self.axis, self.y.shape())?;
        if inner == 1 && length > 0 {
            let y = self.y.data();
            map::rows(
                grad.data_mut(),
                length,
                #[inline(always)]
                |first: usize, grad: &mut [f32]| {
                    let rows = grad.chunks_exact_mut(length).zip(y[first * length..].chunks_exact(length));
                    for (g, y) in rows {
                        let dot = reduce::row_sum_by(length, |i| y[i] * g[i]) as f32;
                        for (g, y) in g.iter_mut().zip(y) {
                            *g = y * (*g - dot);
                        }
                    }
                },
            );
            return Ok(vec![Some(grad)]);
        }
        let mut dx = Tensor::take(self.y.shape());
        let (y, g) = (self.y.data(), grad.data());
        for_runs(dx.data_mut(), parts, |start, k, dx| {
            let (y, g) = (&y[start..start + dx.len()], &g[start..start + dx.len()]);
            let places = || (k..y.len()).step_by(inner);
            let dot = places().fold(0f64, |sum, i| sum + f64::from(y[i]) * f64::from(g[i])) as f32;
            places().for_each(|i| dx[i] = y[i] * (g[i] - dot));
        });
        Ok(vec![Some(dx)])
    }
}

impl Operation for Softmax {
    fn kind(&self) -> &'static str {
        "softmax"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        around("softmax", self.axis, x)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, _: &[bool]) -> bool {
        true
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let parts @ [_, length, inner] = around("softmax", self.axis, x.shape())?;
        let mut out = Tensor::take(x.shape());
        let axis = self.axis;
        if inner == 1 && length > 0 {
            let value = x.value();
            map::rows(
                out.data_mut(),
                length,
                #[inline(always)]
                |first: usize, out: &mut [f32]| {
                    // A few rows at a time, which stay in the cache.
                    let block = (BLOCK / length).max(1) * length;
                    for (i, out) in out.chunks_mut(block).enumerate() {
                        value.fill(first * length + i * block, out);
                        for row in out.chunks_exact_mut(length) {
                            normalize_row(row);
                        }
                    }
                },
            );
            let y = out.clone();
            return Ok(g.record(out, &[x], || SoftmaxBackward { axis, y }));
        }
        let t = x.tensor();
        let x_data = t.data();
        for_runs(out.data_mut(), parts, |start, k, out| {
            let x = &x_data[start..start + out.len()];
            // The largest one is taken off, so that no exponential overflows. A NaN reaches every element of its run.
            let top = x.iter().skip(k).step_by(inner).fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
            let mut sum = 0f64;
            for (o, &v) in out.iter_mut().zip(x).skip(k).step_by(inner) {
                *o = math::exp(v - top);
                sum += f64::from(*o);
            }
            let sum = sum as f32;
            out.iter_mut().skip(k).step_by(inner).for_each(|o| *o /= sum);
        });
        let y = out.clone();
        Ok(g.record(out, &[x], || SoftmaxBackward { axis, y }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Computes `exp(x) / Σ exp(x)` with the sum over `axis`, in the order of its positions.
    ///
    /// # Errors
    /// The value has no such axis.
    pub fn softmax(&mut self, x: &Var, axis: usize) -> Result<Var> {
        self.apply(Softmax { axis }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        for axis in 0..3 {
            let error = gradient_error(&[sample(&[2, 3, 4], 1)], 0.02, |g, v| g.softmax(&v[0], axis)).unwrap();
            assert!(error < 1e-3, "{axis}: {error}");
        }
    }

    #[test]
    fn shares_sum_to_one_along_the_axis() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 2], vec![0.0, 1000.0, 0.0, 1000.0 + 2f32.ln()]).unwrap());
        let y = g.softmax(&x, 0).unwrap().tensor();
        assert_eq!((y.data()[0], y.data()[2]), (0.5, 0.5));
        assert!((y.data()[1] - 1.0 / 3.0).abs() < 1e-4 && (y.data()[1] + y.data()[3] - 1.0).abs() < 1e-6);
        assert!(g.softmax(&x, 2).is_err());
        let empty = g.input(Tensor::zeros(&[2, 0]));
        assert_eq!(g.softmax(&empty, 1).unwrap().shape(), [2, 0]);
        let odd = g.input(Tensor::from_vec(&[1, 2], vec![f32::NAN, 1.0]).unwrap());
        assert!(g.softmax(&odd, 1).unwrap().tensor().data().iter().all(|v| v.is_nan()));
    }
}
