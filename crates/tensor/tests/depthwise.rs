//! Depthwise convolutions on every instruction set against plain loops: codes exactly, floats with the same bits.
//!
//! The instruction set in force belongs to the process, so one test runs at a time.

mod loops;

use fixnet_tensor::kernel::{available_isas, set_isa};
use fixnet_tensor::{
    Codes, Conv2dGeometry, Range, Sums, Tensor, Window, conv2d, conv2d_input_grad, conv2d_weight_grad, float,
};
use loops::{each, levels, random_codes, ranges};
use proptest::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn geometry(input: [usize; 4], kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Option<Conv2dGeometry> {
    let window = Window { stride, padding, dilation: [1, 1], groups: input[3] };
    Conv2dGeometry::windowed(&input, &[input[3], kernel[0], kernel[1], 1], window).ok()
}

fn wide(sums: &Sums) -> Vec<i64> {
    sums.to_vec().into_iter().map(i64::from).collect()
}

/// The three products by plain loops: output, input gradient, weight gradient.
fn definition(geo: &Conv2dGeometry, x: &Codes, w: &Codes, g: &Codes) -> [Vec<i64>; 3] {
    let (xl, wl, gl) = (levels(x), levels(w), levels(g));
    let mut all = [vec![0; g.len()], vec![0; x.len()], vec![0; w.len()]];
    each(geo, |o, i, k| {
        all[0][o] += xl[i] * wl[k];
        all[1][i] += gl[o] * wl[k];
        all[2][k] += gl[o] * xl[i];
    });
    all
}

/// That the products are `expected` on every instruction set, and the moments of the output are those of its sums.
fn check(geo: &Conv2dGeometry, [x, w, g]: [&Codes; 3], expected: &[Vec<i64>; 3]) {
    let [y, dx, dw] = expected;
    for &isa in available_isas() {
        set_isa(isa).unwrap();
        let sums = conv2d(x, w, geo).unwrap();
        assert_eq!(&wide(&sums), y, "{isa}: output of {geo:?}");
        let column = |c: usize| y.iter().skip(c).step_by(geo.c_out());
        let moments = (0..geo.c_out()).map(|c| (column(c).sum(), column(c).map(|&v| i128::from(v).pow(2)).sum()));
        assert_eq!(sums.moments(geo.c_out()).to_vec(), moments.collect::<Vec<_>>(), "{isa}: moments of {geo:?}");
        assert_eq!(&wide(&conv2d_input_grad(g, w, geo).unwrap()), dx, "{isa}: input gradient of {geo:?}");
        let grad = conv2d_weight_grad(x, g, geo).unwrap();
        let scale = x.scale() * g.scale();
        assert_eq!(grad.data(), dw.iter().map(|&s| s as f32 * scale).collect::<Vec<_>>(), "{isa}: weights of {geo:?}");
    }
}

proptest! {
    #[test]
    fn integer_products_on_every_instruction_set(
        (h, w, n, c) in (1usize..8, 1usize..8, 0usize..4, 2usize..71),
        (kernel, stride, padding) in ([1usize..6, 1usize..4], [1usize..3, 1usize..3], [0usize..3, 0usize..3]),
        (xk, xb, wk, wb, gk, gb) in (0u8..3, 1u8..9, 1u8..3, 1u8..9, 1u8..3, 1u8..9),
        extremes: bool,
        seed: u64,
    ) {
        let _alone = alone();
        if let Some(geo) = geometry([n, h, w, c], kernel, stride, padding) {
            let x = random_codes(&geo.input_shape(), ranges(xk, xb), seed, extremes);
            let w = random_codes(&geo.weight_shape(), ranges(wk, wb), seed ^ 1, extremes);
            let g = random_codes(&geo.output_shape(), ranges(gk, gb), seed ^ 2, extremes);
            check(&geo, [&x, &w, &g], &definition(&geo, &x, &w, &g));
        }
    }

    #[test]
    fn float_products_have_one_result(
        (h, w, n, c) in (1usize..8, 1usize..8, 0usize..4, 2usize..40),
        (stride, padding) in ([1usize..3, 1usize..3], [0usize..3, 0usize..3]),
        seed: u64,
    ) {
        let _alone = alone();
        if let Some(geo) = geometry([n, h, w, c], [3, 3], stride, padding) {
            let codes = [geo.input_shape(), geo.weight_shape(), geo.output_shape()]
                .map(|shape| random_codes(&shape, ranges(1, 8), seed ^ shape[0] as u64, false));
            let [x, w, g] = &codes;
            let exact = definition(&geo, x, w, g);
            // Thirds, so that sums round.
            let [x, w, g] = codes.map(|c| {
                let values = c.dequantize().data().iter().map(|v| v / 3.0).collect();
                Tensor::from_vec(c.shape(), values).unwrap()
            });
            let mut first: Option<[Vec<u32>; 3]> = None;
            for &isa in available_isas() {
                set_isa(isa).unwrap();
                let results = [
                    float::conv2d(&x, &w, &geo).unwrap(),
                    float::conv2d_input_grad(&g, &w, &geo).unwrap(),
                    float::conv2d_weight_grad(&x, &g, &geo).unwrap(),
                ];
                for (result, exact) in results.iter().zip(&exact) {
                    let near = |(&found, &sum): (&f32, &i64)| {
                        let sum = sum as f64 / (64.0 * 9.0);
                        (f64::from(found) - sum).abs() <= 1e-3 * (1.0 + sum.abs())
                    };
                    prop_assert!(result.data().iter().zip(exact).all(near), "{isa} {geo:?}");
                }
                let bits = results.map(|t| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>());
                prop_assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{} {:?}", isa, &geo);
            }
        }
    }
}

fn full(shape: &[usize], range: Range, level: i32) -> Codes {
    Codes::from_levels(shape, range, 1.0, &vec![level; shape.iter().product()]).unwrap()
}

/// All products at their largest, of every pair of bit widths: sums of 16 bits are never kept for one product too many.
#[test]
fn largest_products_of_every_width() {
    let _alone = alone();
    let geo = geometry([2, 19, 21, 3], [3, 3], [1, 1], [1, 1]).unwrap();
    for (xb, gb) in (1..=8).flat_map(|x| (2..=8).map(move |g| (x, g))) {
        for kind in [0, 2] {
            let (range, other) = (ranges(kind, xb), ranges(2, gb));
            let x = full(&geo.input_shape(), range, if kind == 0 { range.max() } else { range.min() });
            let w = full(&geo.weight_shape(), other, other.min());
            let g = full(&geo.output_shape(), other, other.min());
            check(&geo, [&x, &w, &g], &definition(&geo, &x, &w, &g));
        }
    }
}

/// More pixels in one image, and more images, than one sum of 32 bits holds.
#[test]
fn a_weight_gradient_beyond_32_bits() {
    let _alone = alone();
    for (n, side) in [(1, 300), (7, 150)] {
        let geo = geometry([n, side, side, 2], [1, 1], [1, 1], [0, 0]).unwrap();
        let x = full(&geo.input_shape(), ranges(0, 8), 255);
        let g = full(&geo.output_shape(), ranges(2, 8), -128);
        let sum = -255 * 128 * (n * side * side) as i64;
        assert!(sum < i64::from(i32::MIN));
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            assert_eq!(conv2d_weight_grad(&x, &g, &geo).unwrap().data(), [sum as f32; 2], "{isa}");
        }
    }
}

