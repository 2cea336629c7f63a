//! Quantized operations against the float operations on quantized values.

use super::*;
use crate::{MinMax, OutputScaleStart, Scales, Scheme, WeightScales};
use fixnet_autograd::Group;
use fixnet_autograd::check::sample;

fn config(bits: &str) -> QuantConfig {
    QuantConfig { rule: MinMax.into(), ..QuantConfig::new(bits.parse().unwrap()) }
}

fn window(stride: usize) -> Window {
    Window { stride: [stride; 2], padding: [1, 1], ..Window::default() }
}

/// The quantized operation is the float operation on dequantized operands, exactly, where sums fit in 24 bits.
#[test]
fn forward_is_the_exact_product_of_the_dequantized_operands() {
    let mut store = Store::seeded(0);
    let w = store.add("l.weight", Group::Latent, sample(&[5, 3, 3, 4], 1)).unwrap();
    let layer = QConv2d::new(&mut store, "l", w, &config("4/4/32"), window(2)).unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(sample(&[2, 5, 6, 4], 2));
    let y = layer.forward(&mut g, &x).unwrap();
    let codes = layer.quantizers.input.sided(false).quantize(g.store_mut(), x.value(), true).unwrap();
    let weight = g.store().param(w).codes().unwrap().clone();
    let integers = |c: &Codes| Tensor::from_vec(c.shape(), (0..c.len()).map(|i| c.level(i) as f32).collect()).unwrap();
    let geometry = Conv2dGeometry::new(x.shape(), &[5, 3, 3, 4], [2, 2], [1, 1], [1, 1]).unwrap();
    let exact = float::conv2d(&integers(&codes), &integers(&weight), &geometry).unwrap();
    let Value::Sums(sums) = y.value() else { panic!("a quantized product gives sums") };
    assert!(sums.to_vec().iter().zip(exact.data()).all(|(&a, &b)| a as f32 == b));
    assert_eq!(sums.scale(), codes.scale() * weight.scale());
}

/// With eight bits everywhere the gradients are those of the float layer, up to the quantization steps.
#[test]
fn gradients_approach_the_float_layer() {
    let run = |bits: Option<&str>| {
        let mut store = Store::seeded(3);
        let group = if bits.is_some() { Group::Latent } else { Group::Weight };
        let x = store.add("x", Group::Weight, sample(&[16, 24], 2)).unwrap();
        let w = store.add("l.weight", group, sample(&[12, 24], 1)).unwrap();
        let layer = bits.map(|b| QLinear::new(&mut store, "l", w, &config(b)).unwrap());
        let mut g = Graph::train(&mut store);
        let (xv, wv) = (g.param(x), g.param(w));
        let y = match &layer {
            Some(layer) => layer.forward(&mut g, &xv).unwrap(),
            None => g.linear(&xv, &wv).unwrap(),
        };
        let target = g.input(Tensor::zeros(y.shape()));
        let loss = g.mse_loss(&y, &target).unwrap();
        g.backward(loss).unwrap();
        (store.grad(x).unwrap().clone(), store.grad(w).unwrap().clone())
    };
    let (dx, dw) = run(None);
    for (bits, bound) in [("8/8/8", 0.05), ("8/8/32", 0.03)] {
        let (qx, qw) = run(Some(bits));
        for (a, b) in [(&dx, &qx), (&dw, &qw)] {
            let top = map::max_abs(a.data());
            let worst = a.data().iter().zip(b.data()).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
            assert!(worst < bound, "{bits}: {worst}");
        }
    }
}

