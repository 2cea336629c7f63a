//! Files that must not be lost or reached: links in a folder from someone else, files of other programs and of other
//! runs, power cuts, second writers, and names that command a terminal.
#![cfg(unix)]

mod common;

use common::{Place, command, fixnet, json, refused, stderr};
use fixnet::checkpoint::TensorFile;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

impl Place {
    /// The arguments that train into the folder `name`.
    fn args(&self, name: &str, more: &[&str]) -> Vec<String> {
        let out = self.text(name);
        let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &self.data, "--batch-size", "4", "--json"];
        [&fixed[..], &["--out", &out], more].concat().into_iter().map(String::from).collect()
    }

    /// Trains into the folder `name`: two epochs of four steps.
    fn train(&self, name: &str, more: &[&str]) -> serde_json::Value {
        let args = self.args(name, &[&["--epochs", "2"], more].concat());
        json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refused(&self, name: &str, more: &[&str], words: &[&str]) {
        let args = self.args(name, &[&["--epochs", "2"], more].concat());
        refused(1, &args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_written_through_links_in_a_run_folder() {
    let place = Place::new();
    place.train("run", &["--diagnostics", "2"]);
    // Something to do for `resume`.
    fs::copy(place.path("run/checkpoint.previous.safetensors"), place.path("run/checkpoint.safetensors")).unwrap();
    json(&["plot", &place.text("run"), "--json"]);
    let victim = place.path("victim");
    for (i, name) in [
        "config.toml",
        "config.part",
        "checkpoint.part",
        "processes.json",
        "curves.svg",
        "metrics.jsonl",
        "digests.jsonl",
        "diagnostics.jsonl",
        "lock",
        "writer.json",
        "report.html",
        "plots/curves.svg",
        "plots/gamma.png",
    ]
    .into_iter()
    .enumerate()
    {
        // A link that leads nowhere is tried where a file is made by its name, and where it is replaced.
        let targets = if ["lock", "metrics.jsonl"].contains(&name) { &["victim", "nowhere"][..] } else { &["victim"] };
        for target in targets {
            fs::write(&victim, "precious").unwrap();
            let run = place.path(&format!("{i}-{target}"));
            copy(&place.path("run"), &run);
            let _ = fs::remove_file(run.join(name));
            symlink(place.path(target), run.join(name)).unwrap();
            let folder = run.to_str().unwrap();
            let args: &[&str] = match name {
                "report.html" => &["report", folder],
                _ if name.starts_with("plots") => &["plot", folder],
                _ => &["resume", folder, "--quiet"],
            };
            fixnet(args);
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{args:?} {name}");
            assert!(!place.path("nowhere").exists(), "{args:?} {name}");
            let name_of_run = run.file_name().unwrap().to_str().unwrap();
            match name {
                "lock" => place.refused(name_of_run, &["--overwrite"], &["lock", "found a symbolic link"]),
                _ => drop(place.train(name_of_run, &["--overwrite"])),
            }
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "--overwrite {name}");
            assert!(!place.path("nowhere").exists(), "--overwrite {name}");
        }
    }
}

#[test]
fn linked_folders_inside_a_run_are_refused() {
    let place = Place::new();
    place.train("run", &[]);
    let (run, elsewhere) = (place.text("run"), place.path("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    for mine in ["mine.svg", "mine.png", "events.out.tfevents.1.mine"] {
        fs::write(elsewhere.join(mine), "mine").unwrap();
    }
    for name in ["plots", "tensorboard"] {
        symlink(&elsewhere, place.path("run").join(name)).unwrap();
    }
    refused(1, &["plot", &run], &["plots: expected a file or folder, found a symbolic link"]);
    refused(1, &["resume", &run, "--tensorboard"], &["tensorboard: expected", "found a symbolic link"]);
    // A figure goes where the user says, be that a link.
    json(&["plot", &run, "--out", &place.text("run/plots"), "--json"]);
    for figure in ["curves.svg", "curves.png", "gamma.svg", "gamma.png"] {
        let _ = fs::remove_file(elsewhere.join(figure));
    }
    let before = names(&elsewhere);
    place.train("run", &["--overwrite"]);
    assert_eq!(names(&elsewhere), before);
}

#[test]
fn files_of_other_programs_are_kept() {
    let place = Place::new();
    place.train("run", &[]);
    for name in ["model.part", "page.part", "run/checkpoint.part", "run/config.part"] {
        fs::write(place.path(name), "mine").unwrap();
    }
    json(&["export", &place.text("run"), "--onnx", &place.text("model.onnx"), "--json"]);
    json(&["report", &place.text("run"), "--out", &place.text("page.html"), "--json"]);
    json(&["resume", &place.text("run"), "--json"]);
    place.train("run", &["--overwrite"]);
    for name in ["model.part", "page.part", "run/checkpoint.part", "run/config.part"] {
        assert_eq!(fs::read_to_string(place.path(name)).unwrap(), "mine", "{name}");
    }
    // What a killed process left is removed with the next one.
    fs::write(place.path("run/checkpoint.safetensors.0123456789ab.part"), "half").unwrap();
    json(&["resume", &place.text("run"), "--json"]);
    assert!(!names(&place.path("run")).iter().any(|name| name.starts_with("checkpoint.safetensors.")));
    assert!(!place.path("run/writer.json").exists());
}

#[test]
fn a_file_that_fixnet_did_not_write_is_replaced_only_where_that_is_asked_for() {
    let place = Place::new();
    place.train("run", &[]);
    let (run, own) = (place.text("run"), place.text("own"));
    for flag in ["--onnx", "--packed", "--weights", "--torch", "--samples", "--out"] {
        let command = if flag == "--out" { "report" } else { "export" };
        let call = |more: &[&'static str]| [&[command, &run, flag, &own, "--json"][..], more].concat();
        fs::write(&own, "<!DOCTYPE html><p>fixnet is mine").unwrap();
        refused(2, &call(&[]), &["own: expected a new file or one that fixnet wrote", "--force"]);
        assert_eq!(fs::read_to_string(&own).unwrap(), "<!DOCTYPE html><p>fixnet is mine");
        json(&call(&["--force"]));
        // Its own it writes again.
        json(&call(&[]));
    }
}

#[test]
fn after_a_power_cut_the_recipe_is_that_of_the_checkpoint() {
    let place = Place::new();
    let expected = place.train("run", &[]);
    let (run, config) = (place.text("run"), place.path("run/config.toml"));
    let whole = fs::read_to_string(&config).unwrap();
    let (last, previous) = ("run/checkpoint.safetensors", "run/checkpoint.previous.safetensors");
    let [last, previous] = [last, previous].map(|name| place.path(name));
    for left in [Some(vec![]), Some(vec![0; 4096]), None] {
        fs::copy(&previous, &last).unwrap();
        match &left {
            Some(bytes) => fs::write(&config, bytes).unwrap(),
            None => fs::remove_file(&config).unwrap(),
        }
        for args in [&["verify", &run][..], &["eval", &run], &["plot", &run], &["report", &run], &["summary", &run]] {
            json(&[args, &["--json"]].concat());
        }
        let out = fixnet(&["resume", &run, "--json"]);
        assert!(
            stderr(&out).contains("config.toml: missing or empty; the recipe in the checkpoint"),
            "{}",
            stderr(&out)
        );
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(found["digest"], expected["digest"]);
        assert_eq!(fs::read_to_string(&config).unwrap(), whole);
    }
    // Without a checkpoint there is no recipe to take.
    for path in [last, previous] {
        fs::remove_file(path).unwrap();
    }
    fs::write(&config, "").unwrap();
    refused(1, &["plot", &run], &["config.toml: expected a recipe, found an empty file"]);
}

#[test]
fn no_output_takes_the_place_of_a_file_of_a_run() {
    let place = Place::new();
    place.train("run", &[]);
    let run = place.text("run");
    let weights = place.text("weights.safetensors");
    json(&["export", &run, "--weights", &weights, "--json"]);
    json(&["plot", &run, "--json"]);
    json(&["report", &run, "--json"]);
    json(&["report", &run, "--out", &place.text("run/report.html"), "--json"]);
    let snapshot = || {
        let files = names(&place.path("run")).into_iter().filter(|name| name != "plots");
        files.map(|name| fs::read(place.path("run").join(&name)).unwrap()).collect::<Vec<_>>()
    };
    let before = snapshot();
    // By another path, in another spelling, and where there is none yet.
    symlink(place.path("run"), place.path("link")).unwrap();
    let own = [
        "run/checkpoint.safetensors",
        "run/checkpoint.previous.safetensors",
        "run/config.toml",
        "run/metrics.jsonl",
        "run/digests.jsonl",
        "run/processes.json",
        "run/curves.svg",
        "run/start.safetensors",
        "run/lock",
        "run/writer.json",
        "link/checkpoint.safetensors",
        "run/../run/checkpoint.safetensors",
        "run/Checkpoint.SafeTensors",
        "run/plots/curves.svg",
    ];
    for name in own {
        let out = place.text(name);
        let words = ["found one of a run"];
        for kind in ["--onnx", "--packed", "--weights", "--samples"] {
            refused(2, &["export", &run, kind, &out], &words);
        }
        refused(2, &["report", &run, "--out", &out], &words);
        refused(2, &["import", &weights, "--model", "mlp:8", "--input", "8x8x1", "--out", &out], &words);
    }
    refused(2, &["export", &run, "--onnx", &place.text("run/report.html")], &["found one of a run"]);
    refused(2, &["plot", &run, "--out", &run], &["curves.svg", "found one of a run"]);
    assert!(snapshot() == before);
    // Nor that of what is read, or of another output.
    let import = ["import", &weights, "--model", "mlp:8", "--input", "8x8x1", "--out"];
    refused(2, &[&import[..], &[&weights]].concat(), &["weights.safetensors", "found the one that is read"]);
    let (x, y) = (place.text("x"), place.text("run/../x"));
    refused(2, &["export", &run, "--onnx", &x, "--packed", &y], &["a file for each output"]);
    // Beside them there is room.
    json(&["export", &run, "--onnx", &place.text("run/mine.onnx"), "--json"]);
}

#[test]
fn a_checkpoint_that_cannot_be_opened_is_kept() {
    let place = Place::new();
    place.train("run", &[]);
    let run = place.text("run");
    let checkpoint = place.path("run/checkpoint.safetensors");
    let whole = fs::read(&checkpoint).unwrap();
    fs::remove_file(&checkpoint).unwrap();
    // Nobody can open a link to itself.
    symlink("checkpoint.safetensors", &checkpoint).unwrap();
    let before = names(&place.path("run"));
    for args in [["resume", &run], ["eval", &run], ["export", &run]] {
        let more: &[&str] = if args[0] == "export" { &["--onnx", &place.text("x.onnx")] } else { &[] };
        let words = ["checkpoint.safetensors: could not be read", "may be whole", "checkpoint.previous.safetensors"];
        refused(1, &[&args[..], more].concat(), &words);
    }
    place.refused("run", &[], &["found one"]);
    assert_eq!(names(&place.path("run")), before);
    fs::remove_file(&checkpoint).unwrap();
    fs::write(&checkpoint, whole).unwrap();
    assert_eq!(json(&["verify", &run, "--json"])["equal"], true);
}

#[test]
fn a_folder_is_a_run_by_what_only_fixnet_writes() {
    let place = Place::new();
    // Files of others, whatever their names are.
    let others: [&[(&str, &str)]; 4] = [
        &[("lock", "mine"), ("config.toml", "mine = true\n"), ("plots/fig.png", "png"), ("report.html", "mine")],
        &[("lock", ""), ("config.toml", "mine = true\n")],
        &[("lock", ""), ("config.toml", "name = \"mine\"\nbits = \"4/4/4\"\nepochs = 1\n")],
        &[("lock", ""), ("writer.json", "{ \"name\": \"a novelist\" }"), ("metrics.jsonl", "{}\n")],
    ];
    for (i, files) in others.into_iter().enumerate() {
        let folder = place.path(&format!("mine{i}"));
        for (name, text) in files {
            fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            fs::write(folder.join(name), text).unwrap();
        }
        place.refused(&format!("mine{i}"), &[], &["which no run of fixnet wrote", "--overwrite"]);
        for (name, text) in files {
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), *text);
        }
        place.train(&format!("mine{i}"), &["--overwrite"]);
    }
    // A lock of someone else is not written to.
    fs::create_dir(place.path("locked")).unwrap();
    fs::write(place.path("locked/lock"), "mine").unwrap();
    place.train("locked", &[]);
    assert_eq!(fs::read_to_string(place.path("locked/lock")).unwrap(), "mine");
    // Runs that were killed before their first checkpoint: by this version, and by one without marks.
    let expected = place.train("run", &[]);
    for (name, mark) in [("killed", true), ("old", false)] {
        let folder = place.path(name);
        fs::create_dir(&folder).unwrap();
        for name in ["config.toml", "digests.jsonl", "lock"] {
            fs::copy(place.path("run").join(name), folder.join(name)).unwrap();
        }
        fs::write(folder.join("metrics.jsonl"), "").unwrap();
        if mark {
            let mark = r#"{"fixnet":"0.1.0","host":"h","pid":1,"token":"t"}"#;
            fs::write(folder.join("writer.json"), mark).unwrap();
            // Killed while the recipe was written.
            fs::write(folder.join("config.toml.0123456789ab.part"), "half").unwrap();
            fs::remove_file(folder.join("config.toml")).unwrap();
        }
        assert_eq!(place.train(name, &[])["digest"], expected["digest"]);
        assert_eq!(names(&folder), names(&place.path("run")));
    }
}

/// As where a file system has no locks, so that another process could begin.
#[test]
fn a_process_stops_when_another_one_writes_its_folder() {
    let place = Place::new();
    let run = place.path("run");
    let args = place.args("run", &["--epochs", "1000000"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count() < 3 {
        assert!(child.try_wait().unwrap().is_none());
        sleep(Duration::from_millis(2));
    }
    fs::write(run.join("new"), r#"{"fixnet":"0.1.0","host":"elsewhere\u001b[2J","pid":77,"token":"t"}"#).unwrap();
    fs::rename(run.join("new"), run.join("writer.json")).unwrap();
    let out = child.wait_with_output().unwrap();
    let text = stderr(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains(r"process 77 on elsewhere\u001b[2J has begun to write to this folder"), "{text}");
    assert!(run.join("writer.json").exists(), "the mark of the other process stays");
    json(&["inspect", run.to_str().unwrap(), "--json"]);
}

/// timeout(1) signals a process and then its group.
#[test]
fn a_request_that_arrives_twice_saves() {
    let place = Place::new();
    let run = place.text("run");
    for (i, name) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let train = place.args("run", &["--epochs", "1000000"]);
        let resume = ["resume", &run, "--json"].map(String::from).to_vec();
        let args = if i == 0 { train } else { resume };
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let metrics = || fs::read_to_string(place.path("run/metrics.jsonl")).unwrap_or_default().lines().count();
        let before = metrics();
        while metrics() < before + 3 {
            assert!(child.try_wait().unwrap().is_none());
            sleep(Duration::from_millis(2));
        }
        let kill = format!("kill -{name} {0}; kill -{name} {0}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().is_ok());
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(130), "{}", stderr(&out));
        assert!(stderr(&out).contains("and saved; go on with"), "{}", stderr(&out));
    }
}

/// The text files in a folder and those below.
fn texts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else if fs::read_to_string(&path).is_ok() {
            found.push(path);
        }
    }
    found
}

#[test]
fn no_name_commands_the_terminal() {
    let place = Place::new();
    let path = place.text("x.safetensors");
    // A number that no network has, so that messages name the tensor.
    let array = fixnet::autograd::Array::F32(fixnet::tensor::Tensor::scalar(f32::NAN));
    let metadata = BTreeMap::from([("k\u{1b}[2J\n".to_string(), "v\u{1b}[2J\r".to_string())]);
    TensorFile::save(Path::new(&path), &[("x\u{1b}]0;title\u{7}\nhidden".into(), array)], &metadata).unwrap();
    let recipe = place.path("n.toml");
    fs::write(&recipe, "name = \"a\\u001b[31mb\"\n[model]\nname = \"mlp:4\"\n[run]\nepochs = 1\nbatch_size = 3000\n")
        .unwrap();
    for class in ["\u{1b}[31mA", "b"] {
        fs::create_dir_all(place.path("d").join(class)).unwrap();
        fs::write(place.path("d").join(class).join("x.png"), "none").unwrap();
    }
    let (data, odd) = (format!("folder:{}", place.text("d")), place.text("odd\u{9b}31m"));
    let (recipe, new, packed) = (recipe.to_str().unwrap(), place.text("new"), place.text("p\u{1b}.onnx"));
    let (grid, plots, page) = (place.text("grid"), place.text("plots\u{1b}"), place.text("\u{1b}.html"));
    let compare = ["compare", recipe, "--seeds", "1,2", "--out", &grid];
    assert!(fixnet(&compare).status.success());
    let calls: [&[&str]; 13] = [
        &["inspect", &path],
        &["eval", &path],
        &["train", recipe, "--out", &odd],
        &["train", "mlp-digits", "--data", &data, "--out", &new],
        &["train", "mlp-digits", "--init", &path, "--out", &new],
        &["export", &odd, "--onnx", &packed],
        &["report", &odd],
        &["plot", &odd],
        &["report", &odd, &odd, "--out", &page],
        &["plot", &odd, &grid, "--out", &plots],
        &["eval", "nowhere\u{1b}[2J"],
        &["train", "digits", "--epochs", "\u{1b}[2J"],
        &["summary", "digits", "--bits", "\u{1b}[2J"],
    ];
    for args in calls {
        let out = fixnet(args);
        let text = String::from_utf8([out.stdout.clone(), out.stderr.clone()].concat()).unwrap();
        assert!(text.contains(r"\u001b") || text.contains(r"\u009b"), "{args:?}: {text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{args:?}: {text:?}");
    }
    let text = String::from_utf8(fixnet(&["inspect", &path]).stdout).unwrap();
    assert!(text.contains(r"x\u001b]0;title\u0007\u000ahidden") && text.contains(r"k\u001b[2J\u000a: v"), "{text}");
    // Nor does a name in a text file that somebody looks at there.
    let mut written = texts(place.folder.path());
    for end in ["toml", "jsonl", "json", "svg", "html", "csv"] {
        assert!(written.iter().any(|file| file.extension().is_some_and(|e| e == end)), "{end}");
    }
    written.retain(|file| fs::read_to_string(file).unwrap().contains(fixnet::train::text::commands));
    // A data set of bytes that are text by chance.
    written.retain(|file| !file.to_string_lossy().ends_with("ubyte"));
    assert!(written.is_empty(), "{written:?}");
    // JSON has the same values.
    let found = json(&["inspect", &path, "--json"]);
    assert_eq!(found["tensors"][0]["name"], "x\u{1b}]0;title\u{7}\nhidden");
    assert_eq!(json(&["eval", &odd, "--json"])["checkpoint"], format!("{odd}/checkpoint.safetensors"));
}

/// Every file takes its name and is opened in `fixnet_files`, where power cuts, links, pipes and lengths are thought of.
#[test]
fn there_is_one_writer_and_one_reader_of_files() {
    let calls = ["fs::write(", "fs::rename(", "fs::copy(", "File::create(", "File::create_new(", "set_len("];
    let opens = [".append(true)", ".write(true)", ".create(true)", ".create_new(true)"];
    let others = ["remove_file(", "hard_link(", "create_dir", "symlink("];
    let reads = ["File::open(", "fs::read(", "fs::read_to_string(", ".read(true)"];
    let calls = [&calls[..], &opens, &others, &reads].concat();
    // `EventFile::create` is another function.
    let of_a_longer_name = |code: &str| code.ends_with(|c: char| c.is_alphanumeric());
    let has = |code: &str, call: &str| {
        let mut found = code.match_indices(call);
        found.any(|(at, _)| !call.starts_with("File") || !of_a_longer_name(&code[..at]))
    };
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut folders: Vec<PathBuf> = fs::read_dir(crates).unwrap().map(|e| e.unwrap().path().join("src")).collect();
    let (mut sources, mut found) = (0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                sources += 1;
                let text = fs::read_to_string(&path).unwrap();
                let (code, tests) = text.split_once("\nmod tests {").unwrap_or((&text, ""));
                let behind = tests.lines().find(|line| line.starts_with(|c: char| c.is_alphabetic()));
                assert_eq!(behind, None, "tests are the end of {}", path.display());
                found.extend(calls.iter().filter(|call| has(code, call)).map(|call| (path.clone(), *call)));
            }
        }
    }
    assert!(sources > 100, "{sources}");
    // What the system tells of this process is no input file.
    let known = ["files/src/lib.rs", "files/src/input_file.rs", "cli/src/memory.rs", "cli/src/interrupt.rs"];
    found.retain(|(path, _)| !known.iter().any(|known| path.ends_with(known)));
    assert!(found.is_empty(), "{found:?}");
}
