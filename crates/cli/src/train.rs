//! `fixnet train` and `fixnet resume`: arguments, progress and the summary of a run.

use crate::flags::Flags;
use crate::interrupt;
use crate::machine::Machine;
use crate::out::{escaped, is_plain, note, say, text};
use crate::screen::Screen;
use crate::{INTERRUPTED, usage};
use anyhow::{Context, Result, anyhow, ensure};
use fixnet::data::Source;
use fixnet::kernel::Isa;
use fixnet::tensor::profile;
use fixnet::train::config::value_for;
use fixnet::train::init::Weights;
use fixnet::train::run::event::score_name;
use fixnet::train::run::{Folder, place};
use fixnet::train::task::{self, LOSS, Part};
use fixnet::train::trainer::{self, Clock, Every};
use fixnet::train::{Config, Session, Settings, TaskData, loaded_for, suggest};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `fixnet train`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A built-in recipe (`fixnet recipes` lists them) or a TOML file; without one, settings are chosen that fit --data
    recipe: Option<String>,
    #[command(flatten)]
    flags: Flags<false>,
    /// Set any key of the recipe, as in --set transition.rule=damped; may be repeated
    #[arg(long, value_name = "TABLE.KEY=VALUE")]
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
    /// Extend a finished run to so many epochs; schedules are those of a run of that length from here on
    #[arg(long, value_name = "EPOCHS")]
    epochs: Option<u32>,
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
    /// No progress bar, and no line per epoch
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

impl Args {
    /// The keys that have a flag which is given.
    fn flag_keys(&self) -> impl Iterator<Item = &str> {
        self.flags.given().map(|(key, ..)| key.name)
    }

    /// The keys that `--set` names.
    fn set_keys(&self) -> impl Iterator<Item = &str> {
        let keys = self.set.iter().filter_map(|assignment| assignment.split_once('=')).map(|(key, _)| key.trim());
        // The word in place of the table.
        keys.map(|key| if key == "transition" { "transition.rule" } else { key })
    }

    /// That no key is given both by its flag and by `--set`.
    fn check_once(&self) -> Result<()> {
        for (key, flag, _) in self.flags.given() {
            let twice = self.set_keys().any(|set| set == key.name);
            ensure!(!twice, "{0}: expected --{1} or --set {0}=…, found both", key.name, flag.name);
        }
        Ok(())
    }

    /// Puts the flags into a recipe.
    fn put(&self, settings: &mut Settings) -> Result<()> {
        // An optimizer may bring settings, which others then change.
        self.flags.set(settings, |key| key == "optimizer.name")?;
        self.set.iter().try_for_each(|assignment| set(settings, assignment)).map_err(usage)?;
        self.flags.set(settings, |key| key != "optimizer.name")?;
        settings.run.tensorboard |= self.options.tensorboard;
        Ok(())
    }

    /// The recipe with the flags put in, and the data where they had to be read for it.
    fn config(&self) -> Result<(Config, Option<TaskData>)> {
        self.check_once().map_err(usage)?;
        let (mut settings, loaded) = match &self.recipe {
            Some(recipe) => {
                let settings = find(recipe)?;
                settings.clone().check().with_context(|| format!("recipe {recipe}"))?;
                (settings, None)
            }
            None => self.suggested()?,
        };
        self.put(&mut settings)?;
        // What was right before the flags were put in is wrong by the flags.
        let config = settings.check().map_err(|e| usage(e.into()))?;
        task::check(&config).map_err(|e| usage(e.into()))?;
        let loaded = loaded_for(loaded, &config)?;
        Ok((config, loaded))
    }

    /// A recipe that fits the data.
    fn suggested(&self) -> Result<(Settings, Option<fixnet::train::Loaded>)> {
        if !self.flag_keys().chain(self.set_keys()).any(|key| key == "data.source") {
            let known = fixnet::train::config::names();
            return Err(usage(anyhow!(
                "expected a recipe ({known}, or a TOML file) or --data KIND:PATH, found neither"
            )));
        }
        // Mistakes in flags are told as such, before data are read.
        self.put(&mut Settings::default())?;
        let suggestion = suggest(|settings| {
            self.put(settings)
                .map_err(|e| fixnet::train::Error::Setting { key: "flags".into(), reason: format!("{e:#}") })
        })?;
        let of = suggestion.data;
        note!("note: no recipe is given, so settings are chosen for {of}; config.toml of the run has them");
        Ok((suggestion.settings, Some(suggestion.loaded)))
    }
}

/// A built-in recipe, or one from a file; an unknown name is a mistake of the command line.
pub(crate) fn find(name: &str) -> Result<Settings> {
    Settings::find(name).map_err(|e| match e {
        fixnet::train::Error::NoRecipe { .. } => usage(e.into()),
        other => other.into(),
    })
}

