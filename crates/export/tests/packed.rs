//! Packed networks compute the bits of the network that they came from, are as small as they should be, and are refused by
//! name where they are damaged or lie.

use fixnet_autograd::check::sample;
use fixnet_autograd::{Array, Graph, Store};
use fixnet_data::Normalize;
use fixnet_export::{Error, class_names, packed};
use fixnet_fuzz as fuzz;
use fixnet_nn::Layer;
use fixnet_nn::Problem;
use fixnet_nn::checkpoint::TensorFile;
use fixnet_nn::detection::{Objects, Truth};
use fixnet_nn::layers::Sequential;
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::plan::Plan;
use fixnet_quant::{AttentionScales, InputShifts, QuantConfig, Scheme, WeightScales};
use fixnet_tensor::{Budget, Tensor};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

/// One batch in training sets all scales and moves the statistics.
fn network(model: &str, input: [usize; 3], config: &QuantConfig) -> (Store, Sequential) {
    let mut store = Store::seeded(3);
    let net = build(&mut store, &model.parse::<ModelSpec>().unwrap(), input, 10, config).unwrap();
    let mut g = Graph::train(&mut store);
    // Networks of two stages look for it.
    g.give(Truth { objects: vec![Objects::default(); 4], images: (0..4).collect() });
    let x = g.input(sample(&[&[4], &input[..]].concat(), 1));
    net.forward(&mut g, &x).unwrap();
    (store, net)
}

fn names(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("class \"{class}\"")).collect()
}

fn with(bits: &str) -> QuantConfig {
    QuantConfig::new(bits.parse().unwrap())
}

#[test]
fn what_is_read_computes_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let channel = QuantConfig { weight_scales: WeightScales::Channel, edges: Some(6), ..with("3/5/4") };
    let trs = QuantConfig { scheme: Scheme::Trs, edges: Some(8), ..with("2/2/4") };
    let shifted =
        QuantConfig { input_shifts: InputShifts::Learned, attention_scales: AttentionScales::Head, ..with("4/4/4") };
    let plain = ["32/32/32", "4/4/4", "8/8/8", "1/1/32", "32/1/32"].map(with);
    for config in plain.into_iter().chain([channel, trs, shifted]) {
        for (model, input) in [
            ("lenet", [12, 8, 2]),
            ("mlp:24-9", [4, 4, 3]),
            ("resnet8", [8, 8, 3]),
            ("mobilenetv2:w0.1", [8, 8, 3]),
            ("reactnet18:w0.1", [8, 8, 3]),
            ("vit:12x2x3", [8, 8, 3]),
            ("edsr", [6, 5, 1]),
        ] {
            let (mut store, net) = network(model, input, &config);
            let normalize = Normalize::new(vec![0.3; input[2]], vec![0.7; input[2]]).unwrap();
            let plan = Plan::of(&net, &mut store, &input).unwrap().normalized(normalize.clone());
            let plan = if model == "edsr" { plan } else { plan.with_class_names(names(10)) };
            let metadata = BTreeMap::from([("config".to_string(), "name = 'x'".to_string())]);
            packed::save(&path, &plan, &metadata).unwrap();
            let (read, found) = packed::load(&path).unwrap();
            assert_eq!((found["config"].as_str(), read.normalize()), ("name = 'x'", plan.normalize()));
            assert_eq!((read.summary(), read.class_names()), (plan.summary(), plan.class_names()));
            let x = sample(&[&[3], &input[..]].concat(), 2);
            let mut g = Graph::eval(&mut store);
            // The plan takes pixels and normalizes them; the layers take what is normalized.
            let v = g.input(normalize.apply(&x).unwrap());
            let (expected, found) = (net.forward(&mut g, &v).unwrap().tensor(), read.run(x).unwrap().into_first());
            assert!(found.data().iter().zip(expected.data()).all(|(a, b)| a.to_bits() == b.to_bits()), "{model}");
        }
    }
}

