//! Every row of the table against the plain triple loop, bit for bit, over ranges, lengths and row counts.

use super::*;
use crate::rng::{Stream, domain};

/// The operands of one tile: a flat left array, bases, offsets and a panel.
struct Case {
    lhs: Vec<u8>,
    base: Vec<u32>,
    offsets: Vec<u32>,
    rhs: Vec<i8>,
}

fn case(pattern: usize, rows: usize, k: usize, lhs_max: u8, rhs_max: u8) -> Case {
    let random = Stream::new(7, domain::DATA, k as u32, (pattern * 100 + rows) as u32);
    let len = 4 * (k + 3 * rows) + 5;
    // -128 is a level of the eight-bit two's complement range; +128 is none.
    let right = |v: i32| v.clamp(-128, 127) as i8;
    let (l, r) = (u32::from(lhs_max), i32::from(rhs_max));
    let lhs = (0..len).map(|i| match pattern {
        0 => lhs_max,
        1 => 0,
        2 => random.below(i as u64, l + 1) as u8,
        3 => lhs_max * (random.below(i as u64, 2) as u8),
        _ => (i % 251 % (l as usize + 1)) as u8,
    });
    let rhs = (0..k * NR * QUAD).map(|i| match pattern {
        0 | 1 => right(if rhs_max == 128 { -128 } else { r }),
        2 => right(random.below((len + i) as u64, 2 * r as u32 + 1) as i32 - r),
        3 => right(if random.below((len + i) as u64, 2) == 0 { -r } else { r }),
        _ => right((i % 251) as i32 % (2 * r + 1) - r),
    });
    Case {
        lhs: lhs.collect(),
        // Unaligned, unordered bases.
        base: (0..rows).map(|i| ((i * 7) % (3 * rows)) as u32 * 4 + 1).collect(),
        offsets: (0..k).rev().map(|i| 4 * i as u32).collect(),
        rhs: rhs.collect(),
    }
}

fn reference(c: &Case, start: i32) -> Vec<i32> {
    let mut out = Vec::new();
    for &base in &c.base {
        for column in 0..NR {
            let mut sum = i64::from(start);
            for (k, &offset) in c.offsets.iter().enumerate() {
                for j in 0..QUAD {
                    let a = i64::from(c.lhs[base as usize + offset as usize + j]);
                    sum += a * i64::from(c.rhs[(k * NR + column) * QUAD + j]);
                }
            }
            out.push(i32::try_from(sum).expect("the test stays in range"));
        }
    }
    out
}

#[test]
fn every_integer_kernel_gives_the_exact_sum() {
    for isa in [Isa::Avx2, Isa::Avx512Vnni].iter().filter(|i| !i.is_available()) {
        println!("skipped: this CPU has no {isa}");
    }
    let maxima: Vec<(u8, u8)> = (1..=8)
        .flat_map(|l| (1..=8).map(move |r| (((1u32 << l) - 1) as u8, 1u8 << (r - 1))))
        .chain([(254, 127), (14, 7), (6, 3), (2, 1)])
        .collect();
    for kernel in all() {
        for &(lhs_max, rhs_max) in maxima.iter().filter(|(l, r)| kernel.admits(*l, *r)) {
            for k in [0, 1, 2, 3, 8, 9, 33, 34, 135, 136, 137, 275] {
                for rows in 1..=kernel.mr {
                    for pattern in 0..5 {
                        let c = case(pattern, rows, k, lhs_max, rhs_max);
                        let mut sums = [-3; MR_MAX * NR];
                        kernel.run(&c.lhs, &c.base, &Offsets::new(c.offsets.clone()), &c.rhs, &mut sums);
                        assert!(
                            sums[..rows * NR] == reference(&c, -3),
                            "{}: {lhs_max} x {rhs_max}, k {k}, rows {rows}, pattern {pattern}",
                            kernel.name
                        );
                    }
                }
            }
        }
    }
}

/// The mutation check: a row that is offered operands beyond its range refuses them, and would be wrong.
#[test]
fn a_limit_is_a_limit() {
    for kernel in all().iter().filter(|k| k.product_max < 255 * 128) {
        let lhs_max = 255;
        let rhs_max = (kernel.product_max / 255 + 1) as u8;
        assert!(!kernel.admits(lhs_max, rhs_max) && kernel.admits(1, (kernel.product_max).min(128) as u8));
        let c = case(0, kernel.mr, 300, lhs_max, 128);
        let mut sums = [0; MR_MAX * NR];
        kernel.run(&c.lhs, &c.base, &Offsets::new(c.offsets.clone()), &c.rhs, &mut sums);
        assert!(sums[..kernel.mr * NR] != reference(&c, 0), "{} would be exact beyond its range", kernel.name);
    }
}

#[test]
fn the_chosen_kernel_is_exact_and_within_the_cap() {
    for isa in available_isas() {
        for kernel in all().iter().filter(|k| isa.allows(k.isa)) {
            assert!(kernel.isa <= isa);
        }
    }
    assert!(select(255, 128).admits(255, 128) && select(15, 8).admits(15, 8));
    assert!("neon".parse::<Isa>().unwrap_err().to_string().contains("neon"));
    assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("unknown"));
}

#[test]
fn every_float_kernel_gives_the_same_bits() {
    let random = Stream::new(9, domain::DATA, 0, 0);
    for k in [0, 1, 5, 64, 333] {
        for rows in 1..=14usize {
            let lhs: Vec<f32> = (0..k + 3 * rows).map(|i| random.normal_at(i as u64)).collect();
            let rhs: Vec<f32> = (0..k * NR).map(|i| random.normal_at(10_000 + i as u64)).collect();
            let base: Vec<u32> = (0..rows).map(|i| ((i * 7) % (3 * rows)) as u32).collect();
            let offsets: Vec<u32> = (0..k as u32).collect();
            let mut expected = vec![0.25f32; rows * NR];
            for (r, row) in expected.chunks_exact_mut(NR).enumerate() {
                for (c, sum) in row.iter_mut().enumerate() {
                    for i in 0..k {
                        *sum = lhs[base[r] as usize + i].mul_add(rhs[i * NR + c], *sum);
                    }
                }
            }
            for kernel in all_float().iter().filter(|f| rows <= f.mr) {
                let mut sums = [0.25; MR_MAX * NR];
                kernel.run(&lhs, &base, &Offsets::new(offsets.clone()), &rhs, &mut sums);
                let same = sums.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "{}: k {k}, rows {rows}", kernel.name);
            }
        }
    }
}
