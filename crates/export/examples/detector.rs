//! Writes a detector for `scripts/onnx/run`: `detector FOLDER FORM MODEL BITS FIRST_LAST_BITS` leaves `net.onnx`, images with the outputs of
//! fixnet, and the sizes of the files in the folder. FORM is int8, int4 or float, FIRST_LAST_BITS 2 to 8, or 32 for float.

mod common;
#[path = "../tests/numbers/mod.rs"]
mod numbers;

use fixnet_autograd::{Graph, Store};
use fixnet_nn::Layer;
use fixnet_nn::models::build;
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use numbers::inputs;
use std::path::Path;

/// Height, width and channels of the images.
const INPUT: [usize; 3] = [64, 96, 3];

fn main() -> common::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, form, model, bits, first_last] = arguments.as_slice() else {
        return Err("expected a folder, a form, a model, bits, and bits of the first and last layers".into());
    };
    let edges = Some(first_last.parse()?).filter(|bits| *bits != 32);
    let config = QuantConfig { edges, ..QuantConfig::new(bits.parse()?) };
    let mut store = Store::seeded(3);
    let net = build(&mut store, &model.parse()?, INPUT, 5, &config)?;
    common::enlarge_head(&mut store);
    for _ in 0..4 {
        // Moves the running statistics, and sets the scales of quantizers.
        let mut g = Graph::train(&mut store);
        let x = g.input(inputs(4, INPUT));
        net.forward(&mut g, &x)?;
    }
    let plan = Plan::of(&net, &mut store, &INPUT)?;
    common::write(Path::new(folder), &plan, inputs(8, INPUT), common::form(form)?)
}
