//! A network that leaves fixnet: its table, an ONNX file for other runtimes, and a file with weights packed to their bits,
//! which computes the same bits as the layers did.

use fixnet::export::{onnx, packed};
use fixnet::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (task, data) = Classification::of_split(digits()?);
    let mut settings = Settings::default();
    (settings.quantization.first_last_bits, settings.run.epochs) = (8, 1);
    let mut session = Session::new(settings.check()?, Arc::new(task), &data)?;
    session.train_epoch()?;

    // The plan is traced: the list of operations with their numbers, the normalization of the input and the names of the classes.
    let plan = session.plan()?;
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
    let ours = session.evaluate(Part::Test, || false)?.ok_or("the digits have test images")?;
    let test = digits()?.test;
    let raw = Loader::new(&test, 256, Normalize::none(1));
    let theirs = metrics::evaluate(&read, &mut Store::seeded(0), raw)?;
    let accuracy = ours.get("accuracy").unwrap_or_default();
    println!("test accuracy {:.2} %, packed {:.2} %", 100.0 * accuracy, 100.0 * theirs.accuracy);
    assert_eq!(ours.get("loss").map(f64::to_bits), Some(theirs.loss.to_bits()));
    Ok(std::fs::remove_dir_all(&folder)?)
}
