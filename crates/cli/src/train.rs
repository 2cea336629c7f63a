//! `fixnet train` and `fixnet resume`: the loop over steps and epochs, with logs, checkpoints, progress and summary.

use crate::flags::Flags;
use crate::folder::Folder;
use crate::history::Point;
use crate::interrupt;
use crate::machine::Machine;
use crate::names::plain;
use crate::out::{escaped, is_plain, note, say, text};
use crate::recipe::Recipe;
use crate::run::{Run, Step, recipe_of};
use crate::{INTERRUPTED, usage};
use anyhow::{Context, Result, ensure};
use fixnet::kernel::Isa;
use fixnet::quant::gammas;
use fixnet::tensor::profile;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Steps between the lines of the metrics log.
const LOG_EVERY: u64 = 50;

/// Arguments of `fixnet train`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A built-in recipe (`fixnet recipes` lists them) or a TOML file
    recipe: String,
    #[command(flatten)]
    flags: Flags<false>,
    /// Set any key of the recipe, as in --set talr_rule=damped; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Look into the layers at the first step and every EVERY-th (50 if not given), for `fixnet plot`; never changes the result
    #[arg(long, value_name = "EVERY", num_args = 0..=1, default_missing_value = "50",
        value_parser = clap::value_parser!(u64).range(1..))]
    diagnostics: Option<u64>,
    /// Folder of the run (default: runs/RECIPE-BITS-sSEED)
    #[arg(long)]
    out: Option<PathBuf>,
    /// Remove an earlier run in the folder
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    options: Options,
}

/// Arguments of `fixnet resume`.
#[derive(clap::Args)]
pub(crate) struct ResumeArgs {
    /// The folder of a run
    run: PathBuf,
    /// The same data in another place
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    #[command(flatten)]
    options: Options,
}

/// What has no influence on the result.
#[derive(clap::Args)]
struct Options {
    /// Save after so many steps or so much time (500steps, 30s, 5min, 2h), besides the end of each epoch
    #[arg(long, value_name = "N", default_value = "5min")]
    checkpoint_every: Every,
    #[command(flatten)]
    machine: Machine,
    /// No progress bar, and no line an epoch
    #[arg(long)]
    quiet: bool,
    /// Write event files of TensorBoard to the folder `tensorboard` of the run
    #[arg(long)]
    tensorboard: bool,
    /// Print where the time of the first epoch's steps went
    #[arg(long, conflicts_with = "json")]
    profile: bool,
    /// No progress bar; the last line is one JSON object
    #[arg(long)]
    json: bool,
}

/// How often a checkpoint is saved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Every {
    Steps(u64),
    Time(Duration),
}

impl FromStr for Every {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let unit = s.trim_start_matches(|c: char| c.is_ascii_digit());
        let number: Option<u64> = s[..s.len() - unit.len()].parse().ok().filter(|&n| n > 0);
        let time = |n: u64, seconds| n.checked_mul(seconds).map(|s| Self::Time(Duration::from_secs(s)));
        match (number, unit.trim()) {
            (Some(n), "step" | "steps" | "") => Some(Self::Steps(n)),
            (Some(n), "s" | "sec") => time(n, 1),
            (Some(n), "m" | "min") => time(n, 60),
            (Some(n), "h") => time(n, 3600),
            _ => None,
        }
        .ok_or_else(|| "expected a number above 0 with steps, s, min or h, such as 500steps or 5min".into())
    }
}

impl Args {
    /// The keys that have a flag which is given.
    fn flag_keys(&self) -> impl Iterator<Item = &str> {
        self.flags.given().map(|(flag, _)| flag.key)
    }

    /// That no key is given both by its flag and by `--set`.
    fn check_once(&self) -> Result<()> {
        for key in self.set_keys() {
            let twice = self.flag_keys().any(|flag| flag == key);
            ensure!(!twice, "{key}: expected --{} or --set {key}=…, found both", key.replace('_', "-"));
        }
        Ok(())
    }