/// Sets a key from text as in `transition.rule=damped`: what is no TOML value is a string.
fn set(settings: &mut Settings, assignment: &str) -> Result<()> {
    let parts = assignment.split_once('=').filter(|(key, _)| !key.trim().is_empty());
    let (key, text) = parts.with_context(|| format!("--set: expected TABLE.KEY=VALUE, found {assignment}"))?;
    settings.set(key.trim(), value_for(key.trim(), text.trim())).map_err(|e| anyhow!("--set {assignment}: {e}"))
}

/// The configuration with data in the place that `--data` names.
pub(crate) fn moved(config: Config, place: Option<&str>) -> Result<Config> {
    match place {
        Some(place) => Ok(config.with_source(place.parse::<Source>().map_err(|e| usage(e.into()))?)?),
        None => Ok(config),
    }
}

/// The same run, judged by the test data of another source.
pub(crate) fn tested_on(config: Config, source: Option<&str>) -> Result<Config> {
    match source {
        Some(source) => Ok(config.with_test_of(source.parse::<Source>().map_err(|e| usage(e.into()))?)?),
        None => Ok(config),
    }
}

/// As [`tested_on`], with all rows of a table.
pub(crate) fn tested_on_whole(config: Config, source: Option<&str>) -> Result<Config> {
    match source {
        Some(source) => Ok(config.with_whole_test_of(source.parse::<Source>().map_err(|e| usage(e.into()))?)?),
        None => Ok(config),
    }
}

/// `fixnet train`.
pub(crate) fn run(args: Args) -> Result<ExitCode> {
    interrupt::expect_saves()?;
    args.options.machine.run(|isa| {
        let (config, loaded) = args.config()?;
        let (config, changed) = config.with_useful_optimizer()?;
        changed.iter().for_each(|line| note!("{line}"));
        let is_given = |key: &str| args.flag_keys().chain(args.set_keys()).any(|given| given == key);
        config.notes_on_ineffective(is_given).iter().for_each(|line| note!("note: {line}"));
        if args.recipe.is_none() {
            let s = config.settings();
            let (bits, epochs, size) = (s.quantization.bits, s.run.epochs, s.run.batch_size);
            let what = format!("task {}, model {}, bits {bits}, optimizer {}", s.task, s.model.name, s.optimizer.name);
            let s = if epochs == 1 { "" } else { "s" };
            note!("note: {what}, {epochs} epoch{s} of batches of {size}");
        }
        let out = args.out.clone().unwrap_or_else(|| place::usual_folder(&config));
        // Before the data: a wrong name should not cost the time to load them.
        let weights = config.settings().run.init.as_deref().map(Weights::open).transpose()?;
        let (task, data) = match loaded {
            Some(loaded) => loaded,
            None => task::load(&config)?,
        };
        let mut notes = Vec::new();
        let mut session = Session::begin(config, task, &*data, weights.as_ref(), &mut notes)?;
        notes.iter().for_each(|line| note!("{line}"));
        session.diagnose(args.diagnostics);
        let mut warnings = Vec::new();
        let folder = Folder::create(&out, &session, args.overwrite, &mut warnings);
        warnings.iter().for_each(|warning| note!("warning: {warning}"));
        let mut folder = folder?;
        if session.config().settings().run.tensorboard {
            folder.write_tensorboard(0)?;
        }
        drive(&mut session, &mut folder, &args.options, isa)
    })
}

/// `fixnet resume`.
pub(crate) fn resume(args: ResumeArgs) -> Result<ExitCode> {
    interrupt::expect_saves()?;
    args.options.machine.run(|isa| {
        let opened = Folder::open(&args.run)?;
        opened.warnings.iter().for_each(|warning| note!("warning: {warning}"));
        let (mut folder, checkpoint) = (opened.folder, opened.checkpoint);
        let config = place::config_to_resume(&args.run, &checkpoint, args.epochs).map_err(|e| match e {
            fixnet::train::Error::Setting { .. } if args.epochs.is_some() => usage(anyhow!("--epochs: {e}")),
            other => other.into(),
        })?;
        let tensorboard = config.settings().run.tensorboard || args.options.tensorboard;
        let config = moved(config, args.data.as_deref())?.with_tensorboard(tensorboard);
        let (task, data) = task::load(&config)?;
        let mut notes = Vec::new();
        let mut session = Session::resumed(config, task, &*data, &checkpoint, &mut notes)?;
        notes.iter().for_each(|line| note!("{line}"));
        folder.take_up(&mut session, checkpoint)?;
        if !folder.epochs().is_empty() {
            // A process may have ended between a checkpoint and its curves.
            draw(&session, &folder)?;
        }
        drive(&mut session, &mut folder, &args.options, isa)
    })
}

