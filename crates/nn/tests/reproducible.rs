//! The promise: same seed, data and settings, same bits, at any number of threads, on any instruction set, resumed or
//! not. And: no float matrix product inside a quantized layer.
//!
//! The instruction set in force and the count of float products belong to the process, so one test runs at a time.

use fixnet_autograd::{Graph, Result, Store, Var};
use fixnet_data::{Loader, Normalize, digits};
use fixnet_nn::checkpoint::{self, Checkpoint, Progress};
use fixnet_nn::layers::{BatchNorm2d, Conv2d, Conv2dConfig, GlobalAvgPool2d, Layer, Relu, Sequential};
use fixnet_nn::models;
use fixnet_nn::optim::{Optimizer, OptimizerConfig, TransitionConfig};
use fixnet_quant::{AttentionScales, InputShifts, QuantConfig, Scheme};
use fixnet_tensor::float_products;
use fixnet_tensor::kernel::{available_isas, set_isa};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The digest of the run below, on every machine. It changes when the arithmetic or a default changes, never otherwise.
const GOLDEN: &str = "9fe6cf20ff6159d5f9c367735819c90fc2072b57cd3a93e78827b3d08d99dc15";

fn config(bits: &str, edges: Option<u8>) -> QuantConfig {
    QuantConfig { edges, ..QuantConfig::new(bits.parse().unwrap()) }
}

/// A model and its precision.
type Run<'a> = (&'a str, &'a str);

/// The middle of the digits, for networks that halve whole numbers of pixels.
struct Middle;

impl Layer for Middle {
    fn forward(&self, g: &mut Graph<'_>, x: &Var) -> Result<Var> {
        let rows = g.slice(x, 1, 2..26)?;
        g.slice(&rows, 2, 2..26)
    }
}

/// A model for the digits.
fn built(store: &mut Store, model: &str, config: &QuantConfig) -> Sequential {
    let middle = model.starts_with("reactnet");
    let side = if middle { 24 } else { 28 };
    let net = models::build(store, &model.parse().unwrap(), [side, side, 1], 10, config).unwrap();
    if middle { Sequential::new().push(Middle).push(net) } else { net }
}

fn start((model, config): (&str, &QuantConfig)) -> (Store, Sequential, Optimizer) {
    let mut store = Store::seeded(5);
    let net = built(&mut store, model, config);
    let transition = Some(TransitionConfig::paper());
    let sgd =
        Optimizer::new(OptimizerConfig { lr: 0.05, total_steps: 4, transition, ..OptimizerConfig::default() }).unwrap();
    (store, net, sgd)
}

fn steps(store: &mut Store, net: &dyn Layer, sgd: &mut Optimizer, from: usize, to: usize) {
    steps_as(store, net, sgd, from..to, false);
}

fn steps_as(store: &mut Store, net: &dyn Layer, sgd: &mut Optimizer, steps: Range<usize>, eager: bool) {
    let data = digits().unwrap();
    let loader = Loader::new(&data.train, 6, Normalize::of(&data.train)).shuffled(5, 0);
    for batch in loader.skip_batches(steps.start).take(steps.len()) {
        let batch = batch.unwrap();
        let mut g = if eager { Graph::train(store).eager() } else { Graph::train(store) };
        let x = g.input(batch.images);
        let logits = net.forward(&mut g, &x).unwrap();
        let loss = g.cross_entropy(&logits, &batch.labels).unwrap();
        g.backward(loss).unwrap();
        sgd.step(store).unwrap();
    }
}

fn digest_of(run: (&str, &QuantConfig), eager: bool) -> String {
    let (mut store, net, mut sgd) = start(run);
    steps_as(&mut store, &net, &mut sgd, 0..4, eager);
    checkpoint::digest(&store, &sgd)
}

fn whole_run((model, bits): Run<'_>) -> String {
    digest_of((model, &config(bits, None)), false)
}

fn eager_run((model, bits): Run<'_>) -> String {
    digest_of((model, &config(bits, None)), true)
}

