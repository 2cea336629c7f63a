//! Detection goes through whole runs: trained, resumed, judged, verified, compared, reported, exported, and used on images.

mod common;

use common::{fixnet, json, refused, stderr};
use std::fs;
use std::path::{Path, PathBuf};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/tests/data/detection");
const MODEL: &str = "retinanet:r18-w0.05-l3to5-c8-n1-a16";

fn source(kind: &str) -> String {
    format!("{kind}:{DATA}/{kind}")
}

/// The command with a small network on a small canvas.
fn small<'a>(command: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = [command, "digits-detect", "--data", data, "--set", "data.image_size=64", "--batch-size", "1"];
    [&fixed[..], &["--json", "--out", out], more].concat()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}

#[test]
fn a_run_goes_through_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let voc = source("voc");
    let run = text(&path("run"));
    // At such a rate scores rise within a few steps, so that something is found.
    let vary = ["--model", MODEL, "--lr", "0.02", "--set", "augmentation.flip=true", "--set", "detection.scale=0.3"];
    let train = |out: &Path, more: &[&str]| json(&small("train", &voc, &text(out), &[&vary[..], more].concat()));
    let trained = train(&path("run"), &["--epochs", "29", "--threads", "1"]);
    assert_eq!(trained["steps"], 29);
    // The same bits with other threads, and with no vector instructions.
    let other = train(&path("other"), &["--epochs", "29", "--threads", "2", "--isa", "scalar"]);
    assert_eq!(trained["digest"], other["digest"]);
    let resumed = json(&["resume", &run, "--epochs", "30", "--threads", "2", "--json"]);
    assert_eq!(resumed["steps"], 30);
    let verified = json(&["verify", &run, "--threads", "2", "--isa", "scalar", "--json"]);
    assert_eq!(verified["equal"], true, "{verified}");
    let found = json(&["eval", &run, "--json"]);
    for metric in ["ap50", "ap", "ap75", "voc_ap"] {
        let value = found[metric].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&value), "{found}");
        assert_eq!(resumed[format!("test_{metric}")], found[metric]);
    }
    assert_eq!(found["images"], 1, "{found}");

    let summary = json(&["summary", &run, "--json"]);
    let packed = text(&path("packed.safetensors"));
    let onnx = text(&path("net.onnx"));
    assert!(fixnet(&["export", &run, "--packed", &packed, "--onnx", &onnx]).status.success());
    // The same figures.
    let from_packed = json(&["eval", &packed, "--json"]);
    for metric in ["loss", "ap50", "ap", "voc_ap"] {
        assert_eq!(from_packed[metric], found[metric], "{metric}");
    }
    assert!(summary["parameters"].as_u64().unwrap() > 1000, "{summary}");
    refused(1, &["export", &run, "--samples", &text(&path("s"))], &["samples of", "one target each"]);

    let page = text(&path("report.html"));
    let out = fixnet(&["report", &run, "--out", &page]);
    assert!(out.status.success(), "{}", stderr(&out));
    let page = fs::read_to_string(page).unwrap();
    for words in [
        "Precision over recall",
        "Found, missed and false",
        "Average precision of each class",
        "What was found",
        "Platelets",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn objects_of_images_are_printed_drawn_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (voc, run) = (source("voc"), text(&path("run")));
    json(&small("train", &voc, &run, &["--model", MODEL, "--lr", "0.02", "--epochs", "30"]));
    let packed = text(&path("packed.safetensors"));
    assert!(fixnet(&["export", &run, "--packed", &packed]).status.success());
    let image = format!("{DATA}/voc/JPEGImages/BloodImage_00388.jpg");
    let results = |from: &str| {
        let [drawn, coco] = ["png", "json"].map(|kind| path(&format!("found.{kind}")));
        let args = ["predict", from, &image, "--out", &text(&drawn), "--coco", &text(&coco), "--json"];
        let said = json(&args);
        let results: serde_json::Value = serde_json::from_slice(&fs::read(&coco).unwrap()).unwrap();
        let picture = image::open(&drawn).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), (640, 480));
        fs::remove_file(&drawn).unwrap();
        fs::remove_file(&coco).unwrap();
        (said, results, picture)
    };
    let (said, written, picture) = results(&run);
    let objects = said["objects"].as_array().unwrap();
    assert!(!objects.is_empty(), "{said}");
    assert_eq!(objects.len(), written.as_array().unwrap().len());
    for (object, result) in objects.iter().zip(written.as_array().unwrap()) {
        assert_eq!((&object["class"], &object["score"]), (&result["category"], &result["score"]));
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let ([x1, y1, x2, y2], [x, y, w, h]) = (
            <[f64; 4]>::try_from(numbers(&object["box"])).unwrap(),
            <[f64; 4]>::try_from(numbers(&result["bbox"])).unwrap(),
        );
        assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= 640.0 && y2 <= 480.0 && x1 < x2 && y1 < y2, "{object}");
        assert!(
            (x - x1).abs() + (y - y1).abs() + (w - (x2 - x1)).abs() + (h - (y2 - y1)).abs() < 1e-3,
            "{object}, {result}"
        );
        assert_eq!((&result["image_id"], result["file_name"].is_string()), (&0.into(), true));
    }
    // A packed network finds the same.
    let (again, written_again, picture_again) = results(&packed);
    assert_eq!((&said["objects"], &written), (&again["objects"], &written_again));
    assert!(picture == picture_again);
    let table = fixnet(&["predict", &run, &image, "--csv"]);
    assert!(table.status.success() && String::from_utf8_lossy(&table.stdout).starts_with("input,"));
    refused(1, &["predict", &run, &text(&path("none.png"))], &["none.png"]);
    refused(2, &["predict", &run, &image, "--coco", &image], &["expected a file of its own"]);
    let both = text(&path("both.png"));
    refused(
        2,
        &["predict", &run, &image, "--out", &both, "--coco", &both],
        &["a file for each output, found one for two"],
    );
    // A classifier finds no objects.
    let place = common::Place::new();
    let classifier = place.text("run");
    let mlp = ["train", "mnist", "--data", &place.data, "--model", "mlp:4", "--epochs", "1", "--out", &classifier];
    assert!(fixnet(&mlp).status.success());
    refused(2, &["predict", &classifier, &image, "--coco", "x.json"], &["--coco", "finds objects"]);
}

