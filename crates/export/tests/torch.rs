//! Networks with the weights of PyTorch give its logits. `fixtures/make.py` made them.

mod numbers;

use fixnet_autograd::ops::FixedNorm;
use fixnet_autograd::{Array, Graph, Group, Store};
use fixnet_export::torch::{self, Names};
use fixnet_fuzz as fuzz;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{Pretrained, TensorFile};
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use numbers::{inputs, uniform};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected(model: &str) -> Vec<Vec<f32>> {
    let text = std::fs::read_to_string(fixtures().join("logits.json")).unwrap();
    serde_json::from_value(serde_json::from_str::<serde_json::Value>(&text).unwrap()[model].take()).unwrap()
}

/// What torchvision calls a layer.
fn theirs(layer: &str) -> String {
    match layer.strip_suffix("shortcut_bn") {
        Some(block) => format!("{block}downsample.1"),
        None => layer.replace("shortcut", "downsample.0"),
    }
}

/// The tensors of a model under the names and shapes of PyTorch, with numbers by the formula.
fn state_dict(plan: &Plan, classifier: &str) -> Vec<(String, Array)> {
    let mut arrays = Vec::new();
    for node in plan.nodes() {
        let layer = if node.name() == "classifier" { classifier.to_string() } else { theirs(node.name()) };
        // A learned row or addend has the layer's own name.
        if let [parameter] = &*node.parameters()
            && ["token", "operand1"].contains(&parameter.name.as_str())
        {
            let shape = &parameter.shape;
            let values = uniform(node.name(), shape.iter().product()).map(|u| (0.2 * u) as f32).collect();
            arrays.push((node.name().to_string(), Array::F32(Tensor::from_vec(shape, values).unwrap())));
            continue;
        }
        let mut add = |part: &str, shape: &[usize], value: &dyn Fn(f64) -> f64| {
            let name = format!("{layer}.{part}");
            let values = uniform(&name, shape.iter().product()).map(|u| value(u) as f32).collect();
            arrays.push((name, Array::F32(Tensor::from_vec(shape, values).unwrap())));
        };
        for parameter in node.parameters() {
            match (parameter.name.as_str(), &*parameter.shape) {
                _ if node.get::<FixedNorm>().is_some() => {}
                ("weight", &[o, kh, kw, i]) => {
                    let fan = (kh * kw * i) as f64;
                    add("weight", &[o, i, kh, kw], &|u| u * (24.0 / fan).sqrt());
                }
                // Normalizations of rows have factors around 1.
                ("weight", &[c]) => add("weight", &[c], &|u| 1.0 + 0.2 * u),
                ("weight", shape) => {
                    let fan: usize = shape[1..].iter().product();
                    add("weight", shape, &|u| u * (24.0 / fan as f64).sqrt());
                }
                (_, shape) => add("bias", shape, &|u| 0.2 * u),
            }
        }
        if let Some(norm) = node.get::<FixedNorm>() {
            let shape = norm.weight.shape();
            let factor = if layer.starts_with("features") { 1.0 } else { 0.5 };
            add("weight", shape, &|u| factor + 0.2 * u);
            add("bias", shape, &|u| 0.2 * u);
            add("running_mean", shape, &|u| 0.2 * u);
            add("running_var", shape, &|u| 1.0 + 0.5 * u);
        }
    }
    arrays
}

fn logits(path: &Path, model: &str, input: [usize; 3], classes: usize, x: &Tensor) -> Tensor {
    let model: ModelSpec = model.parse().unwrap();
    let weights = torch::pretrained(path, &model, input, classes).unwrap();
    let mut store = weights.begin(Store::seeded(1));
    let net = build(&mut store, &model, input, classes, &QuantConfig::float()).unwrap();
    let taken = weights.finish(&mut store).unwrap();
    assert!(taken.missing.is_empty(), "{:?}", taken.missing);
    let mut g = Graph::eval(&mut store);
    let x = g.input(x.clone());
    net.forward(&mut g, &x).unwrap().tensor()
}

