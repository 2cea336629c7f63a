//! The fixnet side of the peer bench: trains one network at one precision and times its steps on demand.
//!
//! `peer_step NETWORK BITS THREADS` takes three steps to warm up and prints a line of JSON with the number of parameters; then, for
//! each number of steps that it reads, another with their times and the peak memory since the warm-up. `torch_step.py` speaks the same.
//! `FIXNET_ISA` caps the instruction set.

#[path = "../common/mod.rs"]
mod common;

use common::{NETWORKS, Training};
use std::error::Error;
use std::io::stdin;
use std::time::Instant;

const WARM_UP: usize = 3;

/// A size of this process in kB, where the system tells it (Linux), else 0.
fn memory(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    line.and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn times(training: &mut Training, steps: usize) -> fixnet::Result<Vec<f64>> {
    let time = |_| {
        let start = Instant::now();
        training.step()?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    (0..steps).map(time).collect()
}

fn serve(network: &str, bits: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let network = NETWORKS.iter().find(|n| n.name == network).ok_or(format!("no network `{network}`"))?;
    let base = memory("VmRSS:");
    let mut training = Training::new(network, bits, "lbt", network.optimizer)?;
    let warm = times(&mut training, WARM_UP)?;
    // Starts the count of the peak anew, so that it is that of training and not of what came before.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (isa, parameters) = (fixnet::kernel::isa(), training.parameters());
    println!(r#"{{"isa": "{isa}", "parameters": {parameters}, "base_kb": {base}, "ms": {warm:?}}}"#);
    for line in stdin().lines() {
        let ms = times(&mut training, line?.trim().parse()?)?;
        println!(r#"{{"ms": {ms:?}, "peak_kb": {}}}"#, memory("VmHWM:"));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [network, bits, threads] = args.as_slice() else { return Err("usage: peer_step NETWORK BITS THREADS".into()) };
    fixnet::kernel::isa_from_env()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build()?;
    // On a thread of the pool, so that handing out work never crosses from outside.
    pool.install(|| serve(network, bits))
}
