//! The three products of a convolution against seven plain loops, over random geometries, on every row of the table.

mod loops;

use fixnet_tensor::kernel::{all, all_bits, all_float};
use fixnet_tensor::{
    Codes, Conv2dGeometry, Error, PackedWeights, Range, Tensor, Window, conv2d, conv2d_bits_with, conv2d_input_grad,
    conv2d_packed, conv2d_packed_with, conv2d_weight_grad, conv2d_weight_grad_with, float, linear, linear_input_grad,
    linear_weight_grad,
};
use loops::{each, levels, random_codes, ranges};
use proptest::prelude::*;

fn geometry() -> impl Strategy<Value = Conv2dGeometry> {
    let size = (1usize..9, 1usize..9, 0usize..7, 1usize..40, 1usize..40);
    let window = ([1usize..5, 1usize..5], [1usize..4, 1usize..4], [0usize..4, 0usize..4], [1usize..4, 1usize..4]);
    (size, window).prop_filter_map(
        "no such geometry",
        |((h, w, n, c_in, c_out), (kernel, stride, padding, dilation))| {
            Conv2dGeometry::new(&[n, h, w, c_in], &[c_out, kernel[0], kernel[1], c_in], stride, padding, dilation).ok()
        },
    )
}

fn check_integer(geo: &Conv2dGeometry, x: &Codes, w: &Codes, g: &Codes) {
    let (xl, wl, gl) = (levels(x), levels(w), levels(g));
    let mut forward = vec![0i64; g.len()];
    let mut back = vec![0i64; x.len()];
    let mut weight = vec![0i64; w.len()];
    each(geo, |o, i, k| {
        forward[o] += xl[i] * wl[k];
        back[i] += gl[o] * wl[k];
        weight[k] += gl[o] * xl[i];
    });
    let same = |a: &[i32], b: &[i64]| a.iter().map(|&v| i64::from(v)).eq(b.iter().copied());
    let (pf, pb) = (PackedWeights::forward(w, geo).unwrap(), PackedWeights::input_grad(w, geo).unwrap());
    for k in all() {
        if k.admits(x.byte_max(), w.level_max()) {
            let y = conv2d_packed_with(k, x, &pf).unwrap();
            assert_eq!(y.shape(), geo.output_shape());
            assert!(same(&y.to_vec(), &forward), "{} forward {geo:?}", k.name);
        } else {
            assert!(matches!(conv2d_packed_with(k, x, &pf), Err(Error::Range { .. })), "{} took too much", k.name);
        }
        if k.admits(g.byte_max(), w.level_max()) {
            let d = conv2d_packed_with(k, g, &pb).unwrap();
            assert_eq!(d.shape(), geo.input_shape());
            assert!(same(&d.to_vec(), &back), "{} input gradient {geo:?}", k.name);
        }
        if k.admits(x.byte_max(), g.level_max()) {
            let d = conv2d_weight_grad_with(k, x, g, geo).unwrap();
            assert_eq!(d.shape(), geo.weight_shape());
            let scale = x.scale() * g.scale();
            let expected: Vec<f32> = weight.iter().map(|&s| s as f32 * scale).collect();
            assert_eq!(d.data(), expected, "{} weight gradient {geo:?}", k.name);
        }
    }
}