/// The bits do not depend on how many threads share the work.
#[test]
fn one_thread_or_three() {
    let _alone = alone();
    for bits in [4, 8] {
        let geo = geometry([23, 15, 17, 33], [3, 3], [2, 1], [1, 1]).unwrap();
        let x = random_codes(&geo.input_shape(), ranges(0, bits), 1, false);
        let w = random_codes(&geo.weight_shape(), ranges(1, bits), 2, false);
        let g = random_codes(&geo.output_shape(), ranges(1, bits), 3, false);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let floats = float::conv2d_weight_grad(&x.dequantize(), &g.dequantize(), &geo).unwrap();
                let exact = conv2d_weight_grad(&x, &g, &geo).unwrap();
                let sums = [conv2d(&x, &w, &geo).unwrap(), conv2d_input_grad(&g, &w, &geo).unwrap()];
                (sums.map(|s| s.to_vec()), exact.data().to_vec(), floats.data().to_vec())
            })
        };
        assert_eq!(run(1), run(3));
    }
}

#[test]
fn gradients_beyond_a_signed_byte_are_refused() {
    let geo = geometry([2, 4, 4, 3], [3, 3], [1, 1], [1, 1]).unwrap();
    let x = random_codes(&geo.input_shape(), ranges(0, 8), 1, false);
    let e = conv2d_weight_grad(&x, &x, &geo).unwrap_err().to_string();
    assert!(e.contains("at most 127") && e.contains("255"), "{e}");
}
