//! What has changed since a run was trained: its data, its weights, the arithmetic of fixnet, or its own files. Numbers that no
//! longer belong together are refused or noted, and never put into one table in silence.

mod common;

use common::{Place, fixnet, json, refused, stderr};
use fixnet::autograd::Array;
use fixnet::checkpoint::TensorFile;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

impl Place {
    fn args<'a>(&'a self, command: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = [command, "mlp-digits", "--model", "mlp:8-8", "--data", &self.data, "--epochs", "2"];
        [&fixed[..], &["--batch-size", "4", "--json", "--out", out], more].concat()
    }

    fn train(&self, name: &str, more: &[&str]) -> Value {
        json(&self.args("train", &self.text(name), more))
    }

    /// Changes a pixel of the training images, so that they are others in the same place.
    fn change_data(&self) {
        let path = self.path("train-images-idx3-ubyte");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn checkpoint(run: &str) -> PathBuf {
    Path::new(run).join("checkpoint.safetensors")
}

/// Writes a file of fixnet anew, with a checksum that fits.
fn edit(path: &Path, change: impl FnOnce(&mut BTreeMap<String, Array>, &mut BTreeMap<String, String>)) {
    let file = TensorFile::read(path).unwrap();
    let tensors = &file.header().tensors;
    let mut arrays: BTreeMap<_, _> = tensors.iter().map(|t| (t.name.clone(), file.array(&t.name).unwrap())).collect();
    let mut metadata = file.header().metadata.clone();
    metadata.remove("blake3");
    change(&mut arrays, &mut metadata);
    TensorFile::save(path, &arrays.into_iter().collect::<Vec<_>>(), &metadata).unwrap();
}

fn floats(array: &mut Array) -> &mut [f32] {
    match array {
        Array::F32(t) => t.data_mut(),
        Array::U64(_) | Array::I64(_) => panic!("floats"),
    }
}

#[test]
fn runs_on_other_data_are_in_no_table() {
    let place = Place::new();
    let grid = place.text("grid");
    let compare = |more: &[&str]| fixnet(&place.args("compare", &grid, more));
    assert!(compare(&["--seeds", "1,2"]).status.success());
    assert!(compare(&["--seeds", "1,2"]).status.success(), "the data are the same");
    let (a, b) = (place.text("a"), place.text("b"));
    place.train("a", &[]);
    place.train("same", &["--seed", "7"]);
    place.change_data();
    place.train("b", &["--seed", "2"]);

    let out = compare(&["--seeds", "1,3"]);
    assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let (row, run) = (&told["table"][0], &told["runs"][0]);
    assert_eq!((&row["runs"], &row["failed"], &run["state"]), (&1.into(), &1.into(), &"failed".into()));
    let reason = run["reason"].as_str().unwrap();
    for word in [run["run"].as_str().unwrap(), "on other inputs", "training images", "another --out, or delete"] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    // That of seed 2 was not asked for. It is left out, and is said to be.
    let said = stderr(&out);
    assert!(said.contains("-s2 is left out of the tables") && said.contains("training images"), "{said}");
    let csv = fs::read_to_string(place.path("grid/runs.csv")).unwrap();
    assert!(csv.contains("-s3,finished") && csv.contains("-s1,failed") && !csv.contains("-s2,"), "{csv}");
    // Tables outlive the data.
    fs::remove_file(place.path("train-images-idx3-ubyte")).unwrap();
    let out = compare(&["--seeds", "3"]);
    assert!(out.status.success() && stderr(&out).contains("its data are not compared"), "{}", stderr(&out));

    let plots = place.text("plots");
    for (other, different) in [(&b, true), (&place.text("same"), false)] {
        let plotted = json(&["plot", &a, other, "--out", &plots, "--json"])["notes"].to_string();
        let page = place.text("page.html");
        let reported = json(&["report", &a, other, "--out", &page, "--json"])["notes"].to_string();
        for notes in [plotted, reported, fs::read_to_string(&page).unwrap()] {
            let found = notes.contains("b and a were trained on different data") && notes.contains("training images");
            assert_eq!(found, different, "{notes}");
        }
    }
}

#[test]
fn runs_from_other_weights_are_in_no_table() {
    let place = Place::new();
    let (grid, weights) = (place.text("grid"), place.text("w.safetensors"));
    let begin = |seed: &str| {
        place.train("float", &["--bits", "32/32/32", "--seed", seed, "--overwrite"]);
        json(&["export", &place.text("float"), "--weights", &weights, "--json"]);
    };
    let args = place.args("compare", &grid, &["--init", &weights]);
    begin("1");
    json(&args);
    json(&args);
    begin("2");
    let out = fixnet(&args);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    let reason = told["runs"][0]["reason"].as_str().unwrap_or_default();
    assert!(out.status.code() == Some(1) && reason.contains("run.init: expected the first state of the run"), "{told}");
    fs::remove_file(&weights).unwrap();
    let out = fixnet(&args);
    assert!(out.status.success() && stderr(&out).contains("are not compared"), "{}", stderr(&out));
}

/// Makes a checkpoint what version 0.1 would have written.
fn as_earlier(run: &str, one_bit: bool) {
    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        edit(&Path::new(run).join(name), |arrays, metadata| {
            metadata.insert("fixnet".into(), "0.1.0".into());
            let kept = |name: &str| name.starts_with("optimizer.") && name.ends_with(".weight.scale");
            match one_bit {
                true => arrays.retain(|name, _| !name.ends_with(".weight.scale")),
                false => arrays.iter_mut().filter(|(name, _)| kept(name)).for_each(|(_, a)| floats(a).fill(0.0)),
            }
        });
    }
}

