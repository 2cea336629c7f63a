//! Sequences go through whole runs: trained, resumed, judged, verified, reported, exported and asked about, from sounds that fixnet
//! makes, from WAV files and from arrays.

mod common;

use common::{fixnet, json, refused, stderr};
use std::fs;
use std::path::{Path, PathBuf};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn train(&self, out: &str, more: &[&str]) -> serde_json::Value {
        let out = self.text(out);
        let fixed =
            ["train", "tones", "--epochs", "4", "--model", "cnn1d:16-16", "--json", "--overwrite", "--out", &out];
        json(&[&fixed[..], more].concat())
    }
}

/// A WAV file of 16 bits.
fn wav(path: &Path, rate: u32, samples: &[i16]) {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + 2 * samples.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend([rate, 2 * rate].map(u32::to_le_bytes).as_flattened());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((2 * samples.len() as u32).to_le_bytes());
    bytes.extend(samples.iter().flat_map(|v| v.to_le_bytes()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn runs_on_tones_go_through_every_command() {
    let place = Place::new();
    for bits in ["32/32/32", "4/4/4"] {
        let trained = place.train("run", &["--bits", bits, "--threads", "1"]);
        let other = place.train("other", &["--bits", bits, "--threads", "2", "--isa", "scalar"]);
        assert_eq!(trained["digest"], other["digest"]);
        let run = place.text("run");
        fs::rename(place.path("run/checkpoint.previous.safetensors"), place.path("run/checkpoint.safetensors"))
            .unwrap();
        assert_eq!(json(&["resume", &run, "--json", "--threads", "2"])["digest"], trained["digest"]);
        assert_eq!(json(&["verify", &run, "--threads", "2", "--json"])["equal"], true);
        let found = json(&["eval", &run, "--json"]);
        assert!(found["accuracy"].as_f64().unwrap() > 0.5, "{bits}: {found}");
        let [packed, onnx, samples] = ["p.safetensors", "net.onnx", "s.safetensors"].map(|name| place.text(name));
        let out = fixnet(&["export", &run, "--packed", &packed, "--onnx", &onnx, "--samples", &samples]);
        assert!(out.status.success(), "{}", stderr(&out));
        let again = json(&["eval", &packed, "--json"]);
        assert_eq!((&found["loss"], &found["accuracy"]), (&again["loss"], &again["accuracy"]));
        assert!(String::from_utf8_lossy(&fs::read(&onnx).unwrap()).contains("the steps of a sequence as they are"));
        let page = place.text("report.html");
        for command in [&["report", &run, "--out", &page][..], &["summary", &run], &["inspect", &run]] {
            let out = fixnet(command);
            assert!(out.status.success(), "{command:?}: {}", stderr(&out));
        }
        let page = fs::read_to_string(page).unwrap();
        assert!(page.contains("Test sequences") && page.contains("860 Hz down"));
        // The network and its packed file say the same of WAV files, of which most are of the right class.
        for i in 0..10 {
            wav(&place.path(&format!("ask/{i}.wav")), 8000, &fixnet::data::tone(1, i));
        }
        let ask = place.text("ask");
        let answers = [&run, &packed].map(|of| {
            let out = fixnet(&["predict", of, &ask, "--csv", "--top", "1"]);
            assert!(out.status.success(), "{}", stderr(&out));
            String::from_utf8(out.stdout).unwrap()
        });
        assert_eq!(answers[0], answers[1]);
        assert!(answers[0].lines().count() == 11 && answers[0].contains(" Hz "), "{}", answers[0]);
    }
    let run = place.text("run");
    wav(&place.path("odd.wav"), 16_000, &[7; 900]);
    refused(1, &["predict", &run, &place.text("odd.wav")], &["odd.wav: expected 8000 samples a second", "found 16000"]);
    fs::write(place.path("x.csv"), "1,2\n").unwrap();
    refused(1, &["predict", &run, &place.text("x.csv")], &["expected a sequence of 23 steps of 40 numbers"]);
    refused(2, &["train", "digits", "--set", "data.seconds=2"], &["seconds: expected left out", "no recordings"]);
    refused(2, &["train", "tones", "--set", "data.hop_ms=0"], &["hop_ms: expected 1 to 1000 milliseconds, found 0"]);
    let summary = json(&["summary", "tones", "--input", "98x40", "--classes", "35", "--json"]);
    assert!(summary["parameters"].as_u64().unwrap() > 32 * 5 * 40, "{summary}");
}

#[test]
fn folders_of_wav_files_are_trained_on_and_asked_about() {
    let place = Place::new();
    let sample = |i: usize, turns: usize| if (i * turns / 64).is_multiple_of(2) { 6000 } else { -6000 };
    for (class, turns) in [("low", 3), ("high", 17)] {
        for i in 0..24 {
            let samples: Vec<i16> = (0..1600 + 20 * i).map(|t| sample(t, turns + i % 3)).collect();
            wav(&place.path(&format!("sounds/{class}/{i}.wav")), 8000, &samples);
        }
    }
    let (data, run) = (format!("wav:{}", place.text("sounds")), place.text("run"));
    let fixed = ["train", "spoken-digits", "--data", &data, "--set", "data.seconds=0.25", "--epochs", "6"];
    let trained =
        json(&[&fixed[..], &["--model", "cnn1d:8-16", "--batch-size", "8", "--json", "--out", &run]].concat());
    assert_eq!(trained["test_accuracy"], 1.0, "{trained}");
    let out = fixnet(&["predict", &run, &place.text("sounds/high/5.wav"), "--top", "1"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("high") && !text.contains("low "), "{text}{}", stderr(&out));
    // The packed network knows the rate of its recordings too.
    let packed = place.text("p.safetensors");
    let out = fixnet(&["export", &run, "--packed", &packed]);
    assert!(out.status.success(), "{}", stderr(&out));
    for (part, class) in [("train", "low"), ("train", "high"), ("test", "low"), ("test", "high")] {
        wav(&place.path(&format!("other/{part}/{class}/0.wav")), 16_000, &[7; 4000]);
    }
    let other = format!("wav:{}", place.text("other"));
    for of in [&run, &packed] {
        let words = ["0.wav: expected 8000 samples a second", "found 16000"];
        refused(1, &["eval", of, "--data", &other], &words);
    }
    wav(&place.path("sounds/low/odd.wav"), 44_100, &[7; 900]);
    refused(1, &["eval", &run], &["odd.wav: expected 8000 samples a second", "found 44100"]);
}

#[test]
fn arrays_of_sequences_are_trained_on_and_asked_about() {
    let place = Place::new();
    let npy = |descr: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    // Class 1 rises in its second channel, class 0 falls.
    let values = |count: usize| -> Vec<u8> {
        let value = |i: usize, t: usize, c: usize| match (c, i % 2) {
            (0, _) => ((i * 7 + t * 3) % 11) as f32,
            (_, 1) => 100.0 + 3.0 * t as f32 + (i % 5) as f32,
            _ => 160.0 - 3.0 * t as f32 + (i % 7) as f32,
        };
        let all = (0..count).flat_map(|i| (0..20).flat_map(move |t| [(i, t, 0), (i, t, 1)]));
        all.flat_map(|(i, t, c)| value(i, t, c).to_le_bytes()).collect()
    };
    let labels = |count: usize| -> Vec<u8> { (0..count).map(|i| (i % 2) as u8).collect() };
    let entries = [
        ("x_train", npy("<f4", "(64, 20, 2)", &values(64))),
        ("y_train", npy("|u1", "(64,)", &labels(64))),
        ("x_test", npy("<f4", "(16, 20, 2)", &values(16))),
        ("y_test", npy("|u1", "(16,)", &labels(16))),
    ];
    // A zip archive without compression.
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &entries {
        let (at, name, len) = (zip.len() as u32, format!("{name}.npy"), bytes.len() as u32);
        let mut crc = !0u32;
        for &byte in bytes {
            crc ^= u32::from(byte);
            (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
        }
        let fields =
            [&[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &(!crc).to_le_bytes(), &len.to_le_bytes(), &len.to_le_bytes()];
        let fields = [&fields.concat()[..], &(name.len() as u16).to_le_bytes(), &[0, 0]].concat();
        zip.extend([b"PK\x03\x04", &fields[..], name.as_bytes(), bytes].concat());
        let tail = [&[0; 10][..], &at.to_le_bytes(), name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02\x14\0", &fields[..], &tail].concat());
    }
    let (at, len) = (zip.len() as u32, directory.len() as u32);
    zip.extend(directory);
    zip.extend([b"PK\x05\x06\0\0\0\0\x04\0\x04\0", &len.to_le_bytes()[..], &at.to_le_bytes(), &[0, 0]].concat());
    fs::write(place.path("data.npz"), zip).unwrap();
    let (data, run) = (format!("sequences:{}", place.text("data.npz")), place.text("run"));
    let trained = json(&[
        "train",
        "tones",
        "--data",
        &data,
        "--model",
        "cnn1d:8-8",
        "--batch-size",
        "8",
        "--epochs",
        "8",
        "--json",
        "--out",
        &run,
    ]);
    assert_eq!(trained["test_accuracy"], 1.0, "{trained}");
    let out = fixnet(&["predict", &run, &place.text("data.npz"), "--csv", "--top", "1"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(text.lines().count(), 17, "{text}{}", stderr(&out));
    assert!(text.lines().nth(2).unwrap().contains("data.npz[1],1,"), "{text}");
}