/// The only category of the file has the id 1, and its class the index 0.
#[test]
fn results_have_the_ids_of_the_categories_of_the_data() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| text(&folder.path().join(name));
    let (coco, run, packed, found) = (source("coco"), path("run"), path("packed.safetensors"), path("found.json"));
    json(&small("train", &coco, &run, &["--model", MODEL, "--lr", "0.02", "--epochs", "30"]));
    assert!(fixnet(&["export", &run, "--packed", &packed]).status.success());
    let image = format!("{DATA}/coco/images/16c3d5935ba9.png");
    for from in [&run, &packed] {
        json(&["predict", from, &image, "--coco", &found, "--json"]);
        let results: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&found).unwrap()).unwrap();
        assert!(!results.is_empty() && results.iter().all(|result| result["category_id"] == 1), "{results:?}");
        fs::remove_file(&found).unwrap();
    }
}

#[test]
fn two_runs_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let (coco, out) = (source("coco"), text(&folder.path().join("grid")));
    let model = format!("model.name={MODEL}");
    let found = json(&small("compare", &coco, &out, &["--set", &model, "--epochs", "1", "--bits", "32/32/32,4/4/4"]));
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{found}");
    for run in runs {
        assert!(run["state"] == "finished" && run["test_ap50"].is_number(), "{run}");
    }
    let table = PathBuf::from(&out).join("compare.md");
    assert!(!table.exists() || fs::read_to_string(table).unwrap().contains("ap50"));
}

/// Runs of one grid share their data, and each reads the outputs of its own network.
#[test]
fn a_grid_of_networks_trains_each_as_it_trains_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (coco, path) = (source("coco"), |name: &str| text(&folder.path().join(name)));
    let models = [MODEL, &MODEL.replace("a16", "a32"), "fasterrcnn:r18-w0.05-l3to5-c8-f16-p20-s16-a16"];
    let found = json(&small("compare", &coco, &path("grid"), &["--model", &models.join(","), "--epochs", "1"]));
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3, "{found}");
    for (i, (run, model)) in runs.iter().zip(models).enumerate() {
        let alone = json(&small("train", &coco, &path(&format!("alone{i}")), &["--model", model, "--epochs", "1"]));
        assert_eq!(run["digest"], alone["digest"], "{model}");
        assert_eq!(run["test_loss"], alone["test_loss"], "{model}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (coco, out) = (source("coco"), text(&folder.path().join("run")));
    let run = |code, more: &[&str], words: &[&str]| {
        refused(code, &small("train", &coco, &out, &[&["--model", MODEL][..], more].concat()), words);
    };
    run(2, &["--set", "detection.mosaic=2"], &["detection.mosaic", "0 to 1", "found 2"]);
    run(2, &["--set", "detection.flip=true"], &["detection.flip", "unknown key"]);
    run(2, &["--set", "augmentation.mixup=0.5"], &["flip, brightness, contrast and saturation alone"]);
    run(2, &["--set", "data.image_size=0"], &["image_size", "1 to 16384"]);
    run(1, &["--set", "data.image_size=72"], &["multiples of 32", "72 x 72"]);
    refused(2, &small("train", &coco, &out, &["--model", "lenet"]), &["model.name", "retinanet", "lenet"]);
    refused(1, &["train", "digits", "--data", &coco, "--out", &out], &["labelled samples", "for another task"]);
    assert!(!Path::new(&out).exists());
    // Elsewhere the table has no effect, and fixnet says so.
    let place = common::Place::new();
    let idle =
        ["train", "mnist", "--data", &place.data, "--model", "mlp:4", "--epochs", "1", "--set", "detection.scale=0.3"];
    let done = fixnet(&[&idle[..], &["--out", &place.text("run")]].concat());
    assert!(done.status.success() && stderr(&done).contains("detection.scale"), "{}", stderr(&done));
}
