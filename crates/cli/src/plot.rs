//! `fixnet plot`: what runs have logged, in the form of the papers' figures; and the curves that every run draws.

use crate::chart::figure::Figure;
use crate::chart::{Chart, Ink, Line, Scale};
use crate::out::{note, say, text};
use crate::outputs;
use anyhow::{Context, Result, ensure};
use fixnet::train::compare::names::short;
use fixnet::train::compare::{Recorded, notes_on_data};
use fixnet::train::run::event::{DiagnosticLayer, DiagnosticStep, EpochEvent, StepEvent, TransitionRates};
use fixnet::train::run::{History, place};
use fixnet::train::task::{self, LOSS, Metric, Part, Unit};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `fixnet plot`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of runs, or folders that hold such folders
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where the figures go (default: RUN/plots of a single one, else plots)
    #[arg(long)]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A run and what it is called among the others.
struct Named {
    label: String,
    run: History,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut paths = Vec::new();
    for path in &args.runs {
        paths.extend(runs_in(path)?);
    }
    let histories = paths.iter().map(|path| Ok(History::read(path)?)).collect::<Result<Vec<_>>>()?;
    let names = names(&histories);
    let runs: Vec<_> = names.into_iter().zip(histories).map(|(label, run)| Named { label, run }).collect();
    let recorded: Vec<_> =
        runs.iter().filter_map(|n| Recorded::of_run(&n.run.name(), &n.run.config, &n.run.path)).collect();
    let notes = notes_on_data(&recorded);
    let out = match (&args.out, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [only]) => place::plots_path(only)?,
        (None, _) => PathBuf::from("plots"),
    };
    let figures: Vec<_> = figures(&runs).into_iter().filter(|(_, figure)| !figure.is_empty()).collect();
    ensure!(!figures.is_empty(), "{}: expected numbers to draw, found none yet", args.runs[0].display());
    let places: Vec<PathBuf> = figures.iter().flat_map(|(name, _)| Figure::paths(&out.join(name))).collect();
    outputs::check(&places.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &[], Some(place::PLOTS))?;
    fixnet::files::create_folder(&out).with_context(|| out.display().to_string())?;
    let mut files = Vec::new();
    for (name, figure) in figures {
        files.extend(figure.write(&out.join(name))?);
    }
    if args.json {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Vec<_>>();
        say!("{}", json!({ "runs": all(&paths), "files": all(&files), "notes": notes }));
    } else {
        notes.iter().for_each(|text| note!("note: {text}"));
        for file in &files {
            say!("{}", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run folder itself, or those in a folder of runs, by name.
fn runs_in(path: &Path) -> Result<Vec<PathBuf>> {
    if place::looks_like_a_run(path) {
        return Ok(vec![path.into()]);
    }
    if !path.is_dir() {
        place::existing_config(path)?;
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    found.retain(|path| place::looks_like_a_run(path));
    found.sort();
    ensure!(!found.is_empty(), "{}: expected the folder of a run, or of runs, found neither", path.display());
    Ok(found)
}

/// Runs by the settings in which they differ, or by their folders where that is not enough.
fn names(runs: &[History]) -> Vec<String> {
    let settings = |run: &History| {
        let (s, q) = (run.config.settings(), &run.config.settings().quantization);
        [
            s.name.clone(),
            short("data.source", &s.data.source.to_string()),
            s.model.name.to_string(),
            q.bits.to_string(),
            q.scheme.to_string(),
            q.gradient_rule.to_string(),
            s.optimizer.name.clone(),
            s.transition.scope.to_string(),
            s.transition.rule.to_string(),
            format!("seed {}", s.run.seed),
        ]
    };
    let all: Vec<_> = runs.iter().map(settings).collect();
    let differ: Vec<usize> = (0..10).filter(|&i| all.iter().any(|s| s[i] != all[0][i])).collect();
    let short: Vec<String> =
        all.iter().map(|s| differ.iter().map(|&i| s[i].as_str()).collect::<Vec<_>>().join(" ")).collect();
    let unique = short.iter().enumerate().all(|(i, label)| !label.is_empty() && !short[..i].contains(label));
    if unique { short } else { runs.iter().map(History::name).collect() }
}

/// Every figure by the name of its files.
fn figures(runs: &[Named]) -> Vec<(&'static str, Figure)> {
    let histories: Vec<_> = runs.iter().map(|n| (n.label.as_str(), &n.run.epochs[..])).collect();
    let kind = runs.first().and_then(|n| task::find(&n.run.config).ok());
    let metric = kind.and_then(|kind| kind.metrics.first().copied());
    vec![
        ("curves", curves(&histories, metric)),
        ("gamma", gamma(runs)),
        ("transitions", transitions(runs)),
        ("errors", errors(runs)),
        ("rivals", rivals(runs)),
        ("steps", steps(runs)),
        ("weights", histograms(runs, "weight")),
        ("gradients", histograms(runs, "gradient")),
    ]
}

/// The curves of one run, as an SVG file.
pub(crate) fn curves_of(run: &Path) -> Result<String> {
    let run = History::read(run)?;
    let metric = task::find(&run.config)?.metrics.first().copied();
    Ok(curves(&[(run.config.name(), &run.epochs)], metric).svg())
}

/// Loss and the first metric over the epochs.
pub(crate) fn curves(runs: &[(&str, &[EpochEvent])], metric: Option<Metric>) -> Figure {
    let one = runs.len() == 1;
    let shown: Vec<Metric> = std::iter::once(LOSS).chain(metric).collect();
    let panel = |metric: &Metric| {
        let name = metric.name;
        let lines = runs.iter().enumerate().flat_map(|(i, (run, epochs))| {
            let line = |part: Part, color: usize, dashed| Line {
                label: if one { part.name().into() } else { format!("{run}, {}", part.name()) },
                ink: Ink::Run(color),
                dashed,
                points: epochs.iter().filter_map(|e| Some((e.epoch as f64, e.score(part, name)?))).collect(),
                ..Line::default()
            };
            let other = if one { 1 } else { i };
            // Training data are varied, so that only their loss compares with that of test data.
            let train = (*metric == LOSS).then(|| line(Part::Train, i, false));
            train.into_iter().chain([line(Part::Test, other, !one)])
        });
        let title = if *metric == LOSS { name.to_string() } else { format!("test {name}") };
        let y = if metric.unit == Unit::Share { format!("{name}, 0 to 1") } else { name.into() };
        Chart { title, x: "epoch", y, lines: lines.collect(), ..Chart::default() }
    };
    Figure { rows: vec![shown.iter().map(panel).collect()] }
}

/// gamma of every layer: a panel per run.
fn gamma(runs: &[Named]) -> Figure {
    let panel = |Named { label, run }: &Named| {
        // Without diagnostics the metrics have it, more seldom.
        let layers: Vec<&str> = match run.seen.is_empty() {
            false => layers_with(run, |layer| layer.gradient.is_some()),
            true => run.steps.first().map(|step| step.gamma.keys().map(String::as_str).collect()).unwrap_or_default(),
        };
        let line = |(i, layer): (usize, &&str)| Line {
            label: layer.to_string(),
            ink: Ink::of(i, layers.len()),
            points: match run.seen.is_empty() {
                true => run.steps.iter().filter_map(|s| Some((s.step as f64, *s.gamma.get(*layer)?))).collect(),
                false => seen(run, layer, |layer| layer.gradient.as_ref()?.errors.gamma),
            },
            ..Line::default()
        };
        let lines = layers.iter().enumerate().map(line).collect();
        Chart {
            title: label.clone(),
            x: "step",
            y: "clipping factor γ".into(),
            scale: Scale::Between(0.0, 1.05),
            lines,
            ..Chart::default()
        }
    };
    let panels: Vec<_> = runs.iter().map(panel).collect();
    Figure { rows: panels.chunks(2).map(<[_]>::to_vec).collect() }
}

/// The layers of which something was seen.
fn layers_with(run: &History, has: impl Fn(&DiagnosticLayer) -> bool) -> Vec<&str> {
    let mut layers = run.layers();
    layers.retain(|layer| run.seen.iter().any(|step| step.layers.get(*layer).is_some_and(&has)));
    layers
}

/// A number of a layer over the steps that were looked at; steps without it are left out.
fn seen(run: &History, layer: &str, of: impl Fn(&DiagnosticLayer) -> Option<f64>) -> Vec<(f64, f64)> {
    run.seen.iter().filter_map(|step| Some((step.step as f64, of(step.layers.get(layer)?)?))).collect()
}

/// A step with the rates of the model, and of the layers that have their own.
type Rates<'a> = (u64, &'a TransitionRates, Vec<(&'a str, &'a TransitionRates)>);

/// The rates of a run, from where there are more of them.
fn rates(run: &History) -> Vec<Rates<'_>> {
    if run.steps.len() >= run.seen.len() {
        let steps = run.steps.iter().map(|StepEvent { step, rates, layers, .. }| {
            (*step, rates, layers.iter().map(|(name, rates)| (name.as_str(), rates)).collect())
        });
        return steps.collect();
    }
    let steps = run.seen.iter().map(|DiagnosticStep { step, rates, layers, .. }| {
        let own = layers.iter().filter_map(|(name, layer)| Some((name.as_str(), layer.transition.as_ref()?)));
        (*step, rates, own.collect())
    });
    steps.collect()
}

/// R_t, K_t and U_t; without scheduling, the transition rate k_t itself.
fn transitions(runs: &[Named]) -> Figure {
    let panel = |title: &str, y: &str| Chart { title: title.into(), x: "step", y: y.into(), ..Chart::default() };
    // Of the model, then of the layers that have a rate of their own.
    let mut rows = vec![[panel("transition rate", "share of weights"), panel("transition-adaptive rate", "U")]];
    for (i, Named { label, run }) in runs.iter().enumerate() {
        let lines = rates(run);
        let twin = lines.iter().any(|(_, model, _)| model.talr.is_some());
        let draw = |row: &mut [Chart; 2], layer: Option<&str>| {
            let mut add = |panel: usize, words: &str, of: fn(&TransitionRates) -> Option<f64>, dashed| {
                let rates = |(_, model, layers): &Rates<'_>| match layer {
                    None => of(model),
                    Some(layer) => of(layers.iter().find(|(name, _)| *name == layer)?.1),
                };
                let points = lines.iter().filter_map(|line| Some((line.0 as f64, rates(line)?))).collect();
                let label = if runs.len() == 1 { words.into() } else { format!("{label}: {words}") };
                let line = Line { label, ink: Ink::Run(i), dashed, points, ..Line::default() };
                row[panel].lines.push(line);
            };
            if twin {
                add(0, "K, running rate", |rates| rates.running_transition_rate, false);
                add(0, "R, target", |rates| rates.target_transition_rate, true);
                add(1, "U", |rates| rates.talr, false);
            } else {
                add(0, "k, rate of a step", |rates| rates.transition_rate, false);
            }
        };
        draw(&mut rows[0], None);
        let has = |layer: &&str| lines.iter().any(|(_, _, layers)| layers.iter().any(|(name, _)| name == layer));
        let layers: Vec<&str> = run.layers().into_iter().filter(has).collect();
        for (k, i) in places(layers.len()).into_iter().enumerate() {
            if rows.len() < k + 2 {
                let title = |what: &str| format!("{what}, {}", layers[i]);
                rows.push([panel(&title("transition rate"), "share of weights"), panel(&title("rate"), "U")]);
            }
            draw(&mut rows[k + 1], Some(layers[i]));
        }
    }
    Figure { rows: rows.into_iter().map(|row| row.into_iter().filter(|panel| !panel.is_empty()).collect()).collect() }
}

/// E(G_L) and E(G) by run in an early, a middle and a late layer.
fn errors(runs: &[Named]) -> Figure {
    Figure {
        rows: vec![
            by_place(runs, "E(G_L) / max |g|", Scale::Log, |layer| layer.gradient.as_ref()?.errors.large_error),
            by_place(runs, "E(G) / max |g|", Scale::Log, |layer| layer.gradient.as_ref()?.errors.error),
        ],
    }
}

/// E(G_L) and E(G) of what each rule would have chosen for the same gradients: two rows per run.
fn rivals(runs: &[Named]) -> Figure {
    let mut rows = Vec::new();
    for Named { label, run } in runs {
        let layers = layers_with(run, |layer| layer.gradient.is_some());
        let first = layers.first().and_then(|layer| {
            run.seen.iter().find_map(|step| Some(&step.layers.get(*layer)?.gradient.as_ref()?.rivals))
        });
        let mut rules: Vec<&str> = first.map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default();
        // Over the others: it often lies on one of them.
        rules.sort_by_key(|rule| *rule == "lbt");
        for (y, large) in [("E(G_L) / max |g|", true), ("E(G) / max |g|", false)] {
            let panel = |i: usize| {
                let layer = layers[i];
                let line = |(i, rule): (usize, &&str)| Line {
                    label: rule.to_string(),
                    ink: Ink::Run(i),
                    points: seen(run, layer, |layer| {
                        let rival = layer.gradient.as_ref()?.rivals.get(*rule)?;
                        if large { rival.large_error } else { rival.error }
                    }),
                    ..Line::default()
                };
                let title = if runs.len() == 1 { layer.to_string() } else { format!("{label}: {layer}") };
                let lines = rules.iter().enumerate().map(line).collect();
                Chart { title, x: "step", y: y.into(), scale: Scale::Log, lines, ..Chart::default() }
            };
            rows.push(places(layers.len()).into_iter().map(panel).collect());
        }
    }
    Figure { rows }
}

/// Effective steps of the weights and their distances to the next transition, in an early, a middle and a late layer.
fn steps(runs: &[Named]) -> Figure {
    Figure {
        rows: vec![
            by_place(runs, "mean step of latents / s", Scale::Linear, |layer| layer.weight.as_ref()?.latent_step),
            by_place(runs, "mean step of quantized / s", Scale::Linear, |layer| layer.weight.as_ref()?.quantized_step),
            by_place(runs, "distance to transition / levels", Scale::Linear, |layer| layer.weight.as_ref()?.distance),
        ],
    }
}

/// A row of panels of an early, a middle and a late layer, each with a line per run.
fn by_place(runs: &[Named], y: &str, scale: Scale, of: impl Fn(&DiagnosticLayer) -> Option<f64>) -> Vec<Chart> {
    let mut panels: Vec<(Vec<&str>, Chart)> = Vec::new();
    for (i, Named { label, run }) in runs.iter().enumerate() {
        let layers = layers_with(run, |layer| of(layer).is_some());
        for (k, at) in places(layers.len()).into_iter().enumerate() {
            let points = seen(run, layers[at], &of);
            let line = Line { label: label.clone(), ink: Ink::Run(i), points, ..Line::default() };
            if panels.len() <= k {
                panels.push((Vec::new(), Chart { x: "step", y: y.into(), scale, ..Chart::default() }));
            }
            panels[k].0.push(layers[at]);
            panels[k].1.lines.push(line);
        }
    }
    let titled = |(mut names, panel): (Vec<&str>, Chart)| {
        names.dedup();
        Chart { title: names.join(" / "), ..panel }
    };
    panels.into_iter().map(titled).collect()
}

/// Histograms at the first, a middle and the last step that were looked at: a row per run.
fn histograms(runs: &[Named], what: &str) -> Figure {
    let gradient = what == "gradient";
    let histogram = |layer: &DiagnosticLayer| match gradient {
        true => layer.gradient.as_ref().map(|g| g.histogram.clone()),
        false => layer.weight.as_ref().map(|w| w.histogram.clone()),
    };
    let mut rows = Vec::new();
    for Named { label, run } in runs {
        let Some(head) = &run.head else { continue };
        let bins = if gradient { &head.gradient_bins } else { &head.weight_bins };
        let (low, high) = (bins.low, bins.high);
        let layers = layers_with(run, |layer| histogram(layer).is_some());
        let panel = |i: usize| {
            let layer = layers[i];
            let seen: Vec<(u64, Vec<u64>)> =
                run.seen.iter().filter_map(|s| Some((s.step, histogram(s.layers.get(layer)?)?))).collect();
            let lines = places(seen.len()).into_iter().enumerate().map(|(k, at)| {
                let (step, counts) = &seen[at];
                let counts: Vec<f64> = counts.iter().map(|&n| n as f64).collect();
                let (sum, width) = (counts.iter().sum::<f64>().max(1.0), (high - low) / counts.len().max(1) as f64);
                let edges = counts.iter().enumerate().flat_map(|(i, n)| {
                    // An empty bin has no place on a logarithmic axis: half a count stands for it.
                    let (left, share) = (low + i as f64 * width, if gradient { n.max(0.5) } else { *n } / sum);
                    [(left, share), (left + width, share)]
                });
                let label = format!("step {step}");
                Line { label, ink: Ink::Run(k), points: edges.collect(), ..Line::default() }
            });
            let scale = if gradient { Scale::Log } else { Scale::FromZero };
            let x = if gradient { "gradient / max |g|" } else { "latent weight / scale" };
            let title = if runs.len() == 1 { layer.to_string() } else { format!("{label}: {layer}") };
            Chart { title, x, y: "share in a bin".into(), scale, lines: lines.collect(), ..Chart::default() }
        };
        rows.push(places(layers.len()).into_iter().map(panel).collect());
    }
    Figure { rows }
}

/// The first, a middle and the last of `count`.
fn places(count: usize) -> Vec<usize> {
    let mut places = vec![0, count / 2, count.saturating_sub(1)];
    places.dedup();
    places.truncate(count);
    places
}
