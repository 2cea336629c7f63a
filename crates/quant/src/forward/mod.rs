//! Quantizers of weights and activations (METHOD 1): the formula in `levels.rs`, and what uses it.

mod activation;
mod levels;
mod sign;
mod weight;

pub use activation::{ActivationQuantizer, FixedInput, SidedQuantizer};
pub use weight::{WeightQuantizer, requantize};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QuantConfig, Scales, Scheme, WeightScales};
    use fixnet_autograd::check::sample;
    use fixnet_autograd::gradient::Gradient;
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

    fn activation(store: &mut Store, bits: u8, signed: bool, scheme: Scheme) -> SidedQuantizer {
        let quantizer = ActivationQuantizer::new(store, "a", &QuantConfig { scheme, ..config(bits) });
        quantizer.unwrap().sided(!signed)
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
        let codes = a.quantize(&mut store, &Value::Float(tensor(&[-1.0, 0.4, 0.6, 3.0])), false).unwrap();
        assert_eq!(levels(&codes), [0, 0, 1, 1]);
    }

    #[test]
    fn the_first_batch_sets_the_scale_of_activations_in_training_only() {
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 4, false, Scheme::Lbt);
        let x = Value::Float(tensor(&[0.0, 1.0, 2.0, 3.0]));
        a.quantize(&mut store, &x, false).unwrap();
        for odd in [f32::NAN, f32::INFINITY] {
            let e = a.quantize(&mut store, &Value::Float(tensor(&[0.0, odd])), true).unwrap_err().to_string();
            assert!(e.starts_with("the input of a quantizer is not finite"), "{e}");
        }
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
        assert_eq!(requantize(&mut store).unwrap(), [crate::Transitions { changed: 0, weights: 4 }]);
        store.param_mut(w).value = tensor(&[-0.1, 0.2, 0.3, 0.5]);
        assert_eq!(requantize(&mut store).unwrap(), [crate::Transitions { changed: 2, weights: 4 }]);
        assert_eq!(q.bits(), 1);
    }

    fn through(gradient: Gradient, store: &mut Store) -> Vec<f32> {
        gradient.into_tensor(store).data().to_vec()
    }

    #[test]
    fn trs_weights_of_three_bits_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-4.0, -2.0, -1.75, -1.25, 0.25, 0.75, 1.5, 1.8])).unwrap();
        let q = quantizer(&mut store, w, &QuantConfig { scheme: Scheme::Trs, ..config(3) });
        store.param_mut(q.scale().unwrap()).value = Tensor::scalar(2.0);
        // x/s · 4 = 2x: -8 clips to -4; -3.5, -2.5, 0.5, 1.5 go to the even levels; 3.6 clips to 3. Values are q/4.
        let codes = q.requantize(&mut store).unwrap();
        assert_eq!(levels(&codes), [-4, -4, -4, -2, 0, 2, 3, 3]);
        assert_eq!((codes.scale(), q.columns(&store)), (0.25, None));
        // dv/dx = 1/s inside [-4, 3], dv/ds = -x/s^2 there.
        let dw = q.backward(&mut store, tensor(&[1.0; 8])).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0]);
        assert_eq!(store.grad(q.learned_scale().unwrap()).unwrap().item(), 2.5 / 4.0);
    }

    /// The paper's sgn(clip(w/s, -1, 1)): the scale decides which gradients pass, and how large they are.
    #[test]
    fn trs_weights_of_one_bit_by_hand() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, tensor(&[-2.0, -0.5, -0.1, 0.0, 0.35, 1.5])).unwrap();
        let q = quantizer(&mut store, w, &QuantConfig { scheme: Scheme::Trs, ..config(1) });
        let std = reduce::mean_std(store.param(w).value.data()).1;
        let scale = q.learned_scale().unwrap();
        assert_eq!(store.param(scale).value.item(), (3.0 * std) as f32);
        store.param_mut(scale).value = Tensor::scalar(0.5);
        let codes = q.requantize(&mut store).unwrap();
        assert_eq!((levels(&codes), codes.scale()), (vec![-1, -1, -1, 1, 1, 1], 1.0));
        // dv/dx = 1/s where |x| <= s, else 0; dv/ds = -x/s^2 there.
        let dw = q.backward(&mut store, tensor(&[1.0; 6])).into_tensor(&mut store);
        assert_eq!(dw.data(), &[0.0, 2.0, 2.0, 2.0, 2.0, 0.0]);
        approx::assert_relative_eq!(store.grad(scale).unwrap().item(), 1.0, epsilon = 1e-6);
        // An output that no normalization follows begins with the mean magnitude, not with the scale.
        approx::assert_relative_eq!(q.missing(&store, false).item(), 4.45 / 6.0, epsilon = 1e-6);
    }

    #[test]
    fn trs_activations_by_hand() {
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 2, false, Scheme::Trs);
        let scale = a.scale().unwrap();
        store.param_mut(scale).value = Tensor::scalar(2.0);
        // x/s · 4 = 2x: 0.5 and 1.5 go to the even levels, 3 stays, 3.2 and 6 clip to 3. Values are q/4.
        let x = Value::Float(tensor(&[-1.0, 0.25, 0.75, 1.5, 1.6, 3.0]));
        let codes = a.quantize(&mut store, &x, false).unwrap();
        assert_eq!((levels(&codes), codes.scale()), (vec![0, 0, 2, 3, 3, 3], 0.25));
        let dx = through(a.backward(&store, x, Value::Float(tensor(&[1.0; 6]))), &mut store);
        assert_eq!(dx, [0.0, 0.5, 0.5, 0.5, 0.0, 0.0]);
        // dv/ds = -x/s^2 inside, 0 outside.
        assert_eq!(store.grad(scale).unwrap().item(), -(0.25 + 0.75 + 1.5) / 4.0);
    }

    #[test]
    fn one_bit_activations_have_a_scale_in_the_trs_scheme() {
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 1, false, Scheme::Trs);
        let x = Value::Float(tensor(&[-1.0, 0.9, 1.1, 2.0, 2.1]));
        store.param_mut(a.scale().unwrap()).value = Tensor::scalar(2.0);
        let codes = a.quantize(&mut store, &x, false).unwrap();
        assert_eq!((levels(&codes), codes.scale()), (vec![0, 0, 1, 1, 1], 1.0));
        let dx = through(a.backward(&store, x, Value::Float(tensor(&[1.0; 5]))), &mut store);
        assert_eq!(dx, [0.0, 0.5, 0.5, 0.5, 0.0]);
        assert_eq!(store.grad(a.scale().unwrap()).unwrap().item(), -4.0 / 4.0);
        // Of the positive half of a normal distribution: 1.224 of its deviation.
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 1, false, Scheme::Trs);
        a.quantize(&mut store, &Value::Float(tensor(&[0.0, 1.0, 2.0, 3.0])), true).unwrap();
        let expected = 1.224 * 1.25f64.sqrt() / (1.0 - 2.0 / std::f64::consts::PI).sqrt();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), expected as f32);
    }

    #[test]
    fn two_sided_activations() {
        let x = Value::Float(tensor(&[-3.0, -1.0, -0.2, 0.3, 1.0, 3.0]));
        for (scheme, bits, expected, value) in [
            (Scheme::Lbt, 3, [-3, -2, 0, 0, 2, 3], 2.0 / 3.0),
            (Scheme::Trs, 3, [-4, -2, 0, 1, 2, 3], 0.25),
            (Scheme::Lbt, 1, [-1, -1, -1, 1, 1, 1], 1.0),
            (Scheme::Trs, 1, [-1, -1, -1, 1, 1, 1], 1.0),
        ] {
            let mut store = Store::seeded(0);
            let a = activation(&mut store, bits, true, scheme);
            if let Some(scale) = a.scale() {
                store.param_mut(scale).value = Tensor::scalar(2.0);
            }
            let codes = a.quantize(&mut store, &x, true).unwrap();
            assert_eq!(levels(&codes), expected, "{scheme} {bits}");
            assert_eq!(codes.scale(), value);
        }
        let mut store = Store::seeded(0);
        let a = activation(&mut store, 4, true, Scheme::Lbt);
        a.quantize(&mut store, &Value::Float(tensor(&[-1.0, 1.0])), true).unwrap();
        assert_eq!(store.param(a.scale().unwrap()).value.item(), 3.0);
    }

    /// Gradients against differences of the formula, the rounding held where it is (which is what STE means):
    /// v(x, s) = unit(s) · (q0 + u(x, s) - u(x0, s0)), with u the clipped level before rounding.
    #[test]
    fn gradients_are_those_of_the_formula() {
        let (x, s0, h) = (sample(&[40], 3), 0.703f64, 1e-6);
        let mixes = [(Scheme::Lbt, 2), (Scheme::Lbt, 4), (Scheme::Lbt, 8), (Scheme::Trs, 1), (Scheme::Trs, 2)];
        for (scheme, bits) in mixes.into_iter().chain([(Scheme::Trs, 4), (Scheme::Trs, 8)]) {
            for signed in [false, true] {
                let mut store = Store::seeded(0);
                let a = activation(&mut store, bits, signed, scheme);
                let Some(scale) = a.scale() else { continue };
                store.param_mut(scale).value = Tensor::scalar(s0 as f32);
                let codes = a.quantize(&mut store, &Value::Float(x.clone()), false).unwrap();
                let (low, top) = (f64::from(codes.range().min()), f64::from(codes.range().max()));
                let m = if scheme == Scheme::Trs && bits > 1 { top + 1.0 } else { top };
                let u = |x: f64, s: f64| (x * m / s).clamp(low, top);
                let unit = |s: f64| if scheme == Scheme::Lbt { s / m } else { 1.0 / m };
                let d = sample(&[40], 4);
                let dx = through(a.backward(&store, Value::Float(x.clone()), Value::Float(d.clone())), &mut store);
                let mut ds = 0.0;
                for (i, &found) in dx.iter().enumerate() {
                    let (x0, d, q0) = (f64::from(x.data()[i]), f64::from(d.data()[i]), f64::from(codes.level(i)));
                    let v = |x: f64, s: f64| unit(s) * (q0 + u(x, s) - u(x0, s0));
                    assert!((v(x0, s0) - f64::from(codes.dequantize().data()[i])).abs() < 1e-6);
                    let slope = d * (v(x0 + h, s0) - v(x0 - h, s0)) / (2.0 * h);
                    assert!((slope - f64::from(found)).abs() < 1e-4, "{scheme} {bits} {signed}: {slope} {found}");
                    ds += d * (v(x0, s0 + h) - v(x0, s0 - h)) / (2.0 * h);
                }
                let found = f64::from(store.grad(scale).unwrap().item());
                assert!((found - ds).abs() < 1e-3, "{scheme} {bits} {signed}: {found} {ds}");
            }
        }
    }

    /// Scales by channel: each row is what a quantizer of its own would make of it.
    #[test]
    fn a_scale_for_each_channel_is_a_quantizer_for_each_row() {
        let (whole, d) = (sample(&[3, 2, 2, 5], 1), sample(&[3, 2, 2, 5], 2));
        for (scheme, bits) in [(Scheme::Lbt, 4), (Scheme::Lbt, 8), (Scheme::Trs, 1), (Scheme::Trs, 2), (Scheme::Lbt, 1)]
        {
            let config = QuantConfig { scheme, weight_scales: WeightScales::Channel, ..config(bits) };
            let mut store = Store::seeded(0);
            let w = store.add("w", Group::Latent, whole.clone()).unwrap();
            let q = quantizer(&mut store, w, &config);
            let codes = q.requantize(&mut store).unwrap();
            let columns = q.columns(&store);
            assert_eq!(columns.is_some(), (scheme, bits > 1) == (Scheme::Lbt, true));
            // The gradient of the codes' values has the factor of its column.
            let mut of_codes = d.clone();
            if let Some(columns) = &columns {
                let rows = of_codes.data_mut().chunks_mut(20).zip(columns);
                rows.for_each(|(row, s)| row.iter_mut().for_each(|d| *d *= s));
            }
            let dw = q.backward(&mut store, of_codes).into_tensor(&mut store);
            for row in 0..3 {
                let part = |t: &Tensor| tensor(&t.data()[20 * row..][..20]);
                let mut alone = Store::seeded(0);
                let w = alone.add("w", Group::Latent, part(&whole)).unwrap();
                let one = QuantConfig { weight_scales: WeightScales::Tensor, ..config.clone() };
                let one = quantizer(&mut alone, w, &one);
                let own = one.requantize(&mut alone).unwrap();
                assert_eq!(own.bytes(), &codes.bytes()[20 * row..][..20]);
                let unit = codes.scale() * columns.as_ref().map_or(1.0, |c| c[row]);
                approx::assert_relative_eq!(unit, own.scale(), max_relative = 1e-6);
                let expected = one.backward(&mut alone, part(&d)).into_tensor(&mut alone);
                for (a, b) in dw.data()[20 * row..].iter().zip(expected.data()) {
                    approx::assert_relative_eq!(a, b, max_relative = 1e-5);
                }
                if let (Some(scales), Some(scale)) = (q.learned_scale(), one.learned_scale()) {
                    let (a, b) = (store.grad(scales).unwrap().data()[row], alone.grad(scale).unwrap().item());
                    approx::assert_relative_eq!(a, b, epsilon = 1e-5);
                }
            }
        }
    }

    #[test]
    fn fixed_scales_have_no_gradient() {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Latent, sample(&[4, 5], 1)).unwrap();
        let fixed = QuantConfig { scales: Scales::Fixed, ..config(4) };
        let q = quantizer(&mut store, w, &fixed);
        let a = ActivationQuantizer::new(&mut store, "a", &fixed).unwrap().sided(false);
        let x = Value::Float(sample(&[4, 5], 2));
        a.quantize(&mut store, &x, true).unwrap();
        assert!(store.param(a.scale().unwrap()).value.item() > 0.0);
        q.backward(&mut store, sample(&[4, 5], 3)).into_tensor(&mut store);
        through(a.backward(&store, x, Value::Float(sample(&[4, 5], 3))), &mut store);
        assert!([q.scale(), a.scale()].into_iter().flatten().all(|s| store.grad(s).is_none()));
    }
}
