//! Parts of one network used with those of another, and models that no memory holds: errors, never wrong parameters.

use fixnet_autograd::{Graph, Group, Operation, Store, ops};
use fixnet_nn::layers::{BatchNorm2d, Conv2d, Conv2dConfig, Linear};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::plan::{Operand, Plan};
use fixnet_nn::{Layer, models};
use fixnet_quant::{QuantConfig, WeightQuantizer};
use fixnet_tensor::{Budget, Tensor};
use std::sync::Arc;

#[test]
fn layers_refuse_another_store() {
    let (float, four) = (QuantConfig::float(), QuantConfig::new("4/4/4".parse().unwrap()));
    // The other store has parameters at the same places, so that a wrong one would be found.
    let build = |store: &mut Store| -> Vec<(Box<dyn Layer>, Vec<usize>)> {
        vec![
            (Box::new(Linear::quantized(store, "a", [4, 4], &float).unwrap()), vec![4]),
            (Box::new(Linear::quantized(store, "b", [4, 4], &four).unwrap()), vec![4]),
            (Box::new(Conv2d::new(store, "c", Conv2dConfig::square([4, 4], 3), &float).unwrap()), vec![4, 4, 4]),
            (Box::new(Conv2d::new(store, "d", Conv2dConfig::square([4, 4], 3), &four).unwrap()), vec![4, 4, 4]),
            (Box::new(BatchNorm2d::new(store, "e", 4).unwrap()), vec![4]),
        ]
    };
    let (mut own, mut other) = (Store::seeded(0), Store::seeded(0));
    let layers = build(&mut own);
    build(&mut other);
    for ((layer, shape), name) in layers.iter().zip(["a", "b", "c", "d", "e"]) {
        let batch = Tensor::full(&[&[2], &shape[..]].concat(), 0.5);
        for training in [false, true] {
            let run = |store: &mut Store| {
                let mut g = if training { Graph::train(store) } else { Graph::eval(store) };
                let x = g.input(batch.clone());
                layer.forward(&mut g, &x).map(drop)
            };
            run(&mut own).unwrap();
            let e = run(&mut other).unwrap_err().to_string();
            assert!(e.starts_with(&format!("layer `{name}`: the store of a parameter")), "{e}");
        }
        let e = Plan::of(&**layer, &mut other, shape).unwrap_err().to_string();
        assert!(e.starts_with(&format!("layer `{name}`: the store of a parameter")), "{e}");
    }
}

#[test]
fn a_quantizer_refuses_the_weight_of_another_store() {
    let four = QuantConfig::new("4/4/4".parse().unwrap());
    let (mut own, mut other) = (Store::seeded(0), Store::seeded(0));
    let weights =
        [&mut own, &mut other].map(|store| store.add_normal("a.weight", Group::Latent, &[2, 2], 1.0).unwrap());
    let e = WeightQuantizer::new(&mut other, "a", weights[0], &four).unwrap_err().to_string();
    assert!(e.starts_with("layer `a`: the store of a parameter"), "{e}");
    WeightQuantizer::new(&mut other, "a", weights[1], &four).unwrap();
}

/// A traced value has no numbers: elsewhere it must not pass for zeros.
#[test]
fn layers_refuse_a_value_of_another_trace() {
    let four = QuantConfig::new("4/4/4".parse().unwrap());
    let (mut store, mut other) = (Store::seeded(0), Store::seeded(0));
    let linear = Linear::quantized(&mut store, "a", [4, 4], &four).unwrap();
    let conv = Conv2d::new(&mut store, "b", Conv2dConfig::square([4, 4], 3), &four).unwrap();
    let layers: [(&dyn Layer, &[usize]); 2] = [(&linear, &[4]), (&conv, &[4, 4, 4])];
    for (layer, shape) in layers {
        let (_trace, x) = Graph::trace(&mut other, shape);
        let e = layer.forward(&mut Graph::eval(&mut store), &x).unwrap_err().to_string();
        assert!(e.contains("one of another graph's trace"), "{e}");
    }
}