fn worst(found: &Tensor, expected: &[Vec<f32>]) -> f32 {
    assert_eq!(found.shape(), [expected.len(), expected[0].len()]);
    found.data().iter().zip(expected.concat()).fold(0.0, |worst, (a, b)| worst.max((a - b).abs()))
}

#[test]
fn a_file_that_pytorch_saved_gives_its_logits() {
    let path = fixtures().join("resnet8.safetensors");
    let input = [16, 16, 3];
    let error = worst(&logits(&path, "resnet8", input, 10, &inputs(4, input)), &expected("resnet8"));
    assert!(error < 1e-5, "{error}");
    // The batch norm over the pooled features is not in such files.
    let plan = torch::plan_of(&"resnet8".parse().unwrap(), input, 10).unwrap();
    assert_eq!(torch::translate(&TensorFile::read(&path).unwrap(), &plan).identities, ["bn2"]);
}

#[test]
fn networks_of_every_kind_give_the_logits_of_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    for (model, classifier, input, classes, count) in [
        ("lenet", "classifier", [12, 8, 3], 10, 2),
        ("resnet8-b", "fc", [16, 16, 3], 10, 2),
        ("resnet18-imagenet", "fc", [64, 64, 3], 20, 2),
        ("resnet50-imagenet", "fc", [64, 64, 3], 20, 1),
        ("mobilenetv2-imagenet:w0.25", "", [64, 64, 3], 20, 2),
        ("mobilenetv2:w0.25", "", [16, 16, 3], 10, 2),
        ("vit:24x2x3", "", [16, 16, 3], 10, 2),
        ("deit-t", "", [32, 32, 3], 10, 2),
    ] {
        let plan = torch::plan_of(&model.parse().unwrap(), input, classes).unwrap();
        let path = folder.path().join("weights.safetensors");
        TensorFile::save(&path, &state_dict(&plan, classifier), &BTreeMap::new()).unwrap();
        let error = worst(&logits(&path, model, input, classes, &inputs(count, input)), &expected(model));
        // PyTorch's own floats are 0.00002 off its doubles in those of MobileNetV2.
        let bound = if model.starts_with("mobilenet") || model.starts_with("deit") { 1e-4 } else { 1e-5 };
        assert!(error < bound, "{model}: {error}");
    }
}

#[test]
fn projected_shortcuts_come_in_under_both_names_and_wrappers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let input = [16, 16, 3];
    let plan = torch::plan_of(&"resnet8-b".parse().unwrap(), input, 10).unwrap();
    let cifar = |name: &str| name.replace("downsample", "shortcut").replace("fc.", "linear.");
    for wrapper in ["", "module.", "_orig_mod.module.", "model.module._orig_mod."] {
        let arrays =
            state_dict(&plan, "fc").into_iter().map(|(name, array)| (format!("{wrapper}{}", cifar(&name)), array));
        TensorFile::save(&path, &arrays.collect::<Vec<_>>(), &BTreeMap::new()).unwrap();
        let error = worst(&logits(&path, "resnet8-b", input, 10, &inputs(2, input)), &expected("resnet8-b"));
        assert!(error < 1e-5, "{wrapper}: {error}");
    }
    // The same network with padded shortcuts has no place for them.
    let e = torch::pretrained(&path, &"resnet8".parse().unwrap(), input, 10).unwrap_err().to_string();
    assert!(e.contains("layer2.0.shortcut.0.weight` [32, 16, 1, 1]: expected no such tensor"), "{e}");
}

