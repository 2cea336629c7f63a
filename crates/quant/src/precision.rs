//! `Precision`: the bit widths of weights, activations and gradients, written W/A/G.

use fixnet_autograd::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Bit widths of weights, activations and gradients, for example `4/4/4` or `2/2/32`; 32 means not quantized.
///
/// Weights are quantized (1 to 8 bits) where activations are, because their product is an integer product or it is not.
/// There is one exception: `32/A/32` has weights of floats behind quantized activations, the first step of training a network with
/// binary activations (METHOD 4.2). All its products are float products of the values of the levels. Gradients may be quantized to 2
/// to 8 bits where the other two are: a gradient of one bit would have no step (METHOD 2 divides by 2^b - 2).
///
/// ```
/// use fixnet_quant::Precision;
/// let p: Precision = "4/4/4".parse()?;
/// assert_eq!((p.weight(), p.gradient(), p.to_string()), (Some(4), Some(4), "4/4/4".into()));
/// assert!("4/4".parse::<Precision>().is_err());
/// # Ok::<(), fixnet_autograd::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision([u8; 3]);

impl Precision {
    /// All in f32.
    pub const FLOAT: Self = Self([32; 3]);

    /// Widths of weights, activations and gradients.
    ///
    /// # Errors
    /// A width, or the mix of widths, makes no sense; the message says why.
    pub fn new(weight: u8, activation: u8, gradient: u8) -> Result<Self> {
        let found = format!("{weight}/{activation}/{gradient}");
        let bad = |expected: &str| Err(Error::setting("bits (weights/activations/gradients)", expected, &found));
        let quantized = |b: u8| (1..=8).contains(&b);
        if ![weight, activation, gradient].iter().all(|&b| quantized(b) || b == 32) {
            return bad("widths of 1 to 8, or 32 for float");
        }
        if quantized(weight) && !quantized(activation) {
            return bad(
                "weights and activations both quantized or both 32, since their product is one integer product; only \
                 activations may be quantized alone, with weights and gradients of 32 bits",
            );
        }
        if quantized(gradient) && !quantized(weight) {
            return bad("gradients of 32 bits where weights or activations are floats");
        }
        if gradient == 1 {
            return bad("gradients of 2 to 8 bits or 32: one bit leaves no step between levels");
        }
        Ok(Self([weight, activation, gradient]))
    }

    fn width(self, i: usize) -> Option<u8> {
        Some(self.0[i]).filter(|&b| b != 32)
    }

    /// Bits of weights, `None` for float.
    pub fn weight(self) -> Option<u8> {
        self.width(0)
    }

    /// Bits of activations, `None` for float.
    pub fn activation(self) -> Option<u8> {
        self.width(1)
    }

    /// Bits of gradients, `None` for float.
    pub fn gradient(self) -> Option<u8> {
        self.width(2)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [w, a, g] = self.0;
        write!(f, "{w}/{a}/{g}")
    }
}

impl FromStr for Precision {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        let bad = || Error::setting("bits", "three widths W/A/G such as 4/4/4 (1 to 8, or 32 for float)", s);
        let widths: Vec<u8> = s.split('/').map(|w| w.trim().parse().map_err(|_| bad())).collect::<Result<_>>()?;
        let &[w, a, g] = widths.as_slice() else { return Err(bad()) };
        Self::new(w, a, g)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_that_make_no_sense_are_refused_with_the_reason() {
        for (text, word) in [
            ("9/4/4", "1 to 8"),
            ("4/4", "three widths"),
            ("4/4/4/4", "three widths"),
            ("a/b/c", "three widths"),
            ("0/4/4", "1 to 8"),
            ("4/32/4", "both"),
            ("32/32/4", "floats"),
            ("32/1/4", "floats"),
            ("4/4/1", "one bit"),
        ] {
            let e = text.parse::<Precision>().unwrap_err().to_string();
            assert!(e.contains(word) && e.contains(text), "{text}: {e}");
        }
        for text in ["1/1/32", "2/2/4", "8/8/8", "32/32/32", "2/4/6", "32/1/32"] {
            assert_eq!(text.parse::<Precision>().unwrap().to_string(), text);
        }
    }
}
