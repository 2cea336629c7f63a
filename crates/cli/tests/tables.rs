//! Tables go through whole runs: trained, resumed, judged, verified, reported and exported, with classes and with numbers.

mod common;

use common::{fixnet, json, refused, stderr};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with the tables `classes.csv` and `numbers.csv`, and others of the same form, `more-….csv`.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (prefix, seed, rows) in [("", 1, 80), ("more-", 9, 30)] {
            let (mut classes, mut numbers) = ("a,b,kind\n".to_string(), "a,price,b\n".to_string());
            for i in 0..rows {
                let draw = |k: u32| f64::from((i + seed) * 2_654_435 % (1000 + 37 * k)) / 1000.0;
                let (a, b) = (draw(1), 10.0 * draw(2));
                let _ = writeln!(classes, "{a},{b},{}", if 10.0 * a > b { "warm" } else { "cold" });
                let _ = writeln!(numbers, "{a},{},{b}", 5000.0 + 800.0 * a - 30.0 * b);
            }
            fs::write(place.path(&format!("{prefix}classes.csv")), classes).unwrap();
            fs::write(place.path(&format!("{prefix}numbers.csv")), numbers).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn train(&self, kind: &str, out: &str, more: &[&str]) -> serde_json::Value {
        let (recipe, target) = if kind == "classes" { ("table", "kind") } else { ("table-regression", "price") };
        let (data, out) = (format!("csv:{}", self.text(&format!("{kind}.csv"))), self.text(out));
        let fixed = ["train", recipe, "--data", &data, "--target", target, "--epochs", "20", "--model", "mlp:16-16"];
        json(&[&fixed[..], &["--batch-size", "16", "--json", "--out", &out], more].concat())
    }
}

#[test]
fn runs_of_both_kinds_go_through_every_command() {
    let place = Place::new();
    for (kind, metric) in [("classes", "accuracy"), ("numbers", "r2")] {
        for bits in ["32/32/32", "4/4/4"] {
            let trained = place.train(kind, "run", &["--bits", bits, "--threads", "1", "--overwrite"]);
            let other =
                place.train(kind, "other", &["--bits", bits, "--threads", "2", "--isa", "scalar", "--overwrite"]);
            assert_eq!(trained["digest"], other["digest"]);
            let run = place.text("run");
            assert_eq!(json(&["verify", &run, "--threads", "2", "--json"])["equal"], true);
            let found = json(&["eval", &run, "--json"]);
            assert_eq!(found["images"], 8);
            assert_eq!(trained[format!("test_{metric}")], found[metric]);
            assert!(found[metric].as_f64().unwrap() > 0.5, "{kind} at {bits}: {found}");
            let [packed, onnx, samples] = ["p.safetensors", "net.onnx", "s.safetensors"].map(|name| place.text(name));
            let out = fixnet(&["export", &run, "--packed", &packed, "--onnx", &onnx, "--samples", &samples]);
            assert!(out.status.success(), "{}", stderr(&out));
            let again = json(&["eval", &packed, "--json"]);
            let keys = if kind == "classes" {
                &["loss", "accuracy", "class_names"][..]
            } else {
                &["loss", "r2", "mse", "mae"]
            };
            for key in keys {
                assert_eq!(found[*key], again[*key], "{kind} at {bits}: {key}");
            }
            // All rows of another table are for testing.
            let more = format!("csv:{}", place.text(&format!("more-{kind}.csv")));
            let other = [&run, &packed].map(|of| json(&["eval", of, "--data", &more, "--json"]));
            assert_eq!((&other[0]["images"], &other[0][metric]), (&30.into(), &other[1][metric]));
            let page = place.text("report.html");
            assert!(fixnet(&["report", &run, "--out", &page]).status.success());
            let page = fs::read_to_string(page).unwrap();
            let words = match kind {
                "classes" => ["Test rows", "Confusion matrix", "warm 1", "recall"],
                _ => ["price: prediction against truth", "price: residuals", "Largest errors", "<circle"],
            };
            for words in words {
                assert!(page.contains(words), "{words}");
            }
            assert!(!page.contains("No image is"));
        }
    }
    let found = json(&["eval", &place.text("run"), "--json"]);
    let (mse, mae) = (found["mse"].as_f64().unwrap(), found["mae"].as_f64().unwrap());
    // In the unit of the target: prices spread by hundreds.
    assert!(mae > 0.5 && mse >= mae * mae * 0.999, "{found}");
    let text = String::from_utf8(fixnet(&["eval", &place.text("run")]).stdout).unwrap();
    assert!(text.contains("r2") && text.contains("mae"), "{text}");
    let summary = json(&["summary", "table-regression", "--input", "13", "--classes", "1", "--json"]);
    assert!(summary["parameters"].as_u64().unwrap() > 13 * 64, "{summary}");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_digest_and_other_rows_are_refused() {
    let place = Place::new();
    let whole = place.train("numbers", "whole", &[]);
    let run = place.text("run");
    place.train("numbers", "run", &[]);
    // The checkpoint before the last one, as after a kill.
    fs::rename(place.path("run/checkpoint.previous.safetensors"), place.path("run/checkpoint.safetensors")).unwrap();
    assert_eq!(json(&["resume", &run, "--json"])["digest"], whole["digest"]);
    let table = fs::read_to_string(place.path("numbers.csv")).unwrap();
    fs::write(place.path("numbers.csv"), table.replacen("5", "6", 1)).unwrap();
    fs::rename(place.path("run/checkpoint.previous.safetensors"), place.path("run/checkpoint.safetensors")).unwrap();
    refused(1, &["resume", &run], &["rows that the run began with"]);
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::new();
    place.train("classes", "run", &[]);
    let (run, csv) = (place.text("run"), |name: &str| format!("csv:{}", place.text(name)));
    fs::write(place.path("odd.csv"), "a,b,kind\n1,2,warm\n1,NA,cold\n").unwrap();
    let train = |data: &str, more: &[&str], words: &[&str]| {
        refused(1, &[&["train", "table", "--data", data, "--out", &place.text("no")], more].concat(), words);
    };
    train(&csv("odd.csv"), &[], &["odd.csv: line 3, column `b`", "fill in missing values", "`NA`"]);
    train(&csv("classes.csv"), &["--target", "price"], &["a target column `price`", "a, b, kind"]);
    train(&csv("numbers.csv"), &["--target", "price"], &["column `price`", "at most 100 different whole numbers"]);
    train(&csv("classes.csv"), &["--set", "task=regression"], &["column `kind`", "take the task classification"]);
    refused(2, &["train", "digits", "--target", "a"], &["target: expected left out, since digits is no table"]);
    refused(1, &["eval", &run, "--data", &csv("more-numbers.csv")], &["target column `kind`"]);
    fs::write(place.path("swapped.csv"), "b,a,kind\n1,2,warm\n").unwrap();
    refused(1, &["eval", &run, "--data", &csv("swapped.csv")], &["the columns of the network", "another order"]);
    fs::write(place.path("hot.csv"), "a,b,kind\n1,2,hot\n").unwrap();
    refused(1, &["eval", &run, "--data", &csv("hot.csv")], &["line 2, column `kind`", "cold, warm, found `hot`"]);
    image::RgbImage::new(2, 1).save(place.path("x.png")).unwrap();
    refused(
        1,
        &["predict", &run, &place.text("x.png")],
        &["x.png: expected a row of 2 numbers, found an image of 1x2"],
    );
}
