//! The page: its sections, from what was gathered. All text goes through `maud`, which escapes it.

use super::chart::{Chart, Ink, Line, Unit, matrix};
use super::gather::{Evaluated, Sample, Subject};
use fixnet::prelude::Summary;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// The page asks for nothing from anywhere, and a browser holds it to that.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The page about one run, or about several in comparison.
pub(super) fn page(runs: &[Subject]) -> String {
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
                    @if let [run] = runs { (notes(run)) (tiles(run)) } @else { (table_of_runs(runs)) (differences(runs)) }
                    (curves(runs))
                    @for (i, run) in runs.iter().enumerate() { (about(run, i, runs.len() > 1)) }
                }
                footer { p { "Written by fixnet " (env!("CARGO_PKG_VERSION")) "." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// What a run is, in a line.
fn lead(run: &Subject) -> String {
    let r = &run.recipe;
    let epochs = if r.epochs == 1 { "epoch" } else { "epochs" };
    format!("{} on {} at {} · {} · {} {epochs} · seed {}", r.model, r.data, r.bits, r.optimizer, r.epochs, r.seed)
}

fn notes(run: &Subject) -> Markup {
    html! {
        @if !run.notes.is_empty() {
            aside.notes aria-label="Notes" { @for note in &run.notes { p { (note) } } }
        }
    }
}

/// What is not known.
const UNKNOWN: &str = "–";

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.into())
}

fn share(v: f64) -> String {
    format!("{:.2} %", 100.0 * v)
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
    let (accuracy, loss) = run.test();
    let of = run.evaluated.as_ref().map(|e| format!("{} of {}", grouped(e.right as u64), grouped(e.count as u64)));
    let processes = match run.processes.len() {
        0 => String::new(),
        1 => "one process".into(),
        n => format!("{n} processes"),
    };
    let packed = parameters(run).map(|(_, bytes)| format!("{} bytes packed", brief(bytes)));
    let train = run.last("train_loss").map(|v| format!("training {v:.4}"));
    let tiles = [
        ("Test accuracy", or_unknown(accuracy.map(share)), of.unwrap_or_default()),
        ("Test loss", or_unknown(loss.map(|v| format!("{v:.4}"))), train.unwrap_or_default()),
        ("Bits", run.recipe.bits.clone(), "weights, activations, gradients".into()),
        ("Parameters", or_unknown(parameters(run).map(|p| grouped(p.0))), packed.unwrap_or_default()),
        ("Time", or_unknown(run.seconds().map(duration)), processes),
        ("Images a second", or_unknown(run.images_per_second().map(|v| grouped(v as u64))), "in training".into()),
    ];
    html! {
        dl.tiles {
            @for (name, value, below) in tiles {
                div { dt { (name) } dd.value { (value) } @if !below.is_empty() { dd { (below) } } }
            }
        }
    }
}

fn swatch(ink: Ink) -> Markup {
    html! { span.swatch.(ink.class()) style=[ink.style()] aria-hidden="true" {} }
}