fn resumed(run: (&str, &QuantConfig), file: &Path) -> String {
    let (mut store, net, mut sgd) = start(run);
    steps(&mut store, &net, &mut sgd, 0, 2);
    checkpoint::save(file, &store, &sgd, &Progress::default(), &BTreeMap::new()).unwrap();
    let (mut store, net, mut sgd) = start(run);
    Checkpoint::open(file).unwrap().restore(&mut store, Some(&mut sgd)).unwrap();
    steps(&mut store, &net, &mut sgd, 2, 4);
    checkpoint::digest(&store, &sgd)
}

fn resumed_run((model, bits): Run<'_>, file: &Path) -> String {
    resumed((model, &config(bits, None)), file)
}

/// How many float products one training step of a network of quantized layers takes.
fn float_products_of_a_step(bits: &str) -> u64 {
    let mut store = Store::seeded(1);
    let quantized = config(bits, None);
    let layer = |store: &mut Store, name: &str, channels| {
        Conv2d::new(store, name, Conv2dConfig::square(channels, 3), &quantized).unwrap()
    };
    let net = Sequential::new()
        .push(layer(&mut store, "a", [1, 8]))
        .push(BatchNorm2d::new(&mut store, "bn", 8).unwrap())
        .push(Relu)
        .push(layer(&mut store, "b", [8, 10]))
        .push(GlobalAvgPool2d);
    let mut sgd = Optimizer::new(OptimizerConfig { total_steps: 1, ..OptimizerConfig::default() }).unwrap();
    let before = float_products();
    steps(&mut store, &net, &mut sgd, 0, 1);
    float_products() - before
}

/// The same of a whole model.
fn float_products_of(model: &str, bits: &str, edges: Option<u8>) -> u64 {
    let mut store = Store::seeded(1);
    let net = built(&mut store, model, &config(bits, edges));
    let mut sgd = Optimizer::new(OptimizerConfig { total_steps: 1, ..OptimizerConfig::default() }).unwrap();
    let before = float_products();
    steps(&mut store, &net, &mut sgd, 0, 1);
    float_products() - before
}

fn alone() -> MutexGuard<'static, ()> {
    static PROCESS: Mutex<()> = Mutex::new(());
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By itself, so that emulated machines can take this one: `scripts/emulate`.
#[test]
fn golden_digest_on_every_instruction_set() {
    let _alone = alone();
    for &isa in available_isas() {
        set_isa(isa).unwrap();
        assert_eq!(whole_run(("resnet20", "4/4/4")), GOLDEN, "{isa}");
        println!("golden digest: {isa}");
    }
}

#[test]
fn one_digest_at_every_thread_count_and_precision_and_after_a_resume() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    for &isa in available_isas() {
        set_isa(isa).unwrap();
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let digest = pool.install(|| whole_run(("resnet20", "4/4/4")));
            assert_eq!(digest, GOLDEN, "{isa}, {threads} threads");
        }
        assert_eq!(resumed_run(("resnet20", "4/4/4"), &folder.path().join("c.safetensors")), GOLDEN, "{isa}, resumed");
    }
    // Other mixes: equal among themselves is what counts.
    for bits in ["8/8/8", "2/2/32", "32/32/32"] {
        let first = whole_run(("resnet20", bits));
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| whole_run(("resnet20", bits))), first, "{bits}: {isa}, {threads} threads");
            }
        }
    }
    for bits in ["4/4/4", "8/8/32"] {
        assert_eq!(eager_run(("resnet20", bits)), whole_run(("resnet20", bits)), "{bits}: written out or deferred");
    }
    assert_eq!(float_products_of_a_step("4/4/4"), 0);
    // The count can count: with float gradients the backward products are float products.
    assert!(float_products_of_a_step("4/4/32") > 0);
}

