//! Values whose elements lie elsewhere in another order: permutations and slices are read where they are, in place of copies.

use crate::deferred::{Deferred, Lazy, len};
use crate::value::Value;
use fixnet_tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// A view: the element at each index lies at `offset` plus the sum of `index · stride` in another value.
#[derive(Clone)]
pub(crate) struct Strided {
    base: Arc<dyn Deferred>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// The axes with those merged that follow each other in memory too: length and stride.
    merged: Vec<(usize, usize)>,
}

impl Strided {
    /// All of a value, in its own order.
    pub(crate) fn of(value: &Value) -> Self {
        let base: Arc<dyn Deferred> = match value {
            Value::Deferred(lazy) => match lazy.inner.strided() {
                Some(view) => return view,
                // Computing starts and ends a run at a time would cost more than writing once.
                None => Arc::new(lazy.tensor()),
            },
            Value::Float(t) => Arc::new(t.clone()),
            Value::Sums(s) => Arc::new(s.clone()),
        };
        Self::whole(base)
    }

    /// All of a tensor, in its own order.
    pub(crate) fn of_tensor(t: Tensor) -> Self {
        Self::whole(Arc::new(t))
    }

    fn whole(base: Arc<dyn Deferred>) -> Self {
        let shape = base.shape().to_vec();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self::new(base, 0, shape, strides)
    }

    fn new(base: Arc<dyn Deferred>, offset: usize, shape: Vec<usize>, strides: Vec<usize>) -> Self {
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (&length, &stride) in shape.iter().zip(&strides) {
            match merged.last_mut() {
                _ if length == 1 => {}
                Some(last) if last.1 == stride * length => *last = (last.0 * length, stride),
                _ => merged.push((length, stride)),
            }
        }
        // A row and its columns, whatever the shape.
        while merged.len() < 2 {
            let place = if merged.is_empty() || merged[0].1 == 1 { 0 } else { merged.len() };
            merged.insert(place, (1, 1));
        }
        Self { base, offset, shape, strides, merged }
    }

    /// The axes in another order: axis `i` of the result is axis `order[i]`.
    pub(crate) fn permuted(&self, order: &[usize]) -> Self {
        let of = |from: &[usize]| order.iter().map(|&axis| from[axis]).collect();
        Self::new(self.base.clone(), self.offset, of(&self.shape), of(&self.strides))
    }

    /// The positions `range` of an axis.
    pub(crate) fn sliced(&self, axis: usize, range: Range<usize>) -> Self {
        let mut shape = self.shape.clone();
        shape[axis] = range.len();
        let offset = self.offset + range.start * self.strides[axis];
        Self::new(self.base.clone(), offset, shape, self.strides.clone())
    }

    /// Writes numbers that lie `stride` apart from `from` on; `all` is the base, where it is in memory.
    #[inline(always)]
    fn run(&self, all: Option<&[f32]>, from: usize, stride: usize, out: &mut [f32]) {
        match all {
            Some(x) if stride == 1 => copy(&x[from..from + out.len()], out),
            Some(x) => {
                for (i, o) in out.iter_mut().enumerate() {
                    *o = x[from + i * stride];
                }
            }
            None if stride == 1 => self.base.fill(from, out),
            None => {
                for (i, o) in out.iter_mut().enumerate() {
                    self.base.fill(from + i * stride, std::slice::from_mut(o));
                }
            }
        }
    }

    /// The view as a value, computed where it is read.
    pub(crate) fn value(self) -> Value {
        Value::Deferred(Lazy::new(self))
    }
}

impl Deferred for Strided {
    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn fill(&self, first: usize, out: &mut [f32]) {
        let [outer @ .., (rows, row_stride), (columns, stride)] = &*self.merged else { return };
        let (&rows, &row_stride, &columns, &stride) = (rows, row_stride, columns, stride);
        let all = self.base.slice(0..len(&*self.base));
        let (mut at, mut rest) = (first, out);
        // Only where a run of rows ends is the place computed anew, since division takes longer than the copy of a short row.
        while !rest.is_empty() {
            let (column, row) = (at % columns, at / columns % rows);
            let mut outer_index = at / columns / rows;
            let mut from = self.offset + row * row_stride;
            for &(length, stride) in outer.iter().rev() {
                from += outer_index % length * stride;
                outer_index /= length;
            }
            let count = ((rows - row) * columns - column).min(rest.len());
            let (part, behind) = rest.split_at_mut(count);
            let (head, whole) = part.split_at_mut(((columns - column) % columns).min(count));
            if !head.is_empty() {
                self.run(all, from + column * stride, stride, head);
                from += row_stride;
            }
            for out in whole.chunks_mut(columns) {
                self.run(all, from, stride, out);
                from += row_stride;
            }
            at += count;
            rest = behind;
        }
    }

    fn size(&self) -> usize {
        self.base.size()
    }

    fn strided(&self) -> Option<Strided> {
        Some(self.clone())
    }
}

/// Copies a run, which is often that of one head: some 32 numbers, for which a call would take longer than the copy.
fn copy(x: &[f32], out: &mut [f32]) {
    const FEW: usize = 16;
    let (mut from, mut to) = (x.chunks_exact(FEW), out.chunks_exact_mut(FEW));
    for (x, out) in (&mut from).zip(&mut to) {
        let x: &[f32; FEW] = x.try_into().expect("as long as that");
        *<&mut [f32; FEW]>::try_from(out).expect("as long as that") = *x;
    }
    to.into_remainder().copy_from_slice(from.remainder());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deferred::write;
    use fixnet_tensor::{Buffer, Sums};

    fn counted(shape: &[usize]) -> Tensor {
        Tensor::from_vec(shape, (0..shape.iter().product()).map(|i: usize| i as f32).collect()).unwrap()
    }

    /// Each element by its index, against the view, in pieces of several lengths.
    #[test]
    fn views_of_views_have_the_elements_of_their_indices() {
        let x = counted(&[2, 3, 4, 5]);
        let integers: Buffer<i32> = (0..120).collect();
        let sums = Sums::new(&[2, 3, 4, 5], 1.0, integers).unwrap();
        for value in [Value::Float(x.clone()), Value::Sums(sums)] {
            for (order, axis, range) in [([0, 2, 1, 3], 1, 1..3), ([3, 1, 2, 0], 0, 2..5), ([0, 1, 2, 3], 3, 1..2)] {
                let view = Strided::of(&value).permuted(&order).sliced(axis, range.clone());
                let whole = write(&view);
                let expected = |index: [usize; 4]| {
                    let mut from = [0; 4];
                    let mut index = index;
                    index[axis] += range.start;
                    order.iter().zip(index).for_each(|(&axis, i)| from[axis] = i);
                    x.view()[from]
                };
                for (index, &found) in whole.view().indexed_iter() {
                    assert_eq!(found, expected([index[0], index[1], index[2], index[3]]));
                }
                for length in [1, 3, 7, 64] {
                    let mut pieces = vec![-1.0; whole.len()];
                    pieces.chunks_mut(length).enumerate().for_each(|(i, out)| view.fill(i * length, out));
                    assert_eq!(pieces, whole.data(), "{order:?} {length}");
                }
            }
        }
        let empty = Strided::of_tensor(counted(&[2, 0, 3])).permuted(&[1, 2, 0]);
        assert_eq!(write(&empty).shape(), [0, 3, 2]);
        let single = Strided::of_tensor(counted(&[1, 1])).permuted(&[1, 0]);
        assert_eq!(write(&single).data(), [0.0]);
    }
}
