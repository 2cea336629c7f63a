//! Bad input gives one clear sentence and a non-zero exit, never a panic, and leaves earlier files as they are.

mod common;

use common::{fixnet, idx, refused, stderr, tiny};

#[test]
fn settings() {
    let out = tempfile::tempdir().unwrap();
    let folder = out.path().to_str().unwrap();
    let with = |flags: &[&str], words: &[&str]| {
        let mut args = vec!["train", "digits", "--out", folder];
        args.extend(flags);
        refused(2, &args, words);
    };
    with(&["--bits", "9/4/4"], &["9/4/4", "1 to 8"]);
    with(&["--bits", "4/4"], &["4/4", "three widths"]);
    with(&["--gradient-rule", "best"], &["best", "min-max"]);
    with(&["--gradient-rule", "mse:0"], &["mse:0", "mse[:EVERY]"]);
    with(&["--gradient-rounding", "up"], &["up", "stochastic or nearest"]);
    with(&["--scheme", "pact"], &["pact", "lbt or trs"]);
    with(&["--weight-scales", "group"], &["group", "tensor or channel"]);
    with(&["--scales", "free"], &["free", "learned or fixed"]);
    with(&["--model", "edsr"], &["edsr", "classifier"]);
    with(&["--optimizer", "lion"], &["lion", "sgdt"]);
    with(&["--set", "transition.rule=quick", "--optimizer", "adamt"], &["quick", "multiplicative"]);
    with(&["--set", "talr_rule=damped"], &["talr_rule", "transition.rule"]);
    with(&["--batch-size", "0"], &["batch_size", "at least 1"]);
    with(&["--threads", "0"], &["--threads", "1 to 1024", "found 0"]);
    with(&["--threads", "100000"], &["--threads", "1 to 1024", "found 100000"]);
    with(&["--epochs", "1", "--set", "run.epochs=3"], &["epochs", "found both"]);
    with(&["--seed", "9223372036854775808"], &["9223372036854775807"]);
    // Keys without influence here are held to their ranges as well.
    with(&["--set", "transition.rule=quick"], &["quick", "multiplicative"]);
    with(&["--set", "transition.factor=-1"], &["transition-rate factor", "-1"]);
    with(&["--set", "optimizer.betas=[0.9, 0.99, 0.9]", "--optimizer", "adam"], &["betas", "two numbers"]);
    with(&["--data", "imagenet:x"], &["imagenet"]);
    with(&["--lr", "-1"], &["learning rate"]);
    if cfg!(target_arch = "x86_64") {
        with(&["--isa", "neon"], &["neon", "scalar"]);
    }
    with(&["--isa", "sse9"], &["sse9", "no such instruction set"]);
    refused(2, &["train", "nonsense"], &["nonsense", "photo-digits"]);
    for command in ["eval", "resume", "inspect", "export", "verify", "plot"] {
        let more: &[&str] = if command == "export" { &["--onnx", "x.onnx"] } else { &[] };
        refused(
            1,
            &[&[command, "no/such"], more].concat(),
            &["no/such: expected the folder of a run, found no such folder"],
        );
    }
    let grid = out.path().join("g.toml");
    std::fs::write(&grid, "recipes = ['digits']\nbits = ['4/4/4', 3]\n").unwrap();
    refused(2, &["compare", "--grid", grid.to_str().unwrap()], &["g.toml", "bits"]);
    std::fs::write(&grid, "recipes = ['digits']\nseed = 1\nseeds = '2..3'\n").unwrap();
    refused(1, &["compare", "--grid", grid.to_str().unwrap()], &["g.toml", "seed", "found them twice"]);
    for command in ["eval", "resume", "inspect"] {
        refused(1, &[command, folder], &[folder, "checkpoint.safetensors", "fixnet train"]);
    }
    let recipe = out.path().join("r.toml");
    std::fs::write(&recipe, "[run]\nepoch = 3\n").unwrap();
    refused(1, &["train", recipe.to_str().unwrap()], &["r.toml", "epoch"]);
    std::fs::write(&recipe, "[optimizer]\nlr = -1.0\n").unwrap();
    refused(1, &["train", recipe.to_str().unwrap()], &["r.toml", "learning rate"]);
    std::fs::write(&recipe, "# nothing\n").unwrap();
    refused(1, &["train", recipe.to_str().unwrap()], &["r.toml", "at least one key"]);
}

