//! Learned shifts and scales by head against differences of their formulas, roundings held where they are.

use super::*;
use crate::{AttentionScales, MinMax, Scheme};
use fixnet_autograd::Group;
use fixnet_autograd::check::sample;

fn config(bits: &str, scheme: Scheme) -> QuantConfig {
    QuantConfig {
        rule: MinMax.into(),
        scheme,
        input_shifts: InputShifts::Learned,
        attention_scales: AttentionScales::Head,
        ..QuantConfig::new(bits.parse().unwrap())
    }
}

/// `sum(y · r)` of the outputs of a layer and given numbers, whose gradient at the output is `r`.
fn weighed(g: &mut Graph<'_>, y: &Var, r: &Tensor) -> Var {
    let r = g.input(r.clone());
    let y = g.mul(y, &r).unwrap();
    let y = g.reshape(&y, &[1, r.tensor().len()]).unwrap();
    g.sum(&y, &[0, 1], false).unwrap()
}

/// A quantizer as a function: the level it had, and the levels that a moved value would have had without rounding.
struct Held {
    q: f64,
    at: f64,
    low: f64,
    top: f64,
}

impl Held {
    fn of(x: f64, per_unit: f64, range: fixnet_tensor::Range) -> Self {
        let (low, top) = (f64::from(range.min()), f64::from(range.max()));
        let at = (x * per_unit).clamp(low, top);
        Self { q: at.round_ties_even(), at, low, top }
    }

    fn level(&self, x: f64, per_unit: f64) -> f64 {
        self.q + (x * per_unit).clamp(self.low, self.top) - self.at
    }
}

const ROWS: usize = 6;
const IN: usize = 5;
const OUT: usize = 4;

/// Scales that clip some values, and shifts that clip others.
fn values(store: &mut Store, name: &str, value: Tensor) {
    let id = store.find(name).unwrap();
    store.param_mut(id).value = value;
}

#[test]
fn gradients_of_shifts_are_those_of_the_formula() {
    for (bits, scheme) in [("4/4/32", Scheme::Lbt), ("4/4/32", Scheme::Trs), ("8/3/32", Scheme::Trs)] {
        let mut store = Store::seeded(1);
        let w = store.add("l.weight", Group::Latent, sample(&[OUT, IN], 1)).unwrap();
        let settings = config(bits, scheme);
        let layer = QLinear::new(&mut store, "l", w, &settings).unwrap().output_scaled(&mut store, &settings).unwrap();
        let (x, r) = (sample(&[ROWS, IN], 2), sample(&[ROWS, OUT], 3));
        // Sets the scales.
        let mut g = Graph::train(&mut store);
        let input = g.input(x.clone());
        layer.forward(&mut g, &input).unwrap();
        values(&mut store, "l.input.scale", Tensor::scalar(0.4));
        values(&mut store, "l.input.shift", sample(&[IN], 4));
        let trs = scheme == Scheme::Trs;
        if trs {
            values(&mut store, "l.output.scale", Tensor::scalar(0.7));
        }
        let mut g = Graph::train(&mut store);
        let input = g.input(x.clone());
        let y = layer.forward(&mut g, &input).unwrap();
        let loss = weighed(&mut g, &y, &r);
        let found = f64::from(loss.tensor().item());
        g.backward(loss).unwrap();
        let get = |name: &str| store.param(store.find(name).unwrap()).value.clone();
        let double = |t: &Tensor| t.data().iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let codes = store.param(w).codes().unwrap();
        let (range, sw) = (codes.range(), f64::from(get("l.weight.scale").item()));
        let above = if trs { 1.0 } else { 0.0 };
        let mw = f64::from(range.max()) + above;
        let bits_of_input: u8 = bits[2..3].parse().unwrap();
        let input_range = match trs {
            true => fixnet_tensor::Range::twos_complement(bits_of_input).unwrap(),
            false => fixnet_tensor::Range::symmetric(bits_of_input).unwrap(),
        };
        let mx = f64::from(input_range.max()) + above;
        let (x, r, b0, s0) = (double(&x), double(&r), double(&get("l.input.shift")), 0.4f32 as f64);
        let f0 = if trs { f64::from(get("l.output.scale").item()) } else { 1.0 };
        let w0 = double(&get("l.weight"));
        let held: Vec<Held> = (0..x.len()).map(|k| Held::of(x[k] + b0[k % IN], mx / s0, input_range)).collect();
        let held_w: Vec<Held> = w0.iter().map(|&w| Held::of(w, mw / sw, range)).collect();
        let value = |b: &[f64], s: f64, w: &[f64], f: f64| {
            let (unit, kappa) = if trs { (1.0 / mx, 1.0 / s) } else { (s / mx, 1.0) };
            let unit_w = if trs { 1.0 / mw } else { sw / mw };
            let mut sum = 0.0;
            for (n, o) in (0..ROWS).flat_map(|n| (0..OUT).map(move |o| (n, o))) {
                let mut y = 0.0;
                for i in 0..IN {
                    let v = unit * held[n * IN + i].level(x[n * IN + i] + b[i], mx / s);
                    y += unit_w * held_w[o * IN + i].level(w[o * IN + i], mw / sw) * (v - kappa * b[i]);
                }
                sum += f * y * r[n * OUT + o];
            }
            sum
        };
        let at = value(&b0, s0, &w0, f0);
        assert!((at - found).abs() < 1e-4 * (1.0 + found.abs()), "{bits} {scheme}: {at} {found}");
        let h = 1e-6;
        let close = |name: &str, i: usize, slope: f64| {
            let found = f64::from(store.grad(store.find(name).unwrap()).unwrap().data()[i]);
            assert!((slope - found).abs() < 2e-3 * (1.0 + slope.abs()), "{bits} {scheme} {name} {i}: {slope} {found}");
        };
        for i in 0..IN {
            let moved = |d: f64| (0..IN).map(|k| b0[k] + if k == i { d } else { 0.0 }).collect::<Vec<f64>>();
            let slope = (value(&moved(h), s0, &w0, f0) - value(&moved(-h), s0, &w0, f0)) / (2.0 * h);
            close("l.input.shift", i, slope);
        }
        for i in 0..IN * OUT {
            let moved = |d: f64| (0..w0.len()).map(|k| w0[k] + if k == i { d } else { 0.0 }).collect::<Vec<f64>>();
            let slope = (value(&b0, s0, &moved(h), f0) - value(&b0, s0, &moved(-h), f0)) / (2.0 * h);
            close("l.weight", i, slope);
        }
        close("l.input.scale", 0, (value(&b0, s0 + h, &w0, f0) - value(&b0, s0 - h, &w0, f0)) / (2.0 * h));
        if trs {
            close("l.output.scale", 0, (value(&b0, s0, &w0, f0 + h) - value(&b0, s0, &w0, f0 - h)) / (2.0 * h));
        }
    }
}

