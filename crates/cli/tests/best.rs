//! The command on runs that keep their best checkpoint, stop early and are extended; steps over several batches; and groups of
//! parameters.

mod common;

use common::{Place, fixnet, json, refused, stderr};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A run that stops early: its rate is too high to become better for long.
const STOPS: [&str; 10] =
    ["--validation", "0.25", "--epochs", "20", "--patience", "2", "--keep-best", "loss", "--set", "optimizer.lr=2"];

fn train(place: &Place, out: &str, flags: &[&str]) -> Value {
    let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &place.data, "--batch-size", "4", "--json"];
    json(&[&fixed[..], &["--out", out], flags].concat())
}

fn events(run: &str) -> Vec<Value> {
    let text = fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_command_takes_a_run_that_stopped_early() {
    let place = Place::new();
    let (run, page) = (place.text("run"), place.text("page.html"));
    let found = train(&place, &run, &STOPS);
    let (best, epochs) = (found["best"]["epoch"].as_u64().unwrap(), found["epochs"].as_u64().unwrap());
    assert_eq!((&found["stopped_early"], &found["best"]["score"]), (&true.into(), &"validation_loss".into()));
    assert!(best + 2 == epochs && epochs < 20, "{found}");
    let stopped = events(&run).pop().unwrap();
    assert_eq!((&stopped["kind"], &stopped["best_epoch"]), (&"stopped".into(), &best.into()));
    // It is finished.
    assert_eq!(json(&["resume", &run, "--json"])["digest"], found["digest"]);
    let text = String::from_utf8(fixnet(&["resume", &run]).stdout).unwrap();
    assert!(text.contains(&format!("stopped early  after epoch {epochs} of 20")), "{text}");
    let verified = json(&["verify", &run, "--json"]);
    assert_eq!((&verified["equal"], &verified["steps"]), (&true.into(), &found["steps"]));
    json(&["plot", &run, "--json"]);
    let notes = json(&["report", &run, "--out", &page, "--json"])["notes"].to_string();
    assert!(notes.contains(&format!("Stopped early after epoch {epochs} of 20")), "{notes}");
    assert!(fs::read_to_string(&page).unwrap().contains("Best epoch"));
    // The best checkpoint is that of its epoch, wherever it is taken.
    let steps = found["steps"].as_u64().unwrap() / epochs * best;
    assert_eq!(json(&["eval", &run, "--best", "--json"])["step"], steps);
    assert_eq!(json(&["eval", &run, "--json"])["step"], found["steps"]);
    let packed = place.text("packed.safetensors");
    assert_eq!(json(&["export", &run, "--best", "--packed", &packed, "--json"])["step"], steps);
    assert_eq!(json(&["eval", &packed, "--json"])["loss"], json(&["eval", &run, "--best", "--json"])["loss"]);
    json(&["summary", &run, "--best", "--json"]);
    let notes = json(&["report", &run, "--best", "--out", &page, "--json"])["notes"].to_string();
    assert!(notes.contains(&format!("The checkpoint of the best epoch, {best}, is shown")), "{notes}");
    let pixels = image::GrayImage::from_pixel(8, 8, image::Luma([90]));
    pixels.save(place.path("grey.png")).unwrap();
    json(&["predict", &run, &place.text("grey.png"), "--best", "--json"]);
    // No output takes its place.
    let kept = format!("{run}/best.safetensors");
    refused(2, &["export", &run, "--weights", &kept], &["best.safetensors", "found one of a run"]);
    // A damaged one is named.
    let bytes = fs::read(&kept).unwrap();
    fs::write(&kept, &bytes[..bytes.len() - 9]).unwrap();
    for command in [&["eval", &run, "--best"][..], &["report", &run, "--best"], &["predict", &run, &kept, "--best"]] {
        refused(1, command, &["best.safetensors", "cut short", "writes it anew", "without --best"]);
    }
    let resumed = stderr(&fixnet(&["resume", &run, "--json"]));
    assert!(resumed.contains("best.safetensors") && resumed.contains("is not usable"), "{resumed}");
    // Another run in its place has none.
    train(&place, &run, &["--epochs", "1", "--overwrite"]);
    assert!(!Path::new(&kept).exists());
    refused(1, &["eval", &run, "--best"], &["best.safetensors", "without --keep-best METRIC"]);
    refused(1, &["summary", "digits", "--best"], &["digits", "the folder of a run"]);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_trained() {
    let place = Place::new();
    let run = place.text("run");
    let call =
        |flags: &[&'static str]| [&["train", "mlp-digits", "--data", &place.data, "--out", &run], flags].concat();
    refused(2, &call(&["--keep-best", "speed"]), &["run.keep_best", "loss", "found speed"]);
    refused(2, &call(&["--patience", "0"]), &["run.patience", "at least 1"]);
    refused(2, &call(&["--accumulate", "0"]), &["run.accumulate", "at least 1"]);
    let group = |text: &'static str| call(&["--set", text]);
    refused(2, &group("optimizer.groups=[{match='a',speed=1}]"), &["optimizer.groups", "speed"]);
    refused(
        2,
        &group("optimizer.groups=[{match='a',lr_factor=-1.0}]"),
        &["optimizer.groups[0].lr_factor", "at least 0"],
    );
    refused(1, &group("optimizer.groups=[{match='conv*',frozen=true}]"), &["`conv*`", "fc1.weight"]);
    assert!(!Path::new(&run).exists());
}

#[test]
fn steps_of_several_batches_and_frozen_parameters_come_from_flags() {
    let place = Place::new();
    let run = place.text("run");
    let groups = "optimizer.groups=[{ match = 'fc1.weight', frozen = true }, { match = '*.bias', lr_factor = 0.5 }]";
    // 4 batches of 4 are steps of 3 and 1.
    let found = train(&place, &run, &["--accumulate", "3", "--epochs", "2", "--set", groups]);
    assert_eq!(found["steps"], 4);
    let verified = json(&["verify", &run, "--json"]);
    assert_eq!((&verified["equal"], &verified["steps"]), (&true.into(), &4.into()));
    let recipe = fs::read_to_string(place.path("run/config.toml")).unwrap();
    assert!(recipe.contains("accumulate = 3") && recipe.contains("[[optimizer.groups]]"), "{recipe}");
    // The recipe of the run is one to train by.
    let again = place.text("again");
    let config = place.text("run/config.toml");
    assert_eq!(json(&["train", &config, "--out", &again, "--json"])["digest"], found["digest"]);
}

#[test]
fn a_finished_run_is_extended_and_verified() {
    let place = Place::new();
    let run = place.text("run");
    let first = train(&place, &run, &["--epochs", "2"]);
    refused(2, &["resume", &run, "--epochs", "1"], &["--epochs", "expected at least 3"]);
    assert_eq!(json(&["resume", &run, "--epochs", "2", "--json"])["digest"], first["digest"]);
    let found = json(&["resume", &run, "--epochs", "4", "--json"]);
    assert_eq!((&found["epochs"], &found["steps"]), (&4.into(), &16.into()));
    assert_eq!(json(&["resume", &run, "--epochs", "4", "--json"])["digest"], found["digest"]);
    assert_eq!(json(&["verify", &run, "--json"])["equal"], true);
    let config = place.text("run/config.toml");
    assert!(fs::read_to_string(&config).unwrap().contains("extended = [[2, 2]]"));
    let again = place.text("again");
    assert_eq!(json(&["train", &config, "--out", &again, "--json"])["digest"], found["digest"]);
}

#[test]
fn a_grid_has_runs_that_stop_early() {
    let place = Place::new();
    let out = place.text("grid");
    let fixed = ["compare", "mlp-digits", "--model", "mlp:8", "--data", &place.data, "--batch-size", "4", "--json"];
    let args = [&fixed[..], &["--out", &out, "--seeds", "1,2"], &STOPS].concat();
    let found = json(&args);
    assert_eq!((&found["failed"], &found["interrupted"]), (&0.into(), &false.into()));
    let runs = fs::read_dir(&out).unwrap().filter_map(|e| Some(e.ok()?.path())).filter(|path| path.is_dir());
    for run in runs {
        let last = events(run.to_str().unwrap()).pop().unwrap();
        assert_eq!(last["kind"], "stopped");
        assert!(run.join("best.safetensors").exists());
    }
    // They are finished: the same command trains nothing, and another metric is another grid.
    let again = fixnet(&args);
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(serde_json::from_slice::<Value>(&again.stdout).unwrap()["table"], found["table"]);
}
