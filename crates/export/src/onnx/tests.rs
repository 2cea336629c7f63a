//! What an ONNX file says, read back and held to the plan: types, levels, ranges. What a runtime makes
//! of it is checked by `scripts/onnx/run`.

use super::writer::oihw;
use super::*;
use fixnet_autograd::Store;
use fixnet_nn::Layer;
use fixnet_nn::models::{LeNet, ModelSpec, build};
use fixnet_nn::plan::Node;
use fixnet_quant::{FixedConv2d, FixedLinear, FixedProduct, QuantConfig, Scheme};
use fixnet_tensor::Range;
use prost::Message;

#[test]
fn weights_change_their_order() {
    // [O, KH, KW, I] = [1, 1, 2, 3]: pixels (0, 1, 2) and (3, 4, 5) become channels (0, 3), (1, 4), (2, 5).
    let (shape, values) = oihw(&[1, 1, 2, 3], &[0, 1, 2, 3, 4, 5]);
    assert_eq!((shape, values), (vec![1, 3, 1, 2], vec![0, 3, 1, 4, 2, 5]));
    assert_eq!(oihw(&[2, 1], &[7, 8]), (vec![2, 1], vec![7, 8]));
    // Two output channels of one pixel keep theirs.
    assert_eq!(oihw(&[2, 1, 1, 2], &[0, 1, 2, 3]).1, [0, 1, 2, 3]);
}

#[test]
fn a_network_that_never_trained_is_refused_by_the_name_of_its_layer() {
    let mut store = Store::seeded(1);
    let q = QuantConfig::new("4/4/4".parse().unwrap());
    let net = build(&mut store, &LeNet.into(), [8, 8, 1], 10, &q).unwrap();
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    let e = encode(&plan, &Options::default()).unwrap_err().to_string();
    assert_eq!(e, "layer 5 (conv2): expected an input scale that a training batch has set, found none");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let mut store = Store::seeded(1);
    let net = build(&mut store, &LeNet.into(), [8, 8, 1], 10, &QuantConfig::float()).unwrap();
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    let e = save(Path::new("/nowhere/x.onnx"), &plan, &Options::default()).unwrap_err().to_string();
    assert!(e.starts_with("/nowhere/x.onnx"), "{e}");
}

/// The quantized product of a node, if it is one.
fn product_of(node: &Node) -> Option<&FixedProduct> {
    let conv = node.get::<FixedConv2d>().map(|op| &op.product);
    conv.or_else(|| node.get::<FixedLinear>().map(|op| &op.product))
}

/// A constant of a file: its type and its numbers.
type Constant = (i32, Vec<f64>);

/// What a file says.
#[derive(Debug, Default, PartialEq)]
struct File {
    ir: i64,
    opset: i64,
    /// Operation, output, inputs.
    nodes: Vec<(String, String, Vec<String>)>,
    constants: BTreeMap<String, Constant>,
}

impl File {
    fn read(bytes: &[u8]) -> Self {
        let model = messages::Model::decode(bytes).unwrap();
        let graph = model.graph.unwrap();
        let mut file =
            Self { ir: model.ir_version.unwrap(), opset: model.opset_import[0].version.unwrap(), ..Self::default() };
        for node in graph.node {
            file.nodes.push((node.op_type.unwrap(), node.output[0].clone(), node.input));
        }
        for constant in graph.initializer {
            let len = constant.dims.iter().map(|&d| d as usize).product();
            let (ty, raw) = (constant.data_type.unwrap(), constant.raw_data.unwrap());
            let values: Vec<f64> = match ty {
                1 => raw.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
                2 => raw.iter().map(|&b| b.into()).collect(),
                3 => raw.iter().map(|&b| f64::from(b as i8)).collect(),
                7 => raw.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
                22 => raw.iter().flat_map(|&b| [b << 4, b]).map(|b| (b as i8 >> 4).into()).take(len).collect(),
                _ => panic!("type {ty}"),
            };
            assert_eq!(values.len(), len);
            file.constants.insert(constant.name.unwrap(), (ty, values));
        }
        file
    }

    /// That every product with a constant has it first, where no runtime folds it into what is before.
    fn check_factors(&self) {
        let factors = self.nodes.iter().filter(|n| n.0 == "Mul");
        for (_, name, inputs) in factors {
            assert!(self.constants.contains_key(&inputs[0]) && !self.constants.contains_key(&inputs[1]), "{name}");
        }
    }

    /// The operation that gives a value, and its inputs; `None` for constants and `image`.
    fn maker(&self, value: &str) -> Option<(&str, &[String])> {
        self.nodes.iter().find(|n| n.1 == value).map(|n| (n.0.as_str(), &n.2[..]))
    }

    /// The operations that read a value.
    fn readers(&self, value: &str) -> Vec<&(String, String, Vec<String>)> {
        self.nodes.iter().filter(|n| n.2.iter().any(|input| input == value)).collect()
    }

