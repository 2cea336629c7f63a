//! Data of one's own: image folders and NumPy arrays go through whole runs, with validation and every augmentation.

mod common;

use common::{fixnet, images, json, refused};
use image::RgbImage;
use serde_json::Value;
use std::{fs, path::Path};

fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let start = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..]].concat();
    [&start, header.as_bytes(), data].concat()
}

fn last_line(run: &Path) -> Value {
    serde_json::from_str(fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().last().unwrap()).unwrap()
}

#[test]
fn a_folder_of_images_is_learned() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("images");
    images(&data);
    let source = format!("folder:{}", data.display());
    let train = |name: &str, more: &[&str]| {
        let out = place.path().join(name);
        let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &source, "--batch-size", "4", "--json"];
        // With the rate of the recipe, batches of four images have losses that jump, and the last epoch may end on a jump.
        let epochs = ["--lr", "0.01", "--epochs", "8", "--validation", "0.25", "--out", out.to_str().unwrap()];
        (json(&[&fixed[..], &epochs, more].concat()), out)
    };
    let (plain, out) = train("plain", &[]);
    assert_eq!(plain["steps"], 8 * 5); // 18 of 24 images
    assert_eq!(plain["test_accuracy"], 1.0);
    assert_eq!(last_line(&out)["validation_accuracy"], 1.0);
    for class in ["blue", "red"] {
        let image = data.join(format!("test/{class}/3.png"));
        let answer = json(&["predict", out.to_str().unwrap(), image.to_str().unwrap(), "--json"]);
        assert_eq!(answer["classes"][0]["class"], class);
    }
    let all = [
        "augmentation.crop_padding=1",
        "augmentation.flip=true",
        "augmentation.rotation=10",
        "augmentation.shift=0.1",
        "augmentation.brightness=0.2",
        "augmentation.contrast=0.2",
        "augmentation.saturation=0.2",
        "augmentation.cutout=2",
        "augmentation.mixup=0.3",
        "data.image_size=6",
    ];
    let all: Vec<&str> = all.iter().flat_map(|key| ["--set", key]).collect();
    let (one, out) = train("one", &[&all[..], &["--threads", "1"]].concat());
    let (three, _) = train("three", &[&all[..], &["--threads", "3"]].concat());
    assert_eq!(one["digest"], three["digest"]);
    assert_ne!(one["digest"], plain["digest"]);
    let verified = json(&["verify", out.to_str().unwrap(), "--threads", "2", "--json"]);
    assert_eq!(verified["equal"], true);
    assert!(json(&["eval", out.to_str().unwrap(), "--json"])["accuracy"].as_f64().unwrap() > 0.5);
}

#[test]
fn a_folder_of_validation_images_is_judged_by_and_odd_data_are_noted() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("images");
    images(&data);
    fs::rename(data.join("test"), data.join("Val")).unwrap();
    let (source, test) = (format!("folder:{}", data.display()), format!("data.test=folder:{}", data.display()));
    let out = place.path().join("run");
    let train = |more: &[&str]| {
        let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &source, "--epochs", "1"];
        [&fixed[..], &["--out", out.to_str().unwrap()], more].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let said = |more: &[&str]| {
        let args = train(more);
        let output = fixnet(&args.iter().map(String::as_str).collect::<Vec<_>>());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = said(&[]);
    assert!(code == Some(1) && text.contains("expected a folder `test`") && text.contains("/Val)"), "{text}");
    let (code, text) = said(&["--set", &format!("{test}/Val"), "--validation", "0.2"]);
    assert!(code == Some(1) && text.contains("validation: expected 0, since "), "{text}");
    let (code, text) = said(&["--set", &format!("{test}/train")]);
    assert!(code == Some(0) && text.contains("the test images are the training images"), "{text}");
    assert!(last_line(&out)["validation_accuracy"].is_f64());
    let (code, text) = said(&["--set", "=="]);
    assert!(code == Some(2) && text.contains("--set: expected TABLE.KEY=VALUE, found =="), "{text}");
}

#[test]
fn numpy_arrays_are_learned() {
    let place = tempfile::tempdir().unwrap();
    let labels: Vec<u8> = (0..16).map(|i| i % 2).collect();
    let pixels: Vec<u8> =
        (0..16 * 16).map(|i: u32| if (i / 16).is_multiple_of(2) { 20 } else { 230 - (i % 16) as u8 }).collect();
    for (name, bytes) in [("x", npy("|u1", "(16, 4, 4)", &pixels)), ("y", npy("|u1", "(16,)", &labels))] {
        for part in ["train", "test"] {
            fs::write(place.path().join(format!("{name}_{part}.npy")), &bytes).unwrap();
        }
    }
    let (source, out) = (format!("npz:{}", place.path().display()), place.path().join("run"));
    let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--epochs", "6", "--batch-size", "4", "--json"];
    let args = [&fixed[..], &["--data", &source, "--out", out.to_str().unwrap()]].concat();
    assert_eq!(json(&args)["test_accuracy"], 1.0);
    fs::write(place.path().join("y_test.npy"), npy("|u1", "(16,)", &[2; 16])).unwrap();
    refused(1, &["eval", out.to_str().unwrap()], &["y_test", "from 0 to 1", "found 2"]);
}

#[test]
fn what_is_wrong_is_named() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("images");
    images(&data);
    let (source, out) = (format!("folder:{}", data.display()), place.path().join("run"));
    let run = |code, more: &[&str], words: &[&str]| {
        let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &source, "--out", out.to_str().unwrap()];
        refused(code, &[&fixed[..], more].concat(), words);
    };
    run(2, &["--validation", "1"], &["validation", "below 1"]);
    run(2, &["--set", "augmentation.rotation=200"], &["rotation", "0 to 180"]);
    run(2, &["--set", "augmentation.mixup=-1"], &["mixup", "0 to 1"]);
    refused(
        2,
        &["train", "mlp-digits", "--set", "data.source=digits", "--set", "data.image_size=8"],
        &["image_size", "digits"],
    );
    let bad = data.join("train/red/3.png");
    let bytes = fs::read(&bad).unwrap();
    fs::write(&bad, &bytes[..bytes.len() / 2]).unwrap();
    run(1, &[], &["train/red/3.png", "damaged"]);
    fs::write(&bad, "text").unwrap();
    run(1, &[], &["train/red/3.png", "expected a PNG, JPEG, WebP or BMP image", "another kind of file"]);
    RgbImage::new(9, 8).save(&bad).unwrap();
    run(1, &[], &["train/red/3.png", "8x8", "8x9", "image_size"]);
    fs::remove_dir_all(data.join("test/red")).unwrap();
    run(1, &[], &["images: expected the same classes in train and test", "1 in train only (red)"]);
    assert!(!out.exists());
}
