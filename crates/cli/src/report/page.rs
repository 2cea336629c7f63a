//! The page: its sections, from what was gathered. All text goes through `maud`, which escapes it.

use super::chart::{self, matrix};
use super::gather::{Evaluated, Subject};
use super::picture::address;
use crate::chart::{Chart, Ink, Line, Scale, Unit};
use crate::out::escaped;
use fixnet::plan::Summary;
use fixnet::train::run::event::{DiagnosticLayer, StepEvent, TransitionRates, score_name};
use fixnet::train::task::{self, Element, LOSS, Metric, Part, Pictures, Section, Table, joined_metrics};
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

/// What is not known.
const UNKNOWN: &str = "–";

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.into())
}

/// A whole number with its thousands apart.
fn grouped(n: impl Into<u64>) -> String {
    let digits = n.into().to_string();
    let first = digits.len() % 3;
    let mut parts = if first > 0 { vec![&digits[..first]] } else { vec![] };
    parts.extend((first..digits.len()).step_by(3).map(|i| &digits[i..i + 3]));
    parts.join(",")
}

/// A number in few digits: `40.4 k`, `1.23 M`.
fn brief(n: u64) -> String {
    let (v, unit) = match n {
        0..10_000 => return grouped(n),
        10_000..1_000_000 => (n as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "M"),
        _ => (n as f64 / 1e9, "G"),
    };
    let places = if v < 10.0 { 2 } else { usize::from(v < 100.0) };
    format!("{v:.places$} {unit}")
}

