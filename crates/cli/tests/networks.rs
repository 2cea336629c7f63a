//! Every network goes through every command: the examples of all families of models are trained for two steps on data of the form
//! that they take, and the runs are resumed, verified, judged, asked, drawn, compared and exported. The networks are those of the
//! registry, so that one that is added is tested too.

mod common;

use common::{fixnet, json, stderr};
use fixnet::autograd::Store;
use fixnet::models::{self, ModelSpec, Output};
use fixnet::quant::QuantConfig;
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;
use zip::{ZipWriter, write::SimpleFileOptions};

const IMAGE: [usize; 3] = [32, 32, 3];
const SEQUENCE: [usize; 2] = [12, 5];
/// The most parameters of a network here. Of a family whose networks all have more, the first one is taken.
const MOST: usize = 1_000_000;

/// A network with the recipe, the data and the input that it is tried with.
struct Trial {
    model: String,
    recipe: &'static str,
    data: String,
    input: String,
    bits: &'static str,
}

fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// An archive of samples of this shape in two classes: bytes, or floats of two axes.
fn archive(path: &Path, shape: &[usize]) {
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    for (part, count) in [("train", 8), ("test", 4)] {
        let values = (0..count * shape.iter().product::<usize>()).map(|i| (i * 31 % 251) as u8);
        let (descr, data) = match shape.len() {
            3 => ("|u1", values.collect()),
            _ => ("<f4", values.flat_map(|v| f32::from(v).to_le_bytes()).collect::<Vec<u8>>()),
        };
        let labels: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
        let files = [("x", npy(descr, &[&[count], shape].concat(), &data)), ("y", npy("|u1", &[count], &labels))];
        for (name, bytes) in files {
            zip.start_file(format!("{name}_{part}.npy"), SimpleFileOptions::default()).unwrap();
            zip.write_all(&bytes).unwrap();
        }
    }
    zip.finish().unwrap();
}

/// Images with a box each, as COCO files have them.
fn scenes(folder: &Path) {
    fs::create_dir_all(folder.join("images")).unwrap();
    for (part, count) in [("train", 8), ("val", 4)] {
        let name = |i: u32| format!("{part}{i}.png");
        for i in 0..count {
            let inside = |x: u32, y: u32| (4 + i..18 + i).contains(&x) && (6..20).contains(&y);
            let pixel = |x: u32, y: u32| Rgb([if inside(x, y) { 250 } else { (x * y % 97) as u8 }; 3]);
            RgbImage::from_fn(32, 32, pixel).save(folder.join("images").join(name(i))).unwrap();
        }
        let images: Vec<Value> = (0..count)
            .map(|i| serde_json::json!({ "id": i, "file_name": name(i), "width": 32, "height": 32 }))
            .collect();
        let boxes: Vec<Value> = (0..count)
            .map(|i| {
                serde_json::json!({
                    "id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [4 + i, 6, 14, 14], "area": 196, "iscrowd": 0,
                })
            })
            .collect();
        let classes = serde_json::json!([{ "id": 1, "name": "even" }, { "id": 2, "name": "odd" }]);
        let file = serde_json::json!({ "images": images, "annotations": boxes, "categories": classes });
        fs::write(folder.join(format!("{part}.json")), file.to_string()).unwrap();
    }
}

/// Data of each form in a folder.
fn data(folder: &Path) {
    archive(&folder.join("images.npz"), &IMAGE);
    archive(&folder.join("sequences.npz"), &SEQUENCE);
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i % 7, i * 3 % 11, ["a", "b"][i % 2])).collect();
    fs::write(folder.join("classes.csv"), format!("x,y,class\n{rows}")).unwrap();
    let rows: String = (0..40).map(|i| format!("{},{},{}\n", i % 7, i * 3 % 11, 0.5 * i as f32)).collect();
    fs::write(folder.join("numbers.csv"), format!("x,y,price\n{rows}")).unwrap();
    scenes(&folder.join("scenes"));
    for (part, count) in [("train", 2), ("test", 1)] {
        let folder = folder.join("photos").join(part);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let pixel = |x: u32, y: u32| Rgb([(x * 5 + i) as u8, (y * 7) as u8, (x * y) as u8]);
            RgbImage::from_fn(36, 30, pixel).save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}

/// The number of parameters of a model for inputs of this shape, if it takes them.
fn parameters(model: &ModelSpec, input: &[usize]) -> Option<usize> {
    let mut store = Store::seeded(1);
    models::build(&mut store, model, input, 2, &QuantConfig::float()).ok()?;
    Some(store.params().iter().map(|p| p.value.data().len()).sum())
}