    /// The keys that `--set` names.
    fn set_keys(&self) -> impl Iterator<Item = &str> {
        self.set.iter().filter_map(|assignment| assignment.split_once('=')).map(|(key, _)| key.trim())
    }

    /// Tells of settings that were given and have no influence on this run.
    fn tell_idle(&self, recipe: &Recipe) -> Result<()> {
        for key in recipe.idle_keys()? {
            if self.flag_keys().chain(self.set_keys()).any(|given| given == key) {
                note!("note: {key} has no influence at {} with {}", recipe.bits, recipe.optimizer);
            }
        }
        Ok(())
    }

    /// The recipe with the flags put in.
    fn recipe(&self) -> Result<Recipe> {
        let mut recipe = Recipe::find(&self.recipe)?;
        recipe.clone().resolve().with_context(|| format!("recipe {}", self.recipe))?;
        self.check_once().map_err(usage)?;
        // An optimizer may bring settings, which others then change.
        self.flags.set(&mut recipe, |key| key == "optimizer")?;
        self.set.iter().try_for_each(|assignment| recipe.set(assignment)).map_err(usage)?;
        self.flags.set(&mut recipe, |key| key != "optimizer")?;
        recipe.tensorboard |= self.options.tensorboard;
        // What was right before the flags were put in is wrong by the flags.
        recipe.resolve().map_err(usage)?;
        Ok(recipe)
    }
}

/// `fixnet train`.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let mut recipe = args.recipe()?;
    let useful = recipe.canonical()?.optimizer;
    if useful != recipe.optimizer {
        let bits = &recipe.bits;
        note!("optimizer: {} has no quantized weights to schedule at {bits}; {useful} is used", recipe.optimizer);
        recipe.optimizer = useful;
    }
    args.tell_idle(&recipe)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(plain(&format!("{}-{}-s{}", recipe.name, recipe.bits, recipe.seed))));
    args.options.machine.run(|isa| {
        // Before the data: a wrong name should not cost the time to load them.
        let init = recipe.init.as_deref().map(crate::import::open).transpose()?;
        let data = recipe.resolve()?.data.load()?;
        let mut run = Run::begin(recipe, init.as_ref(), &data)?;
        run.diagnose(args.diagnostics);
        let mut folder = Folder::create(&out, &run, args.overwrite)?;
        if run.recipe().tensorboard {
            folder.write_events(0)?;
        }
        drive(&mut run, &mut folder, &args.options, isa)
    })
}

/// `fixnet resume`.
pub(crate) fn resume(args: ResumeArgs) -> Result<ExitCode> {
    args.options.machine.run(|isa| {
        let (mut folder, checkpoint, problem) = Folder::open(&args.run)?;
        if let Some(problem) = problem {
            note!("warning: {problem}");
            note!("warning: goes on from the previous checkpoint, of step {}", checkpoint.step());
        }
        let mut recipe = recipe_of(&checkpoint)?;
        folder.check_config(&recipe)?;
        recipe.move_data(args.data.as_deref())?;
        recipe.tensorboard |= args.options.tensorboard;
        let data = recipe.resolve()?.data.load()?;
        let mut run = Run::resumed(recipe, &data, &checkpoint)?;
        folder.write_config(&run)?;
        if run.recipe().tensorboard {
            folder.write_events(checkpoint.step())?;
        }
        drop(checkpoint);
        run.diagnose(folder.diagnostics_every());
        if !folder.points().is_empty() {
            // A process may have ended between a checkpoint and its curves.
            folder.draw(&run.recipe().name)?;
        }
        drive(&mut run, &mut folder, &args.options, isa)
    })
}

