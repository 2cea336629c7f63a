//! Writes the weights of a float network for `scripts/torch/run`: `state_dict FOLDER MODEL NAMES` leaves `weights.safetensors`, a
//! `state_dict` with the names of torchvision or cifar, and `samples.safetensors`, images with the logits of fixnet.

mod common;
#[path = "../tests/numbers/mod.rs"]
mod numbers;

use fixnet_autograd::{Array, Graph, Store};
use fixnet_data::BoundingBox;
use fixnet_export::torch;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{Pretrained, TensorFile};
use fixnet_nn::detection::{BoxOutput, Objects, Truth};
use fixnet_nn::models::{ModelSpec, Output, build};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
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
    common::enlarge_head(&mut store);
    for _ in 0..4 {
        // Moves the running statistics.
        let mut g = Graph::train(&mut store);
        // Networks of two stages look for it.
        g.give(Truth { objects: vec![Objects::default(); 4], images: (0..4).collect() });
        let x = g.input(inputs(4, input));
        net.forward(&mut g, &x)?;
    }
    let plan = Plan::of(&net, &mut store, &input)?;
    let arrays = torch::state_dict(&Pretrained::of(&store), &plan, names.parse()?, 4)?;
    TensorFile::save(&folder.join("weights.safetensors"), &arrays, &BTreeMap::new())?;
    // In the order N, H, W, C.
    let x = inputs(8, input);
    let logits = plan.run(x.clone())?.into_first();
    let mut arrays = vec![("images".into(), Array::F32(x)), ("logits".into(), Array::F32(logits.clone()))];
    if let Output::Boxes(boxes) = model.output() {
        arrays.extend(detections(&logits, &boxes, [input[0], input[1]], classes)?);
    }
    Ok(TensorFile::save(&folder.join("samples.safetensors"), &arrays, &BTreeMap::new())?)
}

/// What is selected of the output of a detector: the number of detections of each image, and boxes, scores and classes of all.
fn detections(
    logits: &Tensor,
    output_form: &BoxOutput,
    size: [usize; 2],
    classes: usize,
) -> Result<Vec<(String, Array)>, Box<dyn std::error::Error>> {
    let (mut counts, mut boxes, mut scores, mut labels) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let whole = BoundingBox::of_image(size);
    for output in logits.data().chunks_exact(logits.len() / logits.shape()[0]) {
        let found = output_form.detections(output, size, &whole, classes)?;
        counts.push(found.len() as f32);
        boxes.extend(found.iter().flat_map(|d| d.bbox.to_array()));
        scores.extend(found.iter().map(|d| d.score));
        labels.extend(found.iter().map(|d| d.class as f32));
    }
    let flat = |values: Vec<f32>| Tensor::from_vec(&[values.len()], values).map(Array::F32);
    let count = scores.len();
    Ok(vec![
        ("counts".into(), flat(counts)?),
        ("boxes".into(), Array::F32(Tensor::from_vec(&[count, 4], boxes)?)),
        ("scores".into(), flat(scores)?),
        ("classes".into(), flat(labels)?),
    ])
}