#[test]
fn runs_of_another_arithmetic_do_not_go_on_and_still_evaluate() {
    let place = Place::new();
    for (name, bits, one_bit) in [("one", "1/1/32", true), ("two", "2/2/32", false)] {
        let run = place.text(name);
        place.train(name, &["--bits", bits, "--scheme", "trs"]);
        let before = json(&["eval", &run, "--json"]);
        as_earlier(&run, one_bit);
        let words =
            ["fixnet 0.1.0 trained this run", "other numbers", if one_bit { "without the scale" } else { "fixed" }];
        refused(1, &["resume", &run], &words);
        refused(1, &["verify", &run], &words);
        let after = json(&["eval", &run, "--json"]);
        assert_eq!((&after["loss"], &after["accuracy"]), (&before["loss"], &before["accuracy"]));
        json(&["export", &run, "--packed", &place.text("p.safetensors"), "--json"]);
        assert_eq!(json(&["eval", &place.text("p.safetensors"), "--json"])["loss"], before["loss"]);
        json(&["summary", &run, "--json"]);
        let notes = json(&["report", &run, "--json"])["notes"].to_string();
        assert!(!notes.contains("could not be built"), "{notes}");
    }
    // Nothing has changed for these.
    for (name, flags) in [
        ("twin", &["--bits", "2/2/32", "--scheme", "trs", "--optimizer", "sgdt"][..]),
        ("fixed", &["--bits", "2/2/32", "--scheme", "trs", "--scales", "fixed"]),
        ("lbt", &["--bits", "1/1/32"]),
    ] {
        let digest = place.train(name, flags)["digest"].clone();
        edit(&checkpoint(&place.text(name)), |_, metadata| drop(metadata.insert("fixnet".into(), "0.1.0".into())));
        assert_eq!(json(&["resume", &place.text(name), "--json"])["digest"], digest, "{name}");
        assert_eq!(json(&["verify", &place.text(name), "--json"])["equal"], true, "{name}");
    }
    // Nor is a finished run of the earlier arithmetic averaged with later ones.
    let grid = place.text("grid");
    let args = place.args("compare", &grid, &["--bits", "1/1/32", "--scheme", "trs"]);
    let run = json(&args)["runs"][0]["run"].as_str().unwrap().to_string();
    as_earlier(&run, true);
    let out = fixnet(&args);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("fixnet 0.1.0 trained this run"));
}

