//! What belongs to one run on the page: what its task shows, its layers, and where it comes from.

use super::chart::matrix;
use super::curves::grid;
use super::gather::{Evaluated, Subject};
use super::numbers::{UNKNOWN, duration, grouped, or_unknown};
use super::picture::address;
use crate::chart::{Chart, Ink, Line, Scale};
use fixnet::plan::Summary;
use fixnet::train::task::{Curves, Element, Pictures, Scatter, Section, Table};
use maud::{Markup, html};

/// What the task shows of the test data: charts of points and lines; a matrix and its tables on the left, images on the right; large ones
/// below.
pub(super) fn sections(e: &Evaluated) -> Markup {
    let large = |section: &Section| section.elements.iter().any(|e| matches!(e, Element::Pictures(p) if p.large));
    html! {
        @for section in &e.sections {
            section {
                h3 { (section.title) }
                @let charts = charts(section);
                @if !charts.is_empty() { (grid(&charts)) }
                div.columns[!large(section)] {
                    figure.counts {
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

/// The charts of a section.
fn charts(section: &Section) -> Vec<Chart> {
    let points = |scatter: &Scatter| {
        let line = Line { ink: Ink::Quiet, points: scatter.line.to_vec(), ..Line::default() };
        let dots = Line { points: scatter.points.clone(), dots: true, ..Line::default() };
        let (title, about) = (scatter.title.clone(), scatter.about.clone());
        Chart { title, about, x: scatter.x, scale: Scale::Linear, lines: vec![line, dots], ..Chart::default() }
    };
    let lines = |curves: &Curves| {
        let count = curves.lines.len();
        let line = |i: usize| {
            let (label, points) = &curves.lines[i];
            let ink = if count == 1 { Ink::Main } else { Ink::of(i, count) };
            Line { label: label.clone(), ink, points: points.clone(), ..Line::default() }
        };
        let lines = (0..count).map(line).collect();
        let (title, about) = (curves.title.clone(), curves.about.clone());
        Chart { title, about, x: curves.x, scale: Scale::Between(0.0, 1.0), lines, ..Chart::default() }
    };
    let chart = |element: &Element| match element {
        Element::Scatter(scatter) => Some(points(scatter)),
        Element::Curves(curves) => Some(lines(curves)),
        _ => None,
    };
    section.elements.iter().filter_map(chart).collect()
}

/// A table behind its heading.
pub(super) fn folded(table: &Table) -> Markup {
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

pub(super) fn gallery(pictures: &Pictures) -> Markup {
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

pub(super) fn layers(run: &Subject, layers: &Summary) -> Markup {
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

pub(super) fn provenance(run: &Subject) -> Markup {
    let state = run.state.as_ref();
    let mut facts = vec![
        ("Digest", or_unknown(state.and_then(|s| s.digest.clone()))),
        ("Checkpoint", or_unknown(state.map(|s| format!("step {}, written by fixnet {}", grouped(s.step), s.version)))),
        ("Recipe", run.config.name().to_string()),
    ];
    facts.extend(run.best_epoch().map(|best| ("Best epoch", best)));
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
                            @for head in ["threads", "steps", "samples", "samples/s", "time"] { th.number scope="col" { (head) } }
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