#[test]
fn an_optimizer_refuses_another_store_and_what_was_of_another_shape() {
    let store = || {
        let mut store = Store::seeded(0);
        let w = store.add("w", Group::Weight, Tensor::full(&[2], 1.0)).unwrap();
        store.accumulate(w, Tensor::full(&[2], 1.0)).unwrap();
        (store, w)
    };
    let ((mut one, w), (mut other, v)) = (store(), store());
    let mut optimizer = Optimizer::new(OptimizerConfig { total_steps: 9, ..OptimizerConfig::default() }).unwrap();
    optimizer.step(&mut one).unwrap();
    let e = optimizer.step(&mut other).unwrap_err().to_string();
    assert!(e.starts_with("the store of a parameter, a layer or an optimizer"), "{e}");
    // Nothing moved, and the gradient is still there.
    assert_eq!(
        (other.param(v).value.data(), other.grad(v).unwrap().data(), other.step()),
        (&[1.0; 2][..], &[1.0; 2][..], 0)
    );
    let state = optimizer.state_dict(&one);
    optimizer.load_state_dict(&other, |name| state.iter().find(|(n, _)| n == name).map(|(_, a)| a.clone())).unwrap();
    optimizer.step(&mut other).unwrap();
    assert!(optimizer.step(&mut one).is_err());
    // Momentum of two elements for a value of three.
    let mut optimizer = Optimizer::new(OptimizerConfig { total_steps: 9, ..OptimizerConfig::default() }).unwrap();
    one.accumulate(w, Tensor::full(&[2], 1.0)).unwrap();
    optimizer.step(&mut one).unwrap();
    one.param_mut(w).value = Tensor::zeros(&[3]);
    one.accumulate(w, Tensor::zeros(&[3])).unwrap();
    let e = optimizer.step(&mut one).unwrap_err().to_string();
    assert!(e.contains("`w`") && e.contains("[2]"), "{e}");
}

#[test]
fn models_beyond_memory_are_refused_before_they_are_made() {
    for (model, input) in
        [("mlp:65536-65536", [28, 28, 1]), ("mlp:8", [usize::MAX, 2, 1]), ("lenet", [1 << 40, 1 << 40, 1])]
    {
        let mut store = Store::seeded(0);
        let built = models::build(&mut store, &model.parse().unwrap(), input, 10, &QuantConfig::float());
        let e = built.err().unwrap().to_string();
        assert!(e.contains("bytes of memory, expected at most"), "{model}: {e}");
    }
    let mut store = Store::seeded(0).within(Budget::new(1000, "take fewer"));
    let built = models::build(&mut store, &"mlp:8".parse().unwrap(), [28, 28, 1], 10, &QuantConfig::float());
    assert!(
        built
            .err()
            .unwrap()
            .to_string()
            .contains("parameter `fc1.weight`: [8, 784] of 4 bytes each claims 25088 bytes")
    );
}

#[test]
fn shapes_of_a_plan_do_not_wrap() {
    let wrapped = |input: &[usize], op: Arc<dyn Operation>| {
        let mut plan = Plan::with_input(input);
        plan.push("", op, vec![Operand::Node(0)]).unwrap_err().to_string()
    };
    let huge = usize::MAX / 2;
    for e in [
        wrapped(&[huge, 2, 3], Arc::new(ops::Flatten)),
        wrapped(&[huge, 2, 3], Arc::new(ops::Relu)),
        wrapped(&[28, 28, 1], Arc::new(ops::Subsample { stride: 1, channels: usize::MAX })),
        wrapped(&[1 << 31, 1 << 29, 4], Arc::new(ops::PixelShuffle { factor: 2 })),
    ] {
        assert!(e.contains("a value of the network: [") && e.contains("bytes of memory"), "{e}");
    }
    // 4·(6 + 6) bytes of the input and what ReLU gives, then 4·(6 + 12) with the channels of the next.
    let mut plan = Plan::with_input(&[1, 2, 3]);
    let relu = plan.push("", Arc::new(ops::Relu), vec![Operand::Node(0)]).unwrap();
    plan.push("", Arc::new(ops::Subsample { stride: 1, channels: 6 }), vec![Operand::Node(relu)]).unwrap();
    assert_eq!((plan.memory(), plan.batch(256)), (4 * 18, 256));
    let plan = Plan::with_input(&[1 << 14, 1 << 14, 1]);
    assert_eq!((plan.memory(), plan.batch(256)), (1 << 30, 4));
}