/// One digest of a model in each of these precisions: on every instruction set, with one thread and with three, resumed, and
/// written out.
fn one_digest(model: &str, precisions: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for &bits in precisions {
        let run = (model, bits);
        let first = whole_run(run);
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| whole_run(run)), first, "{bits}: {isa}, {threads} threads");
            }
        }
        assert_eq!(resumed_run(run, &folder.path().join("c.safetensors")), first, "{bits}: resumed");
        assert_eq!(eager_run(run), first, "{bits}: written out or deferred");
    }
}

/// Depthwise layers, ReLU6 and inputs of either sign.
#[test]
fn a_mobile_network_has_one_digest_and_no_float_product_inside() {
    let _alone = alone();
    let model = "mobilenetv2:w0.1";
    one_digest(model, &["4/4/4", "8/8/8", "2/2/32", "32/32/32"]);
    // Two of the first convolution, whose input wants no gradient, and three of the classifier.
    assert_eq!(float_products_of(model, "4/4/4", None), 5);
    assert_eq!(float_products_of(model, "4/4/4", Some(8)), 0);
    // The count can count: the two backward products of the 51 layers within; the edges have gradients of 8 bits.
    assert_eq!(float_products_of(model, "4/4/32", Some(8)), 2 * 51);
}

/// Signs with padding, learned shifts and shortcuts of floats; and binary activations before weights of floats.
#[test]
fn a_binary_network_has_one_digest_and_no_float_product_inside() {
    let _alone = alone();
    // Wide enough for words of bits in the last stages.
    let model = "reactnet18:w0.125";
    one_digest(model, &["1/1/32", "1/1/4", "32/1/32"]);
    // Two of the first convolution, three of each of the three shortcuts and of the classifier.
    assert_eq!(float_products_of(model, "1/1/4", None), 2 + 3 * 3 + 3);
    assert_eq!(float_products_of(model, "1/1/4", Some(8)), 3 * 3);
    // The count can count: the two backward products of the 16 layers within, or all three.
    assert_eq!(float_products_of(model, "1/1/32", Some(8)), 3 * 3 + 2 * 16);
    assert_eq!(float_products_of(model, "32/1/32", None), 2 + 3 * 3 + 3 + 3 * 16);
}

/// Attention, normalizations of rows, learned scales and factors of outputs, branches that are left out.
#[test]
fn a_vision_transformer_has_one_digest_and_no_float_product_inside() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = "vit:24x2x3:drop0.2";
    let trs = |bits: &str| QuantConfig { scheme: Scheme::Trs, ..config(bits, None) };
    let moved = |config: QuantConfig| QuantConfig {
        input_shifts: InputShifts::Learned,
        attention_scales: AttentionScales::Head,
        ..config
    };
    for (bits, config) in [
        ("4/4/4 with shifts and scales by head", moved(config("4/4/4", Some(8)))),
        ("2/2/4 in the TRS scheme with shifts and scales by head", moved(trs("2/2/4"))),
        ("4/4/4", config("4/4/4", None)),
        ("8/8/8", config("8/8/8", None)),
        ("2/2/32 in the TRS scheme", trs("2/2/32")),
        ("2/2/4 in the TRS scheme", trs("2/2/4")),
        ("32/32/32", config("32/32/32", None)),
    ] {
        let run = (model, &config);
        let first = digest_of(run, false);
        for &isa in available_isas() {
            set_isa(isa).unwrap();
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| digest_of(run, false)), first, "{bits}: {isa}, {threads} threads");
            }
        }
        assert_eq!(resumed(run, &folder.path().join("c.safetensors")), first, "{bits}: resumed");
        assert_eq!(digest_of(run, true), first, "{bits}: written out or deferred");
    }
    // Two of the patches, whose input wants no gradient, and three of the head.
    assert_eq!(float_products_of(model, "4/4/4", None), 5);
    assert_eq!(float_products_of(model, "4/4/4", Some(8)), 0);
    let before = float_products();
    digest_of((model, &moved(config("4/4/4", Some(8)))), false);
    assert_eq!(float_products(), before);
    // The count can count: the two backward products of the six products of each block.
    assert_eq!(float_products_of(model, "4/4/32", Some(8)), 2 * 2 * 6);
}