fn table_of_runs(runs: &[Subject]) -> Markup {
    let row = |run: &Subject| {
        let (accuracy, loss) = run.test();
        [
            or_unknown(accuracy.map(share)),
            or_unknown(loss.map(|v| format!("{v:.4}"))),
            or_unknown(run.last("train_loss").map(|v| format!("{v:.4}"))),
            format!("{} / {}", run.epochs.len(), run.recipe.epochs),
            or_unknown(run.seconds().map(duration)),
            or_unknown(run.images_per_second().map(|v| grouped(v as u64))),
            or_unknown(parameters(run).map(|p| grouped(p.0))),
            or_unknown(parameters(run).map(|p| brief(p.1))),
        ]
    };
    let heads =
        ["test accuracy", "test loss", "train loss", "epochs", "time", "images/s", "parameters", "bytes packed"];
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
                                td { (run.recipe.bits) }
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
    let tables: Vec<toml::Table> = runs.iter().map(|run| run.config.parse().unwrap_or_default()).collect();
    let mut keys: Vec<&String> = tables.iter().flat_map(|t| t.keys()).collect();
    keys.sort();
    keys.dedup();
    // What has no influence on the result is no difference.
    keys.retain(|key| *key != "tensorboard");
    keys.retain(|key| tables.windows(2).any(|pair| pair[0].get(*key) != pair[1].get(*key)));
    let value = |table: &toml::Table, key: &str| match table.get(key) {
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

/// The points of a number over the lines of a log.
fn points(lines: &[Value], x: &str, number: impl Fn(&Value) -> Option<f64>) -> Vec<(f64, f64)> {
    lines.iter().filter_map(|line| Some((line[x].as_f64()?, number(line)?))).collect()
}

fn chart(title: &str, about: &str, x: &'static str, unit: Unit, lines: Vec<Line>) -> Chart {
    let (title, about) = (title.into(), about.into());
    Chart { title, about, x, unit, from_zero: true, orders: false, lines }
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
        Line { label: if many { format!("{run}, {of}") } else { of.into() }, ink, dashed, points }
    };
    let of_epochs = |key: &'static str| {
        let sets = [("training", "train_"), ("validation", "validation_"), ("test", "test_")];
        let lines = move |i: usize| {
            sets.map(|(of, set)| {
                let key = format!("{set}{key}");
                line(i, of, of != "test", points(&runs[i].epochs, "epoch", |l| l[&key].as_f64()))
            })
        };
        // Of several runs two lines each are enough; the table has all.
        let shown = |l: &Line| !l.points.is_empty() && (!many || !l.label.ends_with(", validation"));
        (0..runs.len()).flat_map(lines).filter(shown).collect::<Vec<_>>()
    };
    let of_steps = |key: &'static str, of: &str| {
        let lines = (0..runs.len()).map(|i| line(i, of, false, points(&runs[i].steps, "step", |l| l[key].as_f64())));
        lines.collect::<Vec<_>>()
    };
    let twins = runs.iter().flat_map(|run| &run.steps).any(|line| line["talr"].is_number());
    let validated = !many && runs.iter().flat_map(|run| &run.epochs).any(|line| line["validation_loss"].is_number());
    let sets = match validated {
        true => "Solid: test images. Dashed: training images; in colour: validation.",
        false => "Solid: test images. Dashed: training images.",
    };
    let charts = [
        Chart { orders: true, ..chart("Loss", sets, "epoch", Unit::Number, of_epochs("loss")) },
        Chart { from_zero: false, ..chart("Accuracy", sets, "epoch", Unit::Share, of_epochs("accuracy")) },
        Chart {
            orders: true,
            ..chart("Loss of a batch", "Every 50 steps.", "step", Unit::Number, of_steps("loss", "loss"))
        },
        chart(
            "Learning rate",
            if twins { "Twins move latent weights by U instead." } else { "Every 50 steps." },
            "step",
            Unit::Number,
            of_steps("lr", "rate"),
        ),
    ];
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

fn epochs(runs: &[Subject]) -> Markup {
    let columns = [
        ("train_loss", "train loss", Unit::Number),
        ("train_accuracy", "train accuracy", Unit::Share),
        ("validation_loss", "validation loss", Unit::Number),
        ("validation_accuracy", "validation accuracy", Unit::Share),
        ("test_loss", "test loss", Unit::Number),
        ("test_accuracy", "test accuracy", Unit::Share),
    ];
    let lines = || runs.iter().flat_map(|run| &run.epochs);
    let columns: Vec<_> = columns.into_iter().filter(|(key, ..)| lines().any(|line| !line[*key].is_null())).collect();
    let cell = |line: &Value, key: &str, unit| {
        let text = |v| if unit == Unit::Share { share(v) } else { format!("{v:.4}") };
        or_unknown(line[key].as_f64().map(text))
    };
    html! {
        table {
            thead { tr {
                @if runs.len() > 1 { th scope="col" { "run" } }
                th.number scope="col" { "epoch" }
                th.number scope="col" { "step" }
                @for (_, name, _) in &columns { th.number scope="col" { (name) } }
            } }
            tbody { @for (i, run) in runs.iter().enumerate() { @for line in &run.epochs { tr {
                @if runs.len() > 1 { td { (swatch(Ink::Run(i))) (run.name) } }
                td.number { (line["epoch"]) }
                td.number { (line["step"]) }
                @for &(key, _, unit) in &columns { td.number { (cell(line, key, unit)) } }
            } } } }
        }
    }
}

