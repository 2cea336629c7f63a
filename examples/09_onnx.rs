//! A small network that PyTorch has exported to ONNX, trained further at 4/4/4: its weights are the start, all layers but the
//! first and the last are quantized, and the checkpoint goes on without the file.

use fixnet::checkpoint::Checkpoint;
use fixnet::prelude::*;
use std::sync::Arc;

/// Two convolutions with batch norms and two linear layers, for images of 28 x 28.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/export/tests/fixtures/onnx/small17.onnx");

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("fixnet-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let (file, path) = (folder.join("net.onnx"), folder.join("checkpoint.safetensors"));
    std::fs::copy(FILE, &file)?;

    let (task, data) = Classification::of_split(digits()?);
    let task = Arc::new(task);
    let mut settings = Settings::default();
    settings.set("model.name", file.display().to_string().into())?;
    settings.run.epochs = 1;
    let config = settings.check()?;
    let mut session = Session::new(config.clone(), task.clone(), &data)?;
    println!("{}", session.plan()?.summary());
    for _ in 0..20 {
        session.step()?;
    }
    session.save(&path)?;
    session.train_epoch()?;
    let scores = session.evaluate(Part::Test, || false)?.ok_or("the digits have test images")?;
    println!("test accuracy {:.2} %", 100.0 * scores.get("accuracy").unwrap_or_default());

    // The graph is in the checkpoint: the file may go, and the bits stay the same.
    std::fs::remove_file(&file)?;
    let checkpoint = Checkpoint::open(&path)?;
    let mut resumed = Session::resumed(config, task, &data, &checkpoint, &mut Vec::new())?;
    resumed.train_epoch()?;
    assert_eq!(resumed.digest(), session.digest());
    println!("digest {}", resumed.digest());
    Ok(std::fs::remove_dir_all(&folder)?)
}
