//! The sources of pictures for super-resolution, and the embedded one, `photos`: windows of photographs, from which it may be learned
//! without a download.
//!
//! `examples/make_photo_crops.rs` cut them; `data/README.md` gives authors and licences. No photograph is in both parts.

use crate::source::{Reader, Request, SourceKind};
use crate::{DataError, Pairs, Picture, Result};
use std::path::Path;

/// The rows of the registry.
pub(crate) const PHOTOS: SourceKind = SourceKind::new(
    "photos[:PATH]",
    "for super-resolution: photographs, embedded or of a folder, of which small pictures are made",
    &Photos,
);
pub(crate) const PAIRS: SourceKind =
    SourceKind::new("pairs:PATH", "for super-resolution: a folder of small pictures beside large ones", &Pairwise);

#[derive(Debug)]
struct Photos;

impl Reader for Photos {
    fn pairs(&self, request: &Request<'_>, part: &str, scale: usize, alone: bool) -> Result<Pairs> {
        match request.source.argument() {
            None => photos(part, scale),
            Some(_) => part_of(request.path(), part, alone, |path| Pairs::read_photos(path, scale)),
        }
    }
}

#[derive(Debug)]
struct Pairwise;

impl Reader for Pairwise {
    fn pairs(&self, request: &Request<'_>, part: &str, scale: usize, alone: bool) -> Result<Pairs> {
        part_of(request.path(), part, alone, |path| Pairs::read_pairs(path, scale))
    }
}

/// The pictures of a part: those of the folder of this name. A folder without parts is all for training, or where it is asked for
/// `alone`, all of what is asked for.
fn part_of(path: &Path, part: &str, alone: bool, read: impl Fn(&Path) -> Result<Pairs>) -> Result<Pairs> {
    let folder = path.join(part);
    let undivided = if alone { !folder.is_dir() } else { part == "train" && !path.join("test").is_dir() };
    match (folder.is_dir(), undivided) {
        (true, _) => read(&folder),
        (false, true) => read(path),
        _ => Err(DataError::Unexpected {
            place: path.display().to_string(),
            expected: format!("a folder `{part}` in it, or data.test with the pictures for testing"),
            found: "neither".into(),
        }),
    }
}

macro_rules! crops {
    ($($name:literal),*) => { &[$(($name, include_bytes!(concat!("../data/photos/", $name, ".webp")))),*] };
}

pub(crate) static TRAIN: &[(&str, &[u8])] =
    crops!("train-aitzgorri", "train-bowl", "train-life", "train-picos", "train-seeding", "train-sunset", "train-wine");
pub(crate) static TEST: &[(&str, &[u8])] = crops!("test-brushes", "test-friends");

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
