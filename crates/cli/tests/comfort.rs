//! What makes the command pleasant: pipes that close, help with examples, recipes, completions, exit codes, no colours and
//! no bar where none belong.

mod common;

use common::{command, fixnet, json, refused, stderr, tiny};
use std::process::Stdio;

fn stdout(args: &[&str]) -> String {
    let out = fixnet(args);
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// Standard error without the notes on the small data sets of these tests.
fn beside_notes(out: &std::process::Output) -> String {
    stderr(out).lines().filter(|line| !line.starts_with("note: mnist train: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let (data, out) = (format!("mnist:{}", folder.path().display()), folder.path().join("run"));
    let run = out.to_str().unwrap();
    let train = ["train", "mlp-digits", "--model", "mlp:8", "--epochs", "1", "--data", &data, "--out", run, "--quiet"];
    let calls: [&[&str]; 13] = [
        &train,
        &["resume", run, "--quiet"],
        &["eval", run],
        &["verify", run],
        &["inspect", run],
        &["report", run],
        &["inspect", run, "--json"],
        &["recipes"],
        &["recipes", "digits"],
        &["info"],
        &["kernels", "8", "8", "8"],
        &["completions", "bash"],
        &["train", "--help"],
    ];
    for args in calls {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", stderr(&out));
        assert_eq!(beside_notes(&out), "", "{args:?}");
    }
    // The exit code is that of the work, whether anybody reads or not.
    let digests = out.join("digests.jsonl");
    let tampered = std::fs::read_to_string(&digests).unwrap().replacen("digest\":\"", "digest\":\"0", 1);
    std::fs::write(&digests, tampered).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let found = command(&["verify", run]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((found.status.code(), stderr(&found)), (Some(1), String::new()));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let nobody_listens = command(&["eval", "nowhere"]).stderr(writer).stdout(Stdio::null()).status().unwrap();
    assert_eq!(nobody_listens.code(), Some(1));
    #[cfg(target_os = "linux")]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let out = command(&["recipes"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        assert!(stderr(&out).starts_with("error: standard output: No space left"), "{}", stderr(&out));
    }
}

/// A path need not be UTF-8, though JSON must.
#[cfg(target_os = "linux")]
#[test]
fn any_path_is_a_path() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let data = format!("mnist:{}", folder.path().display());
    let run = folder.path().join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
    let call = |args: &[&str], more: &[&str]| {
        let out = command(args).arg(&run).args(more).arg("--json").output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", stderr(&out));
        let last = String::from_utf8(out.stdout).unwrap().lines().last().unwrap().to_string();
        assert!(last.contains("odd-\u{fffd}"), "{args:?}: {last}");
    };
    call(&["train", "mlp-digits", "--model", "mlp:8", "--epochs", "1", "--data", &data, "--out"], &[]);
    for command in ["eval", "verify", "inspect", "report", "plot"] {
        call(&[command], &[]);
    }
    assert!(run.join("plots/curves.png").exists() && run.join("report.html").exists());
}

#[test]
fn help_teaches() {
    let top = stdout(&["--help"]);
    for words in ["Exit codes", "130", "FIXNET_ISA", "NO_COLOR", "fixnet train digits"] {
        assert!(top.contains(words), "{words}: {top}");
    }
    for name in [
        "train",
        "resume",
        "compare",
        "plot",
        "report",
        "verify",
        "eval",
        "inspect",
        "recipes",
        "info",
        "kernels",
        "completions",
    ] {
        assert!(top.contains(name), "{name}");
        let help = stdout(&[name, "--help"]);
        assert!(help.contains(&format!("Examples:\n  fixnet {name}")), "{help}");
    }
}

#[test]
fn recipes_can_be_read_and_used() {
    let list = stdout(&["recipes"]);
    let all = json(&["recipes", "--json"]);
    for recipe in all.as_array().unwrap() {
        let name = recipe["name"].as_str().unwrap();
        assert!(list.lines().any(|line| line.starts_with(name) && line.len() > 40), "{name}: {list}");
        assert_eq!(json(&["recipes", name, "--json"]), *recipe);
    }
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let mine = folder.path().join("mine.toml");
    let text = stdout(&["recipes", "mlp-digits"]).replace("mlp:512-512", "mlp:8");
    std::fs::write(&mine, text).unwrap();
    let data = format!("mnist:{}", folder.path().display());
    let out = folder.path().join("out");
    let (recipe, out) = (mine.to_str().unwrap(), out.to_str().unwrap());
    let done = fixnet(&["train", recipe, "--data", &data, "--out", out, "--epochs", "1"]);
    assert!(done.status.success(), "{}", stderr(&done));
    // Standard error is no terminal here: no bar, but a line an epoch for the log.
    let lines = beside_notes(&done);
    assert!(lines.starts_with("epoch   1  train loss ") && lines.lines().count() == 1, "{lines}");
    let quiet = fixnet(&["train", recipe, "--data", &data, "--out", out, "--epochs", "1", "--overwrite", "--quiet"]);
    assert_eq!(beside_notes(&quiet), "");
    assert!(String::from_utf8_lossy(&done.stdout).contains("recipe         mine at 4/4/4"));
    // A line a run of a grid.
    let (grid, set) = (folder.path().join("grid"), format!("data.source={data}"));
    let grid = ["compare", recipe, "--set", &set, "--epochs", "1", "--seeds", "1,2", "--out", grid.to_str().unwrap()];
    let lines = beside_notes(&fixnet(&grid));
    assert!(
        lines.lines().count() == 2 && lines.starts_with("1/2 mine-4-4-4-lbt-sgd") && lines.contains("\n2/2 mine"),
        "{lines}"
    );
    assert_eq!(beside_notes(&fixnet(&[&grid[..], &["--quiet"]].concat())), "");
    // A float network has no transitions: its twin is the optimizer itself, and the recipe of the run says so.
    let float = ["--bits", "32/32/32", "--optimizer", "sgdt", "--epochs", "1", "--overwrite"];
    let lines = stderr(&fixnet(&[&["train", recipe, "--data", &data, "--out", out], &float[..]].concat()));
    assert!(lines.contains("sgdt has no quantized weights to schedule at 32/32/32; sgd is used"), "{lines}");
    assert!(std::fs::read_to_string(format!("{out}/config.toml")).unwrap().contains("name = \"sgd\""));
    refused(2, &["recipes", "nonsense"], &["nonsense", "photo-digits"]);
}

#[test]
fn what_a_file_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let header = br#"{"__metadata__":{"format":"pt"},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]}}"#;
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header, &[0; 12]].concat()).unwrap();
    let name = path.to_str().unwrap();
    let found = json(&["inspect", name, "--json"]);
    let tensor = serde_json::json!({ "name": "w", "type": "BF16", "shape": [2, 3], "bytes": 12 });
    assert_eq!((&found["tensors"][0], &found["metadata"]["format"]), (&tensor, &"pt".into()));
    assert_eq!(found["checksum_compared"], false);
    let text = stdout(&["inspect", name]);
    for words in ["without a checksum", "format: pt", "BF16", "[2, 3]", "1 tensors, 6 numbers"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    std::fs::write(&path, b"PK\x03\x04 a zip file").unwrap();
    refused(1, &["inspect", name], &["w.safetensors", "expected a safetensors file, found a zip archive"]);
    refused(1, &["inspect", "nowhere.safetensors"], &["nowhere.safetensors"]);
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains("checkpoint-every") && script.contains("resume"), "{shell}");
    }
}