/// Detectors, with layers that each uses for several levels.
const DETECTORS: [(&str, [&str; 3]); 2] = [
    (
        "retinanet:r18-w0.05-l3to5-c8-n1-a16",
        ["head.classification_head.conv.0.0", "head.classification_head.cls_logits", "head.regression_head.bbox_reg"],
    ),
    (
        "fasterrcnn:r18-w0.05-l3to5-c8-f16-p20-a16",
        ["rpn.head.conv.0.0", "rpn.head.cls_logits", "roi_heads.box_head.fc6"],
    ),
];

/// The head of a detector is used for each level: its numbers are in the file once, and what is read computes the same bits.
#[test]
fn a_layer_that_is_used_several_times_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    for ((model, layers), bits) in DETECTORS.into_iter().flat_map(|d| ["32/32/32", "4/4/4", "2/2/32"].map(|b| (d, b))) {
        let (mut store, net) = network(model, [64, 64, 3], &with(bits));
        let plan = Plan::of(&net, &mut store, &[64, 64, 3]).unwrap();
        packed::save(&path, &plan, &BTreeMap::new()).unwrap();
        let file = TensorFile::read(&path).unwrap();
        let names: Vec<&str> = file.header().tensors.iter().map(|t| t.name.as_str()).collect();
        let of_head = |layer: &str| {
            let weights =
                |name: &&&str| name.starts_with(layer) && (name.ends_with(".weight") || name.ends_with(".codes"));
            names.iter().filter(weights).count()
        };
        for layer in layers {
            assert_eq!(of_head(layer), 1, "{bits}: {layer} in {names:?}");
        }
        let (read, _) = packed::load(&path).unwrap();
        let x = sample(&[2, 64, 64, 3], 2);
        let [expected, found] = [&plan, &read].map(|plan| plan.run(x.clone()).unwrap().into_first());
        assert!(found.data().iter().zip(expected.data()).all(|(a, b)| a.to_bits() == b.to_bits()), "{bits}");
        // Layers are known as such, so parameters count once, and what is written again is the same file.
        assert_eq!(read.summary(), plan.summary());
        let form = |plan: &Plan| packed::contents(plan).unwrap().1;
        assert_eq!(form(&read), form(&plan));
    }
}

/// What shares arrays costs no memory, and is held to what it shares them with.
#[test]
fn lies_about_shared_arrays_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let weight = Tensor::zeros(&[4, 4]);
    let arrays =
        [("fc.weight".to_string(), Array::F32(weight)), ("other.weight".into(), Array::F32(Tensor::zeros(&[4, 4])))];
    let load = |nodes: &[String]| {
        let text = format!("{{\"version\":2,\"input\":[4],\"normalized\":false,\"nodes\":[{}]}}", nodes.join(","));
        TensorFile::save(&path, &arrays, &BTreeMap::from([(packed::PLAN.to_string(), text)])).unwrap();
        fuzz::within(fuzz::MOST, || packed::load(&path)).map(|(plan, _)| plan)
    };
    let first = "{\"name\":\"fc\",\"op\":\"linear\",\"inputs\":[0]}".to_string();
    let shared = |index: usize, more: &str| {
        format!(
            "{{\"name\":\"fc.linear_{index}\",\"layer\":\"fc\",\"op\":\"linear\",\"inputs\":[{}]{more}}}",
            index - 1
        )
    };
    let as_first = |index| shared(index, ",\"same_as\":1");
    let plan = load(&[first.clone(), as_first(2), as_first(3)]).unwrap();
    assert_eq!((plan.nodes()[3].layer(), plan.summary().parameters()), ("fc", 16));
    let many: Vec<String> = std::iter::once(first.clone()).chain((2..68).map(as_first)).collect();
    load(&many[..65]).unwrap();
    for (nodes, word) in [
        (many, "at most 64 nodes that are as 1"),
        (vec![first.clone(), shared(2, ",\"same_as\":2")], "found 2"),
        (vec![first.clone(), shared(2, ",\"same_as\":0")], "found 0"),
        (vec![first.clone(), shared(2, ",\"same_as\":18446744073709551615")], "found 18446744073709551615"),
        (vec![first.clone(), as_first(2), shared(3, ",\"same_as\":2")], "found 2"),
        (vec![first.clone(), as_first(2).replace("linear\",\"inputs", "relu\",\"inputs")], "found 1"),
        (vec![first.clone(), as_first(2).replace("\"layer\":\"fc\"", "\"layer\":\"other\"")], "found 1"),
        (vec![first.clone(), as_first(2).replace("[1]", "[1,1]")], "expected 1 inputs"),
        (vec![first.clone(), as_first(2).replace("[1]", "[]")], "expected 1 inputs"),
        (vec![first.clone(), shared(2, ",\"same_as\":1,\"constants\":[1]")], "no settings beside it"),
        (vec![first.clone(), shared(2, ",\"same_as\":1,\"stride\":[1,1]")], "no settings beside it"),
    ] {
        let e = load(&nodes).unwrap_err().to_string();
        assert!(e.contains("net.safetensors") && e.contains(word), "{word}: {e}");
    }
}

