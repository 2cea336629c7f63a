//! The `fixnet` command: train, evaluate and inspect networks in fixed-point arithmetic.
//!
//! The command is a function, so that a program of one's own can be the command with more in it: it registers its tasks,
//! gradient rules and update rules, and calls [`main`].
//!
//! ```no_run
//! use fixnet::train::task;
//! # fn sorting() -> task::TaskKind { unimplemented!() }
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     task::register(sorting());
//!     fixnet_cli::main()
//! }
//! ```
#![forbid(unsafe_code)]

mod chart;
mod compare;
mod eval;
mod exit;
mod export;
mod flags;
mod import;
mod info;
mod inspect;
mod interrupt;
mod kernels;
mod machine;
mod memory;
mod out;
mod outputs;
mod plot;
mod predict;
mod profile;
mod recipes;
mod reference;
mod report;
mod screen;
mod spreadsheet;
mod summary;
mod train;
mod verify;

use clap::{CommandFactory, Parser, Subcommand};
use exit::{CODES, INTERRUPTED, USAGE};
use out::note;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The help after the list of commands.
fn after_help() -> String {
    let codes: Vec<String> = CODES.iter().map(|(code, meaning)| format!("  {code:<3}  {meaning}\n")).collect();
    format!(
        "\
A first run, from nothing to a result:
  fixnet train digits                       some seconds; the run folder is runs/digits-4-4-4-s1
  fixnet eval runs/digits-4-4-4-s1          its last checkpoint on the test data
  fixnet recipes digits > mine.toml         a recipe to change, then: fixnet train mine.toml

Exit codes:
{}
Environment:
  FIXNET_ISA  caps the instruction set, as --isa does
  NO_COLOR    no colours in this help and in messages",
        codes.concat()
    )
}

/// Train neural networks on the CPU in real low-bit fixed-point arithmetic, the same bits on every machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = after_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe: a built-in name (digits, photo-digits, mnist, cifar10-resnet20, …) or a TOML file
    #[command(after_help = "\
Examples:
  fixnet train digits
  fixnet train digits --bits 32/32/32                         the float baseline
  fixnet train photo-digits --gradient-rule min-max --seed 2  another rule, another seed
  fixnet train mnist --data mnist:FOLDER                      IDX files, plain or gzip
  fixnet train --data folder:PHOTOS                           no recipe: settings that fit the data
  fixnet train mine.toml --out runs/mine --checkpoint-every 500steps
  fixnet train digits --bits 2/2/32 --init runs/digits-32-32-32-s1
  fixnet train digits --validation 0.1 --keep-best loss --patience 5   keeps the best, stops early
  fixnet train cifar10-resnet20 --batch-size 32 --accumulate 4         four batches per step

Ctrl-C finishes the step and saves; `fixnet resume FOLDER` goes on. The run folder holds
config.toml, the checkpoint and the one before, metrics.jsonl, digests.jsonl, processes.json and
curves.svg; with --tensorboard also event files.")]
    Train(Box<train::Args>),
    /// Go on with a run that was stopped, killed, or ran out of disk
    #[command(after_help = "\
Examples:
  fixnet resume runs/digits-4-4-4-s1
  fixnet resume runs/digits-4-4-4-s1 --threads 1 --isa scalar
  fixnet resume runs/digits-4-4-4-s1 --epochs 20      extends a finished run

The result is that of a run which was never stopped, to the bit, on whatever machine. If the last
checkpoint is damaged, the one before it is used, and a message says so.")]
    Resume(train::ResumeArgs),
    /// Train a grid of runs and tell how they compare
    #[command(after_help = "\
Examples:
  fixnet compare digits --bits 32/32/32,4/4/4 --gradient-rules lbt,min-max --seeds 1..3 --epochs 2
  fixnet compare --recipes digits,mlp-digits --optimizers sgd,sgdt --bits 2/2/32 --out runs/trs
  fixnet compare digits --optimizers sgdt --set transition.scope=model,layer --diagnostics
  fixnet compare digits --seeds 1..8 --jobs 4       four runs at a time
  fixnet compare --grid grid.toml --out runs/grid

Every flag that sets a key of the recipe takes a list with commas, and so does --set TABLE.KEY=A,B for any
other key; every mix of their values is a run folder in --out. Mixes that differ
in nothing that matters (a float network under several gradient rules) are one run. Ctrl-C saves;
the same command goes on, and with more values it trains only what is new. The mean and the
spread (standard deviation) are over seeds. The folder then holds compare.csv, runs.csv, and the
curves in compare.svg and compare.png, of all finished runs in it: several commands may share it,
at the same time too.