/// Which copy is meant cannot be known, so both are named, in whatever order the file has them.
#[test]
fn two_copies_of_a_tensor_are_both_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (model, input) = ("resnet8-b".parse().unwrap(), [16, 16, 3]);
    let plan = torch::plan_of(&model, input, 10).unwrap();
    for (wrapper, has_it) in [("_orig_mod.", "fc.weight"), ("module.", "fc.weight"), ("_orig_mod.", "ema.step")] {
        let mut arrays = state_dict(&plan, "fc");
        let copied = arrays.iter().find(|(name, _)| name == "fc.weight").unwrap().1.clone();
        arrays.retain(|(name, _)| name != has_it);
        let both = [format!("{wrapper}{has_it}"), has_it.to_string()];
        for order in [[0, 1], [1, 0]] {
            let more = order.map(|i| (both[i].clone(), copied.clone()));
            let all = [&arrays[..], &more].concat();
            TensorFile::save(&path, &all, &BTreeMap::new()).unwrap();
            let e = torch::pretrained(&path, &model, input, 10).unwrap_err().to_string();
            assert!(both.iter().all(|name| e.contains(&format!("`{name}`"))), "{order:?}: {e}");
            assert!(e.contains(&format!("expected one tensor for `{has_it}`, found 2")), "{order:?}: {e}");
            assert!(!e.contains("none") && !e.contains("no such"), "{e}");
        }
    }
}

fn bits(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<&str, (Vec<usize>, Vec<u32>)> {
    let of = |t: &Tensor| (t.shape().to_vec(), t.data().iter().map(|v| v.to_bits()).collect());
    tensors.iter().map(|(name, t)| (name.as_str(), of(t))).collect()
}

/// What leaves and comes back has the same bits, for every model, precision and kind of names.
#[test]
fn weights_that_leave_for_pytorch_come_back_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (model, input) in [
        ("lenet", [12, 8, 3]),
        ("mlp:7-5", [2, 3, 2]),
        ("resnet8", [8, 8, 3]),
        ("resnet8-b", [8, 8, 3]),
        ("resnet18", [8, 8, 3]),
        ("resnet18-imagenet", [32, 32, 3]),
        ("resnet50-imagenet", [32, 32, 3]),
        ("mobilenetv2:w0.25", [8, 8, 3]),
        ("vit:12x2x3", [8, 8, 3]),
        ("edsr:x2-n2-f4", [6, 5, 3]),
    ] {
        for precision in ["32/32/32", "4/4/4"] {
            if precision != "32/32/32" && model.contains("imagenet") {
                continue;
            }
            let model: ModelSpec = model.parse().unwrap();
            let mut store = Store::seeded(3);
            let q = QuantConfig::new(precision.parse().unwrap());
            let net = build(&mut store, &model, input, 10, &q).unwrap();
            // A batch in training moves the running statistics.
            let mut g = Graph::train(&mut store);
            let x = g.input(inputs(2, input));
            net.forward(&mut g, &x).unwrap();
            drop(g);
            let plan = Plan::of(&net, &mut store, &input).unwrap();
            let ours = Pretrained::of(&store);
            for names in [Names::Torchvision, Names::Cifar, Names::Fixnet] {
                let arrays = torch::state_dict(&ours, &plan, names, 7).unwrap();
                TensorFile::save(&path, &arrays, &BTreeMap::new()).unwrap();
                let imported = torch::translate(&TensorFile::weights(&path).unwrap(), &plan);
                assert!(imported.misfits.is_empty() && imported.identities.is_empty(), "{model}: {imported:?}");
                let expected: BTreeMap<String, Tensor> =
                    imported.tensors.keys().map(|name| (name.clone(), ours.get(name).unwrap().clone())).collect();
                assert_eq!(bits(&imported.tensors), bits(&expected), "{model} {names}");
                // All of it: parameters but the scales of quantizers, and two statistics of each norm.
                let norms = arrays.iter().filter(|(name, _)| name.ends_with(".num_batches_tracked")).count();
                let all = store.params().iter().filter(|p| p.group() != Group::Scale).count() + 2 * norms;
                assert_eq!((imported.tensors.len(), arrays.len()), (all, all + norms), "{model} {names}");
            }
        }
    }
}

