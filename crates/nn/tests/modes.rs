//! Recording, the statistics of batches and the calibration of quantizers are apart: frozen normalizations, frozen parameters,
//! and gradients through a network in evaluation.

use fixnet_autograd::check::sample;
use fixnet_autograd::ops::RunningStats;
use fixnet_autograd::{Graph, Group, Modes, ParamId, Result, Store, Var};
use fixnet_nn::Layer;
use fixnet_nn::layers::{BatchNorm2d, Conv2d, Conv2dConfig, Flatten, Linear, Relu, Sequential};
use fixnet_nn::optim::{Optimizer, OptimizerConfig, ParamGroup};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;

const INPUT: [usize; 3] = [4, 4, 2];

/// Gradients through an evaluated network: nothing else is as in training.
const GRADIENTS: Modes = Modes { record: true, ..Modes::EVAL };

fn network(store: &mut Store, bits: &str) -> Sequential {
    let q = QuantConfig::new(bits.parse().unwrap());
    Sequential::new()
        .push(Conv2d::new(store, "conv", Conv2dConfig::square([2, 4], 3), &q).unwrap())
        .push(BatchNorm2d::new(store, "bn", 4).unwrap())
        .push(Relu)
        .push(Flatten)
        .push(Linear::quantized(store, "fc", [64, 3], &q).unwrap())
}

fn pass(store: &mut Store, net: &dyn Layer, modes: Modes, x: impl FnOnce(&mut Graph<'_>) -> Var) -> Result<Tensor> {
    let mut g = Graph::with_modes(store, modes);
    let x = x(&mut g);
    let y = net.forward(&mut g, &x)?;
    let target = g.input(Tensor::zeros(y.shape()));
    let loss = g.mse_loss(&y, &target)?;
    let value = y.tensor();
    g.backward(loss)?;
    Ok(value)
}

fn batch(g: &mut Graph<'_>) -> Var {
    g.input(sample(&[5, 4, 4, 2], 3))
}

fn statistics(store: &Store) -> Vec<Vec<f32>> {
    store.states::<RunningStats>().flat_map(|(_, s)| [s.mean.data().to_vec(), s.var.data().to_vec()]).collect()
}

#[test]
fn frozen_normalizations_learn_and_keep_their_statistics() {
    for bits in ["32/32/32", "4/4/4"] {
        let mut store = Store::seeded(1);
        let net = network(&mut store, bits);
        pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
        store.zero_grad();
        let before = statistics(&store);
        let frozen = Modes { batch_statistics: false, ..Modes::TRAIN };
        let y = pass(&mut store, &net, frozen, batch).unwrap();
        assert_eq!(statistics(&store), before);
        for name in ["bn.weight", "bn.bias", "conv.weight", "fc.weight"] {
            let grad = store.grad(store.find(name).unwrap()).unwrap();
            assert!(grad.data().iter().any(|&d| d != 0.0), "{bits} {name}");
        }
        let mut g = Graph::eval(&mut store);
        let x = batch(&mut g);
        assert_eq!(net.forward(&mut g, &x).unwrap().tensor().data(), y.data(), "as evaluation computes");
    }
}

#[test]
fn gradients_pass_an_evaluated_network_and_change_none_of_its_state() {
    for bits in ["32/32/32", "4/4/4", "8/8/32"] {
        let mut store = Store::seeded(1);
        let net = network(&mut store, bits);
        let x = store.add("x", Group::Weight, sample(&[5, 4, 4, 2], 3)).unwrap();
        if bits != "32/32/32" {
            let e = pass(&mut store, &net, GRADIENTS, |g| g.param(x)).unwrap_err().to_string();
            assert!(e.starts_with("layer `conv`: scale of a quantized layer") || e.starts_with("layer `fc`"), "{e}");
        }
        pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
        store.zero_grad();
        let state = |store: &Store| format!("{:?}", store.state_dict());
        let before = state(&store);
        pass(&mut store, &net, GRADIENTS, |g| g.param(x)).unwrap();
        assert_eq!(state(&store), before);
        assert!(store.grad(x).unwrap().data().iter().any(|&d| d != 0.0), "{bits}");
    }
}

/// A plan passes the gradient of its input that the layers pass, where those are float products.
#[test]
fn gradients_pass_a_plan() {
    for bits in ["32/32/32", "8/8/32", "4/4/32"] {
        let mut store = Store::seeded(1);
        let net = network(&mut store, bits);
        pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
        store.zero_grad();
        let x = store.add("x", Group::Weight, sample(&[5, 4, 4, 2], 3)).unwrap();
        let plan = Plan::of(&net, &mut store, &INPUT).unwrap();
        pass(&mut store, &net, GRADIENTS, |g| g.param(x)).unwrap();
        let expected = store.grad(x).unwrap().clone();
        store.zero_grad();
        pass(&mut store, &plan, GRADIENTS, |g| g.param(x)).unwrap();
        let top = expected.data().iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(top > 0.0);
        for (a, b) in store.grad(x).unwrap().data().iter().zip(expected.data()) {
            assert!((a - b).abs() < 1e-4 * top, "{bits}: {a} {b}");
        }
    }
}

#[test]
fn frozen_parameters_get_no_gradient_and_stay() {
    for bits in ["32/32/32", "4/4/4"] {
        let mut store = Store::seeded(1);
        let net = network(&mut store, bits);
        let frozen: Vec<ParamId> = store
            .ids()
            .filter(|&id| store.param(id).name().starts_with("conv") || id == store.find("bn.bias").unwrap())
            .collect();
        frozen.iter().for_each(|&id| store.set_frozen(id, true));
        pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
        assert!(frozen.iter().all(|&id| store.grad(id).is_none()), "{bits}");
        for name in ["bn.weight", "fc.weight", "fc.bias"] {
            assert!(store.grad(store.find(name).unwrap()).is_some(), "{bits} {name}");
        }
        store.set_frozen(frozen[0], false);
        pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
        assert!(store.grad(frozen[0]).is_some());
    }
}

/// Fine-tuning: the optimizer leaves a group alone, and its state has nothing of it.
#[test]
fn an_optimizer_leaves_a_frozen_group_as_it_is() {
    let mut store = Store::seeded(1);
    let net = network(&mut store, "4/4/4");
    let groups = vec![ParamGroup { frozen: true, ..ParamGroup::of("conv.*") }];
    let mut optimizer = Optimizer::new(OptimizerConfig { groups, ..OptimizerConfig::default() }).unwrap();
    pass(&mut store, &net, Modes::TRAIN, batch).unwrap();
    let before: Vec<(String, Vec<f32>)> =
        store.params().iter().map(|p| (p.name().to_string(), p.value.data().to_vec())).collect();
    optimizer.step(&mut store).unwrap();
    for (p, (name, old)) in store.params().iter().zip(before) {
        assert_eq!(p.value.data() == old, name.starts_with("conv."), "{name}");
    }
    let state = optimizer.state_dict(&store);
    assert!(state.iter().any(|(name, _)| name.ends_with("fc.weight")));
    assert!(!state.iter().any(|(name, _)| name.contains("conv.")));
}
