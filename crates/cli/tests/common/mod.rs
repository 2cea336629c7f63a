//! What the tests of the command share: calls, and a tiny data set.
#![allow(dead_code, reason = "each test file uses its part")]

use image::{Rgb, RgbImage};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with a tiny data set.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) data: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        tiny(folder.path(), 16);
        let data = format!("mnist:{}", folder.path().display());
        Self { folder, data }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }
}

/// The command with arguments.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fixnet"));
    command.args(args);
    command
}

/// The command, run to its end.
pub(crate) fn fixnet(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn stderr(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The command must succeed; the JSON object on its last line.
pub(crate) fn json(args: &[&str]) -> serde_json::Value {
    let out = fixnet(args);
    assert!(out.status.success(), "{args:?}: {}", stderr(&out));
    serde_json::from_str(String::from_utf8_lossy(&out.stdout).lines().last().unwrap()).unwrap()
}

/// The command must end with this exit code and a message with these words.
pub(crate) fn refused(code: i32, args: &[&str], words: &[&str]) {
    let out = fixnet(args);
    let text = stderr(&out);
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
    for word in words {
        assert!(text.contains(word), "{args:?}: `{word}` is not in: {text}");
    }
}

/// A file in IDX format.
pub(crate) fn idx(magic: u32, sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let head = std::iter::once(magic).chain(sizes.iter().copied()).flat_map(u32::to_be_bytes);
    head.chain(data.iter().copied()).collect()
}

/// A tiny data set of MNIST's form: `count` images of 8x8 with two labels, for training and for testing.
pub(crate) fn tiny(folder: &Path, count: u32) {
    let left = |i: u32| (i / 64).is_multiple_of(2);
    let pixel = |i: u32| if left(i) == (i % 8 < 4) { 200 - (i / 64 % 50) as u8 } else { (i * 7 % 40) as u8 };
    let pixels: Vec<u8> = (0..count * 64).map(pixel).collect();
    let labels: Vec<u8> = (0..count).map(|i| (i % 2) as u8).collect();
    for part in ["train", "t10k"] {
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), idx(0x803, &[count, 8, 8], &pixels)).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), idx(0x801, &[count], &labels)).unwrap();
    }
}

/// Two classes, red and blue, of 12 training and 4 test images of 8x8 each.
pub(crate) fn images(folder: &Path) {
    for (part, count) in [("train", 12), ("test", 4)] {
        for (class, hue) in [("blue", 2), ("red", 0)] {
            let folder = folder.join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let pixel = |x: u32, y: u32| {
                    let mut pixel = [(x * 9 + i) as u8, (y * 11) as u8, (7 * i) as u8];
                    pixel[hue] = 200 + i as u8;
                    Rgb(pixel)
                };
                RgbImage::from_fn(8, 8, pixel).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
}
