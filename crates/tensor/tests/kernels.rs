//! Every row of the kernel table against a plain sum in i64 (bytes) or the written chain (floats), bit for bit.

use fixnet_tensor::kernel::{COLUMNS, Isa, Job, Kernel, QUAD, Start, all, all_bits, all_float, available_isas};

/// A small generator, so that this test depends on nothing that it tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
    fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }
}

#[derive(Debug, Clone, Copy)]
enum Fill {
    AllMax,
    AllMin,
    Random,
    Extremes,
    Period251,
}

const FILLS: [Fill; 5] = [Fill::AllMax, Fill::AllMin, Fill::Random, Fill::Extremes, Fill::Period251];

fn fill(how: Fill, len: usize, lo: i32, hi: i32, random: &mut Random) -> Vec<i32> {
    let span = (hi - lo + 1) as u32;
    (0..len)
        .map(|i| match how {
            Fill::AllMax => hi,
            Fill::AllMin => lo,
            Fill::Random => lo + random.below(span) as i32,
            Fill::Extremes => [lo, hi][random.below(2) as usize],
            Fill::Period251 => lo + ((i % 251) as u32 % span) as i32,
        })
        .collect()
}

fn skipped() {
    use Isa::*;
    let not_here: Vec<String> = [Avx2, AvxVnni, Avx512, Avx512Vnni, Neon, NeonDotprod, NeonI8mm]
        .iter()
        .filter(|i| !available_isas().contains(i))
        .map(Isa::to_string)
        .collect();
    println!("skipped, not on this CPU: {}", not_here.join(", "));
}

/// Runs `k` over `m` rows, `steps` steps and `panels` panels of the given bytes and compares with i64 sums.
fn compare(k: &Kernel, m: usize, steps: usize, panels: usize, max: (i32, i32), how: (Fill, Fill), accumulate: bool) {
    let random = &mut Random((m * 1000 + steps * 7 + panels) as u64);
    // Rows at odd places, and steps out of order: starts are unaligned and overlap.
    let base: Vec<u32> = (0..m).map(|i| (3 * i + i % 2) as u32 + 1).collect();
    let koff: Vec<u32> = (0..steps).map(|q| (5 * ((q * 7) % steps.max(1))) as u32).collect();
    // Not a byte more than is read, so that a sanitizer sees every one too many.
    let reach = |offsets: &[u32]| offsets.iter().max().map_or(0, |&o| o as usize);
    let length = reach(&base) + reach(&koff) + QUAD;
    let lhs: Vec<u8> = fill(how.0, length, 0, max.0, random).iter().map(|&v| v as u8).collect();
    let stride = steps * COLUMNS * QUAD + 64 * (panels % 2);
    let low = if max.1 == 128 { -128 } else { -max.1 };
    let end = panels.saturating_sub(1) * stride + steps * COLUMNS * QUAD;
    let rhs: Vec<i8> = fill(how.1, end, low, max.1.min(127), random).iter().map(|&v| v as i8).collect();
    let width = panels * COLUMNS;
    let out_stride = width + 3;
    let start: Vec<i32> = (0..width).map(|c| c as i32 * 1_000_003 - 77).collect();
    let before: Vec<i32> = (0..m * out_stride).map(|i| i as i32 * 31 - 5).collect();
    let mut out = before.clone();
    k.run(Job {
        lhs: &lhs,
        base: &base,
        koff: &koff,
        rhs: &rhs,
        panel_stride: stride,
        panels,
        start: if accumulate { Start::Out } else { Start::Columns(&start) },
        out: &mut out,
        out_stride,
    });
    for at in 0..m * out_stride {
        let (i, c) = (at / out_stride, at % out_stride);
        if c >= width {
            assert_eq!(out[at], before[at], "{} wrote beside its columns", k.name);
            continue;
        }
        let mut sum = i64::from(if accumulate { before[at] } else { start[c] });
        for (q, &o) in koff.iter().enumerate() {
            for j in 0..QUAD {
                let a = i64::from(lhs[(base[i] + o) as usize + j]) - i64::from(k.lhs_bias);
                let place = c / COLUMNS * stride + (q * COLUMNS + c % COLUMNS) * QUAD + j;
                sum += a * i64::from(rhs[place]);
            }
        }
        let name = k.name;
        assert_eq!(out[at], sum as i32, "{name}: m {m} steps {steps} panels {panels} {max:?} {how:?} at {i} {c}");
    }
}

/// Rows for three tiles and a rest of one, and enough for a kernel that widens its operands.
fn rows(k: &Kernel) -> usize {
    (3 * k.mr + 1).max(33)
}

