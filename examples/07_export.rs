//! A network that leaves fixnet: its table, an ONNX file for other runtimes, and a file with weights packed to their bits,
//! which computes the same bits as the layers did.

use fixnet::export::{onnx, packed};
use fixnet::prelude::*;
use std::collections::BTreeMap;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let mut store = Store::seeded(42);
    let q = QuantConfig { edges: Some(8), ..QuantConfig::new("4/4/4".parse()?) };
    let net = models::build(&mut store, &models::LeNet.into(), data.train.shape(), data.train.classes(), &q)?;
    let normalize = Normalize::of(&data.train);
    let mut optimizer = Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 94, ..OptimizerConfig::default() })?;
    for batch in Loader::new(&data.train, 64, normalize.clone()).shuffled(store.seed(), 0) {
        let batch = batch?;
        let mut g = Graph::train(&mut store);
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x)?;
        let loss = g.cross_entropy(&logits, &batch.labels)?;
        g.backward(loss)?;
        optimizer.step(&mut store)?;
    }

    // The plan is traced: the list of operations with their numbers.
    let plan = Plan::of(&net, &mut store, data.train.shape())?.normalized(normalize.clone());
    let plan = plan.with_class_names(data.train.class_names().to_vec());
    println!("{}", plan.summary());

    let folder = std::env::temp_dir().join(format!("fixnet-export-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    // Input `image`, float [batch, 1, 28, 28] from 0 to 1; output `output`, the logits.
    let bytes = onnx::save(&folder.join("digits.onnx"), &plan, &onnx::Options::default())?;
    println!("digits.onnx         {bytes} bytes");
    let path = folder.join("digits.safetensors");
    packed::save(&path, &plan, &BTreeMap::new())?;
    println!("digits.safetensors  {} bytes", std::fs::metadata(&path)?.len());

    // Read back without building a model: the plan is a layer. It has the normalization, so it takes pixels from 0 to 1.
    let (read, _) = packed::load(&path)?;
    let ours = metrics::evaluate(&net, &mut store, Loader::new(&data.test, 256, normalize))?;
    let raw = Loader::new(&data.test, 256, Normalize::none(1));
    let theirs = metrics::evaluate(&read, &mut Store::seeded(0), raw)?;
    println!("test accuracy {:.2} %, packed {:.2} %", 100.0 * ours.accuracy, 100.0 * theirs.accuracy);
    assert_eq!(ours.loss.to_bits(), theirs.loss.to_bits());
    Ok(std::fs::remove_dir_all(&folder)?)
}
