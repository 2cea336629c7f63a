//! The same bits everywhere: a few training steps on every instruction set of this machine, with one, two and three threads.
//! All runs end with one digest; another seed ends with another.

use fixnet::kernel::{available_isas, set_isa};
use fixnet::prelude::*;
use std::collections::BTreeSet;

/// The digest of all state (weights, momentum, statistics, clipping factors) after three steps.
fn digest(data: &Split, seed: u64) -> Result<String> {
    let mut store = Store::seeded(seed);
    let q = QuantConfig::new("4/4/4".parse()?);
    let net = models::build(&mut store, &models::LeNet.into(), data.train.shape(), data.train.classes(), &q)?;
    let mut optimizer = Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 3, ..OptimizerConfig::default() })?;
    let augment = Augment { rotation: 10.0, shift: 0.1, mixup: 0.2, ..Augment::default() };
    let batches = Loader::new(&data.train, 16, Normalize::of(&data.train)).shuffled(seed, 0);
    for batch in batches.augmented(augment, seed, 0).take(3) {
        let batch = batch?;
        let mut g = Graph::train(&mut store);
        let x = g.input(batch.images.clone());
        let logits = net.forward(&mut g, &x)?;
        let loss = metrics::loss(&mut g, &logits, &batch)?;
        g.backward(loss)?;
        optimizer.step(&mut store)?;
    }
    Ok(checkpoint::digest(&store, &optimizer))
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let data = digits()?;
    let mut digests = BTreeSet::new();
    for &isa in available_isas() {
        set_isa(isa)?;
        for threads in 1..=3 {
            // The library's work runs on the rayon pool that it is called from.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            let found = pool.install(|| digest(&data, 1))?;
            println!("{:<12} {threads} threads  {}", isa.to_string(), &found[..16]);
            digests.insert(found);
        }
    }
    assert_eq!(digests.len(), 1, "one digest everywhere");
    let other = digest(&data, 2)?;
    println!("seed 2                  {}", &other[..16]);
    assert!(!digests.contains(&other));
    Ok(())
}