#[test]
fn what_leaves_has_the_names_and_shapes_of_torchvision() {
    let read = |model: &str, input: [usize; 3], names| -> BTreeMap<String, Vec<usize>> {
        let mut store = Store::seeded(1);
        let net = build(&mut store, &model.parse().unwrap(), input, 10, &QuantConfig::float()).unwrap();
        let plan = Plan::of(&net, &mut store, &input).unwrap();
        let arrays = torch::state_dict(&Pretrained::of(&store), &plan, names, 42).unwrap();
        let shape = |array: &Array| match array {
            Array::F32(t) => t.shape().to_vec(),
            Array::I64(42) => vec![],
            other => panic!("{other:?}"),
        };
        arrays.iter().map(|(name, array)| (name.clone(), shape(array))).collect()
    };
    let large = read("resnet18-imagenet", [32, 32, 3], Names::Torchvision);
    // As `torchvision.models.resnet18(num_classes=10).state_dict()` has them: 122 tensors.
    assert_eq!(large.len(), 122);
    for (name, shape) in [
        ("conv1.weight", &[64, 3, 7, 7][..]),
        ("bn1.num_batches_tracked", &[]),
        ("layer1.1.bn2.running_var", &[64]),
        ("layer2.0.downsample.0.weight", &[128, 64, 1, 1]),
        ("layer2.0.downsample.1.running_mean", &[128]),
        ("fc.weight", &[10, 512]),
        ("fc.bias", &[10]),
    ] {
        assert_eq!(large[name], shape, "{name}");
    }
    let mobile = read("mobilenetv2-imagenet", [32, 32, 3], Names::Torchvision);
    // As `torchvision.models.mobilenet_v2(num_classes=10).state_dict()` has them: 314 tensors.
    assert_eq!(mobile.len(), 314);
    for (name, shape) in [
        ("features.0.0.weight", &[32, 3, 3, 3][..]),
        ("features.1.conv.0.0.weight", &[32, 1, 3, 3]),
        ("features.1.conv.2.running_var", &[16]),
        ("features.17.conv.1.0.weight", &[960, 1, 3, 3]),
        ("features.17.conv.3.num_batches_tracked", &[]),
        ("features.18.1.bias", &[1280]),
        ("classifier.1.weight", &[10, 1280]),
    ] {
        assert_eq!(mobile[name], shape, "{name}");
    }
    let vit = read("deit-t", [224, 224, 3], Names::Torchvision);
    // As `timm.create_model("deit_tiny_patch16_224", num_classes=10).state_dict()` has them: 152 tensors.
    assert_eq!(vit.len(), 152);
    for (name, shape) in [
        ("cls_token", &[1, 1, 192][..]),
        ("pos_embed", &[1, 197, 192]),
        ("patch_embed.proj.weight", &[192, 3, 16, 16]),
        ("blocks.0.norm1.weight", &[192]),
        ("blocks.0.attn.qkv.bias", &[576]),
        ("blocks.11.attn.proj.weight", &[192, 192]),
        ("blocks.11.mlp.fc2.weight", &[192, 768]),
        ("norm.bias", &[192]),
        ("head.weight", &[10, 192]),
    ] {
        assert_eq!(vit[name], shape, "{name}");
    }
    let small = read("resnet8-b", [16, 16, 3], Names::Cifar);
    assert_eq!(
        (&small["layer3.0.shortcut.0.weight"][..], &small["linear.weight"][..]),
        (&[64, 32, 1, 1][..], &[10, 64][..])
    );
}

/// The batch norm that a file lacks becomes the identity, and leaves no trace while it is that.
#[test]
fn a_file_that_came_in_leaves_as_it_was() {
    let path = fixtures().join("resnet8.safetensors");
    let file = TensorFile::weights(&path).unwrap();
    let plan = torch::plan_of(&"resnet8".parse().unwrap(), [16, 16, 3], 10).unwrap();
    let imported = torch::translate(&file, &plan);
    let arrays = torch::state_dict(&Pretrained::new(imported.tensors), &plan, Names::Cifar, 0).unwrap();
    let names: BTreeSet<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, file.header().tensors.iter().map(|t| t.name.as_str()).collect());
    for entry in file.header().tensors.iter().filter(|t| t.dtype != "I64") {
        let Some((_, Array::F32(t))) = arrays.iter().find(|(name, _)| *name == entry.name) else { panic!("{entry:?}") };
        assert_eq!((t.shape(), t.data()), (&entry.shape[..], &file.values(entry).unwrap()[..]), "{}", entry.name);
    }
    // Weights of another network.
    let lenet = torch::plan_of(&"lenet".parse().unwrap(), [16, 16, 3], 10).unwrap();
    let weights = torch::pretrained(&path, &"resnet8".parse().unwrap(), [16, 16, 3], 10).unwrap();
    let e = torch::state_dict(&weights, &lenet, Names::Cifar, 0).unwrap_err().to_string();
    assert!(e.contains("(conv1): expected weights of this network, found `conv1.weight` [16, 3, 3, 3]"), "{e}");
}

