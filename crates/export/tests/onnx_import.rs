//! ONNX files as networks to train: those that fixnet exports, those of PyTorch's two exporters, and damaged ones.
//! `fixtures/make_onnx.py` makes the files and the logits.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Store};
use fixnet_export::onnx::import::{OnnxModel, Problem};
use fixnet_export::{Error, onnx};
use fixnet_fuzz as fuzz;
use fixnet_nn::Layer;
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::optim::{Optimizer, OptimizerConfig};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

mod numbers;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx").join(name)
}

fn logits(net: &dyn Layer, store: &mut Store, x: &Tensor) -> Tensor {
    let mut g = Graph::eval(store);
    let x = g.input(x.clone());
    net.forward(&mut g, &x).unwrap().tensor()
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Takes two steps at these bits; the loss of the second is finite, and some layer is quantized.
fn trains(model: &ModelSpec, input: &[usize], outputs: usize, bits: &str) {
    let mut store = Store::seeded(1);
    let config = QuantConfig::new(bits.parse().unwrap());
    let net = build(&mut store, model, input, outputs, &config).unwrap();
    let mut optimizer = Optimizer::new(OptimizerConfig { total_steps: 2, ..OptimizerConfig::default() }).unwrap();
    for step in 0..2 {
        let mut g = Graph::train(&mut store);
        let x = g.input(sample(&[&[4], input].concat(), step));
        let y = net.forward(&mut g, &x).unwrap();
        let loss = g.cross_entropy(&y, &[0, 1, 2, 3]).unwrap();
        assert!(loss.tensor().item().is_finite());
        g.backward(loss).unwrap();
        for p in store.params().iter().filter(|p| p.group() != fixnet_autograd::Group::Scale) {
            assert!(p.grad.is_some(), "{model}: `{}` has no gradient", p.name());
        }
        optimizer.step(&mut store).unwrap();
    }
    let plan = Plan::of(&net, &mut store, input).unwrap();
    assert!(plan.summary().rows.iter().any(|row| row.bits.as_deref() == Some(bits)), "{}", plan.summary());
}

#[test]
fn what_fixnet_exports_comes_back_and_trains() {
    let folder = tempfile::tempdir().unwrap();
    let images: [(&str, &[usize]); 3] =
        [("lenet", &[12, 8, 1]), ("resnet8", &[16, 16, 3]), ("mobilenetv2:w0.25", &[8, 8, 3])];
    let sequences: [(&str, &[usize]); 2] = [("cnn1d:4-4", &[20, 6]), ("vit1d:8x1x2", &[20, 6])];
    for (name, input) in images.into_iter().chain(sequences) {
        let mut store = Store::seeded(3);
        let net = build(&mut store, &name.parse::<ModelSpec>().unwrap(), input, 10, &QuantConfig::float()).unwrap();
        let plan = Plan::of(&net, &mut store, input).unwrap();
        let path = folder.path().join("net.onnx");
        let form = onnx::CodeType::Float.into();
        onnx::save(&path, &plan, &onnx::Options { form, ..onnx::Options::default() }).unwrap();
        let model: ModelSpec = OnnxModel::new(&path, false).into();
        let mut imported = Store::seeded(1);
        let read = build(&mut imported, &model, input, 10, &QuantConfig::float()).unwrap();
        let x = sample(&[&[3], input].concat(), 5);
        let (a, b) = (logits(&net, &mut store, &x), logits(&read, &mut imported, &x));
        let found = difference(a.data(), b.data());
        assert!(found < 1e-5, "{name}: {found}");
        trains(&model, input, 10, "4/4/4");
    }
}

/// The shape of a sample and the number of classes of a fixture.
fn form(name: &str) -> (&'static [usize], usize) {
    match name.split_once(|c: char| c == '-' || c.is_ascii_digit()).map_or(name, |(kind, _)| kind) {
        "small" => (&[28, 28, 1], 10),
        "steps" => (&[20, 6], 5),
        _ => (&[8, 8, 3], 5),
    }
}

static EXPECTED: LazyLock<BTreeMap<String, Vec<f32>>> =
    LazyLock::new(|| serde_json::from_str(&std::fs::read_to_string(fixture("logits.json")).unwrap()).unwrap());

#[test]
fn files_of_pytorch_give_its_logits_and_train() {
    for (name, expected) in EXPECTED.iter() {
        let (input, outputs) = form(name);
        let model: ModelSpec = OnnxModel::new(fixture(&format!("{name}.onnx")), false).into();
        let mut store = Store::seeded(1);
        let net = build(&mut store, &model, input, outputs, &QuantConfig::float()).unwrap();
        let x = numbers::inputs(2, input);
        let found = difference(logits(&net, &mut store, &x).data(), expected);
        assert!(found < 1e-4, "{name}: {found}");
        trains(&model, input, outputs, "4/4/4");
    }
}

#[test]
fn names_of_modules_and_batch_norms_are_kept_and_the_edges_are_floats() {
    let model: ModelSpec = OnnxModel::new(fixture("small17.onnx"), false).into();
    let mut store = Store::seeded(1);
    build(&mut store, &model, [28, 28, 1], 10, &QuantConfig::new("4/4/4".parse().unwrap())).unwrap();
    let of = |group| store.params().iter().filter(|p| p.group() == group).map(|p| p.name()).collect::<Vec<_>>();
    assert_eq!(of(fixnet_autograd::Group::Weight), ["conv1.weight", "fc2.weight"]);
    assert_eq!(of(fixnet_autograd::Group::Latent), ["conv2.weight", "fc1.weight"]);
    assert!(store.value("bn2.weight").is_ok());
    let folded: ModelSpec = OnnxModel::new(fixture("residual13.onnx"), false).into();
    let mut store = Store::seeded(1);
    build(&mut store, &folded, [8, 8, 3], 5, &QuantConfig::float()).unwrap();
    for name in ["stem.0.weight", "down.0.bias", "act.weight", "head.weight"] {
        assert!(store.value(name).is_ok(), "{name}");
    }
}

#[test]
fn other_classes_and_other_images_are_refused_and_a_new_head_has_its_own() {
    let path = fixture("small17.onnx");
    let model = OnnxModel::new(&path, false);
    let text = |e: Error| e.to_string();
    let e = text(model.check(&[28, 28, 1], 3).unwrap_err());
    assert!(e.contains("small17.onnx: output `logits`: expected [N, 3]") && e.contains(":new-head"), "{e}");
    let e = text(model.check(&[32, 32, 3], 10).unwrap_err());
    assert!(e.contains("expected [batch, 1, 28, 28], found [3, 32, 32]"), "{e}");
    let spec: ModelSpec = OnnxModel::new(&path, true).into();
    assert!(spec.to_string().ends_with("small17.onnx:new-head"));
    let mut store = Store::seeded(1);
    build(&mut store, &spec, [28, 28, 1], 3, &QuantConfig::float()).unwrap();
    assert_eq!(store.value("fc2.weight").unwrap().shape(), [3, 16]);
}

#[test]
fn a_recorded_graph_builds_the_same_network_without_its_numbers() {
    for name in [
        "small17",
        "residual-dynamo",
        "tokens13",
        "class17",
        "class-dynamo",
        "steps17",
        "attention17",
        "attention-dynamo",
    ] {
        let (input, outputs) = form(name);
        let whole = OnnxModel::new(fixture(&format!("{name}.onnx")), false);
        let graph = whole.graph().unwrap().to_vec();
        let bare = whole.recorded(&graph, whole.digest().unwrap()).unwrap();
        let shapes = |model: OnnxModel| {
            let mut store = Store::seeded(1);
            build(&mut store, &model.into(), input, outputs, &QuantConfig::new("4/4/4".parse().unwrap())).unwrap();
            store.state_dict().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(bare.graph().unwrap(), graph);
        assert_eq!(shapes(bare), shapes(whole));
    }
}

#[test]
fn a_file_that_is_missing_or_another_is_told_by_its_path() {
    let e = OnnxModel::new("/nowhere/net.onnx", false).read().unwrap_err();
    assert!(matches!(&e, Error::Onnx { problem, .. } if matches!(**problem, Problem::Read(_))), "{e}");
    assert!(e.to_string().starts_with("/nowhere/net.onnx: "), "{e}");
    let e = OnnxModel::new(fixture("logits.json"), false).read().unwrap_err();
    assert!(matches!(&e, Error::Onnx { problem, .. } if matches!(**problem, Problem::Format(_))), "{e}");
}

/// The files of up to 16 KiB: the bound on memory is for these.
const NAMES: [&str; 5] = ["residual13", "residual17", "tokens17", "class17", "steps17"];

static FILES: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| NAMES.map(|n| std::fs::read(fixture(&format!("{n}.onnx"))).unwrap()).into());

proptest! {
    #![proptest_config(fuzz::config())]

    #[test]
    fn damaged_files_never_panic(which in 0usize..NAMES.len(), damage in fuzz::damage()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        std::fs::write(&path, fuzz::damaged(FILES[which].clone(), &damage)).unwrap();
        let model = OnnxModel::new(&path, false);
        let (input, outputs) = form(NAMES[which]);
        let checked = fuzz::within(2 * fuzz::MOST, || model.check(input, outputs));
        if checked.is_ok() {
            let mut store = Store::seeded(1);
            let net = build(&mut store, &model.into(), input, outputs, &QuantConfig::float()).unwrap();
            let mut g = Graph::eval(&mut store);
            let x = g.input(sample(&[&[1], input].concat(), 2));
            let _ = net.forward(&mut g, &x);
        }
    }

    #[test]
    fn random_files_never_panic(file in fuzz::random(&[b"", b"\x08\x07\x3a\x40", b"\x3a\x7f\x0a\x10"])) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.onnx");
        std::fs::write(&path, file).unwrap();
        prop_assert!(fuzz::within(2 * fuzz::MOST, || OnnxModel::new(&path, false).check(&[8, 8, 3], 5)).is_err());
    }
}
