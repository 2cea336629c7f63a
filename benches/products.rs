//! The three products of ResNet-20 layers: every kernel through the public operations, beside the float ones.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixnet::kernel::{available_isas, isa, set_isa};
use fixnet::tensor::{Codes, Conv2dGeometry, Range, conv2d, conv2d_input_grad, conv2d_weight_grad, float};

fn codes(shape: &[usize], range: Range) -> Codes {
    let span = i32::from(range.byte_max()) + 1;
    let levels: Vec<i32> =
        (0..shape.iter().product()).map(|i: usize| (i * 7919 % 251) as i32 % span + range.min()).collect();
    Codes::from_levels(shape, range, 1.0, &levels).expect("levels are in range")
}

fn products(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    let best = isa();
    for (channels, size) in [(16, 32), (32, 16), (64, 8)] {
        let weight = [channels, 3, 3, channels];
        let g = Conv2dGeometry::new(&[32, size, size, channels], &weight, [1, 1], [1, 1], [1, 1]).expect("a geometry");
        let mut group = c.benchmark_group(format!("{channels}ch-{size}x{size}"));
        group.throughput(Throughput::Elements(2 * g.macs())).sample_size(20);
        for bits in [4, 8] {
            let (left, right) = (Range::unsigned(bits).expect("bits"), Range::symmetric(bits).expect("bits"));
            let (x, w) = (codes(&g.input_shape(), left), codes(&weight, right));
            let dy = codes(&g.output_shape(), right);
            for &level in available_isas() {
                set_isa(level).expect("available");
                let mut run = |name: &str, f: &(dyn Fn() + Sync)| {
                    group.bench_function(format!("{name}-{bits}bit-{level}"), |b| pool.install(|| b.iter(f)));
                };
                run("forward", &|| drop(std::hint::black_box(conv2d(&x, &w, &g))));
                run("input-grad", &|| drop(std::hint::black_box(conv2d_input_grad(&dy, &w, &g))));
                run("weight-grad", &|| drop(std::hint::black_box(conv2d_weight_grad(&x, &dy, &g))));
            }
            set_isa(best).expect("available");
            if bits == 4 {
                let (x, w, dy) = (x.dequantize(), w.dequantize(), dy.dequantize());
                let mut run = |name: &str, f: &(dyn Fn() + Sync)| {
                    group.bench_function(format!("{name}-f32-{best}"), |b| pool.install(|| b.iter(f)));
                };
                run("forward", &|| drop(std::hint::black_box(float::conv2d(&x, &w, &g))));
                run("input-grad", &|| drop(std::hint::black_box(float::conv2d_input_grad(&dy, &w, &g))));
                run("weight-grad", &|| drop(std::hint::black_box(float::conv2d_weight_grad(&x, &dy, &g))));
            }
        }
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
