//! What is written to watch runs by: event files of TensorBoard, and the page of `fixnet report`.

mod common;

use common::{fixnet, json, refused, stderr, tiny};
use scraper::{Html, Selector};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Trains; the folder of the run.
fn train(folder: &Path, name: &str, more: &[&str]) -> String {
    let out = folder.join(name).to_str().unwrap().to_string();
    let done = fixnet(&[&["train", "digits", "--quiet", "--out", &out], more].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    out
}

/// The page, which must be without errors and need nothing but itself.
fn page(path: &Path) -> (String, Html) {
    let page = text(path);
    let html = Html::parse_document(&page);
    assert!(html.errors.is_empty(), "{:?}", html.errors);
    assert!(!page.contains("http://") && !page.contains("https://"), "an address");
    for attribute in ["src", "href"] {
        for element in html.select(&Selector::parse(&format!("[{attribute}]")).unwrap()) {
            let value = element.attr(attribute).unwrap();
            assert!(value.starts_with("data:") || value.starts_with('#'), "{attribute}={value}");
        }
    }
    for tag in ["iframe", "object", "embed", "link[rel=stylesheet]", "script[src]", "use", "image"] {
        assert!(html.select(&Selector::parse(tag).unwrap()).next().is_none(), "{tag}");
    }
    assert!(!page.contains("url(") && !page.contains("@import"), "a file of styles");
    (page, html)
}

fn all(html: &Html, selector: &str) -> Vec<String> {
    html.select(&Selector::parse(selector).unwrap()).map(|e| e.text().collect::<String>()).collect()
}

fn lines(run: &str, kind: &str) -> Vec<Value> {
    let log = text(&Path::new(run).join("metrics.jsonl"));
    log.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| line["kind"] == kind).collect()
}

