//! What a result depends on is recorded, and compared when it is used again: names of classes in every file and output, and
//! networks that are used without the images they were trained on.

mod common;

use common::{fixnet, images, json, refused, stderr};
use fixnet::autograd::Array;
use fixnet::checkpoint::TensorFile;
use serde_json::{Value, json as value};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FAST: [&str; 10] =
    ["train", "mlp-digits", "--model", "mlp:8", "--bits", "32/32/32", "--epochs", "1", "--batch-size", "4"];

/// A folder with the images `data` of the classes blue and red, and a run on them.
struct Place {
    folder: TempDir,
    run: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        images(&folder.path().join("data"));
        let place = Self { run: text(&folder.path().join("run")), folder };
        place.train("data", "run", &[]);
        place
    }

    fn train(&self, data: &str, out: &str, more: &[&str]) -> String {
        let (data, out) = (self.source(data), text(&self.path(out)));
        let done = fixnet(&[&FAST[..], &["--data", &data, "--out", &out], more].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        stderr(&done)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn source(&self, name: &str) -> String {
        format!("folder:{}", self.path(name).display())
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}

/// The same images in a folder `to` whose class `from` has another name.
fn renamed(place: &Place, to: &str, from: &str, name: &str) {
    images(&place.path(to));
    for part in ["train", "test"] {
        let part = place.path(to).join(part);
        fs::rename(part.join(from), part.join(name)).unwrap();
    }
}

#[test]
fn names_of_classes_are_in_every_file_and_output() {
    let place = Place::new();
    let names = value!(["blue", "red"]);
    let [onnx, packed, weights] = ["n.onnx", "p.safetensors", "w.safetensors"].map(|name| text(&place.path(name)));
    json(&["export", &place.run, "--onnx", &onnx, "--packed", &packed, "--weights", &weights, "--json"]);
    for file in [&place.run, &packed, &weights] {
        assert_eq!(json(&["inspect", file, "--json"])["class_names"], names, "{file}");
    }
    for args in [["eval", &place.run, "--json"], ["eval", &packed, "--json"], ["summary", &place.run, "--json"]] {
        assert_eq!(json(&args)["class_names"], names, "{args:?}");
    }
    // Imported weights keep them, so a start on other classes is told.
    let imported = text(&place.path("i.safetensors"));
    let shape = ["--model", "mlp:8", "--input", "8x8x3", "--out", &imported, "--json"];
    json(&[&["import", &weights, "--classes", "2"], &shape[..]].concat());
    assert_eq!(json(&["inspect", &imported, "--json"])["class_names"], names);
    renamed(&place, "renamed", "blue", "yellow");
    assert!(place.train("renamed", "again", &["--init", &imported]).contains("yellow"));
    let onnx = fs::read(onnx).unwrap();
    let list = br#"["blue","red"]"#;
    assert!(onnx.windows(list.len()).any(|part| part == list));
    json(&["report", &place.run, "--json"]);
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("<td>blue</td>") && page.contains("red taken for blue"));
    assert_eq!(json(&["summary", "digits", "--json"])["class_names"][9], "9");
    let without = ["summary", "digits", "--input", "28x28x1", "--classes", "7", "--json"];
    assert_eq!(json(&without)["class_names"], Value::Null);
}

#[test]
fn other_classes_are_refused_by_their_difference() {
    let place = Place::new();
    let packed = text(&place.path("p.safetensors"));
    json(&["export", &place.run, "--packed", &packed, "--json"]);
    // As many classes, and blue is the second now.
    renamed(&place, "other", "blue", "yellow");
    let other = place.source("other");
    let words = [
        "expected the classes of the network, found others: missing `blue` (class 0); unexpected `yellow` (class 1); in \
         another place `red` (class 0 instead of 1)",
        "other",
    ];
    refused(1, &["eval", &place.run, "--data", &other], &words);
    refused(1, &["eval", &packed, "--data", &other], &words);
    refused(1, &["resume", &place.run, "--data", &other], &["the classes of the run", "missing `blue`"]);
    refused(1, &["verify", &place.run, "--data", &other], &["the classes of the run", "missing `blue`"]);
    let notes = json(&["report", &place.run, "--data", &other, "--json"])["notes"].to_string();
    assert!(notes.contains("missing `blue`"), "{notes}");
    // Weights of other classes are a start, and a warning.
    let said = place.train("other", "tuned", &["--init", &place.run]);
    assert!(said.contains("warning: init: the classes of") && said.contains("unexpected `yellow`"), "{said}");
    let said = place.train("data", "again", &["--init", &place.run]);
    assert!(!said.contains("warning"), "{said}");
}

#[test]
fn a_network_is_used_without_the_images_it_was_trained_on() {
    let place = Place::new();
    let before = json(&["eval", &place.run, "--json"]);
    images(&place.path("new"));
    fs::remove_dir_all(place.path("new/train")).unwrap();
    fs::remove_dir_all(place.path("data")).unwrap();
    let [onnx, packed, weights] = ["n.onnx", "p.safetensors", "w.safetensors"].map(|name| text(&place.path(name)));
    json(&["export", &place.run, "--onnx", &onnx, "--packed", &packed, "--weights", &weights, "--json"]);
    json(&["summary", &place.run, "--json"]);
    for network in [&place.run, &packed] {
        let found = json(&["eval", network, "--data", &place.source("new"), "--json"]);
        assert_eq!((&found["loss"], &found["accuracy"]), (&before["loss"], &before["accuracy"]), "{network}");
        refused(1, &["eval", network], &["data"]);
    }
    json(&["report", &place.run, "--data", &place.source("new"), "--json"]);
    refused(1, &["resume", &place.run], &["data"]);
}

/// Takes the description of the data from a checkpoint, as fixnet 0.1 wrote it: with the hash of the training images alone.
fn as_earlier(run: &str) {
    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        let path = Path::new(run).join(name);
        let file = TensorFile::read(&path).unwrap();
        let mut metadata = file.header().metadata.clone();
        let description: Value = serde_json::from_str(&metadata.remove("data_description").unwrap()).unwrap();
        metadata.insert("data".into(), description["fingerprints"]["train"].as_str().unwrap().into());
        let arrays: Vec<(String, Array)> =
            file.header().tensors.iter().map(|t| (t.name.clone(), file.array(&t.name).unwrap())).collect();
        TensorFile::save(&path, &arrays, &metadata).unwrap();
    }
}

#[test]
fn checkpoints_of_the_first_release_take_it_from_the_data() {
    let place = Place::new();
    let before = json(&["eval", &place.run, "--json"]);
    as_earlier(&place.run);
    assert_eq!(json(&["eval", &place.run, "--json"])["loss"], before["loss"]);
    assert_eq!(json(&["summary", &place.run, "--json"])["class_names"], value!(["blue", "red"]));
    assert_eq!(json(&["inspect", &place.run, "--json"])["class_names"], Value::Null);
    assert_eq!(json(&["verify", &place.run, "--json"])["equal"], true);
    renamed(&place, "other", "blue", "yellow");
    refused(1, &["resume", &place.run, "--data", &place.source("other")], &["training images that the run began with"]);
    fs::rename(place.path("data"), place.path("moved")).unwrap();
    refused(1, &["eval", &place.run], &["an earlier version of fixnet wrote it", "are needed", "data"]);
    json(&["export", &place.run, "--onnx", &text(&place.path("n.onnx")), "--data", &place.source("moved"), "--json"]);
}