/// Everything that a layer computes and passes back, against the float operation on the quantized values and the
/// formulas of METHOD 1, in every scheme, with scales by tensor and channel and with output scales.
#[test]
fn layers_of_every_kind_agree_with_the_float_operation_on_quantized_values() {
    for (bits, scheme, channels, scaled) in [
        ("4/4/32", Scheme::Lbt, false, false),
        ("4/4/32", Scheme::Lbt, true, false),
        ("4/4/32", Scheme::Trs, false, true),
        ("2/2/32", Scheme::Trs, true, true),
        ("1/1/32", Scheme::Trs, true, true),
        ("1/4/32", Scheme::Lbt, false, true),
        ("3/5/8", Scheme::Lbt, true, false),
        ("3/5/8", Scheme::Trs, true, true),
        ("8/8/8", Scheme::Trs, false, false),
    ] {
        let weight_scales = if channels { WeightScales::Channel } else { WeightScales::Tensor };
        let config = QuantConfig { scheme, weight_scales, ..config(bits) };
        let name = format!("{bits} {scheme} {weight_scales}");
        let mut store = Store::seeded(0);
        let x = store.add("x", Group::Weight, sample(&[16, 12], 2)).unwrap();
        let w = store.add("l.weight", Group::Latent, sample(&[7, 12], 1)).unwrap();
        let mut layer = QLinear::new(&mut store, "l", w, &config).unwrap();
        if scaled {
            layer = layer.output_scaled(&mut store, &config).unwrap();
        }
        let mut g = Graph::train(&mut store);
        // A promise that does not hold: what is below 0 is clipped.
        let xv = g.param(x).non_negative();
        let y = layer.forward(&mut g, &xv).unwrap();
        let (found, target) = (y.tensor(), sample(&[16, 7], 5));
        let target_var = g.input(target.clone());
        let loss = g.mse_loss(&y, &target_var).unwrap();
        g.backward(loss).unwrap();

        // The operands' values with all their scales, and the factors of the output.
        let q = &layer.quantizers;
        let weight = *store.state(q.weight);
        let xq = q.input.sided(true).quantize(&mut store, &Value::Float(sample(&[16, 12], 2)), true).unwrap();
        let mut wq = weight.codes(&mut store).unwrap().dequantize();
        if let Some(columns) = weight.columns(&store) {
            wq.data_mut().chunks_mut(12).zip(columns).for_each(|(row, s)| row.iter_mut().for_each(|w| *w *= s));
        }
        let output = q.output.map(|o| store.param(o.scale).value.data().to_vec()).unwrap_or(vec![1.0]);
        assert_eq!(output.len(), if channels && scaled { 7 } else { 1 }, "{name}");
        let mut diagonal = Tensor::zeros(&[7, 7]);
        (0..7).for_each(|k| diagonal.data_mut()[8 * k] = output[k % output.len()]);
        let mut float = Store::seeded(0);
        let ids: Vec<ParamId> = [("x", xq.dequantize()), ("w", wq), ("d", diagonal)]
            .map(|(name, t)| float.add(name, Group::Weight, t).unwrap())
            .to_vec();
        let mut g = Graph::train(&mut float);
        let v: Vec<Var> = ids.iter().map(|&id| g.param(id)).collect();
        let y = g.linear(&v[0], &v[1]).unwrap();
        let y = g.matmul(&y, &v[2]).unwrap();
        for (a, b) in found.data().iter().zip(y.tensor().data()) {
            approx::assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
        }
        let target = g.input(target);
        let loss = g.mse_loss(&y, &target).unwrap();
        g.backward(loss).unwrap();

        // From the quantized values to the latents, by the quantizers themselves: those have their own tests.
        let exact = bits.ends_with("32");
        let close = |what: &str, a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len(), "{name} {what}");
            let top = map::max_abs(b).max(1e-6);
            let worst = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
            assert!(worst < if exact { 1e-4 } else { 0.03 }, "{name} {what}: {worst}");
        };
        let grad = |id: ParamId| float.grad(id).unwrap().clone();
        let dx = store.grad(x).unwrap().data().to_vec();
        let dw = store.grad(w).unwrap().data().to_vec();
        let slopes: Vec<Option<Vec<f32>>> = [q.input.learned_scale(), weight.learned_scale()]
            .map(|s| s.map(|s| store.grad(s).unwrap().data().to_vec()))
            .to_vec();
        let of_output = q.output.map(|o| store.grad(o.scale).unwrap().data().to_vec());
        store.zero_grad();
        let through =
            q.input.sided(true).backward(&store, Value::Float(sample(&[16, 12], 2)), Value::Float(grad(ids[0])));
        close("dx", &dx, through.into_tensor(&mut store).data());
        let mut of_codes = grad(ids[1]);
        if let Some(columns) = weight.columns(&store) {
            let rows = of_codes.data_mut().chunks_mut(12).zip(columns);
            rows.for_each(|(row, s)| row.iter_mut().for_each(|d| *d *= s));
        }
        close("dw", &dw, weight.backward(&mut store, of_codes).into_tensor(&mut store).data());
        for (scale, slope) in [q.input.learned_scale(), weight.learned_scale()].into_iter().zip(slopes) {
            if let (Some(scale), Some(slope)) = (scale, slope) {
                close("scale", &slope, store.grad(scale).unwrap().data());
            }
        }
        if let Some(found) = of_output {
            let d = grad(ids[2]);
            let each: Vec<f32> = (0..7).map(|k| d.data()[8 * k]).collect();
            close("output scale", &found, &if found.len() == 7 { each } else { vec![each.iter().sum()] });
        }
    }
}