A grid in a file:
  recipes = [\"digits\"]
  bits = [\"4/4/4\", \"8/8/8\"]
  gradient_rule = [\"lbt\", \"min-max\"]
  seed = \"1..3\"
  epochs = 2")]
    Compare(Box<compare::Args>),
    /// Draw the curves and diagnostics of runs, as SVG and PNG
    #[command(after_help = "\
Examples:
  fixnet plot runs/digits-4-4-4-s1
  fixnet plot runs/compare                          every run in it, in one figure of each kind
  fixnet plot runs/lbt runs/min-max --out plots

Figures: curves (loss and first metric), gamma, transitions (R, K, U); of runs with --diagnostics also
errors (E(G_L), E(G)), rivals (what other rules would have done), steps (effective steps, distance
to transitions), weights and gradients (histograms). One without numbers is not drawn.")]
    Plot(plot::Args),
    /// Write one HTML page about runs: curves, confusion matrix, images, layers, settings
    #[command(after_help = "\
Examples:
  fixnet report runs/digits-4-4-4-s1
  fixnet report runs/digits-4-4-4-s1 runs/digits-32-32-32-s1 --out compared.html
  fixnet report runs/mnist-4-4-4-s1 --data mnist:OTHER

The page needs nothing but itself: no network, no other file. Without --out it is report.html, of
one run in its folder, of several in the current one. What cannot be had, such as data that are
not there, is named on the page and left out.")]
    Report(report::Args),
    /// Replay a recorded run and compare the digests of its state
    #[command(after_help = "\
Examples:
  fixnet verify runs/digits-4-4-4-s1
  fixnet verify runs/digits-4-4-4-s1 --steps 100 --json

The state is compared at steps 0, 1, 10, 100, …, at the end of each epoch and with the checkpoint.
Exit code 1 and the first difference if there is one.")]
    Verify(verify::Args),
    /// Evaluate the checkpoint of a run on its test data
    #[command(after_help = "\
Examples:
  fixnet eval runs/digits-4-4-4-s1
  fixnet eval runs/digits-4-4-4-s1 --best             the best checkpoint, of a run with --keep-best
  fixnet eval runs/mnist-4-4-4-s1 --data mnist:OTHER --json")]
    Eval(eval::Args),
    /// Ask a trained network about images or rows: their classes or numbers, or the images enlarged
    #[command(after_help = "\
Examples:
  fixnet predict runs/digits-4-4-4-s1 seven.png                      the most probable classes
  fixnet predict runs/digits-4-4-4-s1 photos *.jpg --top 1           a folder and files
  fixnet predict digits.safetensors images.npz --csv > answers.csv   a packed network, an array
  fixnet predict runs/table-4-4-4-s1 new.csv --json                  rows of a table
  fixnet predict runs/photos-x2-4-4-4-s1 photo.png --out large.png   twice as high and wide
  fixnet predict runs/photos-x2-4-4-4-s1 photos --out large          a folder of images

An input is a PNG, JPEG, WebP or BMP image, a folder of them, an .npz file with the array x or x_test (or only
one: images [N, H, W] or [N, H, W, C], or rows [N, F]), or a .csv file, whose columns are found by
their names. An image of another size or with other channels is converted as in training: its
middle is scaled, grey becomes colours or colours grey. A network that enlarges takes any size, in
tiles whose seams do not show.

--json prints one object per line and input: `input` with `classes`, `numbers`, `file` or `error`.
--csv prints a row per input. A broken input does not stop the others; the exit code is then 1.")]
    Predict(predict::Args),
    /// Print names, shapes, types and metadata of a safetensors file
    #[command(after_help = "\
Examples:
  fixnet inspect runs/digits-4-4-4-s1
  fixnet inspect model.safetensors --json | jq '.tensors[].name'")]
    Inspect(inspect::Args),
    /// Write a trained network for others: ONNX, weights packed to their bits, or weights to start from
    #[command(after_help = "\
Examples:
  fixnet export runs/digits-4-4-4-s1 --onnx digits.onnx           INT4, for the newest runtimes
  fixnet export runs/digits-4-4-4-s1 --onnx digits.onnx --int8    for OpenCV, tract, older ones
  fixnet export runs/digits-4-4-4-s1 --onnx digits.onnx --float   no types but f32
  fixnet export runs/digits-4-4-4-s1 --packed digits.safetensors  `fixnet eval` reads it
  fixnet export runs/digits-4-4-4-s1 --weights start.safetensors  for `fixnet train --init`
  fixnet export runs/digits-32-32-32-s1 --torch digits.safetensors    for PyTorch
  fixnet export runs/digits-4-4-4-s1 --onnx digits.onnx --samples samples.safetensors

The input of the ONNX file is `image`, float [batch, C, H, W] with pixels from 0 to 1; the
normalization is in the file. Its output is `output`. In PyTorch, model.load_state_dict(
safetensors.torch.load_file(FILE)) takes the file of --torch. The samples are test images with the logits
of fixnet, to compare with what a runtime gives.")]
    Export(export::Args),
    /// Read weights that PyTorch has trained
    #[command(after_help = "\
Examples:
  fixnet import resnet20.safetensors --model resnet20 --classes 10 --out resnet20-fixnet.safetensors
  fixnet import resnet18.safetensors --model resnet18-imagenet --out start.safetensors
  fixnet train cifar10-resnet20 --bits 2/2/32 --init resnet20-fixnet.safetensors

The file is the state_dict of the network as safetensors, with the names of torchvision or of the
common CIFAR networks. `fixnet train --init` reads such a file as it is, too.")]
    Import(import::Args),
    /// Print the layers of a network: shapes, parameters, bits and multiply-adds
    #[command(after_help = "\
Examples:
  fixnet summary digits
  fixnet summary runs/digits-4-4-4-s1 --json
  fixnet summary cifar10-resnet20 --input 32x32x3 --classes 10    without the data")]
    Summary(summary::Args),
    /// List the built-in recipes, or print one
    #[command(after_help = "\
Examples:
  fixnet recipes
  fixnet recipes cifar10-resnet20 > mine.toml
  fixnet recipes --keys                 all keys, with their meaning")]
    Recipes(recipes::Args),
    /// Show what this CPU can do and which kernels are chosen
    #[command(after_help = "\
Examples:
  fixnet info
  fixnet info --isa avx2")]
    Info(info::Args),
    /// List the integer kernels and time them side by side
    #[command(after_help = "\
Examples:
  fixnet kernels
  fixnet kernels 512 512 120 --bits 4 --json")]
    Kernels(kernels::Args),
    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  fixnet completions bash > ~/.local/share/bash-completion/completions/fixnet
  fixnet completions zsh > ~/.zfunc/_fixnet
  fixnet completions fish > ~/.config/fish/completions/fixnet.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the generated pages of docs/reference
    #[command(hide = true)]
    Reference(reference::Args),
}

/// An error that is the command line's.
#[derive(Debug)]
struct Usage(anyhow::Error);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&message(&self.0))
    }
}

