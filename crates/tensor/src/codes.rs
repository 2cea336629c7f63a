//! `Codes`: a tensor of 1- to 8-bit integers with one scale.
//!
//! One storage serves signed and unsigned codes: the byte of level `q` is `q + zero`. The left operand of every kernel
//! is these bytes as they are; the offset is taken out by the start value of the accumulators, at no cost.

use crate::tensor::elements;
use crate::{Buffer, Error, Result, Tensor, map};
use std::sync::Arc;

/// The levels that a quantizer may give, and how they lie in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    bits: u8,
    zero: u8,
    byte_max: u8,
}

impl Range {
    /// Levels 0 to 2^bits - 1.
    ///
    /// # Errors
    /// `bits` is not 1 to 8.
    pub fn unsigned(bits: u8) -> Result<Self> {
        check_bits(bits)?;
        Ok(Self { bits, zero: 0, byte_max: ((1u16 << bits) - 1) as u8 })
    }

    /// Levels -(2^(bits-1) - 1) to 2^(bits-1) - 1; for one bit the two levels -1 and +1.
    ///
    /// # Errors
    /// `bits` is not 1 to 8.
    pub fn symmetric(bits: u8) -> Result<Self> {
        check_bits(bits)?;
        let top = if bits == 1 { 1 } else { ((1u16 << (bits - 1)) - 1) as u8 };
        Ok(Self { bits, zero: top, byte_max: 2 * top })
    }

    /// Levels -2^(bits-1) to 2^(bits-1) - 1, as in two's complement.
    ///
    /// # Errors
    /// `bits` is not 2 to 8.
    pub fn twos_complement(bits: u8) -> Result<Self> {
        check_bits(bits)?;
        if bits == 1 {
            return Err(Error::range("codes", "bits of a two's complement range", "2 to 8", bits));
        }
        Ok(Self { bits, zero: 1 << (bits - 1), byte_max: ((1u16 << bits) - 1) as u8 })
    }

    /// The range of `bits` bits whose smallest level is `min`, as [`bits`](Self::bits) and [`min`](Self::min) give them.
    ///
    /// # Errors
    /// There is none.
    pub fn from_bits_and_min(bits: u8, min: i32) -> Result<Self> {
        let ranges = [Self::unsigned(bits), Self::symmetric(bits), Self::twos_complement(bits)];
        let found = ranges.into_iter().flatten().find(|r| r.min() == min);
        found.ok_or_else(|| Error::range("codes", "smallest level", format!("that of {bits} bits"), min))
    }

    /// The width in bits.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The byte of level 0.
    pub fn zero(self) -> u8 {
        self.zero
    }

    /// The largest byte.
    pub fn byte_max(self) -> u8 {
        self.byte_max
    }

    /// The smallest level.
    pub fn min(self) -> i32 {
        -i32::from(self.zero)
    }

    /// The largest level.
    pub fn max(self) -> i32 {
        i32::from(self.byte_max) - i32::from(self.zero)
    }

    /// Whether the levels are -1 and +1 alone, with none for 0: those of [`symmetric`](Self::symmetric) with one bit.
    pub fn is_sign(self) -> bool {
        self.bits == 1 && self.zero == 1
    }

    /// The largest magnitude of a level.
    pub fn level_max(self) -> u8 {
        self.zero.max(self.byte_max - self.zero)
    }
}

fn check_bits(bits: u8) -> Result<()> {
    if (1..=8).contains(&bits) { Ok(()) } else { Err(Error::range("codes", "bits", "1 to 8", bits)) }
}

/// Integers of 1 to 8 bits and their scale: the real value of an element is `(byte - zero) · scale`.
///
/// Cloning shares the storage.
#[derive(Debug, Clone)]
pub struct Codes {
    shape: Vec<usize>,
    range: Range,
    scale: f32,
    data: Arc<Buffer<u8>>,
}

impl Codes {
    /// Codes over `data`, one byte `level + zero` an element.
    ///
    /// # Errors
    /// The count differs from `shape`, or a byte is above the range.
    pub fn new(shape: &[usize], range: Range, scale: f32, data: Buffer<u8>) -> Result<Self> {
        if elements(shape) != Some(data.len()) {
            return Err(Error::shape("codes", format!("{} elements", data.len()), shape));
        }
        if let Some(b) = map::byte_max(&data).filter(|&b| b > range.byte_max) {
            return Err(Error::range("codes", "byte", format!("at most {}", range.byte_max), b));
        }
        Ok(Self { shape: shape.to_vec(), range, scale, data: Arc::new(data) })
    }

