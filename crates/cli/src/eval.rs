//! `fixnet eval`: the test accuracy of a checkpoint.

use crate::export::Packed;
use crate::folder::existing_checkpoint;
use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::run::recipe_of;
use crate::trained::{Trained, test_images};
use anyhow::Result;
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
    /// Other data of the same shape and classes; their test images are evaluated
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
        packed.recipe.move_data(args.data.as_deref())?;
        let test = test_images(&packed.recipe, packed.description())?;
        let result = packed.evaluate(&test)?;
        return print(args, json!({ "packed": text(&path), "data": packed.recipe.data }), &test, &result);
    }
    let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is evaluated, of step {}", checkpoint.step());
    }
    let recipe = recipe_of(&checkpoint)?;
    let mut evaluated = recipe.clone();
    evaluated.move_data(args.data.as_deref())?;
    let mut trained = Trained::open(&recipe, &checkpoint)?;
    let test = test_images(&evaluated, trained.description())?;
    let result = trained.evaluate(&test)?;
    let of = json!({ "checkpoint": text(checkpoint.path()), "step": checkpoint.step(), "data": evaluated.data });
    print(args, of, &test, &result)
}

/// Prints a result; `of` says in JSON of what it is.
fn print(args: &Args, mut of: Value, test: &Dataset, result: &Evaluation) -> Result<ExitCode> {
    let Evaluation { loss, accuracy, count } = result;
    if args.json {
        of["images"] = json!(count);
        of["loss"] = json!(loss);
        of["accuracy"] = json!(accuracy);
        of["class_names"] = json!(test.class_names());
        say!("{of}");
    } else {
        say!("images    {count}");
        say!("loss      {loss:.4}");
        say!("accuracy  {:.2} %", 100.0 * accuracy);
    }
    Ok(ExitCode::SUCCESS)
}
