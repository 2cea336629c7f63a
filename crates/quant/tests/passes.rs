//! Several passes within one optimizer step, and a layer that is used twice: each has noise of its own, and the rules of
//! gradients move once a step.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Group, ParamId, Store};
use fixnet_quant::{QLinear, QuantConfig, gammas};
use fixnet_tensor::{Tensor, map};

fn layer(bits: &str, rule: &str) -> (Store, QLinear, ParamId) {
    let mut store = Store::seeded(3);
    let w = store.add("l.weight", Group::Latent, sample(&[12, 24], 1)).unwrap();
    let config = QuantConfig { rule: rule.parse().unwrap(), ..QuantConfig::new(bits.parse().unwrap()) };
    let layer = QLinear::new(&mut store, "l", w, &config).unwrap();
    (store, layer, w)
}

/// A pass over the same images; `uses` says how often the layer is used in it.
fn pass(store: &mut Store, layer: &QLinear, uses: usize) {
    let mut g = Graph::train(store);
    let x = g.input(sample(&[64, 24], 2));
    let mut y = layer.forward(&mut g, &x).unwrap();
    for _ in 1..uses {
        let again = layer.forward(&mut g, &x).unwrap();
        y = g.add(&y, &again).unwrap();
    }
    let target = g.input(Tensor::zeros(y.shape()));
    let loss = g.mse_loss(&y, &target).unwrap();
    g.backward(loss).unwrap();
}

#[test]
fn two_passes_of_a_step_draw_other_noise_and_a_new_step_begins_anew() {
    let (mut store, layer, w) = layer("4/4/4", "min-max");
    pass(&mut store, &layer, 1);
    let first = store.grad(w).unwrap().clone();
    pass(&mut store, &layer, 1);
    let both = store.grad(w).unwrap().clone();
    // What the second pass added; equal passes would have added what was there.
    let equal = first.data().iter().zip(both.data()).filter(|(a, b)| **b - **a == **a).count();
    assert!(equal * 10 < first.len(), "{equal} of {}", first.len());
    // Both are estimates of one gradient: they agree up to their noise.
    let (top, pairs) = (map::max_abs(first.data()), first.data().iter().zip(both.data()));
    let worst = pairs.fold(0f32, |worst, (a, b)| worst.max((b - 2.0 * a).abs()));
    assert!(worst > 0.0 && worst < 0.5 * top, "{worst} of {top}");
    // Without the gradients of a pass there was no pass.
    store.zero_grad();
    pass(&mut store, &layer, 1);
    assert_eq!(store.grad(w).unwrap().data(), first.data());
}

#[test]
fn a_layer_that_is_used_twice_draws_twice() {
    let (mut store, layer, _) = layer("4/4/4", "min-max");
    pass(&mut store, &layer, 2);
    assert_eq!(store.draws("l"), 2);
    store.advance();
    assert_eq!(store.draws("l"), 0);
}

#[test]
fn a_rule_moves_once_a_step_whatever_the_number_of_passes() {
    for rule in ["lbt", "mse:2", "dsgc:2"] {
        let (mut one, first, _) = layer("4/4/4", rule);
        let (mut many, second, _) = layer("4/4/4", rule);
        let mut seen = Vec::new();
        for _ in 0..4 {
            pass(&mut one, &first, 1);
            (0..3).for_each(|_| pass(&mut many, &second, 1));
            assert_eq!(gammas(&one), gammas(&many), "{rule}");
            seen.push(gammas(&one)[0].1);
            for store in [&mut one, &mut many] {
                // Without an optimizer: gradients go, the weight stays, and the step counts.
                store.zero_grad();
                store.advance();
            }
        }
        assert!(seen.windows(2).any(|g| g[0] != g[1]) || rule != "lbt", "{rule} never moved: {seen:?}");
    }
}

/// Codes follow from the latent weight and its scale, whichever of the two is written to.
#[test]
fn what_a_layer_computes_follows_the_values_as_they_are() {
    let (mut store, layer, w) = layer("4/4/4", "lbt");
    let scale = store.find("l.weight.scale").unwrap();
    let run = |store: &mut Store| {
        let mut g = Graph::eval(store);
        let x = g.input(sample(&[64, 24], 2));
        layer.forward(&mut g, &x).unwrap().tensor()
    };
    pass(&mut store, &layer, 1);
    let before = run(&mut store);
    store.param_mut(w).value.data_mut().iter_mut().for_each(|v| *v = -*v);
    let negated = run(&mut store);
    assert!(before.data().iter().zip(negated.data()).all(|(a, b)| *a == -*b) && map::max_abs(before.data()) > 0.0);
    store.param_mut(scale).value.data_mut()[0] *= 0.25;
    assert_ne!(run(&mut store).data(), negated.data());
    store.param_mut(scale).value = Tensor::full(&[3], 1.0);
    let mut g = Graph::eval(&mut store);
    let x = g.input(sample(&[64, 24], 2));
    let e = layer.forward(&mut g, &x).unwrap_err().to_string();
    assert!(e.contains("state `l.weight.scale`: expected one number, [], found f32 [3]"), "{e}");
}