#[test]
fn the_page_of_a_run_has_all_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = folder.path().join("mine.toml");
    fs::write(&recipe, "name = 'a <b> & \"c\"'\n[model]\nname = 'mlp:32-32'\n[run]\nepochs = 2\n").unwrap();
    let more = ["--optimizer", "sgdt", "--set", "transition.scope=layer", "--threads", "2", "--isa", "scalar"];
    let out = folder.path().join("a <run>").to_str().unwrap().to_string();
    let done = fixnet(&[&["train", recipe.to_str().unwrap(), "--quiet", "--out", &out], &more[..]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let told = json(&["report", &out, "--json"]);
    let path = Path::new(&out).join("report.html");
    assert_eq!((told["report"].as_str(), told["runs"].as_u64()), (path.to_str(), Some(1)));
    assert_eq!(told["notes"], serde_json::json!([]));
    let (page, html) = page(&path);
    assert_eq!(all(&html, "h1"), ["a <run>"]);
    assert!(page.contains("a &lt;run&gt;") && !page.contains("<b>&") && !page.contains("a <b>"), "text is escaped");
    // Results, those of `eval`.
    let eval = json(&["eval", &out, "--json"]);
    let tiles = all(&html, ".tiles dd").join("\n");
    let right = (eval["accuracy"].as_f64().unwrap() * 1000.0).round() as u64;
    for value in [
        format!("{:.2} %", 100.0 * eval["accuracy"].as_f64().unwrap()),
        format!("{right} of 1,000"),
        format!("{:.4}", eval["loss"].as_f64().unwrap()),
        "4/4/4".into(),
    ] {
        assert!(tiles.contains(&value), "{value} is not in {tiles}");
    }
    // The numbers of every epoch.
    let epochs = lines(&out, "epoch");
    assert_eq!(epochs.len(), 2);
    let rows = all(&html, "[aria-label='Numbers of the epochs'] tbody tr");
    assert_eq!(rows.len(), epochs.len());
    for (row, line) in rows.iter().zip(&epochs) {
        for key in ["train_loss", "test_loss"] {
            assert!(row.contains(&format!("{:.4}", line[key].as_f64().unwrap())), "{key}: {row}");
        }
    }
    // Every curve with every point.
    let titles = all(&html, ".chart h4");
    let expected = [
        "Loss",
        "Accuracy",
        "Loss of a batch",
        "Learning rate",
        "Gamma",
        "Transition rate",
        "Transition rate of each layer",
        "Transition-adaptive learning rate",
        "K of each layer",
        "U of each layer",
    ];
    assert_eq!(titles, expected);
    let charts: Vec<Value> = html
        .select(&Selector::parse("svg[data-chart]").unwrap())
        .map(|svg| serde_json::from_str(svg.attr("data-chart").unwrap()).unwrap())
        .collect();
    let steps = lines(&out, "step");
    let points = |chart: usize, label: &str| -> Vec<(u64, f64)> {
        let lines = charts[chart]["lines"].as_array().unwrap();
        let line = lines.iter().find(|line| line["label"] == label).unwrap_or_else(|| panic!("{label}"));
        let point = |p: &Value| (p[0].as_f64().unwrap() as u64, p[1].as_f64().unwrap());
        line["points"].as_array().unwrap().iter().map(point).collect()
    };
    let same = |found: Vec<(u64, f64)>, expected: Vec<(u64, f64)>| {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(&expected) {
            assert!(a.0 == b.0 && (a.1 - b.1).abs() <= 1e-4 * b.1.abs(), "{a:?} {b:?}");
        }
    };
    let number = |line: &Value, path: &str| line.pointer(path).and_then(Value::as_f64).unwrap();
    let of = |lines: &[Value], x: &str, path: &str| -> Vec<_> {
        lines.iter().map(|line| (line[x].as_u64().unwrap(), number(line, path))).collect()
    };
    same(points(0, "test"), of(&epochs, "epoch", "/test_loss"));
    same(points(1, "training"), of(&epochs, "epoch", "/train_accuracy"));
    same(points(3, "rate"), of(&steps, "step", "/lr"));
    for (chart, label, path) in [
        (4, "fc1", "/gamma/fc1"),
        (5, "K, running", "/running_transition_rate"),
        (5, "R, target", "/target_transition_rate"),
        (6, "fc2", "/layer_transition_rate/fc2"),
        (7, "U", "/talr"),
        (8, "fc2", "/layers/fc2/running_transition_rate"),
        (9, "fc1", "/layers/fc1/talr"),
    ] {
        same(points(chart, label), of(&steps, "step", path));
    }
    // The confusion matrix counts every image.
    let titles = all(&html, ".matrix title");
    assert_eq!(titles.len(), 100);
    let counts =
        titles.iter().map(|t| t.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 1000);
    // Images, right and wrong, whose addresses are PNG files.
    let images: Vec<_> = html.select(&Selector::parse(".samples img").unwrap()).collect();
    assert!((13..=24).contains(&images.len()), "{}", images.len());
    assert!(images.iter().all(|i| i.attr("src").unwrap().starts_with("data:image/png;base64,iVBORw0KGgo")));
    assert!(images.iter().all(|i| i.attr("alt").unwrap().contains(" %")));
    // Layers, settings, digest, version, instruction set and threads.
    let summary = json(&["summary", &out, "--json"]);
    let table = all(&html, "[aria-label=Layers] tr").join("\n");
    let total = summary["parameters"].as_u64().unwrap();
    assert!(table.contains(&format!("{},{:03}", total / 1000, total % 1000)), "{total}: {table}");
    assert!(["fc1", "fc2", "4/4/4", "32/32/32"].iter().all(|word| table.contains(word)), "{table}");
    assert_eq!(all(&html, "pre"), [text(&Path::new(&out).join("config.toml"))]);
    let digests = text(&Path::new(&out).join("digests.jsonl"));
    let last: Value = serde_json::from_str(digests.lines().last().unwrap()).unwrap();
    assert!(all(&html, ".facts").join("").contains(last["digest"].as_str().unwrap()));
    let processes = all(&html, "[aria-label=Processes] tbody td");
    assert_eq!(processes[..4], [env!("CARGO_PKG_VERSION"), "scalar", "2", "0–188"]);
    assert_eq!(processes[4], "12,000");
}

#[test]
fn runs_are_compared_and_what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 24);
    let data = format!("mnist:{}", folder.path().display());
    let short = ["--epochs", "3", "--batch-size", "8", "--data", &data, "--model", "mlp:8", "--validation", "0.25"];
    let a = train(folder.path(), "a", &short);
    let b = train(folder.path(), "b", &[&short[..], &["--bits", "32/32/32", "--seed", "2"]].concat());
    // Diagnostics are shown where they are there.
    let diagnostics = r#"{"kind":"head","step":0,"every":5,"layers":["fc1"]}
{"kind":"step","step":5,"layers":{"fc1":{"weight":{"quantized_step":0.01,"latent_step":0.02,"distance":0.2},"gradient":{"error":0.003,"large_error":0.004}}}}
{"kind":"step","step":9,"layers":{"fc1":{"weight":{"quantized_step":0.02,"latent_step":0.02,"distance":0.2},"gradient":null}}}
{"kind":"st"#;
    fs::write(Path::new(&a).join("diagnostics.jsonl"), diagnostics).unwrap();
    let out = folder.path().join("both.html");
    let out = out.to_str().unwrap();
    let done = fixnet(&["report", &a, &b, "--out", out]);
    assert!(done.status.success() && String::from_utf8_lossy(&done.stdout).trim() == out, "{}", stderr(&done));
    let (_, html) = page(Path::new(out));
    assert_eq!(all(&html, "h1"), ["2 runs compared"]);
    assert_eq!(all(&html, "h2.run"), ["a", "b"]);
    let settings = all(&html, "[aria-label='Settings that differ'] tbody th");
    assert_eq!(settings, ["quantization.bits", "run.seed"]);
    assert_eq!(all(&html, "[aria-label='Settings that differ'] tbody td"), ["4/4/4", "32/32/32", "1", "2"]);
    let titles = all(&html, ".chart h4");
    for title in ["E(G)", "E(G_L)", "Effective step", "Step of latent weights", "Distance to a transition"] {
        assert_eq!(titles.iter().filter(|t| *t == title).count(), 1, "{title} in {titles:?}");
    }
    let columns = all(&html, "[aria-label='Numbers of the epochs'] thead th");
    assert!(columns.contains(&"validation loss".to_string()), "{columns:?}");
    // Without the data: a page with a note.
    fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
    let told = json(&["report", &a, "--json"]);
    let notes = told["notes"][0].as_str().unwrap();
    assert!(notes.contains("t10k-images-idx3-ubyte") && notes.contains("could not be read"), "{notes}");
    let (_, html) = page(&Path::new(&a).join("report.html"));
    assert!(all(&html, ".notes p")[0].contains("t10k-images-idx3-ubyte"));
    // The network is known without them.
    assert!(!all(&html, "[aria-label=Layers] tr").is_empty() && !all(&html, ".facts").is_empty());
    assert!(all(&html, ".matrix").is_empty() && all(&html, ".chart h4").contains(&"Loss".to_string()));
    assert_eq!(all(&html, "pre").len(), 1);
    // In another place they are found.
    let other = tempfile::tempdir().unwrap();
    tiny(other.path(), 24);
    let told = json(&["report", &a, "--json", "--data", &format!("mnist:{}", other.path().display())]);
    assert_eq!(told["notes"], serde_json::json!([]));
    assert!(text(&Path::new(&a).join("report.html")).contains("in colour: validation"));
    // Without a checkpoint the logs are shown.
    fs::remove_file(Path::new(&b).join("checkpoint.safetensors")).unwrap();
    fs::remove_file(Path::new(&b).join("checkpoint.previous.safetensors")).unwrap();
    let processes = Path::new(&b).join("processes.json");
    fs::remove_file(&processes).unwrap();
    let told = json(&["report", &b, "--json"]);
    assert_eq!(told["notes"].as_array().unwrap().len(), 2, "{told}");
    assert!(told["notes"][1].as_str().unwrap().contains("There is no processes.json"), "{told}");
    // What is there and is no file is named as that.
    fs::create_dir(&processes).unwrap();
    let told = json(&["report", &b, "--json"]);
    assert!(told["notes"][1].as_str().unwrap().contains("found a folder"), "{told}");
    let (_, html) = page(&Path::new(&b).join("report.html"));
    assert!(all(&html, ".chart h4").contains(&"Accuracy".to_string()));
}