#[test]
fn what_does_not_fit_is_named_tensor_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let model: ModelSpec = "lenet".parse().unwrap();
    let input = [12, 8, 3];
    let mut arrays = state_dict(&torch::plan_of(&model, input, 10).unwrap(), "fc");
    arrays.retain(|(name, _)| name != "bn1.running_var");
    arrays.push(("head.weight".into(), Array::F32(Tensor::zeros(&[2, 2]))));
    arrays.push(("bn1.num_batches_tracked".into(), Array::U64(vec![7])));
    TensorFile::save(&path, &arrays, &BTreeMap::new()).unwrap();
    let e = torch::pretrained(&path, &model, input, 7).unwrap_err().to_string();
    let lines: Vec<&str> = e.lines().map(str::trim).collect();
    assert_eq!(lines[0], format!("{}: the weights do not fit lenet:", path.display()));
    assert_eq!(
        lines[1..],
        [
            "`bn1.running_var` [32]: expected bn1.running_var, found none",
            "`fc.weight`: expected [7, 128], found [10, 128]",
            "`fc.bias`: expected [7], found [10]",
            "`head.weight` [2, 2]: expected no such tensor",
        ]
    );
    // A number that is no f32.
    let header = r#"{"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &1e39f64.to_le_bytes()].concat();
    std::fs::write(&path, file).unwrap();
    let e = torch::pretrained(&path, &model, input, 10).unwrap_err().to_string();
    assert!(e.contains("`w`: expected a finite number, found inf at 0"), "{e}");
    // A file that is cut short, and one that is none.
    let bytes = std::fs::read(fixtures().join("resnet8.safetensors")).unwrap();
    for (length, word) in [(bytes.len() - 5, "cut short"), (4, "at least 8 bytes")] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let e = torch::pretrained(&path, &"resnet8".parse().unwrap(), input, 10).unwrap_err().to_string();
        assert!(e.contains("weights.safetensors") && e.contains(word), "{e}");
    }
}

/// Weights that fit `mlp:4` on images of [2, 2, 1], as another program writes them: without a checksum, one tensor in halves.
static WEIGHTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut header = serde_json::Map::new();
    let mut numbers = Vec::new();
    let arrays = state_dict(&torch::plan_of(&"mlp:4".parse().unwrap(), [2, 2, 1], 10).unwrap(), "fc");
    for (i, (name, array)) in arrays.into_iter().enumerate() {
        let Array::F32(t) = array else { unreachable!("weights are floats") };
        let start = numbers.len();
        numbers.resize(start + t.len() * if i == 0 { 2 } else { 4 }, 0x3c);
        let dtype = if i == 0 { "F16" } else { "F32" };
        let entry = json!({ "dtype": dtype, "shape": t.shape(), "data_offsets": [start, numbers.len()] });
        header.insert(name, entry);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &numbers].concat()
});

fn read_weights(file: &[u8]) -> fixnet_export::Result<Pretrained> {
    let file_on_disk = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file_on_disk, file).unwrap();
    fuzz::within(fuzz::MOST, || torch::pretrained(file_on_disk.path(), &"mlp:4".parse().unwrap(), [2, 2, 1], 10))
}

#[test]
fn weights_in_halves_without_a_checksum_are_read() {
    read_weights(&WEIGHTS).unwrap();
}

proptest! {
    #![proptest_config(fuzz::config())]

    #[test]
    fn damaged_weights_never_panic(damage in fuzz::damage()) {
        let _ = read_weights(&fuzz::damaged(WEIGHTS.clone(), &damage));
    }
}
