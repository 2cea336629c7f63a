//! Data of your own: any bytes in N, H, W, C order with labels become a data set, here rings and crosses drawn on the fly. A
//! part is set apart for validation, and training images are varied.
//!
//! Image folders, NumPy arrays, MNIST's and CIFAR's files need no code: `DataConfig` with `"folder:PATH".parse()?` loads them.

use fixnet::prelude::*;
use fixnet::tensor::rng::{Stream, domain};

const SIZE: usize = 16;

/// A ring (0) or a cross (1) at a place that depends on the index alone, so the set is the same on every machine.
fn draw(index: u32) -> (Vec<u8>, u16) {
    let mut words = [0u16; 4];
    Stream::new(1, domain::DATA, index, 0).fill_u16(0, &mut words);
    let [x, y, radius, label] = words.map(i32::from);
    let (x, y, radius) = (5 + x % 6, 5 + y % 6, 3 + radius % 2);
    let pixel = |i: i32, j: i32| {
        let (dx, dy) = (j - x, i - y);
        let ring = (dx * dx + dy * dy - radius * radius).abs() <= radius;
        let cross = dx.abs() == dy.abs() && dx.abs() <= radius;
        if [ring, cross][label as usize % 2] { 255 } else { 0 }
    };
    let image = (0..SIZE as i32).flat_map(|i| (0..SIZE as i32).map(move |j| pixel(i, j))).collect();
    (image, label as u16 % 2)
}

fn dataset(name: &str, indices: std::ops::Range<u32>) -> Result<Dataset> {
    let (images, labels): (Vec<_>, Vec<_>) = indices.map(draw).unzip();
    Ok(Dataset::new(name, [SIZE, SIZE, 1], 2, images.concat(), labels)?)
}

fn main() -> Result<()> {
    let data = Split::new(dataset("train", 0..640)?, dataset("test", 640..896)?)?.with_validation(0.2, 3)?;
    let mut store = Store::seeded(3);
    let q = QuantConfig::new("2/2/4".parse()?);
    let net = models::build(&mut store, &models::LeNet.into(), data.train.shape(), data.train.classes(), &q)?;
    let normalize = Normalize::of(&data.train);
    let mut optimizer =
        Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 4 * 16, ..OptimizerConfig::default() })?;
    let augment = Augment { flip: true, rotation: 10.0, mixup: 0.1, ..Augment::default() };
    for epoch in 0..4 {
        let batches = Loader::new(&data.train, 32, normalize.clone()).shuffled(store.seed(), epoch);
        for batch in batches.augmented(augment, store.seed(), epoch) {
            let batch = batch?;
            let mut g = Graph::train(&mut store);
            let x = g.input(batch.images.clone());
            let logits = net.forward(&mut g, &x)?;
            // Mixed images have shares of classes instead of labels.
            let loss = metrics::loss(&mut g, &logits, &batch)?;
            g.backward(loss)?;
            optimizer.step(&mut store)?;
        }
        let mut accuracy = |set| -> Result<f64> {
            let batches = Loader::new(set, 256, normalize.clone());
            Ok(100.0 * metrics::evaluate(&net, &mut store, batches)?.accuracy)
        };
        if let Some(validation) = &data.validation {
            println!("epoch {epoch}: validation accuracy {:.2} %", accuracy(validation)?);
        }
        if epoch == 3 {
            println!("test accuracy {:.2} %", accuracy(&data.test)?);
        }
    }
    Ok(())
}
