//! Batches of 32x32 colour images: plain, as CIFAR networks are trained, and with every augmentation; on one thread and two.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixnet::prelude::*;
use std::hint::black_box;

fn loader(c: &mut Criterion) {
    let data = photo_digits().expect("embedded data").train;
    let normalize = Normalize::of(&data);
    let usual = Augment { crop_padding: 4, flip: true, ..Augment::default() };
    let colour = Augment { brightness: 0.2, contrast: 0.2, saturation: 0.2, ..usual };
    let kinds = [
        ("plain", Augment::default()),
        ("crop-flip", usual),
        ("crop-flip-mixup", Augment { mixup: 0.2, ..usual }),
        ("crop-flip-colour", colour),
        ("crop-flip-turn", Augment { rotation: 10.0, shift: 0.1, ..usual }),
        ("all", Augment { rotation: 10.0, shift: 0.1, cutout: 8, mixup: 0.2, ..colour }),
    ];
    let mut group = c.benchmark_group("loader");
    group.throughput(Throughput::Elements(data.len() as u64)).sample_size(10);
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        for (name, augment) in kinds {
            group.bench_function(format!("{name}-{threads}t"), |b| {
                pool.install(|| {
                    b.iter(|| {
                        let batches = Loader::new(&data, 128, normalize.clone()).shuffled(1, 0);
                        batches.augmented(augment, 1, 0).for_each(|batch| drop(black_box(batch)));
                    });
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, loader);
criterion_main!(benches);