#[test]
fn four_bits_take_an_eighth_of_floats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let (mut store, net) = network("lenet", [28, 28, 1], &with("4/4/4"));
    let plan = Plan::of(&net, &mut store, &[28, 28, 1]).unwrap();
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let bytes = std::fs::metadata(&path).unwrap().len() as usize;
    // The numbers, running means and variances, and a header of a few kilobytes.
    let least = plan.summary().packed_bytes;
    assert!((least..least + 6_000).contains(&bytes), "{bytes}");
    let share = bytes as f64 / (4 * plan.summary().parameters()) as f64;
    assert!(share < 0.135, "{share}");
}

#[test]
fn damaged_files_and_lies_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let (mut store, net) = network("lenet", [8, 8, 1], &with("4/4/4"));
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refused = |word: &str| {
        let e = packed::load(&path).unwrap_err().to_string();
        assert!(e.contains("net.safetensors") && e.contains(word), "{e}");
    };
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    refused("damaged");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    refused("cut short");

    // A file whose checksum is right and whose content is not: each text of the plan changed in turn.
    std::fs::write(&path, &whole).unwrap();
    let file = TensorFile::read(&path).unwrap();
    let names: Vec<String> = file.header().tensors.iter().map(|t| t.name.clone()).collect();
    let arrays: Vec<(String, Array)> = names.iter().map(|n| (n.clone(), file.array(n).unwrap())).collect();
    let text = &file.header().metadata[packed::PLAN];
    for (from, to, word) in [
        ("\"version\":1", "\"version\":9", "version"),
        ("\"inputs\":[0]", "\"inputs\":[99]", "layer 1"),
        ("\"inputs\":[0]", "\"inputs\":[]", "layer 1"),
        ("\"inputs\":[1]", "\"inputs\":[1,1]", "layer 2"),
        ("\"input\":[8,8,1]", "\"input\":[8,8,2]", "layer 1"),
        ("\"input\":[8,8,1]", "\"input\":[70000,8,1]", "70000"),
        ("\"stride\":[1,1]", "\"stride\":[0,1]", "layer 1"),
        ("\"stride\":[1,1]", "\"stride\":[1,99999999]", "99999999"),
        ("\"padding\":[2,2]", "\"padding\":[65536,2]", "layer 1"),
        ("\"shape\":[64,5,5,32]", "\"shape\":[64,5,5,33]", "conv2"),
        ("\"shape\":[64,5,5,32]", "\"shape\":[18446744073709551615,5,5,32]", "conv2"),
        ("\"weight\":[4,-7]", "\"weight\":[9,-7]", "conv2"),
        ("\"weight\":[4,-7]", "\"weight\":[2,-1]", "conv2"),
        ("\"precision\":\"4/4/4\"", "\"precision\":\"4\"", "conv2"),
        ("\"name\":\"bn1\"", "\"name\":\"bn0\"", "bn0.running_mean"),
        ("\"name\":\"bn1\"", "\"name\":\"bn2\"", "layer 2"),
        ("\"op\":\"relu\"", "\"op\":\"opaque\",\"kind\":\"x\",\"shape\":[1]", "layer 3"),
        ("\"op\":\"relu\"", "\"op\":\"sin\"", "plan"),
        ("\"normalized\":false", "\"normalized\":true", "input.mean"),
        ("{", "", "plan"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let metadata = BTreeMap::from([(packed::PLAN.to_string(), text.replacen(from, to, 1))]);
        TensorFile::save(&path, &arrays, &metadata).unwrap();
        refused(word);
    }
    for (list, word) in
        [("[\"a\"]", "expected 10 class names"), ("[\"a\",\"a\"]", "`a` for classes"), ("[1]", "a list of names")]
    {
        let metadata = [(packed::PLAN, text.as_str()), (class_names::KEY, list)];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string())).into();
        TensorFile::save(&path, &arrays, &metadata).unwrap();
        refused(word);
    }
    TensorFile::save(&path, &arrays, &BTreeMap::new()).unwrap();
    refused("found none");

    let e = packed::save(Path::new("/nowhere/net.safetensors"), &plan, &BTreeMap::new()).unwrap_err().to_string();
    assert!(e.contains("/nowhere/net.safetensors"), "{e}");
    assert!(plan.run(Tensor::zeros(&[1, 8, 8, 2])).unwrap_err().to_string().contains("a batch of [8, 8, 1]"));
}

