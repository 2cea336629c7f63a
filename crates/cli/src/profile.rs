//! The table of `fixnet train --profile`: time, bytes and multiply-adds by kind of work and by layer, with their share of
//! what this machine can do.

use crate::out::say;
use anyhow::Result;
use fixnet::tensor::profile::Line;
use fixnet::tensor::{Codes, Range, linear, map};
use std::collections::BTreeMap;
use std::time::Instant;

/// What the machine can do with the threads in force.
struct Limits {
    /// Bytes a second, read and written, of a copy that no cache holds.
    copy: f64,
    /// Multiply-adds a second of 4-bit codes, 512 x 512 x 512.
    products: f64,
}

/// The median seconds of `f` over some runs.
fn median(mut f: impl FnMut()) -> f64 {
    let mut seconds: Vec<f64> = (0..7)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

impl Limits {
    fn measure() -> Result<Self> {
        let from = vec![1f32; 1 << 24];
        let mut to = vec![0f32; 1 << 24];
        let copy = 8.0 * from.len() as f64 / median(|| map::map1(&from, &mut to, |&x| x));
        let (left, right) = (Range::unsigned(4)?, Range::symmetric(4)?);
        let x = Codes::from_levels(&[512, 512], left, 1.0, &vec![7; 512 * 512])?;
        let w = Codes::from_levels(&[512, 512], right, 1.0, &vec![3; 512 * 512])?;
        let products = 512f64.powi(3) / median(|| drop(std::hint::black_box(linear(&x, &w))));
        Ok(Self { copy, products })
    }

    /// The larger of both shares: what bounds the work.
    fn share(&self, line: &Line) -> f64 {
        let seconds = line.time.as_secs_f64().max(1e-12);
        (line.bytes as f64 / seconds / self.copy).max(line.macs as f64 / seconds / self.products)
    }
}

/// Prints the lines of `steps` steps.
pub(crate) fn print(lines: &[Line], steps: u64) -> Result<()> {
    let limits = Limits::measure()?;
    let total: f64 = lines.iter().map(|l| l.time.as_secs_f64()).sum();
    let mut kinds: BTreeMap<&str, Line> = BTreeMap::new();
    for line in lines {
        let sum = kinds.entry(line.kind).or_insert_with(|| Line { kind: line.kind, ..Line::default() });
        sum.calls += line.calls;
        sum.time += line.time;
        sum.bytes += line.bytes;
        sum.macs += line.macs;
    }
    let mut kinds: Vec<Line> = kinds.into_values().collect();
    kinds.sort_by_key(|l| std::cmp::Reverse(l.time));
    let steps = steps.max(1) as f64;
    say!("profile of {steps:.0} steps, {:.1} ms a step", 1e3 * total / steps);
    say!(
        "this machine: {:.1} GB/s of copying, {:.0} billion 4-bit multiply-adds a second\n",
        limits.copy / 1e9,
        limits.products / 1e9
    );
    let table = |lines: &[Line], by: &str| -> Result<()> {
        say!("{by:<44} {:>9} {:>7} {:>8} {:>8} {:>9}", "ms/step", "share", "GB/s", "GMAC/s", "of limit");
        for line in lines {
            let seconds = line.time.as_secs_f64().max(1e-12);
            let rate = |amount: u64| match amount {
                0 => "-".to_string(),
                amount => format!("{:.1}", amount as f64 / seconds / 1e9),
            };
            let limit = match line.bytes + line.macs {
                0 => "-".to_string(),
                _ => format!("{:.0} %", 100.0 * limits.share(line)),
            };
            let name = if line.layer.is_empty() { line.kind.into() } else { format!("{} {}", line.layer, line.kind) };
            let (ms, share) = (1e3 * seconds / steps, 100.0 * seconds / total);
            say!("{name:<44} {ms:>9.3} {share:>5.1} % {:>8} {:>8} {limit:>9}", rate(line.bytes), rate(line.macs));
        }
        say!("");
        Ok(())
    };
    table(&kinds, "by kind")?;
    let layers: Vec<Line> = lines.iter().filter(|l| !l.layer.is_empty()).take(24).cloned().collect();
    table(&layers, "by layer, the longest first")
}
