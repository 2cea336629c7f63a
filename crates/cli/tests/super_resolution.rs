//! Super-resolution goes through whole runs: trained, judged, verified, reported, exported, and used on pictures of any size.

mod common;

use common::{fixnet, json, refused, stderr};
use image::{Rgb, RgbImage};
use std::fs;
use std::path::{Path, PathBuf};

/// A smooth picture with an edge.
fn picture(width: u32, height: u32, shift: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let edge = if 2 * x + shift > 3 * y { 90 } else { 0 };
        Rgb([(x * 3 + edge) as u8, (y * 2 + edge + shift) as u8, ((x + y) * 2) as u8])
    })
}

struct Place {
    folder: tempfile::TempDir,
    source: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (part, sizes) in [("train", [(40, 34), (33, 48)]), ("test", [(30, 42), (37, 31)])] {
            let part = folder.path().join(part);
            fs::create_dir(&part).unwrap();
            for (i, (width, height)) in sizes.into_iter().enumerate() {
                picture(width, height, 20 * i as u32).save(part.join(format!("{i}.png"))).unwrap();
            }
            fs::write(part.join("LICENCE.txt"), "not an image").unwrap();
        }
        let source = format!("photos:{}", folder.path().display());
        Self { folder, source }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn train(&self, out: &Path, more: &[&str]) -> serde_json::Value {
        let fixed = ["train", "photos-x2", "--data", &self.source, "--model", "edsr:n1-f8", "--epochs", "2"];
        let small = ["--set", "data.patch=9", "--set", "data.patches=6", "--batch-size", "5", "--json", "--out"];
        json(&[&fixed[..], &small, &[out.to_str().unwrap()], more].concat())
    }
}

#[test]
fn a_run_goes_through_every_command() {
    let place = Place::new();
    let run = place.path("run");
    let trained = place.train(&run, &["--threads", "1"]);
    assert_eq!(trained["steps"], 2 * 3); // 12 patches an epoch
    let text = |path: &Path| path.to_str().unwrap().to_string();
    let run_text = text(&run);
    // The same bits with other threads, and with no vector instructions.
    let other = place.train(&place.path("other"), &["--threads", "2", "--isa", "scalar"]);
    assert_eq!(trained["digest"], other["digest"]);
    assert_eq!(json(&["verify", &run_text, "--threads", "2", "--json"])["equal"], true);
    let found = json(&["eval", &run_text, "--json"]);
    let psnr = found["psnr"].as_f64().unwrap();
    assert!(psnr > 5.0 && found["ssim"].as_f64().is_some() && found["images"] == 2, "{found}");
    assert_eq!(trained["test_psnr"], found["psnr"]);
    // Other pictures: all of a folder that has no parts.
    let others = format!("photos:{}", place.path("train").display());
    assert_ne!(json(&["eval", &run_text, "--data", &others, "--json"])["psnr"].as_f64().unwrap(), psnr);

    let packed = text(&place.path("packed.safetensors"));
    let onnx = text(&place.path("net.onnx"));
    assert!(fixnet(&["export", &run_text, "--packed", &packed, "--onnx", &onnx]).status.success());
    assert_eq!(json(&["eval", &packed, "--json"])["psnr"].as_f64(), Some(psnr));
    refused(1, &["export", &run_text, "--samples", &text(&place.path("s"))], &["samples of", "one size"]);
    // Weights of the two outer convolutions and the four inner ones, with their biases.
    let parameters = 27 * 8 + 8 + 3 * (72 * 8 + 8) + 72 * 32 + 32 + 72 * 3 + 3;
    let summary = json(&["summary", &run_text, "--json"]);
    assert!(summary["parameters"].as_u64().unwrap() >= parameters, "{summary}");

    let page = text(&place.path("report.html"));
    assert!(fixnet(&["report", &run_text, "--out", &page]).status.success());
    let page = fs::read_to_string(page).unwrap();
    for words in ["Test pictures", "bicubic", "network", "original", "PSNR, bicubic", "psnr", " dB"] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn pictures_of_any_size_are_enlarged() {
    let place = Place::new();
    let run = place.path("run");
    place.train(&run, &[]);
    let (run, image) = (run.to_str().unwrap().to_string(), place.path("x.png"));
    let packed = place.path("packed.safetensors").to_str().unwrap().to_string();
    assert!(fixnet(&["export", &run, "--packed", &packed]).status.success());
    for (width, height) in [(1, 1), (7, 3), (150, 20)] {
        picture(width, height, 0).save(&image).unwrap();
        let out = place.path(&format!("{width}.png"));
        let found = json(&["predict", &run, image.to_str().unwrap(), "--out", out.to_str().unwrap(), "--json"]);
        assert_eq!((&found["width"], &found["height"]), (&(2 * width).into(), &(2 * height).into()));
        let large = image::open(&out).unwrap().into_rgb8();
        assert_eq!(large.dimensions(), (2 * width, 2 * height));
        let again = place.path("again.png");
        let args = ["predict", &packed, image.to_str().unwrap(), "--out", again.to_str().unwrap(), "--threads", "2"];
        assert!(fixnet(&args).status.success());
        assert_eq!(fs::read(&out).unwrap(), fs::read(&again).unwrap(), "a packed network gives the same pixels");
    }
    // Without a name the result lies beside the image, and takes the place of nothing.
    let args = ["predict", &run, image.to_str().unwrap()];
    let out = fixnet(&args);
    assert!(out.status.success(), "{}", stderr(&out));
    assert!(place.path("x-enlarged.png").exists());
    refused(2, &args, &["--out", "x-enlarged.png is there already"]);
    refused(
        2,
        &["predict", &run, image.to_str().unwrap(), "--out", image.to_str().unwrap()],
        &["the one that is read"],
    );
    let other = place.path("x.JPG");
    refused(
        2,
        &["predict", &run, image.to_str().unwrap(), "--out", other.to_str().unwrap()],
        &["--out: expected a name that ends in .png", "found .jpg"],
    );
    assert!(!other.exists());
    // Several go into a folder, and so do the images of an array.
    let pixels: Vec<u8> = (0..2 * 4 * 5 * 3).map(|i| i * 2).collect();
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, 5, 3), }\n";
    let array =
        [&b"\x93NUMPY\x01\x00"[..], &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &pixels[..]].concat();
    fs::write(place.path("two.npy"), array).unwrap();
    let (two, large) = (place.path("two.npy"), place.path("large"));
    let many = ["predict", &run, image.to_str().unwrap(), two.to_str().unwrap(), "--out", large.to_str().unwrap()];
    assert!(fixnet(&many).status.success());
    assert_eq!(fs::read(large.join("x.png")).unwrap(), fs::read(place.path("x-enlarged.png")).unwrap());
    assert_eq!(image::open(large.join("two-1.png")).unwrap().into_rgb8().dimensions(), (10, 8));
    let one = place.path("one.png");
    let file = ["predict", &run, image.to_str().unwrap(), two.to_str().unwrap(), "--out", one.to_str().unwrap()];
    refused(2, &file, &["--out: expected a folder for the pictures of 3 inputs", "one.png"]);
    assert!(!one.exists());
    let twice = ["predict", &run, image.to_str().unwrap(), image.to_str().unwrap(), "--out", large.to_str().unwrap()];
    refused(2, &twice, &["x.png: expected a file for each output"]);
    fs::write(&image, "no image").unwrap();
    let out = place.path("out.png");
    refused(
        1,
        &["predict", &run, image.to_str().unwrap(), "--out", out.to_str().unwrap()],
        &["x.png", "PNG, JPEG, WebP or BMP"],
    );
    assert!(!out.exists());
}

