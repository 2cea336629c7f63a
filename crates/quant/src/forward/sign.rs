//! The derivative of the sign by a triangle (METHOD 1): `2 + 2x` from -1 to 0, `2 - 2x` from 0 to 1, else 0 (Liu et al., Bi-Real Net,
//! 2018, and ReActNet, 2020). It is the derivative of two parabolas that go from -1 to +1 as the sign does.

use fixnet_autograd::deferred::{BLOCK, Deferred, Scratch, block};
use fixnet_autograd::{Value, gradient::Gradient};
use fixnet_tensor::map;
use std::sync::Arc;

/// The slope at `x`. That of a NaN is 0.
#[inline(always)]
fn slope(x: f32) -> f32 {
    let size = x.abs();
    if size < 1.0 { 2.0 - 2.0 * size } else { 0.0 }
}

/// `d` times the slope at `x`, computed where it is needed.
struct SignGradient {
    x: Value,
    d: Value,
}

/// Returns the gradient of `x` from that of its sign.
pub(super) fn gradient(x: Value, d: Value) -> Gradient {
    Gradient::Deferred(Arc::new(SignGradient { x, d }))
}

impl Deferred for SignGradient {
    fn shape(&self) -> &[usize] {
        self.x.shape()
    }
    fn fill(&self, first: usize, out: &mut [f32]) {
        let (mut of_x, mut of_d) = (Scratch::new(), Scratch::new());
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            let range = first + i * BLOCK..first + i * BLOCK + out.len();
            let x = block(&self.x, range.clone(), &mut of_x);
            let d = block(&self.d, range, &mut of_d);
            map::map2(x, d, out, |&x, &d| d * slope(x));
        }
    }
    fn size(&self) -> usize {
        self.x.size() + self.d.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivationQuantizer, Precision, QuantConfig, Scheme, SignEstimator};
    use fixnet_autograd::Store;
    use fixnet_autograd::check::sample;
    use fixnet_tensor::{Sums, Tensor};

    fn tensor(values: &[f32]) -> Value {
        Value::Float(Tensor::from_vec(&[values.len()], values.to_vec()).unwrap())
    }

    /// The numbers of PyTorch 2.15 for the function of ReActNet's authors: where x < -1 then -1, where x < 0 then x² + 2x, where x < 1
    /// then 2x - x², else 1, of which autograd takes the derivative, with the gradient 1, 2, ... of its outputs.
    #[test]
    fn slopes_are_those_of_pytorch() {
        let x = [-1.5, -1.0, -0.75, -0.25, -0.0, 0.0, 0.25, 0.6, 1.0, 1.5];
        let expected = [0.0, 0.0, 1.5, 6.0, 10.0, 12.0, 10.5, 6.4, 0.0, 0.0];
        for scheme in [Scheme::Lbt, Scheme::Trs] {
            let mut store = Store::seeded(0);
            let config = QuantConfig {
                scheme,
                sign_estimator: SignEstimator::Triangle,
                ..QuantConfig::new(Precision::new(1, 1, 32).unwrap())
            };
            let quantizer = ActivationQuantizer::new(&mut store, "a", &config).unwrap();
            assert!(quantizer.scale().is_none());
            // A sign of any value, whatever is promised of it.
            for non_negative in [false, true] {
                let sided = quantizer.sided(non_negative);
                let codes = sided.quantize(&mut store, &tensor(&x), true).unwrap();
                let levels: Vec<i32> = (0..x.len()).map(|i| codes.level(i)).collect();
                assert_eq!(levels, [-1, -1, -1, -1, 1, 1, 1, 1, 1, 1], "the sign of 0 is +1");
                assert_eq!(codes.scale(), 1.0);
                let ones: Vec<f32> = (1..=10).map(|i| i as f32).collect();
                let dx = sided.backward(&store, tensor(&x), tensor(&ones)).into_tensor(&mut store);
                dx.data().iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, epsilon = 1e-6));
            }
        }
    }

    /// Blocks that begin anywhere, of floats and of exact sums, are parts of the whole.
    #[test]
    fn any_block_is_a_part_of_the_whole() {
        let x = sample(&[70, 100], 1);
        let sums = Sums::new(&[70, 100], 0.5, (0..7000).map(|i| i % 7 - 3).collect()).unwrap();
        let Gradient::Deferred(gradient) = gradient(Value::Float(x.clone()), Value::Sums(sums)) else { panic!() };
        let mut part = vec![0.0; 5000];
        gradient.fill(1234, &mut part);
        for (i, &found) in part.iter().enumerate() {
            let at = 1234 + i;
            assert_eq!(found, ((at % 7) as f32 - 3.0) * 0.5 * slope(x.data()[at]));
        }
    }
}