/// Draws the curves of the epochs so far. Curves that cannot be drawn are a warning and not the end of a run.
pub(crate) fn draw(session: &Session<'_>, folder: &Folder) -> fixnet::train::Result<()> {
    let title = session.config().name();
    let metric = session.task().metrics().first().copied();
    let svg = crate::plot::curves(&[(title, folder.epochs())], metric).svg();
    fixnet::train::run::write(&folder.path().join(place::CURVES), svg.as_bytes())
}

/// Trains to the end or until it is interrupted, and reports how it went.
fn drive(session: &mut Session<'_>, folder: &mut Folder, options: &Options, isa: Isa) -> Result<ExitCode> {
    interrupt::listen()?;
    let quiet = options.quiet || options.json;
    let bar = progress(session.total_steps(), quiet);
    let first = session.store().step();
    let mut clock = Clock::new(first);
    bar.set_position(first);
    if options.profile {
        profile::start();
    }
    let mut screen =
        Screen { bar: &bar, quiet, profile: options.profile.then_some(first), saves: interrupt::Saves::new() };
    let finished = trainer::train(session, folder, options.checkpoint_every, &mut screen, &mut clock)
        .with_context(|| format!("stopped at step {} of {}", session.store().step(), session.total_steps()))?;
    bar.finish_and_clear();
    if !finished {
        let (step, total) = (session.store().step(), session.total_steps());
        let command = format!("fixnet resume {}", quoted(folder.path()));
        note!("stopped after step {step} of {total} and saved; go on with: {command}");
        if options.json {
            say!("{}", json!({ "interrupted": true, "step": step, "steps": total, "resume": command }));
        }
        return Ok(ExitCode::from(INTERRUPTED));
    }
    summarize(session, folder, options, isa, &clock)?;
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

/// The bar of a command, if there is a terminal for it.
pub(crate) fn progress(steps: u64, hidden: bool) -> ProgressBar {
    if hidden || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
    }
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style)
}

/// The last lines of a run. Times are those of this process.
fn summarize(session: &Session<'_>, folder: &Folder, options: &Options, isa: Isa, clock: &Clock) -> Result<()> {
    let settings = session.config().settings();
    let last = folder.epochs().last().with_context(|| {
        let (path, run) = (folder.path().join(place::METRICS), quoted(folder.path()));
        format!(
            "{}: expected a line per epoch of this finished run, found none that can be read; the checkpoint is whole: \
             fixnet eval {run} computes its numbers on the test data anew",
            path.display()
        )
    })?;
    let (seconds, rate, peak) = (clock.seconds(), clock.training_rate(), crate::memory::peak_bytes());
    let digest = session.digest();
    if options.json {
        let mut line = json!({
            "recipe": settings.name, "bits": settings.quantization.bits.to_string(), "seed": settings.run.seed,
            "threads": rayon::current_num_threads(), "isa": isa.to_string(), "epochs": last.epoch,
            "steps": session.store().step(), "seconds": seconds, "images_per_second": rate,
            "peak_memory_bytes": peak, "digest": digest, "run": text(folder.path()),
        });
        for (name, value) in &last.scores {
            line[name] = json!(value);
        }
        if let (Some(judge), Some(best)) = (session.judge(), session.progress().best) {
            line["best"] = json!({ "score": judge.score(), "value": best.value, "epoch": best.epoch });
            line["stopped_early"] = json!(best.stopped);
        }
        say!("{line}");
        return Ok(());
    }
    say!("recipe         {} at {} ({})", settings.name, settings.quantization.bits, isa);
    let mut shown = vec![(Part::Train, LOSS)];
    shown.extend(session.task().metrics().iter().map(|metric| (Part::Test, *metric)));
    for (part, metric) in shown {
        if let Some(value) = last.score(part, metric.name) {
            say!("{:<14} {}", score_name(part, metric.name).replace('_', " "), metric.unit.text(value));
        }
    }
    if let (Some(judge), Some(best)) = (session.judge(), session.progress().best) {
        let (score, value) = (judge.score().replace('_', " "), judge.text(best.value));
        say!("best epoch     {}, with {score} {value}", best.epoch);
        if best.stopped {
            say!("stopped early  after epoch {} of {}", last.epoch, settings.run.epochs);
        }
    }
    match rate {
        Some(rate) => say!("time           {seconds:.1} s, {rate:.0} {}/s in training", session.task().noun()),
        None => say!("time           all {} steps were already done", session.store().step()),
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
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(quoted(Path::new("runs/digits-4-4-4-s1")), "runs/digits-4-4-4-s1");
        assert_eq!(quoted(Path::new("my run's")), r"'my run'\''s'");
        assert_eq!(quoted(Path::new("a'\u{1b}[2J\n\u{9b}\\b")), r"$'a\'\x1b[2J\x0a\xc2\x9b\\b'");
    }
}