/// Trains to the end or until it is interrupted, and tells how it went.
fn drive(run: &mut Run<'_>, folder: &mut Folder, options: &Options, isa: Isa) -> Result<ExitCode> {
    interrupt::listen()?;
    let bar = progress(run.total_steps(), options.quiet || options.json);
    let mut clock = Clock::new(run.store().step());
    bar.set_position(run.store().step());
    if options.profile {
        profile::start();
    }
    let watch = Watch {
        every: options.checkpoint_every,
        profile: options.profile,
        bar: &bar,
        stop: &interrupt::requested,
        step: &|run, clock| show(run, &bar, clock),
        epoch: &|p| {
            let (epoch, train_loss, accuracy) = (p.epoch, p.train_loss, 100.0 * p.test_accuracy);
            let validated = p.validation_accuracy.map_or(String::new(), |v| format!("  validation {:.2} %", 100.0 * v));
            let line =
                format!("epoch {epoch:>3}  train loss {train_loss:.4}{validated}  test accuracy {accuracy:.2} %");
            log_line(&bar, options.quiet || options.json, &line);
        },
    };
    let finished = train(run, folder, &watch, &mut clock)
        .with_context(|| format!("stopped at step {} of {}", run.store().step(), run.total_steps()))?;
    bar.finish_and_clear();
    if !finished {
        let (step, total) = (run.store().step(), run.total_steps());
        let command = format!("fixnet resume {}", quoted(folder.path()));
        note!("stopped after step {step} of {total} and saved; go on with: {command}");
        if options.json {
            say!("{}", json!({ "interrupted": true, "step": step, "steps": total, "resume": command }));
        }
        return Ok(ExitCode::from(INTERRUPTED));
    }
    summarize(run, folder, options, isa, &clock)?;
    Ok(ExitCode::SUCCESS)
}

/// A line above the bar. Without a terminal it is a line of a log, which so shows that something long goes on.
pub(crate) fn log_line(bar: &ProgressBar, quiet: bool, line: &str) {
    match bar.is_hidden() {
        false => bar.println(escaped(line)),
        true if !quiet => note!("{line}"),
        true => {}
    }
}

/// What passes between checkpoints and over the part of the run that this process trains.
pub(crate) struct Clock {
    start: Instant,
    images: u64,
    training: Duration,
    saved: Instant,
    saved_step: u64,
}

impl Clock {
    pub(crate) fn new(step: u64) -> Self {
        let now = Instant::now();
        Self { start: now, images: 0, training: Duration::ZERO, saved: now, saved_step: step }
    }

    fn save_is_due(&self, every: Every, step: u64) -> bool {
        match every {
            Every::Steps(n) => step - self.saved_step >= n,
            Every::Time(t) => self.saved.elapsed() >= t,
        }
    }

    fn saved(&mut self, step: u64) {
        (self.saved, self.saved_step) = (Instant::now(), step);
    }
}

/// How a run is watched while it is trained.
pub(crate) struct Watch<'a> {
    /// How often it is saved.
    pub(crate) every: Every,
    /// Whether to tell where the time of the first epoch's steps went.
    pub(crate) profile: bool,
    /// What is shown meanwhile.
    pub(crate) bar: &'a ProgressBar,
    /// Whether to stop.
    pub(crate) stop: &'a dyn Fn() -> bool,
    /// Told of each step.
    pub(crate) step: &'a dyn Fn(&Run<'_>, &Clock),
    /// Told of each epoch.
    pub(crate) epoch: &'a dyn Fn(&Point),
}

