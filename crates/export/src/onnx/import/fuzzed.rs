//! Damage to the structure of good files: sizes, values, names, edges and kinds change in a decoded model, so that what stands behind
//! the decoder meets files that are well formed and wrong.

use super::OnnxModel;
use super::operators::names;
use crate::onnx::messages::{Attribute, Dimension, Graph as Messages, Model, Node, Tensor as Constant};
use fixnet_autograd::check::sample;
use fixnet_autograd::{Graph, Store};
use fixnet_fuzz as fuzz;
use fixnet_nn::Layer;
use fixnet_nn::models::build;
use fixnet_quant::QuantConfig;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;
use std::path::Path;
use std::sync::LazyLock;

const INPUT: [usize; 3] = [8, 8, 3];
const OUTPUTS: usize = 5;
/// The most memory of this thread, in bytes, while a network of a damaged file is built and evaluated on one image.
const MOST: usize = 64 << 20;

/// Whole numbers that break sizes, axes and sums of them.
const ODD: [i64; 22] = [
    0,
    1,
    2,
    3,
    5,
    7,
    8,
    64,
    255,
    1 << 16,
    1 << 31,
    (1 << 32) + 1,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MAX - 1,
    i64::MIN,
    -1,
    -2,
    -3,
    -9,
    i32::MIN as i64,
];
const ODD_FLOATS: [f32; 9] = [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, -1e30];

/// One change: its kind, and places or values that it draws.
type Change = (u8, [Index; 3]);
const KINDS: u8 = 20;

fn pick<T>(from: &[T], at: Index) -> Option<&T> {
    (!from.is_empty()).then(|| at.get(from))
}

fn pick_mut<T>(from: &mut [T], at: Index) -> Option<&mut T> {
    (!from.is_empty()).then(|| at.get_mut(from))
}

/// Changes a list of whole numbers: one of them, or the length.
fn change_ints(values: &mut Vec<i64>, place: Index, what: Index) {
    let odd = *what.get(&ODD);
    match what.index(5) {
        0 => drop(values.pop()),
        1 => values.push(odd),
        2 if values.len() > 1 => {
            let (a, b) = (place.index(values.len()), what.index(values.len()));
            values.swap(a, b);
        }
        _ => pick_mut(values, place).into_iter().for_each(|value| *value = odd),
    }
}

fn change_constant(t: &mut Constant, [kind, place, what]: [Index; 3]) {
    match kind.index(8) {
        0..3 => change_ints(&mut t.dims, place, what),
        3 => t.data_type = Some(what.index(20) as i32),
        4 => {
            let raw = t.raw_data.get_or_insert_default();
            raw.truncate(place.index(raw.len() + 1));
        }
        5 => {
            let raw = t.raw_data.get_or_insert_default();
            let at = place.index(raw.len() / 4 + 1) * 4;
            match t.data_type {
                Some(7) if at + 8 <= raw.len() => raw[at..at + 8].copy_from_slice(&what.get(&ODD).to_le_bytes()),
                _ if at + 4 <= raw.len() => raw[at..at + 4].copy_from_slice(&what.get(&ODD_FLOATS).to_le_bytes()),
                _ => raw.extend([7; 3]),
            }
        }
        6 => t.data_location = Some(1),
        _ => {
            change_ints(&mut t.int64_data, place, what);
            t.float_data.push(*what.get(&ODD_FLOATS));
        }
    }
}

fn change_attribute(a: &mut Attribute, [kind, place, what]: [Index; 3]) {
    match kind.index(7) {
        0 => a.i = Some(*what.get(&ODD)),
        1 | 2 => change_ints(&mut a.ints, place, what),
        3 => a.f = Some(*what.get(&ODD_FLOATS)),
        4 => a.kind = Some(what.index(9) as i32),
        5 => {
            a.s = what
                .get(&["", "SAME_UPPER", "VALID", "constant", "reflect", "CRD", "tanh"])
                .to_string()
                .into_bytes()
                .into()
        }
        _ => match &mut a.t {
            Some(t) => change_constant(t, [what, place, kind]),
            None => a.floats.push(*what.get(&ODD_FLOATS)),
        },
    }
}

/// The names of all values of a graph.
fn values(graph: &Messages) -> Vec<String> {
    let constants = graph.initializer.iter().filter_map(|t| t.name.clone());
    let ends = graph.input.iter().chain(&graph.output).filter_map(|v| v.name.clone());
    let nodes = graph.node.iter().flat_map(|n| n.output.clone());
    constants.chain(ends).chain(nodes).chain([String::new(), "nowhere".into()]).collect()
}

