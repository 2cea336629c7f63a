//! Gradients against finite differences, exact sums against floats, frozen statistics.

use super::*;
use crate::check::{gradient_error, sample};
use crate::{Group, Modes};
use fixnet_tensor::Sums;

fn layer(store: &mut Store, c: usize) -> BatchNorm {
    BatchNorm {
        weight: store.add("weight", Group::Offset, sample(&[c], 8)).unwrap(),
        bias: store.add("bias", Group::Offset, sample(&[c], 9)).unwrap(),
        stats: store.add_state("stats", RunningStats::new(c)).unwrap(),
        eps: 1e-5,
        momentum: 0.1,
    }
}

#[test]
fn gradients_match_finite_differences() {
    let error = gradient_error(&[sample(&[6, 3], 1), sample(&[3], 2), sample(&[3], 3)], 0.01, |g, v| {
        let ids: Vec<_> = g.store().ids().collect();
        let name = format!("stats{}", g.store().states::<RunningStats>().count());
        let stats = g.store_mut().add_state(&name, RunningStats::new(3))?;
        g.batch_norm(&v[0], &BatchNorm { weight: ids[1], bias: ids[2], stats, eps: 1e-5, momentum: 0.1 })
    });
    assert!(error.unwrap() < 5e-3);
}

/// With running statistics the gradient is that of an affine map; factor and offset learn, the statistics stay.
#[test]
fn a_frozen_normalization_has_gradients_and_keeps_its_statistics() {
    let modes = Modes { batch_statistics: false, ..Modes::TRAIN };
    let x = sample(&[5, 2], 1);
    let mut store = Store::seeded(0);
    let bn = layer(&mut store, 2);
    let id = store.add("x", Group::Weight, x.clone()).unwrap();
    store.state_mut(bn.stats).mean = sample(&[2], 3);
    store.state_mut(bn.stats).var = Tensor::from_vec(&[2], vec![0.5, 2.0]).unwrap();
    let before = store.state(bn.stats).clone();
    let mut g = Graph::with_modes(&mut store, modes);
    let v = g.param(id);
    let y = g.batch_norm(&v, &bn).unwrap();
    let found = y.tensor();
    let target = g.input(Tensor::zeros(&[5, 2]));
    let loss = g.mse_loss(&y, &target).unwrap();
    g.backward(loss).unwrap();
    // The derivative of the loss, by hand: 2 y / 10 for each element.
    for k in 0..2 {
        let inv = 1.0 / (before.var.data()[k] + 1e-5).sqrt();
        let dy = |i: usize| found.data()[2 * i + k] / 5.0;
        let hat = |i: usize| (x.data()[2 * i + k] - before.mean.data()[k]) * inv;
        let weight = store.param(bn.weight).value.data()[k];
        for i in 0..5 {
            approx::assert_relative_eq!(
                store.grad(id).unwrap().data()[2 * i + k],
                dy(i) * weight * inv,
                epsilon = 1e-6
            );
        }
        let (dw, db) = ((0..5).map(|i| dy(i) * hat(i)).sum::<f32>(), (0..5).map(dy).sum::<f32>());
        approx::assert_relative_eq!(store.grad(bn.weight).unwrap().data()[k], dw, epsilon = 1e-6);
        approx::assert_relative_eq!(store.grad(bn.bias).unwrap().data()[k], db, epsilon = 1e-6);
    }
    let after = store.state(bn.stats);
    assert_eq!((after.mean.data(), after.var.data()), (before.mean.data(), before.var.data()));
    // Evaluation gives the same numbers.
    let mut g = Graph::eval(&mut store);
    let v = g.input(x);
    assert_eq!(g.batch_norm(&v, &bn).unwrap().tensor().data(), found.data());
}

#[test]
fn sums_and_floats_agree_and_running_statistics_move() {
    let integers: Vec<i32> = (0..24).map(|i| (i * 37) % 101 - 50).collect();
    let sums = Sums::new(&[2, 2, 2, 3], 0.125, integers.into()).unwrap();
    agree(sums.clone(), 0.125);
    agree(sums.with_columns(&[1.0, 2.0, 0.5]).unwrap(), 0.125);
}

fn agree(sums: Sums, first_unit: f32) {
    let run = |value: Value| {
        let mut store = Store::seeded(0);
        let bn = layer(&mut store, 3);
        let x = store.add("x", Group::Weight, sums.to_tensor()).unwrap();
        let mut g = Graph::train(&mut store);
        let input = g.record_value(value, vec![Source::Param(x)], || Identity);
        let y = g.batch_norm(&input, &bn).unwrap();
        let target = g.input(Tensor::full(y.shape(), 0.3));
        let loss = g.mse_loss(&y, &target).unwrap();
        g.backward(loss).unwrap();
        let stats = store.state(bn.stats).clone();
        (y.tensor(), store.grad(x).unwrap().clone(), store.grad(bn.weight).unwrap().clone(), stats)
    };
    let (y, dx, dw, stats) = run(Value::Sums(sums.clone()));
    let (y2, dx2, dw2, stats2) = run(Value::Float(sums.to_tensor()));
    for (a, b) in [(&y, &y2), (&dx, &dx2), (&dw, &dw2), (&stats.mean, &stats2.mean), (&stats.var, &stats2.var)] {
        for (a, b) in a.data().iter().zip(b.data()) {
            approx::assert_relative_eq!(a, b, epsilon = 1e-5, max_relative = 1e-4);
        }
    }
    // Running mean: a tenth of the batch's.
    let mean: f32 = (0..8).map(|i| sums.to_vec()[3 * i] as f32 * first_unit).sum::<f32>() / 8.0;
    approx::assert_relative_eq!(stats.mean.data()[0], 0.1 * mean, epsilon = 1e-6);
}

struct Identity;
impl Backward for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }
    fn backward(self: Box<Self>, grad: Tensor, _: &mut Cx<'_>) -> Result<Grads> {
        Ok(vec![Some(grad)])
    }
}
use crate::Source;
