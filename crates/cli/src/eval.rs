//! `fixnet eval`: the test accuracy of a checkpoint.

use crate::export::Packed;
use crate::folder::existing_checkpoint;
use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::run::{Run, recipe_of};
use anyhow::{Result, ensure};
use fixnet::checkpoint::Checkpoint;
use fixnet::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, a checkpoint, or a packed network
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
    let path = existing_checkpoint(&args.run)?;
    if let Some(mut packed) = Packed::open(&path)? {
        let name = args.data.clone().unwrap_or_else(|| packed.recipe.data.clone());
        let mut data = packed.recipe.resolve()?.data;
        if let Some(other) = &args.data {
            data.source = other.parse().map_err(|e: fixnet::data::DataError| crate::usage(e.into()))?;
        }
        let test = data.load()?.test;
        let (shape, classes) = packed.expects();
        ensure_same(&test, shape, classes)?;
        let result = packed.evaluate(&test)?;
        return print(args, json!({ "packed": text(&path), "data": name }), &result);
    }
    let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is evaluated, of step {}", checkpoint.step());
    }
    let mut recipe = recipe_of(&checkpoint)?;
    let name = args.data.clone().unwrap_or_else(|| recipe.data.clone());
    let mut config = recipe.resolve()?.data;
    let mut data = config.load()?;
    if let Some(other) = &args.data {
        config.source = other.parse().map_err(|e: fixnet::data::DataError| crate::usage(e.into()))?;
        let test = config.load()?.test;
        ensure_same(&test, &data.test.shape(), data.test.classes)?;
        data.test = test;
    }
    let result = Run::resumed(recipe, &data, &checkpoint)?.evaluate(|| false)?;
    let Some(result) = result else { unreachable!("nothing stops it") };
    print(args, json!({ "checkpoint": text(checkpoint.path()), "step": checkpoint.step(), "data": name }), &result)
}

/// That other data are what the network was made for.
fn ensure_same(test: &Dataset, shape: &[usize], classes: usize) -> Result<()> {
    ensure!(
        (&test.shape()[..], test.classes) == (shape, classes),
        "--data: expected images {shape:?} of {classes} classes, found {:?} of {}",
        test.shape(),
        test.classes
    );
    Ok(())
}

/// Prints a result; `of` says in JSON of what it is.
fn print(args: &Args, mut of: Value, result: &Evaluation) -> Result<ExitCode> {
    let Evaluation { loss, accuracy, count } = result;
    if args.json {
        of["images"] = json!(count);
        of["loss"] = json!(loss);
        of["accuracy"] = json!(accuracy);
        say!("{of}");
    } else {
        say!("images    {count}");
        say!("loss      {loss:.4}");
        say!("accuracy  {:.2} %", 100.0 * accuracy);
    }
    Ok(ExitCode::SUCCESS)
}