/// An output scale starts as what the operands leave out, so that the layer starts as the float layer that it is
/// made from.
#[test]
fn output_scales_start_where_the_float_layer_is() {
    let run = |config: &QuantConfig, training: bool| {
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, sample(&[7, 64], 1)).unwrap();
        let layer = QLinear::new(&mut store, "l", w, config).unwrap().output_scaled(&mut store, config).unwrap();
        let mut g = if training { Graph::train(&mut store) } else { Graph::eval(&mut store) };
        let mut x = sample(&[16, 64], 2);
        x.data_mut().iter_mut().for_each(|x| *x = x.max(0.0));
        let (xv, wv) = (g.input(x).non_negative(), g.param(w));
        let (y, float) = (layer.forward(&mut g, &xv).unwrap().tensor(), g.linear(&xv, &wv).unwrap().tensor());
        let kept = layer.quantizers.output.map(|o| store.param(o.scale).value.data()[0]);
        let dot = |a: &Tensor, b: &Tensor| a.data().iter().zip(b.data()).map(|(a, b)| a * b).sum::<f32>();
        (dot(&y, &float) / dot(&float, &float), kept)
    };
    for (bits, bound) in [("8/8/8", 0.02), ("4/4/32", 0.15), ("1/1/32", 0.5)] {
        for weight_scales in [WeightScales::Tensor, WeightScales::Channel] {
            let config = QuantConfig { scheme: Scheme::Trs, weight_scales, ..config(bits) };
            let (share, kept) = run(&config, true);
            assert!((share - 1.0).abs() < bound && kept.unwrap() > 0.0, "{bits} {weight_scales}: {share}");
            assert_eq!(run(&config, false), (share, Some(0.0)), "an evaluation keeps nothing");
        }
    }
    // Values of the LBT scheme have their scales, unless weights have one bit.
    assert!(run(&config("4/4/4"), true).1.is_none());
    assert!(run(&config("1/4/32"), true).1.is_some());
}

/// As in EWGS: the first output has the mean magnitude of the float one, of the whole or of each channel.
#[test]
fn output_scales_may_start_from_the_output() {
    for weight_scales in [WeightScales::Tensor, WeightScales::Channel] {
        let output_scale_start = OutputScaleStart::Output;
        let config = QuantConfig { scheme: Scheme::Trs, weight_scales, output_scale_start, ..config("1/2/32") };
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, sample(&[3, 20], 1)).unwrap();
        let layer = QLinear::new(&mut store, "l", w, &config).unwrap();
        let layer = layer.output_scaled(&mut store, &config).unwrap();
        let mut g = Graph::train(&mut store);
        let (x, wv) = (g.input(sample(&[8, 20], 2)), g.param(w));
        let (y, float) = (layer.forward(&mut g, &x).unwrap().tensor(), g.linear(&x, &wv).unwrap().tensor());
        let magnitude = |y: &Tensor, k: usize| (0..8).map(|i| y.data()[3 * i + k].abs()).sum::<f32>();
        let of = |y: &Tensor| [0, 1, 2].map(|k| magnitude(y, k));
        let (found, expected) = (of(&y), of(&float));
        match weight_scales {
            WeightScales::Channel => {
                found.iter().zip(expected).for_each(|(a, b)| approx::assert_relative_eq!(*a, b, epsilon = 1e-4));
            }
            WeightScales::Tensor => {
                let (a, b) = (found.iter().sum::<f32>(), expected.iter().sum::<f32>());
                approx::assert_relative_eq!(a, b, epsilon = 1e-3);
            }
        }
    }
}

#[test]
fn float_precision_and_wrong_shapes_name_the_layer() {
    let mut store = Store::seeded(0);
    let w = store.add("c.weight", Group::Latent, sample(&[5, 3, 3, 4], 1)).unwrap();
    let e = QConv2d::new(&mut store, "c", w, &QuantConfig::float(), window(1)).unwrap_err();
    assert!(e.to_string().contains("layer `c`"));
    let layer = QConv2d::new(&mut store, "c", w, &config("4/4/4"), window(1)).unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(sample(&[2, 5, 6, 3], 2));
    assert!(layer.forward(&mut g, &x).unwrap_err().to_string().contains("layer `c`"));
}

#[test]
fn an_input_that_is_not_finite_is_refused() {
    for bits in ["4/4/4", "1/1/4", "4/4/32"] {
        let mut store = Store::seeded(0);
        let w = store.add("l.weight", Group::Latent, sample(&[5, 4], 1)).unwrap();
        let q = QuantConfig { scales: Scales::Fixed, ..config(bits) };
        let layer = QLinear::new(&mut store, "l", w, &q).unwrap();
        let mut run = |x: Tensor, train: bool| {
            let mut g = if train { Graph::train(&mut store) } else { Graph::eval(&mut store) };
            let x = g.input(x);
            layer.forward(&mut g, &x).map(|_| ())
        };
        run(sample(&[3, 4], 2), true).unwrap();
        let mut x = sample(&[3, 4], 2);
        x.data_mut()[5] = f32::NAN;
        for train in [true, false] {
            let e = run(x.clone(), train).unwrap_err().to_string();
            assert!(e.starts_with("the input of `l` is not finite"), "{bits}: {e}");
        }
    }
}
