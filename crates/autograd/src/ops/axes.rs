//! Tensors by their axes: broadcasting, permutation and sums over axes. The operations that name axes are built of these.

use crate::{Error, Result};
use fixnet_tensor::{Buffer, Error as TensorError, Tensor, map, reduce};

/// Returns the shape to which two shapes broadcast by the rules of NumPy: axes are aligned at the last one, and an axis of
/// length 1, or one that is missing, repeats.
///
/// # Errors
/// Two aligned axes differ and neither has length 1.
pub(super) fn broadcast(op: &'static str, x: &[usize], y: &[usize]) -> Result<Vec<usize>> {
    let rank = x.len().max(y.len());
    let length = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let axis = |axis: usize| match (length(x, axis), length(y, axis)) {
        (a, b) if a == b || b == 1 => Some(a),
        (1, b) => Some(b),
        _ => None,
    };
    let shape: Option<Vec<usize>> = (0..rank).map(axis).collect();
    shape.ok_or_else(|| TensorError::shape(op, format!("that broadcasts with {x:?}"), y).into())
}

/// Checks that `axes` are different axes of `shape`, at least one, and returns them in rising order.
///
/// # Errors
/// There is none, one is not an axis of the value, or one comes twice.
pub(super) fn sorted(op: &'static str, axes: &[usize], shape: &[usize]) -> Result<Vec<usize>> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    if axes.is_empty() || sorted.len() < axes.len() || sorted.last().is_some_and(|&last| last >= shape.len()) {
        let expected = format!("different axes below {}, the axes of {shape:?}", shape.len());
        return Err(Error::setting(op, expected, format!("{axes:?}")));
    }
    Ok(sorted)
}

/// Splits a shape at one of its axes: the product of the lengths before it, its length, and the product of those behind.
///
/// # Errors
/// It is not an axis of the value.
pub(super) fn around(op: &'static str, axis: usize, shape: &[usize]) -> Result<[usize; 3]> {
    match shape.get(axis) {
        Some(&length) => Ok([shape[..axis].iter().product(), length, shape[axis + 1..].iter().product()]),
        None => Err(Error::setting(op, format!("an axis below {}, one of {shape:?}", shape.len()), axis)),
    }
}

/// Returns how far apart neighbours on each axis are in memory.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Writes a tensor whose element at each index lies at the sum of `index · stride` in `data`.
fn gather(data: &[f32], shape: &[usize], strides: &[usize]) -> Tensor {
    let mut out = Tensor::take(shape);
    if out.is_empty() {
        return out;
    }
    let Some((&columns, outer)) = shape.split_last() else {
        out.data_mut().copy_from_slice(&data[..1]);
        return out;
    };
    let stride = strides[outer.len()];
    map::rows(out.data_mut(), columns, |first, out| {
        for (i, out) in out.chunks_exact_mut(columns).enumerate() {
            let (mut row, mut from) = (first + i, 0);
            for (&length, &stride) in outer.iter().zip(strides).rev() {
                from += row % length * stride;
                row /= length;
            }
            match stride {
                0 => out.fill(data[from]),
                1 => out.copy_from_slice(&data[from..][..columns]),
                _ => out.iter_mut().zip(data[from..].iter().step_by(stride)).for_each(|(o, &x)| *o = x),
            }
        }
    });
    out
}

/// Repeats a tensor to a shape to which its own broadcasts.
pub(super) fn expand(t: &Tensor, shape: &[usize]) -> Tensor {
    if t.shape() == shape {
        return t.clone();
    }
    let more = shape.len() - t.shape().len();
    let own = strides(t.shape());
    let stride = |axis: usize| match axis.checked_sub(more) {
        Some(i) if t.shape()[i] != 1 => own[i],
        _ => 0,
    };
    let strides: Vec<usize> = (0..shape.len()).map(stride).collect();
    gather(t.data(), shape, &strides)
}

/// Puts the axes of a tensor into another order: axis `i` of the result is axis `order[i]` of `t`.
pub(super) fn permute(t: &Tensor, order: &[usize]) -> Tensor {
    if order.is_sorted() {
        return t.clone();
    }
    let own = strides(t.shape());
    let shape: Vec<usize> = order.iter().map(|&axis| t.shape()[axis]).collect();
    let strides: Vec<usize> = order.iter().map(|&axis| own[axis]).collect();
    gather(t.data(), &shape, &strides)
}

