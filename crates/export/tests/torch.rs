//! Networks with the weights of PyTorch give its logits. `fixtures/make.py` made them.

use fixnet_autograd::ops::FixedNorm;
use fixnet_autograd::{Array, Graph, Store};
use fixnet_export::torch;
use fixnet_fuzz as fuzz;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::{Pretrained, TensorFile};
use fixnet_nn::models::{ModelSpec, build};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected(model: &str) -> Vec<Vec<f32>> {
    let text = std::fs::read_to_string(fixtures().join("logits.json")).unwrap();
    serde_json::from_value(serde_json::from_str::<serde_json::Value>(&text).unwrap()[model].take()).unwrap()
}

/// The formula of `make.py`: numbers in [-1/2, 1/2) by index and name.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let h = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (0..count as u32).map(move |i| {
        let u = h.wrapping_add(i.wrapping_mul(2_654_435_761));
        let u = (u ^ u >> 15).wrapping_mul(0x2c1b_3c6d);
        f64::from(u >> 8) / 16_777_216.0 - 0.5
    })
}

fn images(count: usize, [h, w, c]: [usize; 3]) -> Tensor {
    let values = uniform("images", count * h * w * c).map(|u| (2.0 * u) as f32).collect();
    Tensor::from_vec(&[count, h, w, c], values).unwrap()
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
                ("weight", shape) => {
                    let fan: usize = shape[1..].iter().product();
                    add("weight", shape, &|u| u * (24.0 / fan as f64).sqrt());
                }
                (_, shape) => add("bias", shape, &|u| 0.2 * u),
            }
        }
        if let Some(norm) = node.get::<FixedNorm>() {
            let shape = norm.weight.shape();
            add("weight", shape, &|u| 0.5 + 0.2 * u);
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
    let error = worst(&logits(&path, "resnet8", input, 10, &images(4, input)), &expected("resnet8"));
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
        ("resnet18-imagenet", "fc", [64, 64, 3], 20, 2),
        ("resnet50-imagenet", "fc", [64, 64, 3], 20, 1),
    ] {
        let plan = torch::plan_of(&model.parse().unwrap(), input, classes).unwrap();
        let path = folder.path().join("weights.safetensors");
        TensorFile::save(&path, &state_dict(&plan, classifier), &BTreeMap::new()).unwrap();
        let error = worst(&logits(&path, model, input, classes, &images(count, input)), &expected(model));
        assert!(error < 1e-5, "{model}: {error}");
    }
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
