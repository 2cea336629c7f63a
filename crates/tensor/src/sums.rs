//! The exact sums that an integer product gives, in 16 bits where the operands' levels prove that they fit.

use crate::{Buffer, Error, Result, Tensor, map, reduce};
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Storage {
    Narrow(Arc<Buffer<i16>>),
    Wide(Arc<Buffer<i32>>),
}

/// The integers of some [`Sums`], as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers<'a> {
    /// All of them fit 16 bits.
    Narrow(&'a [i16]),
    /// They need 32.
    Wide(&'a [i32]),
}

/// Exact integer sums with one scale, dense and row-major. How they are stored never shows in a result.
#[derive(Debug, Clone)]
pub struct Sums {
    shape: Vec<usize>,
    scale: f32,
    storage: Storage,
    /// Where the product that made them has summed its columns on the way.
    moments: Option<Arc<[(i64, i128)]>>,
}

impl Sums {
    /// Sums over `data`.
    ///
    /// # Errors
    /// The count differs from `shape`.
    pub fn new(shape: &[usize], scale: f32, data: Buffer<i32>) -> Result<Self> {
        Self::of(shape, scale, data.len(), Storage::Wide(Arc::new(data)))
    }

    /// Sums over integers of 16 bits.
    ///
    /// # Errors
    /// The count differs from `shape`.
    pub fn narrow(shape: &[usize], scale: f32, data: Buffer<i16>) -> Result<Self> {
        Self::of(shape, scale, data.len(), Storage::Narrow(Arc::new(data)))
    }

    fn of(shape: &[usize], scale: f32, len: usize, storage: Storage) -> Result<Self> {
        if shape.iter().product::<usize>() != len {
            return Err(Error::shape("sums", format!("{len} elements"), shape));
        }
        Ok(Self { shape: shape.to_vec(), scale, storage, moments: None })
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of sums.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Narrow(data) => 2 * data.len(),
            Storage::Wide(data) => 4 * data.len(),
        }
    }

    /// The integers of `range`.
    pub fn integers(&self, range: Range<usize>) -> Integers<'_> {
        match &self.storage {
            Storage::Narrow(data) => Integers::Narrow(&data[range]),
            Storage::Wide(data) => Integers::Wide(&data[range]),
        }
    }

    /// All integers.
    pub fn to_vec(&self) -> Vec<i32> {
        match &self.storage {
            Storage::Narrow(data) => data.iter().map(|&v| v.into()).collect(),
            Storage::Wide(data) => data.to_vec(),
        }
    }

    /// The real value of one.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The same sums under another shape; storage is shared.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if shape.iter().product::<usize>() != self.len() {
            return Err(Error::shape("reshape", format!("{} elements as in {:?}", self.len(), self.shape), shape));
        }
        Ok(Self { shape: shape.to_vec(), ..self.clone() })
    }

    /// The exact sum and sum of squares of each of `columns` columns.
    pub fn moments(&self, columns: usize) -> Vec<(i64, i128)> {
        match (&self.moments, &self.storage) {
            (Some(moments), _) if moments.len() == columns => moments.to_vec(),
            (_, Storage::Wide(data)) => reduce::column_moments(data, columns),
            _ => reduce::column_moments(&self.to_vec(), columns),
        }
    }

    /// Attaches what [`moments`](Self::moments) gives for the last axis.
    pub(crate) fn with_moments(self, moments: Vec<(i64, i128)>) -> Self {
        Self { moments: Some(moments.into()), ..self }
    }

    /// Writes the real values of the sums from `first` on, `sum as f32 · scale`: one rounding to f32 (ties to even), one
    /// of the product.
    pub fn fill(&self, first: usize, out: &mut [f32]) {
        let scale = self.scale;
        match self.integers(first..first + out.len()) {
            Integers::Narrow(v) => map::map1(v, out, |&v| f32::from(v) * scale),
            Integers::Wide(v) => map::map1(v, out, |&v| v as f32 * scale),
        }
    }

    /// The real values.
    pub fn to_tensor(&self) -> Tensor {
        let mut out = Tensor::take(&self.shape);
        self.fill(0, out.data_mut());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_widths_are_the_same_sums() {
        let values = [-32768, 32767, 5, -1, 0, 100];
        let wide = Sums::new(&[3, 2], 0.25, values.to_vec().into()).unwrap();
        let narrow = Sums::narrow(&[3, 2], 0.25, values.map(|v| v as i16).to_vec().into()).unwrap();
        assert_eq!(wide.to_vec(), narrow.to_vec());
        assert_eq!(wide.to_tensor().data(), narrow.to_tensor().data());
        assert_eq!(wide.moments(2), narrow.moments(2));
        assert_eq!(wide.moments(2)[1], (32767 - 1 + 100, i128::from(32767 * 32767 + 1 + 10_000)));
        assert!(Sums::narrow(&[4], 1.0, vec![0i16; 3].into()).is_err());
    }
}
