//! Values that are rearranged, without arithmetic: `permute`, `concat`, `slice`. A permutation and a slice are views: whoever
//! reads one reads the value itself in another order.

use super::axes::around;
use crate::gradient::{Gradient, Parts};
use crate::stored::{Settings, settings_of};
use crate::strided::Strided;
use crate::value::Value;
use crate::{Backward, Cx, Error, Grads, Graph, Operation, Result, Var, exactly};
use fixnet_tensor::{Error as TensorError, Tensor, map};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// The axes in another order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permute {
    /// For each axis of the output, the axis of the input; that of the batch is 0.
    pub order: Vec<usize>,
}

struct PermuteBackward {
    /// For each axis of the input, the axis of the output.
    back: Vec<usize>,
}

impl Backward for PermuteBackward {
    fn name(&self) -> &'static str {
        "permute"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let grad = match grad {
            Gradient::Parts(parts) => Gradient::Parts(parts.permuted(&self.back)),
            grad => {
                let view = Strided::of_tensor(grad.into_tensor(cx.store));
                Gradient::Deferred(Arc::new(view.permuted(&self.back)))
            }
        };
        Ok(vec![Some(grad)])
    }
}

impl Operation for Permute {
    fn kind(&self) -> &'static str {
        "permute"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..x.len()) {
            let expected = format!("each axis of {x:?} once");
            return Err(Error::setting("the order of a permutation", expected, format!("{:?}", self.order)));
        }
        Ok(self.order.iter().map(|&axis| x[axis]).collect())
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        self.output_shape(&[x.shape()])?;
        let mut back = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        let out = Strided::of(x.value()).permuted(&self.order).value();
        let inputs = vec![g.source(x)];
        Ok(g.record_value(out, inputs, || PermuteBackward { back }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// Copies columns from one matrix to another of as many rows: `from` and `to` give a matrix, its columns and the first
/// column of those to copy.
fn copy_columns(from: (&[f32], usize, usize), to: (&mut [f32], usize, usize), count: usize) {
    let ((x, x_columns, x_first), (out, columns, first)) = (from, to);
    if count == 0 {
        return;
    }
    map::rows(out, columns, |row, out| {
        for (i, out) in out.chunks_exact_mut(columns).enumerate() {
            out[first..first + count].copy_from_slice(&x[(row + i) * x_columns + x_first..][..count]);
        }
    });
}

/// Values one behind the other on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis; that of the batch is 0.
    pub axis: usize,
}

struct ConcatBackward {
    axis: usize,
    shapes: Vec<Vec<usize>>,
}

impl Backward for ConcatBackward {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let [_, length, inner] = around("concat", self.axis, grad.shape())?;
        let mut first = 0;
        let part = |(i, shape): (usize, &Vec<usize>)| {
            let (from, count) = (first, shape[self.axis] * inner);
            first += count;
            cx.needs(i).then(|| {
                let mut d = Tensor::take(shape);
                copy_columns((grad.data(), length * inner, from), (d.data_mut(), count, 0), count);
                d
            })
        };
        Ok(self.shapes.iter().enumerate().map(part).collect())
    }
}

