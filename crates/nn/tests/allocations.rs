//! From the third step on, training and its batches take no buffer above 4 KiB from the system's allocator: they find them in
//! the pool.

use fixnet_autograd::{Graph, Store};
use fixnet_data::{Augment, Loader, Normalize, photo_digits};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::{Layer, models};
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use std::alloc::System;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

#[global_allocator]
static ALLOCATOR: Allocator<System> = Allocator::system();

/// The largest block that does not count.
const SMALL: usize = 4096;

static COUNTING: AtomicBool = AtomicBool::new(false);
static LARGE: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counter;

impl AllocationTracker for Counter {
    fn allocated(&self, _: usize, size: usize, _: usize, _: AllocationGroupId) {
        if COUNTING.load(Ordering::Relaxed) && size > SMALL {
            LARGE.fetch_add(1, Ordering::Relaxed);
            LARGEST.fetch_max(size, Ordering::Relaxed);
        }
    }
    fn deallocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {}
}

/// How many large blocks each of five steps takes, and the largest.
fn steps(model: &str, bits: &str, shape: [usize; 3]) -> Vec<(usize, usize)> {
    let mut store = Store::seeded(1);
    let config = QuantConfig::new(bits.parse().unwrap());
    let net = models::build(&mut store, &model.parse().unwrap(), shape, 10, &config).unwrap();
    let mut optimizer = Optimizer::new(OptimizerConfig::default()).unwrap();
    let batch = 64;
    let len = batch * shape.iter().product::<usize>();
    let images = Tensor::from_vec(
        &[batch, shape[0], shape[1], shape[2]],
        (0..len).map(|i| (i * 7919 % 1000) as f32 * 0.002 - 1.0).collect(),
    )
    .unwrap();
    let labels: Vec<_> = (0..batch).map(|i| i % 10).collect();
    let step = || {
        let mut g = Graph::train(&mut store);
        let x = g.input(images.clone());
        let logits = net.forward(&mut g, &x).unwrap();
        let loss = g.cross_entropy(&logits, &labels).unwrap();
        drop((x, logits));
        g.backward(loss).unwrap();
        optimizer.step(&mut store).unwrap();
    };
    count(step)
}

/// How many large blocks each of five calls takes, and the largest.
fn count(mut call: impl FnMut()) -> Vec<(usize, usize)> {
    let mut counts = Vec::new();
    for _ in 0..5 {
        LARGE.store(0, Ordering::Relaxed);
        LARGEST.store(0, Ordering::Relaxed);
        COUNTING.store(true, Ordering::Relaxed);
        call();
        COUNTING.store(false, Ordering::Relaxed);
        counts.push((LARGE.load(Ordering::Relaxed), LARGEST.load(Ordering::Relaxed)));
    }
    counts
}

/// The same for batches with every kind of augmentation.
fn batches() -> Vec<(usize, usize)> {
    let data = photo_digits().unwrap();
    let augment = Augment {
        quarter_turns: true,
        crop_padding: 4,
        flip: true,
        rotation: 10.0,
        shift: 0.1,
        brightness: 0.2,
        contrast: 0.2,
        saturation: 0.2,
        cutout: 8,
        mixup: 0.2,
        cutmix: 0.0,
        erasing: 0.2,
    };
    let normalize = Normalize::of(&data.train);
    let mut loader = Loader::new(&data.train, 64, normalize).shuffled(1, 0).augmented(augment, 1, 0);
    count(|| drop(loader.next().unwrap().unwrap()))
}

#[test]
fn steps_from_the_third_on_take_no_large_buffer() {
    AllocationRegistry::set_global_tracker(Counter).unwrap();
    AllocationRegistry::enable_tracking();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(|| {
        for (model, shape) in [("mlp", [28, 28, 1]), ("lenet", [28, 28, 1]), ("resnet20", [32, 32, 3])] {
            for bits in ["4/4/4", "32/32/32"] {
                let counts = steps(model, bits, shape);
                assert!(counts[0].0 > 0, "the count counts");
                assert!(counts[2..].iter().all(|c| c.0 == 0), "{model} at {bits}: {counts:?}");
            }
        }
        let counts = batches();
        assert!(counts[2..].iter().all(|c| c.0 == 0), "batches: {counts:?}");
    });
}
