//! The three products of real layers by every row of the kernel table, packing included, beside the float product of the
//! library and matrixmultiply's sgemm on the matrices that the product amounts to. One thread.
//!
//! `cargo bench --bench products` for all, `-- resnet20` for some; `benches/record.py` writes the medians to a dated
//! record. Every result is compared with the scalar row's before anything is timed; the scalar row itself is timed on
//! small layers only.

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use fixnet::kernel::{Isa, all, all_bits, all_float, select};
use fixnet::tensor::{
    Codes, Conv2dGeometry, PackedWeights, Range, conv2d_bits_with, conv2d_packed_with, conv2d_weight_grad_with, float,
};
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use std::hint::black_box;
use std::time::Duration;

/// Name, input [N, H, W, C], output channels, window, stride.
const LAYERS: [(&str, [usize; 4], usize, usize, usize); 12] = [
    ("resnet20-16x32", [32, 32, 32, 16], 16, 3, 1),
    ("resnet20-32x16", [32, 16, 16, 32], 32, 3, 1),
    ("resnet20-64x8", [32, 8, 8, 64], 64, 3, 1),
    ("resnet20-16to32", [32, 32, 32, 16], 32, 3, 2),
    ("resnet18-64x32", [8, 32, 32, 64], 64, 3, 1),
    ("resnet18-128x16", [8, 16, 16, 128], 128, 3, 1),
    ("resnet18-256x8", [8, 8, 8, 256], 256, 3, 1),
    ("resnet18-512x4", [8, 4, 4, 512], 512, 3, 1),
    ("mlp-784x512", [128, 1, 1, 784], 512, 1, 1),
    ("mlp-512x512", [128, 1, 1, 512], 512, 1, 1),
    ("cube-512", [512, 1, 1, 512], 512, 1, 1),
    ("cube-1024", [1024, 1, 1, 1024], 1024, 1, 1),
];

fn codes(shape: &[usize], range: Range) -> Codes {
    let span = i32::from(range.byte_max()) + 1;
    let levels: Vec<i32> =
        (0..shape.iter().product()).map(|i: usize| (i * 7919 % 251) as i32 % span + range.min()).collect();
    Codes::from_levels(shape, range, 1.0, &levels).expect("levels are in range")
}

fn products(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    for (name, input, c_out, kernel, stride) in LAYERS {
        let weight = [c_out, kernel, kernel, input[3]];
        let padding = [kernel / 2; 2];
        let geo = Conv2dGeometry::new(&input, &weight, [stride; 2], padding, [1, 1]).expect("a geometry");
        for product in ["forward", "input-grad", "weight-grad"] {
            let mut group = c.benchmark_group(format!("{name}/{product}"));
            group.throughput(Throughput::Elements(2 * geo.macs()));
            group.sampling_mode(SamplingMode::Flat).sample_size(11);
            group.warm_up_time(Duration::from_millis(30)).measurement_time(Duration::from_millis(100));
            for bits in [4, 8] {
                integer(&mut group, &pool, &geo, product, bits);
            }
            if product == "forward" {
                one_bit(&mut group, &pool, &geo);
            }
            floats(&mut group, &pool, &geo, product);
            group.finish();
        }
    }
}

fn integer(
    group: &mut BenchmarkGroup<'_, WallTime>,
    pool: &rayon::ThreadPool,
    geo: &Conv2dGeometry,
    product: &str,
    bits: u8,
) {
    let (left, right) = (Range::unsigned(bits).expect("bits"), Range::symmetric(bits).expect("bits"));
    let (x, w, dy) =
        (codes(&geo.input_shape(), left), codes(&geo.weight_shape(), right), codes(&geo.output_shape(), right));
    let left_max = if product == "input-grad" { dy.byte_max() } else { x.byte_max() };
    let admitted = || all().iter().filter(|k| k.admits(left_max, right.level_max()));
    let run = |k| -> Vec<f32> {
        let sums = match product {
            "forward" => conv2d_packed_with(k, &x, &PackedWeights::forward(&w, geo).expect("packs")),
            "input-grad" => conv2d_packed_with(k, &dy, &PackedWeights::input_grad(&w, geo).expect("packs")),
            _ => return conv2d_weight_grad_with(k, &x, &dy, geo).expect("multiplies").data().to_vec(),
        };
        sums.expect("multiplies").to_vec().into_iter().map(|v| v as f32).collect()
    };
    let scalar = run(all().last().expect("the scalar row"));
    for k in admitted() {
        assert!(run(k) == scalar, "{} differs from the scalar row", k.name);
        if k.isa == Isa::Scalar && geo.macs() > 1 << 26 {
            continue;
        }
        group.bench_function(format!("{bits}bit-{}", k.name), |b| {
            pool.install(|| match product {
                "forward" => b.iter(|| {
                    let w = PackedWeights::forward(&w, geo).expect("packs");
                    drop(black_box(conv2d_packed_with(k, &x, &w)));
                }),
                "input-grad" => b.iter(|| {
                    let w = PackedWeights::input_grad(&w, geo).expect("packs");
                    drop(black_box(conv2d_packed_with(k, &dy, &w)));
                }),
                _ => b.iter(|| drop(black_box(conv2d_weight_grad_with(k, &x, &dy, geo)))),
            });
        });
    }
}

