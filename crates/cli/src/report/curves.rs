//! The charts of the page: curves of all runs on one another, quantization and diagnostics of each run.

use super::chart;
use super::gather::Subject;
use super::numbers::{capitalized, or_unknown};
use crate::chart::{Chart, Ink, Line, Scale, Unit};
use fixnet::train::run::event::{DiagnosticLayer, StepEvent, TransitionRates, score_name};
use fixnet::train::task::{self, LOSS, Metric, Part, joined_metrics};
use maud::{Markup, html};

pub(super) fn swatch(ink: Ink) -> Markup {
    html! { span.swatch.(chart::class(ink)) style=[chart::style(ink)] aria-hidden="true" {} }
}

/// The metrics of all runs, each once, the loss last.
pub(super) fn metrics_of(runs: &[Subject]) -> Vec<Metric> {
    joined_metrics(runs.iter().map(|run| &run.metrics[..]))
}

pub(super) fn plain(title: &str, about: &str, x: &'static str, unit: Unit, lines: Vec<Line>) -> Chart {
    let (title, about) = (title.into(), about.into());
    Chart { title, about, x, unit, scale: Scale::FromZero, lines, ..Chart::default() }
}

/// Loss, accuracy and learning rate, of all runs on one another.
pub(super) fn curves(runs: &[Subject]) -> Markup {
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
    let every = "As often as the log has steps.";
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

pub(super) fn epochs(runs: &[Subject]) -> Markup {
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
pub(super) fn grid(charts: &[Chart]) -> Markup {
    let drawn: Vec<Markup> = charts.iter().filter_map(chart::draw).collect();
    // Rows of two for what would leave one alone in a row of three.
    let even = matches!(drawn.len(), 2 | 4);
    html! { div.grid.even[even] { @for chart in drawn { (chart) } } }
}

pub(super) fn legend(entries: &[(Ink, String)]) -> Markup {
    html! {
        @if !entries.is_empty() {
            ul.legend { @for (ink, text) in entries { li { (swatch(*ink)) (text) } } }
        }
    }
}

/// Lines of layers: their tones go from the first to the last.
pub(super) fn layer_lines(names: &[String], points: impl Fn(&str) -> Vec<(f64, f64)>) -> Vec<Line> {
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

pub(super) fn quantization(run: &Subject) -> Markup {
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
pub(super) fn depths(names: &[String]) -> Vec<(Ink, String)> {
    layer_lines(names, |_| Vec::new()).into_iter().map(|line| (line.ink, line.label)).collect()
}

pub(super) fn diagnostics(run: &Subject) -> Markup {
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
