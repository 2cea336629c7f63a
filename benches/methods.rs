//! What the methods cost: whole training steps under LBT's rule beside min-max, and under transition-rate scheduling beside
//! the optimizer alone. The costs are a few percent at most, less than what a machine varies from minute to minute and
//! than what the place of a network's numbers in memory makes. So the variants take their steps in turn, each step is set
//! against that of the same turn, and each variant is there several times, forwards and backwards.
//!
//! `cargo bench --bench methods` for ResNet-20 at 4/4/4 on one thread; `-- NETWORK BITS THREADS` for others.

mod common;

use common::{NETWORKS, Training};
use std::error::Error;
use std::time::Instant;

/// Gradient rule and optimizer of each variant, and the variant that it is set against.
const VARIANTS: [(&str, &str, Option<usize>); 5] = [
    ("min-max", "sgd", None),
    ("lbt", "sgd", Some(0)),
    ("lbt", "sgdt", Some(1)),
    ("lbt", "adam", None),
    ("lbt", "adamt", Some(3)),
];

/// Steps before those that count: the first sets scales and intervals.
const WARM_UP: usize = 3;
/// How often each variant is there.
const COPIES: usize = 4;
/// Steps of each copy that count.
const TURNS: usize = 40;

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(network: &str, bits: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let found = NETWORKS.iter().find(|n| n.name == network).ok_or(format!("no network `{network}`"))?;
    let mut times = vec![Vec::with_capacity(COPIES * TURNS); VARIANTS.len()];
    for copy in 0..COPIES {
        let mut order: Vec<usize> = (0..VARIANTS.len()).collect();
        if copy % 2 == 1 {
            order.reverse();
        }
        let mut trainings = Vec::new();
        for &i in &order {
            let (rule, optimizer, _) = VARIANTS[i];
            trainings.push((i, Training::new(found, bits, rule, optimizer)?));
        }
        for turn in 0..WARM_UP + TURNS {
            for (i, training) in &mut trainings {
                let start = Instant::now();
                training.step()?;
                if turn >= WARM_UP {
                    times[*i].push(start.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    println!("{network} at {bits}, {}, {COPIES} copies of {TURNS} steps in turn\n", fixnet::kernel::isa());
    println!("{:<10} {:<10} {:>10} {:>22}", "rule", "optimizer", "ms, median", "ratio, median of turns");
    for (i, (rule, optimizer, base)) in VARIANTS.into_iter().enumerate() {
        let ratio = base.map_or(String::new(), |b| {
            let of_turns = times[i].iter().zip(&times[b]).map(|(a, b)| a / b);
            format!("{:.3} to {} {}", median(of_turns), VARIANTS[b].0, VARIANTS[b].1)
        });
        println!("{rule:<10} {optimizer:<10} {:>10.2} {ratio:>22}", median(times[i].iter().copied()));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let arg = |i: usize, usual: &'static str| args.get(i).map_or(usual, String::as_str);
    fixnet::kernel::isa_from_env()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arg(2, "1").parse()?).build()?;
    pool.install(|| measure(arg(0, "resnet20"), arg(1, "4/4/4")))
}