/// Makes all float weights finite numbers of which a sum is not.
fn make_huge(arrays: &mut BTreeMap<String, Array>) {
    let weights = arrays.iter_mut().filter(|(name, _)| name.ends_with(".weight") && !name.starts_with("optimizer."));
    for (_, weight) in weights {
        floats(weight).iter_mut().zip([3e38, -3e38].into_iter().cycle()).for_each(|(v, huge)| *v = huge);
    }
}

#[test]
fn what_is_not_finite_is_no_accuracy() {
    let place = Place::new();
    let (run, packed) = (place.text("run"), place.text("p.safetensors"));
    place.train("run", &[]);
    json(&["export", &run, "--packed", &packed, "--json"]);
    edit(Path::new(&packed), |arrays, _| {
        let units = arrays.iter_mut().filter(|(name, _)| name.ends_with(".units"));
        units.for_each(|(_, a)| floats(a).fill(3e38));
        make_huge(arrays);
    });
    edit(&checkpoint(&run), |arrays, _| make_huge(arrays));
    let words = [" test: ", "of sample", "expected a finite number, found", "too large to evaluate"];
    refused(1, &["eval", &run], &words);
    refused(1, &["eval", &packed, "--json"], &words);
    refused(1, &["export", &run, "--samples", &place.text("s.safetensors")], &words);
    let notes = json(&["report", &run, "--json"])["notes"].to_string();
    assert!(notes.contains("expected a finite number"), "{notes}");
}

#[test]
fn weights_come_from_the_previous_checkpoint_where_the_last_is_damaged() {
    let place = Place::new();
    let (run, next) = (place.text("run"), place.text("next"));
    place.train("run", &[]);
    let path = checkpoint(&run);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    for init in [&run, path.to_str().unwrap()] {
        let out = fixnet(&place.args("train", &next, &["--init", init, "--overwrite"]));
        let text = stderr(&out);
        assert!(out.status.success() && text.contains("warning: init: ") && text.contains("damaged"), "{text}");
        assert!(text.contains("weights are those of the previous checkpoint, of step 4"), "{text}");
    }
    fs::remove_file(Path::new(&run).join("checkpoint.previous.safetensors")).unwrap();
    refused(1, &place.args("train", &next, &["--init", &run, "--overwrite"]), &["damaged"]);
}

#[test]
fn a_place_in_the_data_that_is_none_is_refused() {
    let place = Place::new();
    let run = place.text("run");
    place.train("run", &[]);
    let whole = fs::read(checkpoint(&run)).unwrap();
    // Two epochs of four steps. Step; epoch, batches, samples of the running epoch.
    for (step, progress) in [
        (u64::MAX, [0, 0, 0]),
        (8, [0, u64::MAX, 0]),
        (8, [1, 0, 0]),
        (7, [1, 3, 17]),
        (7, [1, 3, u64::MAX]),
        (9, [1, 5, 16]),
        (9, [2, 1, 4]),
        (12, [3, 0, 0]),
        (u64::from(u32::MAX) * 4, [u64::from(u32::MAX), 0, 0]),
        (0, [2, 0, 0]),
    ] {
        fs::write(checkpoint(&run), &whole).unwrap();
        edit(&checkpoint(&run), |arrays, _| {
            for (name, values) in [("run.seed_and_step", &[step][..]), ("run.progress", &progress)] {
                let Some(Array::U64(words)) = arrays.get_mut(name) else { panic!("{name}") };
                let at = usize::from(name == "run.seed_and_step");
                words[at..at + values.len()].copy_from_slice(values);
            }
        });
        for command in ["resume", "verify"] {
            refused(1, &[command, &run], &["checkpoint.safetensors", "contradict each other"]);
        }
    }
}