/// Steps and epochs until the run is finished (true) or stopped (false); saved in either case.
pub(crate) fn train(run: &mut Run<'_>, folder: &mut Folder, watch: &Watch<'_>, clock: &mut Clock) -> Result<bool> {
    let (mut profiling, first) = (watch.profile, run.store().step());
    while !run.is_finished() {
        if (watch.stop)() {
            folder.save(run)?;
            return Ok(false);
        }
        let (start, seen) = (Instant::now(), run.progress().seen);
        match run.step()? {
            Some(step) => {
                clock.training += start.elapsed();
                clock.images += run.progress().seen - seen;
                folder.trained(run.progress().seen - seen, start.elapsed());
                after_step(run, folder, &step)?;
                if clock.save_is_due(watch.every, run.store().step()) {
                    folder.save(run)?;
                    clock.saved(run.store().step());
                }
                (watch.step)(run, clock);
            }
            None => {
                if std::mem::take(&mut profiling) {
                    let lines = profile::stop();
                    // The table is an aside: a reader that has gone does not end the run.
                    if let Err(e) = watch.bar.suspend(|| crate::profile::print(&lines, run.store().step() - first)) {
                        note!("profile: {e}");
                    }
                }
                if let Some(point) = after_epoch(run, folder, watch.stop)? {
                    (watch.epoch)(&point);
                    clock.saved(run.store().step());
                }
            }
        }
    }
    Ok(true)
}

/// Logs what belongs to a step.
fn after_step(run: &Run<'_>, folder: &mut Folder, step: &Step) -> Result<()> {
    let store = run.store();
    folder.log_diagnostics(run, step)?;
    if run.digest_is_due() {
        folder.log_digest(run)?;
    }
    if !store.step().is_multiple_of(LOG_EVERY) {
        return Ok(());
    }
    let gamma: serde_json::Map<_, _> = gammas(store).into_iter().map(|(n, g)| (n, g.into())).collect();
    let mut line = json!({
        "kind": "step", "step": store.step(), "epoch": run.progress().epoch, "loss": step.loss, "lr": step.report.lr,
        "transition_rate": step.report.transition_rate, "gamma": gamma,
    });
    if let Some(t) = &step.report.transition {
        line["target_transition_rate"] = t.target.into();
        line["running_transition_rate"] = t.running.into();
        line["talr"] = t.talr.into();
    }
    for (name, rate) in &step.report.layer_rates {
        line["layer_transition_rate"][name] = (*rate).into();
    }
    for (name, t) in &step.report.layers {
        line["layers"][name] = json!({
            "target_transition_rate": t.target, "transition_rate": t.rate, "running_transition_rate": t.running,
            "talr": t.talr,
        });
    }
    folder.log(&line)
}

/// Evaluates, logs, saves and goes on to the next epoch; none, with nothing done, if that was stopped.
fn after_epoch(run: &mut Run<'_>, folder: &mut Folder, stop: &dyn Fn() -> bool) -> Result<Option<Point>> {
    let Some(test) = run.evaluate(stop)? else { return Ok(None) };
    let validation = run.validate(stop)?;
    if validation.is_none() && stop() {
        return Ok(None);
    }
    let p = *run.progress();
    let point = Point {
        epoch: u64::from(p.epoch) + 1,
        train_loss: p.loss_sum / p.seen as f64,
        test_loss: test.loss,
        test_accuracy: test.accuracy,
        validation_accuracy: validation.as_ref().map(|v| v.accuracy),
    };
    let mut line = json!({
        "kind": "epoch", "epoch": point.epoch, "step": run.store().step(), "train_loss": point.train_loss,
        "train_accuracy": p.hits as f64 / p.seen as f64, "test_loss": test.loss, "test_accuracy": test.accuracy,
    });
    if let Some(v) = &validation {
        line["validation_loss"] = v.loss.into();
        line["validation_accuracy"] = v.accuracy.into();
    }
    folder.log_epoch(&line)?;
    run.next_epoch();
    folder.save(run)?;
    folder.draw(&run.recipe().name)?;
    Ok(Some(point))
}

/// The bar of a command, if there is a terminal for it.
pub(crate) fn progress(steps: u64, hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style)
}

