//! Groups of parameters, clipping, a learning rate from outside, and batches in parts.

use fixnet_autograd::{Array, Graph, Group, ParamId, Store};
use fixnet_nn::Layer;
use fixnet_nn::layers::Linear;
use fixnet_nn::optim::{Optimizer, OptimizerConfig, ParamGroup, Schedule, Sgd};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;

fn tensor(v: &[f32]) -> Tensor {
    Tensor::from_vec(&[v.len()], v.to_vec()).unwrap()
}

/// Plain gradient descent at the rate 1, without decay: a step is the gradient.
fn descent() -> OptimizerConfig {
    let rule = Sgd { momentum: 0.0, nesterov: false };
    OptimizerConfig { lr: 1.0, weight_decay: 0.0, schedule: Schedule::CONSTANT, ..rule.into() }
}

fn store() -> (Store, ParamId, ParamId) {
    let mut store = Store::seeded(0);
    let a = store.add("a.weight", Group::Weight, tensor(&[0.0, 0.0])).unwrap();
    let b = store.add("b.bias", Group::Offset, tensor(&[10.0])).unwrap();
    store.param_mut(a).grad = Some(tensor(&[3.0, 0.0]));
    store.param_mut(b).grad = Some(tensor(&[4.0]));
    (store, a, b)
}

fn values(store: &Store, id: ParamId) -> Vec<f32> {
    store.param(id).value.data().to_vec()
}

#[test]
fn patterns_match_names() {
    for (pattern, name, expected) in [
        ("a.weight", "a.weight", true),
        ("a", "a.weight", false),
        ("a.*", "a.weight", true),
        ("*.bias", "layer.0.bias", true),
        ("*", "x", true),
        ("layer*.conv*.weight", "layer1.0.conv2.weight", true),
        ("layer*.conv*.weight", "layer1.0.conv2.bias", false),
        ("a*a", "a", false),
        ("*a*a*", "banana", true),
    ] {
        assert_eq!(ParamGroup::of(pattern).matches(name), expected, "{pattern} {name}");
    }
}

#[test]
fn gradients_are_clipped_to_their_norm_together() {
    // 3, 0 and 4: the norm is 5, and half of each is left.
    let (mut s, a, b) = store();
    let mut optimizer = Optimizer::new(OptimizerConfig { clip_norm: Some(2.5), ..descent() }).unwrap();
    let report = optimizer.step(&mut s).unwrap();
    assert_eq!(report.gradient_norm, Some(5.0));
    assert_eq!((values(&s, a), values(&s, b)), (vec![-1.5, 0.0], vec![8.0]));
    // A smaller norm stays.
    let (mut s, a, _) = store();
    Optimizer::new(OptimizerConfig { clip_norm: Some(6.0), ..descent() }).unwrap().step(&mut s).unwrap();
    assert_eq!(values(&s, a), [-3.0, 0.0]);
    // Squares beyond the range of floats have a norm all the same.
    let (mut s, a, b) = store();
    s.param_mut(a).grad = Some(tensor(&[3e30, 0.0]));
    s.param_mut(b).grad = Some(tensor(&[4e30]));
    Optimizer::new(OptimizerConfig { clip_norm: Some(5.0), ..descent() }).unwrap().step(&mut s).unwrap();
    assert!((values(&s, a)[0] + 3.0).abs() < 1e-5 && (values(&s, b)[0] - 6.0).abs() < 1e-5);
}

#[test]
fn a_group_has_a_rate_a_decay_and_a_norm_of_its_own() {
    let run = |group: ParamGroup, clip_norm| {
        let (mut s, a, b) = store();
        let config = OptimizerConfig { groups: vec![group], clip_norm, ..descent() };
        Optimizer::new(config).unwrap().step(&mut s).unwrap();
        (values(&s, a)[0], values(&s, b)[0])
    };
    assert_eq!(run(ParamGroup { lr_factor: 0.5, ..ParamGroup::of("a.*") }, None), (-1.5, 6.0));
    // A bias decays where its group says so: 10 - (4 + 0.1 · 10).
    assert_eq!(run(ParamGroup { weight_decay: Some(0.1), ..ParamGroup::of("*.bias") }, None), (-3.0, 5.0));
    // The group's gradient of 4 becomes 1; the other one is clipped without it, from 3 to 1.5.
    assert_eq!(run(ParamGroup { clip_norm: Some(1.0), ..ParamGroup::of("*.bias") }, Some(1.5)), (-1.5, 9.0));
    assert_eq!(run(ParamGroup { frozen: true, ..ParamGroup::of("a.*") }, Some(2.0)), (0.0, 8.0));
}

