//! `fixnet plot`: what runs have logged, in the form of the papers' figures; and the curves that every run draws.

use crate::figure::{self, Figure, Line, Panel};
use crate::folder;
use crate::history::{History, Point};
use crate::out::{say, text};
use crate::outputs;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
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
    let histories = paths.iter().map(|path| History::read(path)).collect::<Result<Vec<_>>>()?;
    let labels = labels(&histories);
    let runs: Vec<_> = labels.into_iter().zip(histories).map(|(label, run)| Named { label, run }).collect();
    let out = match (&args.out, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [only]) => folder::plots_path(only)?,
        (None, _) => PathBuf::from("plots"),
    };
    let figures: Vec<_> = figures(&runs).into_iter().filter(|(_, figure)| !figure.is_empty()).collect();
    ensure!(!figures.is_empty(), "{}: expected numbers to draw, found none yet", args.runs[0].display());
    let places: Vec<PathBuf> = figures.iter().flat_map(|(name, _)| Figure::paths(&out.join(name))).collect();
    outputs::check(&places.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &[], Some(folder::PLOTS))?;
    fixnet::files::create_folder(&out).with_context(|| out.display().to_string())?;
    let mut files = Vec::new();
    for (name, figure) in figures {
        files.extend(figure.write(&out.join(name))?);
    }
    if args.json {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| text(path)).collect::<Vec<_>>();
        say!("{}", json!({ "runs": all(&paths), "files": all(&files) }));
    } else {
        for file in &files {
            say!("{}", file.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A run folder itself, or those in a folder of runs, by name.
fn runs_in(path: &Path) -> Result<Vec<PathBuf>> {
    if folder::looks_like_a_run(path) {
        return Ok(vec![path.into()]);
    }
    if !path.is_dir() {
        folder::existing_config(path)?;
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut found: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    found.retain(|path| folder::looks_like_a_run(path));
    found.sort();
    ensure!(!found.is_empty(), "{}: expected the folder of a run, or of runs, found neither", path.display());
    Ok(found)
}

/// Runs by the settings in which they differ, or by their folders where that is not enough.
fn labels(runs: &[History]) -> Vec<String> {
    let settings = |run: &History| {
        let r = &run.recipe;
        let (name, data) = (r.name.clone(), crate::names::short("data", &r.data));
        let (model, bits) = (r.model.clone(), r.bits.clone());
        let (scheme, rule, optimizer) = (r.scheme.clone(), r.gradient_rule.clone(), r.optimizer.clone());
        let (scope, talr) = (r.transition_scope.clone(), r.talr_rule.clone());
        [name, data, model, bits, scheme, rule, optimizer, scope, talr, format!("seed {}", r.seed)]
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
    let histories: Vec<_> = runs.iter().map(|n| (n.label.as_str(), &n.run.points[..])).collect();
    vec![
        ("curves", curves(&histories)),
        ("gamma", gamma(runs)),
        ("transitions", transitions(runs)),
        ("errors", errors(runs)),
        ("rivals", rivals(runs)),
        ("steps", steps(runs)),
        ("weights", histograms(runs, "weight")),
        ("gradients", histograms(runs, "gradient")),
    ]
}

/// Loss and accuracy over the epochs.
pub(crate) fn curves(runs: &[(&str, &[Point])]) -> Figure {
    let one = runs.len() == 1;
    let [mut loss, mut accuracy] = ["loss", "test accuracy"].map(|title| Panel {
        title: title.into(),
        x: "epoch",
        y: title.into(),
        ..Panel::default()
    });
    for (i, (name, points)) in runs.iter().enumerate() {
        let line = |label: &str, color: usize, dashed, of: fn(&Point) -> f64| Line {
            label: if one { label.into() } else { format!("{name}, {label}") },
            color: figure::color(color),
            dashed,
            points: points.iter().map(|p| (p.epoch as f64, of(p))).collect(),
            ..Line::default()
        };
        let other = if one { 1 } else { i };
        loss.lines.push(line("train", i, false, |p| p.train_loss));
        loss.lines.push(line("test", other, !one, |p| p.test_loss));
        accuracy.lines.push(line("test", other, !one, |p| p.test_accuracy));
    }
    accuracy.y = "share of test images".into();
    Figure { rows: vec![vec![loss, accuracy]] }
}

/// gamma of every layer: a panel a run.
fn gamma(runs: &[Named]) -> Figure {
    let panel = |Named { label, run }: &Named| {
        // Without diagnostics the metrics have it, more seldom.
        let seen = if run.seen.is_empty() { None } else { Some(run.layers_with("gradient")) };
        let layers = seen.unwrap_or_else(|| {
            let first = run.steps.first().and_then(|line| line["gamma"].as_object());
            first.map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
        });
        let line = |(i, layer): (usize, &&str)| Line {
            label: layer.to_string(),
            color: figure::shade(i, layers.len()),
            points: match run.seen.is_empty() {
                true => series(&run.steps, |line| line["gamma"][*layer].as_f64()),
                false => series(&run.seen, |line| line["layers"][*layer]["gradient"]["gamma"].as_f64()),
            },
            ..Line::default()
        };
        let lines = layers.iter().enumerate().map(line).collect();
        Panel {
            title: label.clone(),
            x: "step",
            y: "clipping factor γ".into(),
            range: Some((0.0, 1.05)),
            lines,
            ..Panel::default()
        }
    };
    let panels: Vec<_> = runs.iter().map(panel).collect();
    Figure { rows: panels.chunks(2).map(<[_]>::to_vec).collect() }
}

/// R_t, K_t and U_t; without scheduling, the transition rate k_t itself.
fn transitions(runs: &[Named]) -> Figure {
    let panel = |title: &str, y: &str| Panel { title: title.into(), x: "step", y: y.into(), ..Panel::default() };
    // Of the model, then of the layers that have a rate of their own.
    let mut rows = vec![[panel("transition rate", "share of weights"), panel("transition-adaptive rate", "U")]];
    for (i, Named { label, run }) in runs.iter().enumerate() {
        let lines = if run.steps.len() >= run.seen.len() { &run.steps } else { &run.seen };
        let twin = lines.iter().any(|line| line["talr"].is_f64());
        let draw = |row: &mut [Panel; 2], layer: Option<&str>| {
            let of = |line: &Value, key: &str| match layer {
                None => line[key].as_f64(),
                Some(layer) => transition(line, layer)[key].as_f64(),
            };
            let mut add = |panel: usize, words: &str, key: &str, dashed| {
                let points = series(lines, |line| of(line, key));
                let label = if runs.len() == 1 { words.into() } else { format!("{label}: {words}") };
                let line = Line { label, color: figure::color(i), dashed, points, ..Line::default() };
                row[panel].lines.push(line);
            };
            if twin {
                add(0, "K, running rate", "running_transition_rate", false);
                add(0, "R, target", "target_transition_rate", true);
                add(1, "U", "talr", false);
            } else {
                add(0, "k, rate of a step", "transition_rate", false);
            }
        };
        draw(&mut rows[0], None);
        let layers: Vec<&str> =
            run.layers().filter(|layer| lines.iter().any(|l| !transition(l, layer).is_null())).collect();
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

/// The numbers of a layer that has a transition rate of its own, from a line of the metrics or of the diagnostics.
fn transition<'a>(line: &'a Value, layer: &str) -> &'a Value {
    let layer = &line["layers"][layer];
    if layer["talr"].is_f64() { layer } else { &layer["transition"] }
}

/// E(G_L) and E(G) by run in an early, a middle and a late layer.
fn errors(runs: &[Named]) -> Figure {
    let row = |y, key| by_place(runs, "gradient", y, |layer| layer["gradient"][key].as_f64());
    Figure { rows: vec![row("E(G_L) / max |g|", "large_error"), row("E(G) / max |g|", "error")] }
}

/// E(G_L) and E(G) of what each rule would have chosen for the same gradients: two rows a run.
fn rivals(runs: &[Named]) -> Figure {
    let mut rows = Vec::new();
    for Named { label, run } in runs {
        let layers = run.layers_with("gradient");
        let first = run.seen.iter().find_map(|line| line["layers"][*layers.first()?]["gradient"]["rivals"].as_object());
        let mut rules: Vec<&str> = first.map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default();
        // Over the others: it often lies on one of them.
        rules.sort_by_key(|rule| *rule == "lbt");
        for (y, key) in [("E(G_L) / max |g|", "large_error"), ("E(G) / max |g|", "error")] {
            let panel = |i: usize| {
                let layer = layers[i];
                let line = |(i, rule): (usize, &&str)| Line {
                    label: rule.to_string(),
                    color: figure::color(i),
                    points: series(&run.seen, |line| line["layers"][layer]["gradient"]["rivals"][*rule][key].as_f64()),
                    ..Line::default()
                };
                let title = if runs.len() == 1 { layer.to_string() } else { format!("{label}: {layer}") };
                let lines = rules.iter().enumerate().map(line).collect();
                Panel { title, x: "step", y: y.into(), log: true, lines, ..Panel::default() }
            };
            rows.push(places(layers.len()).into_iter().map(panel).collect());
        }
    }
    Figure { rows }
}

/// Effective steps of the weights and their distances to the next transition, in an early, a middle and a late layer.
fn steps(runs: &[Named]) -> Figure {
    let row = |y, key| by_place(runs, "weight", y, |layer| layer["weight"][key].as_f64());
    Figure {
        rows: vec![
            row("mean step of latents / s", "latent_step"),
            row("mean step of quantized / s", "quantized_step"),
            row("distance to transition / levels", "distance"),
        ],
    }
}

/// A row of panels of an early, a middle and a late layer, each with a line a run.
fn by_place(runs: &[Named], what: &str, y: &str, of: impl Fn(&Value) -> Option<f64>) -> Vec<Panel> {
    let mut panels: Vec<(Vec<&str>, Panel)> = Vec::new();
    for (i, Named { label, run }) in runs.iter().enumerate() {
        let layers = run.layers_with(what);
        for (k, at) in places(layers.len()).into_iter().enumerate() {
            let points = series(&run.seen, |line| of(&line["layers"][layers[at]]));
            let line = Line { label: label.clone(), color: figure::color(i), points, ..Line::default() };
            if panels.len() <= k {
                panels
                    .push((Vec::new(), Panel { x: "step", y: y.into(), log: what == "gradient", ..Panel::default() }));
            }
            panels[k].0.push(layers[at]);
            panels[k].1.lines.push(line);
        }
    }
    let titled = |(mut names, panel): (Vec<&str>, Panel)| {
        names.dedup();
        Panel { title: names.join(" / "), ..panel }
    };
    panels.into_iter().map(titled).collect()
}

/// Histograms at the first, a middle and the last step that were looked at: a row a run.
fn histograms(runs: &[Named], what: &str) -> Figure {
    let gradient = what == "gradient";
    let mut rows = Vec::new();
    for Named { label, run } in runs {
        let bins = run.head.as_ref().map_or(&Value::Null, |head| &head[format!("{what}_bins")]);
        let (Some(low), Some(high)) = (bins["low"].as_f64(), bins["high"].as_f64()) else { continue };
        let layers = run.layers_with(what);
        let panel = |i: usize| {
            let layer = layers[i];
            let seen: Vec<&Value> =
                run.seen.iter().filter(|line| line["layers"][layer][what]["histogram"].is_array()).collect();
            let lines = places(seen.len()).into_iter().enumerate().map(|(k, at)| {
                let counts: Vec<f64> = seen[at]["layers"][layer][what]["histogram"]
                    .as_array()
                    .map(|counts| counts.iter().filter_map(Value::as_f64).collect())
                    .unwrap_or_default();
                let (sum, width) = (counts.iter().sum::<f64>().max(1.0), (high - low) / counts.len().max(1) as f64);
                let edges = counts.iter().enumerate().flat_map(|(i, n)| {
                    // An empty bin has no place on a logarithmic axis: half a count stands for it.
                    let (left, share) = (low + i as f64 * width, if gradient { n.max(0.5) } else { *n } / sum);
                    [(left, share), (left + width, share)]
                });
                let label = format!("step {}", seen[at]["step"]);
                Line { label, color: figure::color(k), points: edges.collect(), ..Line::default() }
            });
            let x = if gradient { "gradient / max |g|" } else { "latent weight / scale" };
            let title = if runs.len() == 1 { layer.to_string() } else { format!("{label}: {layer}") };
            Panel { title, x, y: "share in a bin".into(), log: gradient, lines: lines.collect(), ..Panel::default() }
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

/// A number over the steps of some lines; lines without it are left out.
fn series(lines: &[Value], of: impl Fn(&Value) -> Option<f64>) -> Vec<(f64, f64)> {
    lines.iter().filter_map(|line| Some((line["step"].as_f64()?, of(line)?))).collect()
}