    /// Takes out the bounds of sums: that of the product behind `layer`, the only reader of which it must be.
    fn take_bounds_of_sums(&mut self, layer: &str) {
        let sums = self.product(layer);
        let [(op, name, inputs)] = self.readers(&sums)[..] else { panic!("{layer}: {:?}", self.readers(&sums)) };
        let bounds: Vec<&Constant> = inputs[1..].iter().map(|name| &self.constants[name]).collect();
        assert_eq!((op.as_str(), &inputs[0]), ("Clip", &sums), "{layer}");
        assert_eq!(bounds, [&(1, vec![-2f64.powi(31)]), &(1, vec![2f64.powi(31)])], "{layer}");
        let name = name.clone();
        self.nodes.retain(|n| n.1 != name);
        let reads = self.nodes.iter_mut().flat_map(|n| &mut n.2).filter(|input| **input == name);
        reads.for_each(|input| input.clone_from(&sums));
    }

    /// The value of the quantized product of a layer.
    fn product(&self, layer: &str) -> String {
        let names = ["Conv", "Gemm"].map(|op| format!("{layer}/{op}"));
        names.into_iter().find(|name| self.maker(name).is_some()).unwrap()
    }

    fn count(&self, op: &str) -> usize {
        self.nodes.iter().filter(|n| n.0 == op).count()
    }

    /// That the operands of the product behind `layer` are levels of `input` and those of `weight`.
    fn check_product(&self, layer: &str, product: &FixedProduct, codes: CodeType) {
        let (_, operands) = self.maker(&self.product(layer)).unwrap();
        let weight = product.weight();
        let levels: Vec<i32> = (0..weight.len()).map(|i| weight.level(i)).collect();
        let expected: Vec<f64> = oihw(weight.shape(), &levels).1.into_iter().map(f64::from).collect();
        let range = product.input().range;
        let byte = if range.min() < 0 { 3 } else { 2 };
        let mut levels_of_x = operands[0].as_str();
        let ty = if codes == CodeType::Float {
            assert_eq!(self.constants[&operands[1]], (1, expected), "{layer}");
            if !range.is_sign() {
                let (op, inputs) = self.maker(levels_of_x).unwrap();
                assert_eq!(op, "Round");
                levels_of_x = &inputs[0];
            }
            return self.check_range(levels_of_x, range);
        } else if codes == CodeType::Int4 && weight.range().bits() <= 4 {
            22
        } else {
            3
        };
        let one = (1, vec![1.0]);
        let (op, inputs) = self.maker(&operands[1]).unwrap();
        assert_eq!((op, &self.constants[&inputs[0]]), ("DequantizeLinear", &(ty, expected)), "{layer}");
        assert_eq!((&self.constants[&inputs[1]], &self.constants[&inputs[2]]), (&one, &(ty, vec![0.0])));
        for op in ["DequantizeLinear", "QuantizeLinear"] {
            let (found, inputs) = self.maker(levels_of_x).unwrap();
            assert_eq!(found, op);
            assert_eq!((&self.constants[&inputs[1]], &self.constants[&inputs[2]]), (&one, &(byte, vec![0.0])));
            levels_of_x = &inputs[0];
        }
        self.check_range(levels_of_x, range);
    }

    /// That a value is kept in `range`.
    fn check_range(&self, value: &str, range: Range) {
        let (op, inputs) = self.maker(value).unwrap();
        let held = inputs[1..].iter().map(|name| self.constants[name].1[0]).collect::<Vec<_>>();
        let expected = [range.min(), range.max()].map(f64::from);
        assert_eq!((op, &held[..]), (if range.is_sign() { "Where" } else { "Clip" }, &expected[..]), "{value}");
    }
}

