//! Cuts the photographs behind the data set `photos`.
//!
//! ```text
//! cargo run --release -p fixnet-data --example make_photo_crops -- PHOTO_FOLDER crates/data/data/photos
//! ```
//!
//! Each is a window of a photograph, at its resolution: shrinking is what the data set itself does.

use fixnet_data::Picture;
use std::{error::Error, path::Path};

/// File, its name here, first column and row of the window, and its columns and rows.
const CROPS: [(&str, &str, [usize; 4]); 9] = [
    ("Picture_0B_by_freespace.png", "train-bowl.png", [230, 110, 288, 256]),
    ("Wine_by_Jakkub_Mede.png", "train-wine.png", [240, 110, 288, 256]),
    ("aitzgorri_by_Aitzol_Berasategi.png", "train-aitzgorri.png", [330, 130, 288, 256]),
    ("life_by_Aitzol_Berasategi.png", "train-life.png", [200, 100, 288, 256]),
    ("picosdeeuropa_by_Aitzol_Berasategi.png", "train-picos.png", [380, 60, 288, 256]),
    ("seeding_by_Clements_Engelhardt.png", "train-seeding.png", [240, 60, 288, 256]),
    ("sunset_by_Aitzol_Berasategi.png", "train-sunset.png", [700, 420, 288, 256]),
    ("friends_by_Aitzol_Berasategi.png", "test-friends.png", [120, 150, 256, 240]),
    ("Picture_1A_by_freespace.png", "test-brushes.png", [20, 4, 256, 240]),
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to] = args.as_slice() else { return Err("usage: make_photo_crops PHOTO_FOLDER OUTPUT_FOLDER".into()) };
    let mut total = 0;
    for (file, name, [left, top, width, height]) in CROPS {
        let png = Picture::read(&Path::new(from).join(file))?.window([top, left], [height, width])?.to_png()?;
        println!("{name}: {width} x {height}, {} bytes", png.len());
        total += png.len();
        std::fs::write(Path::new(to).join(name), png)?;
    }
    println!("{total} bytes in all");
    Ok(())
}
