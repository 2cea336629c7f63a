//! A task, model, data source, gradient rule, update rule and schedule of another crate go through everything that the command does, at 4/4/4.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spots"));
    command.args(args);
    command
}

fn run(args: &[&str]) -> Output {
    let out = command(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// The JSON object on the last line of a command.
fn json(args: &[&str]) -> Value {
    let out = run(args);
    serde_json::from_str(String::from_utf8_lossy(&out.stdout).lines().last().unwrap()).unwrap()
}

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.toml");

#[test]
fn it_trains_is_killed_resumed_verified_reported_exported_and_packed() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let (whole, killed) = (place("whole"), place("killed"));
    let trained = json(&["train", RECIPE, "--out", &whole, "--json"]);
    let digest = trained["digest"].as_str().unwrap();
    let distance = trained["test_distance"].as_f64().unwrap();
    assert!(distance < 2.5, "a guess at the middle is 3.8 pixels off: {trained}");

    // Killed without a warning, once there is a checkpoint of a step: the one of the beginning is the previous one then.
    let mut child = command(&["train", RECIPE, "--out", &killed, "--checkpoint-every", "5steps", "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let previous = Path::new(&killed).join("checkpoint.previous.safetensors");
    while !previous.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = json(&["resume", &killed, "--json"]);
    assert_eq!(resumed["digest"], digest);

    run(&["verify", &whole, "--steps", "20", "--isa", "scalar"]);
    let evaluated = json(&["eval", &whole, "--json"]);
    assert_eq!(evaluated["distance"], trained["test_distance"]);

    run(&["report", &whole]);
    let report = std::fs::read_to_string(Path::new(&whole).join("report.html")).unwrap();
    assert!(report.contains("Where the spots are") && report.contains("mean distance, pixels"));

    let (packed, onnx) = (place("net.fixnet"), place("net.onnx"));
    run(&["export", &whole, "--packed", &packed]);
    run(&["export", &whole, "--onnx", &onnx]);
    // Swish is a sigmoid and a product; what a runtime makes of such files is tested by scripts/onnx.
    let bytes = std::fs::read(&onnx).unwrap();
    for operation in ["Conv", "Sigmoid", "Mul", "Gemm"] {
        assert!(bytes.windows(operation.len()).any(|part| part == operation.as_bytes()), "{operation}");
    }
    let evaluated = json(&["eval", &packed, "--json"]);
    assert_eq!(evaluated["distance"], trained["test_distance"], "the packed network answers as the run does");

    // Rows and columns of two images, of the run and of the packed network.
    let images = place("x.npy");
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 16, 16), }\n";
    let pixels: Vec<u8> = (0..512).map(|i| if i % 256 == 70 { 255 } else { 20 }).collect();
    let array =
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &pixels[..]].concat();
    std::fs::write(&images, array).unwrap();
    let found = json(&["predict", &whole, &images, "--json"]);
    assert!(found["numbers"]["row"].is_f64() && found["numbers"]["column"].is_f64(), "{found}");
    assert_eq!(json(&["predict", &packed, &images, "--json"]), found);

    // Other data are refused, and the other kinds of things are named where one is unknown.
    let out = command(&["resume", &whole, "--data", "spots:128"]).output().unwrap();
    assert!(!out.status.success());
    let out = command(&["train", RECIPE, "--gradient-rule", "none"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("tail:SHARE"));
    let out = command(&["train", RECIPE, "--set", "optimizer.own={sharpness=true}"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("optimizer.own.sharpness: expected a number, found true"));
    let out = command(&["train", RECIPE, "--set", "optimizer.own={rho=1}"]).output().unwrap();
    assert!(String::from_utf8_lossy(&out.stderr).contains("optimizer.own.rho: expected a setting of lion"));
    let keys = run(&["recipes", "--keys"]);
    let keys = String::from_utf8_lossy(&keys.stdout).into_owned();
    for name in ["spots:COUNT", "spotnet[:WIDTH]", "tail:SHARE", "lion", "square-root"] {
        assert!(keys.contains(name), "{name}");
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let digest = |isa: &[&str], threads: &str| {
        let out = folder.path().join(format!("{}-{threads}", isa.concat()));
        let args = ["train", RECIPE, "--epochs", "1", "--optimizer", "liont", "--threads", threads, "--json", "--out"];
        json(&[&args[..], &[out.to_str().unwrap()], isa].concat())["digest"].clone()
    };
    let first = digest(&["--isa", "scalar"], "1");
    assert_eq!(digest(&["--isa", "scalar"], "3"), first);
    // The best that the machine has.
    assert_eq!(digest(&[], "2"), first);
}
