//! `fixnet kernels`: every kernel at one shape, timed side by side, beside matrixmultiply's sgemm.

use crate::machine::Cap;
use crate::out::say;
use crate::usage;
use anyhow::{Result, anyhow};
use fixnet::kernel;
use fixnet::tensor::{Codes, Range, Tensor, float, linear_by};
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of `fixnet kernels`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rows, columns and inner length of the product (default 512 512 512)
    #[arg(num_args = 3, value_names = ["M", "N", "K"])]
    shape: Vec<usize>,
    /// Bits of both operands, 1 to 8
    #[arg(long, default_value_t = 4)]
    bits: u8,
    #[command(flatten)]
    cap: Cap,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Elements of a matrix: as floats it takes 1 GiB.
const LARGEST: usize = 1 << 28;

struct Row<'a> {
    name: String,
    isa: String,
    chosen: bool,
    run: Box<dyn FnMut() + Send + 'a>,
    seconds: Vec<f64>,
}

fn pattern(n: usize, span: i32, low: i32) -> Vec<i32> {
    (0..n).map(|i| (i * 7919 % 251) as i32 % span + low).collect()
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let cap = args.cap.enter()?;
    let (m, n, k) = match args.shape[..] {
        [m, n, k] => (m, n, k),
        _ => (512, 512, 512),
    };
    let fits = |a: usize, b: usize| a.checked_mul(b).is_some_and(|ab| (1..=LARGEST).contains(&ab));
    if !(fits(m, k) && fits(n, k) && fits(m, n)) {
        let matrices = format!("three lengths above 0 and matrices of at most {LARGEST} elements");
        return Err(usage(anyhow!("shape: expected {matrices}, found {m} {n} {k}")));
    }
    let range = |range: fixnet::tensor::Result<Range>| range.map_err(|e| usage(e.into()));
    let (left, right) = (range(Range::unsigned(args.bits))?, range(Range::symmetric(args.bits))?);
    let x = Codes::from_levels(&[m, k], left, 1.0, &pattern(m * k, left.max() + 1, 0))?;
    let w = Codes::from_levels(&[n, k], right, 1.0, &pattern(n * k, 2 * right.max() + 1, right.min()))?;
    let (xf, wf) = (x.dequantize(), w.dequantize());
    let chosen = kernel::select(x.byte_max(), w.level_max());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;

    let mut rows: Vec<Row<'_>> = Vec::new();
    for kernel in kernel::all().iter().filter(|k| cap.allows(k.isa) && k.admits(x.byte_max(), w.level_max())) {
        let (x, w) = (&x, &w);
        rows.push(Row {
            name: kernel.name.into(),
            isa: kernel.isa.to_string(),
            chosen: std::ptr::eq(kernel, chosen),
            run: Box::new(move || drop(std::hint::black_box(linear_by(kernel, x, w)))),
            seconds: Vec::new(),
        });
    }
    let (xr, wr) = (&xf, &wf);
    rows.push(Row {
        name: kernel::select_float().name.into(),
        isa: kernel::select_float().isa.to_string(),
        chosen: false,
        run: Box::new(move || drop(std::hint::black_box(float::linear(xr, wr)))),
        seconds: Vec::new(),
    });
    let two = |t: &Tensor| t.view().into_dimensionality::<ndarray::Ix2>().map(|v| v.to_owned());
    // ndarray's product is matrixmultiply's sgemm; the transposed view is packed by it, as a weight would be.
    let (a, b) = (two(&xf)?, two(&wf)?.reversed_axes());
    rows.push(Row {
        name: "matrixmultiply-sgemm".into(),
        isa: "detected".into(),
        chosen: false,
        run: Box::new(move || drop(std::hint::black_box(a.dot(&b)))),
        seconds: Vec::new(),
    });
    // Interleaved, so that a disturbance hits all alike; the first round warms up.
    let rounds = (2_000_000_000 / (m * n * k).max(1)).clamp(3, 15);
    for round in 0..=rounds {
        for row in &mut rows {
            let seconds = pool.install(|| {
                let start = Instant::now();
                (row.run)();
                start.elapsed().as_secs_f64()
            });
            if round > 0 {
                row.seconds.push(seconds);
            }
        }
    }
    if !args.json {
        say!("{m} x {n} x {k}, {} bits, one product with packing, median of {rounds}\n", args.bits);
        say!("{:<28} {:<12} {:>10}", "kernel", "isa", "GMAC/s");
    }
    for mut row in rows {
        row.seconds.sort_by(f64::total_cmp);
        let gmacs = (m * n * k) as f64 / row.seconds[row.seconds.len() / 2] / 1e9;
        if args.json {
            let line = serde_json::json!({
                "kernel": row.name, "isa": row.isa, "m": m, "n": n, "k": k, "bits": args.bits,
                "gmacs": gmacs, "chosen": row.chosen,
            });
            say!("{line}");
        } else {
            say!("{:<28} {:<12} {gmacs:>10.2}{}", row.name, row.isa, if row.chosen { "  chosen" } else { "" });
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_any_length_stays_in_its_range() {
        // Longer than what times 7919 fits 31 bits.
        let levels = pattern(300_000, 255, -127);
        assert!(levels.iter().all(|level| (-127..=127).contains(level)));
        assert_eq!((levels[0], levels[299_999]), (-127, (299_999usize * 7919 % 251) as i32 - 127));
    }
}
