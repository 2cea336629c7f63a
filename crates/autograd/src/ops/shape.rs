//! Changes of shape: `reshape`, `flatten`, and the parameter-free shortcut of CIFAR residual networks.

use crate::deferred::{self, Deferred, Lazy};
use crate::gradient::Gradient;
use crate::stored::{Settings, settings_of};
use crate::value::Value;
use crate::{Backward, Cx, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error, Tensor, map};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

struct ReshapeBackward {
    shape: Vec<usize>,
}

impl Backward for ReshapeBackward {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(grad.reshape(&self.shape)?)])
    }
}

struct SubsampleBackward {
    shape: [usize; 4],
    stride: usize,
}

impl Backward for SubsampleBackward {
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
    of: SubsampleBackward,
    grad: Tensor,
}

impl Deferred for Spread {
    fn shape(&self) -> &[usize] {
        &self.of.shape
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let SubsampleBackward { shape: [_, h, w, c], stride } = self.of;
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

/// The same elements of each image under another shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshape {
    /// The shape without the axis of the batch.
    pub shape: Vec<usize>,
}

impl Operation for Reshape {
    fn kind(&self) -> &'static str {
        "reshape"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let count = |shape: &[usize]| shape.iter().fold(1u128, |n, &axis| n.saturating_mul(axis as u128));
        match x.split_first() {
            Some((&n, rest)) if count(rest) == count(&self.shape) => Ok([&[n], &self.shape[..]].concat()),
            _ => Err(Error::shape("reshape", format!("as many elements per image as {:?}", self.shape), x).into()),
        }
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let shape = self.output_shape(&[x.shape()])?;
        reshape(g, x, &shape)
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// A deferred value under another shape with as many elements.
struct Reshaped(Lazy, Vec<usize>);

impl Deferred for Reshaped {
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn depth(&self) -> usize {
        1 + self.0.depth()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.0.fill(first, out);
    }
    fn slice(&self, range: Range<usize>) -> Option<&[f32]> {
        self.0.slice(range)
    }
    fn size(&self) -> usize {
        self.0.size()
    }
}

fn reshape(g: &mut Graph<'_>, x: &Var, shape: &[usize]) -> Result<Var> {
    let from = x.shape().to_vec();
    let count = |shape: &[usize]| shape.iter().fold(1u128, |n, &axis| n.saturating_mul(axis as u128));
    let out = match &x.value().settled() {
        // What later passes want written is written once, for whoever reads it under either shape.
        Value::Deferred(lazy) if !lazy.keep() && count(&from) == count(shape) => {
            Value::Deferred(Lazy::new(Reshaped(lazy.clone(), shape.to_vec())))
        }
        value => Value::Float(value.tensor().reshape(shape)?),
    };
    let inputs = vec![g.source(x)];
    let y = g.record_value(out, inputs, || ReshapeBackward { shape: from });
    Ok(if x.is_non_negative() { y.non_negative() } else { y })
}

/// [N, ...] to [N, product of the rest].
#[derive(Debug, Clone, Copy)]
pub struct Flatten;

impl Operation for Flatten {
    fn kind(&self) -> &'static str {
        "flatten"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let Some((&n, rest)) = x.split_first() else {
            return Err(Error::shape("flatten", "at least one axis", x).into());
        };
        Ok(vec![n, rest.iter().product()])
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let shape = self.output_shape(&[x.shape()])?;
        reshape(g, x, &shape)
    }
}

/// Every `stride`-th pixel, with zero channels on both sides: [N, H, W, C] to [N, H / stride, W / stride, channels].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsample {
    /// Distance between the pixels that stay.
    pub stride: usize,
    /// Channels of the output.
    pub channels: usize,
}

