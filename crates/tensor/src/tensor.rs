//! `Tensor`: a dense, row-major array of `f32` with shared storage. Images are N, H, W, C.

use crate::{Buffer, Error, Result};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use std::sync::Arc;

/// A dense row-major `f32` tensor. Cloning shares the storage; writing to a shared one copies it first.
///
/// ```
/// use fixnet_tensor::Tensor;
/// let t = Tensor::from_vec(&[2, 3], vec![1., 2., 3., 4., 5., 6.])?;
/// assert_eq!(t.view()[[1, 0]], 4.0);
/// # Ok::<(), fixnet_tensor::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Arc<Buffer<f32>>,
}

/// The number of elements of `shape`, unless it is beyond `usize`.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1, |n: usize, &length| n.checked_mul(length))
}

impl Tensor {
    /// A tensor whose contents are unspecified: write all of it.
    ///
    /// # Panics
    /// The product of `shape` is beyond memory.
    pub fn take(shape: &[usize]) -> Self {
        let len = elements(shape).expect("a shape within memory");
        Self { shape: shape.to_vec(), data: Arc::new(Buffer::take(len)) }
    }

    /// A tensor of one value.
    pub fn full(shape: &[usize], value: f32) -> Self {
        let mut t = Self::take(shape);
        t.data_mut().fill(value);
        t
    }

    /// A tensor of zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self::full(shape, 0.0)
    }

    /// A tensor of shape `[]` with one value.
    pub fn scalar(value: f32) -> Self {
        Self::full(&[], value)
    }

    /// A tensor over `data`, row by row.
    ///
    /// # Errors
    /// The product of `shape` is not the length of `data`.
    pub fn from_vec(shape: &[usize], data: Vec<f32>) -> Result<Self> {
        Self::from_buffer(shape, data.into())
    }

    /// A tensor over a pooled buffer, row by row.
    ///
    /// # Errors
    /// The product of `shape` is not the length of `data`.
    pub fn from_buffer(shape: &[usize], data: Buffer<f32>) -> Result<Self> {
        if elements(shape) != Some(data.len()) {
            return Err(Error::shape("from_buffer", format!("{} elements", data.len()), shape));
        }
        Ok(Self { shape: shape.to_vec(), data: Arc::new(data) })
    }

    /// A tensor with the shape and values of an `ndarray` array of any layout.
    pub fn from_array(array: &ArrayD<f32>) -> Self {
        let mut t = Self::take(array.shape());
        t.data_mut().iter_mut().zip(array.iter()).for_each(|(to, &from)| *to = from);
        t
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// The elements, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The elements for writing; copies them first if another tensor shares them.
    pub fn data_mut(&mut self) -> &mut [f32] {
        &mut *Arc::<Buffer<f32>>::make_mut(&mut self.data)
    }

    /// The same elements under another shape; storage is shared.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if elements(shape) != Some(self.len()) {
            return Err(Error::shape("reshape", format!("{} elements as in {:?}", self.len(), self.shape), shape));
        }
        Ok(Self { shape: shape.to_vec(), data: self.data.clone() })
    }

    /// An `ndarray` view, for slicing, iterating and printing.
    pub fn view(&self) -> ArrayViewD<'_, f32> {
        ArrayViewD::from_shape(IxDyn(&self.shape), &self.data).expect("a tensor is dense and row-major")
    }

    /// The first element; the value of a scalar.
    pub fn item(&self) -> f32 {
        self.data[0]
    }

    /// The shape as four axes N, H, W, C.
    ///
    /// # Errors
    /// The tensor has another number of axes; `op` names the operation that asks.
    pub fn nhwc(&self, op: &'static str) -> Result<[usize; 4]> {
        self.shape.as_slice().try_into().map_err(|_| Error::shape(op, "[N, H, W, C]", &self.shape))
    }

    /// The shape as two axes.
    ///
    /// # Errors
    /// The tensor has another number of axes; `op` names the operation that asks.
    pub fn matrix(&self, op: &'static str) -> Result<[usize; 2]> {
        self.shape.as_slice().try_into().map_err(|_| Error::shape(op, "[rows, columns]", &self.shape))
    }
}

impl From<ArrayD<f32>> for Tensor {
    fn from(array: ArrayD<f32>) -> Self {
        Self::from_array(&array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_until_written() {
        let a = Tensor::from_vec(&[2], vec![1.0, 2.0]).unwrap();
        let mut b = a.reshape(&[2, 1]).unwrap();
        b.data_mut()[0] = 9.0;
        assert_eq!((a.data(), b.data()), (&[1.0, 2.0][..], &[9.0, 2.0][..]));
    }

    #[test]
    fn arrays_of_any_layout_keep_their_indices() {
        let array = ndarray::array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].reversed_axes().into_dyn();
        let t = Tensor::from(array.clone());
        assert_eq!(t.view(), array.view());
    }

    #[test]
    fn wrong_counts_are_named() {
        let e = Tensor::from_vec(&[2, 2], vec![0.0; 3]).unwrap_err();
        assert_eq!(e.to_string(), "from_buffer: expected shape 3 elements, found [2, 2]");
        let wraps_to_none = [1 << (usize::BITS / 2); 2];
        assert!(Tensor::from_vec(&wraps_to_none, vec![]).is_err());
        assert!(Tensor::zeros(&[0]).reshape(&wraps_to_none).is_err());
    }
}
