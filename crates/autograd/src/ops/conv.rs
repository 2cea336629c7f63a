//! `conv2d` in floats, for layers that are not quantized.

use crate::{Backward, Cx, Grads, Graph, Result, Var};
use fixnet_tensor::{Conv2dGeometry, Tensor, Window, float};

struct Conv2d {
    x: Tensor,
    w: Tensor,
    geometry: Conv2dGeometry,
}

impl Backward for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let dx = if cx.needs(0) { Some(float::conv2d_input_grad(&grad, &self.w, &self.geometry)?) } else { None };
        let dw = if cx.needs(1) { Some(float::conv2d_weight_grad(&self.x, &grad, &self.geometry)?) } else { None };
        Ok(vec![dx, dw])
    }
}

impl Graph<'_> {
    /// Two-dimensional convolution. Shapes: x [N, H, W, I], w [O, KH, KW, I] to [N, H_out, W_out, O].
    ///
    /// # Errors
    /// The sizes do not fit, see [`Conv2dGeometry::new`].
    pub fn conv2d(&mut self, x: &Var, w: &Var, window: Window) -> Result<Var> {
        let geometry = Conv2dGeometry::windowed(x.shape(), w.shape(), window)?;
        let (xt, wt) = (x.tensor(), w.tensor());
        let out = float::conv2d(&xt, &wt, &geometry)?;
        Ok(self.record(out, &[x, w], || Conv2d { x: xt, w: wt, geometry }))
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use fixnet_tensor::Window;

    #[test]
    fn gradients_match_finite_differences() {
        let window = |stride, padding, dilation, groups| Window {
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [dilation; 2],
            groups,
        };
        for (k, stride, padding, dilation, groups) in [
            (3, 1, 1, 1, 1),
            (3, 2, 1, 1, 1),
            (1, 2, 0, 1, 1),
            (5, 1, 2, 1, 1),
            (2, 3, 1, 2, 1),
            (3, 1, 1, 1, 2),
            (3, 2, 1, 1, 4),
        ] {
            let (x, w) = (sample(&[2, 6, 5, 4], 1), sample(&[4, k, k, 4 / groups], 2));
            let window = window(stride, padding, dilation, groups);
            let error = gradient_error(&[x, w], 0.1, |g, v| g.conv2d(&v[0], &v[1], window)).unwrap();
            assert!(error < 1e-3, "{k} {window:?}: {error}");
        }
    }
}