impl Subsample {
    fn shapes(&self, x: &[usize]) -> Result<([usize; 4], [usize; 4])> {
        let Self { stride, channels } = *self;
        match *x {
            [n, h, w, c] if stride > 0 && c <= channels && c > 0 => {
                Ok(([n, h, w, c], [n, h.div_ceil(stride), w.div_ceil(stride), channels]))
            }
            [_, _, _, _] => {
                let expected = format!("1 to {channels} channels, stride above 0");
                Err(Error::shape("subsample", expected, x).into())
            }
            _ => Err(Error::shape("subsample", "[N, H, W, C]", x).into()),
        }
    }
}

impl Operation for Subsample {
    fn kind(&self) -> &'static str {
        "subsample"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(self.shapes(x)?.1.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let (shape @ [_, h, w, c], small @ [_, oh, ow, channels]) = self.shapes(x.shape())?;
        let (t, stride) = (x.tensor(), self.stride);
        let before = (channels - c) / 2;
        let mut out = Tensor::take(&small);
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
        Ok(g.record(out, &[x], || SubsampleBackward { shape, stride }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// `x · factor`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// The constant.
    pub factor: f32,
}

/// A value, or a gradient, times a constant.
struct Scaled(Value, f32);

impl Deferred for Scaled {
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn depth(&self) -> usize {
        1 + self.0.depth()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        self.0.fill(first, out);
        map::dispatch(
            #[inline(always)]
            || {
                for o in out.iter_mut() {
                    *o *= self.1;
                }
            },
        );
    }
    fn size(&self) -> usize {
        self.0.size()
    }
}

struct ScaleBackward(f32);

impl Backward for ScaleBackward {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(deferred::write(&Scaled(Value::Float(grad), self.0)))])
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = Value::Float(grad.into_tensor(cx.store));
        Ok(vec![Some(Gradient::Deferred(Arc::new(Scaled(grad, self.0))))])
    }
}

impl Operation for Scale {
    fn kind(&self) -> &'static str {
        "scale"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        Ok(x.to_vec())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        self.factor >= 0.0 && inputs == [true]
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        let out = Value::Deferred(Lazy::new(Scaled(x.value().settled(), self.factor)));
        let inputs = vec![g.source(x)];
        Ok(g.record_value(out, inputs, || ScaleBackward(self.factor)))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// The same elements under another shape.
    ///
    /// # Errors
    /// The number of elements differs; or the value is traced and the first axis is not that of the batch.
    pub fn reshape(&mut self, x: &Var, shape: &[usize]) -> Result<Var> {
        match shape.split_first() {
            Some((n, rest)) if x.shape().first() == Some(n) => self.apply(Reshape { shape: rest.to_vec() }, &[x]),
            _ if self.is_traced(x) => {
                let expected = format!("the axis of the batch, {:?}, first", x.shape().first());
                Err(Error::shape("reshape", expected, shape).into())
            }
            _ => reshape(self, x, shape),
        }
    }

    /// [N, ...] to [N, product of the rest].
    ///
    /// # Errors
    /// The value has no axis.
    pub fn flatten(&mut self, x: &Var) -> Result<Var> {
        self.apply(Flatten, &[x])
    }

    /// The shortcut "option A" of CIFAR residual networks: every `stride`-th pixel, with zero channels added on both
    /// sides up to `channels`. Shapes: [N, H, W, C] to [N, H/stride, W/stride, channels], rounded up.
    ///
    /// # Errors
    /// The value is no image, the stride is 0, or it has no channel or more than `channels`.
    pub fn subsample(&mut self, x: &Var, stride: usize, channels: usize) -> Result<Var> {
        self.apply(Subsample { stride, channels }, &[x])
    }

    /// Multiplies by a constant.
    ///
    /// # Errors
    /// None today; the result keeps the form of its siblings.
    pub fn scale(&mut self, x: &Var, factor: f32) -> Result<Var> {
        self.apply(Scale { factor }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use super::{Spread, SubsampleBackward};
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
        let spread =
            Spread { of: SubsampleBackward { shape: [2, 5, 4, 3], stride: 2 }, grad: sample(&[2, 3, 2, 8], 1) };
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