/// Operands of one bit: the byte kernel that would be chosen, and every bit kernel.
fn one_bit(group: &mut BenchmarkGroup<'_, WallTime>, pool: &rayon::ThreadPool, geo: &Conv2dGeometry) {
    let x = codes(&geo.input_shape(), Range::unsigned(1).expect("bits"));
    let range = Range::symmetric(1).expect("bits");
    let signs: Vec<i32> =
        (0..geo.weight_shape().iter().product::<usize>()).map(|i| (i % 7 % 2) as i32 * 2 - 1).collect();
    let w = Codes::from_levels(&geo.weight_shape(), range, 1.0, &signs).expect("levels are in range");
    let bytes = select(x.byte_max(), w.level_max());
    let by_bytes = || conv2d_packed_with(bytes, &x, &PackedWeights::forward(&w, geo)?);
    let expected = by_bytes().expect("multiplies").to_vec();
    group.bench_function(format!("1bit-{}", bytes.name), |b| pool.install(|| b.iter(|| drop(black_box(by_bytes())))));
    for k in all_bits() {
        let by_bits = || conv2d_bits_with(k, &x, &w, geo);
        assert!(by_bits().expect("multiplies").to_vec() == expected, "{} differs from the bytes", k.name);
        group.bench_function(format!("1bit-{}", k.name), |b| pool.install(|| b.iter(|| drop(black_box(by_bits())))));
    }
}

fn floats(group: &mut BenchmarkGroup<'_, WallTime>, pool: &rayon::ThreadPool, geo: &Conv2dGeometry, product: &str) {
    let float = |shape: [usize; 4]| codes(&shape, Range::symmetric(8).expect("bits")).dequantize();
    let (x, w, dy) = (float(geo.input_shape()), float(geo.weight_shape()), float(geo.output_shape()));
    for k in all_float() {
        group.bench_function(k.name, |b| {
            pool.install(|| match product {
                "forward" => b.iter(|| drop(black_box(float::conv2d_with(k, &x, &w, geo)))),
                "input-grad" => b.iter(|| drop(black_box(float::conv2d_input_grad_with(k, &dy, &w, geo)))),
                _ => b.iter(|| drop(black_box(float::conv2d_weight_grad_with(k, &x, &dy, geo)))),
            });
        });
    }
    // The matrices that a user of sgemm would multiply, spread out beforehand: its packing counts, im2col does not.
    let (pixels, columns) = (geo.n() * geo.out_h() * geo.out_w(), geo.c_out());
    let inner = geo.macs() as usize / (pixels * columns);
    let spread = Array2::from_elem((pixels, inner), 0.5f32);
    let weights = Array2::from_elem((columns, inner), 0.25f32);
    let grads = Array2::from_elem((pixels, columns), 0.125f32);
    let (a, b) = match product {
        "forward" => (spread.view(), weights.t()),
        "input-grad" => (grads.view(), weights.view()),
        _ => (grads.t(), spread.view()),
    };
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    // ndarray hands a product of two dense f32 matrices to matrixmultiply's sgemm.
    group.bench_function("matrixmultiply-sgemm", |bench| {
        bench.iter(|| {
            general_mat_mul(1.0, &a, &b, 0.0, &mut out);
            black_box(&mut out);
        });
    });
}

criterion_group! {
    name = benches;
    // The record wants medians: no pictures, and few resamplings.
    config = Criterion::default().without_plots().nresamples(2000);
    targets = products
}
criterion_main!(benches);