/// A kilobyte that asks for gigabytes: each size is bounded, and so is what follows from all of them.
#[test]
fn a_small_file_of_a_large_network_is_refused_before_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let node =
        |op: &str, input: usize, more: &str| format!("{{\"name\":\"\",\"op\":\"{op}\",\"inputs\":[{input}]{more}}}");
    let write = |channels: usize| {
        let nodes = [
            node("subsample", 0, &format!(",\"stride\":1,\"channels\":{channels}")),
            node("pixel_shuffle", 1, ",\"factor\":16"),
            node("global_avg_pool2d", 2, ""),
        ];
        let text =
            format!("{{\"version\":1,\"input\":[28,28,1],\"normalized\":false,\"nodes\":[{}]}}", nodes.join(","));
        let arrays = [("none".to_string(), Array::U64(vec![0]))];
        TensorFile::save(&path, &arrays, &BTreeMap::from([(packed::PLAN.to_string(), text)])).unwrap();
    };
    // 28·28·65536 floats twice: 411 MB an image, of 268 MB that it is given.
    write(1 << 16);
    let e = fuzz::within(fuzz::MOST, || packed::load(&path)).unwrap_err().to_string();
    assert!(e.contains("net.safetensors") && e.contains("evaluating one image claims 411041792 bytes"), "{e}");
    packed::load_within(&path, Budget::new(1 << 30, "ask for less")).unwrap();
    write(256);
    let (plan, _) = packed::load(&path).unwrap();
    assert_eq!((plan.memory(), plan.batch(256)), (2 * 4 * 28 * 28 * 256, 256));
    // The same tensor as the weight of many layers would multiply what the file holds.
    let weight = Tensor::zeros(&[784, 784]);
    let layers: Vec<String> =
        (1..4).map(|i| node("linear", i, "").replace("\"name\":\"\"", "\"name\":\"fc\"")).collect();
    let text = format!(
        "{{\"version\":1,\"input\":[28,28,1],\"normalized\":false,\"nodes\":[{},{}]}}",
        node("flatten", 0, ""),
        layers.join(",")
    );
    let arrays = [("fc.weight".to_string(), Array::F32(weight))];
    TensorFile::save(&path, &arrays, &BTreeMap::from([(packed::PLAN.to_string(), text)])).unwrap();
    let e = packed::load(&path).unwrap_err().to_string();
    assert!(e.contains("layer 3: expected a name that no other layer has, found fc"), "{e}");
}

