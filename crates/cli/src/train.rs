//! `fixnet train`: the loop over epochs and steps, with its log, checkpoints and summary.

use crate::plot::{self, Point};
use crate::recipe::Recipe;
use anyhow::{Context, Result};
use fixnet::prelude::*;
use fixnet::quant::gammas;
use fixnet::tensor::profile;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Steps between the lines of the metrics log.
const LOG_EVERY: u64 = 50;

/// Arguments of `fixnet train`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A built-in recipe (digits, photo-digits, mnist, cifar10-resnet20, cifar100-resnet20, mlp-digits) or a TOML file
    recipe: String,
    /// Bits of weights/activations/gradients, 1 to 8 or 32 for float, e.g. 4/4/4
    #[arg(long, value_name = "W/A/G")]
    bits: Option<String>,
    /// Passes over the training images
    #[arg(long)]
    epochs: Option<u32>,
    /// Images a step
    #[arg(long)]
    batch_size: Option<usize>,
    /// First learning rate
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Seed of all randomness
    #[arg(long)]
    seed: Option<u64>,
    /// Threads (default: all cores); never changes the result
    #[arg(long)]
    threads: Option<usize>,
    /// Cap the instruction set; never changes the result
    #[arg(long)]
    isa: Option<String>,
    /// digits, photo-digits, mnist:PATH, cifar10:PATH or cifar100:PATH
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    /// The model: mlp, mlp:512-512, lenet, resnet18, resnet20, resnet32, resnet44, resnet56
    #[arg(long)]
    model: Option<String>,
    /// How weights and activations are quantized: lbt, or trs (no scale behind the product)
    #[arg(long)]
    scheme: Option<String>,
    /// One scale a weight (tensor) or one an output channel (channel)
    #[arg(long, value_name = "tensor|channel")]
    weight_scales: Option<String>,
    /// Whether the scales of quantizers move: learned or fixed
    #[arg(long, value_name = "learned|fixed")]
    scales: Option<String>,
    /// How gradient quantizers choose their interval: lbt[:ALPHA:BETA], min-max, fixed:GAMMA, mse[:EVERY], dsgc[:EVERY]
    #[arg(long, value_name = "RULE")]
    gradient_rule: Option<String>,
    /// How gradients are rounded: stochastic or nearest
    #[arg(long, value_name = "stochastic|nearest")]
    gradient_rounding: Option<String>,
    /// sgd, adam, adamw, nadam, adamax, rmsprop or adagrad; with a t at the end, transition-rate scheduling (sgdt, …).
    /// One of another update rule than the recipe's comes with its usual learning rate and settings
    #[arg(long)]
    optimizer: Option<String>,
    /// Bits of the first convolution and the classifier, 32 for float
    #[arg(long)]
    edges: Option<u8>,
    /// Set any key of the recipe, as in --set talr_rule=damped; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the run (default: runs/RECIPE-BITS-sSEED)
    #[arg(long)]
    out: Option<PathBuf>,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
    /// Print where the time of the first epoch's steps went
    #[arg(long, conflicts_with = "json")]
    profile: bool,
    /// No progress bar; the last line is one JSON object
    #[arg(long)]
    json: bool,
}

fn set<T: Clone>(to: &mut T, flag: &Option<T>) {
    if let Some(v) = flag {
        *to = v.clone();
    }
}

