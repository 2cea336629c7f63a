//! What a grid came to: mean and spread over seeds, as text, CSV, JSON and curves.

use super::grid::{Cell, Grid};
use super::{Ended, Outcome};
use crate::figure::{self, Figure, Line, Panel};
use crate::folder;
use crate::history::Point;
use crate::spreadsheet::Sheet;
use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Mean and spread of some numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// The standard deviation with n - 1 below; one number has none.
    pub(crate) std: Option<f64>,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of some numbers; there is none of no numbers.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let ends = |best: fn(f64, f64) -> f64| values.iter().copied().reduce(best);
        let std = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Self { mean, std, min: ends(f64::min)?, max: ends(f64::max)? })
    }

    /// `mean ± std`, both times `unit`.
    fn text(&self, unit: f64, digits: usize) -> String {
        let mean = format!("{:.digits$}", unit * self.mean);
        self.std.map_or_else(|| mean.clone(), |std| format!("{mean} ± {:.digits$}", unit * std))
    }
}

/// A mix of the grid with all its seeds.
pub(crate) struct Row<'a> {
    columns: &'a [String],
    finished: Vec<&'a Ended>,
    failed: usize,
    total: usize,
}

/// A number of a run.
type Number = fn(&Ended) -> Option<f64>;

/// The numbers of a row: what they are called, and how they come from a run.
const NUMBERS: [(&str, Number); 4] = [
    ("test_accuracy", |run| Some(run.points.last()?.test_accuracy)),
    ("test_loss", |run| Some(run.points.last()?.test_loss)),
    ("train_loss", |run| Some(run.points.last()?.train_loss)),
    ("seconds", |run| run.seconds),
];

impl Row<'_> {
    fn spread(&self, of: Number) -> Option<Spread> {
        Spread::of(&self.finished.iter().filter_map(|run| of(run)).collect::<Vec<_>>())
    }
}

/// The rows of a grid in its order.
pub(crate) fn rows<'a>(grid: &'a Grid, outcomes: &'a [Outcome]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for (cell, outcome) in grid.cells.iter().zip(outcomes) {
        let at = rows.iter().position(|row| row.columns == cell.columns).unwrap_or_else(|| {
            rows.push(Row { columns: &cell.columns, finished: Vec::new(), failed: 0, total: 0 });
            rows.len() - 1
        });
        rows[at].total += 1;
        match outcome {
            Outcome::Finished(ended) => rows[at].finished.push(ended),
            Outcome::Failed(_) => rows[at].failed += 1,
            Outcome::Open => {}
        }
    }
    rows
}

/// What a column is called.
fn heading(key: &str) -> &str {
    if key == "name" { "recipe" } else { key }
}