#[test]
fn every_row_at_every_admissible_bit_pair() {
    skipped();
    for k in all() {
        let mut pairs = 0;
        for left in 1..=8 {
            for right in 1..=8 {
                // Unsigned or biased bytes on the left, two's complement (the widest) on the right.
                let max = ((1 << left) - 1, 1 << (right - 1));
                if !k.admits(max.0 as u8, max.1 as u8) {
                    continue;
                }
                pairs += 1;
                for a in FILLS {
                    for b in FILLS {
                        compare(k, rows(k), 300, 1, max, (a, b), false);
                    }
                }
            }
        }
        println!("{}: {pairs} pairs of widths", k.name);
    }
}

#[test]
fn every_row_at_its_widest_products() {
    for k in all() {
        // The largest right magnitude for each left byte: right at the bound of 16-bit sums.
        for left in [1, 2, 3, 7, 14, 15, 30, 31, 62, 63, 64, 100, 126, 127, 128, 200, 254, 255] {
            let right = (k.product_max / left).min(128) as i32;
            if right == 0 {
                continue;
            }
            assert_eq!(k.admits(left as u8, right as u8), left <= k.lhs_max.into());
            if left > k.lhs_max.into() {
                continue;
            }
            for how in [(Fill::AllMax, Fill::AllMax), (Fill::AllMax, Fill::AllMin), (Fill::Extremes, Fill::Extremes)] {
                for m in [3, rows(k)] {
                    compare(k, m, 270, 1, (left as i32, right), how, false);
                }
            }
        }
    }
}

#[test]
fn every_row_at_every_length() {
    for k in all() {
        let right = (k.product_max / 15).min(8) as i32;
        for steps in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000] {
            compare(k, 5, steps, 2, (15, right), (Fill::Random, Fill::Extremes), false);
            compare(k, rows(k), steps, 1, (15, right), (Fill::AllMax, Fill::AllMin), true);
        }
        for m in 0..=rows(k) {
            for panels in 0..=5 {
                compare(k, m, 9, panels, (15, right), (Fill::Period251, Fill::Random), m % 2 == 0);
            }
        }
    }
}

#[test]
fn a_wider_range_is_refused() {
    let names = |isa: &str| all().iter().filter(|k| k.name.ends_with(isa)).collect::<Vec<_>>();
    for (suffix, bits) in [("4bit", 4), ("5bit", 5), ("6bit", 6), ("7bit", 7)] {
        for k in names(suffix) {
            let (left, right) = (((1u32 << bits) - 1) as u8, 1u8 << (bits - 1));
            assert!(k.admits(left, right), "{} refuses its own range", k.name);
            assert!(!k.admits(((1u32 << (bits + 1)) - 1) as u8, 1 << bits), "{} admits {} bits", k.name, bits + 1);
        }
    }
    for k in all() {
        assert!(!k.admits(1, 129), "{}: no i8 holds 129", k.name);
        if k.product_max < 255 * 128 || k.lhs_max < 255 {
            assert!(!k.admits(255, 128), "{}", k.name);
        }
    }
    assert!(all().last().unwrap().admits(255, 128));
}

fn job<'a>(lhs: &'a [u8], rhs: &'a [i8], out: &'a mut [i32], base: &'a [u32], koff: &'a [u32]) -> Job<'a, u8, i8, i32> {
    Job { lhs, base, koff, rhs, panel_stride: 64, panels: 1, start: Start::Columns(&[0; 16]), out, out_stride: 16 }
}

#[test]
fn offsets_beyond_a_slice_are_refused() {
    let caught = |lhs: usize, rhs: usize, out: usize, base: &[u32], koff: &[u32]| {
        let (lhs, rhs, mut out) = (vec![0; lhs], vec![0; rhs], vec![0; out]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| all()[0].run(job(&lhs, &rhs, &mut out, base, koff))))
            .is_err()
    };
    assert!(!caught(9, 64, 16, &[5], &[0]));
    assert!(caught(8, 64, 16, &[5], &[0]), "left operand");
    assert!(caught(9, 63, 16, &[5], &[0]), "panel");
    assert!(caught(9, 64, 15, &[5], &[0]), "result");
    assert!(caught(9, 64, 31, &[5, 5], &[0]), "result of two rows");
    assert!(caught(9, 64, 16, &[5], &[1]), "step");
    assert!(caught(9, 64, 16, &[u32::MAX], &[u32::MAX]), "offsets do not wrap");
    // Enough rows for operands that are widened beforehand, of every kernel.
    for k in all() {
        let rows = |lhs: usize, rhs: usize, base: u32, koff: &[u32]| {
            let (lhs, rhs, base, mut out) = (vec![0; lhs], vec![0; rhs], [base; 40], vec![0; 40 * 16]);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| k.run(job(&lhs, &rhs, &mut out, &base, koff))))
                .is_err()
        };
        assert!(!rows(9, 64, 5, &[0]) && !rows(9, 64, 9, &[]), "{}", k.name);
        assert!(rows(8, 64, 5, &[0]) && rows(9, 63, 5, &[0]) && rows(9, 64, 5, &[1]), "{}", k.name);
        assert!(rows(9, 64, 10, &[]) && rows(9, 64, u32::MAX, &[]) && rows(9, 64, 5, &[u32::MAX]), "{}", k.name);
    }
}