/// With quantized gradients the sums are those of codes; what they give is near to what floats give.
#[test]
fn shifts_learn_from_quantized_gradients_and_inputs_without_sign_have_none() {
    let grads = |bits: &str| {
        let mut store = Store::seeded(1);
        let w = store.add("l.weight", Group::Latent, sample(&[OUT, IN], 1)).unwrap();
        let layer = QLinear::new(&mut store, "l", w, &config(bits, Scheme::Lbt)).unwrap();
        let mut g = Graph::train(&mut store);
        let x = g.input(sample(&[64, IN], 2));
        layer.forward(&mut g, &x).unwrap();
        values(&mut store, "l.input.scale", Tensor::scalar(0.3));
        values(&mut store, "l.input.shift", sample(&[IN], 4));
        let mut g = Graph::train(&mut store);
        let x = g.input(sample(&[64, IN], 2));
        let y = layer.forward(&mut g, &x).unwrap();
        let loss = weighed(&mut g, &y, &sample(&[64, OUT], 3));
        g.backward(loss).unwrap();
        let shift = store.find("l.input.shift").unwrap();
        [store.grad(shift).unwrap().clone(), store.grad(w).unwrap().clone()]
    };
    for (a, b) in grads("4/4/32").iter().zip(&grads("4/4/8")) {
        let top = map::max_abs(a.data());
        let worst = a.data().iter().zip(b.data()).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top;
        assert!(worst < 0.05, "{worst}");
    }
    let mut store = Store::seeded(1);
    let w = store.add("l.weight", Group::Latent, sample(&[OUT, IN], 1)).unwrap();
    let layer = QLinear::new(&mut store, "l", w, &config("4/4/4", Scheme::Lbt)).unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(sample(&[3, IN], 2));
    let x = g.relu(&x).unwrap();
    let y = layer.forward(&mut g, &x).unwrap();
    let loss = weighed(&mut g, &y, &sample(&[3, OUT], 3));
    g.backward(loss).unwrap();
    assert!(store.grad(store.find("l.input.shift").unwrap()).is_none());
}

#[test]
fn scales_by_head_are_a_quantizer_for_each_head() {
    let shape = [2, 3, 4, 5];
    let (mut a, b, r) = (sample(&shape, 1), sample(&shape, 2), sample(&[2, 3, 4, 4], 3));
    // Heads of different sizes.
    for (i, v) in a.data_mut().iter_mut().enumerate() {
        *v *= [0.1, 1.0, 7.0][i / 20 % 3];
    }
    let part = |t: &Tensor, head: usize, len: usize| {
        let own: Vec<f32> = t.data().chunks_exact(len).skip(head).step_by(3).flatten().copied().collect();
        let shape = [2, 1, 4, len / 4];
        Tensor::from_vec(&shape, own).unwrap()
    };
    let run = |a: &Tensor, b: &Tensor, r: &Tensor, heads: [Option<usize>; 2]| {
        let mut store = Store::seeded(1);
        let ids = [("a", a), ("b", b)].map(|(name, t)| store.add(name, Group::Weight, t.clone()).unwrap());
        let op = QMatmul::by_heads(&mut store, "m", true, heads, &config("4/4/32", Scheme::Lbt)).unwrap();
        let mut g = Graph::train(&mut store);
        let [x, y] = ids.map(|id| g.param(id));
        let out = op.forward(&mut g, &x, &y).unwrap();
        let values = out.tensor().data().to_vec();
        let loss = weighed(&mut g, &out, r);
        g.backward(loss).unwrap();
        let scales = ["m.left.scale", "m.right.scale"].map(|name| {
            let id = store.find(name).unwrap();
            (store.param(id).value.data().to_vec(), store.grad(id).unwrap().data().to_vec())
        });
        (values, ids.map(|id| store.grad(id).unwrap().clone()), scales)
    };
    let whole = run(&a, &b, &r, [Some(3); 2]);
    for head in 0..3 {
        let own = run(&part(&a, head, 20), &part(&b, head, 20), &part(&r, head, 16), [None; 2]);
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                approx::assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
            }
        };
        let values = Tensor::from_vec(&[2, 3, 4, 4], whole.0.clone()).unwrap();
        close(part(&values, head, 16).data(), &own.0);
        for side in 0..2 {
            close(part(&whole.1[side], head, 20).data(), own.1[side].data());
            close(&whole.2[side].0[head..=head], &own.2[side].0);
            close(&whole.2[side].1[head..=head], &own.2[side].1);
        }
    }
}
