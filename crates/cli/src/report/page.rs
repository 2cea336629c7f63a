//! The page: its frame, what it says first, and the tables that compare runs. All text goes through `maud`, which escapes it.

use super::curves::{curves, diagnostics, metrics_of, quantization, swatch};
use super::gather::Subject;
use super::numbers::{UNKNOWN, brief, duration, grouped, or_unknown};
use super::sections::{layers, provenance, sections};
use crate::chart::Ink;
use crate::out::escaped;
use fixnet::train::task::{self, LOSS, Part};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The page asks for nothing from anywhere, and a browser holds it to that.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page about one run, or about several in comparison, with notes on all of them. Names in it may hold characters that
/// command a terminal, or the direction of a text; they are escaped here, at the end, wherever they came from.
pub(super) fn page(runs: &[Subject], of_all: &[String]) -> String {
    let title = match runs {
        [run] => run.name.clone(),
        _ => format!("{} runs compared", runs.len()),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("fixnet ", env!("CARGO_PKG_VERSION")));
                title { (title) " · fixnet report" }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.kicker { "fixnet report" }
                    h1 { (title) }
                    @if let [run] = runs { p.lead { (lead(run)) } }
                }
                main {
                    @if let [run] = runs { (notes(&run.notes)) (tiles(run)) } @else { (notes(of_all)) (table_of_runs(runs)) (differences(runs)) }
                    (curves(runs))
                    @for (i, run) in runs.iter().enumerate() { (about(run, i, runs.len() > 1)) }
                }
                footer { p { "Written by fixnet " (env!("CARGO_PKG_VERSION")) "." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    escaped(&page.into_string()).into_owned()
}

/// What a run is, in a line.
fn lead(run: &Subject) -> String {
    let s = run.config.settings();
    let epochs = if s.run.epochs == 1 { "epoch" } else { "epochs" };
    let (model, source, bits) = (&s.model.name, &s.data.source, s.quantization.bits);
    format!("{model} on {source} at {bits} · {} · {} {epochs} · seed {}", s.optimizer.name, s.run.epochs, s.run.seed)
}

fn notes(notes: &[String]) -> Markup {
    html! {
        @if !notes.is_empty() {
            aside.notes aria-label="Notes" { @for note in notes { p { (note) } } }
        }
    }
}

/// Parameters, and their bytes when packed.
fn parameters(run: &Subject) -> Option<(u64, u64)> {
    let layers = run.state.as_ref()?.layers.as_ref()?;
    Some((layers.parameters() as u64, layers.packed_bytes as u64))
}

fn tiles(run: &Subject) -> Markup {
    let samples = run.evaluated.as_ref().map(|e| format!("{} test samples", grouped(e.scores.samples as u64)));
    let processes = match run.processes.len() {
        0 => String::new(),
        1 => "one process".into(),
        n => format!("{n} processes"),
    };
    let packed = parameters(run).map(|(_, bytes)| format!("{} bytes packed", brief(bytes)));
    let train = run.last(Part::Train, LOSS.name).map(|v| format!("training {v:.4}"));
    let mut tiles: Vec<(String, String, String)> = Vec::new();
    for metric in &run.metrics {
        let found = run.test(metric.name);
        let below = match (metric.unit, found, &run.evaluated) {
            (task::Unit::Share, Some(v), Some(e)) => {
                let all = e.scores.samples;
                Some(format!("{} of {}", grouped((v * all as f64).round() as u64), grouped(all as u64)))
            }
            _ => samples.clone(),
        };
        let value = or_unknown(found.map(|v| metric.unit.text(v)));
        tiles.push((format!("Test {}", metric.name), value, below.unwrap_or_default()));
    }
    let loss = or_unknown(run.test(LOSS.name).map(|v| format!("{v:.4}")));
    let bits = run.config.settings().quantization.bits.to_string();
    let rate = or_unknown(run.samples_per_second().map(|v| grouped(v as u64)));
    for (name, value, below) in [
        ("Test loss", loss, train.unwrap_or_default()),
        ("Bits", bits, "weights, activations, gradients".into()),
        ("Parameters", or_unknown(parameters(run).map(|p| grouped(p.0))), packed.unwrap_or_default()),
        ("Time", or_unknown(run.seconds().map(duration)), processes),
        ("Images per second", rate, "in training".into()),
    ] {
        tiles.push((name.into(), value, below));
    }
    html! {
        dl.tiles {
            @for (name, value, below) in tiles {
                div { dt { (name) } dd.value { (value) } @if !below.is_empty() { dd { (below) } } }
            }
        }
    }
}

fn table_of_runs(runs: &[Subject]) -> Markup {
    let metrics = metrics_of(runs);
    let row = |run: &Subject| {
        let mut cells: Vec<String> =
            metrics.iter().map(|metric| or_unknown(run.test(metric.name).map(|v| metric.unit.text(v)))).collect();
        cells.extend([
            or_unknown(run.last(Part::Train, LOSS.name).map(|v| format!("{v:.4}"))),
            format!("{} / {}", run.epochs.len(), run.config.epochs()),
            or_unknown(run.seconds().map(duration)),
            or_unknown(run.samples_per_second().map(|v| grouped(v as u64))),
            or_unknown(parameters(run).map(|p| grouped(p.0))),
            or_unknown(parameters(run).map(|p| brief(p.1))),
        ]);
        cells
    };
    let mut heads: Vec<String> = metrics.iter().map(|metric| format!("test {}", metric.name)).collect();
    heads.extend(["train loss", "epochs", "time", "samples/s", "parameters", "bytes packed"].map(String::from));
    html! {
        section {
            h2 { "Runs" }
            div.scroll tabindex="0" role="region" aria-label="Runs" {
                table {
                    thead { tr {
                        th scope="col" { "run" }
                        th scope="col" { "bits" }
                        @for head in heads { th.number scope="col" { (head) } }
                    } }
                    tbody {
                        @for (i, run) in runs.iter().enumerate() {
                            tr {
                                th scope="row" { (swatch(Ink::Run(i))) a href=(format!("#run-{}", i + 1)) { (run.name) } }
                                td { (run.config.settings().quantization.bits) }
                                @for cell in row(run) { td.number { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The settings in which runs differ.
fn differences(runs: &[Subject]) -> Markup {
    let tables: Vec<_> = runs.iter().map(|run| run.config.settings().values()).collect();
    let mut keys: Vec<&String> = tables.iter().flat_map(|t| t.keys()).collect();
    keys.sort();
    keys.dedup();
    // What has no influence on the result is no difference.
    keys.retain(|key| *key != "run.tensorboard");
    keys.retain(|key| tables.windows(2).any(|pair| pair[0].get(key.as_str()) != pair[1].get(key.as_str())));
    let value = |table: &std::collections::BTreeMap<String, toml::Value>, key: &str| match table.get(key) {
        Some(toml::Value::String(text)) => text.clone(),
        // Short: 1e-8.
        Some(toml::Value::Float(v)) => format!("{v:?}"),
        Some(other) => other.to_string(),
        None => UNKNOWN.into(),
    };
    html! {
        section {
            h2 { "Settings that differ" }
            @if keys.is_empty() { p { "None." } } @else {
                div.scroll tabindex="0" role="region" aria-label="Settings that differ" {
                    table {
                        thead { tr {
                            th scope="col" { "key" }
                            @for (i, run) in runs.iter().enumerate() { th scope="col" { (swatch(Ink::Run(i))) (run.name) } }
                        } }
                        tbody { @for key in keys { tr {
                            th scope="row" { code { (key) } }
                            @for table in &tables { td { (value(table, key)) } }
                        } } }
                    }
                }
            }
        }
    }
}

/// What belongs to one run alone. Of several runs each has its own part.
fn about(run: &Subject, index: usize, many: bool) -> Markup {
    let id = |name: &str| if many { format!("{name}-{}", index + 1) } else { name.to_string() };
    html! {
        @if many {
            h2.run id=(id("run")) { (swatch(Ink::Run(index))) (run.name) }
            p.lead { (lead(run)) }
            (notes(&run.notes))
        }
        (quantization(run))
        (diagnostics(run))
        @if let Some(e) = &run.evaluated { (sections(e)) }
        @if let Some(all) = run.state.as_ref().and_then(|state| state.layers.as_ref()) { (layers(run, all)) }
        (provenance(run))
    }
}
