//! Tables as a library has them: a run that was stopped and resumed ends with the bits of one that was not, whatever the targets
//! and the number of threads.

mod common;

use common::{finish, on};
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_train::task::{self, Part};
use fixnet_train::{Config, Session, Settings};
use std::fmt::Write;
use std::path::Path;
use toml::Value;

/// A table of 90 rows with columns `a`, `b` and `c`, a class and a number of another size than 1.
fn write_table(path: &Path) {
    let mut text = String::from("a,b,kind,c,price\n");
    for i in 0..90u32 {
        let draw = |k: u32| f64::from(i.wrapping_mul(2_654_435_761).wrapping_add(k * 40_503) % 1000) / 1000.0;
        let (a, b, c) = (draw(1) * 40.0 - 20.0, draw(7), 1e6 + 3.0 * draw(3));
        let kind = if a + 20.0 * b > 10.0 { "high" } else { "low" };
        let price = 25_000.0 + 300.0 * a - 4000.0 * b;
        let _ = writeln!(text, "{a},{b},{kind},{c},{price}");
    }
    std::fs::write(path, text).unwrap();
}

fn config(table: &Path, task: &str, bits: &str) -> Config {
    let mut settings = Settings::default();
    // A text among the features would be refused.
    let text = std::fs::read_to_string(table).unwrap();
    let (leave_out, target) = if task == "regression" { (2, "price") } else { (4, "kind") };
    let rows = text.lines().map(|line| {
        let cells = line.split(',').enumerate().filter(|(i, _)| *i != leave_out).map(|(_, cell)| cell);
        cells.collect::<Vec<_>>().join(",")
    });
    let path = table.with_extension(format!("{task}.csv"));
    std::fs::write(&path, rows.collect::<Vec<_>>().join("\n")).unwrap();
    for (key, value) in [
        ("task", task.into()),
        ("data.source", format!("csv:{}", path.display()).into()),
        ("data.target", target.into()),
        ("data.validation", 0.1.into()),
        ("model.name", "mlp:16-16".into()),
        ("quantization.bits", bits.into()),
        ("optimizer.name", "adam".into()),
        ("optimizer.lr", 0.01.into()),
        ("run.epochs", Value::from(12)),
        ("run.batch_size", Value::from(16)),
    ] {
        settings.set(key, value).unwrap();
    }
    settings.check().unwrap()
}

#[test]
fn a_resumed_run_ends_with_the_same_bits_and_has_learned() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    write_table(&table);
    for task in ["classification", "regression"] {
        for bits in ["32/32/32", "4/4/4"] {
            let config = config(&table, task, bits);
            let (task, data) = task::load(&config).unwrap();
            assert_eq!((data.len(Part::Train), data.len(Part::Validation), data.len(Part::Test)), (73, 8, 9));
            let (whole, scores) = on(1, || {
                let mut session = Session::new(config.clone(), task.clone(), &*data).unwrap();
                (finish(&mut session), session.evaluate(Part::Test, || false).unwrap().unwrap())
            });
            let best = scores.get("accuracy").or(scores.get("r2")).unwrap();
            assert!(best > 0.6, "{} at {bits}: {scores:?}", task.name());
            let path = folder.path().join("c.safetensors");
            on(2, || {
                let mut session = Session::new(config.clone(), task.clone(), &*data).unwrap();
                (0..7).for_each(|_| drop(session.step().unwrap()));
                session.save(&path).unwrap();
            });
            let checkpoint = Checkpoint::open(&path).unwrap();
            let resumed = on(3, || {
                let session = Session::resumed(config.clone(), task.clone(), &*data, &checkpoint, &mut Vec::new());
                finish(&mut session.unwrap())
            });
            assert_eq!(resumed, whole, "{} at {bits}", task.name());
            // Another part for testing is refused by name.
            let mut other = config.settings().clone();
            other.set("run.seed", Value::from(2)).unwrap();
            let other = other.check().unwrap();
            let (task, data) = task::load(&other).unwrap();
            let e = Session::resumed(other, task, &*data, &checkpoint, &mut Vec::new()).err().unwrap().to_string();
            assert!(e.contains("expected the training rows that the run began with"), "{e}");
        }
    }
}

#[test]
fn what_does_not_fit_a_table_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("table.csv");
    write_table(&table);
    let refused = |key: &str, value: Value, words: &str| {
        let mut settings = config(&table, "regression", "4/4/4").settings().clone();
        settings.set(key, value).unwrap();
        let text = settings.check().and_then(|config| {
            task::check(&config)?;
            let (task, data) = task::load(&config)?;
            Session::new(config, task, &*data).map(|_| ())
        });
        let text = text.err().unwrap_or_else(|| panic!("{key}: expected an error")).to_string();
        assert!(text.contains(words), "{key}: {text}");
    };
    refused("model.name", "lenet".into(), "inputs of the shape [3]");
    refused("model.name", "edsr".into(), "expected a network of values, such as mlp, found edsr");
    refused("augmentation.flip", true.into(), "expected mixup alone");
    refused("data.target", "size".into(), "expected a target column `size` (or its number");
    refused("data.image_size", Value::from(8), "image_size: expected left out");
    refused("data.source", "digits".into(), "target: expected left out, since digits is no table");
    refused("task", "classification".into(), "column `price`: expected classes: texts, or at most 100");
}