fn change_node(node: &mut Node, all: &[String], kind: u8, [a, b, c]: [Index; 3]) {
    let name = || c.get(all).clone();
    match kind {
        0..4 => {
            pick_mut(&mut node.attribute, a).into_iter().for_each(|attribute| change_attribute(attribute, [b, c, a]))
        }
        4 => {
            if let Some(attribute) = pick_mut(&mut node.attribute, a) {
                attribute.name = Some(b.get(&SETTINGS).to_string());
            }
        }
        5 if !node.attribute.is_empty() => drop(node.attribute.remove(a.index(node.attribute.len()))),
        6 => drop(pick(&node.attribute, a).cloned().map(|attribute| node.attribute.push(attribute))),
        7 => {
            let int = Attribute { i: Some(*c.get(&ODD)), kind: Some(2), ..Attribute::default() };
            node.attribute.push(Attribute { name: Some(b.get(&SETTINGS).to_string()), ..int });
        }
        8 | 9 => node.op_type = Some(b.get(&names()).to_string()),
        10 | 11 => drop(pick_mut(&mut node.input, a).map(|input| *input = name())),
        12 => node.input.push(name()),
        13 => drop(node.input.pop()),
        14 => drop(pick_mut(&mut node.output, a).map(|output| *output = name())),
        _ => node.output.push("another".into()),
    }
}

/// Names of attributes.
const SETTINGS: [&str; 14] = [
    "axis",
    "axes",
    "perm",
    "pads",
    "strides",
    "dilations",
    "group",
    "kernel_shape",
    "alpha",
    "epsilon",
    "keepdims",
    "transB",
    "ceil_mode",
    "auto_pad",
];

/// A model after these changes.
fn changed(mut model: Model, changes: &[Change]) -> Model {
    for &(kind, [a, b, c]) in changes {
        let Some(graph) = &mut model.graph else { continue };
        let all = values(graph);
        match kind {
            0..16 => pick_mut(&mut graph.node, a).into_iter().for_each(|node| change_node(node, &all, kind, [b, c, a])),
            16 | 17 => pick_mut(&mut graph.initializer, a).into_iter().for_each(|t| change_constant(t, [b, c, a])),
            18 => match a.index(6) {
                0 if !graph.node.is_empty() => drop(graph.node.remove(b.index(graph.node.len()))),
                1 => drop(pick(&graph.node, b).cloned().map(|node| graph.node.push(node))),
                2 if !graph.node.is_empty() => {
                    let len = graph.node.len();
                    graph.node.swap(b.index(len), c.index(len));
                }
                3 => drop(pick_mut(&mut graph.initializer, b).map(|t| t.name = Some(c.get(&all).clone()))),
                4 => drop(pick_mut(&mut graph.output, b).map(|v| v.name = Some(c.get(&all).clone()))),
                _ => model.opset_import.iter_mut().for_each(|o| o.version = Some(b.index(30) as i64)),
            },
            _ => {
                let shape =
                    pick_mut(&mut graph.input, a).and_then(|v| v.r#type.as_mut()?.tensor_type.as_mut()?.shape.as_mut());
                let Some(shape) = shape else { continue };
                match b.index(3) {
                    0 => drop(shape.dim.pop()),
                    1 => shape.dim.push(Dimension { dim_value: Some(*c.get(&ODD)), dim_param: None }),
                    _ => drop(pick_mut(&mut shape.dim, a).map(|d| d.dim_value = Some(*c.get(&ODD)))),
                }
            }
        }
    }
    model
}

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/onnx");
    let read =
        |name: &str| Model::decode(&*fixnet_files::input_file::read(&folder.join(name), 1 << 20).unwrap()).unwrap();
    let tokens = ["tokens13.onnx", "tokens17.onnx", "attention-dynamo.onnx", "attention-first17.onnx"];
    ["residual13.onnx", "residual17.onnx", "residual-dynamo.onnx"].into_iter().chain(tokens).map(read).collect()
});

/// Reads, builds and evaluates the network of these bytes, as far as it gets; returns whether it was evaluated.
fn evaluated(bytes: &[u8]) -> bool {
    let Some(model) = fuzz::within(4 * fuzz::MOST, || OnnxModel::of_bytes(bytes).ok()) else { return false };
    fuzz::within(MOST, || {
        if model.check(&INPUT, OUTPUTS).is_err() {
            return false;
        }
        let mut store = Store::seeded(1);
        let Ok(net) = build(&mut store, &model.into(), INPUT, OUTPUTS, &QuantConfig::float()) else { return false };
        let mut g = Graph::eval(&mut store);
        let x = g.input(sample(&[&[1], &INPUT[..]].concat(), 2));
        net.forward(&mut g, &x).is_ok()
    })
}

#[test]
fn the_good_files_are_evaluated() {
    assert!(MODELS.iter().all(|model| evaluated(&model.encode_to_vec())));
}

proptest! {
    #![proptest_config(fuzz::config())]

    #[test]
    fn changed_models_never_panic(which in any::<Index>(), changes in prop::collection::vec((0..KINDS, any::<[Index; 3]>()), 1..4)) {
        let model = changed(which.get(&MODELS).clone(), &changes);
        evaluated(&model.encode_to_vec());
    }
}
