//! Train a LeNet-like network in 4-bit arithmetic on the embedded digits, with a loop of your own.

use fixnet::prelude::*;

fn main() -> Result<()> {
    let data = digits()?;
    let mut store = Store::seeded(42);
    let q = QuantConfig::new("4/4/4".parse()?);
    let net = models::build(&mut store, &models::LeNet.into(), [28, 28, 1], 10, &q)?;
    let normalize = Normalize::of(&data.train);
    let mut optimizer =
        Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 2 * 94, ..OptimizerConfig::default() })?;
    for epoch in 0..2 {
        for batch in Loader::new(&data.train, 64, normalize.clone()).shuffled(store.seed(), epoch) {
            let batch = batch?;
            let mut g = Graph::train(&mut store);
            let x = g.input(batch.images);
            let logits = net.forward(&mut g, &x)?;
            let loss = g.cross_entropy(&logits, &batch.labels)?;
            g.backward(loss)?;
            optimizer.step(&mut store)?;
        }
        let test = metrics::evaluate(&net, &mut store, Loader::new(&data.test, 256, normalize.clone()))?;
        println!("epoch {epoch}: test accuracy {:.2} %", 100.0 * test.accuracy);
    }
    println!("digest {}", checkpoint::digest(&store, &optimizer));
    Ok(())
}
