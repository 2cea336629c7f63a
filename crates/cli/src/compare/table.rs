//! What a grid came to, as text, CSV, JSON and curves.

use crate::chart::figure::Figure;
use crate::chart::{Chart, Ink, Line, Scale};
use crate::spreadsheet::Sheet;
use anyhow::{Context, Result};
use fixnet::train::compare::grid::{Cell, Grid, heading};
use fixnet::train::compare::{Outcome, Row, Spread};
use fixnet::train::run::event::{EpochEvent, score_name};
use fixnet::train::run::{self, Ended};
use fixnet::train::task::{LOSS, Metric, Part, Unit};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A number of a run.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    /// What it is called.
    name: String,
    /// The metric over a part of the data; the seconds of the run if there is none.
    of: Option<(Part, Metric)>,
}

impl Number {
    fn of(&self, run: &Ended) -> Option<f64> {
        match self.of {
            Some((part, metric)) => run.epochs.last()?.score(part, metric.name),
            None => run.seconds,
        }
    }

    /// What the column is called in text, and what its numbers are multiplied by and how many digits they have.
    fn shown(&self) -> (String, f64, usize) {
        let name = self.name.replace('_', " ");
        match self.of.map(|(_, metric)| metric.unit) {
            Some(Unit::Share) => (format!("{name} %"), 100.0, 2),
            Some(Unit::Decibel) => (format!("{name} dB"), 1.0, 2),
            Some(_) => (name, 1.0, 4),
            None => (name, 1.0, 1),
        }
    }
}

/// The numbers of a row: the metrics over test data, the loss over training data, and the time.
pub(crate) fn numbers(metrics: &[Metric]) -> Vec<Number> {
    let of = |part, metric: Metric| Number { name: score_name(part, metric.name), of: Some((part, metric)) };
    let mut all: Vec<Number> = metrics.iter().map(|metric| of(Part::Test, *metric)).collect();
    all.push(of(Part::Train, LOSS));
    all.push(Number { name: "seconds".into(), of: None });
    all
}