#[test]
fn a_classifier_names_its_classes() {
    let place = tempfile::tempdir().unwrap();
    let (data, run, image) = (place.path().join("data"), place.path().join("run"), place.path().join("red.png"));
    common::images(&data);
    let (source, out) = (format!("folder:{}", data.display()), run.to_str().unwrap());
    let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &source, "--batch-size", "4", "--epochs", "8"];
    assert!(fixnet(&[&fixed[..], &["--out", out]].concat()).status.success());
    fs::copy(data.join("test/red/0.png"), &image).unwrap();
    let found = json(&["predict", out, image.to_str().unwrap(), "--json"]);
    assert_eq!(found["classes"][0]["class"], "red", "{found}");
    assert!(found["classes"][0]["probability"].as_f64().unwrap() > 0.5);
    refused(2, &["predict", out, image.to_str().unwrap(), "--out", "x.png"], &["--out", "classifier"]);
    RgbImage::new(9, 8).save(&image).unwrap();
    let converted = fixnet(&["predict", out, image.to_str().unwrap()]);
    assert!(converted.status.success() && stderr(&converted).contains("1 scaled to 8x8"), "{}", stderr(&converted));
}

#[test]
fn what_is_wrong_is_named() {
    let place = Place::new();
    let out = place.path("run");
    let run = |code, more: &[&str], words: &[&str]| {
        let fixed = ["train", "photos-x2", "--data", &place.source, "--out", out.to_str().unwrap()];
        refused(code, &[&fixed[..], more].concat(), words);
    };
    run(2, &["--model", "lenet"], &["model.name", "edsr", "lenet"]);
    run(2, &["--model", "edsr:x9"], &["edsr:x9", "x2, x3, x4"]);
    run(2, &["--set", "data.patch=7"], &["data.patch", "at least 8", "found 7"]);
    run(1, &["--set", "data.patch=30"], &["0: expected a small picture of at least 30x30 pixels", "17x20"]);
    run(2, &["--set", "augmentation.rotation=3"], &["augmentation", "flip and quarter_turns alone"]);
    let digits = ["train", "photos-x2", "--data", "digits", "--out", out.to_str().unwrap()];
    refused(1, &digits, &["photos:PATH", "digits, a source for another task"]);
    refused(1, &["train", "digits", "--data", "photos"], &["labelled samples", "photos, a source for another task"]);
    let parts = format!("photos:{}", place.path("train").display());
    refused(
        1,
        &["train", "photos-x2", "--data", &parts, "--out", out.to_str().unwrap()],
        &["a folder `test`", "data.test"],
    );
    let pairs = format!("pairs:{}", place.path("test").display());
    run(1, &["--set", &format!("data.test={pairs}")], &["NAME_LR.png"]);
    assert!(!out.exists());
}