proptest! {
    #[test]
    fn integer_products(
        geo in geometry(),
        (xk, xb, wk, wb, gk, gb) in (0u8..3, 1u8..9, 1u8..3, 1u8..9, 1u8..3, 1u8..9),
        seed: u64,
        extremes: bool,
    ) {
        let x = random_codes(&geo.input_shape(), ranges(xk, xb), seed, extremes);
        let w = random_codes(&geo.weight_shape(), ranges(wk, wb), seed ^ 1, extremes);
        let g = random_codes(&geo.output_shape(), ranges(gk, gb), seed ^ 2, extremes);
        check_integer(&geo, &x, &w, &g);
    }

    /// One-bit operands: every row of the bit kernels gives the sums of the plain loops, in which padding is the number 0, and
    /// of the byte kernels. Left levels are 0 and 1, or -1 and +1.
    #[test]
    fn products_of_bits(geo in geometry(), wide in 0usize..3, seed: u64, signs: bool) {
        let ([n, h, w, c], [o, kh, kw, _]) = (geo.input_shape(), geo.weight_shape());
        let channels = c + 32 * wide;
        let window =
            Window { stride: geo.stride(), padding: geo.padding(), dilation: geo.dilation(), groups: geo.groups() };
        let geo = Conv2dGeometry::windowed(&[n, h, w, channels], &[o, kh, kw, channels], window).unwrap();
        let range = if signs { Range::symmetric(1).unwrap() } else { Range::unsigned(1).unwrap() };
        let x = random_codes(&geo.input_shape(), range, seed, true);
        let w = random_codes(&geo.weight_shape(), Range::symmetric(1).unwrap(), seed ^ 1, true);
        let (xl, wl) = (levels(&x), levels(&w));
        let mut exact = vec![0i64; geo.output_shape().iter().product()];
        each(&geo, |o, i, k| exact[o] += xl[i] * wl[k]);
        let exact: Vec<i32> = exact.into_iter().map(|v| v as i32).collect();
        let bytes = conv2d_packed(&x, &PackedWeights::forward(&w, &geo).unwrap()).unwrap();
        prop_assert_eq!(&bytes.to_vec(), &exact);
        prop_assert_eq!(&conv2d(&x, &w, &geo).unwrap().to_vec(), &exact);
        for k in all_bits() {
            let sums = conv2d_bits_with(k, &x, &w, &geo).unwrap();
            prop_assert_eq!(&sums.to_vec(), &exact, "{}", k.name);
            prop_assert_eq!(sums.moments(geo.c_out()), bytes.moments(geo.c_out()));
        }
        let four = random_codes(&geo.input_shape(), Range::unsigned(4).unwrap(), seed, false);
        prop_assert!(conv2d_bits_with(&all_bits()[0], &four, &w, &geo).is_err());
        // A level 0 among -1 and +1 is no bit: it goes to the byte kernels.
        let mut odd: Vec<i32> = xl.iter().map(|&v| v as i32).collect();
        if let (true, Some(first)) = (signs, odd.first_mut()) {
            *first = 0;
            let odd = Codes::from_levels(x.shape(), range, 0.125, &odd).unwrap();
            prop_assert!(conv2d_bits_with(&all_bits()[0], &odd, &w, &geo).is_err());
        }
    }

    /// Groups, depthwise among them: codes exactly, floats as near as their rounding allows.
    #[test]
    fn grouped_products(
        (h, w, n, groups, c_in, c_out) in (1usize..7, 1usize..7, 0usize..4, 2usize..20, 1usize..4, 1usize..4),
        (kernel, stride, padding, dilation) in ([1usize..4, 1usize..4], [1usize..3, 1usize..3], [0usize..3, 0usize..3], [1usize..3, 1usize..3]),
        (xk, xb, wb, gb) in (0u8..3, 1u8..9, 1u8..9, 1u8..9),
        depthwise: bool,
        extremes: bool,
        seed: u64,
    ) {
        let (c_in, c_out) = if depthwise { (1, 1) } else { (c_in, c_out) };
        let window = Window { stride, padding, dilation, groups };
        let weight = [c_out * groups, kernel[0], kernel[1], c_in];
        if let Ok(geo) = Conv2dGeometry::windowed(&[n, h, w, c_in * groups], &weight, window) {
            let x = random_codes(&geo.input_shape(), ranges(xk, xb), seed, extremes);
            let w = random_codes(&weight, ranges(1, wb), seed ^ 1, extremes);
            let g = random_codes(&geo.output_shape(), ranges(1, gb), seed ^ 2, extremes);
            let (xl, wl, gl) = (levels(&x), levels(&w), levels(&g));
            let (mut y, mut dx, mut dw) = (vec![0i64; g.len()], vec![0i64; x.len()], vec![0i64; w.len()]);
            each(&geo, |o, i, k| {
                y[o] += xl[i] * wl[k];
                dx[i] += gl[o] * wl[k];
                dw[k] += gl[o] * xl[i];
            });
            let wide = |s: fixnet_tensor::Sums| s.to_vec().into_iter().map(i64::from).collect::<Vec<_>>();
            prop_assert_eq!(wide(conv2d(&x, &w, &geo).unwrap()), y.clone());
            prop_assert_eq!(wide(conv2d_input_grad(&g, &w, &geo).unwrap()), dx.clone());
            let grad = conv2d_weight_grad(&x, &g, &geo).unwrap();
            prop_assert_eq!(grad.shape(), weight);
            let scale = x.scale() * g.scale();
            prop_assert_eq!(grad.data(), dw.iter().map(|&s| s as f32 * scale).collect::<Vec<_>>());
            // Sums below 2^24 are exact in floats as well, whatever the order.
            let near = |t: Tensor, exact: &[i64]| {
                t.data().iter().zip(exact).all(|(&a, &b)| (f64::from(a) * 64.0 - b as f64).abs() <= 1e-6 * (b as f64).abs())
            };
            let (xf, wf, gf) = (x.dequantize(), w.dequantize(), g.dequantize());
            prop_assert!(near(float::conv2d(&xf, &wf, &geo).unwrap(), &y));
            prop_assert!(near(float::conv2d_input_grad(&gf, &wf, &geo).unwrap(), &dx));
            prop_assert!(near(float::conv2d_weight_grad(&xf, &gf, &geo).unwrap(), &dw));
            prop_assert!(conv2d(&g, &w, &geo).is_err() || geo.input_shape() == geo.output_shape());
        }
    }

    #[test]
    fn float_products_have_one_result(geo in geometry(), seed: u64) {
        let tensor = |shape: &[usize], seed| random_codes(shape, ranges(1, 8), seed, false).dequantize();
        let x = tensor(&geo.input_shape(), seed);
        let w = tensor(&geo.weight_shape(), seed ^ 1);
        let g = tensor(&geo.output_shape(), seed ^ 2);
        let mut sums = [vec![0f64; g.len()], vec![0f64; x.len()], vec![0f64; w.len()]];
        each(&geo, |o, i, k| {
            let v = [x.data()[i], w.data()[k], g.data()[o]].map(f64::from);
            sums[0][o] += v[0] * v[1];
            sums[1][i] += v[2] * v[1];
            sums[2][k] += v[2] * v[0];
        });
        let mut first: Option<[Tensor; 3]> = None;
        for k in all_float() {
            let results = [
                float::conv2d_with(k, &x, &w, &geo).unwrap(),
                float::conv2d_input_grad_with(k, &g, &w, &geo).unwrap(),
                float::conv2d_weight_grad_with(k, &x, &g, &geo).unwrap(),
            ];
            for (r, s) in results.iter().zip(&sums) {
                for (&r, &s) in r.data().iter().zip(s) {
                    prop_assert!((f64::from(r) - s).abs() <= 1e-3 * (1.0 + s.abs()), "{} {r} {s}", k.name);
                }
            }
            if let Some(first) = &first {
                for (a, b) in first.iter().zip(&results) {
                    let bits = |t: &Tensor| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    prop_assert_eq!(bits(a), bits(b), "{}", k.name);
                }
            }
            first.get_or_insert(results);
        }
    }
}

