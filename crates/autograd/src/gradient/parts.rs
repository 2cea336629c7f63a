//! Gradients of runs of positions on one axis, as slices of a value give them: they are put together once, in place of a sum of
//! tensors that are mostly zeros.

use crate::deferred::{BLOCK, Deferred, Scratch, block};
use crate::strided::Strided;
use fixnet_tensor::{Tensor, map};

/// The gradient of a value of which only runs of positions on one axis were used.
#[derive(Clone)]
pub struct Parts {
    shape: Vec<usize>,
    axis: usize,
    /// The first position of each run, and its gradient.
    parts: Vec<(usize, Strided)>,
}

impl Parts {
    /// Makes it of one run of the axis `axis` of a value of `shape`: the gradient has the same lengths on all other axes.
    pub fn new(shape: &[usize], axis: usize, start: usize, grad: Tensor) -> Self {
        Self { shape: shape.to_vec(), axis, parts: vec![(start, Strided::of_tensor(grad))] }
    }

    /// Puts the runs of two gradients of one value together, or returns them where they go along different axes.
    #[allow(clippy::result_large_err, reason = "the error is the operands as they came")]
    pub(super) fn join(mut self, other: Self) -> Result<Self, (Self, Self)> {
        if self.axis != other.axis || self.shape != other.shape {
            return Err((self, other));
        }
        self.parts.extend(other.parts);
        Ok(self)
    }

    /// The gradient with its axes in another order: axis `i` of the result is axis `order[i]`.
    pub(crate) fn permuted(self, order: &[usize]) -> Self {
        let axis = order.iter().position(|&from| from == self.axis).expect("an order names each axis");
        let shape = order.iter().map(|&from| self.shape[from]).collect();
        let parts = self.parts.into_iter().map(|(start, grad)| (start, grad.permuted(order))).collect();
        Self { shape, axis, parts }
    }

    /// Whether the runs cover the axis without a gap and no position comes twice.
    fn is_partition(&self) -> bool {
        let mut runs: Vec<(usize, usize)> =
            self.parts.iter().map(|(start, g)| (*start, g.shape()[self.axis])).collect();
        runs.sort_unstable();
        let end = runs.iter().try_fold(0, |end, &(start, length)| (start == end).then_some(end + length));
        end == Some(self.shape[self.axis])
    }

    /// The gradient as a tensor: the sum of the runs in the order in which they came, each added to 0, so that the bits are
    /// those of a sum of tensors with zeros elsewhere.
    pub(super) fn write(self) -> Tensor {
        let inner: usize = self.shape[self.axis + 1..].iter().product();
        let columns = self.shape[self.axis] * inner;
        let add = !self.is_partition();
        let mut out = match add {
            false => Tensor::take(&self.shape),
            true => Tensor::zeros(&self.shape),
        };
        if columns == 0 {
            return out;
        }
        map::rows(out.data_mut(), columns, |first, out| {
            let mut scratch = Scratch::new();
            for (i, out) in out.chunks_exact_mut(columns).enumerate() {
                for (start, grad) in &self.parts {
                    let length = grad.shape()[self.axis] * inner;
                    let first = (first + i) * length;
                    for (i, out) in out[start * inner..][..length].chunks_mut(BLOCK).enumerate() {
                        let first = first + i * BLOCK;
                        if add {
                            let grad = block(grad, first..first + out.len(), &mut scratch);
                            out.iter_mut().zip(grad).for_each(|(o, g)| *o += g);
                        } else {
                            grad.fill(first, out);
                            out.iter_mut().for_each(|o| *o += 0.0);
                        }
                    }
                }
            }
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample;
    use crate::deferred::write;

    #[test]
    fn runs_are_put_together_as_a_sum_of_tensors_with_zeros() {
        let grad = |length: usize, salt| sample(&[2, length, 3], salt);
        let dense = |start: usize, g: &Tensor| {
            let mut out = Tensor::zeros(&[2, 5, 3]);
            let length = g.shape()[1] * 3;
            for i in 0..2 {
                out.data_mut()[i * 15 + start * 3..][..length].copy_from_slice(&g.data()[i * length..][..length]);
            }
            out
        };
        for runs in [&[(0, 2), (2, 3)][..], &[(3, 2), (0, 3)], &[(1, 2)], &[(0, 3), (2, 3)], &[(1, 2), (2, 2), (0, 5)]]
        {
            let all: Vec<(usize, Tensor)> = runs.iter().map(|&(s, n)| (s, grad(n, 7 + s as u32))).collect();
            let mut sum = Tensor::zeros(&[2, 5, 3]);
            for (start, g) in &all {
                map::update1(sum.data_mut(), dense(*start, g).data(), |a, b| *a += b);
            }
            let parts = all.into_iter().map(|(s, g)| Parts::new(&[2, 5, 3], 1, s, g));
            let joined = parts.reduce(|a, b| a.join(b).ok().unwrap()).unwrap();
            let turned = write(&Strided::of_tensor(sum.clone()).permuted(&[1, 2, 0]));
            assert_eq!(joined.clone().permuted(&[1, 2, 0]).write().data(), turned.data(), "{runs:?}");
            assert_eq!(joined.write().data(), sum.data(), "{runs:?}");
        }
        let (a, b) = (Parts::new(&[2, 5, 3], 1, 0, grad(1, 1)), Parts::new(&[2, 5, 3], 2, 0, sample(&[2, 5, 1], 1)));
        assert!(a.join(b).is_err());
    }
}