    /// Codes from integer levels, for tests and small inputs.
    ///
    /// # Errors
    /// The count differs from `shape`, or a level is outside the range.
    pub fn from_levels(shape: &[usize], range: Range, scale: f32, levels: &[i32]) -> Result<Self> {
        let mut data = Buffer::take(levels.len());
        for (to, &q) in data.iter_mut().zip(levels) {
            if q < range.min() || q > range.max() {
                return Err(Error::range("codes", "level", format!("{} to {}", range.min(), range.max()), q));
            }
            *to = (q + i32::from(range.zero)) as u8;
        }
        Self::new(shape, range, scale, data)
    }

    /// The lengths of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The stored bytes, `level + zero`.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The range of levels.
    pub fn range(&self) -> Range {
        self.range
    }

    /// The byte of level 0; the padding byte of an image.
    pub fn zero(&self) -> u8 {
        self.range.zero
    }

    /// The largest byte of the range.
    pub fn byte_max(&self) -> u8 {
        self.range.byte_max
    }

    /// The largest magnitude of a level.
    pub fn level_max(&self) -> u8 {
        self.range.level_max()
    }

    /// The real value of one level step.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// The same codes with another scale; storage is shared.
    #[must_use]
    pub fn with_scale(&self, scale: f32) -> Self {
        Self { scale, ..self.clone() }
    }

    /// The integer level of element `i`.
    pub fn level(&self, i: usize) -> i32 {
        i32::from(self.data[i]) - i32::from(self.range.zero)
    }

    /// The same codes under another shape; storage is shared.
    ///
    /// # Errors
    /// The number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if elements(shape) != Some(self.len()) {
            return Err(Error::shape("reshape", format!("{} elements as in {:?}", self.len(), self.shape), shape));
        }
        Ok(Self { shape: shape.to_vec(), ..self.clone() })
    }

    /// The real values `level · scale`, one rounding each.
    pub fn dequantize(&self) -> Tensor {
        let mut out = Tensor::take(&self.shape);
        map::dequantize(&self.data, self.range.zero, self.scale, out.data_mut());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_method_page() {
        let r = |r: Range| (r.min(), r.max(), r.byte_max(), r.level_max());
        assert_eq!(r(Range::unsigned(4).unwrap()), (0, 15, 15, 15));
        assert_eq!(r(Range::unsigned(8).unwrap()), (0, 255, 255, 255));
        assert_eq!(r(Range::symmetric(4).unwrap()), (-7, 7, 14, 7));
        assert_eq!(r(Range::symmetric(8).unwrap()), (-127, 127, 254, 127));
        assert_eq!(r(Range::symmetric(1).unwrap()), (-1, 1, 2, 1));
        assert_eq!(r(Range::twos_complement(8).unwrap()), (-128, 127, 255, 128));
        for range in [Range::unsigned(1), Range::symmetric(2), Range::twos_complement(8), Range::symmetric(1)] {
            let range = range.unwrap();
            assert_eq!(Range::from_bits_and_min(range.bits(), range.min()).unwrap(), range);
        }
        assert!(Range::from_bits_and_min(4, -3).is_err() && Range::from_bits_and_min(9, 0).is_err());
        assert!(Range::unsigned(9).is_err() && Range::symmetric(0).is_err() && Range::twos_complement(1).is_err());
    }

    #[test]
    fn levels_and_values() {
        let c = Codes::from_levels(&[3], Range::symmetric(3).unwrap(), 0.5, &[-3, 0, 2]).unwrap();
        assert_eq!(c.bytes(), &[0, 3, 5]);
        assert_eq!(c.dequantize().data(), &[-1.5, 0.0, 1.0]);
        assert!(Codes::from_levels(&[1], Range::symmetric(3).unwrap(), 0.5, &[-4]).is_err());
        assert!(Codes::new(&[1], Range::symmetric(3).unwrap(), 0.5, vec![7u8].into()).is_err());
    }
}
