//! The `fixnet` command: train, evaluate and inspect networks in fixed-point arithmetic.
#![forbid(unsafe_code)]

mod eval;
mod info;
mod kernels;
mod memory;
mod plot;
mod profile;
mod recipe;
mod train;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Train neural networks on the CPU in real low-bit fixed-point arithmetic, the same bits on every machine.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a recipe: a built-in name (digits, photo-digits, mnist, cifar10-resnet20, …) or a TOML file
    Train(Box<train::Args>),
    /// Evaluate the checkpoint of a run on its test images
    Eval(eval::Args),
    /// Show what this CPU can do and which kernels are chosen
    Info(info::Args),
    /// List the integer kernels and time them side by side
    Kernels(kernels::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(args),
        Command::Info(args) => info::run(args),
        Command::Kernels(args) => kernels::run(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Caps the instruction set by flag or environment.
fn choose_isa(flag: Option<&str>) -> anyhow::Result<fixnet::kernel::Isa> {
    use fixnet::kernel::{isa, isa_from_env, set_isa};
    match flag {
        Some(name) => set_isa(name.parse()?)?,
        None => {
            isa_from_env().map_err(|e| anyhow::anyhow!("FIXNET_ISA: {e}"))?;
        }
    }
    Ok(isa())
}