fn show(run: &Run<'_>, bar: &ProgressBar, clock: &Clock) {
    if bar.is_hidden() {
        return;
    }
    let p = run.progress();
    let (mean, share) = (p.loss_sum / p.seen as f64, 100.0 * p.hits as f64 / p.seen as f64);
    let rate = clock.images as f64 / clock.start.elapsed().as_secs_f64();
    let (epoch, epochs) = (p.epoch + 1, run.recipe().epochs);
    bar.set_position(run.store().step());
    bar.set_message(format!("epoch {epoch}/{epochs}  loss {mean:.4}  acc {share:.2} %  {rate:.0} images/s"));
}

/// The last lines of a run. Times are those of this process.
fn summarize(run: &Run<'_>, folder: &Folder, options: &Options, isa: Isa, clock: &Clock) -> Result<()> {
    let recipe = run.recipe();
    let last = folder.points().last().with_context(|| {
        format!("{}: expected the numbers of its epochs in metrics.jsonl, found none", folder.path().display())
    })?;
    let seconds = clock.start.elapsed().as_secs_f64();
    let peak = crate::memory::peak_bytes();
    let digest = run.digest();
    let images_per_second = (clock.images > 0).then(|| clock.images as f64 / clock.training.as_secs_f64());
    if options.json {
        say!(
            "{}",
            json!({
                "recipe": recipe.name, "bits": recipe.bits, "seed": recipe.seed,
                "threads": rayon::current_num_threads(), "isa": isa.to_string(), "epochs": recipe.epochs,
                "steps": run.store().step(), "train_loss": last.train_loss, "test_accuracy": last.test_accuracy,
                "seconds": seconds, "images_per_second": images_per_second, "peak_memory_bytes": peak,
                "digest": digest, "run": text(folder.path()),
            })
        );
        return Ok(());
    }
    say!("recipe         {} at {} ({})", recipe.name, recipe.bits, isa);
    say!("train loss     {:.4}", last.train_loss);
    say!("test accuracy  {:.2} %", 100.0 * last.test_accuracy);
    match images_per_second {
        Some(rate) => say!("time           {seconds:.1} s, {rate:.0} images/s in training"),
        None => say!("time           all {} steps were already done", run.store().step()),
    }
    if let Some(peak) = peak {
        say!("peak memory    {:.0} MiB", peak as f64 / f64::from(1 << 20));
    }
    say!("digest         {digest}");
    say!("run folder     {}", folder.path().display());
    Ok(())
}

/// The bytes of a character as shells write them between `$'` and `'`.
fn hexadecimal(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!(r"\x{byte:02x}")).collect()
}

/// A path as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.chars().all(|c| c.is_alphanumeric() || "/._-+=:@%,".contains(c)) {
        return text;
    }
    if !is_plain(&text) {
        // Bash, zsh and ksh read these.
        let shown = |c: char| if is_plain(c.encode_utf8(&mut [0; 4])) { c.to_string() } else { hexadecimal(c) };
        let text = text.replace('\\', r"\\").replace('\'', r"\'");
        return format!("$'{}'", text.chars().map(shown).collect::<String>());
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read() {
        let minutes = |n: u64| Ok(Every::Time(Duration::from_secs(60 * n)));
        assert_eq!("500steps".parse(), Ok(Every::Steps(500)));
        assert_eq!("7".parse(), Ok(Every::Steps(7)));
        assert_eq!(["5min".parse(), "300s".parse(), "5 m".parse()], [minutes(5), minutes(5), minutes(5)]);
        assert_eq!("2h".parse(), minutes(120));
        for text in ["", "0steps", "min", "-3", "1.5h", "3 days", "99999999999999999999", "18446744073709551615h"] {
            assert!(text.parse::<Every>().unwrap_err().contains("500steps or 5min"), "{text}");
        }
    }

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("runs/digits-4-4-4-s1")), "runs/digits-4-4-4-s1");
        assert_eq!(quoted(Path::new("my run's")), r"'my run'\''s'");
        assert_eq!(quoted(Path::new("a'\u{1b}[2J\n\u{9b}\\b")), r"$'a\'\x1b[2J\x0a\xc2\x9b\\b'");
    }
}
