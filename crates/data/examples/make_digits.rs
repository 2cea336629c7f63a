//! Makes the embedded data set `digits` from the four files of MNIST.
//!
//! ```text
//! cargo run --release -p fixnet-data --example make_digits -- MNIST_FOLDER crates/data/data
//! ```
//!
//! Of each class with n images it takes those at the places floor(j * n / count), j = 0, 1, …, so that the choice is
//! fixed, balanced and spread over the whole file (early and late writers). The order is that of the file.

use fixnet_data::{Dataset, Idx, mnist};
use flate2::{Compression, write::GzEncoder};
use std::{error::Error, io::Write, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else { return Err("usage: make_digits MNIST_FOLDER OUTPUT_FOLDER".into()) };
    let split = mnist(Path::new(from))?;
    write(&split.train, 600, Path::new(to), "digits-train")?;
    write(&split.test, 100, Path::new(to), "digits-test")
}

/// Writes `count` images of each class and their labels.
fn write(data: &Dataset, count: usize, folder: &Path, stem: &str) -> Result<(), Box<dyn Error>> {
    let mut chosen = Vec::new();
    for class in 0..data.classes() {
        let of_class: Vec<usize> = (0..data.len()).filter(|&i| usize::from(data.labels()[i]) == class).collect();
        chosen.extend((0..count).map(|j| of_class[j * of_class.len() / count]));
    }
    chosen.sort_unstable();
    let mut images = Vec::new();
    for &i in &chosen {
        images.extend_from_slice(&data.image(i)?);
    }
    let labels = chosen.iter().map(|&i| data.labels()[i] as u8).collect();
    let shape = vec![chosen.len(), data.shape()[0], data.shape()[1]];
    zip(&folder.join(format!("{stem}-images-idx3-ubyte.gz")), &Idx { shape, data: images })?;
    zip(&folder.join(format!("{stem}-labels-idx1-ubyte.gz")), &Idx { shape: vec![chosen.len()], data: labels })
}

fn zip(path: &Path, array: &Idx) -> Result<(), Box<dyn Error>> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(&array.to_bytes())?;
    let bytes = out.finish()?;
    println!("{}: {} bytes", path.display(), bytes.len());
    Ok(std::fs::write(path, bytes)?)
}
