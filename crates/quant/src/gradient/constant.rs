//! Rules that never move: min-max and a fixed clipping factor (METHOD 2.3).

use super::GradientRule;
use fixnet_autograd::{Error, Result};

/// gamma = 1: nothing is clipped.
#[derive(Debug, Clone, Copy, Default)]
pub struct MinMax;

impl GradientRule for MinMax {
    fn name(&self) -> String {
        "min-max".into()
    }
    fn gamma(&self) -> f32 {
        1.0
    }
}

/// A constant gamma.
#[derive(Debug, Clone, Copy)]
pub struct Fixed(f32);

impl Fixed {
    /// The rule with this gamma.
    ///
    /// # Errors
    /// `gamma` is not in (0, 1].
    pub fn new(gamma: f32) -> Result<Self> {
        if gamma > 0.0 && gamma <= 1.0 {
            return Ok(Self(gamma));
        }
        Err(Error::setting("fixed gamma", "a number in (0, 1]", gamma))
    }

    /// From the text after `fixed`.
    pub(super) fn parse(arguments: &[&str]) -> Option<Self> {
        match arguments {
            [gamma] => Self::new(gamma.parse().ok()?).ok(),
            _ => None,
        }
    }
}

impl GradientRule for Fixed {
    fn name(&self) -> String {
        format!("fixed:{}", self.0)
    }
    fn gamma(&self) -> f32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::tests::{quantize, ramp};
    use crate::{GradientQuantizer, Rounding, Rule};

    #[test]
    fn they_keep_their_gamma() {
        for (rule, gamma) in [(Rule::from(MinMax), 1.0), (Fixed::new(0.6).unwrap().into(), 0.6)] {
            let mut q = GradientQuantizer::new(4, &rule, Rounding::Stochastic).unwrap();
            let codes = quantize(&mut q, &ramp());
            assert_eq!((q.gamma(), q.lr_factor()), (gamma, 1.0));
            assert_eq!(codes.scale(), gamma / 7.0);
            assert_eq!(codes.level(999), 7);
        }
        assert!(Fixed::new(0.0).is_err() && Fixed::new(1.5).is_err() && Fixed::new(f32::NAN).is_err());
    }
}