/// The table as text.
pub(crate) fn text(grid: &Grid, rows: &[Row<'_>], numbers: &[Number]) -> String {
    let mut lines: Vec<Vec<String>> = vec![grid.columns.iter().map(|key| heading(key).replace('_', " ")).collect()];
    lines[0].push("runs".into());
    lines[0].extend(numbers.iter().map(|number| number.shown().0));
    for row in rows {
        let mut line = row.columns.to_vec();
        let (done, total) = (row.finished.len(), row.total);
        line.push(match (row.failed, done == total) {
            (0, true) => done.to_string(),
            (0, false) => format!("{done} of {total}"),
            (failed, _) => format!("{done} of {total}, {failed} failed"),
        });
        for number in numbers {
            let (_, unit, digits) = number.shown();
            let spread = row.spread(|run| number.of(run));
            line.push(spread.map_or("-".into(), |spread| spread.text(unit, digits)));
        }
        lines.push(line);
    }
    let widths: Vec<usize> =
        (0..lines[0].len()).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i < grid.columns.len() {
            true => format!("{cell:<width$}"),
            false => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The columns of a cell or a row by their names.
fn keys(grid: &Grid, columns: &[String]) -> Map<String, Value> {
    grid.columns.iter().zip(columns).map(|(key, v)| (heading(key), v.as_str().into())).collect()
}

/// The table as JSON.
pub(crate) fn json(grid: &Grid, rows: &[Row<'_>], numbers: &[Number]) -> Value {
    let row = |row: &Row<'_>| {
        let mut object = keys(grid, row.columns);
        object.insert("runs".into(), row.finished.len().into());
        object.insert("failed".into(), row.failed.into());
        object.insert("open".into(), (row.total - row.finished.len() - row.failed).into());
        for number in numbers {
            let spread = row.spread(|run| number.of(run));
            let spread = spread.map(|s| json!({ "mean": s.mean, "std": s.std, "min": s.min, "max": s.max }));
            object.insert(number.name.clone(), spread.into());
        }
        Value::Object(object)
    };
    rows.iter().map(row).collect()
}

/// What is told of a single run besides its numbers.
fn state(outcome: &Outcome) -> (&'static str, Option<&Ended>, Option<&str>) {
    match outcome {
        Outcome::Finished(ended) => ("finished", Some(ended), None),
        Outcome::Failed(reason) => ("failed", None, Some(reason)),
        Outcome::Open => ("open", None, None),
    }
}

/// Every run as JSON; those from the `asked`-th on are of other commands on the same folder.
pub(crate) fn runs_json(grid: &Grid, outcomes: &[Outcome], asked: usize, numbers: &[Number]) -> Value {
    let run = |(i, (cell, outcome)): (usize, (&Cell, &Outcome))| {
        let mut object = keys(grid, &cell.columns);
        let (state, ended, reason) = state(outcome);
        object.insert("seed".into(), cell.config.seed().into());
        object.insert("run".into(), json!(crate::out::text(&cell.path)));
        object.insert("asked".into(), (i < asked).into());
        object.insert("state".into(), state.into());
        object.insert("reason".into(), reason.into());
        for number in numbers {
            object.insert(number.name.clone(), ended.and_then(|run| number.of(run)).into());
        }
        let digest = ended.and_then(|h| h.digest.as_ref()).map(String::as_str);
        object.insert("digest".into(), digest.into());
        Value::Object(object)
    };
    grid.cells.iter().zip(outcomes).enumerate().map(run).collect()
}

/// Writes the table, the runs and the curves into the folder of the grid; gives their paths. Curves that cannot be drawn are a
/// warning: the numbers are what the runs were trained for.
pub(crate) fn write(
    out: &Path,
    grid: &Grid,
    outcomes: &[Outcome],
    rows: &[Row<'_>],
    numbers: &[Number],
    warnings: &mut Vec<String>,
) -> Result<Vec<PathBuf>> {
    fixnet::files::create_folder(out).with_context(|| out.display().to_string())?;
    let mut files = vec![out.join("compare.csv"), out.join("runs.csv")];
    run::write(&files[0], &table_csv(grid, rows, numbers)?)?;
    run::write(&files[1], &runs_csv(grid, outcomes, numbers)?)?;
    let curves = curves(grid, rows, numbers);
    if !curves.is_empty() {
        match curves.write(&out.join("compare")) {
            Ok(paths) => files.extend(paths),
            Err(e) => warnings.push(format!("the curves are not drawn: {}", crate::message(&e))),
        }
    }
    Ok(files)
}

fn optional(v: Option<f64>) -> String {
    v.map_or_else(String::new, |v| v.to_string())
}

fn table_csv(grid: &Grid, rows: &[Row<'_>], all: &[Number]) -> Result<Vec<u8>> {
    let mut csv = Sheet::new();
    let numbers =
        all.iter().flat_map(|number| ["mean", "std", "min", "max"].map(|what| format!("{}_{what}", number.name)));
    let head = grid.columns.iter().map(|key| heading(key));
    csv.row(head.chain(["runs", "failed"].map(String::from)).chain(numbers))?;
    for row in rows {
        let numbers = all.iter().flat_map(|number| {
            let s = row.spread(|run| number.of(run));
            [s.map(|s| s.mean), s.and_then(|s| s.std), s.map(|s| s.min), s.map(|s| s.max)].map(optional)
        });
        let counts = [row.finished.len().to_string(), row.failed.to_string()];
        csv.row(row.columns.iter().cloned().chain(counts).chain(numbers))?;
    }
    csv.into_bytes()
}

fn runs_csv(grid: &Grid, outcomes: &[Outcome], all: &[Number]) -> Result<Vec<u8>> {
    let mut csv = Sheet::new();
    let head = grid.columns.iter().map(|key| heading(key));
    let numbers = all.iter().map(|number| number.name.clone());
    let told = ["seed", "run", "state", "reason"].map(String::from);
    csv.row(head.chain(told).chain(numbers).chain(["digest".to_string()]))?;
    for (cell, outcome) in grid.cells.iter().zip(outcomes) {
        let (state, ended, reason) = state(outcome);
        let told = [&cell.config.seed().to_string(), &cell.name, state, reason.unwrap_or_default()].map(String::from);
        let numbers = all.iter().map(|number| optional(ended.and_then(|run| number.of(run))));
        let digest = ended.and_then(|h| h.digest.as_ref()).cloned().unwrap_or_default();
        csv.row(cell.columns.iter().cloned().chain(told).chain(numbers).chain([digest]))?;
    }
    csv.into_bytes()
}

/// Loss and accuracy over the epochs: the mean over seeds, in a band of one standard deviation.
fn curves(grid: &Grid, rows: &[Row<'_>], numbers: &[Number]) -> Figure {
    let differ: Vec<usize> =
        (0..grid.columns.len()).filter(|&i| rows.iter().any(|row| row.columns[i] != rows[0].columns[i])).collect();
    let label = |row: &Row<'_>| match &differ[..] {
        [] => row.columns[0].clone(),
        some => some.iter().map(|&i| row.columns[i].as_str()).filter(|v| *v != "-").collect::<Vec<_>>().join(" "),
    };
    let panel = |title: &str, log: bool, part: Part, metric: &str| {
        let of = |epoch: &EpochEvent| epoch.score(part, metric);
        let lines = rows.iter().enumerate().map(|(i, row)| {
            let epochs = row.finished.iter().map(|run| run.epochs.len()).max().unwrap_or(0);
            let (mut points, mut band) = (Vec::new(), Vec::new());
            for k in 0..epochs {
                let at: Vec<&EpochEvent> = row.finished.iter().filter_map(|run| run.epochs.get(k)).collect();
                let Some(s) = Spread::of(&at.iter().filter_map(|epoch| of(epoch)).collect::<Vec<_>>()) else {
                    continue;
                };
                let std = s.std.unwrap_or(0.0);
                points.push((at[0].epoch as f64, s.mean));
                // On a logarithmic axis the lower border must stay above 0.
                band.push((if log { (s.mean - std).max(s.min) } else { s.mean - std }, s.mean + std));
            }
            Line { label: label(row), ink: Ink::of(i, rows.len()), points, band, ..Line::default() }
        });
        let scale = if log { Scale::Log } else { Scale::Linear };
        Chart { title: title.into(), x: "epoch", y: title.into(), scale, lines: lines.collect(), ..Chart::default() }
    };
    let mut panels =
        vec![panel("train loss", true, Part::Train, LOSS.name), panel("test loss", true, Part::Test, LOSS.name)];
    let others = numbers.iter().filter_map(|number| number.of).filter(|(_, metric)| *metric != LOSS);
    panels.extend(
        others.map(|(part, metric)| panel(&score_name(part, metric.name).replace('_', " "), false, part, metric.name)),
    );
    Figure { rows: vec![panels] }
}
