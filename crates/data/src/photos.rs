//! The embedded data set `photos`: windows of photographs, from which super-resolution may be learned without a download.
//!
//! `examples/make_photo_crops.rs` cut them; `data/README.md` gives authors and licences. No photograph is in both parts.

use crate::{Pairs, Picture, Result};
use std::path::Path;

macro_rules! crops {
    ($($name:literal),*) => { &[$(($name, include_bytes!(concat!("../data/photos/", $name, ".png")))),*] };
}

const TRAIN: &[(&str, &[u8])] =
    crops!("train-aitzgorri", "train-bowl", "train-life", "train-picos", "train-seeding", "train-sunset", "train-wine");
const TEST: &[(&str, &[u8])] = crops!("test-brushes", "test-friends");

/// Makes the pairs of a part, `train` or else those for testing: 7 and 2.
///
/// # Errors
/// The scale is not 2 to 4. Else none in practice: the photographs are part of the program, and a test reads them.
pub(crate) fn photos(part: &str, scale: usize) -> Result<Pairs> {
    let photos = if part == "train" { TRAIN } else { TEST };
    let read = |(name, bytes): &(&str, &[u8])| Ok(((*name).to_string(), Picture::decode(Path::new(name), bytes)?));
    Pairs::of_photos(format!("photos {part}"), scale, photos.iter().map(read).collect::<Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_photographs_are_read_and_stay_small() {
        assert!(TRAIN.iter().chain(TEST).map(|(_, bytes)| bytes.len()).sum::<usize>() <= 2_000_000);
        for scale in [2, 3, 4] {
            assert_eq!((photos("train", scale).unwrap().len(), photos("test", scale).unwrap().len()), (7, 2));
        }
        let sums = ["train", "test"].map(|part| photos(part, 2).unwrap().fingerprint()[..16].to_string());
        assert_eq!(sums, ["a478d9473cdb7ac4", "7074b9383dc64b02"]);
    }
}