/// Whether `k` panics on one row of zeros, or on several with a stride between them.
fn refuses(k: &Kernel, rows: usize, panels: usize, panel_stride: usize, out_stride: usize, start: bool) -> bool {
    let (lhs, rhs, base, mut out) = ([0; 9], [0; 64], vec![0; rows], [0; 64]);
    let start = if start { Start::Columns(&[0; 16]) } else { Start::Out };
    let job =
        Job { lhs: &lhs, base: &base, koff: &[0], rhs: &rhs, panel_stride, panels, start, out: &mut out, out_stride };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| k.run(job))).is_err()
}

#[test]
fn sizes_that_wrap_are_refused() {
    for k in all() {
        assert!(!refuses(k, 4, 1, 64, 16, true), "{}", k.name);
        // Three times the first stride is 2, twice the others 0, and 16 times the panels 0, were they to wrap.
        assert!(refuses(k, 4, 1, 64, usize::MAX / 3 + 1, true), "{}: stride of the result", k.name);
        assert!(refuses(k, 33, 1, 64, 1 << (usize::BITS - 5), true), "{}: stride of the result", k.name);
        for rows in [1, 33] {
            assert!(refuses(k, rows, 1 << (usize::BITS - 4), 0, 16, false), "{}: panels", k.name);
            assert!(refuses(k, rows, 3, 1 << (usize::BITS - 1), 48, false), "{}: stride of panels", k.name);
        }
    }
}

#[test]
fn bit_rows_at_their_widest_counts() {
    skipped();
    for k in all_bits() {
        for steps in [0, 1, 2, 30, 31, 32, 33, 61, 62, 63, 64, 127, 255, 256, 1000] {
            for (left, right) in [(u32::MAX, u32::MAX), (u32::MAX, 0), (0, u32::MAX), (0xAAAA_AAAA, 0x5555_5555)] {
                let (rows, panels) = (3 * k.mr + 1, 3);
                let base: Vec<u32> = (0..rows as u32).collect();
                let koff: Vec<u32> = (0..steps as u32).collect();
                let (lhs, rhs) = (vec![left; rows + steps], vec![right; panels * steps * COLUMNS]);
                let mut out = vec![7; rows * panels * COLUMNS];
                k.run(Job {
                    lhs: &lhs,
                    base: &base,
                    koff: &koff,
                    rhs: &rhs,
                    panel_stride: steps * COLUMNS,
                    panels,
                    start: Start::Out,
                    out: &mut out,
                    out_stride: panels * COLUMNS,
                });
                let product = i64::from((left & right).count_ones()) - i64::from((left & !right).count_ones());
                let sum = 7 + steps as i64 * product;
                assert!(out.iter().all(|&o| i64::from(o) == sum), "{}: {steps} steps of {left:x} {right:x}", k.name);
            }
        }
    }
}

#[test]
fn float_rows_make_the_written_chain() {
    skipped();
    let random = &mut Random(5);
    for k in all_float() {
        for (m, steps, panels) in [(1, 0, 1), (1, 1, 1), (k.mr, 7, 2), (2 * k.mr + 1, 100, 3), (k.mr + 3, 1000, 1)] {
            let mut value = || (random.below(2_000_001) as f32 - 1e6) / 3e5;
            let base: Vec<u32> = (0..m).map(|i| i as u32 * 3).collect();
            let koff: Vec<u32> = (0..steps).map(|q| q as u32 * 2).collect();
            let lhs: Vec<f32> = (0..3 * m + 2 * steps + 1).map(|_| value()).collect();
            let rhs: Vec<f32> = (0..panels * steps * 16).map(|_| value()).collect();
            let width = panels * 16;
            let mut out: Vec<f32> = (0..m * width).map(|_| value()).collect();
            let before = out.clone();
            k.run(Job {
                lhs: &lhs,
                base: &base,
                koff: &koff,
                rhs: &rhs,
                panel_stride: steps * 16,
                panels,
                start: Start::Out,
                out: &mut out,
                out_stride: width,
            });
            for i in 0..m {
                for c in 0..width {
                    let chain = koff.iter().enumerate().fold(before[i * width + c], |sum, (q, &o)| {
                        lhs[(base[i] + o) as usize].mul_add(rhs[c / 16 * steps * 16 + q * 16 + c % 16], sum)
                    });
                    assert_eq!(out[i * width + c].to_bits(), chain.to_bits(), "{} {m} {steps} {panels}", k.name);
                }
            }
        }
    }
}
