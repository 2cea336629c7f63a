//! Whole training steps of all networks of the bench, in float and at three precisions, on one thread and on two.

mod common;

use common::{NETWORKS, Training};
use criterion::{Criterion, criterion_group, criterion_main};

fn train_step(c: &mut Criterion) {
    for network in &NETWORKS {
        let mut group = c.benchmark_group(format!("train-step-{}", network.name));
        group.sample_size(10);
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
            for bits in ["32/32/32", "8/8/8", "4/4/4", "2/2/4"] {
                let name = format!("{}-{threads}t", bits.replace('/', "-"));
                group.bench_function(name, |b| {
                    pool.install(|| {
                        let mut training = Training::new(network, bits, "lbt", network.optimizer).expect("a network");
                        b.iter(|| training.step().expect("a finite step"));
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, train_step);
criterion_main!(benches);
