//! Quantizers of weights and activations (METHOD 1): the formula in `levels.rs`, and what uses it.

mod activation;
mod levels;
mod weight;

pub use activation::ActivationQuantizer;
pub use weight::{WeightQuantizer, requantize};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuantConfig, Scales, Scheme, WeightScales};
    use fixnet_autograd::deferred::Gradient;
    use fixnet_autograd::{Group, ParamId, Store, Value};
    use fixnet_tensor::{Codes, Tensor, reduce};

    fn tensor(v: &[f32]) -> Tensor {
        Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
    }

    fn config(bits: u8) -> QuantConfig {
        QuantConfig::new(crate::Precision::new(bits, bits, 32).unwrap())
    }

    fn quantizer(store: &mut Store, w: ParamId, config: &QuantConfig) -> WeightQuantizer {
        let slot = WeightQuantizer::new(store, "w", w, config).unwrap();
        *store.state(slot)
    }

    fn activation(store: &mut Store, bits: u8, signed: bool, scheme: Scheme) -> ActivationQuantizer {
        ActivationQuantizer::new(store, "a", bits, signed, scheme, Scales::Learned).unwrap()
    }

    fn levels(c: &Codes) -> Vec<i32> {
        (0..c.len()).map(|i| c.level(i)).collect()
    }

    #[test]
    fn weights_of_four_bits_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-1.5, -0.7, -0.05, 0.0, 0.05, 0.15, 0.35, 2.0])).unwrap();
        let q = quantizer(&mut store, w, &config(4));
        let std = reduce::mean_std(store.param(w).value.data()).1;
        assert_eq!(store.param(q.scale().unwrap()).value.item(), (3.0 * std) as f32);
        store.param_mut(q.scale().unwrap()).value = Tensor::scalar(0.7);
        // x/s · 7 = x · 10: -15 and 20 clip to -7 and 7; -0.5, 0.5 go to 0, 1.5 to 2, 3.5 to 4 (ties to even).
        let codes = q.requantize(&mut store).unwrap();
        assert_eq!(levels(&codes), [-7, -7, 0, 0, 0, 2, 4, 7]);
        assert!((codes.scale() - 0.1).abs() < 1e-7);
        // STE: nothing outside [-s, s]. Scale: sum of d · (q/7 - x/s inside, q/7 outside).
        let dw = q.backward(&mut store, tensor(&[1.0; 8])).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
        let expected = -1.0 + (-1.0 + 1.0) + 0.5 / 7.0 + 0.0 - 0.5 / 7.0 + 0.5 / 7.0 + 0.5 / 7.0 + 1.0;
        approx::assert_relative_eq!(store.grad(q.scale().unwrap()).unwrap().item(), expected, epsilon = 1e-5);
    }

    #[test]
    fn one_bit_is_the_sign_with_scale_one() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-2.0, -0.1, 0.0, 0.5])).unwrap();
        let q = quantizer(&mut store, w, &config(1));
        let codes = q.codes(&mut store).unwrap();
        assert_eq!((levels(&codes), codes.scale()), (vec![-1, -1, 1, 1], 1.0));
        let dw = q.backward(&mut store, tensor(&[1.0; 4])).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 1.0, 1.0, 1.0]);
        assert!(q.scale().is_none());
        let a = activation(&mut store, 1, false, Scheme::Lbt);
        let codes = a.quantize(&mut store, &Value::Float(tensor(&[-1.0, 0.4, 0.6, 3.0])), true).unwrap();
        assert_eq!(levels(&codes), [0, 0, 1, 1]);
    }

    #[test]
    fn the_first_batch_sets_the_scale_of_activations_in_training_only() {
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 4, false, Scheme::Lbt);
        let x = Value::Float(tensor(&[0.0, 1.0, 2.0, 3.0]));
        a.quantize(&mut store, &x, false).unwrap();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), 0.0);
        a.quantize(&mut store, &x, true).unwrap();
        let expected = 3.0 * 1.25f64.sqrt() / (1.0 - 2.0 / std::f64::consts::PI).sqrt();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), expected as f32);
        a.quantize(&mut store, &Value::Float(tensor(&[9.0, 0.0])), true).unwrap();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), expected as f32);
    }

    #[test]
    fn transitions_are_counted() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[0.1, 0.2, -0.3, 0.4])).unwrap();
        let q = quantizer(&mut store, w, &config(1));
        assert_eq!(requantize(&mut store).unwrap(), crate::Transitions { changed: 0, weights: 4 });
        store.param_mut(w).value = tensor(&[-0.1, 0.2, 0.3, 0.5]);
        assert_eq!(requantize(&mut store).unwrap(), crate::Transitions { changed: 2, weights: 4 });
        assert_eq!(q.bits(), 1);
    }
}
