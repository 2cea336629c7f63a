//! Products of pairs of matrices against three plain loops, on every row of the kernel tables.

mod loops;

use fixnet_tensor::kernel::{all, all_float};
use fixnet_tensor::{
    Codes, Error, Pairs, Range, Tensor, Turned, float_matmul, float_matmul_with, linear, linear_input_grad,
    linear_weight_grad, matmul, matmul_with,
};
use loops::{levels, random_codes, ranges};
use proptest::prelude::*;

const TURNED: [Turned; 3] = [Turned::Neither, Turned::Left, Turned::Right];

/// The shapes of both operands of `count` products.
fn shapes([count, m, k, n]: [usize; 4], turned: Turned) -> [[usize; 3]; 2] {
    match turned {
        Turned::Neither => [[count, m, k], [count, k, n]],
        Turned::Left => [[count, k, m], [count, k, n]],
        Turned::Right => [[count, m, k], [count, n, k]],
    }
}

/// Calls `f(output index, left index, right index)` for every product, with the summed axis innermost: the definition.
fn each([count, m, k, n]: [usize; 4], turned: Turned, mut f: impl FnMut(usize, usize, usize)) {
    for p in 0..count {
        for i in 0..m {
            for j in 0..n {
                for q in 0..k {
                    let left = if turned == Turned::Left { q * m + i } else { i * k + q };
                    let right = if turned == Turned::Right { j * k + q } else { q * n + j };
                    f((p * m + i) * n + j, p * m * k + left, p * k * n + right);
                }
            }
        }
    }
}

fn check(sizes: [usize; 4], turned: Turned, a: &Codes, b: &Codes) {
    let (al, bl) = (levels(a), levels(b));
    let mut expected = vec![0i64; sizes[0] * sizes[1] * sizes[3]];
    each(sizes, turned, |o, i, j| expected[o] += al[i] * bl[j]);
    let shape = [sizes[0], sizes[1], sizes[3]];
    // A right operand beyond a signed byte is shifted by half of its range.
    let most = if b.range().max() > 127 { b.byte_max().div_ceil(2) } else { b.level_max() };
    for kernel in all() {
        let result = matmul_with(kernel, a, b, turned);
        if kernel.admits(a.byte_max(), most) {
            let sums = result.unwrap();
            assert_eq!((sums.shape(), sums.scale()), (&shape[..], a.scale() * b.scale()));
            let found: Vec<i64> = sums.to_vec().into_iter().map(i64::from).collect();
            assert_eq!(found, expected, "{} {sizes:?} {turned:?}", kernel.name);
        } else {
            assert!(matches!(result, Err(Error::Range { .. })), "{} took too much", kernel.name);
        }
    }
    let (af, bf) = (a.dequantize(), b.dequantize());
    let mut chains = vec![0f32; expected.len()];
    each(sizes, turned, |o, i, j| chains[o] = af.data()[i].mul_add(bf.data()[j], chains[o]));
    for kernel in all_float() {
        let found = float_matmul_with(kernel, &af, &bf, turned).unwrap();
        assert_eq!(found.shape(), shape);
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(found.data()), bits(&chains), "{} {sizes:?} {turned:?}", kernel.name);
    }
}

proptest! {
    #[test]
    fn products_of_pairs(
        sizes in [0usize..5, 1usize..40, 0usize..70, 1usize..40],
        (ak, ab, bk, bb) in (0u8..3, 1u8..9, 0u8..3, 1u8..9),
        seed: u64,
        extremes: bool,
    ) {
        for turned in TURNED {
            let [a, b] = shapes(sizes, turned);
            check(sizes, turned, &random_codes(&a, ranges(ak, ab), seed, extremes), &random_codes(&b, ranges(bk, bb), seed ^ 1, extremes));
        }
    }
}

/// The sizes of attention, where tasks hold several pairs, and whole panels.
#[test]
fn products_of_attention() {
    // Pairs of few bytes too, where the steps of more than the last one reach beyond the operand.
    for sizes in [[7, 65, 64, 65], [5, 65, 65, 64], [3, 16, 16, 32], [3, 1, 1, 5], [4, 2, 1, 1], [5, 1, 2, 17]] {
        for turned in TURNED {
            let [a, b] = shapes(sizes, turned);
            let range = |bits| Range::symmetric(bits).unwrap();
            check(sizes, turned, &random_codes(&a, range(4), 1, false), &random_codes(&b, range(4), 2, false));
            check(sizes, turned, &random_codes(&a, range(8), 3, true), &random_codes(&b, range(8), 4, true));
        }
    }
}

/// The three products of a linear layer are these of one pair.
#[test]
fn one_pair_is_a_linear_layer() {
    let codes = |shape: &[usize], seed| random_codes(shape, ranges(1, 5), seed, false);
    let (x, w, g) = (codes(&[9, 21], 1), codes(&[6, 21], 2), codes(&[9, 6], 3));
    assert_eq!(matmul(&x, &w, Turned::Right).unwrap().to_vec(), linear(&x, &w).unwrap().to_vec());
    assert_eq!(matmul(&g, &w, Turned::Neither).unwrap().to_vec(), linear_input_grad(&g, &w).unwrap().to_vec());
    let dw = matmul(&g, &x, Turned::Left).unwrap().to_tensor();
    assert_eq!(dw.data(), linear_weight_grad(&x, &g).unwrap().data());
}

#[test]
fn one_thread_or_three() {
    let sizes = [40, 33, 31, 35];
    for turned in TURNED {
        let [a, b] = shapes(sizes, turned).map(|shape| random_codes(&shape, ranges(2, 8), 5, false));
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let floats = float_matmul(&a.dequantize(), &b.dequantize(), turned).unwrap();
                (matmul(&a, &b, turned).unwrap().to_vec(), floats.data().to_vec())
            })
        };
        assert_eq!(run(1), run(3));
    }
}

#[test]
fn shapes_and_sums_that_do_not_fit_are_refused() {
    let sizes = Pairs::of(&[2, 3, 5, 4], &[2, 3, 6, 4], Turned::Right).unwrap();
    assert_eq!((sizes.count, sizes.m, sizes.k, sizes.n, sizes.macs()), (6, 5, 4, 6, 720));
    let e = Pairs::of(&[2, 5, 4], &[3, 4, 6], Turned::Neither).unwrap_err().to_string();
    assert_eq!(
        e,
        "matmul: expected shape [.., M, K] for a second operand [.., K, N], which is [3, 4, 6], found [2, 5, 4]"
    );
    assert!(Pairs::of(&[4], &[4, 2], Turned::Left).is_err() && Pairs::of(&[4, 2], &[5, 2], Turned::Left).is_err());
    // 2^17 products of 255 and 127 fit no i32.
    let k = 1 << 17;
    let wide = random_codes(&[1, k], Range::unsigned(8).unwrap(), 1, false);
    let e = matmul(&wide, &random_codes(&[1, k], ranges(1, 8), 2, false), Turned::Right).unwrap_err().to_string();
    assert!(e.contains("products of a sum"), "{e}");
    assert!(float_matmul(&Tensor::zeros(&[2, 2]), &Tensor::zeros(&[3, 2]), Turned::Neither).is_err());
}
