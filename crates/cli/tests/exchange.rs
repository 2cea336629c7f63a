//! Networks and weights that leave and enter: `export`, `import`, `summary`, `eval` of packed networks, `train --init` with
//! weights of PyTorch. `scripts/onnx/run` holds the ONNX files to what a runtime makes of them.

mod common;

use common::{fixnet, json, refused, stderr, tiny};
use fixnet::checkpoint::TensorFile;
use fixnet::tensor::Tensor;
use std::path::Path;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../export/tests/fixtures/resnet8.safetensors");

/// A short run on tiny data; its folder.
fn train(folder: &Path, name: &str, more: &[&str]) -> String {
    tiny(folder, 24);
    let (data, out) = (format!("mnist:{}", folder.display()), folder.join(name));
    let out = out.to_str().unwrap().to_string();
    let args = ["train", "digits", "--epochs", "1", "--batch-size", "8", "--data", &data, "--out", &out];
    let done = fixnet(&[&args, more].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    out
}

#[test]
fn a_packed_network_evaluates_as_the_run_that_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let run = train(folder.path(), "run", &[]);
    let (onnx, packed, samples) = (at("net.onnx"), at("net.safetensors"), at("samples.safetensors"));
    let all = ["export", &run, "--onnx", &onnx, "--packed", &packed, "--samples", &samples, "--json"];
    let line = json(&all);
    let bytes = |kind: &str| line["files"][kind]["bytes"].as_u64().unwrap();
    assert_eq!(bytes("onnx"), std::fs::metadata(&onnx).unwrap().len());
    // 51,200 and 32,768 weights of four bits, two to a byte, and floats.
    assert!((52_000..60_000).contains(&bytes("onnx")) && (52_000..60_000).contains(&bytes("packed")), "{line}");
    let before = std::fs::read(&onnx).unwrap();
    json(&all);
    assert_eq!(std::fs::read(&onnx).unwrap(), before, "the same run gives the same file");
    let form = |more: &[&str]| {
        let line = json(&[&["export", &run, "--onnx", &onnx, "--json"], more].concat());
        let floats = line["parameters_as_f32"].as_u64().unwrap();
        (std::fs::read(&onnx).unwrap(), floats)
    };
    assert_eq!(form(&["--opset", "21"]).0, before, "INT4 in the first operator set that has it");
    assert_ne!(form(&["--opset", "23"]).0, before);
    let bytes = form(&["--int8"]).0;
    assert!((94_000..102_000).contains(&bytes.len()), "a byte for each weight: {}", bytes.len());
    assert_eq!(form(&["--int8", "--opset", "13"]).0, bytes);
    assert_eq!(form(&["--int8", "--opset", "17"]).0.len(), bytes.len());
    let (float, floats) = form(&["--float"]);
    assert!(float.len() as u64 > floats);
    let (of_run, of_packed) = (json(&["eval", &run, "--json"]), json(&["eval", &packed, "--json"]));
    assert_eq!((&of_run["loss"], &of_run["accuracy"]), (&of_packed["loss"], &of_packed["accuracy"]));
    assert_eq!(json(&["inspect", &samples, "--json"])["tensors"].as_array().unwrap().len(), 3);
    refused(
        1,
        &["eval", &packed, "--data", "digits"],
        &["data digits: ", "expected images of [8, 8, 1]", "found [28, 28, 1]"],
    );
    let mut damaged = std::fs::read(&packed).unwrap();
    *damaged.last_mut().unwrap() ^= 4;
    std::fs::write(&packed, damaged).unwrap();
    refused(1, &["eval", &packed], &["net.safetensors", "damaged"]);
}

#[test]
fn a_run_starts_from_exported_weights_as_from_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let float = train(folder.path(), "float", &["--model", "mlp:8", "--bits", "32/32/32"]);
    let weights = folder.path().join("weights.safetensors").to_str().unwrap().to_string();
    json(&["export", &float, "--weights", &weights, "--json"]);
    let more = |init| ["--model", "mlp:8", "--bits", "2/2/32", "--optimizer", "sgdt", "--init", init];
    let (a, b) = (train(folder.path(), "a", &more(&float)), train(folder.path(), "b", &more(&weights)));
    let loss = |run: &str| json(&["eval", run, "--json"])["loss"].clone();
    assert_eq!(loss(&a), loss(&b));
    let size = |file: &str| std::fs::metadata(file).unwrap().len();
    assert!(size(&weights) < size(&format!("{float}/checkpoint.safetensors")));
}

