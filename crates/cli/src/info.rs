//! `fixnet info`: what the CPU has and what is chosen.

use crate::machine::Machine;
use crate::out::say;
use anyhow::Result;
use fixnet::kernel;
use std::process::ExitCode;

/// Arguments of `fixnet info`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    args.machine.run(|isa| show(&args, &isa.to_string()))
}

fn show(args: &Args, isa: &str) -> Result<ExitCode> {
    let available: Vec<String> = kernel::available_isas().iter().map(ToString::to_string).collect();
    let threads = rayon::current_num_threads();
    // A signed left operand takes one level less than 2^bits.
    let chosen: Vec<(u8, &str)> =
        (1..=8u8).map(|b| (b, kernel::select(((1u16 << b) - 1) as u8, 1 << (b - 1)).name)).collect();
    let float = kernel::select_float().name;
    if args.json {
        let kernels: serde_json::Map<String, serde_json::Value> =
            chosen.iter().map(|(b, n)| (b.to_string(), (*n).into())).collect();
        let line = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"), "architecture": std::env::consts::ARCH, "isas": available, "isa": isa,
            "threads": threads, "kernels": kernels, "float_kernel": float,
        });
        say!("{line}");
        return Ok(ExitCode::SUCCESS);
    }
    say!("fixnet {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    say!("instruction sets  {} (in force: {isa})", available.join(", "));
    say!("threads           {threads}");
    say!("kernels by bits of both operands");
    for (bits, name) in chosen {
        say!("  {bits:>5}  {name}");
    }
    say!("  float  {float}");
    Ok(ExitCode::SUCCESS)
}