/// Sums over `axes`, in rising order; one sum per element of the other axes.
///
/// The order of each sum follows from the shapes alone: over the last axes it is that of [`reduce::sum`], else that of
/// [`reduce::column_sums`] with the summed axes first.
pub(super) fn sums(t: &Tensor, axes: &[usize]) -> Buffer<f64> {
    let kept: Vec<usize> = (0..t.shape().len()).filter(|axis| !axes.contains(axis)).collect();
    let count: usize = kept.iter().map(|&axis| t.shape()[axis]).product();
    if kept.iter().enumerate().all(|(i, &axis)| i == axis) {
        let length = t.len().checked_div(count).unwrap_or(0);
        let mut out = Buffer::zeroed(count);
        map::rows(&mut out, 1, |first, out| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = reduce::sum(&t.data()[(first + i) * length..][..length]);
            }
        });
        return out;
    }
    let order: Vec<usize> = axes.iter().copied().chain(kept).collect();
    reduce::column_sums(permute(t, &order).data(), count)
}

/// Rounds sums to floats of a shape.
pub(super) fn rounded(sums: &[f64], shape: &[usize]) -> Tensor {
    let mut out = Tensor::take(shape);
    map::map1(sums, out.data_mut(), |&sum| sum as f32);
    out
}

/// Takes the gradient of a value that was [expanded](expand) back to the value's own shape: repeats are summed.
pub(super) fn reduce_to(grad: Tensor, shape: &[usize]) -> Tensor {
    if grad.shape() == shape {
        return grad;
    }
    let more = grad.shape().len() - shape.len();
    let repeated = |&axis: &usize| axis < more || shape[axis - more] != grad.shape()[axis];
    let axes: Vec<usize> = (0..grad.shape().len()).filter(repeated).collect();
    rounded(&sums(&grad, &axes), shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(shape: &[usize]) -> Tensor {
        Tensor::from_vec(shape, (0..shape.iter().product()).map(|i: usize| i as f32).collect()).unwrap()
    }

    #[test]
    fn shapes_broadcast_as_in_numpy() {
        let of = |x: &[usize], y: &[usize]| broadcast("add", x, y).ok();
        assert_eq!(of(&[2, 1, 4], &[3, 1]), Some(vec![2, 3, 4]));
        assert_eq!(of(&[], &[3, 1]), Some(vec![3, 1]));
        assert_eq!(of(&[0, 2], &[1, 2]), Some(vec![0, 2]));
        assert_eq!(of(&[2, 3], &[2, 4]), None);
        let e = broadcast("add", &[2, 3], &[4]).unwrap_err().to_string();
        assert_eq!(e, "add: expected shape that broadcasts with [2, 3], found [4]");
    }

    #[test]
    fn expanding_and_permuting_by_hand() {
        assert_eq!(expand(&t(&[2, 1]), &[2, 2, 3]).data(), [0., 0., 0., 1., 1., 1., 0., 0., 0., 1., 1., 1.]);
        assert_eq!(expand(&t(&[3]), &[2, 3]).data(), [0., 1., 2., 0., 1., 2.]);
        assert_eq!(expand(&t(&[]), &[2]).data(), [0., 0.]);
        assert_eq!(permute(&t(&[2, 3]), &[1, 0]).data(), [0., 3., 1., 4., 2., 5.]);
        let x = t(&[2, 3, 4]);
        let y = permute(&x, &[2, 0, 1]);
        assert_eq!(y.shape(), [4, 2, 3]);
        assert_eq!(y.view()[[3, 1, 2]], x.view()[[1, 2, 3]]);
    }

    #[test]
    fn sums_over_axes_by_hand() {
        let x = t(&[2, 3]);
        assert_eq!(*sums(&x, &[0]), [3., 5., 7.]);
        assert_eq!(*sums(&x, &[1]), [3., 12.]);
        assert_eq!(*sums(&x, &[0, 1]), [15.]);
        assert_eq!(*sums(&t(&[2, 2, 2]), &[0, 2]), [10., 18.]);
        assert_eq!(*sums(&t(&[2, 0]), &[1]), [0., 0.]);
        assert_eq!(*sums(&t(&[0, 2]), &[0]), [0., 0.]);
        assert_eq!(reduce_to(t(&[2, 2, 2]), &[2, 1]).data(), [10., 18.]);
    }
}
