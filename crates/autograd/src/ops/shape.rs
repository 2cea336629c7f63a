//! Changes of shape: `reshape`, `flatten`, and the parameter-free shortcut of CIFAR residual networks.

use crate::{Backward, Cx, Grads, Graph, Result, Var};
use fixnet_tensor::{Error, Tensor, map};

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

/// Applies `f(index in the large image, index in the small one)` for each pixel that the shortcut keeps.
fn kept_pixels([n, h, w, _]: [usize; 4], stride: usize, mut f: impl FnMut(usize, usize)) {
    let (oh, ow) = (h.div_ceil(stride), w.div_ceil(stride));
    for i in 0..n * oh * ow {
        let (image, y, x) = (i / (oh * ow), i / ow % oh, i % ow);
        f((image * h + y * stride) * w + x * stride, i);
    }
}

impl Backward for Subsample {
    fn name(&self) -> &'static str {
        "subsample"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        let c = self.shape[3];
        let wide = *grad.shape().last().expect("four axes");
        let before = (wide - c) / 2;
        let mut dx = Tensor::zeros(&self.shape);
        let (d, g) = (dx.data_mut(), grad.data());
        kept_pixels(self.shape, self.stride, |large, small| {
            d[large * c..][..c].copy_from_slice(&g[small * wide + before..][..c]);
        });
        Ok(vec![Some(dx)])
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
    /// The value is no image, the stride is 0, or it has more than `channels` channels.
    pub fn subsample(&mut self, x: &Var, stride: usize, channels: usize) -> Result<Var> {
        let t = x.tensor();
        let shape @ [n, h, w, c] = t.nhwc("subsample")?;
        if stride == 0 || c > channels {
            return Err(
                Error::shape("subsample", format!("at most {channels} channels, stride above 0"), t.shape()).into()
            );
        }
        let before = (channels - c) / 2;
        let mut out = Tensor::zeros(&[n, h.div_ceil(stride), w.div_ceil(stride), channels]);
        let (o, d) = (out.data_mut(), t.data());
        kept_pixels(shape, stride, |large, small| {
            o[small * channels + before..][..c].copy_from_slice(&d[large * c..][..c]);
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
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};

    #[test]
    fn gradients_match_finite_differences() {
        let x = sample(&[2, 5, 4, 3], 1);
        assert!(gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.flatten(&v[0])).unwrap() < 1e-3);
        assert!(gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.subsample(&v[0], 2, 8)).unwrap() < 1e-3);
        assert!(gradient_error(&[x], 0.1, |g, v| g.scale(&v[0], -2.5)).unwrap() < 1e-3);
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