pub(crate) fn run(args: Args) -> Result<()> {
    let mut recipe = Recipe::find(&args.recipe)?;
    set(&mut recipe.bits, &args.bits);
    set(&mut recipe.epochs, &args.epochs);
    set(&mut recipe.batch_size, &args.batch_size);
    set(&mut recipe.seed, &args.seed);
    set(&mut recipe.data, &args.data);
    set(&mut recipe.model, &args.model);
    set(&mut recipe.scheme, &args.scheme);
    set(&mut recipe.weight_scales, &args.weight_scales);
    set(&mut recipe.scales, &args.scales);
    set(&mut recipe.gradient_rule, &args.gradient_rule);
    set(&mut recipe.gradient_rounding, &args.gradient_rounding);
    if let Some(name) = &args.optimizer {
        recipe.set_optimizer(name)?;
    }
    args.set.iter().try_for_each(|assignment| recipe.set(assignment))?;
    recipe.lr = args.lr.or(recipe.lr);
    set(&mut recipe.edges, &args.edges);
    let isa = crate::choose_isa(args.isa.as_deref())?;
    if args.threads == Some(0) {
        anyhow::bail!("--threads: expected at least 1, found 0");
    }
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build_global().context("thread pool")?;
    // On a thread of the pool, so that handing out work never crosses from outside.
    let mut result = Ok(());
    rayon::scope(|_| result = train(&args, recipe, isa));
    result
}

