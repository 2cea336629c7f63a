//! A run that stops and goes on: 2-bit weights with transition-rate scheduling (AdamT), a checkpoint in the middle, and a new
//! model that goes on from it and ends with the same bits. Then the numbers by their names.

use fixnet::checkpoint::{Checkpoint, Progress};
use fixnet::prelude::*;
use std::collections::BTreeMap;

const STEPS: u64 = 80;

/// A model and its optimizer at their beginning, as every process that works on this run makes them.
fn begin(data: &Split) -> Result<(Store, Sequential, Optimizer)> {
    let mut store = Store::seeded(5);
    let q = QuantConfig::new("2/2/4".parse()?);
    let net = models::build(&mut store, &"mlp:64-64".parse()?, data.train.shape(), data.train.classes(), &q)?;
    // A short run: the running transition rate forgets faster than by default.
    let transition = Some(TransitionConfig { momentum: 0.9, ..TransitionConfig::default() });
    let config = OptimizerConfig { total_steps: STEPS, transition, .."adamt".parse()? };
    Ok((store, net, Optimizer::new(config)?))
}

/// Takes the steps up to `end` of the first epoch.
fn train(data: &Split, store: &mut Store, net: &Sequential, optimizer: &mut Optimizer, end: u64) -> Result<()> {
    let loader = Loader::new(&data.train, 64, Normalize::of(&data.train)).shuffled(store.seed(), 0);
    let (done, left) = (store.step() as usize, (end - store.step()) as usize);
    for batch in loader.skip_batches(done).take(left) {
        let batch = batch?;
        let mut g = Graph::train(store);
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x)?;
        let loss = g.cross_entropy(&logits, &batch.labels)?;
        g.backward(loss)?;
        let report = optimizer.step(store)?;
        if let (0, Some(t)) = (store.step() % 20, report.transition) {
            // K_t is the running share of integer weights that change in a step. U_t, how far latent weights move, rises
            // while K_t is below its target R_t, and falls while it is above.
            println!("step {:2}: R {:.5}, K {:.5}, U {:.6}", store.step(), t.target, t.running, t.talr);
        }
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let folder = std::env::temp_dir().join(format!("fixnet-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("checkpoint.safetensors");

    let (mut store, net, mut optimizer) = begin(&data)?;
    train(&data, &mut store, &net, &mut optimizer, STEPS / 2)?;
    let progress = Progress { batches: STEPS / 2, ..Progress::default() };
    checkpoint::save(&path, &store, &optimizer, &progress, &BTreeMap::new())?;
    train(&data, &mut store, &net, &mut optimizer, STEPS)?;
    let digest = checkpoint::digest(&store, &optimizer);

    println!("again from the checkpoint");
    let (mut store, net, mut optimizer) = begin(&data)?;
    Checkpoint::open(&path)?.restore(&mut store, Some(&mut optimizer))?;
    train(&data, &mut store, &net, &mut optimizer, STEPS)?;
    assert_eq!(checkpoint::digest(&store, &optimizer), digest);
    println!("digest {digest}, both times");

    // The state dict has every number by its name; a parameter can be read and written by it.
    println!("{} arrays, {} of them parameters", store.state_dict().len(), store.params().len());
    let bias = store.value("classifier.bias")?.clone();
    let test = || Loader::new(&data.test, 256, Normalize::of(&data.train));
    let before = metrics::evaluate(&net, &mut store, test())?.accuracy;
    store.set_value("classifier.bias", Tensor::zeros(bias.shape()))?;
    let without = metrics::evaluate(&net, &mut store, test())?.accuracy;
    println!("test accuracy {:.2} %, without the last bias {:.2} %", 100.0 * before, 100.0 * without);
    Ok(std::fs::remove_dir_all(&folder)?)
}
