//! The exact sums that an integer product gives, in 16 bits where the operands' levels prove that they fit.

use crate::tensor::elements;
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
    /// The real value of one in each column of the last axis, where columns differ.
    units: Option<Arc<Buffer<f32>>>,
    storage: Storage,
    /// Where the product that made them has summed its columns on the way.
    moments: Option<Arc<Buffer<(i64, i128)>>>,
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
        if elements(shape) != Some(len) {
            return Err(Error::shape("sums", format!("{len} elements"), shape));
        }
        Ok(Self { shape: shape.to_vec(), scale, units: None, storage, moments: None })
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

    /// The real value of one, before the factors of columns.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The real value of one in column `k` of the last axis.
    pub fn unit(&self, k: usize) -> f32 {
        self.units.as_ref().map_or(self.scale, |u| u[k])
    }

    /// Whether columns of the last axis have factors of their own.
    pub fn has_columns(&self) -> bool {
        self.units.is_some()
    }

    /// The same sums times `factor`; the integers stay as they are.
    #[must_use]
    pub fn scaled(self, factor: f32) -> Self {
        let units = self.units.map(|u| Arc::new(u.iter().map(|u| u * factor).collect()));
        Self { scale: self.scale * factor, units, ..self }
    }

    /// The same sums with each column of the last axis times its own factor; the integers stay as they are.
    ///
    /// # Errors
    /// There is not one factor for each column.
    pub fn with_columns(self, factors: &[f32]) -> Result<Self> {
        if self.shape.last() != Some(&factors.len()) {
            return Err(Error::shape("sums", format!("a last axis of {}", factors.len()), &self.shape));
        }
        let units = factors.iter().enumerate().map(|(k, f)| self.unit(k) * f).collect();
        Ok(Self { units: Some(Arc::new(units)), ..self })
    }

    /// The same sums under another shape; storage is shared.
    ///
    /// # Errors
    /// The number of elements differs, or the last axis where its columns have factors of their own.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if let Some(units) = &self.units
            && shape.last() != Some(&units.len())
        {
            return Err(Error::shape("reshape", format!("a last axis of {}", units.len()), shape));
        }
        if elements(shape) != Some(self.len()) {
            return Err(Error::shape("reshape", format!("{} elements as in {:?}", self.len(), self.shape), shape));
        }
        Ok(Self { shape: shape.to_vec(), ..self.clone() })
    }

    /// The exact sum and sum of squares of each of `columns` columns.
    pub fn moments(&self, columns: usize) -> Buffer<(i64, i128)> {
        match (&self.moments, &self.storage) {
            (Some(moments), _) if moments.len() == columns => Buffer::clone(moments),
            (_, Storage::Wide(data)) => reduce::column_moments(data, columns),
            (_, Storage::Narrow(data)) => {
                let wide: Buffer<i32> = data.iter().map(|&v| v.into()).collect();
                reduce::column_moments(&wide, columns)
            }
        }
    }

    /// Attaches what [`moments`](Self::moments) gives for the last axis.
    pub(crate) fn with_moments(self, moments: Buffer<(i64, i128)>) -> Self {
        Self { moments: Some(Arc::new(moments)), ..self }
    }

    /// Writes the real values of the sums from `first` on, `sum as f32 · unit`: one rounding to f32 (ties to even), one
    /// of the product.
    pub fn fill(&self, first: usize, out: &mut [f32]) {
        let scale = if self.units.is_some() { 1.0 } else { self.scale };
        match self.integers(first..first + out.len()) {
            Integers::Narrow(v) => map::map1(v, out, |&v| f32::from(v) * scale),
            Integers::Wide(v) => map::map1(v, out, |&v| v as f32 * scale),
        }
        if let Some(units) = &self.units {
            map::scale_columns(out, first, units);
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
        assert_eq!(*wide.moments(2), *narrow.moments(2));
        assert_eq!(wide.moments(2)[1], (32767 - 1 + 100, i128::from(32767 * 32767 + 1 + 10_000)));
        assert!(Sums::narrow(&[4], 1.0, vec![0i16; 3].into()).is_err());
    }

    #[test]
    fn columns_with_factors() {
        let sums = Sums::new(&[2, 2], 0.5, vec![1, 2, 3, 4].into()).unwrap().with_columns(&[2.0, 10.0]).unwrap();
        assert_eq!(sums.to_tensor().data(), &[1.0, 10.0, 3.0, 20.0]);
        let mut part = [0.0; 2];
        sums.fill(1, &mut part);
        assert_eq!(part, [10.0, 3.0]);
        assert_eq!((sums.unit(1), sums.clone().scaled(2.0).unit(1)), (5.0, 10.0));
        assert!(sums.reshape(&[4]).is_err() && sums.reshape(&[1, 2, 2]).is_ok());
        assert!(Sums::new(&[1], 1.0, vec![1].into()).unwrap().with_columns(&[1.0, 2.0]).is_err());
    }
}