/// A time in words of its size.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), (s % 60.0).floor()),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
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
    for metric in run.metrics {
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

fn swatch(ink: Ink) -> Markup {
    html! { span.swatch.(chart::class(ink)) style=[chart::style(ink)] aria-hidden="true" {} }
}

/// The metrics of all runs, each once, the loss last.
fn metrics_of(runs: &[Subject]) -> Vec<Metric> {
    joined_metrics(runs.iter().map(|run| run.metrics))
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
    heads.extend(["train loss", "epochs", "time", "images/s", "parameters", "bytes packed"].map(String::from));
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

fn plain(title: &str, about: &str, x: &'static str, unit: Unit, lines: Vec<Line>) -> Chart {
    let (title, about) = (title.into(), about.into());
    Chart { title, about, x, unit, scale: Scale::FromZero, lines, ..Chart::default() }
}

/// Loss, accuracy and learning rate, of all runs on one another.
fn curves(runs: &[Subject]) -> Markup {
    let many = runs.len() > 1;
    let line = |i: usize, of: &str, dashed: bool, points: Vec<(f64, f64)>| {
        let run = &runs[i].name;
        let ink = match (many, of) {
            (true, _) => Ink::Run(i),
            (_, "training") => Ink::Quiet,
            _ => Ink::Main,
        };
        Line { label: if many { format!("{run}, {of}") } else { of.into() }, ink, dashed, points, ..Line::default() }
    };
    let of_epochs = |metric: &Metric| {
        let name = metric.name;
        let parts = [("training", Part::Train), ("validation", Part::Validation), ("test", Part::Test)];
        let lines = move |i: usize| {
            parts.map(|(of, part)| {
                let points = runs[i].epochs.iter().filter_map(|e| Some((e.epoch as f64, e.score(part, name)?)));
                line(i, of, of != "test", points.collect())
            })
        };
        // Of several runs two lines each are enough; the table has all.
        let shown = |l: &Line| !l.points.is_empty() && (!many || !l.label.ends_with(", validation"));
        (0..runs.len()).flat_map(lines).filter(shown).collect::<Vec<_>>()
    };
    let of_steps = |of: &str, number: fn(&StepEvent) -> f64| {
        let points = |run: &Subject| run.steps.iter().map(|step| (step.step as f64, number(step))).collect();
        (0..runs.len()).map(|i| line(i, of, false, points(&runs[i]))).collect::<Vec<_>>()
    };
    let twins = runs.iter().flat_map(|run| &run.steps).any(|step| step.rates.talr.is_some());
    let has_validation = |e: &fixnet::train::run::event::EpochEvent| e.score(Part::Validation, LOSS.name).is_some();
    let validated = !many && runs.iter().flat_map(|run| &run.epochs).any(has_validation);
    let sets = match validated {
        true => "Solid: test data. Dashed: training data; in colour: validation.",
        false => "Solid: test data. Dashed: training data.",
    };
    let mut charts =
        vec![Chart { scale: Scale::Orders, ..plain("Loss", sets, "epoch", Unit::Number, of_epochs(&LOSS)) }];
    for metric in metrics_of(runs).iter().filter(|metric| **metric != LOSS) {
        let unit = if metric.unit == task::Unit::Share { Unit::Share } else { Unit::Number };
        let title = capitalized(metric.name);
        charts.push(Chart { scale: Scale::Linear, ..plain(&title, sets, "epoch", unit, of_epochs(metric)) });
    }
    let every = "Every 50 steps.";
    charts.push(Chart {
        scale: Scale::Orders,
        ..plain("Loss of a batch", every, "step", Unit::Number, of_steps("loss", |step| step.loss))
    });
    let about = if twins { "Twins move latent weights by U instead." } else { every };
    charts.push(plain("Learning rate", about, "step", Unit::Number, of_steps("rate", |step| step.lr)));
    let entries: Vec<_> =
        if many { runs.iter().enumerate().map(|(i, r)| (Ink::Run(i), r.name.clone())).collect() } else { vec![] };
    html! {
        section {
            h2 { "Curves" }
            (legend(&entries))
            (grid(&charts))
            @if runs.iter().any(|run| !run.epochs.is_empty()) {
                details {
                    summary { "The numbers of the epochs" }
                    div.scroll tabindex="0" role="region" aria-label="Numbers of the epochs" { (epochs(runs)) }
                }
            }
        }
    }
}

fn capitalized(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn epochs(runs: &[Subject]) -> Markup {
    let mut columns: Vec<(Part, Metric)> = Vec::new();
    let mut metrics = metrics_of(runs);
    metrics.rotate_right(1);
    for part in Part::ALL {
        columns.extend(metrics.iter().map(|metric| (part, *metric)));
    }
    let lines = || runs.iter().flat_map(|run| &run.epochs);
    columns.retain(|(part, metric)| lines().any(|line| line.score(*part, metric.name).is_some()));
    html! {
        table {
            thead { tr {
                @if runs.len() > 1 { th scope="col" { "run" } }
                th.number scope="col" { "epoch" }
                th.number scope="col" { "step" }
                @for (part, metric) in &columns {
                    th.number scope="col" { (score_name(*part, metric.name).replace('_', " ")) }
                }
            } }
            tbody { @for (i, run) in runs.iter().enumerate() { @for line in &run.epochs { tr {
                @if runs.len() > 1 { td { (swatch(Ink::Run(i))) (run.name) } }
                td.number { (line.epoch) }
                td.number { (line.step) }
                @for (part, metric) in &columns {
                    td.number { (or_unknown(line.score(*part, metric.name).map(|v| metric.unit.text(v)))) }
                }
            } } } }
        }
    }
}

/// Charts side by side; those without numbers are left out.
fn grid(charts: &[Chart]) -> Markup {
    let drawn: Vec<Markup> = charts.iter().filter_map(chart::draw).collect();
    // Rows of two for what would leave one alone in a row of three.
    let even = matches!(drawn.len(), 2 | 4);
    html! { div.grid.even[even] { @for chart in drawn { (chart) } } }
}

fn legend(entries: &[(Ink, String)]) -> Markup {
    html! {
        @if !entries.is_empty() {
            ul.legend { @for (ink, text) in entries { li { (swatch(*ink)) (text) } } }
        }
    }
}

/// Lines of layers: their tones go from the first to the last.
fn layer_lines(names: &[String], points: impl Fn(&str) -> Vec<(f64, f64)>) -> Vec<Line> {
    let depth = |i: usize| if names.len() > 1 { i as f64 / (names.len() - 1) as f64 } else { 0.0 };
    let line = |(i, name): (usize, &String)| Line {
        label: name.clone(),
        ink: Ink::Depth(depth(i)),
        dashed: false,
        points: points(name),
        ..Line::default()
    };
    names.iter().enumerate().map(line).collect()
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

fn quantization(run: &Subject) -> Markup {
    let steps = &run.steps;
    let last = steps.last();
    let gammas = run.ordered(last.into_iter().flat_map(|step| step.gamma.keys()));
    let rates = run.ordered(last.into_iter().flat_map(|step| step.layer_transition_rate.keys()));
    let scopes = run.ordered(last.into_iter().flat_map(|step| step.layers.keys()));
    let over = |number: &dyn Fn(&StepEvent) -> Option<f64>| -> Vec<(f64, f64)> {
        steps.iter().filter_map(|step| Some((step.step as f64, number(step)?))).collect()
    };
    let of = |number: fn(&StepEvent) -> Option<f64>, label: &str, ink, dashed| Line {
        label: label.into(),
        ink,
        dashed,
        points: over(&number),
        ..Line::default()
    };
    let twin = steps.iter().any(|step| step.rates.talr.is_some());
    let mut model = vec![of(|step| step.rates.transition_rate, "k, this step", Ink::Quiet, false)];
    if twin {
        model.push(of(|step| step.rates.running_transition_rate, "K, running", Ink::Main, false));
        model.push(of(|step| step.rates.target_transition_rate, "R, target", Ink::Main, true));
    }
    let about = if twin {
        "Pale: k of the step. Solid: K, its running mean. Dashed: R, the target."
    } else {
        "The share of integer weights that a step changes."
    };
    let mut charts = Vec::new();
    if !gammas.is_empty() {
        let lines = layer_lines(&gammas, |name| over(&|step| step.gamma.get(name).copied()));
        charts.push(Chart {
            scale: Scale::Linear,
            ..plain("Gamma", "The clipping factor of each layer's gradients.", "step", Unit::Number, lines)
        });
    }
    if !rates.is_empty() {
        charts.push(plain("Transition rate", about, "step", Unit::Share, model));
        let lines = layer_lines(&rates, |name| over(&|step| step.layer_transition_rate.get(name).copied()));
        charts.push(plain(
            "Transition rate of each layer",
            "The share of its integer weights that a step changes.",
            "step",
            Unit::Share,
            lines,
        ));
    }
    if twin {
        let lines = vec![of(|step| step.rates.talr, "U", Ink::Main, false)];
        charts.push(plain(
            "Transition-adaptive learning rate",
            "U, the learning rate of latent weights.",
            "step",
            Unit::Number,
            lines,
        ));
        let per_layer = |number: fn(&TransitionRates) -> Option<f64>| {
            layer_lines(&scopes, |name| over(&|step| step.layers.get(name).and_then(number)))
        };
        charts.push(plain(
            "K of each layer",
            "Running transition rates, each with a target of its own.",
            "step",
            Unit::Share,
            per_layer(|t| t.running_transition_rate),
        ));
        charts.push(plain(
            "U of each layer",
            "Learning rates of latent weights.",
            "step",
            Unit::Number,
            per_layer(|t| t.talr),
        ));
    }
    let names = if gammas.is_empty() { &rates } else { &gammas };
    html! {
        @if !charts.is_empty() {
            section {
                h3 { "Quantization" }
                (legend(&depths(names)))
                (grid(&charts))
            }
        }
    }
}

/// The legend of layers.
fn depths(names: &[String]) -> Vec<(Ink, String)> {
    layer_lines(names, |_| Vec::new()).into_iter().map(|line| (line.ink, line.label)).collect()
}

fn diagnostics(run: &Subject) -> Markup {
    let lines = &run.diagnostics;
    let names = run.ordered(lines.last().into_iter().flat_map(|step| step.layers.keys()));
    let of = |number: fn(&DiagnosticLayer) -> Option<f64>| {
        layer_lines(&names, |name| {
            lines.iter().filter_map(|s| Some((s.step as f64, number(s.layers.get(name)?)?))).collect()
        })
    };
    let orders =
        |title, about, lines| Chart { scale: Scale::Orders, ..plain(title, about, "step", Unit::Number, lines) };
    let charts = [
        orders(
            "E(G)",
            "Mean error of the quantized gradients, over their maximum.",
            of(|layer| layer.gradient.as_ref()?.errors.error),
        ),
        orders(
            "E(G_L)",
            "The same over the largest gradients.",
            of(|layer| layer.gradient.as_ref()?.errors.large_error),
        ),
        orders(
            "Effective step",
            "How far quantized weights move in a step, over their scale.",
            of(|layer| layer.weight.as_ref()?.quantized_step),
        ),
        orders(
            "Step of latent weights",
            "The same of the floats behind them.",
            of(|layer| layer.weight.as_ref()?.latent_step),
        ),
        orders(
            "Distance to a transition",
            "Of latent weights, in levels.",
            of(|layer| layer.weight.as_ref()?.distance),
        ),
    ];
    html! {
        @if !lines.is_empty() {
            section {
                h3 { "Diagnostics" }
                (legend(&depths(&names)))
                (grid(&charts))
            }
        }
    }
}

/// What the task shows of the test data: a matrix and its tables on the left, images on the right; large ones below.
fn sections(e: &Evaluated) -> Markup {
    let large = |section: &Section| section.elements.iter().any(|e| matches!(e, Element::Pictures(p) if p.large));
    html! {
        @for section in &e.sections {
            section {
                h3 { (section.title) }
                div.columns[!large(section)] {
                    figure.confusion {
                        @for element in &section.elements {
                            @match element {
                                Element::Matrix(m) => {
                                    figcaption { h4 { (m.title) } p { (m.about) } }
                                    (matrix(m))
                                }
                                Element::Table(table) => { (folded(table)) }
                                _ => {}
                            }
                        }
                    }
                    div {
                        @for element in &section.elements {
                            @if let Element::Pictures(pictures) = element { (gallery(pictures)) }
                        }
                    }
                }
            }
        }
    }
}

/// A table behind its heading.
fn folded(table: &Table) -> Markup {
    html! {
        details {
            summary { (table.title) }
            div.scroll tabindex="0" role="region" aria-label=(table.title) {
                table {
                    thead { tr {
                        @for (head, number) in &table.columns { th class=[number.then_some("number")] scope="col" { (head) } }
                    } }
                    tbody { @for row in &table.rows { tr {
                        @for (i, (cell, (_, number))) in row.iter().zip(&table.columns).enumerate() {
                            @if i == 0 { th class=[number.then_some("number")] scope="row" { (cell) } } @else { td class=[number.then_some("number")] { (cell) } }
                        }
                    } } }
                }
            }
        }
    }
}

fn gallery(pictures: &Pictures) -> Markup {
    html! {
        h4 { (pictures.title) }
        @if pictures.pictures.is_empty() { p.quiet { (pictures.none) } }
        ul.samples.large[pictures.large] {
            @for p in &pictures.pictures {
                li title=(p.spoken) {
                    @if let Some(png) = address(p) {
                        img src=(png) alt=(p.spoken) width=(p.shape[1]) height=(p.shape[0]);
                    }
                    span.what { (p.caption) }
                    span.quiet { (p.detail) }
                }
            }
        }
        @if !pictures.note.is_empty() { p.quiet { (pictures.note) } }
    }
}

fn layers(run: &Subject, layers: &Summary) -> Markup {
    let last = run.steps.last();
    let gamma = |name: &str| last.and_then(|step| step.gamma.get(name));
    let rate = |name: &str| last.and_then(|step| step.layer_transition_rate.get(name));
    let shape = |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ");
    let blank_or = |n: u64| if n == 0 { String::new() } else { grouped(n) };
    let total: u64 = layers.macs();
    html! {
        section {
            h3 { "Layers" }
            div.scroll tabindex="0" role="region" aria-label="Layers" {
                table {
                    thead { tr {
                        @for head in ["layer", "kind", "output", "bits"] { th scope="col" { (head) } }
                        @for head in ["parameters", "multiply-adds", "gamma", "transition rate"] { th.number scope="col" { (head) } }
                    } }
                    tbody { @for row in &layers.rows { tr {
                        th scope="row" { (row.name) }
                        td { (row.kind) }
                        td { (shape(&row.shape)) }
                        td { (row.bits.clone().unwrap_or_default()) }
                        td.number { (blank_or(row.parameters as u64)) }
                        td.number { (blank_or(row.macs)) }
                        td.number { (gamma(&row.name).map_or(String::new(), |v| format!("{v:.3}"))) }
                        td.number { (rate(&row.name).map_or(String::new(), |v| format!("{:.3} %", 100.0 * v))) }
                    } } }
                    tfoot { tr {
                        th scope="row" colspan="4" { "All" }
                        td.number { (grouped(layers.parameters() as u64)) }
                        td.number { (grouped(total)) }
                        td colspan="2" {}
                    } }
                }
            }
            p.quiet { "Bits of weights/activations/gradients. Multiply-adds are of one sample. Gamma and transition rate are of the last logged step." }
        }
    }
}

fn provenance(run: &Subject) -> Markup {
    let state = run.state.as_ref();
    let facts = [
        ("Digest", or_unknown(state.and_then(|s| s.digest.clone()))),
        ("Checkpoint", or_unknown(state.map(|s| format!("step {}, written by fixnet {}", grouped(s.step), s.version)))),
        ("Recipe", run.config.name().to_string()),
    ];
    html! {
        section {
            h3 { "Where it comes from" }
            dl.facts { @for (name, value) in &facts { div { dt { (name) } dd { (value) } } } }
            @if !run.processes.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Processes" {
                    table {
                        thead { tr {
                            th scope="col" { "fixnet" }
                            th scope="col" { "instruction set" }
                            @for head in ["threads", "steps", "images", "images/s", "time"] { th.number scope="col" { (head) } }
                        } }
                        tbody { @for p in &run.processes { tr {
                            td { (p.fixnet) }
                            td { (p.isa) }
                            td.number { (p.threads) }
                            td.number { (grouped(p.first_step)) "–" (grouped(p.last_step)) }
                            td.number { (grouped(p.images)) }
                            td.number { (if p.training_seconds > 0.0 { grouped((p.images as f64 / p.training_seconds) as u64) } else { UNKNOWN.into() }) }
                            td.number { (duration(p.seconds)) }
                        } } }
                    }
                }
            }
            details open {
                summary { "config.toml" }
                pre { code { (run.text) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let texts: Vec<_> = [0u64, 7, 999, 1000, 87_654_321].into_iter().map(grouped).collect();
        assert_eq!(texts, ["0", "7", "999", "1,000", "87,654,321"]);
        assert_eq!(
            [9_999, 40_421, 987_654, 1_234_567, 4_100_000_000].map(brief),
            ["9,999", "40.4 k", "988 k", "1.23 M", "4.10 G"]
        );
        assert_eq!(
            [4.25, 99.0, 100.0, 3_599.0, 7_260.0].map(duration),
            ["4.2 s", "99.0 s", "1 min 40 s", "59 min 59 s", "2 h 01 min"]
        );
    }
}
