//! Clamps are part of the passes around them: the same bits as written out, and those of the ReLU where they are one.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Store};
use fixnet_nn::checkpoint;
use fixnet_nn::layers::{BatchNorm2d, Clamp, Conv2d, Conv2dConfig, Flatten, Layer, Linear, Relu, Residual, Sequential};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_quant::QuantConfig;

/// Convolutions, normalizations and a residual addition with this function between them.
fn network<L: Layer + Copy + 'static>(store: &mut Store, bits: &str, act: L) -> Sequential {
    let q = QuantConfig::new(bits.parse().unwrap());
    let mut conv = |name: &str, channels| {
        let conv = Conv2d::new(store, name, Conv2dConfig::square(channels, 3), &q).unwrap();
        Sequential::new().push(conv).push(BatchNorm2d::new(store, &format!("{name}_bn"), channels[1]).unwrap())
    };
    let block = Residual(conv("b", [8, 8]).push(act).push(conv("c", [8, 8])));
    let net =
        Sequential::new().push(conv("a", [2, 8])).push(act).push(block).push(act).push(conv("d", [8, 4])).push(act);
    net.push(Flatten).push(Linear::quantized(store, "fc", [4 * 16, 3], &q).unwrap())
}

fn digest<L: Layer + Copy + 'static>(bits: &str, act: L, eager: bool) -> String {
    let mut store = Store::seeded(2);
    let net = network(&mut store, bits, act);
    let config = OptimizerConfig { lr: 0.05, total_steps: 4, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(config).unwrap();
    for step in 0..4 {
        let g = Graph::train(&mut store);
        let mut g = if eager { g.eager() } else { g };
        let x = g.input(sample(&[6, 4, 4, 2], step));
        let y = net.forward(&mut g, &x).unwrap();
        let loss = g.cross_entropy(&y, &[0, 1, 2, 0, 1, 2]).unwrap();
        g.backward(loss).unwrap();
        optimizer.step(&mut store).unwrap();
    }
    checkpoint::digest(&store, &optimizer)
}

#[test]
fn clamps_have_the_bits_of_clamps_that_are_written_out() {
    for bits in ["4/4/4", "8/8/32", "32/32/32"] {
        let mut seen = Vec::new();
        for (low, high) in [(0.0, 0.8), (-0.4, 0.6), (-0.5, f32::INFINITY), (f32::NEG_INFINITY, 0.7)] {
            let clamp = Clamp { low, high };
            let found = digest(bits, clamp, false);
            assert_eq!(found, digest(bits, clamp, true), "{bits} {low} {high}");
            assert!(!seen.contains(&found), "{bits} {low} {high}");
            seen.push(found);
        }
    }
}

#[test]
fn a_clamp_from_zero_on_has_the_bits_of_the_relu() {
    for bits in ["4/4/4", "32/32/32"] {
        let clamp = Clamp { low: 0.0, high: f32::INFINITY };
        assert_eq!(digest(bits, clamp, false), digest(bits, Relu, false), "{bits}");
    }
}
