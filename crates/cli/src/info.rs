//! `fixnet info`: what the CPU has and what is chosen.

use anyhow::Result;
use fixnet::kernel;

/// Arguments of `fixnet info`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Cap the instruction set
    #[arg(long)]
    isa: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let isa = crate::choose_isa(args.isa.as_deref())?.to_string();
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
        println!("{line}");
        return Ok(());
    }
    println!("fixnet {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
    println!("instruction sets  {} (in force: {isa})", available.join(", "));
    println!("threads           {threads}");
    println!("kernels by bits of both operands");
    for (bits, name) in chosen {
        println!("  {bits:>5}  {name}");
    }
    println!("  float  {float}");
    Ok(())
}