#[test]
fn times_and_epochs_that_a_file_claims_are_not_believed() {
    let place = Place::new();
    let grid = place.text("grid");
    let args = place.args("compare", &grid, &[]);
    let whole = json(&args);
    let run = whole["runs"][0]["run"].as_str().unwrap().to_string();
    let path = Path::new(&run).join("processes.json");
    let before = fs::read_to_string(&path).unwrap();
    let with = |key: &str, value: Value| {
        let mut all: Value = serde_json::from_str(&before).unwrap();
        all[0][key] = value;
        fs::write(&path, all.to_string()).unwrap();
    };
    for seconds in [1e308, -1.0] {
        with("seconds", seconds.into());
        let found = json(&args);
        assert_eq!((&found["runs"][0]["seconds"], &found["table"][0]["seconds"]), (&Value::Null, &Value::Null));
        assert!(json(&["report", &run, "--json"])["notes"].to_string().contains("times, threads"));
        assert!(stderr(&fixnet(&["resume", &run])).contains("processes.json: damaged, or with times"));
    }
    with("images", u64::MAX.into());
    json(&["report", &run, "--json"]);
    // A run that is not finished says that it is.
    fs::rename(Path::new(&run).join("checkpoint.previous.safetensors"), checkpoint(&run)).unwrap();
    with("epochs", 99.into());
    let again = json(&args);
    assert_eq!(
        (&again["runs"][0]["state"], &again["runs"][0]["digest"]),
        (&"finished".into(), &whole["runs"][0]["digest"])
    );
    assert_eq!(json(&["resume", &run, "--json"])["steps"], 8);
}

#[test]
fn a_finished_run_without_numbers_says_where_they_are() {
    let place = Place::new();
    let run = place.text("run");
    place.train("run", &[]);
    let path = Path::new(&run).join("metrics.jsonl");
    let first = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_string();
    fs::write(&path, first + "\n").unwrap();
    refused(1, &["resume", &run], &["metrics.jsonl: expected a line per epoch", "fixnet eval"]);
}

#[test]
fn a_run_whose_recipe_was_edited_is_not_replayed_as_another() {
    let place = Place::new();
    let run = place.text("run");
    place.train("run", &[]);
    let recipe = Path::new(&run).join("config.toml");
    let before = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, before.replace("batch_size = 4", "batch_size = 8")).unwrap();
    refused(1, &["verify", &run], &["config.toml: holds other settings", "run.batch_size"]);
    fs::write(&recipe, before).unwrap();
    assert_eq!(json(&["verify", &run, "--json"])["equal"], true);
    // Without the digests on the way, the last checkpoint is still one to hold the replay to.
    fs::remove_file(Path::new(&run).join("digests.jsonl")).unwrap();
    let found = fixnet(&["verify", &run]);
    assert!(found.status.success(), "{}", stderr(&found));
    assert!(stderr(&found).contains("no recorded digests, so only checkpoints are compared"));
    assert!(String::from_utf8_lossy(&found.stdout).starts_with("equal: 1 digest, "));
    // Weights that the run never had.
    edit(&checkpoint(&run), |arrays, _| floats(arrays.get_mut("fc1.weight").unwrap())[0] += 1.0);
    let found = fixnet(&["verify", &run]);
    assert_eq!(found.status.code(), Some(1), "{}", stderr(&found));
    let words = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(words.starts_with("first difference at step 8 (checkpoint.safetensors)\n"), "{words}");
}

#[test]
fn a_log_that_is_gone_is_begun_anew_with_a_warning() {
    let place = Place::new();
    let run = place.text("run");
    place.train("run", &[]);
    fs::rename(Path::new(&run).join("checkpoint.previous.safetensors"), checkpoint(&run)).unwrap();
    fs::remove_file(Path::new(&run).join("metrics.jsonl")).unwrap();
    let resumed = fixnet(&["resume", &run]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("metrics.jsonl: missing or empty"));
    let log = fs::read_to_string(Path::new(&run).join("metrics.jsonl")).unwrap();
    assert!(log.lines().next().is_some_and(|line| line.contains("version")), "{log}");
}
