//! Burn (its CPU backend Flex) and candle in the peer bench: each trains the perceptron or the LeNet-like network and
//! times its steps on demand. `rust_step burn|candle mlp|lenet`; what it reads and prints is described in
//! `fixnet_step.rs`. `RAYON_NUM_THREADS` sets the threads of both.

mod burn_side;
mod candle_side;

use std::error::Error;
use std::io::stdin;
use std::time::Instant;

const WARM_UP: usize = 3;
const BATCH: usize = 128;
const CLASSES: usize = 10;
const LR: f64 = 1e-4;
const MOMENTUM: f64 = 0.9;
const DECAY: f64 = 1e-4;

/// Takes one training step and returns the loss.
type Step = Box<dyn FnMut() -> Result<f32, Box<dyn Error>>>;

fn images() -> Vec<f32> {
    // Any irregular numbers of mean 0 and deviation of about 1 will do.
    (0..BATCH * 784).map(|i| (i * 7919 % 3463) as f32 / 1000.0 - 1.73).collect()
}

fn memory(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next());
    line.and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

fn times(step: &mut Step, steps: usize) -> Result<Vec<f64>, Box<dyn Error>> {
    let time = |_| {
        let start = Instant::now();
        let loss = step()?;
        if !loss.is_finite() {
            return Err("the loss is not finite".into());
        }
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    (0..steps).map(time).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let base = memory("VmRSS:");
    let mut step = match args[..] {
        ["burn", network @ ("mlp" | "lenet")] => burn_side::training(network == "lenet"),
        ["candle", network @ ("mlp" | "lenet")] => candle_side::training(network == "lenet")?,
        _ => return Err("usage: rust_step burn|candle mlp|lenet".into()),
    };
    let warm = times(&mut step, WARM_UP)?;
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    println!(r#"{{"isa": "its own", "base_kb": {base}, "ms": {warm:?}}}"#);
    for line in stdin().lines() {
        let ms = times(&mut step, line?.trim().parse()?)?;
        println!(r#"{{"ms": {ms:?}, "peak_kb": {}}}"#, memory("VmHWM:"));
    }
    Ok(())
}