#[test]
fn weights_leave_for_pytorch_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for (bits, noted) in [("32/32/32", false), ("4/4/4", true)] {
        let run = train(folder.path(), &bits.replace('/', "-"), &["--model", "resnet8-b", "--bits", bits]);
        let (theirs, back, own) = (at("theirs"), at("back"), at("own"));
        let done = fixnet(&["export", &run, "--torch", &theirs, "--weights", &own]);
        assert!(done.status.success(), "{}", stderr(&done));
        assert_eq!(stderr(&done).contains("does not round to levels"), noted);
        let file = json(&["inspect", &theirs, "--json"]);
        assert_eq!(file["metadata"].get("weights").is_some(), noted, "{file}");
        for key in ["mean", "std", "class_names", "config", "digest"] {
            assert!(file["metadata"][key].is_string(), "{key} of {file}");
        }
        let tensors = file["tensors"].as_array().unwrap();
        let shape = |name: &str| tensors.iter().find(|t| t["name"] == name).map(|t| t["shape"].clone());
        assert_eq!(shape("layer2.0.downsample.0.weight"), Some(serde_json::json!([32, 16, 1, 1])));
        assert_eq!(shape("bn1.num_batches_tracked"), Some(serde_json::json!([])));
        json(&[
            "import",
            &theirs,
            "--model",
            "resnet8-b",
            "--input",
            "8x8x1",
            "--classes",
            "10",
            "--out",
            &back,
            "--json",
        ]);
        // Training begins with either file as with the other.
        let begin = |name: &str, file: &str| {
            let out = train(folder.path(), name, &["--model", "resnet8-b", "--bits", "32/32/32", "--init", file]);
            json(&["verify", &out, "--steps", "1", "--json"]);
            std::fs::read_to_string(Path::new(&out).join("digests.jsonl")).unwrap()
        };
        let name = |of: &str| format!("{of}-{}", bits.replace('/', "-"));
        assert_eq!(begin(&name("of-theirs"), &theirs), begin(&name("of-own"), &own));
        // Both are sorted by name, and hold the same floats.
        let [own, back] = [own, back].map(|path| TensorFile::weights(path.as_ref()).unwrap().floats());
        let bits = |t: &Tensor| t.data().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(own.keys().eq(back.keys()) && own.iter().all(|(name, t)| bits(t) == bits(&back[name])));
    }
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "run", &["--model", "mlp:8"]);
    refused(2, &["export", &run], &["--onnx FILE"]);
    refused(2, &["export", &run, "--float"], &["--onnx"]);
    for option in [&["--int8"][..], &["--opset", "21"]] {
        refused(2, &[&["export", &run], option].concat(), &["--onnx <FILE>"]);
    }
    let older = "expected 21 to 26 for INT4 weights, found 13; INT8 weights take 13 to 26";
    for (options, expected) in [
        (&["--int8", "--float"][..], "'--int8' cannot be used with '--float'"),
        (&["--opset", "13"], older),
        (&["--int8", "--opset", "12"], "expected 13 to 26 for INT8 weights, found 12"),
        (&["--float", "--opset", "99"], "expected 13 to 26 for float weights, found 99"),
        (&["--opset", "latest"], "latest"),
    ] {
        refused(2, &[&["export", &run, "--onnx", "x.onnx"], options].concat(), &[expected]);
        assert!(!Path::new("x.onnx").exists());
    }
    refused(2, &["export", &run, "--torch-names", "cifar"], &["--torch <FILE>"]);
    refused(2, &["export", &run, "--torch", "x", "--torch-names", "keras"], &["keras", "torchvision, cifar, fixnet"]);
    for kind in ["--onnx", "--packed", "--weights", "--torch", "--samples"] {
        refused(1, &["export", &run, kind, "/nowhere/x"], &["/nowhere/x"]);
    }
    refused(1, &["export", "/nowhere", "--onnx", "x.onnx"], &["/nowhere"]);
    // Nothing is written over a file of a run, or over another output.
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    for name in ["checkpoint.safetensors", "config.toml"] {
        let own = format!("{run}/{name}");
        let before = std::fs::read(&own).unwrap();
        refused(2, &["export", &run, "--packed", &own], &[name, "found one of a run"]);
        assert_eq!(std::fs::read(&own).unwrap(), before);
    }
    refused(2, &["export", &run, "--onnx", &at("x"), "--packed", &at("x")], &["a file for each output"]);
    // A packed network is no start for training.
    json(&["export", &run, "--packed", &at("packed.safetensors"), "--json"]);
    let init = ["train", "mlp-digits", "--out", &at("new"), "--init", &at("packed.safetensors")].map(String::from);
    refused(1, &init.each_ref().map(String::as_str), &["packed.safetensors", "found a packed network", "--weights"]);
    // Data that were moved.
    let moved = folder.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    tiny(&moved, 24);
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    // Only the samples are images.
    json(&["export", &run, "--onnx", &at("y.onnx"), "--samples", &at("samples.safetensors"), "--json"]);
    std::fs::remove_file(folder.path().join("t10k-labels-idx1-ubyte")).unwrap();
    let samples = at("samples.safetensors");
    let export = ["export", &run, "--onnx", &at("y.onnx"), "--samples", &samples];
    refused(1, &export, &["t10k-labels-idx1-ubyte"]);
    json(&[&export[..], &["--data", &format!("mnist:{}", moved.display()), "--json"]].concat());
}

