//! `fixnet report`: one HTML page about one run or several, which needs nothing but itself.
//!
//! `gather` reads what there is to know of a run, `chart` draws lines and matrices as SVG, `curves` and
//! `sections` make its parts, `page` puts them together. What is drawn is there without the script, which only tells the numbers under the pointer.

mod chart;
mod curves;
mod gather;
mod numbers;
mod page;
mod picture;
mod sections;

use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::outputs;
use crate::usage;
use anyhow::{Context, Result};
use fixnet::train::compare::{Recorded, notes_on_data};
use fixnet::train::run::{self, place};
use gather::Subject;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `fixnet report`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of runs; several are compared
    #[arg(required = true, value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Show the checkpoints of the best epochs instead of the last ones, of runs with --keep-best
    #[arg(long)]
    best: bool,
    /// Where to write the page (default: report.html, of one run in its folder)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The same data in another place
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    /// Write over a file that fixnet did not write
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    args.machine.run(|_| report(args))
}

fn report(args: &Args) -> Result<ExitCode> {
    if let Some(data) = &args.data {
        data.parse::<fixnet::data::Source>().map_err(|e| usage(e.into()))?;
    }
    let out = match (&args.out, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => place::report_path(run),
        (None, _) => PathBuf::from("report.html"),
    };
    let Written { bytes, notes } = write(&args.runs, &out, args.data.as_deref(), args.best, args.force)?;
    if args.json {
        say!("{}", json!({ "report": text(&out), "bytes": bytes, "runs": args.runs.len(), "notes": notes }));
    } else {
        notes.iter().for_each(|text| note!("note: {text}"));
        say!("{}", out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// A page that was written.
pub(crate) struct Written {
    bytes: usize,
    /// What is not in it.
    pub(crate) notes: Vec<String>,
}

/// Writes the page about `runs` to `out`, with their data in the place that `data` names.
///
/// # Errors
/// A run cannot be read, or the file cannot be written; or, without `force`, fixnet did not write what is there.
pub(crate) fn write(runs: &[PathBuf], out: &Path, data: Option<&str>, best: bool, force: bool) -> Result<Written> {
    outputs::check(&[out], &[], Some(place::REPORT))?;
    outputs::check_replaced(&[out], force)?;
    let subjects = runs.iter().map(|run| Subject::read(run, data, best)).collect::<Result<Vec<_>>>()?;
    let named = subjects.iter().zip(runs);
    let recorded: Vec<_> = named.filter_map(|(s, path)| Recorded::of_run(&s.name, &s.config, path)).collect();
    let of_all = notes_on_data(&recorded);
    let page = page::page(&subjects, &of_all);
    run::write(out, page.as_bytes()).context("report")?;
    let of_one = subjects.iter().flat_map(|s| s.notes.iter().map(|n| format!("{}: {n}", s.name)));
    let notes = of_one.chain(of_all).collect();
    Ok(Written { bytes: page.len(), notes })
}