/// The table as text.
pub(crate) fn text(grid: &Grid, rows: &[Row<'_>]) -> String {
    let mut lines: Vec<Vec<String>> = vec![grid.columns.iter().map(|key| heading(key).replace('_', " ")).collect()];
    lines[0].extend(["runs", "test accuracy %", "test loss", "train loss", "seconds"].map(String::from));
    for row in rows {
        let mut line = row.columns.to_vec();
        let (done, total) = (row.finished.len(), row.total);
        line.push(match (row.failed, done == total) {
            (0, true) => done.to_string(),
            (0, false) => format!("{done} of {total}"),
            (failed, _) => format!("{done} of {total}, {failed} failed"),
        });
        for ((_, of), (unit, digits)) in NUMBERS.iter().zip([(100.0, 2), (1.0, 4), (1.0, 4), (1.0, 1)]) {
            line.push(row.spread(*of).map_or("-".into(), |spread| spread.text(unit, digits)));
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
    grid.columns.iter().zip(columns).map(|(key, v)| (heading(key).to_string(), v.as_str().into())).collect()
}

/// The table as JSON.
pub(crate) fn json(grid: &Grid, rows: &[Row<'_>]) -> Value {
    let row = |row: &Row<'_>| {
        let mut object = keys(grid, row.columns);
        object.insert("runs".into(), row.finished.len().into());
        object.insert("failed".into(), row.failed.into());
        object.insert("open".into(), (row.total - row.finished.len() - row.failed).into());
        for (name, of) in NUMBERS {
            let spread = row.spread(of).map(|s| json!({ "mean": s.mean, "std": s.std, "min": s.min, "max": s.max }));
            object.insert(name.into(), spread.into());
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
pub(crate) fn runs_json(grid: &Grid, outcomes: &[Outcome], asked: usize) -> Value {
    let run = |(i, (cell, outcome)): (usize, (&Cell, &Outcome))| {
        let mut object = keys(grid, &cell.columns);
        let (state, ended, reason) = state(outcome);
        object.insert("seed".into(), cell.recipe.seed.into());
        object.insert("run".into(), json!(crate::out::text(&cell.path)));
        object.insert("asked".into(), (i < asked).into());
        object.insert("state".into(), state.into());
        object.insert("reason".into(), reason.into());
        for (name, of) in NUMBERS {
            object.insert(name.into(), ended.and_then(of).into());
        }
        let digest = ended.and_then(|h| h.digest.as_ref()).map(String::as_str);
        object.insert("digest".into(), digest.into());
        Value::Object(object)
    };
    grid.cells.iter().zip(outcomes).enumerate().map(run).collect()
}

/// Writes the table, the runs and the curves into the folder of the grid; gives their paths.
pub(crate) fn write(out: &Path, grid: &Grid, outcomes: &[Outcome], rows: &[Row<'_>]) -> Result<Vec<PathBuf>> {
    fixnet::files::create_folder(out).with_context(|| out.display().to_string())?;
    let mut files = vec![out.join("compare.csv"), out.join("runs.csv")];
    folder::write(&files[0], &table_csv(grid, rows)?)?;
    folder::write(&files[1], &runs_csv(grid, outcomes)?)?;
    let curves = curves(grid, rows);
    if !curves.is_empty() {
        files.extend(curves.write(&out.join("compare"))?);
    }
    Ok(files)
}

fn optional(v: Option<f64>) -> String {
    v.map_or_else(String::new, |v| v.to_string())
}

fn table_csv(grid: &Grid, rows: &[Row<'_>]) -> Result<Vec<u8>> {
    let mut csv = Sheet::new();
    let numbers =
        NUMBERS.iter().flat_map(|(name, _)| ["mean", "std", "min", "max"].map(|what| format!("{name}_{what}")));
    let head = grid.columns.iter().map(|key| heading(key).to_string());
    csv.row(head.chain(["runs", "failed"].map(String::from)).chain(numbers))?;
    for row in rows {
        let numbers = NUMBERS.iter().flat_map(|(_, of)| {
            let s = row.spread(*of);
            [s.map(|s| s.mean), s.and_then(|s| s.std), s.map(|s| s.min), s.map(|s| s.max)].map(optional)
        });
        let counts = [row.finished.len().to_string(), row.failed.to_string()];
        csv.row(row.columns.iter().cloned().chain(counts).chain(numbers))?;
    }
    csv.into_bytes()
}

fn runs_csv(grid: &Grid, outcomes: &[Outcome]) -> Result<Vec<u8>> {
    let mut csv = Sheet::new();
    let head = grid.columns.iter().map(|key| heading(key));
    let numbers = NUMBERS.iter().map(|(name, _)| *name);
    csv.row(head.chain(["seed", "run", "state", "reason"]).chain(numbers).chain(["digest"]))?;
    for (cell, outcome) in grid.cells.iter().zip(outcomes) {
        let (state, ended, reason) = state(outcome);
        let told = [&cell.recipe.seed.to_string(), &cell.name, state, reason.unwrap_or_default()].map(String::from);
        let numbers = NUMBERS.iter().map(|(_, of)| optional(ended.and_then(of)));
        let digest = ended.and_then(|h| h.digest.as_ref()).cloned().unwrap_or_default();
        csv.row(cell.columns.iter().cloned().chain(told).chain(numbers).chain([digest]))?;
    }
    csv.into_bytes()
}

/// Loss and accuracy over the epochs: the mean over seeds, in a band of one standard deviation.
fn curves(grid: &Grid, rows: &[Row<'_>]) -> Figure {
    let differ: Vec<usize> =
        (0..grid.columns.len()).filter(|&i| rows.iter().any(|row| row.columns[i] != rows[0].columns[i])).collect();
    let label = |row: &Row<'_>| match &differ[..] {
        [] => row.columns[0].clone(),
        some => some.iter().map(|&i| row.columns[i].as_str()).filter(|v| *v != "-").collect::<Vec<_>>().join(" "),
    };
    let panel = |title: &str, log: bool, of: fn(&Point) -> f64| {
        let lines = rows.iter().enumerate().map(|(i, row)| {
            let epochs = row.finished.iter().map(|run| run.points.len()).max().unwrap_or(0);
            let (mut points, mut band) = (Vec::new(), Vec::new());
            for k in 0..epochs {
                let at: Vec<Point> = row.finished.iter().filter_map(|run| run.points.get(k).copied()).collect();
                let Some(s) = Spread::of(&at.iter().map(of).collect::<Vec<_>>()) else { continue };
                let std = s.std.unwrap_or(0.0);
                points.push((at[0].epoch as f64, s.mean));
                // On a logarithmic axis the lower border must stay above 0.
                band.push((if log { (s.mean - std).max(s.min) } else { s.mean - std }, s.mean + std));
            }
            Line { label: label(row), color: figure::shade(i, rows.len()), points, band, ..Line::default() }
        });
        Panel { title: title.into(), x: "epoch", y: title.into(), log, lines: lines.collect(), ..Panel::default() }
    };
    Figure {
        rows: vec![vec![
            panel("train loss", true, |p| p.train_loss),
            panel("test loss", true, |p| p.test_loss),
            panel("test accuracy", false, |p| p.test_accuracy),
        ]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_by_hand() {
        // Deviations -3, -1, 1, 3: squares 20, over 3.
        let s = Spread::of(&[2.0, 4.0, 6.0, 8.0]).unwrap();
        assert_eq!((s.mean, s.std, s.min, s.max), (5.0, Some((20f64 / 3.0).sqrt()), 2.0, 8.0));
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean: 0.5, std: None, min: 0.5, max: 0.5 }));
        assert_eq!(Spread::of(&[1.0, 1.0, 1.0]).unwrap().std, Some(0.0));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(s.text(1.0, 2), "5.00 ± 2.58");
        assert_eq!(Spread::of(&[0.985]).unwrap().text(100.0, 1), "98.5");
    }
}