#[test]
fn settings_of_groups_are_checked() {
    let new = |group: ParamGroup| Optimizer::new(OptimizerConfig { groups: vec![group], ..descent() });
    for odd in [
        ParamGroup { lr_factor: -1.0, ..ParamGroup::of("*") },
        ParamGroup { weight_decay: Some(f64::NAN), ..ParamGroup::of("*") },
        ParamGroup { clip_norm: Some(0.0), ..ParamGroup::of("*") },
    ] {
        assert!(new(odd).is_err());
    }
    assert!(Optimizer::new(OptimizerConfig { clip_norm: Some(-1.0), ..descent() }).is_err());
    let (mut s, ..) = store();
    let e = new(ParamGroup::of("c.*")).unwrap().step(&mut s).unwrap_err().to_string();
    assert_eq!(
        e,
        "pattern of a group: expected one that matches the name of a parameter (2: a.weight, b.bias), found `c.*`, which \
         matches none"
    );
    // It is known before the first step.
    let (s, ..) = store();
    assert_eq!(new(ParamGroup::of("c.*")).unwrap().frozen(&s).unwrap_err().to_string(), e);
    let frozen = new(ParamGroup { frozen: true, ..ParamGroup::of("*.bias") }).unwrap().frozen(&s).unwrap();
    assert_eq!(frozen, [s.find("b.bias").unwrap()]);
}

#[test]
fn a_learning_rate_from_outside_counts_until_it_is_taken_back() {
    let (mut s, a, _) = store();
    let mut optimizer = Optimizer::new(descent()).unwrap();
    optimizer.set_lr(Some(0.25)).unwrap();
    assert_eq!(optimizer.step(&mut s).unwrap().lr, 0.25);
    assert_eq!(values(&s, a), [-0.75, 0.0]);
    optimizer.set_lr(None).unwrap();
    assert_eq!(optimizer.step(&mut s).unwrap().lr, 1.0);
    assert!(optimizer.set_lr(Some(-1.0)).is_err() && optimizer.set_lr(Some(f64::NAN)).is_err());
}

/// Parts of a batch add up to the gradient of the whole, and each part draws rounding noise of its own.
#[test]
fn parts_of_a_batch_accumulate() {
    let rows = |first: usize, count: usize| -> Tensor {
        let values = (first * 8..(first + count) * 8).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.4).collect();
        Tensor::from_vec(&[count, 8], values).unwrap()
    };
    let gradient = |bits: &str, parts: &[(usize, usize)]| {
        let mut store = Store::seeded(1);
        let layer = Linear::quantized(&mut store, "fc", [8, 4], &QuantConfig::new(bits.parse().unwrap())).unwrap();
        // Scales come from the whole batch in each case.
        let mut g = Graph::train(&mut store);
        let x = g.input(rows(0, 8));
        layer.forward(&mut g, &x).unwrap();
        let mut draws = Vec::new();
        for &(first, count) in parts {
            let mut g = Graph::train(&mut store);
            let x = g.input(rows(first, count));
            let y = layer.forward(&mut g, &x).unwrap();
            let target = g.input(Tensor::zeros(y.shape()));
            let loss = g.mse_loss(&y, &target).unwrap();
            g.backward(loss).unwrap();
            draws.push(store.draws("fc"));
        }
        store.scale_grads(1.0 / parts.len() as f32);
        let grad = store.grad(store.find("fc.weight").unwrap()).unwrap().data().to_vec();
        (grad, draws)
    };
    let (whole, _) = gradient("32/32/32", &[(0, 8)]);
    let (sum, _) = gradient("32/32/32", &[(0, 2), (2, 2), (4, 2), (6, 2)]);
    assert!(whole.iter().zip(&sum).all(|(a, b)| (a - b).abs() < 1e-5));
    // The same part twice: other noise, so another gradient than that of one pass.
    let (once, _) = gradient("4/4/4", &[(0, 8)]);
    let (twice, draws) = gradient("4/4/4", &[(0, 8), (0, 8)]);
    assert_eq!(draws, [1, 2]);
    assert_ne!(once, twice);
}

/// The state of an optimizer with groups goes through a round trip.
#[test]
fn the_state_has_what_moves() {
    let (mut s, ..) = store();
    let groups = vec![ParamGroup { frozen: true, ..ParamGroup::of("a.*") }];
    let config = OptimizerConfig { groups, ..OptimizerConfig::from(Sgd { momentum: 0.9, nesterov: false }) };
    let mut optimizer = Optimizer::new(config.clone()).unwrap();
    let names = |o: &Optimizer, s: &Store| o.state_dict(s).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let fresh = names(&optimizer, &s);
    optimizer.step(&mut s).unwrap();
    assert_eq!(names(&optimizer, &s), fresh);
    let state = optimizer.state_dict(&s);
    let mut other = Optimizer::new(config).unwrap();
    let get = |name: &str| state.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone());
    other.load_state_dict(&s, get).unwrap();
    let floats = |o: &Optimizer| -> Vec<Vec<f32>> {
        let of = |a: Array| if let Array::F32(t) = a { Some(t.data().to_vec()) } else { None };
        o.state_dict(&s).into_iter().filter_map(|(_, a)| of(a)).collect()
    };
    assert_eq!(floats(&other), floats(&optimizer));
}
