//! A run that stops and goes on: 2-bit weights with transition-rate scheduling (AdamT), a checkpoint in the middle, and a new
//! session that goes on from it and ends with the same bits. Then the numbers by their names.

use fixnet::checkpoint::Checkpoint;
use fixnet::prelude::*;
use std::sync::Arc;

/// The recipe, as every process that works on this run has it.
const RECIPE: &str = r#"
    name = "two bits"
    [model]
    name = "mlp:64-64"
    [quantization]
    bits = "2/2/4"
    [optimizer]
    name = "adamt"
    [run]
    epochs = 1
    seed = 5
"#;

/// Takes steps up to `end`, or to the end of the epoch.
fn train(session: &mut Session<'_>, end: u64) -> Result<()> {
    while session.store().step() < end {
        let Some(step) = session.step()? else { break };
        if let (0, Some(t)) = (session.store().step() % 20, step.report.transition) {
            // K_t is the running share of integer weights that change in a step. U_t, the rate at which latent weights move,
            // rises over the learning rate while K_t is below its target R_t.
            println!("step {:2}: R {:.5}, K {:.5}, U {:.6}", session.store().step(), t.target, t.running, t.talr);
        }
    }
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (task, data) = Classification::of_split(digits()?);
    let (task, config) = (Arc::new(task), Config::from_toml(RECIPE, "the recipe")?);
    let folder = std::env::temp_dir().join(format!("fixnet-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("checkpoint.safetensors");

    let mut session = Session::new(config.clone(), task.clone(), &data)?;
    train(&mut session, 40)?;
    session.save(&path)?;
    train(&mut session, u64::MAX)?;
    let digest = session.digest();

    println!("again from the checkpoint");
    let mut session = Session::resumed(config, task, &data, &Checkpoint::open(&path)?, &mut Vec::new())?;
    train(&mut session, u64::MAX)?;
    assert_eq!(session.digest(), digest);
    println!("digest {digest}, both times");

    // The state dict has every number by its name; a parameter can be read and written by it.
    let accuracy = |session: &mut Session<'_>| -> Result<f64> {
        let scores = session.evaluate(Part::Test, || false)?;
        Ok(100.0 * scores.and_then(|scores| scores.get("accuracy")).unwrap_or_default())
    };
    let before = accuracy(&mut session)?;
    let (_, store, _) = session.parts();
    println!("{} arrays, {} of them parameters", store.state_dict().len(), store.params().len());
    let zeros = Tensor::zeros(store.value("classifier.bias")?.shape());
    store.set_value("classifier.bias", zeros)?;
    println!("test accuracy {before:.2} %, without the last bias {:.2} %", accuracy(&mut session)?);
    Ok(std::fs::remove_dir_all(&folder)?)
}