#[test]
fn every_form_has_the_levels_of_the_plan_and_keeps_inputs_in_their_range() {
    let lbt = |bits: &str| QuantConfig::new(bits.parse().unwrap());
    let trs = |bits: &str| QuantConfig { scheme: Scheme::Trs, ..lbt(bits) };
    let edges = |n: u8, config: QuantConfig| QuantConfig { edges: Some(n), ..config };
    let mut ranges = std::collections::BTreeSet::new();
    for config in [
        edges(4, lbt("4/4/4")),
        edges(8, lbt("8/8/8")),
        edges(4, trs("4/4/4")),
        edges(8, trs("2/2/32")),
        lbt("3/2/4"),
        lbt("1/1/32"),
        trs("1/1/32"),
    ] {
        for model in ["lenet", "resnet8", "mobilenetv2:w0.1", "reactnet18:w0.1", "edsr"] {
            let input = [8, 8, 1];
            let mut store = Store::seeded(3);
            let net = build(&mut store, &model.parse::<ModelSpec>().unwrap(), input, 10, &config).unwrap();
            let mut g = fixnet_autograd::Graph::train(&mut store);
            let x = g.input(fixnet_autograd::check::sample(&[4, 8, 8, 1], 1));
            net.forward(&mut g, &x).unwrap();
            let plan = Plan::of(&net, &mut store, &input).unwrap();
            let files = [CodeType::Int8, CodeType::Int4, CodeType::Float].map(|codes| {
                let form = codes.into();
                let bytes = encode(&plan, &Options { form, ..Options::default() }).unwrap();
                let file = File::read(&bytes);
                file.check_factors();
                for node in plan.nodes() {
                    if let Some(product) = product_of(node) {
                        file.check_product(node.name(), product, codes);
                        let input = product.input().range;
                        ranges.insert((input.min(), input.max()));
                    }
                }
                file
            });
            let [mut int8, int4, float] = files;
            // What keeps runtimes from folding factors into INT8 weights, and nothing of the kind in the other forms.
            for node in plan.nodes().iter().filter(|node| product_of(node).is_some()) {
                int8.take_bounds_of_sums(node.name());
                for file in [&int4, &float] {
                    let readers = file.readers(&file.product(node.name()));
                    assert!(!readers.is_empty() && readers.iter().all(|n| n.0 != "Clip"), "{readers:?}");
                }
            }
            assert_eq!([int8.ir, int8.opset, int4.ir, int4.opset, float.ir, float.opset], [7, 13, 10, 21, 7, 13]);
            // But for that they differ in the types of weights alone.
            assert_eq!(int8.nodes, int4.nodes);
            assert!(float.count("QuantizeLinear") + float.count("DequantizeLinear") == 0);
            assert!(float.constants.values().all(|c| [1, 7].contains(&c.0)));
            let kinds = |file: &File| file.constants.values().map(|c| c.0).collect::<std::collections::BTreeSet<_>>();
            assert!(!kinds(&int8).contains(&22), "{model}");
            assert_eq!(kinds(&int4).contains(&22), config.precision.weight().is_some_and(|bits| bits <= 4), "{model}");
        }
    }
    // Activations of both kinds, whole and biased ranges, and signs.
    for range in [(0, 15), (0, 255), (0, 3), (0, 1), (-7, 7), (-8, 7), (-127, 127), (-128, 127), (-1, 1)] {
        assert!(ranges.contains(&range), "{range:?} of {ranges:?}");
    }
}

#[test]
fn a_float_network_is_the_same_in_every_form_but_for_the_versions() {
    let mut store = Store::seeded(1);
    let net = build(&mut store, &LeNet.into(), [8, 8, 1], 10, &QuantConfig::float()).unwrap();
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    let [int8, int4, float] = [CodeType::Int8, CodeType::Int4, CodeType::Float].map(|codes| {
        let form = codes.into();
        let bytes = encode(&plan, &Options { form, ..Options::default() }).unwrap();
        assert!(bytes.len() > 4 * plan.summary().parameters());
        File::read(&bytes)
    });
    assert_eq!(int8, float);
    assert_eq!((int8.nodes, int8.constants), (int4.nodes, int4.constants));
}

#[test]
fn opsets_change_the_versions_alone() {
    let mut store = Store::seeded(1);
    let net = build(&mut store, &LeNet.into(), [8, 8, 1], 10, &QuantConfig::float()).unwrap();
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    let written = |form| File::read(&encode(&plan, &Options { form, ..Options::default() }).unwrap());
    let plain = written(CodeType::Int8.into());
    // The versions of the intermediate representation are those of the releases of ONNX.
    for (opset, ir) in
        [(13, 7), (14, 7), (15, 8), (18, 8), (19, 9), (20, 9), (21, 10), (22, 10), (23, 11), (24, 12), (26, 13)]
    {
        let file = written(Form::new(CodeType::Int8).with_opset(opset).unwrap());
        assert_eq!((file.opset, file.ir), (opset.into(), ir));
        assert_eq!((file.nodes, file.constants), (plain.nodes.clone(), plain.constants.clone()));
    }
}

/// The head of a detector is used for each level, and its numbers are in the file once.
#[test]
fn a_layer_that_is_used_several_times_has_its_constants_once() {
    let model: ModelSpec = "retinanet:r18-w0.05-l3to5-c8-n1-a16".parse().unwrap();
    for bits in ["32/32/32", "4/4/4"] {
        let mut store = Store::seeded(1);
        let net = build(&mut store, &model, [64, 64, 3], 5, &QuantConfig::new(bits.parse().unwrap())).unwrap();
        let mut g = fixnet_autograd::Graph::train(&mut store);
        let x = g.input(fixnet_autograd::check::sample(&[2, 64, 64, 3], 1));
        net.forward(&mut g, &x).unwrap();
        let plan = Plan::of(&net, &mut store, &[64, 64, 3]).unwrap();
        let form = Form::new(CodeType::Int8);
        let file = File::read(&encode(&plan, &Options { form, ..Options::default() }).unwrap());
        for layer in ["head.classification_head.conv.0.0", "head.regression_head.bbox_reg"] {
            let weights = file.constants.keys().filter(|name| name.starts_with(layer) && name.ends_with(".weight"));
            let weights: Vec<&String> = weights.collect();
            assert_eq!(weights, [&format!("{layer}.weight")], "{bits}");
            // By each of the three levels, if through a node of the weight's own.
            let reads = |name: &str| file.nodes.iter().filter(|(.., inputs)| inputs.iter().any(|i| i == name)).count();
            assert_eq!(reads(weights[0]), 3, "{bits}: {layer}");
        }
    }
}
