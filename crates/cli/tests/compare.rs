//! `fixnet compare` and `fixnet plot`: grids that go on after a stop, tables with the right numbers, figures that open; and
//! diagnostics that change no bit.
#![cfg(unix)]

mod common;

use common::{command, fixnet, json, refused, stderr, tiny};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The arguments of a small grid on the digits that come with fixnet, of four runs.
fn grid<'a>(out: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["compare", "mlp-digits", "--set", "model.name=mlp:8", "--set", "run.batch_size=200", "--epochs", "2"];
    [&fixed[..], &["--gradient-rules", "lbt,min-max", "--seeds", "1..2", "--json", "--out", out], flags].concat()
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn csv(path: &Path) -> Vec<csv::StringRecord> {
    csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap().records().map(Result::unwrap).collect()
}

#[test]
fn a_grid_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let whole = json(&grid(a.to_str().unwrap(), &[]));
    // One that is stopped in its third run.
    let args = grid(b.to_str().unwrap(), &["--checkpoint-every", "1steps", "--threads", "1"]);
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let third = b.join("mlp-digits-4-4-4-min-max-sgd-model=mlp-8-batch_size=200-s1");
    while !third.join("checkpoint.previous.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let out = child.wait_with_output().unwrap();
    let stopped: Value = serde_json::from_slice(&out.stdout).unwrap();
    // On a slow machine the signal may come when all is done.
    if out.status.code() != Some(0) {
        assert_eq!(out.status.code(), Some(130), "{}", stderr(&out));
        assert_eq!((&stopped["interrupted"], &stopped["runs"][1]["state"]), (&true.into(), &"finished".into()));
        assert!(stderr(&out).contains("go on with: fixnet compare mlp-digits"), "{}", stderr(&out));
        assert!(stopped["resume"].as_str().unwrap().contains("--seeds 1..2"));
    }
    // What is finished is left alone.
    let first = b.join("mlp-digits-4-4-4-lbt-sgd-model=mlp-8-batch_size=200-s1/checkpoint.safetensors");
    let before = fs::metadata(&first).unwrap().modified().unwrap();
    let done = json(&grid(b.to_str().unwrap(), &[]));
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before);
    let runs = |result: &Value| -> Vec<(Value, Value)> {
        result["runs"].as_array().unwrap().iter().map(|r| (r["test_accuracy"].clone(), r["digest"].clone())).collect()
    };
    assert_eq!(runs(&done), runs(&whole));
    assert_eq!(done["interrupted"], false);
    // Several runs at once, more than there are threads or than the grid has.
    let c = folder.path().join("c");
    for jobs in ["3", "9"] {
        let at_once = json(&grid(c.to_str().unwrap(), &["--jobs", jobs, "--threads", "2"]));
        assert_eq!((runs(&at_once), &at_once["failed"]), (runs(&whole), &0.into()));
        fs::remove_dir_all(&c).unwrap();
    }

    // The table holds the mean and the spread of what the runs have logged.
    let names: Vec<String> =
        ["lbt", "min-max"].map(|rule| format!("mlp-digits-4-4-4-{rule}-sgd-model=mlp-8-batch_size=200")).into();
    let table = csv(&b.join("compare.csv"));
    for (name, row) in names.iter().zip(0..) {
        let [x, y] = [1, 2].map(|seed| {
            let metrics = lines(&b.join(format!("{name}-s{seed}")).join("metrics.jsonl"));
            metrics.iter().rfind(|line| line["kind"] == "epoch").unwrap()["test_accuracy"].as_f64().unwrap()
        });
        let (mean, std) = ((x + y) / 2.0, (x - y).abs() / 2f64.sqrt());
        let told = &done["table"][row]["test_accuracy"];
        assert!((told["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((told["std"].as_f64().unwrap() - std).abs() < 1e-12);
        let at = table[0].iter().position(|head| head == "test_accuracy_mean").unwrap();
        assert_eq!(table[row + 1][at].parse::<f64>().unwrap(), told["mean"].as_f64().unwrap());
        assert_eq!(table[row + 1][at + 1].parse::<f64>().unwrap(), told["std"].as_f64().unwrap());
    }
    assert_eq!((table.len(), csv(&b.join("runs.csv")).len()), (3, 5));
    is_figure(&b.join("compare"));

    // Its runs are runs like any other, and with another seed only that is trained.
    let run = b.join(format!("{}-s2", names[0]));
    assert_eq!(json(&["verify", run.to_str().unwrap(), "--json"])["equal"], true);
    let three = [&grid(b.to_str().unwrap(), &[])[..10], &["--seeds", "1,2,3", "--out", b.to_str().unwrap()]].concat();
    let more = fixnet(&three);
    assert!(more.status.success(), "{}", stderr(&more));
    let text = String::from_utf8(more.stdout).unwrap();
    let row = text.lines().nth(1).unwrap();
    assert!(row.starts_with("mlp-digits  4/4/4") && row.contains("  3  ") && row.contains(" ± "), "{text}");
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before);
    // Other settings under the same name are no part of it.
    let mut other = grid(b.to_str().unwrap(), &[]);
    other[7] = "3";
    refused(1, &other, &["other settings", "epochs: expected 3, found 2"]);
}

/// Small runs on data given by a path, of one epoch.
fn short<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["compare", "digits", "--data", data, "--model", "mlp:4", "--epochs", "1", "--batch-size", "8"];
    [&fixed[..], &["--json", "--out", out], more].concat()
}

