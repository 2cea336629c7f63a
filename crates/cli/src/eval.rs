//! `fixnet eval`: the test accuracy of a checkpoint.

use crate::folder::checkpoint_path;
use crate::machine::Machine;
use crate::out::{note, say};
use crate::run::{Run, recipe_of};
use anyhow::{Result, ensure};
use fixnet::checkpoint::Checkpoint;
use fixnet::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, or a checkpoint
    run: PathBuf,
    /// Other data of the same shape
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    args.machine.run(|_| eval(&args))
}

fn eval(args: &Args) -> Result<ExitCode> {
    let (checkpoint, problem) = Checkpoint::open_or_previous(&checkpoint_path(&args.run))?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is evaluated, of step {}", checkpoint.step());
    }
    let mut recipe = recipe_of(&checkpoint)?;
    let name = args.data.clone().unwrap_or_else(|| recipe.data.clone());
    let mut data = recipe.resolve()?.data.load()?;
    if let Some(other) = &args.data {
        let source: Source = other.parse().map_err(|e: fixnet::data::DataError| crate::usage(e.into()))?;
        let test = source.load()?.test;
        ensure!(
            (test.shape(), test.classes) == (data.test.shape(), data.test.classes),
            "--data: expected images {:?} of {} classes, found {:?} of {}",
            data.test.shape(),
            data.test.classes,
            test.shape(),
            test.classes
        );
        data.test = test;
    }
    let result = Run::resumed(recipe, &data, &checkpoint)?.evaluate(|| false)?;
    let Some(Evaluation { loss, accuracy, count }) = result else { unreachable!("nothing stops it") };
    if args.json {
        let line = serde_json::json!({
            "checkpoint": checkpoint.path(), "step": checkpoint.step(), "data": name, "images": count, "loss": loss,
            "accuracy": accuracy,
        });
        say!("{line}");
    } else {
        say!("images    {count}");
        say!("loss      {loss:.4}");
        say!("accuracy  {:.2} %", 100.0 * accuracy);
    }
    Ok(ExitCode::SUCCESS)
}
