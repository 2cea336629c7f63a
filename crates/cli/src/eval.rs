//! `fixnet eval`: the test accuracy of a checkpoint.

use crate::recipe::Recipe;
use anyhow::{Context, Result};
use fixnet::prelude::*;
use std::path::PathBuf;

/// Arguments of `fixnet eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, or a checkpoint
    run: PathBuf,
    /// Other data of the same shape
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    /// Cap the instruction set
    #[arg(long)]
    isa: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    crate::choose_isa(args.isa.as_deref())?;
    let path = if args.run.is_dir() { args.run.join("checkpoint.safetensors") } else { args.run };
    let metadata = checkpoint::read_metadata(&path)?;
    let config = metadata
        .get("config")
        .with_context(|| format!("{}: expected the recipe in its metadata, found none", path.display()))?;
    let mut recipe: Recipe = toml::from_str(config).map_err(|e| anyhow::anyhow!("{}: recipe: {e}", path.display()))?;
    let trained_on = recipe.resolve()?.data.load().map_err(fixnet::Error::from)?;
    if let Some(data) = args.data {
        recipe.data = data;
    }
    let parts = recipe.resolve()?;
    let data = parts.data.load().map_err(fixnet::Error::from)?;
    let train = &trained_on.train;
    let mut store = Store::seeded(recipe.seed);
    let input = [train.height, train.width, train.channels];
    let net =
        models::build(&mut store, &parts.model, input, train.classes, &parts.quant).map_err(fixnet::Error::from)?;
    checkpoint::load(&path, &mut store, None)?;
    let loader = Loader::new(&data.test, 256, Normalize::of(train));
    let result = metrics::evaluate(&net, &mut store, loader)?;
    if args.json {
        let line = serde_json::json!({
            "checkpoint": path, "data": recipe.data, "images": result.count, "loss": result.loss, "accuracy": result.accuracy,
        });
        println!("{line}");
    } else {
        println!("images    {}", result.count);
        println!("loss      {:.4}", result.loss);
        println!("accuracy  {:.2} %", 100.0 * result.accuracy);
    }
    Ok(())
}