/// The networks of the registry that are tried, with data of every form that they take.
fn trials(folder: &Path) -> Vec<Trial> {
    let text_of = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (images, sequences, photos) = (text_of("images.npz"), text_of("sequences.npz"), text_of("photos"));
    let (classes, numbers, photo) = (text_of("classes.csv"), text_of("numbers.csv"), text_of("photos/test/0.png"));
    let forms: [(&[usize], &str, String, String); 4] = [
        (&IMAGE, "digits", format!("npz:{images}"), images),
        (&SEQUENCE, "tones", format!("sequences:{sequences}"), sequences),
        (&[2], "table", format!("csv:{classes}"), classes),
        (&[2], "table-regression", format!("csv:{numbers}"), numbers),
    ];
    let mut all = Vec::new();
    for kind in models::kinds() {
        let mut first = true;
        for text in kind.examples {
            let model: ModelSpec = text.parse().unwrap();
            let bits = if text.starts_with("reactnet") { "1/1/32" } else { "4/4/4" };
            let trial = |recipe, data: &str, input: &str| Trial {
                model: (*text).into(),
                recipe,
                data: data.into(),
                input: input.into(),
                bits,
            };
            if let Output::Image { .. } = model.output() {
                all.push(trial("photos-x2", &format!("photos:{photos}"), &photo));
                continue;
            }
            if let Output::Boxes(_) = model.output() {
                let (scenes, image) = (text_of("scenes"), text_of("scenes/images/val0.png"));
                all.push(trial("digits-detect", &format!("coco:{scenes}"), &image));
                continue;
            }
            let taken: Vec<_> = forms.iter().filter_map(|form| Some((form, parameters(&model, form.0)?))).collect();
            assert!(!taken.is_empty(), "{text} takes no data of this test: add a form");
            for ((_, recipe, data, input), _) in taken.iter().filter(|(_, count)| first || *count <= MOST) {
                all.push(trial(recipe, data, input));
            }
            first = false;
        }
    }
    all
}

/// A command that must succeed; its output.
fn said(args: &[&str]) -> String {
    let out = fixnet(args);
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    String::from_utf8(out.stdout).unwrap()
}

/// The metrics of an evaluation, without what it says of its files.
fn metrics(found: &Value) -> Vec<(&String, &Value)> {
    let files = ["checkpoint", "packed", "step", "data", "class_names"];
    found.as_object().unwrap().iter().filter(|(key, _)| !files.contains(&key.as_str())).collect()
}

fn goes_through_every_command(trial: &Trial, folder: &Path) {
    let text = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (run, compared, page, plots) = (text("run"), text("compare"), text("report.html"), text("plots"));
    let (packed, onnx, large) = (text("packed.safetensors"), text("net.onnx"), text("large.png"));
    let Trial { model, recipe, data, input, bits } = trial;
    let mut small = vec!["--model", model, "--data", data, "--bits", bits, "--epochs", "1", "--batch-size", "4"];
    let enlarges = *recipe == "photos-x2";
    if enlarges {
        small.extend(["--set", "data.patch=9", "--set", "data.patches=4"]);
    }
    if *recipe == "digits-detect" {
        small.extend(["--set", "data.image_size=32"]);
    }
    let train = ["train", recipe, "--out", &run, "--checkpoint-every", "1steps", "--threads", "1", "--json"];
    let trained = json(&[&train[..], &small].concat());
    assert!(trained["steps"].as_u64().unwrap() >= 2, "{model}: {trained}");
    // The state before the last step.
    fs::rename(folder.join("run/checkpoint.previous.safetensors"), folder.join("run/checkpoint.safetensors")).unwrap();
    assert_eq!(json(&["resume", &run, "--json", "--threads", "2"])["digest"], trained["digest"], "{model}");
    assert_eq!(json(&["verify", &run, "--json", "--threads", "1"])["equal"], true, "{model}");
    let judged = json(&["eval", &run, "--json"]);
    let summary = json(&["summary", &run, "--json"]);
    said(&["inspect", &run]);
    said(&["report", &run, "--out", &page]);
    said(&["plot", &run, "--out", &plots]);
    said(&["export", &run, "--packed", &packed]);
    let out = fixnet(&["export", &run, "--onnx", &onnx]);
    match model.starts_with("fasterrcnn") {
        // Proposals have no form there.
        true => assert!(!out.status.success() && stderr(&out).contains("--packed"), "{model}: {}", stderr(&out)),
        false => assert!(out.status.success() && fs::metadata(&onnx).unwrap().len() > 100, "{}", stderr(&out)),
    }
    // What the packed file holds is the network.
    let again = json(&["eval", &packed, "--json"]);
    assert_eq!(metrics(&again), metrics(&judged), "{model}");
    assert_eq!(json(&["summary", &packed, "--json"])["multiply_adds"], summary["multiply_adds"], "{model}");
    let answers = [&run, &packed].map(|of| match enlarges {
        true => {
            said(&["predict", of, input, "--out", &large]);
            fs::read(&large).unwrap()
        }
        false => said(&["predict", of, input, "--csv"]).into_bytes(),
    });
    assert!(answers[0] == answers[1] && !answers[0].is_empty(), "{model}: a packed network answers otherwise");
    let compare = ["compare", recipe, "--out", &compared, "--threads", "1", "--json"];
    let compared = json(&[&compare[..], &small].concat());
    assert!(compared.to_string().contains(trained["digest"].as_str().unwrap()), "{model}: {compared}");
}

#[test]
fn every_network_goes_through_every_command() {
    let folder = tempfile::tempdir().unwrap();
    data(folder.path());
    trials(folder.path()).par_iter().enumerate().for_each(|(i, trial)| {
        let folder = folder.path().join(i.to_string());
        fs::create_dir(&folder).unwrap();
        goes_through_every_command(trial, &folder);
    });
}

/// A name of a form that no example is of would be tried nowhere.
#[test]
fn every_name_of_a_form_has_an_example() {
    for kind in models::kinds() {
        for name in kind.form.split(", ").map(|form| form.split('[').next().unwrap()) {
            let is_of = |example: &&&str| example.split(':').next() == Some(name);
            assert!(name.starts_with("FILE.") || kind.examples.iter().find(is_of).is_some(), "{name}");
        }
    }
}
