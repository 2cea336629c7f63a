//! Changes of shape: `reshape`, `flatten`, and the parameter-free shortcut of CIFAR residual networks.

use crate::deferred::{self, Deferred, Gradient};
use crate::{Backward, Cx, Grads, Graph, Result, Var};
use fixnet_tensor::{Error, Tensor, map};
use std::sync::Arc;

struct Reshape {
    shape: Vec<usize>,
}

impl Backward for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(grad.reshape(&self.shape)?)])
    }
}

struct Subsample {
    shape: [usize; 4],
    stride: usize,
}

impl Backward for Subsample {
    fn name(&self) -> &'static str {
        "subsample"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(deferred::write(&Spread { of: *self, grad }))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = grad.into_tensor(cx.store);
        Ok(vec![Some(Gradient::Deferred(Arc::new(Spread { of: *self, grad })))])
    }
}

/// The gradient of the large image: that of the small one where pixels were kept, zeros between. Mostly zeros, so it is
/// made where it is added.
struct Spread {
    of: Subsample,
    grad: Tensor,
}

impl Deferred for Spread {
    fn shape(&self) -> &[usize] {
        &self.of.shape
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let Subsample { shape: [_, h, w, c], stride } = self.of;
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let wide = self.grad.shape()[3];
        let before = (wide - c) / 2;
        out.fill(0.0);
        let end = first + out.len();
        // Lines of the large image that `out` has a part of.
        for line in first / (w * c)..end.div_ceil(w * c) {
            let (image, y) = (line / h, line % h);
            if y % stride != 0 {
                continue;
            }
            let small = (image * oh + y / stride) * ow;
            for x in 0..ow {
                let at = (line * w + x * stride) * c;
                let (from, to) = (at.max(first), (at + c).min(end));
                if from < to {
                    let grad = &self.grad.data()[(small + x) * wide + before + from - at..][..to - from];
                    out[from - first..to - first].copy_from_slice(grad);
                }
            }
        }
    }
}

impl Graph<'_> {
    /// The same elements under another shape.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&mut self, x: &Var, shape: &[usize]) -> Result<Var> {
        let from = x.shape().to_vec();
        let out = x.tensor().reshape(shape)?;
        Ok(self.record(out, &[x], || Reshape { shape: from }))
    }

    /// [N, ...] to [N, product of the rest].
    ///
    /// # Errors
    /// The value has no axis.
    pub fn flatten(&mut self, x: &Var) -> Result<Var> {
        let &[n, ref rest @ ..] = x.shape() else {
            return Err(Error::shape("flatten", "at least one axis", x.shape()).into());
        };
        let shape = [n, rest.iter().product()];
        self.reshape(x, &shape)
    }

    /// The shortcut "option A" of CIFAR residual networks: every `stride`-th pixel, with zero channels added on both
    /// sides up to `channels`. Shapes: [N, H, W, C] to [N, H/stride, W/stride, channels], rounded up.
    ///
    /// # Errors
    /// The value is no image, the stride is 0, or it has no channel or more than `channels`.
    pub fn subsample(&mut self, x: &Var, stride: usize, channels: usize) -> Result<Var> {
        let t = x.tensor();
        let shape @ [n, h, w, c] = t.nhwc("subsample")?;
        if stride == 0 || c > channels || c == 0 {
            let expected = format!("1 to {channels} channels, stride above 0");
            return Err(Error::shape("subsample", expected, t.shape()).into());
        }
        let before = (channels - c) / 2;
        let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
        let mut out = Tensor::take(&[n, oh, ow, channels]);
        map::rows(out.data_mut(), channels, |first, out| {
            for (i, out) in out.chunks_exact_mut(channels).enumerate() {
                let small = first + i;
                let (image, y, x) = (small / (oh * ow), small / ow % oh, small % ow);
                let large = (image * h + y * stride) * w + x * stride;
                out[..before].fill(0.0);
                out[before..before + c].copy_from_slice(&t.data()[large * c..][..c]);
                out[before + c..].fill(0.0);
            }
        });
        Ok(self.record(out, &[x], || Subsample { shape, stride }))
    }

    /// Multiplies by a constant.
    ///
    /// # Errors
    /// None today; the result keeps the form of its siblings.
    pub fn scale(&mut self, x: &Var, factor: f32) -> Result<Var> {
        struct Scale(f32);
        impl Backward for Scale {
            fn name(&self) -> &'static str {
                "scale"
            }
            fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
                let mut dx = Tensor::take(grad.shape());
                map::map1(grad.data(), dx.data_mut(), |g| g * self.0);
                Ok(vec![Some(dx)])
            }
        }
        let mut out = Tensor::take(x.shape());
        map::map1(x.tensor().data(), out.data_mut(), |x| x * factor);
        Ok(self.record(out, &[x], || Scale(factor)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, Subsample};
    use crate::check::{gradient_error, sample};
    use crate::deferred::{self, Deferred};
    use crate::{Graph, Store};

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[2, 5, 4, 3], 1);
        assert!(gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.flatten(&v[0])).unwrap() < 1e-3);
        assert!(gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.subsample(&v[0], 2, 8)).unwrap() < 1e-3);
        assert!(gradient_error(&[x], 0.1, |g, v| g.scale(&v[0], -2.5)).unwrap() < 1e-3);
    }

    #[test]
    fn the_shortcuts_gradient_is_the_same_in_pieces() {
        let spread = Spread { of: Subsample { shape: [2, 5, 4, 3], stride: 2 }, grad: sample(&[2, 3, 2, 8], 1) };
        let whole = deferred::write(&spread);
        for length in [1, 2, 5, 7, 13, 60] {
            let mut pieces = vec![9.0; whole.len()];
            pieces.chunks_mut(length).enumerate().for_each(|(i, out)| spread.fill(i * length, out));
            assert_eq!(pieces, whole.data());
        }
        assert_eq!(whole.view()[[1, 4, 2, 1]], spread.grad.view()[[1, 2, 1, 3]]);
        assert_eq!(whole.data().iter().filter(|v| **v != 0.0).count(), 2 * 3 * 2 * 3);
    }

    #[test]
    fn the_shortcut_keeps_every_second_pixel_and_pads_channels() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = sample(&[1, 4, 4, 2], 1);
        let v = g.input(x.clone());
        let y = g.subsample(&v, 2, 4).unwrap().tensor();
        assert_eq!(y.shape(), [1, 2, 2, 4]);
        assert_eq!(y.view()[[0, 1, 0, 1]], x.view()[[0, 2, 0, 0]]);
        assert_eq!(y.view()[[0, 1, 1, 2]], x.view()[[0, 2, 2, 1]]);
        assert_eq!((y.view()[[0, 1, 1, 0]], y.view()[[0, 1, 1, 3]]), (0.0, 0.0));
    }
}
