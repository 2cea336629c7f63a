//! The levels of an input follow from the value: whether it can be negative travels with it.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Group, Result, Store, Var};
use fixnet_quant::{FixedLinear, QLinear, QuantConfig};
use fixnet_tensor::Tensor;

/// Makes a value from an input of either sign.
type Make = fn(&mut Graph<'_>, &Var) -> Result<Var>;

/// The lowest level of a layer behind a value, from a graph that computes and from one that traces.
fn lowest(make: Make) -> i32 {
    let mut store = Store::seeded(1);
    let w = store.add("l.weight", Group::Latent, sample(&[3, 8], 1)).unwrap();
    let layer = QLinear::new(&mut store, "l", w, &QuantConfig::new("4/4/4".parse().unwrap())).unwrap();
    let (mut g, x) = Graph::trace(&mut store, &[8]);
    let v = make(&mut g, &x).unwrap();
    let traced = v.is_non_negative();
    let y = layer.forward(&mut g, &v).unwrap();
    let (trace, nodes) = g.finish(&[&y]).unwrap();
    let op = trace.nodes()[nodes[0]].get::<FixedLinear>().unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(sample(&[4, 8], 2));
    let v = make(&mut g, &x).unwrap();
    assert_eq!(v.is_non_negative(), traced);
    assert!(!traced || v.tensor().data().iter().all(|&v| v >= 0.0));
    op.product.input().range.min()
}

#[test]
fn values_without_negative_elements_have_levels_from_zero_on() {
    let makes: [Make; 14] = [
        |g, x| g.relu(x),
        |g, x| g.clamp(x, 0.0, 6.0),
        |g, x| g.sigmoid(x),
        |g, x| g.exp(x),
        |g, x| g.softmax(x, 1),
        |g, x| {
            let y = g.relu(x)?;
            g.scale(&y, 0.5)
        },
        |g, x| {
            let y = g.relu(x)?;
            let y = g.reshape(&y, &[x.shape()[0], 2, 2, 2])?;
            let y = g.pad2d(&y, 1, 0.5)?;
            let y = g.max_pool2d(&y, 3, 1)?;
            g.flatten(&y)
        },
        |g, x| {
            let y = g.relu(x)?;
            let y = g.reshape(&y, &[x.shape()[0], 2, 2, 2])?;
            let y = g.max_pool2d_padded(&y, 3, 1, 1)?;
            let y = g.pad2d(&y, 1, 0.0)?;
            let y = g.avg_pool2d(&y, 3, 1)?;
            g.flatten(&y)
        },
        |g, x| {
            let (y, z) = (g.relu(x)?, g.sigmoid(x)?);
            g.add(&y, &z)
        },
        |g, x| {
            let (y, z) = (g.relu(x)?, g.sigmoid(x)?);
            g.mul(&y, &z)
        },
        |g, x| {
            let y = g.relu(x)?;
            let (a, b) = (g.slice(&y, 1, 0..4)?, g.slice(&y, 1, 4..8)?);
            g.concat(&[&b, &a], 1)
        },
        |g, x| {
            let y = g.relu(x)?;
            let y = g.reshape(&y, &[x.shape()[0], 4, 2])?;
            let y = g.permute(&y, &[0, 2, 1])?;
            g.flatten(&y)
        },
        |g, x| {
            let y = g.relu(x)?;
            g.dropout(&y, "d", 0.5)
        },
        |g, x| {
            let y = g.relu(x)?;
            let y = g.gelu(&y)?;
            g.tanh(&y)
        },
    ];
    for (i, make) in makes.into_iter().enumerate() {
        assert_eq!(lowest(make), 0, "{i}");
    }
}

#[test]
fn all_other_values_have_levels_of_both_signs() {
    let makes: [Make; 8] = [
        |_, x| Ok(x.clone()),
        |g, x| g.tanh(x),
        |g, x| g.gelu(x),
        |g, x| g.leaky_relu(x, 0.1),
        |g, x| g.clamp(x, -1.0, 1.0),
        |g, x| {
            let y = g.relu(x)?;
            g.scale(&y, -1.0)
        },
        |g, x| {
            let (y, z) = (g.relu(x)?, g.sigmoid(x)?);
            g.sub(&y, &z)
        },
        |g, x| {
            let y = g.relu(x)?;
            g.add(&y, x)
        },
    ];
    for (i, make) in makes.into_iter().enumerate() {
        assert_eq!(lowest(make), -7, "{i}");
    }
}

/// A promise by hand is what the operations do not tell; where it does not hold, negative elements become 0.
#[test]
fn a_promise_gives_an_input_levels_from_zero_on() {
    let mut store = Store::seeded(1);
    let w = store.add("l.weight", Group::Latent, Tensor::full(&[1, 2], 1.0)).unwrap();
    let layer = QLinear::new(&mut store, "l", w, &QuantConfig::new("4/4/32".parse().unwrap())).unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(Tensor::from_vec(&[2, 2], vec![1.0, 2.0, -3.0, 0.0]).unwrap()).non_negative();
    let y = layer.forward(&mut g, &x).unwrap().tensor();
    assert!(y.data()[0] > 0.0 && y.data()[1] == 0.0, "{:?}", y.data());
}
