//! Graphs made by hand: what other readers share a value with, and sizes and numbers of hostile files.

use super::OnnxModel;
use crate::onnx::messages::{Attribute, Graph as Messages, Model, Node, OperatorSet, Tensor as Constant, ValueInfo};
use fixnet_autograd::{Graph, Store};
use fixnet_nn::Layer;
use fixnet_nn::models::build;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use prost::Message;
use tempfile::NamedTempFile;

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<Attribute>) -> Node {
    let input = inputs.iter().map(ToString::to_string).collect();
    Node { input, output: vec![output.into()], op_type: Some(op.into()), attribute, ..Node::default() }
}

fn int(name: &str, i: i64) -> Attribute {
    Attribute { name: Some(name.into()), i: Some(i), kind: Some(2), ..Attribute::default() }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Constant {
    Constant {
        dims: dims.to_vec(),
        data_type: Some(1),
        name: Some(name.into()),
        float_data: values.to_vec(),
        ..Constant::default()
    }
}

fn ints(name: &str, values: &[i64]) -> Constant {
    Constant {
        dims: vec![values.len() as i64],
        data_type: Some(7),
        name: Some(name.into()),
        int64_data: values.to_vec(),
        ..Constant::default()
    }
}

/// A network from `x` to `y`.
fn file(node: Vec<Node>, initializer: Vec<Constant>) -> NamedTempFile {
    let value = |name: &str| vec![ValueInfo { name: Some(name.into()), ..ValueInfo::default() }];
    let graph = Messages { node, initializer, input: value("x"), output: value("y"), ..Messages::default() };
    let opset = OperatorSet { domain: Some(String::new()), version: Some(17) };
    let model = Model { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Model::default() }
        .encode_to_vec();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(&file, model).unwrap();
    file
}

fn refused(nodes: Vec<Node>, constants: Vec<Constant>) -> String {
    let file = file(nodes, constants);
    OnnxModel::new(file.path(), false).check(&[4], 4).unwrap_err().to_string()
}

/// The output for one row.
fn output(nodes: Vec<Node>, constants: Vec<Constant>, row: [f32; 4]) -> Vec<f32> {
    let file = file(nodes, constants);
    let mut store = Store::seeded(1);
    let net =
        build(&mut store, &OnnxModel::new(file.path(), false).into(), [1, 1, 4], 4, &QuantConfig::float()).unwrap();
    let mut g = Graph::eval(&mut store);
    let x = g.input(Tensor::from_vec(&[1, 1, 1, 4], row.to_vec()).unwrap());
    net.forward(&mut g, &x).unwrap().tensor().data().to_vec()
}

fn identity() -> Constant {
    let at = |i: usize| if i.is_multiple_of(5) { 1.0 } else { 0.0 };
    floats("w", &[4, 4], &(0..16).map(at).collect::<Vec<_>>())
}

/// A number that is added to a product becomes its bias, unless something else reads the product under any of its names.
#[test]
fn what_reads_a_product_does_not_see_what_is_added_for_another() {
    for alias in ["Identity", "Cast"] {
        let to = if alias == "Cast" { vec![int("to", 1)] } else { Vec::new() };
        let nodes = vec![
            node("Flatten", &["x"], "rows", vec![int("axis", 1)]),
            node("MatMul", &["rows", "w"], "t1", Vec::new()),
            node("Relu", &["t1"], "a", Vec::new()),
            node(alias, &["t1"], "t2", to),
            node("Add", &["t2", "c"], "s", Vec::new()),
            node("Add", &["a", "s"], "y", Vec::new()),
        ];
        let constants = vec![identity(), floats("c", &[4], &[1.0, 1.0, 1.0, 10.0])];
        assert_eq!(output(nodes, constants, [-1.0, 2.0, 0.0, 3.0]), [0.0, 5.0, 1.0, 16.0], "{alias}");
    }
}

#[test]
fn the_length_of_the_batch_is_no_number_to_compute_with() {
    let nodes = vec![
        node("Shape", &["x"], "shape", Vec::new()),
        node("Gather", &["shape", "first"], "n", Vec::new()),
        node("Cast", &["n"], "f", vec![int("to", 1)]),
        node("Div", &["x", "f"], "y", Vec::new()),
    ];
    let e = refused(nodes, vec![ints("first", &[0])]);
    assert!(e.contains("Cast") && e.contains("numbers that do not depend on the batch"), "{e}");
    let nodes = vec![node("Cast", &["low"], "n", vec![int("to", 7)]), node("Reshape", &["x", "n"], "y", Vec::new())];
    let e = refused(nodes, vec![floats("low", &[1], &[f32::NEG_INFINITY])]);
    assert!(e.contains("numbers that are whole numbers, found -inf"), "{e}");
}

#[test]
fn constants_beyond_their_bounds_are_refused() {
    let gather = vec![
        node("Gather", &["list", "many"], "g", Vec::new()),
        node("Transpose", &["g"], "t", Vec::new()),
        node("Reshape", &["x", "t"], "y", Vec::new()),
    ];
    let e = refused(gather, vec![ints("list", &[1]), ints("many", &[0; 65537])]);
    assert!(e.contains("Gather") && e.contains("at most 65536 indices"), "{e}");
    let empty = |target: &[i64]| {
        let nodes = vec![
            node("ConstantOfShape", &["shape"], "c", Vec::new()),
            node("Transpose", &["c"], "t", Vec::new()),
            node("Add", &["x", "t"], "y", Vec::new()),
        ];
        refused(nodes, vec![ints("shape", target)])
    };
    for target in [&[0, 1 << 40][..], &[0, 1 << 62, 1 << 62], &[1 << 40, 0]] {
        assert!(empty(target).contains("a constant of at most"), "{target:?}");
    }
    // Each has 64 Ki numbers, and all of them stay.
    let mut nodes = vec![node("ConstantOfShape", &["shape"], "c0", Vec::new())];
    let names: Vec<String> = (0..2000).map(|i| format!("c{i}")).collect();
    nodes.extend(names.windows(2).map(|pair| node("Add", &[&pair[0], &pair[0]], &pair[1], Vec::new())));
    nodes.push(node("Add", &["x", "c1999"], "y", Vec::new()));
    let e = refused(nodes, vec![ints("shape", &[65536])]);
    assert!(e.contains("the constant of"), "{e}");
}

#[test]
fn a_normalization_of_single_numbers_is_refused() {
    let nodes = vec![
        node("Gather", &["x", "first"], "one", vec![int("axis", 1)]),
        node("LayerNormalization", &["one", "w"], "y", Vec::new()),
    ];
    let first = Constant { dims: Vec::new(), ..ints("first", &[0]) };
    let e = refused(nodes, vec![first, floats("w", &[1], &[1.0])]);
    assert!(e.contains("a normalization over the last axis alone"), "{e}");
}

/// Sequences [N, C, T] of one channel and four steps: pools of one axis, and the mean.
#[test]
fn pools_of_sequences_by_hand() {
    let ints = |name: &str, values: &[i64]| Attribute {
        name: Some(name.into()),
        ints: values.to_vec(),
        kind: Some(7),
        ..Attribute::default()
    };
    let pooled = |op: &str, attributes: Vec<Attribute>| {
        let nodes = vec![
            node("Conv", &["x", "w1"], "c", Vec::new()),
            node(op, &["c"], "p", attributes),
            node("Flatten", &["p"], "f", Vec::new()),
            node("MatMul", &["f", "w"], "y", Vec::new()),
        ];
        let width = if op == "GlobalAveragePool" { 1 } else { 3 };
        let at = |i: usize| if i.is_multiple_of(width + 1) { 1.0 } else { 0.0 };
        let w = floats("w", &[width as i64, width as i64], &(0..width * width).map(at).collect::<Vec<_>>());
        let file = file(nodes, vec![floats("w1", &[1, 1, 1], &[2.0]), w]);
        let mut store = Store::seeded(1);
        let model = OnnxModel::new(file.path(), false).into();
        let net = build(&mut store, &model, [4, 1], width, &QuantConfig::float()).unwrap();
        let mut g = Graph::eval(&mut store);
        let x = g.input(Tensor::from_vec(&[1, 4, 1], vec![1.0, 5.0, -2.0, 4.0]).unwrap());
        net.forward(&mut g, &x).unwrap().tensor().data().to_vec()
    };
    let window =
        |strides, pads: &[i64]| vec![ints("kernel_shape", &[2]), ints("strides", &[strides]), ints("pads", pads)];
    assert_eq!(pooled("MaxPool", window(1, &[0, 0])), [10.0, 10.0, 8.0]);
    // Half a window of padding on both sides.
    assert_eq!(pooled("MaxPool", window(2, &[1, 1])), [2.0, 10.0, 8.0]);
    assert_eq!(pooled("AveragePool", window(1, &[0, 0])), [6.0, 3.0, 2.0]);
    assert_eq!(pooled("GlobalAveragePool", Vec::new()), [4.0]);
}

#[test]
fn an_axis_of_the_batch_that_is_elsewhere_is_refused() {
    let nodes = vec![
        node("MatMul", &["x", "w"], "m", Vec::new()),
        node("Reshape", &["m", "shape"], "r", Vec::new()),
        node(
            "Transpose",
            &["r"],
            "t",
            vec![Attribute { name: Some("perm".into()), ints: vec![1, 0, 2], kind: Some(7), ..Attribute::default() }],
        ),
        node("Relu", &["t"], "y", Vec::new()),
    ];
    let e = refused(nodes, vec![identity(), ints("shape", &[0, 2, 2])]);
    assert!(e.contains("output `y`: expected the axis of the batch first"), "{e}");
    let nodes = vec![
        node("MatMul", &["x", "w"], "m", Vec::new()),
        node("Reshape", &["m", "shape"], "r", Vec::new()),
        node("Reshape", &["r", "joined"], "j", Vec::new()),
        node("Softmax", &["j"], "y", Vec::new()),
    ];
    let e = refused(nodes, vec![identity(), ints("shape", &[0, 2, 2, 1]), ints("joined", &[-1, 2, 1])]);
    assert!(e.contains("output `y`: expected the axis of the batch first"), "{e}");
}
