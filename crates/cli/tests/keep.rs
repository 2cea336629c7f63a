//! Runs that survive: killed, interrupted, out of disk, with damaged files, on another instruction set and number of
//! threads, a run ends with the bits of one that nothing happened to.
#![cfg(unix)]

mod common;

use common::{command, fixnet, json, refused, stderr, tiny};
use fixnet::checkpoint::TensorFile;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Data, and arguments that train on them.
struct Place {
    folder: TempDir,
    data: String,
}

impl Place {
    fn new(images: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny(folder.path(), images);
        let data = format!("mnist:{}", folder.path().display());
        Self { folder, data }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `train` into the folder `out`, with further flags.
    fn train<'a>(&'a self, out: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
        let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &self.data, "--batch-size", "4", "--json"];
        [&fixed[..], &["--out", out.to_str().unwrap()], flags].concat()
    }
}

fn resume<'a>(out: &'a Path, flags: &[&'a str]) -> Vec<&'a str> {
    [&["resume", out.to_str().unwrap(), "--json"], flags].concat()
}

fn checkpoint(run: &Path) -> PathBuf {
    run.join("checkpoint.safetensors")
}

/// Every file that two equal runs have in common, to the byte.
fn assert_equal_runs(found: &Path, expected: &Path) {
    for name in ["config.toml", "metrics.jsonl", "digests.jsonl", "curves.svg", "checkpoint.safetensors"] {
        let [a, b] = [found, expected].map(|run| fs::read(run.join(name)).unwrap());
        assert!(a == b, "{name} differs: {} and {} bytes", a.len(), b.len());
    }
    let steps: Vec<u64> = fs::read_to_string(found.join("metrics.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["kind"] == "step")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert!(steps.windows(2).all(|s| s[0] + 50 == s[1]), "each line once: {steps:?}");
}

/// A generator for moments and flags, the same in every run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn spawn(args: &[&str]) -> Child {
    command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Sends a signal by the system's command: there is no unsafe code here.
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

fn wait_for(child: &mut Child, mut there: impl FnMut() -> bool) {
    while !there() {
        if let Some(status) = child.try_wait().unwrap() {
            panic!("ended too early: {status}");
        }
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_at_twenty_moments_on_other_threads_and_instruction_sets() {
    let place = Place::new(64);
    let whole = place.path("whole");
    let varied = [
        "--set",
        "augmentation.rotation=15",
        "--set",
        "augmentation.shift=0.1",
        "--set",
        "augmentation.cutout=3",
        "--set",
        "augmentation.mixup=0.4",
    ];
    let every = [&["--checkpoint-every", "2steps", "--epochs", "8", "--validation", "0.1"], &varied[..]].concat();
    let start = Instant::now();
    let expected = json(&place.train(&whole, &every));
    let length = start.elapsed();
    let isas = json(&["info", "--json"])["isas"].clone();
    let isas: Vec<&str> = isas.as_array().unwrap().iter().map(|i| i.as_str().unwrap()).collect();

    // FIXNET_KILLS=200 for a longer trial.
    let most: u32 = std::env::var("FIXNET_KILLS").map_or(20, |n| n.parse().unwrap());
    let mut random = Random(6);
    let (mut kills, mut runs) = (0, 0);
    while kills < most {
        runs += 1;
        let killed = place.path(&format!("killed{runs}"));
        loop {
            let isa = isas[random.below(isas.len() as u64) as usize];
            let threads = (1 + random.below(3)).to_string();
            let machine = ["--threads", &threads, "--isa", isa];
            let args = match checkpoint(&killed).exists() {
                true => resume(&killed, &[&machine[..], &every[..2]].concat()),
                // Killed before there was anything to go on with.
                false => place.train(&killed, &[&machine[..], &every[..]].concat()),
            };
            if kills == most {
                assert_eq!(json(&args)["digest"], expected["digest"]);
                break;
            }
            let mut child = spawn(&args);
            // A few moments in a run: short enough that twenty of them fall into it, most while it writes a checkpoint.
            sleep(length * random.below(1000) as u32 / 4000);
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            if checkpoint(&killed).exists() {
                let found = json(&["inspect", killed.to_str().unwrap(), "--json"]);
                assert_eq!(found["checksum_compared"], true, "a killed run leaves a whole checkpoint");
            }
        }
        assert_equal_runs(&killed, &whole);
    }
    refused(1, &resume(&place.path("none"), &[]), &["none", "fixnet train"]);
    println!("{kills} kills in {runs} runs of {length:?}");
    let verified = json(&["verify", whole.to_str().unwrap(), "--isa", "scalar", "--threads", "1", "--json"]);
    assert_eq!((&verified["equal"], &verified["steps"]), (&true.into(), &120.into()));
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let place = Place::new(16);
    let run = place.path("my run");
    let train = place.train(&run, &["--epochs", "1000000"]);
    for (i, name) in ["-INT", "-TERM", "-HUP"].into_iter().enumerate() {
        let args = if i == 0 { train.clone() } else { resume(&run, &[]) };
        let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Until the first epoch of this process is over.
        let metrics = run.join("metrics.jsonl");
        let lines = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
        let before = lines(&metrics);
        wait_for(&mut child, || lines(&metrics) > before + 3);
        refused(1, &resume(&run, &[]), &["my run", "another fixnet process"]);
        signal(&child, name);
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(130), "{}", stderr(&out));
        let text = stderr(&out);
        assert!(text.contains("go on with: fixnet resume '") && text.contains("my run'"), "{text}");
        let result: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(result["interrupted"], true);
        let saved = json(&["inspect", run.to_str().unwrap(), "--json"]);
        assert!(saved["metadata"]["config"].as_str().unwrap().contains("epochs = 1000000"));
        assert!(result["step"].as_u64().unwrap() >= 4);
    }
    // The state that was saved is that of a run which was never stopped.
    let verified = json(&["verify", run.to_str().unwrap(), "--json"]);
    assert_eq!(verified["equal"], true);
}

/// Batch systems send SIGUSR1 some time before they end a job.
#[test]
fn a_signal_saves_a_run_that_goes_on() {
    let place = Place::new(4096);
    let run = place.path("run");
    // An epoch is long, so that no other save is due.
    let args = place.train(&run, &["--epochs", "1000", "--checkpoint-every", "10h", "--log-every", "5"]);
    let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Before the first step it is no reason to end.
    wait_for(&mut child, || run.join("config.toml").exists());
    signal(&child, "-USR1");
    wait_for(&mut child, || fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count() > 1);
    let saved = || fs::read(checkpoint(&run)).unwrap_or_default();
    let before = saved();
    signal(&child, "-USR1");
    wait_for(&mut child, || saved() != before);
    signal(&child, "-TERM");
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130));
    assert!(stderr(&out).contains("SIGUSR1: saving the run"), "{}", stderr(&out));
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert!(log.lines().nth(1).unwrap().contains("\"step\":5,"), "{log}");
}

/// The recipe in a checkpoint names a model of 3.6 GB, its tensors are those of a small one: refused before the model is
/// built, by whoever reads it.
#[test]
fn a_checkpoint_that_names_another_model_is_refused_before_the_model_is_made() {
    let place = Place::new(8);
    let out = place.path("run");
    assert!(fixnet(&place.train(&out, &["--epochs", "1"])).status.success());
    let file = TensorFile::read(&checkpoint(&out)).unwrap();
    let names = file.header().tensors.iter().map(|t| t.name.clone());
    let arrays: Vec<_> = names.map(|name| (name.clone(), file.array(&name).unwrap())).collect();
    let mut metadata = file.header().metadata.clone();
    let config = metadata["config"].replace("mlp:8", "mlp:30000-30000");
    metadata.insert("config".into(), config.clone());
    TensorFile::save(&checkpoint(&out), &arrays, &metadata).unwrap();
    fs::write(out.join("config.toml"), config).unwrap();
    let words = ["fc1.weight", "expected f32 [30000, 64]", "found f32 [8, 64] in", "checkpoint.safetensors"];
    for command in ["eval", "verify", "summary"] {
        refused(1, &[command, out.to_str().unwrap()], &words);
    }
}

#[test]
fn damaged_checkpoints_are_named_and_the_previous_one_takes_over() {
    let place = Place::new(16);
    let [whole, run] = ["whole", "run"].map(|name| place.path(name));
    // An optimizer with more state than momentum: two moments a weight, a transition rate for each layer.
    let optimizer = ["--optimizer", "nadamt", "--set", "transition.scope=layer"];
    let flags = [&["--epochs", "5", "--checkpoint-every", "3steps"][..], &optimizer].concat();
    let expected = json(&place.train(&whole, &flags));
    json(&place.train(&run, &flags));
    let good = fs::read(checkpoint(&run)).unwrap();
    for at in [0, 40, good.len() / 2, good.len() - 1] {
        let flipped: Vec<u8> = good.iter().enumerate().map(|(i, b)| if i == at { b ^ 16 } else { *b }).collect();
        for damaged in [&flipped[..], &good[..at]] {
            fs::write(checkpoint(&run), damaged).unwrap();
            // A line of a log that a power cut tore in two.
            let torn = [&fs::read(run.join("metrics.jsonl")).unwrap()[..], b"{\"kind\":\"st"].concat();
            fs::write(run.join("metrics.jsonl"), torn).unwrap();
            let out = fixnet(&resume(&run, &[]));
            let text = stderr(&out);
            assert!(out.status.success(), "{text}");
            assert!(text.contains("checkpoint.safetensors: not a usable checkpoint"), "{text}");
            assert!(text.contains("goes on from the previous checkpoint, of step "), "{text}");
            let result: Value = serde_json::from_slice(&out.stdout).unwrap();
            assert_eq!(result["digest"], expected["digest"]);
            assert_equal_runs(&run, &whole);
            assert_eq!(fs::read(run.join("checkpoint.damaged.safetensors")).unwrap(), damaged);
        }
    }
    fs::remove_file(checkpoint(&run)).unwrap();
    json(&["eval", run.to_str().unwrap(), "--json"]);
    let words = ["checkpoint.safetensors: ", "checkpoint.previous.safetensors: ", "cut short"];
    for path in [checkpoint(&run), run.join("checkpoint.previous.safetensors")] {
        fs::write(path, &good[..good.len() / 3]).unwrap();
    }
    refused(1, &resume(&run, &[]), &words);
    refused(1, &["eval", run.to_str().unwrap()], &words);
}

/// A small disk, until it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, option: &str) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let out = Command::new("mount").args(["-t", "tmpfs", "-o", option, "tmpfs"]).arg(&path).output();
        out.is_ok_and(|out| out.status.success()).then_some(Self(path))
    }

    fn remount(&self, option: &str) {
        assert!(Command::new("mount").args(["-o", option]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_keeps_the_last_good_checkpoint() {
    let place = Place::new(32);
    let whole = place.path("whole");
    let flags = ["--model", "mlp:256", "--epochs", "2", "--checkpoint-every", "2steps"];
    let mlp = |out| -> Vec<&str> {
        place.train(out, &[]).into_iter().filter(|a| !["--model", "mlp:8"].contains(a)).collect()
    };
    let expected = json(&[&mlp(&whole)[..], &flags].concat());
    // Two checkpoints fit, a third one beside them does not.
    let size = fs::metadata(checkpoint(&whole)).unwrap().len() * 5 / 2;
    let Some(disk) = Disk::mount(place.path("disk"), &format!("size={size}")) else {
        println!("skipped: may not mount a tmpfs; a full disk was not tested");
        return;
    };
    let run = disk.0.join("run");
    refused(
        1,
        &[&mlp(&run)[..], &flags].concat(),
        &[
            "checkpoint.safetensors: the checkpoint could not be written",
            "No space left on device",
            "the last one that was is untouched",
            "stopped at step 4 of 16",
        ],
    );
    assert!(!run.join("checkpoint.part").exists());
    assert_eq!(json(&["inspect", run.to_str().unwrap(), "--json"])["checksum_compared"], true);
    refused(1, &resume(&run, &flags[4..]), &["No space left on device"]);
    disk.remount("remount,size=100m");
    assert_eq!(json(&resume(&run, &flags[4..]))["digest"], expected["digest"]);
    assert_equal_runs(&run, &whole);
}

#[test]
fn verify_finds_a_tampered_run() {
    let place = Place::new(16);
    let [run, other] = ["run", "other"].map(|name| place.path(name));
    json(&place.train(&run, &["--epochs", "4"]));
    json(&place.train(&other, &["--epochs", "4", "--lr", "0.04"]));
    let folder = run.to_str().unwrap();
    let verified = json(&["verify", folder, "--json"]);
    // Steps 0, 1, 4, 8, 10, 12, 16, and the checkpoint.
    assert_eq!((&verified["equal"], &verified["digests"], &verified["steps"]), (&true.into(), &8.into(), &16.into()));
    assert_eq!(json(&["verify", folder, "--steps", "5", "--json"])["digests"], 3);

    let differs = |step: u64, source: &str, before: Value| {
        let out = fixnet(&["verify", folder, "--json"]);
        assert_eq!(out.status.code(), Some(1), "{}", stderr(&out));
        let found: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(found["equal"], false);
        assert_eq!((&found["difference"]["step"], &found["difference"]["source"]), (&step.into(), &source.into()));
        assert_eq!(found["equal_until_step"], before);
    };
    let tamper = |name: &str, change: &dyn Fn(String) -> String, check: &dyn Fn()| {
        let (path, before) = (run.join(name), fs::read_to_string(run.join(name)).unwrap());
        fs::write(&path, change(before.clone())).unwrap();
        check();
        fs::write(&path, before).unwrap();
    };
    // A digest, a setting, and the weights of another run.
    let digit = |text: String| {
        let (at, c) = text.lines().nth(4).map(|line| (text.find(line).unwrap() + 11, line.as_bytes()[11])).unwrap();
        let other = if c == b'0' { "1" } else { "0" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    };
    tamper("digests.jsonl", &digit, &|| differs(10, "digests.jsonl", 8.into()));
    for (key, from, to) in
        [("optimizer.momentum", "momentum = 0.9", "momentum = 0.8"), ("run.seed", "seed = 1", "seed = 2")]
    {
        tamper("config.toml", &|text| text.replace(from, to), &|| {
            refused(1, &["verify", folder], &["config.toml: holds other settings", key]);
        });
    }
    tamper("digests.jsonl", &|text| text.replace("step", "stop"), &|| {
        refused(1, &["verify", folder], &["digests.jsonl", "line 1", "expected a step and a digest"]);
    });
    // The same data elsewhere, and other data.
    let [same, more] = [16, 20].map(Place::new);
    assert_eq!(json(&["verify", folder, "--json", "--data", &same.data])["equal"], true);
    assert_eq!(fixnet(&["verify", folder, "--data", &more.data]).status.code(), Some(1));

    let own = fs::read(checkpoint(&run)).unwrap();
    fs::copy(checkpoint(&other), checkpoint(&run)).unwrap();
    refused(1, &["verify", folder], &["config.toml: holds other settings", "optimizer.lr"]);
    fs::write(checkpoint(&run), own).unwrap();
}

#[test]
fn a_run_starts_from_the_weights_of_another() {
    let place = Place::new(16);
    let [float, plain, run, wider] = ["float", "plain", "run", "wider"].map(|name| place.path(name));
    let from = float.to_str().unwrap();
    json(&place.train(&float, &["--epochs", "2", "--bits", "32/32/32"]));
    let flags = ["--epochs", "2", "--bits", "2/2/32", "--optimizer", "sgdt"];
    let without = json(&place.train(&plain, &flags));
    let out = fixnet(&[&place.train(&run, &flags)[..], &["--init", from]].concat());
    let text = stderr(&out);
    assert!(out.status.success(), "{text}");
    // fc1, bn1 and classifier with weight and bias each, and the statistics.
    assert!(text.contains("init: 7 of 7 parameters and statistics taken"), "{text}");
    let with: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_ne!(with["digest"], without["digest"]);
    assert!(fs::read_to_string(run.join("config.toml")).unwrap().contains(&format!("init = \"{from}\"")));
    // The weights are kept with the run: it can be replayed after those have gone, and goes on without them.
    let out = fixnet(&[&place.train(&wider, &flags)[..], &["--init", from, "--model", "lenet"]].concat());
    assert_eq!(out.status.code(), Some(2), "a flag given twice: {}", stderr(&out));
    let mut args = place.train(&wider, &flags);
    args[3] = "mlp:9";
    // Of the weights none fits, so this would be a run from random ones.
    let words = [
        "float/checkpoint.safetensors: expected weights of this model, found 0 of its 2",
        "fc1.weight [9, 64] (found [8, 64])",
    ];
    refused(1, &[&args[..], &["--init", from]].concat(), &words);
    assert!(!wider.exists());
    args[3] = "mlp:8-8";
    let out = fixnet(&[&args[..], &["--init", from]].concat());
    let text = stderr(&out);
    assert!(out.status.success(), "{text}");
    assert!(text.contains("init: 7 of 12 parameters and statistics taken"), "{text}");
    assert!(text.contains("init: not found: fc2.weight [8, 8] (found none)"), "{text}");
    fs::remove_dir_all(&float).unwrap();
    for run in [&run, &wider] {
        assert_eq!(json(&["verify", run.to_str().unwrap(), "--json"])["equal"], true);
        fs::copy(run.join("start.safetensors"), checkpoint(run)).unwrap();
    }
    let elsewhere = Place::new(16);
    fs::remove_file(place.path("train-images-idx3-ubyte")).unwrap();
    refused(1, &resume(&run, &[]), &["train-images-idx3-ubyte"]);
    assert_eq!(json(&resume(&run, &["--data", &elsewhere.data]))["digest"], with["digest"]);
    refused(1, &[&place.train(&plain, &flags)[..], &["--overwrite", "--init", from]].concat(), &["float"]);
}

#[test]
fn an_earlier_run_is_not_lost_by_accident() {
    let place = Place::new(16);
    let run = place.path("run");
    let first = json(&place.train(&run, &["--epochs", "2"]));
    let before = fs::read(checkpoint(&run)).unwrap();
    refused(1, &place.train(&run, &["--epochs", "1"]), &["found one", "fixnet resume", "--overwrite"]);
    assert_eq!(fs::read(checkpoint(&run)).unwrap(), before);
    // A finished run has nothing to do, and tells the same result.
    let again = json(&resume(&run, &["--checkpoint-every", "1steps"]));
    for key in ["digest", "train_loss", "test_accuracy", "steps"] {
        assert_eq!(again[key], first[key], "{key}");
    }
    assert_eq!(fs::read(checkpoint(&run)).unwrap(), before);
    json(&place.train(&run, &["--epochs", "1", "--overwrite"]));
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    // The header and the epoch.
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(!run.join("checkpoint.damaged.safetensors").exists());
}

#[test]
fn files_that_are_not_of_a_run_are_not_lost() {
    let place = Place::new(16);
    for name in ["config.toml", "start.safetensors", "report.html", "tensorboard/events.out.tfevents.1.mine"] {
        let run = place.path(&name.replace(['/', '.'], "-"));
        let mine = run.join(name);
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "mine").unwrap();
        refused(1, &place.train(&run, &["--epochs", "1"]), &["which no run of fixnet wrote", name, "--overwrite"]);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        json(&place.train(&run, &["--epochs", "1", "--overwrite"]));
    }
    // What plot and report made of an earlier run does not stay beside a new one; a file of the user's does.
    let run = place.path("run");
    json(&place.train(&run, &["--epochs", "1"]));
    let folder = run.to_str().unwrap();
    json(&["plot", folder, "--json"]);
    json(&["report", folder, "--json"]);
    fs::write(run.join("plots/notes.txt"), "mine").unwrap();
    json(&place.train(&run, &["--epochs", "1", "--overwrite"]));
    let left: Vec<_> = fs::read_dir(run.join("plots")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    assert!(!run.join("report.html").exists());
}

#[test]
fn a_run_keeps_its_data_and_its_settings() {
    let place = Place::new(16);
    let run = place.path("run");
    let first = json(&place.train(&run, &["--epochs", "2"]));
    let config = run.join("config.toml");
    let before = fs::read_to_string(&config).unwrap();
    // Other images, and as many images of which one differs.
    let (more, changed) = (Place::new(20), Place::new(16));
    let images = changed.path("train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&images, bytes).unwrap();
    for other in [&more, &changed] {
        refused(1, &resume(&run, &["--data", &other.data]), &[&other.data, "training images that the run began with"]);
        refused(1, &["verify", run.to_str().unwrap(), "--data", &other.data], &["training images"]);
    }
    // A curve over two test sets is none.
    let other_test = Place::new(16);
    let images = other_test.path("t10k-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&images, bytes).unwrap();
    for args in [
        &resume(&run, &["--data", &other_test.data])[..],
        &["verify", run.to_str().unwrap(), "--data", &other_test.data],
    ] {
        refused(1, args, &[&other_test.data, "expected the test images that the run began with"]);
    }
    refused(2, &resume(&run, &["--data", "nonsense"]), &["nonsense"]);
    fs::write(&config, before.replace("epochs = 2", "epochs = 4")).unwrap();
    refused(1, &resume(&run, &[]), &["config.toml", "epochs: expected 2, found 4"]);
    fs::write(&config, &before).unwrap();
    // The same images elsewhere are where the run looks from then on.
    let same = Place::new(16);
    assert_eq!(json(&resume(&run, &["--data", &same.data]))["digest"], first["digest"]);
    assert_eq!(fs::read_to_string(&config).unwrap(), before.replace(&place.data, &same.data));
}

#[test]
fn a_damaged_line_of_a_log_is_named_and_nothing_behind_it_is_lost() {
    let place = Place::new(16);
    let run = place.path("run");
    json(&place.train(&run, &["--epochs", "4"]));
    let metrics = run.join("metrics.jsonl");
    let before = fs::read_to_string(&metrics).unwrap();
    let mut lines: Vec<&str> = before.lines().collect();
    lines[1] = "<\"kind\":\"epoch\"}";
    let damaged = lines.join("\n") + "\n";
    fs::write(&metrics, &damaged).unwrap();
    let folder = run.to_str().unwrap();
    for args in [&resume(&run, &[])[..], &["plot", folder], &["report", folder]] {
        refused(1, args, &["metrics.jsonl: line 2: expected JSON"]);
        assert_eq!(fs::read_to_string(&metrics).unwrap(), damaged);
    }
    // What a process that was killed had not finished is no damage.
    fs::write(&metrics, before.clone() + "{\"kind\":").unwrap();
    json(&resume(&run, &[]));
    assert_eq!(fs::read_to_string(&metrics).unwrap(), before);
}
