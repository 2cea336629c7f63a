//! Every operation of a composed network is traced, packed, read back and written in ONNX.

mod network;

use fixnet_autograd::{Graph, Store};
use fixnet_export::{onnx, packed};
use fixnet_nn::Layer;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use network::{CLASSES, Composed, INPUT, images};
use std::collections::BTreeMap;

fn bits(t: &Tensor) -> Vec<u32> {
    t.data().iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_composed_network_gives_the_same_bits_traced_and_read_from_a_file() {
    let mut store = Store::seeded(1);
    let net = Composed::new(&mut store).unwrap();
    let plan = Plan::of(&net, &mut store, &INPUT).unwrap();
    assert_eq!(plan.output_shape(), [CLASSES]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let (read, _) = packed::load(&path).unwrap();
    assert_eq!(read.summary(), plan.summary());
    // More images than the trace had.
    let x = images(5);
    let mut g = Graph::eval(&mut store);
    let input = g.input(x.clone());
    let expected = bits(&net.forward(&mut g, &input).unwrap().tensor());
    assert_eq!(bits(plan.run(x.clone()).unwrap().first()), expected);
    assert_eq!(bits(read.run(x).unwrap().first()), expected);
}

#[test]
fn every_form_of_onnx_has_the_operations() {
    let mut store = Store::seeded(1);
    let net = Composed::new(&mut store).unwrap();
    let plan = Plan::of(&net, &mut store, &INPUT).unwrap();
    for form in [onnx::CodeType::Int8, onnx::CodeType::Int4, onnx::CodeType::Float].map(onnx::Form::new) {
        let bytes = onnx::encode(&plan, &onnx::Options { form, ..onnx::Options::default() }).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for op in [
            "Sub",
            "Div",
            "Erf",
            "LeakyRelu",
            "PRelu",
            "Concat",
            "Slice",
            "Softmax",
            "ReduceSum",
            "MatMul",
            "Transpose",
        ] {
            assert!(text.contains(op), "{op}");
        }
    }
}

#[test]
fn the_composed_network_learns() {
    let mut store = Store::seeded(1);
    let net = Composed::new(&mut store).unwrap();
    let mut g = Graph::train(&mut store);
    let x = g.input(images(4));
    let y = net.forward(&mut g, &x).unwrap();
    let loss = g.cross_entropy(&y, &[0, 1, 2, 3]).unwrap();
    g.backward(loss).unwrap();
    for p in store.params() {
        let grad = p.grad.as_ref().unwrap_or_else(|| panic!("`{}` has no gradient", p.name()));
        assert!(grad.data().iter().any(|&d| d != 0.0), "{}", p.name());
    }
}