/// A batch norm over features needs two rows: known before an epoch, not after it.
#[test]
fn a_last_batch_of_one_image() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 17);
    let (data, out) = (format!("mnist:{}", folder.path().display()), folder.path().join("run"));
    let train = |flags: &[&'static str]| {
        let fixed = ["train", "mlp-digits", "--epochs", "1", "--data", &data, "--overwrite", "--out"];
        [&fixed[..], &[out.to_str().unwrap()], flags].concat().into_iter().map(String::from).collect::<Vec<_>>()
    };
    let call = |args: &[String], code: i32, words: &[&str]| {
        refused(code, &args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    for size in ["1", "4", "8", "16"] {
        call(&train(&["--model", "mlp:8", "--batch-size", size]), 1, &["batch_size", "`bn1`", "17 samples"]);
    }
    call(&train(&["--model", "mlp:8", "--batch-size", "5"]), 0, &[]);
}

#[test]
fn settings_without_influence_are_told() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let (data, out) = (format!("mnist:{}", folder.path().display()), folder.path().join("run"));
    let run =
        ["train", "mlp-digits", "--model", "mlp:8", "--epochs", "1", "--data", &data, "--out", out.to_str().unwrap()];
    let more = ["--bits", "2/2/32", "--gradient-rule", "mse", "--set", "transition.scope=layer", "--scheme", "trs"];
    let text = stderr(&fixnet(&[&run[..], &more].concat()));
    assert!(text.contains("note: quantization.gradient_rule has no effect, since gradients are float"), "{text}");
    assert!(
        text.contains("note: transition.scope has no effect, since no weight is quantized, or the optimizer is"),
        "{text}"
    );
    assert!(!text.contains("scheme has no effect"), "{text}");
}

#[test]
fn an_unwritable_folder_is_named_before_training() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    refused(1, &["train", "digits", "--out", file.join("run").to_str().unwrap()], &["file"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn broken_data_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let data = format!("mnist:{}", path.display());
    let out = path.join("out");
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("train-images-idx3-ubyte", idx(0x803, &[8, 8, 8], &[0; 100]), "train-images"),
        ("train-images-idx3-ubyte", idx(0x999, &[8, 8, 8], &[0; 512]), "train-images"),
        ("train-images-idx3-ubyte", idx(0x803, &[0, 8, 8], &[]), "train-images"),
        ("train-labels-idx1-ubyte", idx(0x801, &[7], &[0; 7]), "train"),
        ("train-labels-idx1-ubyte", idx(0x801, &[8], &[0, 1, 0, 11, 0, 1, 0, 1]), "11"),
        ("t10k-labels-idx1-ubyte", vec![1, 2, 3], "t10k-labels"),
    ];
    for (name, bytes, word) in cases {
        tiny(path, 8);
        std::fs::write(path.join(name), bytes).unwrap();
        refused(1, &["train", "mnist", "--data", &data, "--out", out.to_str().unwrap()], &[word]);
    }
    let cifar = path.join("cifar");
    std::fs::create_dir(&cifar).unwrap();
    let data = format!("cifar10:{}", cifar.display());
    refused(1, &["train", "cifar10-resnet20", "--data", &data], &["cifar"]);
    std::fs::write(cifar.join("data_batch_1.bin"), vec![0u8; 3072]).unwrap();
    std::fs::write(cifar.join("test_batch.bin"), vec![0u8; 3073]).unwrap();
    refused(1, &["train", "cifar10-resnet20", "--data", &data], &["data_batch_1.bin"]);
    std::fs::write(cifar.join("data_batch_1.bin"), vec![77u8; 3073]).unwrap();
    refused(1, &["train", "cifar10-resnet20", "--data", &data], &["data_batch_1.bin", "77"]);
}

