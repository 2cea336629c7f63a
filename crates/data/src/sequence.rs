//! A sequence: numbers in several channels, step after step.

use crate::{DataError, Result};
use fixnet_tensor::Budget;
use std::sync::Arc;

/// Numbers `[T, C]`: T steps of C channels, such as readings of sensors or features of sound. A clone shares them.
///
/// ```
/// use fixnet_data::Sequence;
/// let readings = Sequence::new([3, 2], vec![0.0, 1.0, 0.5, 1.5, 0.75, 2.0])?;
/// assert_eq!((readings.shape(), readings.values()[3]), ([3, 2], 1.5));
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    shape: [usize; 2],
    values: Arc<[f32]>,
}

impl Sequence {
    /// A sequence of `shape[0]` steps of `shape[1]` channels each, one step after the other.
    ///
    /// # Errors
    /// The numbers are not as many, or none.
    pub fn new(shape: [usize; 2], values: impl Into<Arc<[f32]>>) -> Result<Self> {
        let values = values.into();
        let len = Budget::ARRAY.clone().claim("a sequence", &shape, size_of::<f32>())?;
        match len == values.len() && len > 0 {
            true => Ok(Self { shape, values }),
            false => {
                let expected = format!("numbers [T, C], {} for {shape:?} and at least one", len);
                Err(DataError::setting("a sequence", &expected, values.len()))
            }
        }
    }

    /// The number of steps and of channels.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// All numbers, one step after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_shape() {
        for (shape, values) in [([2, 2], 3), ([0, 2], 0), ([1 << 40, 1 << 40], 1)] {
            assert!(Sequence::new(shape, vec![0.0; values]).is_err(), "{shape:?}");
        }
    }
}