impl std::error::Error for Usage {}

/// Marks an error as the command line's, for the exit code.
fn usage(error: anyhow::Error) -> anyhow::Error {
    Usage(error).into()
}

/// An error with its causes, each said once: many messages hold that of their cause.
fn message(error: &anyhow::Error) -> String {
    error
        .chain()
        .skip(1)
        .map(ToString::to_string)
        .fold(error.to_string(), |text, cause| if text.contains(&cause) { text } else { format!("{text}: {cause}") })
}

/// Runs the command with the arguments of this process, and returns its exit code: 0 for done, 1 for failed, 2 for a command
/// line that makes no sense, 130 for stopped by a signal with everything saved.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Draws the curves of the epochs of a run to its folder, as `fixnet train` does after each epoch.
///
/// # Errors
/// The file cannot be written.
pub fn draw_curves(
    session: &fixnet::train::Session<'_>,
    folder: &fixnet::train::run::Folder,
) -> fixnet::train::Result<()> {
    train::draw(session, folder)
}

/// Returns the curves of the epochs of a run, those of [`draw_curves`], as SVG.
///
/// # Errors
/// The recipe or a log of the run cannot be read.
pub fn curves_of(run: &Path) -> anyhow::Result<String> {
    plot::curves_of(run)
}

/// Writes the page of `fixnet report` about runs to a file; returns notes on what is not in it.
///
/// # Errors
/// A run cannot be read; or the file cannot be written, or is one that fixnet did not write.
pub fn write_report(runs: &[PathBuf], out: &Path) -> anyhow::Result<Vec<String>> {
    Ok(report::write(runs, out, None, false, false)?.notes)
}

/// Runs the command with these arguments, the first of which stands for the name of the program: a program does so what the
/// command does. The exit code is that of [`main`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let out = folder.path().join("run").display().to_string();
/// for arguments in ["train mlp-digits --epochs 1 --quiet --out", "report", "verify --steps 10"] {
///     let code = fixnet_cli::run(["fixnet"].into_iter().chain(arguments.split(' ')).chain([out.as_str()]));
///     assert_eq!(code, std::process::ExitCode::SUCCESS);
/// }
/// assert!(folder.path().join("run/report.html").exists());
/// ```
pub fn run<T: Into<OsString> + Clone>(args: impl IntoIterator<Item = T>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let parsed = match Cli::try_parse_from(&args) {
        Ok(parsed) => parsed,
        Err(e) => return unparsed(&e, &args),
    };
    let result = match parsed.command {
        Command::Train(args) => train::run(*args),
        Command::Resume(args) => train::resume(args),
        Command::Compare(args) => compare::run(*args),
        Command::Plot(args) => plot::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Verify(args) => verify::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Predict(args) => predict::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Export(args) => export::run(args),
        Command::Import(args) => import::run(args),
        Command::Summary(args) => summary::run(args),
        Command::Recipes(args) => recipes::run(args),
        Command::Info(args) => info::run(args),
        Command::Kernels(args) => kernels::run(args),
        Command::Completions { shell } => completions(shell),
        Command::Reference(args) => reference::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            note!("error: {}", message(&e));
            if e.is::<Usage>() { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints why the command line makes no sense, or the help.
fn unparsed(e: &clap::Error, args: &[OsString]) -> ExitCode {
    // The message repeats arguments, such as names of files: only those without control characters are left to clap.
    match args.iter().all(|arg| out::is_plain(&arg.to_string_lossy())) {
        // A pipe that was closed is no fault of the command line.
        true => drop(e.print()),
        false => note!("{}", e.render().to_string().trim_end()),
    }
    u8::try_from(e.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "fixnet", &mut script);
    out::write(&script)?;
    Ok(ExitCode::SUCCESS)
}
