//! `fixnet verify`: replays a recorded run and compares the digests of its state, on this machine or another.

use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::train::moved;
use anyhow::{Result, ensure};
use fixnet::checkpoint::Checkpoint;
use fixnet::train::run::place;
use fixnet::train::{Session, task};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet verify`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run
    run: PathBuf,
    /// Replay no more than this many steps (default: all that were recorded)
    #[arg(long)]
    steps: Option<u64>,
    /// The same data in another place
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A digest that the replay is held to.
struct Expected {
    step: u64,
    digest: String,
    source: &'static str,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    args.machine.run(|_| verify(&args))
}

fn verify(args: &Args) -> Result<ExitCode> {
    let checkpoint = place::existing_checkpoint(&args.run)?;
    let checkpoint = Checkpoint::open(&checkpoint)?;
    // An edited recipe is no other run to replay.
    let config = moved(place::config_to_resume(&args.run, &checkpoint, None)?, args.data.as_deref())?;
    let (task, data) = task::load(&config)?;
    let recorded = place::digests(&args.run)?;
    if recorded.is_empty() {
        note!("note: {}: no recorded digests, so only checkpoints are compared", args.run.display());
    }
    let recorded = recorded.into_iter().map(|e| Expected { step: e.step, digest: e.digest, source: "digests.jsonl" });
    let mut expected: Vec<Expected> = recorded.collect();
    let mut notes = Vec::new();
    let saved = Session::resumed(config.clone(), task.clone(), &*data, &checkpoint, &mut notes)?;
    notes.iter().for_each(|line| note!("{line}"));
    expected.push(Expected { step: checkpoint.step(), digest: saved.digest(), source: "checkpoint.safetensors" });
    let best = place::best_path(&args.run);
    if config.settings().run.keep_best.is_some() && saved.progress().best.is_some() {
        ensure!(best.exists(), "{}: expected the best checkpoint that the run kept, found none", best.display());
    }
    drop((saved, checkpoint));
    if best.exists() {
        let best = Checkpoint::open(&best)?;
        let saved = Session::resumed(config.clone(), task.clone(), &*data, &best, &mut Vec::new())?;
        expected.push(Expected { step: best.step(), digest: saved.digest(), source: "best.safetensors" });
    }
    expected.retain(|e| args.steps.is_none_or(|most| e.step <= most));
    expected.sort_by_key(|e| e.step);
    ensure!(!expected.is_empty(), "{}: expected recorded digests, found none", args.run.display());

    let mut run = match config.starts_from_weights() {
        // The weights that it started from are kept with it.
        true => {
            let start = Checkpoint::open(&place::start_path(&args.run))?;
            Session::resumed(config, task, &*data, &start, &mut Vec::new())?
        }
        false => Session::new(config, task, &*data)?,
    };
    let mut equal = 0;
    let mut last = None;
    for e in &expected {
        while run.store().step() < e.step && !run.is_finished() {
            if run.step()?.is_none() {
                run.next_epoch()?;
            }
        }
        let found = if run.store().step() == e.step { run.digest() } else { "the end of the run".into() };
        if found != e.digest {
            return differs(args, e, &found, last);
        }
        (equal, last) = (equal + 1, Some(e.step));
    }
    let steps = last.unwrap_or(0);
    if args.json {
        say!(
            "{}",
            json!({ "run": text(&args.run), "equal": true, "digests": equal, "steps": steps, "difference": null })
        );
    } else {
        let digests = if equal == 1 { "digest" } else { "digests" };
        say!("equal: {equal} {digests}, the last one of step {steps}");
    }
    Ok(ExitCode::SUCCESS)
}

fn differs(args: &Args, e: &Expected, found: &str, equal_until: Option<u64>) -> Result<ExitCode> {
    if args.json {
        let difference = json!({ "step": e.step, "source": e.source, "recorded": e.digest, "replayed": found });
        say!(
            "{}",
            json!({ "run": text(&args.run), "equal": false, "equal_until_step": equal_until, "difference": difference })
        );
    } else {
        say!("first difference at step {} ({})", e.step, e.source);
        say!("recorded  {}", e.digest);
        say!("replayed  {found}");
        match equal_until {
            Some(step) => say!("equal until step {step}"),
            None => say!("other from the beginning: another model, seed or version of fixnet"),
        }
    }
    Ok(ExitCode::FAILURE)
}