#[test]
fn folders_that_are_no_runs_are_refused_and_a_page_that_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 8);
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    refused(1, &["report", &at("nowhere")], &["nowhere", "expected the folder of a run", "no such folder"]);
    refused(1, &["report", &at("train-images-idx3-ubyte")], &["expected the folder of a run", "a file"]);
    refused(1, &["report", &at("")], &["expected the folder of a run", "config.toml"]);
    refused(2, &["report"], &["DIR"]);
    let data = format!("mnist:{}", folder.path().display());
    let run = train(folder.path(), "run", &["--epochs", "1", "--data", &data, "--model", "mlp:8"]);
    refused(2, &["report", &run, "--data", "nonsense"], &["nonsense"]);
    refused(1, &["report", &run, "--out", "/nowhere/page.html"], &["/nowhere/page.html"]);
    // One good run does not make up for a wrong one.
    refused(1, &["report", &run, &at("nowhere"), "--out", &at("page.html")], &["nowhere"]);
    assert!(!folder.path().join("page.html").exists());
    fs::write(Path::new(&run).join("config.toml"), "nonsense").unwrap();
    fs::remove_file(Path::new(&run).join("checkpoint.safetensors")).unwrap();
    fs::remove_file(Path::new(&run).join("checkpoint.previous.safetensors")).unwrap();
    refused(1, &["report", &run], &["config.toml"]);
}