impl Operation for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let Some((&first, others)) = inputs.split_first() else {
            return Err(Error::setting("inputs of an operation", "at least one", 0));
        };
        around("concat", self.axis, first)?;
        let mut shape = first.to_vec();
        for other in others {
            let fits = other.len() == first.len()
                && other.iter().zip(first).enumerate().all(|(axis, (a, b))| axis == self.axis || a == b);
            if !fits {
                let expected = format!("{first:?} on all axes but {}", self.axis);
                return Err(TensorError::shape("concat", expected, other).into());
            }
            shape[self.axis] = shape[self.axis].saturating_add(other[self.axis]);
        }
        Ok(shape)
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|x| x.shape().to_vec()).collect();
        let shape = self.output_shape(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let [_, length, inner] = around("concat", self.axis, &shape)?;
        let mut out = Tensor::take(&shape);
        let mut first = 0;
        for (x, shape) in inputs.iter().zip(&shapes) {
            let count = shape[self.axis] * inner;
            copy_columns((x.tensor().data(), count, 0), (out.data_mut(), length * inner, first), count);
            first += count;
        }
        Ok(g.record(out, inputs, || ConcatBackward { axis: self.axis, shapes }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

/// A run of positions on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The axis; that of the batch is 0.
    pub axis: usize,
    /// The first position.
    pub start: usize,
    /// The position behind the last.
    pub end: usize,
}

struct SliceBackward {
    op: Slice,
    shape: Vec<usize>,
}

impl Backward for SliceBackward {
    fn name(&self) -> &'static str {
        "slice"
    }
    fn backward(self: Box<Self>, grad: Tensor, cx: &mut Cx<'_>) -> Result<Grads> {
        let grads = self.backward_deferred(grad.into(), cx)?;
        Ok(grads.into_iter().map(|g| g.map(|g| g.into_tensor(cx.store))).collect())
    }
    fn backward_deferred(self: Box<Self>, grad: Gradient, cx: &mut Cx<'_>) -> Result<Vec<Option<Gradient>>> {
        let Slice { axis, start, .. } = self.op;
        let grad = grad.into_tensor(cx.store);
        Ok(vec![Some(Gradient::Parts(Parts::new(&self.shape, axis, start, grad)))])
    }
}

impl Operation for Slice {
    fn kind(&self) -> &'static str {
        "slice"
    }
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>> {
        let [x] = exactly(inputs)?;
        let [_, length, _] = around("slice", self.axis, x)?;
        if self.start > self.end || self.end > length {
            let found = format!("{}..{}", self.start, self.end);
            return Err(Error::setting("positions of a slice", format!("a range within 0..{length}"), found));
        }
        let mut shape = x.to_vec();
        shape[self.axis] = self.end - self.start;
        Ok(shape)
    }
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        inputs.iter().all(|&input| input)
    }
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var> {
        let [x] = exactly(inputs)?;
        self.output_shape(&[x.shape()])?;
        let out = Strided::of(x.value()).sliced(self.axis, self.start..self.end).value();
        // A view holds all of what it is of: evaluation, which keeps nothing for a way back, keeps no more than the slice.
        let out = if g.modes().record { out } else { Value::Float(out.tensor()) };
        let (shape, inputs) = (x.shape().to_vec(), vec![g.source(x)]);
        Ok(g.record_value(out, inputs, || SliceBackward { op: *self, shape }))
    }
    fn settings(&self) -> Settings {
        settings_of(self)
    }
}

impl Graph<'_> {
    /// Puts the axes into another order: axis `i` of the output is axis `order[i]` of `x`.
    ///
    /// # Errors
    /// `order` does not name each axis once; or the value is traced and the axis of the batch does not stay first.
    pub fn permute(&mut self, x: &Var, order: &[usize]) -> Result<Var> {
        self.apply(Permute { order: order.to_vec() }, &[x])
    }

    /// Puts values one behind the other on `axis`.
    ///
    /// # Errors
    /// There is no value, the axis is not one of theirs, or their shapes differ on another axis.
    pub fn concat(&mut self, values: &[&Var], axis: usize) -> Result<Var> {
        self.apply(Concat { axis }, values)
    }

    /// Takes the positions `range` of `axis`.
    ///
    /// # Errors
    /// The axis or the range is not one of the value; or the value is traced and the axis is that of the batch.
    pub fn slice(&mut self, x: &Var, axis: usize, range: Range<usize>) -> Result<Var> {
        self.apply(Slice { axis, start: range.start, end: range.end }, &[x])
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{gradient_error, sample};
    use crate::{Graph, Store};
    use fixnet_tensor::Tensor;

    #[test]
    fn gradients_match_finite_differences() {
        let (x, y) = (sample(&[2, 3, 4], 1), sample(&[2, 2, 4], 2));
        assert!(gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.permute(&v[0], &[2, 0, 1])).unwrap() < 1e-3);
        let parts = [x.clone(), y];
        assert!(gradient_error(&parts, 0.1, |g, v| g.concat(&[&v[0], &v[1], &v[0]], 1)).unwrap() < 1e-3);
        for axis in 0..3 {
            let error = gradient_error(std::slice::from_ref(&x), 0.1, |g, v| g.slice(&v[0], axis, 1..2)).unwrap();
            assert!(error < 1e-3, "{axis}: {error}");
        }
    }

    #[test]
    fn values_by_hand() {
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
        let y = g.input(Tensor::from_vec(&[2, 1], vec![5.0, 6.0]).unwrap());
        assert_eq!(g.concat(&[&x, &y], 1).unwrap().tensor().data(), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
        assert_eq!(g.slice(&x, 1, 1..2).unwrap().tensor().data(), [2.0, 4.0]);
        assert_eq!(g.slice(&x, 0, 1..1).unwrap().shape(), [0, 2]);
        assert_eq!(g.permute(&x, &[1, 0]).unwrap().tensor().data(), [1.0, 3.0, 2.0, 4.0]);
        let e = g.concat(&[&x, &y], 0).unwrap_err().to_string();
        assert_eq!(e, "concat: expected shape [2, 2] on all axes but 0, found [2, 1]");
        let e = g.slice(&x, 1, 1..3).unwrap_err().to_string();
        assert_eq!(e, "positions of a slice: expected a range within 0..2, found 1..3");
        assert!(g.permute(&x, &[0, 0]).is_err() && g.permute(&x, &[0]).is_err() && g.concat(&[], 0).is_err());
        assert!(g.slice(&x, 2, 0..1).is_err());
    }
}
