//! Makes the small photographs behind the data set `photo-digits`.
//!
//! ```text
//! cargo run --release -p fixnet-data --example make_photos -- PHOTO_FOLDER crates/data/data
//! ```
//!
//! Each is shrunk so that its longer side has the length below and is written as PNG, which decodes to the same bytes on
//! every machine and with every decoder; JPEG does not.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
    imageops,
};
use std::{error::Error, path::Path};

/// File and length of the longer side after shrinking. Smooth pictures compress well and stay larger.
const PHOTOS: [(&str, u32); 5] = [
    ("astronaut.png", 216),
    ("coffee.png", 270),
    ("hubble_deep_field.jpg", 204),
    ("chelsea.png", 256),
    ("rocket.jpg", 288),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else { return Err("usage: make_photos PHOTO_FOLDER OUTPUT_FOLDER".into()) };
    let mut total = 0;
    for (name, side) in PHOTOS {
        let photo = image::open(Path::new(from).join(name))?.into_rgb8();
        let longer = photo.width().max(photo.height());
        let shrink = |length: u32| (length * side + longer / 2) / longer;
        let (width, height) = (shrink(photo.width()), shrink(photo.height()));
        let small = imageops::resize(&photo, width, height, imageops::FilterType::CatmullRom);
        let mut bytes = Vec::new();
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive).write_image(
            &small,
            width,
            height,
            ExtendedColorType::Rgb8,
        )?;
        let path = Path::new(to).join(name).with_extension("png");
        println!("{}: {width} x {height}, {} bytes", path.display(), bytes.len());
        total += bytes.len();
        std::fs::write(path, bytes)?;
    }
    println!("{total} bytes in all");
    Ok(())
}