fn train(args: &Args, mut recipe: Recipe, isa: fixnet::kernel::Isa) -> Result<()> {
    let mut parts = recipe.resolve()?;
    let data = parts.data.load().map_err(fixnet::Error::from)?;
    let out = args.out.clone().unwrap_or_else(|| {
        Path::new("runs").join(format!("{}-{}-s{}", recipe.name, recipe.bits.replace('/', "-"), recipe.seed))
    });
    std::fs::create_dir_all(&out).with_context(|| format!("run folder {}", out.display()))?;
    // A run must not fail at its end for want of a place to write: the first file is written now.
    write_atomically(&out.join("config.toml"), toml::to_string(&recipe)?.as_bytes())?;

    let train = &data.train;
    let steps_per_epoch = train.len().div_ceil(recipe.batch_size) as u64;
    parts.optimizer.total_steps = u64::from(recipe.epochs) * steps_per_epoch;
    let mut store = Store::seeded(recipe.seed);
    let input = [train.height, train.width, train.channels];
    let net =
        models::build(&mut store, &parts.model, input, train.classes, &parts.quant).map_err(fixnet::Error::from)?;
    let mut sgd = Optimizer::new(parts.optimizer.clone())?;
    let normalize = Normalize::of(train);
    let metadata = BTreeMap::from([("config".to_string(), toml::to_string(&recipe)?)]);

    let log_path = out.join("metrics.jsonl");
    let mut log = File::create(&log_path).with_context(|| log_path.display().to_string())?;
    let bar = progress(parts.optimizer.total_steps, args.quiet || args.json);
    let start = Instant::now();
    let mut points: Vec<Point> = Vec::new();
    let mut training_seconds = 0.0;
    for epoch in 0..recipe.epochs {
        let epoch_start = Instant::now();
        let (mut loss_sum, mut hits, mut seen) = (0f64, 0usize, 0usize);
        let loader = Loader::new(train, recipe.batch_size, normalize.clone()).shuffled(recipe.seed, epoch).augmented(
            parts.augment,
            recipe.seed,
            epoch,
        );
        if args.profile && epoch == 0 {
            profile::start();
        }
        for batch in loader {
            profile::mark("load data");
            let mut g = Graph::train(&mut store);
            let x = g.input(batch.images);
            let logits = net.forward(&mut g, &x)?;
            let loss = g.cross_entropy(&logits, &batch.labels)?;
            let value = f64::from(loss.tensor().item());
            hits += metrics::correct(&logits.tensor(), &batch.labels);
            drop((x, logits));
            g.backward(loss)?;
            let report = sgd.step(&mut store)?;
            profile::mark("optimizer");
            loss_sum += value * batch.labels.len() as f64;
            seen += batch.labels.len();
            bar.inc(1);
            let rate = (points.len() * train.len() + seen) as f64 / start.elapsed().as_secs_f64();
            let (mean, share) = (loss_sum / seen as f64, 100.0 * hits as f64 / seen as f64);
            bar.set_message(format!(
                "epoch {}/{}  loss {mean:.4}  acc {share:.2} %  {rate:.0} images/s",
                epoch + 1,
                recipe.epochs
            ));
            if store.step().is_multiple_of(LOG_EVERY) {
                let gamma: serde_json::Map<_, _> = gammas(&store).into_iter().map(|(n, g)| (n, g.into())).collect();
                let mut line = json!({
                    "kind": "step", "step": store.step(), "epoch": epoch, "loss": value, "lr": report.lr,
                    "transition_rate": report.transition_rate, "gamma": gamma,
                });
                if let Some(t) = report.transition {
                    line["target_transition_rate"] = t.target.into();
                    line["running_transition_rate"] = t.running.into();
                    line["talr"] = t.talr.into();
                }
                for (name, t) in &report.layers {
                    line["layers"][name] = json!({
                        "target_transition_rate": t.target, "transition_rate": t.rate,
                        "running_transition_rate": t.running, "talr": t.talr,
                    });
                }
                writeln!(log, "{line}").with_context(|| log_path.display().to_string())?;
            }
        }
        training_seconds += epoch_start.elapsed().as_secs_f64();
        if args.profile && epoch == 0 {
            let lines = profile::stop();
            bar.suspend(|| crate::profile::print(&lines, store.step()))?;
        }
        let test = metrics::evaluate(&net, &mut store, Loader::new(&data.test, 256, normalize.clone()))?;
        let train_loss = loss_sum / seen as f64;
        points.push(Point {
            epoch: u64::from(epoch) + 1,
            train_loss,
            test_loss: test.loss,
            test_accuracy: test.accuracy,
        });
        let line = json!({
            "kind": "epoch", "epoch": epoch + 1, "step": store.step(), "train_loss": train_loss,
            "train_accuracy": hits as f64 / seen as f64, "test_loss": test.loss, "test_accuracy": test.accuracy,
        });
        writeln!(log, "{line}").with_context(|| log_path.display().to_string())?;
        checkpoint::save(&out.join("checkpoint.safetensors"), &store, &sgd, &metadata)?;
        plot::curves(&out.join("curves.svg"), &recipe.name, &points)?;
        if !bar.is_hidden() {
            bar.println(format!(
                "epoch {:>3}  train loss {train_loss:.4}  test accuracy {:.2} %",
                epoch + 1,
                100.0 * test.accuracy
            ));
        }
    }
    bar.finish_and_clear();
    let Some(last) = points.last() else { return Ok(()) };
    let seconds = start.elapsed().as_secs_f64();
    let peak = crate::memory::peak_bytes();
    let digest = checkpoint::digest(&store, &sgd);
    let images_per_second = (recipe.epochs as usize * train.len()) as f64 / training_seconds;
    if args.json {
        let line = json!({
            "recipe": recipe.name, "bits": recipe.bits, "seed": recipe.seed, "threads": rayon::current_num_threads(),
            "isa": isa.to_string(), "epochs": recipe.epochs, "train_loss": last.train_loss,
            "test_accuracy": last.test_accuracy, "seconds": seconds, "images_per_second": images_per_second,
            "peak_memory_bytes": peak, "digest": digest,
        });
        println!("{line}");
        return Ok(());
    }
    println!("recipe         {} at {} ({})", recipe.name, recipe.bits, isa);
    println!("train loss     {:.4}", last.train_loss);
    println!("test accuracy  {:.2} %", 100.0 * last.test_accuracy);
    println!("time           {seconds:.1} s, {images_per_second:.0} images/s in training");
    if let Some(peak) = peak {
        println!("peak memory    {:.0} MiB", peak as f64 / f64::from(1 << 20));
    }
    println!("digest         {digest}");
    println!("run folder     {}", out.display());
    Ok(())
}

fn progress(steps: u64, hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style)
}

/// Writes a file beside its place and renames it, so that an earlier one is whole until the new one is.
fn write_atomically(path: &Path, data: &[u8]) -> Result<()> {
    let part = path.with_extension("part");
    let name = || path.display().to_string();
    std::fs::write(&part, data).with_context(name)?;
    std::fs::rename(&part, path).with_context(name)
}
