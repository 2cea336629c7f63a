//! `fixnet predict` answers about files, folders, arrays and tables, of runs and of packed networks.

mod common;

use common::{Place, fixnet, images, json, refused, stderr};
use image::{GrayImage, Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::Path;

/// An `.npz` file with arrays of these names, types and shapes.
fn npz(path: &Path, arrays: &[(&str, &str, &str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, kind, shape, data) in arrays {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(b"\x93NUMPY\x01\x00").unwrap();
        zip.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        zip.write_all(header.as_bytes()).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap();
}

/// All lines of a command that must succeed, as JSON.
fn lines(args: &[&str]) -> Vec<Value> {
    let out = fixnet(args);
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    parsed(&out.stdout)
}

fn parsed(text: &[u8]) -> Vec<Value> {
    String::from_utf8_lossy(text).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The classes of answers without their inputs.
fn classes(lines: &[Value]) -> Vec<Value> {
    lines.iter().map(|line| line["classes"].clone()).collect()
}

#[test]
fn the_classes_of_the_test_digits_are_those_of_the_evaluation() {
    let place = Place::new();
    let [run, packed, array] = ["run", "packed.safetensors", "x.npz"].map(|name| place.text(name));
    json(&["train", "mlp-digits", "--epochs", "1", "--out", &run, "--json"]);
    json(&["export", &run, "--packed", &packed, "--json"]);
    let test = fixnet::data::digits().unwrap().test;
    let pixels: Vec<u8> = (0..test.len()).flat_map(|i| test.image(i).unwrap().to_vec()).collect();
    let labels: Vec<u8> = test.labels().iter().map(|&label| label as u8).collect();
    let (images, count) = (format!("({}, 28, 28)", test.len()), format!("({},)", test.len()));
    npz(Path::new(&array), &[("y_test", "|u1", &count, &labels), ("x_test", "|u1", &images, &pixels)]);

    let found = lines(&["predict", &run, &array, "--json"]);
    assert_eq!(found.len(), test.len());
    assert!(found[7]["input"].as_str().unwrap().ends_with("x.npz[7]"));
    assert_eq!(found[0]["classes"].as_array().unwrap().len(), 10);
    let right =
        found.iter().zip(test.labels()).filter(|(line, label)| line["classes"][0]["class"] == label.to_string());
    let accuracy = right.count() as f64 / test.len() as f64;
    assert_eq!(json(&["eval", &run, "--json"])["accuracy"].as_f64(), Some(accuracy));
    assert_eq!(lines(&["predict", &packed, &array, "--json", "--threads", "1"]), found);

    // The same images as files have the same answers, to the bit.
    let folder = place.path("digits");
    fs::create_dir(&folder).unwrap();
    for i in 0..12 {
        let image = GrayImage::from_raw(28, 28, test.image(i).unwrap().to_vec()).unwrap();
        image.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    let files = lines(&["predict", &run, &place.text("digits"), "--json", "--isa", "scalar"]);
    assert_eq!(classes(&files), classes(&found[..12]));
    assert!(files[3]["input"].as_str().unwrap().ends_with("digits/03.png"));
}

#[test]
fn images_of_other_sizes_are_converted_and_a_broken_one_does_not_stop_the_others() {
    let place = Place::new();
    let (data, run, folder) = (place.path("data"), place.text("run"), place.path("some"));
    images(&data);
    let source = format!("folder:{}", data.display());
    let fixed = ["train", "mlp-digits", "--model", "mlp:8", "--data", &source, "--batch-size", "4", "--epochs", "8"];
    assert!(fixnet(&[&fixed[..], &["--out", &run]].concat()).status.success());
    fs::create_dir(&folder).unwrap();
    RgbImage::from_pixel(30, 20, Rgb([210, 40, 30])).save(folder.join("a.png")).unwrap();
    fs::write(folder.join("b.png"), "no image").unwrap();
    GrayImage::new(8, 8).save(folder.join("c.png")).unwrap();
    fs::write(folder.join("notes.txt"), "none").unwrap();
    let missing = place.text("missing.png");
    let some = place.text("some");

    let out = fixnet(&["predict", &run, &some, &missing, "--json"]);
    let (answers, notes) = (parsed(&out.stdout), stderr(&out));
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(answers.len(), 4);
    assert!(answers[0]["error"].as_str().unwrap().contains("missing.png"), "{answers:?}");
    assert_eq!(answers[1]["classes"][0]["class"], "red", "{answers:?}");
    assert!(answers[2]["error"].as_str().unwrap().contains("b.png: expected a PNG, JPEG, WebP or BMP image"));
    assert!(answers[3]["classes"][1]["probability"].is_f64());
    for words in [
        "b.png: expected a PNG, JPEG, WebP or BMP image, found another kind of file",
        "missing.png: ",
        "1 without .png, .jpg, .jpeg, .webp or .bmp are left out: notes.txt",
        "2 images were converted as in training: 1 scaled to 8x8, 1 cut to their middle before, 1 from other channels to colours",
        "2 of 4 inputs have no answer",
    ] {
        assert!(notes.contains(words), "`{words}` is not in: {notes}");
    }

    // For people: a line per input, in columns.
    let [a, c] = ["some/a.png", "some/c.png"].map(|name| place.text(name));
    let out = fixnet(&["predict", &run, &a, &c]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let rows: Vec<&str> = text.lines().collect();
    assert!(out.status.success() && rows.len() == 2, "{text}");
    assert!(rows[0].starts_with(&format!("{a}  red ")) && rows[0].contains(" %  blue "), "{text}");
    assert_eq!(rows[0].find('%'), rows[1].find('%'), "{text}");
    let top = fixnet(&["predict", &run, &a, "--top", "1"]);
    assert!(!String::from_utf8_lossy(&top.stdout).contains("blue"));

    let out = fixnet(&["predict", &run, &some, "--csv", "--top", "1"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!((rows.len(), rows[0]), (4, "input,class,probability,error"), "{text}");
    assert!(
        rows[1].contains("a.png,red,0.") && rows[2].contains(",,,") && rows[2].contains("b.png: expected"),
        "{text}"
    );

    refused(2, &["predict", &run, &a, "--top", "0"], &["--top"]);
    refused(2, &["predict", &run, &a, "--csv", "--json"], &["--csv"]);
    refused(2, &["predict", &run, &a, "--out", "x.png"], &["--out", "classifier"]);
    refused(2, &["predict", &run], &["INPUT"]);
    fs::write(place.path("x.csv"), "1,2\n").unwrap();
    refused(1, &["predict", &run, &place.text("x.csv")], &["expected an image of 8x8 in 3 channels, found rows"]);
    npz(&place.path("odd.npz"), &[("a", "|u1", "(1, 8, 8, 5)", &[0; 320]), ("b", "|u1", "(1,)", &[0])]);
    refused(1, &["predict", &run, &place.text("odd.npz")], &["an array x or x_test, or only one array", "a, b"]);
    npz(&place.path("odd.npz"), &[("a", "|u1", "(1, 8, 8, 5)", &[0; 320])]);
    refused(
        1,
        &["predict", &run, &place.text("odd.npz")],
        &["odd.npz: expected an image of 8x8 in 3", "in 5 channels"],
    );
}

#[test]
fn rows_of_tables_are_answered_by_the_names_of_their_columns() {
    let place = Place::new();
    let mut table = "a,b,=price\n".to_string();
    for i in 0..60 {
        let (a, b) = (f64::from(i * 37 % 100) / 100.0, f64::from(i * 53 % 100) / 10.0);
        table += &format!("{a},{b},{}\n", 5000.0 + 800.0 * a - 30.0 * b);
    }
    fs::write(place.path("numbers.csv"), table).unwrap();
    let (data, run) = (format!("csv:{}", place.text("numbers.csv")), place.text("run"));
    let fixed = ["train", "table-regression", "--data", &data, "--model", "mlp:8", "--epochs", "3", "--out", &run];
    assert!(fixnet(&fixed).status.success());
    let packed = place.text("packed.safetensors");
    assert!(fixnet(&["export", &run, "--packed", &packed]).status.success());

    let [ordered, mixed, plain, broken] = ["o.csv", "m.csv", "p.csv", "b.csv"].map(|name| place.text(name));
    fs::write(&ordered, "a,b\n0.5,2\n0.25,9\n").unwrap();
    fs::write(&mixed, "=price,b,a\nx,2,0.5\n,9,0.25\n").unwrap();
    fs::write(&plain, "0.5,2\n0.25,9\n").unwrap();
    fs::write(&broken, "a,b\n0.5,2\nNA,9\n0.5\n0.25,9\n").unwrap();
    let rows: Vec<u8> = [0.5f32, 2.0, 0.25, 9.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    npz(&place.path("x.npz"), &[("x", "<f4", "(2, 2)", &rows), ("more", "|u1", "(1,)", &[1])]);
    let numbers = |of: &str, input: &str| -> Vec<Value> {
        lines(&["predict", of, input, "--json"]).iter().map(|line| line["numbers"].clone()).collect()
    };
    let expected = numbers(&run, &ordered);
    let price = expected[0]["=price"].as_f64().unwrap();
    assert!((4000.0..7000.0).contains(&price) && expected.len() == 2, "in the unit of the target: {expected:?}");
    for of in [&run, &packed] {
        for input in [&ordered, &mixed, &plain, &place.text("x.npz")] {
            assert_eq!(numbers(of, input), expected, "{of} {input}");
        }
    }
    assert!(
        stderr(&fixnet(&["predict", &run, &mixed])).contains("m.csv: the column `=price`, the target, is left out")
    );
    let lined = fixnet(&["predict", &run, &ordered]);
    assert!(String::from_utf8_lossy(&lined.stdout).starts_with(&format!("{ordered}:2  =price ")));

    // A table for spreadsheets, in which no name is a formula.
    let out = fixnet(&["predict", &run, &broken, "--csv"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let found: Vec<&str> = text.lines().collect();
    assert_eq!((out.status.code(), found.len(), found[0]), (Some(1), 5, "input,'=price,error"), "{text}");
    assert!(found[1].starts_with(&format!("{broken}:2,{price}")), "{text}");
    assert!(found[2].contains("line 3, column `a`") && found[3].contains("line 4: expected 2 fields"), "{text}");

    fs::write(&mixed, "a,c\n1,2\n").unwrap();
    refused(1, &["predict", &run, &mixed], &["m.csv: expected the columns of the network: a, b", "without `b`"]);
    refused(1, &["predict", &packed, &mixed], &["m.csv: expected the columns of the network: a, b"]);
    RgbImage::new(2, 1).save(place.path("x.png")).unwrap();
    refused(
        1,
        &["predict", &run, &place.text("x.png")],
        &["x.png: expected a row of 2 numbers, found an image of 1x2"],
    );
    assert!(stderr(&fixnet(&["predict", &run, &ordered, "--top", "2"])).contains("warning: --top"));
}