#[test]
fn exit_codes_and_colours() {
    refused(2, &[], &["Usage"]);
    refused(2, &["train"], &["expected a recipe", "--data KIND:PATH"]);
    refused(2, &["train", "digits", "--checkpoint-every", "soon"], &["--checkpoint-every", "500steps or 5min"]);
    refused(2, &["kernels", "0", "8", "8"], &["above 0"]);
    refused(2, &["kernels", "8", "8", "8", "--bits", "9"], &["9"]);
    refused(2, &["kernels", "1", "1", "4611686018427387904"], &["at most 268435456 elements"]);
    refused(2, &["summary", "digits", "--classes", "18446744073709551615"], &["1 to 65536 classes"]);
    refused(
        1,
        &["summary", "mlp-digits", "--input", "65536x65536x3", "--classes", "10"],
        &["fc1.weight", "[512, 12884901888]", "fewer or narrower layers"],
    );
    refused(2, &["completions", "dos"], &["dos"]);
    refused(1, &["verify", "nowhere"], &["nowhere", "expected the folder of a run"]);
    let help = |color: &str| {
        let out = command(&["--help"]).env("CLICOLOR_FORCE", "1").env(color, "1").output().unwrap();
        String::from_utf8_lossy(&out.stdout).contains('\u{1b}')
    };
    assert!(help("OTHER") && !help("NO_COLOR"));
}