#[test]
fn a_run_that_diverges_stops_and_leaves_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let data = format!("mnist:{}", folder.path().display());
    let out = folder.path().join("run");
    let run = |lr: &'static str| {
        vec!["train", "mlp-digits", "--model", "mlp:8", "--data", &data, "--out", out.to_str().unwrap(), "--lr", lr]
            .into_iter()
            .chain(["--batch-size", "4", "--epochs", "3", "--json"])
            .collect::<Vec<_>>()
    };
    let good = fixnet(&run("0.05"));
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let last = String::from_utf8_lossy(&good.stdout).lines().last().unwrap().to_string();
    let json: serde_json::Value = serde_json::from_str(&last).unwrap();
    for key in ["recipe", "bits", "seed", "threads", "isa", "epochs", "train_loss", "test_accuracy", "seconds"] {
        assert!(!json[key].is_null(), "{key}");
    }
    assert!(json["images_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(json["digest"].as_str().unwrap().len(), 64);
    for file in ["config.toml", "metrics.jsonl", "curves.svg", "checkpoint.safetensors"] {
        assert!(out.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    let evaluated = fixnet(&["eval", out.to_str().unwrap(), "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    assert_eq!(found["accuracy"], json["test_accuracy"]);
    let before = std::fs::read(out.join("checkpoint.safetensors")).unwrap();
    refused(1, &run("1e38"), &["run: expected no earlier run, found one"]);
    assert_eq!(std::fs::read(out.join("checkpoint.safetensors")).unwrap(), before);
    refused(1, &[&run("1e38")[..], &["--overwrite"]].concat(), &["not finite", "stopped at step"]);
    let evaluated = fixnet(&["eval", out.to_str().unwrap(), "--json"]);
    assert!(evaluated.status.success(), "the last checkpoint before is whole");
}

#[test]
fn info_and_kernels_speak_json() {
    let info: serde_json::Value = serde_json::from_slice(&fixnet(&["info", "--json"]).stdout).unwrap();
    assert!(info["isas"].as_array().unwrap().iter().any(|i| i == "scalar"));
    let out = fixnet(&["kernels", "16", "16", "16", "--bits", "4", "--json"]);
    let rows: Vec<serde_json::Value> =
        String::from_utf8_lossy(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.iter().filter(|r| r["chosen"] == true).count(), 1);
    for key in ["kernel", "isa", "m", "n", "k", "bits", "gmacs", "chosen"] {
        assert!(rows.iter().all(|r| !r[key].is_null()), "{key}");
    }
}

/// A pipe in the place of a file is refused and never waited for, whichever reader comes to it.
#[cfg(unix)]
#[test]
fn pipes_in_the_places_of_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path.to_str().unwrap().to_string()
    };
    tiny(folder.path(), 16);
    let (data, run) = (format!("mnist:{}", folder.path().display()), at("run"));
    let train = ["train", "digits", "--model", "mlp:4", "--epochs", "1", "--data", &data, "--out", &run];
    assert!(fixnet(&train).status.success());
    let words = ["expected a regular file, found a named pipe"];
    let new = at("new");
    let with = |data: &str| refused(1, &["train", "digits", "--data", data, "--out", &new], &words);
    for (kind, name) in [
        ("npz:", "x.npz"),
        ("npz:", "arrays/x_train.npy"),
        ("mnist:", "mnist/train-images-idx3-ubyte"),
        ("cifar10:", "cifar10/data_batch_1.bin"),
        ("cifar100:", "cifar100/train.bin"),
        ("folder:", "images/a/1.png"),
    ] {
        let path = pipe(name);
        // The folder that the source is: of pairs the other file is asked for first.
        let place = match name.split_once('/') {
            Some((folder, _)) => at(folder),
            None => path,
        };
        for more in ["mnist/train-labels-idx1-ubyte", "cifar10/test_batch.bin", "cifar100/test.bin"] {
            if at(more).starts_with(&place) {
                pipe(more);
            }
        }
        with(&format!("{kind}{place}"));
    }
    let file = pipe("pipe");
    refused(1, &["train", &file], &words);
    refused(1, &["compare", "--grid", &file], &words);
    for args in [vec!["inspect", &file], vec!["eval", &file], vec!["import", &file, "--model", "lenet", "--out", &new]]
    {
        refused(1, &args, &words);
    }
    refused(1, &[&train[..], &["--overwrite", "--init", &file]].concat(), &words);
    for (name, commands) in [
        ("config.toml", &["plot", "resume"][..]),
        ("metrics.jsonl", &["plot", "resume", "report"]),
        ("digests.jsonl", &["verify"]),
    ] {
        let before = std::fs::read(folder.path().join("run").join(name)).unwrap();
        pipe(&format!("run/{name}"));
        for command in commands {
            refused(1, &[*command, &run], &words);
        }
        std::fs::remove_file(folder.path().join("run").join(name)).unwrap();
        std::fs::write(folder.path().join("run").join(name), before).unwrap();
    }
    pipe("run/checkpoint.safetensors");
    let _ = std::fs::remove_file(folder.path().join("run/checkpoint.previous.safetensors"));
    for command in ["eval", "summary", "resume", "verify"] {
        refused(1, &[command, &run], &words);
    }
    assert!(!std::path::Path::new(&new).exists());
}