/// Matrices of several channel blocks take a way of their own in the float weight gradient.
#[test]
fn float_matrices_have_one_result() {
    for (n, i, o) in [(7, 33, 5), (300, 600, 40), (513, 64, 17)] {
        let geo = Conv2dGeometry::linear(n, i, o).unwrap();
        let x = random_codes(&[n, 1, 1, i], ranges(1, 8), 1, false).dequantize();
        let g = random_codes(&[n, 1, 1, o], ranges(1, 8), 2, false).dequantize();
        for k in all_float() {
            let dw = float::conv2d_weight_grad_with(k, &x, &g, &geo).unwrap();
            for (at, &dw) in dw.data().iter().enumerate() {
                let (row, column) = (at / i, at % i);
                let chain = (0..n).fold(0f32, |s, n| x.data()[n * i + column].mul_add(g.data()[n * o + row], s));
                assert_eq!(dw.to_bits(), chain.to_bits(), "{} {n} {i} {o} at {at}", k.name);
            }
        }
    }
}

/// The bits do not depend on how many threads share the work.
#[test]
fn one_thread_or_three() {
    let geo = Conv2dGeometry::new(&[40, 16, 16, 32], &[32, 3, 3, 32], [1, 1], [1, 1], [1, 1]).unwrap();
    let x = random_codes(&geo.input_shape(), ranges(0, 4), 1, false);
    let w = random_codes(&geo.weight_shape(), ranges(1, 4), 2, false);
    let g = random_codes(&geo.output_shape(), ranges(1, 4), 3, false);
    let (xf, gf) = (x.dequantize(), g.dequantize());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let sums = conv2d(&x, &w, &geo).unwrap().to_vec();
            let exact = conv2d_weight_grad(&x, &g, &geo).unwrap().data().to_vec();
            let chains = float::conv2d_weight_grad(&xf, &gf, &geo).unwrap().data().to_vec();
            (sums, exact, chains)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn real_layers() {
    let same = |n, hw: usize, c_in, c_out, k: usize, s, p| {
        Conv2dGeometry::new(&[n, hw, hw, c_in], &[c_out, k, k, c_in], [s, s], [p, p], [1, 1]).unwrap()
    };
    for geo in [
        same(5, 32, 3, 16, 3, 1, 1),
        same(2, 32, 16, 16, 3, 1, 1),
        same(3, 32, 16, 32, 3, 2, 1),
        same(3, 32, 16, 32, 1, 2, 0),
        same(9, 8, 64, 64, 3, 1, 1),
        same(6, 28, 1, 6, 5, 1, 2),
        same(1, 15, 3, 64, 7, 2, 3),
        Conv2dGeometry::linear(130, 70, 10).unwrap(),
    ] {
        for bits in [4, 8] {
            for extremes in [false, true] {
                let x = random_codes(&geo.input_shape(), ranges(0, bits), 1, extremes);
                let w = random_codes(&geo.weight_shape(), ranges(1, bits), 2, extremes);
                let g = random_codes(&geo.output_shape(), ranges(1, bits), 3, extremes);
                check_integer(&geo, &x, &w, &g);
            }
        }
    }
}

/// All products at their largest: the weight gradient needs more than 32 bits, and the parts must add up.
#[test]
fn a_weight_gradient_beyond_32_bits() {
    let geo = Conv2dGeometry::new(&[6, 128, 130, 1], &[1, 1, 1, 1], [1, 1], [0, 0], [1, 1]).unwrap();
    let full = |shape: &[usize], range: Range, level: i32| {
        Codes::from_levels(shape, range, 1.0, &vec![level; shape.iter().product()]).unwrap()
    };
    let x = full(&geo.input_shape(), ranges(0, 8), 255);
    let g = full(&geo.output_shape(), ranges(2, 8), -128);
    let sum = -(255i64 * 128 * 6 * 128 * 130);
    assert!(sum < i64::from(i32::MIN));
    for k in all().iter().filter(|k| k.admits(255, 128)) {
        assert_eq!(conv2d_weight_grad_with(k, &x, &g, &geo).unwrap().data(), [sum as f32], "{}", k.name);
    }
}

#[test]
fn linear_is_a_matrix_product() {
    let x = random_codes(&[37, 29], ranges(0, 4), 4, false);
    let w = random_codes(&[21, 29], ranges(1, 4), 5, false);
    let g = random_codes(&[37, 21], ranges(1, 4), 6, false);
    let at = |c: &Codes, i: usize, j: usize| c.level(i * c.shape()[1] + j);
    let (y, d, dw) = (linear(&x, &w).unwrap(), linear_input_grad(&g, &w).unwrap(), linear_weight_grad(&x, &g).unwrap());
    assert_eq!((y.shape(), d.shape(), dw.shape()), (&[37, 21][..], &[37, 29][..], &[21, 29][..]));
    for (n, o) in (0..37).flat_map(|n| (0..21).map(move |o| (n, o))) {
        assert_eq!(y.to_vec()[n * 21 + o], (0..29).map(|i| at(&x, n, i) * at(&w, o, i)).sum::<i32>());
    }
    for (n, i) in (0..37).flat_map(|n| (0..29).map(move |i| (n, i))) {
        assert_eq!(d.to_vec()[n * 29 + i], (0..21).map(|o| at(&g, n, o) * at(&w, o, i)).sum::<i32>());
    }
    for (o, i) in (0..21).flat_map(|o| (0..29).map(move |i| (o, i))) {
        let sum = (0..37).map(|n| at(&g, n, o) * at(&x, n, i)).sum::<i32>();
        assert_eq!(dw.data()[o * 29 + i], sum as f32 * (0.125 * 0.125));
    }
}

#[test]
fn float_matrices_against_matrixmultiply() {
    let value = |i: usize| ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
    let (m, k, n) = (67, 301, 45);
    let a = Tensor::from_vec(&[m, k], (0..m * k).map(value).collect()).unwrap();
    let b = Tensor::from_vec(&[k, n], (0..k * n).map(|i| value(i + 13)).collect()).unwrap();
    let mut expected = vec![0f32; m * n];
    let (pa, pb, pc, k_stride, n_stride) =
        (a.data().as_ptr(), b.data().as_ptr(), expected.as_mut_ptr(), k as isize, n as isize);
    // SAFETY: dense row-major matrices of m x k, k x n and m x n numbers.
    unsafe { matrixmultiply::sgemm(m, k, n, 1.0, pa, k_stride, 1, pb, n_stride, 1, 0.0, pc, n_stride, 1) };
    let before = float::float_products();
    let y = float::matmul(&a, &b).unwrap();
    assert!(float::float_products() > before);
    assert!(y.data().iter().zip(expected.iter()).all(|(a, b)| (a - b).abs() < 1e-3));
    let transposed = Tensor::from_vec(&[n, k], (0..n * k).map(|i| b.data()[i % k * n + i / k]).collect()).unwrap();
    assert_eq!(float::linear(&a, &transposed).unwrap().data(), y.data(), "one chain, whatever the layout");
}

#[test]
fn geometries_that_wrap_are_refused() {
    let half = 1 << (usize::BITS - 1);
    let new = |padding, dilation| Conv2dGeometry::new(&[1, 5, 5, 1], &[1, 3, 3, 1], [1, 1], padding, dilation);
    assert!(new([0, 0], [half, half]).is_err());
    assert!(new([half, half], [half - 1, half - 1]).is_err());
    let window = Window { groups: half, ..Window::default() };
    assert!(Conv2dGeometry::windowed(&[1, 5, 5, 0], &[half, 1, 1, 2], window).is_err());
}

/// Strides far beyond the image, whose input gradient has a phase for each of its pixels, not for each of the stride.
#[test]
fn long_strides() {
    let stride = [2_000_000_000; 2];
    let geo = Conv2dGeometry::new(&[2, 5, 4, 2], &[3, 1, 1, 2], stride, [0, 0], [1, 1]).unwrap();
    let x = random_codes(&geo.input_shape(), ranges(0, 4), 1, false);
    let w = random_codes(&geo.weight_shape(), ranges(1, 4), 2, false);
    let g = random_codes(&geo.output_shape(), ranges(1, 4), 3, false);
    check_integer(&geo, &x, &w, &g);
}

#[test]
fn no_outputs() {
    let codes = |shape: &[usize], kind| random_codes(shape, ranges(kind, 8), 1, false);
    for kind in [0, 1] {
        assert_eq!(linear_weight_grad(&codes(&[3, 4], kind), &codes(&[3, 0], 1)).unwrap().shape(), [0, 4]);
        assert_eq!(linear_weight_grad(&codes(&[3, 0], kind), &codes(&[3, 4], 1)).unwrap().shape(), [4, 0]);
        let geo = Conv2dGeometry::new(&[2, 5, 5, 3], &[0, 3, 3, 3], [1, 1], [0, 0], [1, 1]).unwrap();
        let grad = conv2d_weight_grad(&codes(&geo.input_shape(), kind), &codes(&geo.output_shape(), 1), &geo);
        assert_eq!(grad.unwrap().shape(), [0, 3, 3, 3]);
    }
    let empty = float::linear_weight_grad(&Tensor::zeros(&[3, 4]), &Tensor::zeros(&[3, 0])).unwrap();
    assert_eq!(empty.shape(), [0, 4]);
}

#[test]
fn errors_name_both_sides() {
    let geo = Conv2dGeometry::new(&[2, 4, 4, 3], &[5, 3, 3, 3], [1, 1], [1, 1], [1, 1]).unwrap();
    let x = random_codes(&[2, 4, 4, 3], ranges(0, 8), 1, false);
    let w = random_codes(&[5, 3, 3, 3], ranges(1, 8), 1, false);
    let e = conv2d(&random_codes(&[2, 4, 5, 3], ranges(0, 8), 1, false), &w, &geo).unwrap_err().to_string();
    assert!(e.contains("[2, 4, 4, 3]") && e.contains("[2, 4, 5, 3]"), "{e}");
    assert!(conv2d_input_grad(&x, &w, &geo).is_err());
    let unsigned = random_codes(&[5, 3, 3, 3], ranges(0, 8), 1, false);
    let e = conv2d(&x, &unsigned, &geo).unwrap_err().to_string();
    assert!(e.contains("at most 127") && e.contains("255"), "{e}");
    let each = Window { groups: 3, ..Window::default() };
    let depthwise = Conv2dGeometry::windowed(&[2, 4, 4, 3], &[3, 1, 1, 1], each).unwrap();
    let unsigned = random_codes(&[3, 1, 1, 1], ranges(0, 8), 1, false);
    let e = conv2d(&x, &unsigned, &depthwise).unwrap_err().to_string();
    assert!(e.contains("at most 127") && e.contains("255"), "{e}");
    let more = random_codes(&[3, 4, 4, 3], ranges(0, 8), 1, false);
    assert!(conv2d(&more, &w, &geo).is_err(), "another number of images");
    assert!(conv2d_input_grad(&random_codes(&[3, 4, 4, 5], ranges(1, 8), 1, false), &w, &geo).is_err());
    let g = random_codes(&[2, 4, 4, 5], ranges(0, 8), 1, false);
    assert!(matches!(conv2d_weight_grad(&x, &g, &geo), Err(Error::Range { .. })));
    let long = Codes::new(&[1, 70_000], ranges(0, 8), 1.0, vec![0u8; 70_000].into()).unwrap();
    let wide = Codes::new(&[1, 70_000], ranges(1, 8), 1.0, vec![0u8; 70_000].into()).unwrap();
    let e = linear(&long, &wide).unwrap_err().to_string();
    assert!(e.contains("at most 66311") && e.contains("70000"), "{e}");
    assert!(linear(&x, &wide).is_err());
    let packed = PackedWeights::forward(&w, &geo).unwrap();
    assert_eq!(conv2d_packed(&x, &packed).unwrap().to_vec(), conv2d(&x, &w, &geo).unwrap().to_vec());
}
