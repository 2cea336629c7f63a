//! Writes the weights of a float network for `scripts/torch/run`: `state_dict FOLDER MODEL NAMES` leaves `weights.safetensors`, a
//! `state_dict` with the names of torchvision or cifar, and `samples.safetensors`, images with the logits of fixnet.

#[path = "../tests/numbers/mod.rs"]
mod numbers;

use fixnet_autograd::{Array, Graph, Store};
use fixnet_export::torch;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{Pretrained, TensorFile};
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use numbers::inputs;
use std::collections::BTreeMap;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, model, names] = arguments.as_slice() else {
        return Err("expected a folder, a model and names".into());
    };
    let (folder, model): (_, ModelSpec) = (PathBuf::from(folder), model.parse()?);
    let (_, classes) = model.published();
    let input = [if classes > 10 { 64 } else { 16 }; 2];
    let input = [input[0], input[1], 3];
    let mut store = Store::seeded(3);
    let net = build(&mut store, &model, input, classes, &QuantConfig::float())?;
    for _ in 0..4 {
        // Moves the running statistics.
        let mut g = Graph::train(&mut store);
        let x = g.input(inputs(4, input));
        net.forward(&mut g, &x)?;
    }
    let plan = Plan::of(&net, &mut store, &input)?;
    let arrays = torch::state_dict(&Pretrained::of(&store), &plan, names.parse()?, 4)?;
    TensorFile::save(&folder.join("weights.safetensors"), &arrays, &BTreeMap::new())?;
    // In the order N, H, W, C.
    let x = inputs(8, input);
    let arrays = [("images".into(), Array::F32(x.clone())), ("logits".into(), Array::F32(plan.run(x)?.into_first()))];
    Ok(TensorFile::save(&folder.join("samples.safetensors"), &arrays, &BTreeMap::new())?)
}