/// Charts side by side; those without numbers are left out.
fn grid(charts: &[Chart]) -> Markup {
    let drawn: Vec<Markup> = charts.iter().filter_map(Chart::draw).collect();
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
fn layer_lines(names: &[String], lines: &[Value], number: impl Fn(&Value, &str) -> Option<f64>) -> Vec<Line> {
    let depth = |i: usize| if names.len() > 1 { i as f64 / (names.len() - 1) as f64 } else { 0.0 };
    let line = |(i, name): (usize, &String)| Line {
        label: name.clone(),
        ink: Ink::Depth(depth(i)),
        dashed: false,
        points: points(lines, "step", |line| number(line, name)),
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
            (notes(run))
        }
        (quantization(run))
        (diagnostics(run))
        @if let Some(e) = &run.evaluated { (test(e)) }
        @if let Some(all) = run.state.as_ref().and_then(|state| state.layers.as_ref()) { (layers(run, all)) }
        (provenance(run))
    }
}

fn quantization(run: &Subject) -> Markup {
    let steps = &run.steps;
    let gammas = run.layers(steps, "gamma");
    let rates = run.layers(steps, "layer_transition_rate");
    let scopes = run.layers(steps, "layers");
    let of = |key: &'static str, label: &str, ink, dashed| Line {
        label: label.into(),
        ink,
        dashed,
        points: points(steps, "step", |line| line[key].as_f64()),
    };
    let twin = steps.iter().any(|line| line["talr"].is_number());
    let mut model = vec![of("transition_rate", "k, this step", Ink::Quiet, false)];
    if twin {
        model.push(of("running_transition_rate", "K, running", Ink::Main, false));
        model.push(of("target_transition_rate", "R, target", Ink::Main, true));
    }
    let about = if twin {
        "Pale: k of the step. Solid: K, its running mean. Dashed: R, the target."
    } else {
        "The share of integer weights that a step changes."
    };
    let mut charts = Vec::new();
    if !gammas.is_empty() {
        let lines = layer_lines(&gammas, steps, |line, name| line["gamma"][name].as_f64());
        charts.push(Chart {
            from_zero: false,
            ..chart("Gamma", "The clipping factor of each layer's gradients.", "step", Unit::Number, lines)
        });
    }
    if !rates.is_empty() {
        charts.push(chart("Transition rate", about, "step", Unit::Share, model));
        let lines = layer_lines(&rates, steps, |line, name| line["layer_transition_rate"][name].as_f64());
        charts.push(chart(
            "Transition rate of each layer",
            "The share of its integer weights that a step changes.",
            "step",
            Unit::Share,
            lines,
        ));
    }
    if twin {
        let lines = vec![of("talr", "U", Ink::Main, false)];
        charts.push(chart(
            "Transition-adaptive learning rate",
            "U, the learning rate of latent weights.",
            "step",
            Unit::Number,
            lines,
        ));
        let per_layer =
            |key: &'static str| layer_lines(&scopes, steps, move |line, name| line["layers"][name][key].as_f64());
        charts.push(chart(
            "K of each layer",
            "Running transition rates, each with a target of its own.",
            "step",
            Unit::Share,
            per_layer("running_transition_rate"),
        ));
        charts.push(chart(
            "U of each layer",
            "Learning rates of latent weights.",
            "step",
            Unit::Number,
            per_layer("talr"),
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
    layer_lines(names, &[], |_, _| None).into_iter().map(|line| (line.ink, line.label)).collect()
}

fn diagnostics(run: &Subject) -> Markup {
    let lines = &run.diagnostics;
    let names = run.layers(lines, "layers");
    let of = |part: &'static str, key: &'static str| {
        layer_lines(&names, lines, move |line, name| line["layers"][name][part][key].as_f64())
    };
    let orders = |title, about, lines| Chart { orders: true, ..chart(title, about, "step", Unit::Number, lines) };
    let charts = [
        orders("E(G)", "Mean error of the quantized gradients, over their maximum.", of("gradient", "error")),
        orders("E(G_L)", "The same over the largest gradients.", of("gradient", "large_error")),
        orders(
            "Effective step",
            "How far quantized weights move in a step, over their scale.",
            of("weight", "quantized_step"),
        ),
        orders("Step of latent weights", "The same of the floats behind them.", of("weight", "latent_step")),
        orders("Distance to a transition", "Of latent weights, in levels.", of("weight", "distance")),
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

fn test(e: &Evaluated) -> Markup {
    let n = e.confusion.classes();
    // Of classes that are called by their numbers these are enough.
    let named = e.class_names.iter().enumerate().any(|(class, name)| *name != class.to_string());
    let or_none = |v: Option<f64>| or_unknown(v.map(share));
    html! {
        section {
            h3 { "Test images" }
            div.columns {
                figure.confusion {
                    figcaption {
                        h4 { "Confusion matrix" }
                        p { "Rows are labels, columns predictions; percent of the row. " (e.data) ", " (grouped(e.count as u64)) " images." }
                    }
                    (matrix(&e.confusion, &e.class_names))
                    details {
                        summary { "Each class" }
                        div.scroll tabindex="0" role="region" aria-label="Each class" {
                            table {
                                thead { tr {
                                    th.number scope="col" { "class" }
                                    @if named { th scope="col" { "name" } }
                                    @for head in ["images", "recall", "precision"] { th.number scope="col" { (head) } }
                                } }
                                tbody { @for class in 0..n { tr {
                                    th.number scope="row" { (class) }
                                    @if named { td { (e.class_names[class]) } }
                                    td.number { (grouped(e.confusion.images(class))) }
                                    td.number { (or_none(e.confusion.recall(class))) }
                                    td.number { (or_none(e.confusion.precision(class))) }
                                } } }
                            }
                        }
                    }
                }
                div {
                    (samples("Wrong, and most certain", &e.wrong_ones, &e.class_names, "No image is classified wrongly."))
                    (samples("Right", &e.right_ones, &e.class_names, "No image is classified rightly."))
                }
            }
        }
    }
}

fn samples(title: &str, samples: &[Sample], names: &[String], none: &str) -> Markup {
    html! {
        h4 { (title) }
        @if samples.is_empty() { p.quiet { (none) } }
        ul.samples {
            @for s in samples {
                @let p = s.prediction;
                @let (label, class) = (&names[p.label], &names[p.class]);
                @let what = if p.is_right() { class.clone() } else { format!("{label} → {class}") };
                @let said = format!("Test image {}: label {label}, predicted {class} with {}", s.index, share(p.probability.into()));
                li title=(said) {
                    img src=(s.png) alt=(said) width=(s.size[0]) height=(s.size[1]);
                    span.what { (what) }
                    span.quiet { (format!("{:.1} %", 100.0 * p.probability)) }
                }
            }
        }
        @if samples.iter().any(|s| !s.prediction.is_right()) { p.quiet { "Label → prediction, and its probability." } }
    }
}

fn layers(run: &Subject, layers: &Summary) -> Markup {
    let last = run.steps.last();
    let number = |key: &str, name: &str| last.and_then(|line| line[key][name].as_f64());
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
                        td.number { (number("gamma", &row.name).map_or(String::new(), |v| format!("{v:.3}"))) }
                        td.number { (number("layer_transition_rate", &row.name).map_or(String::new(), |v| format!("{:.3} %", 100.0 * v))) }
                    } } }
                    tfoot { tr {
                        th scope="row" colspan="4" { "All" }
                        td.number { (grouped(layers.parameters() as u64)) }
                        td.number { (grouped(total)) }
                        td colspan="2" {}
                    } }
                }
            }
            p.quiet { "Bits of weights/activations/gradients. Multiply-adds are of one image. Gamma and transition rate are of the last logged step." }
        }
    }
}

fn provenance(run: &Subject) -> Markup {
    let state = run.state.as_ref();
    let facts = [
        ("Digest", or_unknown(state.and_then(|s| s.digest.clone()))),
        ("Checkpoint", or_unknown(state.map(|s| format!("step {}, written by fixnet {}", grouped(s.step), s.version)))),
        ("Recipe", run.recipe.name.clone()),
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
                pre { code { (run.config) } }
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
