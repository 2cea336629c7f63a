//! `fixnet eval`: the metrics of a checkpoint on test data.

use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::train::tested_on_whole;
use anyhow::Result;
use fixnet::checkpoint::Checkpoint;
use fixnet::train::Scores;
use fixnet::train::run::place::{config_of, existing_checkpoint_or_best};
use fixnet::train::task::{Task, all_metrics};
use fixnet::train::{Config, Packed, Trained};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, a checkpoint, or a packed network
    run: PathBuf,
    /// The checkpoint of the best epoch instead of the last one, of a run with --keep-best
    #[arg(long)]
    best: bool,
    /// Other data of the same shape and classes; their test images, or all rows of a table, are evaluated
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
    let path = existing_checkpoint_or_best(&args.run, args.best)?;
    if let Some(packed) = Packed::open(&path)? {
        let config = tested_on_whole(packed.config().clone(), args.data.as_deref())?;
        let data = packed.task().load_test(&config)?;
        let result = packed.evaluate(&*data)?;
        let of = json!({ "packed": text(&path), "data": test_source(&config) });
        return print(args, of, &**packed.task(), &result);
    }
    let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is evaluated, of step {}", checkpoint.step());
    }
    let config = config_of(&checkpoint)?;
    let mut trained = Trained::open(&config, &checkpoint)?;
    let evaluated = tested_on_whole(config, args.data.as_deref())?;
    let task = trained.task().clone();
    let data = task.load_test(&evaluated)?;
    let result = trained.evaluate(&*data)?;
    let source = test_source(&evaluated);
    let of = json!({ "checkpoint": text(checkpoint.path()), "step": checkpoint.step(), "data": source });
    print(args, of, &*task, &result)
}

/// Where the test data come from.
fn test_source(config: &Config) -> String {
    let data = config.data();
    data.test.as_ref().unwrap_or(&data.source).to_string()
}

/// Prints a result; `of` says in JSON of what it is.
fn print(args: &Args, mut of: Value, task: &dyn Task, result: &Scores) -> Result<ExitCode> {
    if args.json {
        of["images"] = json!(result.samples);
        for (name, value) in &result.values {
            of[*name] = json!(value);
        }
        if let Some(names) = task.class_names() {
            of["class_names"] = json!(names);
        }
        say!("{of}");
        return Ok(ExitCode::SUCCESS);
    }
    say!("{:<9} {}", task.noun(), result.samples);
    for metric in all_metrics(task) {
        if let Some(value) = result.get(metric.name) {
            say!("{:<9} {}", metric.name, metric.unit.text(value));
        }
    }
    Ok(ExitCode::SUCCESS)
}
