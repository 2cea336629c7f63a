//! `conv2d` in floats, for layers that are not quantized.

use super::check_bias;
use crate::stored::{Parameter, Settings, Stored, settings_of};
use crate::{Backward, Cx, Error, Grads, Graph, Operation, Result, Var};
use fixnet_tensor::{Conv2dGeometry, Tensor, Window, float};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

struct Conv2dBackward {
    x: Tensor,
    w: Tensor,
    geometry: Conv2dGeometry,
}

impl Backward for Conv2dBackward {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let dx = if cx.needs(0) { Some(float::conv2d_input_grad(&grad, &self.w, &self.geometry)?) } else { None };
        let dw = if cx.needs(1) { Some(float::conv2d_weight_grad(&self.x, &grad, &self.geometry)?) } else { None };
        Ok(vec![dx, dw])
    }
}

/// [`Window`] for serde.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Window", deny_unknown_fields)]
struct WindowForm {
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

/// A convolution of x [N, H, W, I] with a weight [O, KH, KW, I / groups] and perhaps a bias `[O]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d {
    /// How the window moves.
    #[serde(with = "WindowForm")]
    pub window: Window,
}

impl Conv2d {
    /// Reads the settings back.
    ///
    /// # Errors
    /// A setting is missing or has another form.
    pub fn read(stored: &Stored<'_>) -> Result<Arc<dyn Operation>> {
        Ok(Arc::new(stored.settings::<Self>()?))
    }

    /// Infers the output shape for a weight of the shape `weight`.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn shape(&self, x: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Vec<usize>> {
        let geometry = Conv2dGeometry::windowed(x, weight, self.window)?;
        check_bias(bias, geometry.c_out())?;
        Ok(geometry.output_shape().to_vec())
    }
}

impl Operation for Conv2d {
    fn kind(&self) -> &'static str {
        "conv2d"
    }
    fn operand(&self, index: usize) -> String {
        ["input", "weight", "bias"].get(index).map_or_else(|| format!("operand{index}"), ToString::to_string)
    }
    fn is_batched(&self, index: usize) -> bool {
        index == 0
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        match *inputs {
            [x, w] => self.shape(x, w, None),
            [x, w, b] => self.shape(x, w, Some(b)),
            _ => Err(Error::setting("inputs of an operation", "2 or 3", inputs.len())),
        }
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let &[x, w, ref bias @ ..] = inputs else {
            return Err(Error::setting("inputs of an operation", "2 or 3", inputs.len()));
        };
        let geometry = Conv2dGeometry::windowed(x.shape(), w.shape(), self.window)?;
        let (xt, wt) = (x.tensor(), w.tensor());
        let out = float::conv2d(&xt, &wt, &geometry)?;
        let y = g.record(out, &[x, w], || Conv2dBackward { x: xt, w: wt, geometry });
        bias.iter().try_fold(y, |y, bias| g.add_bias(&y, bias))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
    fn precision(&self) -> Option<String> {
        Some("32/32/32".into())
    }
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        super::macs(parameters, output)
    }
}

impl Graph<'_> {
    /// Two-dimensional convolution. Shapes: x [N, H, W, I], w [O, KH, KW, I] to [N, H_out, W_out, O].
    ///
    /// # Errors
    /// The sizes do not fit, see [`Conv2dGeometry::new`].
    pub fn conv2d(&mut self, x: &Var, w: &Var, window: Window) -> Result<Var> {
        self.apply(Conv2d { window }, &[x, w])
    }

    /// [`conv2d`](Self::conv2d) with a bias `[O]` for each output channel.
    ///
    /// # Errors
    /// The sizes do not fit.
    pub fn conv2d_biased(&mut self, x: &Var, w: &Var, bias: &Var, window: Window) -> Result<Var> {
        self.apply(Conv2d { window }, &[x, w, bias])
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