#[test]
fn tables_are_of_the_folder_whoever_writes_them() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 16);
    let data = format!("mnist:{}", folder.path().display());
    let out = folder.path().join("grid");
    let at = out.to_str().unwrap();
    json(&short(&data, at, &["--seeds", "1,2"]));
    // Two at once, of which one has the run of the first as well.
    let spawn =
        |more: &[&str]| command(&short(&data, at, more)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let both = [spawn(&["--seeds", "2,3"]), spawn(&["--seeds", "4", "--lr", "0.01,0.02"])];
    for child in both {
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
    }
    let runs = csv(&out.join("runs.csv"));
    let column = |name: &str| {
        let i = runs[0].iter().position(|head| head == name).unwrap();
        let mut all: Vec<String> = runs.iter().skip(1).map(|row| row[i].to_string()).collect();
        all.sort();
        all
    };
    assert_eq!((column("seed").join(" "), column("state")), ("1 2 3 4 4".into(), vec!["finished".to_string(); 5]));
    assert_eq!(column("lr"), ["0.01", "0.02", "0.05", "0.05", "0.05"]);
    // Runs that differ in more than their seed are never averaged.
    let told = json(&short(&data, at, &["--seeds", "1"]));
    let table = told["table"].as_array().unwrap();
    let counts: Vec<_> = table.iter().map(|row| (row["lr"].as_str().unwrap(), row["runs"].as_u64().unwrap())).collect();
    assert_eq!(counts, [("0.05", 3), ("0.01", 1), ("0.02", 1)]);
    let asked: Vec<bool> = told["runs"].as_array().unwrap().iter().map(|run| run["asked"].as_bool().unwrap()).collect();
    assert_eq!(asked, [true, false, false, false, false]);
    assert_eq!(csv(&out.join("compare.csv")).len(), 4);
    // Folders are called by the last part of a path, with a hash of the whole.
    let last = format!(
        "data=mnist-{}-",
        folder.path().file_name().unwrap().to_str().unwrap().replace(|c: char| !c.is_alphanumeric() && c != '.', "-")
    );
    for run in told["runs"].as_array().unwrap() {
        let name = Path::new(run["run"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
        assert!(name.contains(&last) && !name.contains("tmp-") && name.len() <= 120, "{name}");
    }
    // The same data in another place are others, in a folder of their own.
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    tiny(&other, 16);
    let twice = format!("{data},mnist:{}", other.display());
    assert_eq!(json(&short(&twice, at, &["--seeds", "1"]))["runs"].as_array().unwrap().len(), 6);
    // A run in the folder that cannot be read is left out, and is said to be.
    let run = told["runs"][4]["run"].as_str().unwrap();
    fs::write(Path::new(run).join("config.toml"), "[run]\nepochs = 'many'").unwrap();
    let done = fixnet(&short(&data, at, &["--seeds", "1"]));
    assert!(done.status.success() && stderr(&done).contains("is left out of the tables"), "{}", stderr(&done));
    assert_eq!(csv(&out.join("runs.csv")).len(), 6);
}

/// Each run of a grid has the loss of its own recipe, though all share their data, and goes on in a folder that was written when
/// keys without effect had other defaults.
#[test]
fn settings_of_the_loss_are_those_of_each_run() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 16);
    let data = format!("mnist:{}", folder.path().display());
    let out = folder.path().join("grid");
    let at = out.to_str().unwrap();
    let flags = ["--seeds", "1", "--label-smoothing", "0,0.2", "--class-weights", "none,[1,2,1,1,1,1,1,1,1,1]"];
    let found = json(&short(&data, at, &flags));
    let runs = found["runs"].as_array().unwrap();
    let digests: std::collections::BTreeSet<&str> = runs.iter().map(|run| run["digest"].as_str().unwrap()).collect();
    assert_eq!((runs.len(), digests.len()), (4, 4));
    for run in runs {
        let run = run["run"].as_str().unwrap();
        assert_eq!(json(&["verify", run, "--json"])["equal"], true, "{run}");
        let config = Path::new(run).join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let earlier = text.replace("rule = \"auto\"", "rule = \"additive\"\nschedule = \"cosine\"\nwarmup = 0.0");
        assert_ne!(text, earlier);
        fs::write(&config, earlier).unwrap();
    }
    // The log of other steps is no other run.
    let again = json(&short(&data, at, &[&flags[..], &["--log-every", "10"]].concat()));
    assert_eq!(again["runs"].as_array().unwrap().len(), 4);
    let same = again["runs"].as_array().unwrap().iter().map(|run| run["digest"].as_str().unwrap()).collect();
    assert_eq!(digests, same);
}