#[test]
fn the_table_of_a_recipe_and_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let run = train(folder.path(), "run", &["--model", "mlp:8"]);
    let (a, b) = (json(&["summary", &run, "--json"]), json(&["summary", &run, "--bits", "2/2/4", "--json"]));
    // 64 to 8 and 8 to 10 with biases, and a normalization.
    assert_eq!((&a["parameters"], &a["multiply_adds"]), (&(64 * 8 + 8 + 16 + 80 + 10).into(), &(64 * 8 + 80).into()));
    assert_eq!((&a["layers"][2]["bits"], &b["layers"][2]["bits"]), (&"4/4/4".into(), &"2/2/4".into()));
    let size = ["--input", "224x224x3", "--classes", "1000"];
    let large = json(&[&["summary", "cifar10-resnet20", "--model", "resnet50-imagenet", "--json"], &size[..]].concat());
    assert_eq!(large["parameters"], 25_557_032);
    refused(1, &["summary", "digits", "--input", "3x3"], &["found lenet, which takes images [H, W, C]"]);
    refused(2, &["summary", "digits", "--input", "3x3x3x3"], &["32x32x3"]);
    refused(2, &["summary", "digits", "--bits", "9/9/9"], &["9/9/9"]);
}

#[test]
fn weights_of_pytorch_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("start.safetensors");
    let out = out.to_str().unwrap();
    let line = json(&["import", FIXTURE, "--model", "resnet8", "--out", out, "--json"]);
    // 9 convolutions' worth of weights, 8 batch norms, one of which is the identity, and the classifier.
    assert_eq!((&line["tensors"], &line["identities"]), (&(7 + 4 * 8 + 2).into(), &serde_json::json!(["bn2"])));
    refused(
        1,
        &["import", FIXTURE, "--model", "resnet20", "--out", out],
        &["layer1.1.conv1.weight", "resnet8.safetensors"],
    );
    refused(
        1,
        &["import", FIXTURE, "--model", "resnet8", "--classes", "7", "--out", out],
        &["[7, 64], found [10, 64]"],
    );
    refused(2, &["import", FIXTURE, "--model", "resnet9", "--out", out], &["resnet9"]);
    refused(1, &["import", FIXTURE, "--model", "resnet8", "--out", "/nowhere/x"], &["/nowhere/x"]);
    // Both the file that was imported and the one of PyTorch serve as a start; these images have one channel, so the first
    // convolution begins anew.
    let more = |init| ["--model", "resnet8", "--bits", "2/2/32", "--init", init];
    let (a, b) = (train(folder.path(), "a", &more(out)), train(folder.path(), "b", &more(FIXTURE)));
    let loss = |run: &str| json(&["eval", run, "--json"])["loss"].clone();
    assert_eq!(loss(&a), loss(&b));
    let fresh = train(folder.path(), "c", &["--model", "resnet8", "--bits", "2/2/32"]);
    assert_ne!(loss(&a), loss(&fresh));
}