/// The scalars of a run's event files as TensorBoard takes them, and where sessions start: a decoder of its own. The library's
/// tests compare the checks of each record.
fn events(run: &str) -> (Vec<(String, u64, f32)>, Vec<u64>) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(Path::new(run).join("tensorboard")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let (mut scalars, mut starts): (Vec<(String, u64, f32)>, _) = (Vec::new(), Vec::new());
    for file in files {
        let bytes = fs::read(file).unwrap();
        let mut rest = &bytes[..];
        while rest.len() >= 16 {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let body = &rest[12..12 + length];
            rest = &rest[16 + length..];
            let fields = fields(body);
            let step = fields.iter().find(|f| f.0 == 2).unwrap().1;
            for (number, _, bytes) in fields {
                match number {
                    5 => scalars.extend(self::fields(bytes).iter().map(|(_, _, value)| {
                        let parts = self::fields(value);
                        (String::from_utf8(parts[0].2.to_vec()).unwrap(), step, f32::from_bits(parts[1].1 as u32))
                    })),
                    7 => {
                        starts.push(step);
                        scalars.retain(|s| s.1 < step);
                    }
                    _ => {}
                }
            }
        }
        assert!(rest.is_empty());
    }
    (scalars, starts)
}

/// The fields of a message of protobuf: number, and value as number or bytes.
fn fields(mut data: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let varint = |data: &mut &[u8]| {
        let end = data.iter().position(|b| *b < 0x80).unwrap() + 1;
        let value = data[..end].iter().rev().fold(0, |v, b| v << 7 | u64::from(b & 0x7f));
        *data = &data[end..];
        value
    };
    let mut out = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let (value, length) = match key & 7 {
            0 => (varint(&mut data), 0),
            1 => (0, 8),
            2 => (0, varint(&mut data) as usize),
            _ => (u32::from_le_bytes(data[..4].try_into().unwrap()).into(), 4),
        };
        out.push((key >> 3, value, &data[..length]));
        data = &data[length..];
    }
    out
}

