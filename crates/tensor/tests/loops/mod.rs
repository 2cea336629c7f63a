//! The definition of a convolution as seven plain loops, and codes to fill it with.

use fixnet_tensor::{Codes, Conv2dGeometry, Range};

/// Calls `f(output index, input index, weight index)` for every product of the convolution: the definition.
#[allow(dead_code, reason = "products of matrices have a definition of their own")]
pub(crate) fn each(geo: &Conv2dGeometry, mut f: impl FnMut(usize, usize, usize)) {
    let ([ho, wo], [kh, kw]) = ([geo.out_h(), geo.out_w()], geo.kernel());
    for n in 0..geo.n() {
        for oh in 0..ho {
            for ow in 0..wo {
                for o in 0..geo.c_out() {
                    for a in 0..kh {
                        for b in 0..kw {
                            let y = (oh * geo.stride()[0] + a * geo.dilation()[0]).wrapping_sub(geo.padding()[0]);
                            let x = (ow * geo.stride()[1] + b * geo.dilation()[1]).wrapping_sub(geo.padding()[1]);
                            if y >= geo.h() || x >= geo.w() {
                                continue;
                            }
                            let (seen, group) = (geo.c_in() / geo.groups(), o / (geo.c_out() / geo.groups()));
                            for c in 0..seen {
                                f(
                                    ((n * ho + oh) * wo + ow) * geo.c_out() + o,
                                    ((n * geo.h() + y) * geo.w() + x) * geo.c_in() + group * seen + c,
                                    ((o * kh + a) * kw + b) * seen + c,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The levels of codes.
pub(crate) fn levels(codes: &Codes) -> Vec<i64> {
    (0..codes.len()).map(|i| i64::from(codes.level(i))).collect()
}

/// Levels by a small generator; `extremes` are the lowest and the highest alone.
pub(crate) fn random_codes(shape: &[usize], range: Range, seed: u64, extremes: bool) -> Codes {
    let mut state = seed;
    let span = i64::from(range.max() - range.min() + 1) as u64;
    let values: Vec<i32> = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let r = state >> 33;
            if extremes { [range.min(), range.max()][(r & 1) as usize] } else { range.min() + (r % span) as i32 }
        })
        .collect();
    Codes::from_levels(shape, range, 0.125, &values).unwrap()
}

/// 0 unsigned, 1 symmetric, 2 two's complement (of at least two bits).
pub(crate) fn ranges(kind: u8, bits: u8) -> Range {
    match kind {
        0 => Range::unsigned(bits).unwrap(),
        1 => Range::symmetric(bits).unwrap(),
        _ => Range::twos_complement(bits.max(2)).unwrap(),
    }
}