#[test]
fn a_grid_of_too_many_runs_is_refused_before_room_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.toml");
    let numbers: Vec<String> = (1..=9000).map(|n| n.to_string()).collect();
    let numbers = numbers.join(",");
    fs::write(
        &file,
        format!("recipes = ['digits']\nseed = [{numbers}]\nbatch_size = [{numbers}]\nepochs = [{numbers}]\n"),
    )
    .unwrap();
    refused(2, &["compare", "--grid", file.to_str().unwrap()], &["expected at most 10000 runs, found 729000000000"]);
}

#[test]
fn a_run_that_fails_is_told_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("grid");
    let file = folder.path().join("grid.toml");
    fs::write(
        &file,
        "recipes = ['mlp-digits']\nmodel = 'mlp:8'\nbits = ['32/32/32', '4/4/4']\ngradient_rules = ['lbt', 'min-max']\n\
         lr = [1e38, 0.05]\nseeds = '3..3'\nepochs = 1\n",
    )
    .unwrap();
    let args = ["compare", "--grid", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let done = fixnet(&[&args[..], &["--json"]].concat());
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    // A float network has no gradient rule, so there are three runs for each learning rate.
    let runs = told["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 6);
    for run in runs {
        assert_eq!(run["gradient_rule"] == "-", run["bits"] == "32/32/32");
        let fails = run["lr"] != "0.05";
        assert_eq!((run["state"] == "failed", run["test_accuracy"].is_f64()), (fails, !fails), "{run}");
        assert!(!fails || run["reason"].as_str().unwrap().contains("stopped at step"), "{run}");
    }
    assert_eq!(told["failed"], 3);
    let text = String::from_utf8(fixnet(&args).stdout).unwrap();
    assert!(text.contains("0 of 1, 1 failed") && text.contains("\nfailed: "), "{text}");
    for (args, words) in [
        (vec!["compare"], "expected recipes"),
        (vec!["compare", "digits", "--seeds", "3..1"], "1..3"),
        (vec!["compare", "digits", "--bits", "4/4"], "4/4"),
        (vec!["compare", "digits", "--gradient-rules", "lbt,best"], "best"),
        (
            vec!["compare", "digits", "--bits", "4/4/4", "--set", "quantization.bits=8/8/8"],
            "bits: expected its values once",
        ),
    ] {
        refused(2, &args, &[words]);
    }
}

/// `stem.svg` and `stem.png` are what they seem.
fn is_figure(stem: &Path) {
    let path = |end: &str| stem.with_extension(end);
    let svg = fs::read_to_string(path("svg")).unwrap();
    // HTML readers take the elements of SVG too.
    let tree = scraper::Html::parse_fragment(&svg);
    assert!(tree.errors.is_empty(), "{}: {:?}", stem.display(), tree.errors);
    let root = tree.select(&scraper::Selector::parse("svg").unwrap()).next().unwrap();
    let image = image::open(path("png")).unwrap().into_rgb8();
    let size = [("width", image.width()), ("height", image.height())];
    for (side, pixels) in size {
        let units: f64 = root.attr(side).unwrap().parse().unwrap();
        assert_eq!(f64::from(pixels), 2.0 * units, "{}", stem.display());
    }
    let all = image.pixels().len();
    let white = image.pixels().filter(|p| p.0 == [255; 3]).count();
    assert!(white < all && white > all / 2, "{}", stem.display());
}

#[test]
fn diagnostics_change_no_bit_go_on_and_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let train = |name: &str, flags: &[&str]| {
        let fixed = ["train", "digits", "--model", "mlp:24-16", "--bits", "2/2/4", "--optimizer", "sgdt"];
        let rest = ["--epochs", "2", "--batch-size", "300", "--json", "--set", "transition.scope=layer"];
        json(&[&fixed[..], &rest, &["--out", path(name).to_str().unwrap()], flags].concat())
    };
    let plain = train("plain", &[]);
    let seen = train("seen", &["--diagnostics", "3"]);
    assert_eq!(plain["digest"], seen["digest"]);
    let metrics = |name: &str| fs::read(path(name).join("metrics.jsonl")).unwrap();
    assert!(metrics("plain") == metrics("seen") && !path("plain").join("diagnostics.jsonl").exists());
    let log = path("seen").join("diagnostics.jsonl");
    let all = lines(&log);
    let steps: Vec<u64> = all.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps[..5], [0, 1, 3, 6, 9]);
    assert_eq!(steps.len() as u64, 2 + seen["steps"].as_u64().unwrap() / 3);
    for line in &all[1..] {
        for layer in all[0]["layers"].as_array().unwrap() {
            let layer = &line["layers"][layer.as_str().unwrap()];
            let error = |key: &str| layer["gradient"][key].as_f64().unwrap();
            assert!(error("gamma") > 0.0 && error("error") > 0.0 && error("large_error") > 0.0, "{line}");
            assert!(layer["weight"]["distance"].as_f64().unwrap() > 0.0);
            assert!(layer["transition"]["talr"].is_f64());
        }
    }

    // Killed between two checkpoints: lines after the checkpoint are there, and are cut off.
    let (whole, half) = (fs::read(&log).unwrap(), path("half"));
    let args = ["--checkpoint-every", "1steps", "--diagnostics", "3", "--out", half.to_str().unwrap()];
    let fixed = ["train", "digits", "--model", "mlp:24-16", "--bits", "2/2/4", "--optimizer", "sgdt", "--epochs", "2"];
    let rest = ["--batch-size", "300", "--json", "--set", "transition.scope=layer"];
    let args = [&fixed[..], &rest, &args].concat();
    let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while lines_so_far(&half.join("diagnostics.jsonl")) < 4 {
        assert!(child.try_wait().unwrap().is_none(), "ended too early");
        sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(half.join("diagnostics.jsonl")).unwrap();
    std::io::Write::write_all(&mut file, b"{\"kind\":\"step\",\"step\":1000000}\n{\"torn").unwrap();
    let resumed = json(&["resume", half.to_str().unwrap(), "--json"]);
    assert_eq!(resumed["digest"], seen["digest"]);
    assert!(fs::read(half.join("diagnostics.jsonl")).unwrap() == whole);

    let plots = json(&["plot", path("seen").to_str().unwrap(), "--json"]);
    assert_eq!(plots["files"].as_array().unwrap().len(), 16);
    for name in ["curves", "gamma", "transitions", "errors", "rivals", "steps", "weights", "gradients"] {
        is_figure(&path("seen").join("plots").join(name));
    }
    // Diagnostics that are rarer than the lines of the metrics: the rates of layers come from those.
    train("rare", &["--diagnostics", "100"]);
    for name in ["seen", "rare"] {
        json(&["plot", path(name).to_str().unwrap(), "--json"]);
        let drawn = fs::read_to_string(path(name).join("plots/transitions.svg")).unwrap();
        assert!(["fc1", "fc2"].iter().all(|layer| drawn.contains(&format!("transition rate, {layer}"))), "{name}");
    }
    // All runs of a folder, some without diagnostics, in one figure each.
    let out = path("plots");
    let plots = json(&["plot", folder.path().to_str().unwrap(), "--json", "--out", out.to_str().unwrap()]);
    assert_eq!(plots["runs"].as_array().unwrap().len(), 4);
    assert!(fs::read_to_string(out.join("curves.svg")).unwrap().contains("plain, test"));
    refused(1, &["plot", "nowhere"], &["nowhere"]);
    refused(1, &["plot", out.to_str().unwrap()], &["folder of a run"]);
}

/// Whole lines of a file that another process writes.
fn lines_so_far(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|&&b| b == b'\n').count())
}