#[test]
fn numbers_that_no_network_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let (mut store, net) = network("lenet", [8, 8, 1], &with("4/4/4"));
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let file = TensorFile::read(&path).unwrap();
    for (odd, value) in [
        ("conv1.weight", f32::NAN),
        ("bn1.running_var", -1.0),
        ("bn1.eps", f32::NAN),
        ("conv2.units", f32::NAN),
        ("conv2.units", -1.0),
        ("conv2.levels_a_unit", f32::INFINITY),
        ("classifier.bias", f32::NEG_INFINITY),
    ] {
        let tensors = file.header().tensors.iter();
        let mut arrays: Vec<(String, Array)> =
            tensors.map(|t| (t.name.clone(), file.array(&t.name).unwrap())).collect();
        match &mut arrays.iter_mut().find(|(name, _)| name == odd).unwrap().1 {
            Array::F32(t) => t.data_mut()[0] = value,
            Array::U64(_) | Array::I64(_) => panic!("{odd} has floats"),
        }
        TensorFile::save(&path, &arrays, &file.header().metadata).unwrap();
        let e = packed::load(&path).unwrap_err().to_string();
        assert!(e.contains(&format!("`{odd}`: expected")) && e.contains(&format!("found {value} at 0")), "{e}");
    }
}

/// Whoever writes such a file by hand could leave out the checksum, and with it the checks of fixnet's own numbers.
#[test]
fn a_packed_network_without_a_checksum_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let (mut store, net) = network("lenet", [8, 8, 1], &with("4/4/4"));
    let plan = Plan::of(&net, &mut store, &[8, 8, 1]).unwrap();
    packed::save(&path, &plan, &BTreeMap::new()).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|part| part == b"\"blake3\"").unwrap();
    bytes[at + 1..at + 7].copy_from_slice(b"nohash");
    std::fs::write(&path, &bytes).unwrap();
    let text = || packed::load(&path).unwrap_err().to_string();
    let e = text();
    assert!(e.contains("net.safetensors") && e.contains("expected a checksum (blake3)"), "{e}");
    // Its numbers are held to their ranges nevertheless.
    let header = TensorFile::read(&path).unwrap().header().clone();
    let units = header.tensors.iter().find(|t| t.name == "conv2.units").unwrap();
    let first = bytes.len() - header.tensors.iter().map(|t| t.bytes.len()).sum::<usize>() + units.bytes.start;
    bytes[first..first + 4].copy_from_slice(&(-1f32).to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let e = text();
    assert!(e.contains("`conv2.units`: expected a finite number of at least 0"), "{e}");
}

/// Packed networks of both kinds of forward quantizer and of floats, with each kind of operation.
static NETWORKS: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    let trs = QuantConfig { scheme: Scheme::Trs, weight_scales: WeightScales::Channel, ..with("2/3/4") };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    [("mlp:6-5", with("4/4/4")), ("mlp:4-3", trs), ("mlp:4", with("32/32/32"))].map(|(model, config)| {
        let (mut store, net) = network(model, [3, 2, 1], &config);
        let plan = Plan::of(&net, &mut store, &[3, 2, 1]).unwrap();
        let plan = plan.normalized(Normalize::new(vec![0.3], vec![0.7]).unwrap());
        packed::save(&path, &plan, &BTreeMap::new()).unwrap();
        std::fs::read(&path).unwrap()
    })
});

proptest! {
    #![proptest_config(fuzz::config())]

    /// Behind the checksum too: a network that is read is also run.
    #[test]
    fn damaged_files_never_panic(which in 0usize..3, damage in fuzz::damage()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("net.safetensors");
        let file = fuzz::damaged(NETWORKS[which].clone(), &damage);
        std::fs::write(&path, &file).unwrap();
        let load = || fuzz::within(fuzz::MOST, || packed::load(&path));
        let mut result = load();
        if let Err(Error::Nn(fixnet_nn::Error::Checkpoint {
            problem: Problem::Checksum { expected, found }, ..
        })) = &result {
            std::fs::write(&path, fuzz::resigned(file, expected, found)).unwrap();
            result = load();
        }
        if let Ok((plan, _)) = result {
            let _ = plan.run(sample(&[1, 3, 2, 1], 2));
        }
    }
}