#[test]
fn event_files_have_the_metrics_once_also_after_a_resume() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path(), 96);
    let data = format!("mnist:{}", folder.path().display());
    let fixed = ["--epochs", "12", "--batch-size", "4", "--data", &data, "--model", "mlp:8", "--optimizer", "sgdt"];
    let run = train(folder.path(), "run", &[&fixed[..], &["--tensorboard"]].concat());
    assert!(text(&Path::new(&run).join("config.toml")).contains("tensorboard = true"));
    let (whole, starts) = events(&run);
    assert_eq!(starts, [0; 0]);
    // Every number of the metrics, and the speed besides.
    let (steps, epochs) = (lines(&run, "step"), lines(&run, "epoch"));
    assert_eq!((steps.len(), epochs.len()), (288 / 50, 12));
    let find = |tag: &str, step: &Value| {
        let found: Vec<f32> = whole.iter().filter(|s| s.0 == tag && Some(s.1) == step.as_u64()).map(|s| s.2).collect();
        assert_eq!(found.len(), 1, "{tag} at {step}");
        f64::from(found[0])
    };
    let number = |line: &Value, path: &str| f64::from(line.pointer(path).and_then(Value::as_f64).unwrap() as f32);
    for line in &steps {
        for (tag, path) in [
            ("loss/batch", "/loss"),
            ("lr", "/lr"),
            ("gamma/fc1", "/gamma/fc1"),
            ("transitions/target_R", "/target_transition_rate"),
            ("transitions/rate_k", "/transition_rate"),
            ("transitions/running_K", "/running_transition_rate"),
            ("transitions/talr_U", "/talr"),
            ("transition_rate/fc1", "/layer_transition_rate/fc1"),
        ] {
            assert_eq!(find(tag, &line["step"]), number(line, path), "{tag}");
        }
        assert!(find("images_per_second", &line["step"]) > 0.0);
    }
    for line in &epochs {
        for (tag, path) in [
            ("loss/train", "/train_loss"),
            ("loss/test", "/test_loss"),
            ("accuracy/train", "/train_accuracy"),
            ("accuracy/test", "/test_accuracy"),
        ] {
            assert_eq!(find(tag, &line["step"]), number(line, path), "{tag}");
        }
    }
    // A process that ended behind its checkpoint: the checkpoint is of an earlier step than the last events.
    let run = Path::new(&run);
    fs::rename(run.join("checkpoint.previous.safetensors"), run.join("checkpoint.safetensors")).unwrap();
    let resumed = json(&["resume", run.to_str().unwrap(), "--json"]);
    assert_eq!(resumed["steps"], 288);
    let (again, starts) = events(run.to_str().unwrap());
    assert_eq!(starts, [264]);
    let timeless = |all: &[(String, u64, f32)]| {
        let mut all: Vec<_> =
            all.iter().filter(|s| s.0 != "images_per_second").map(|s| (s.1, s.0.clone(), s.2.to_bits())).collect();
        all.sort();
        all
    };
    assert_eq!(timeless(&again), timeless(&whole));
    // A run that began without event files gets all of its past; --overwrite leaves none behind; the state is the same.
    let plain = train(folder.path(), "plain", &fixed);
    assert!(!Path::new(&plain).join("tensorboard").exists());
    assert_eq!(json(&["resume", &plain, "--json", "--tensorboard"])["digest"], resumed["digest"]);
    assert_eq!(timeless(&events(&plain).0), timeless(&whole));
    train(folder.path(), "plain", &[&fixed[..], &["--overwrite"]].concat());
    assert_eq!(fs::read_dir(Path::new(&plain).join("tensorboard")).unwrap().count(), 0);
    let key = train(folder.path(), "key", &[&fixed[..], &["--set", "run.tensorboard=true"]].concat());
    assert_eq!(timeless(&events(&key).0), timeless(&whole));
}
