//! `Pairs`: small pictures beside the large ones that they stand for, of any sizes, as super-resolution learns from and is
//! judged by them.
//!
//! Opening reads every file once. Pairs are kept in memory if all of them are small together; else each is decoded again when
//! it is asked for, and memory holds only those in use.

use crate::endings::{endings, is_image_name};
use crate::entries::entries;
use crate::image_file::unexpected;
use crate::samples::IN_MEMORY;
use crate::{DataError, Picture, Result, bicubic};
use fixnet_tensor::rng::{Stream, domain};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many times a picture may be enlarged.
pub(crate) const SCALES: std::ops::RangeInclusive<usize> = 2..=4;
/// Pairs that are not kept in memory are known by the pixels of this many, evenly spread, and by the lengths of all files.
const SAMPLED: usize = 16;

/// Pairs of a small picture and the large one that is `scale` times as high and wide. A clone shares the pictures.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// What they are, for messages.
    pub name: String,
    scale: usize,
    pairs: Vec<Arc<Pair>>,
    fingerprint: String,
}

#[derive(Debug)]
struct Pair {
    name: String,
    /// Height and width of the small picture.
    size: [usize; 2],
    /// The lengths of the files.
    stamp: u64,
    held: Held,
}

#[derive(Debug)]
enum Held {
    Memory { small: Picture, large: Picture },
    Files(Files),
}

/// Where a pair is read from. Without a file of its own the small picture is the shrunk large one.
#[derive(Debug, Clone)]
struct Files {
    large: PathBuf,
    small: Option<PathBuf>,
}

/// Pairs to learn from and to judge by.
#[derive(Debug, Clone)]
pub struct PairSplit {
    /// For learning.
    pub train: Pairs,
    /// For measuring at the end.
    pub test: Pairs,
    /// For measuring on the way, if a share of the training pairs was set apart.
    pub validation: Option<Pairs>,
}

impl Pairs {
    /// Pairs of pictures in memory, each with its name.
    ///
    /// # Errors
    /// There is none, `scale` is not 2 to 4, or a large picture is not `scale` times as high and wide as its small one.
    pub fn new(name: impl Into<String>, scale: usize, pairs: Vec<(String, Picture, Picture)>) -> Result<Self> {
        let pair = |(name, small, large): (String, Picture, Picture)| {
            let size = fitting(&name, scale, &small, &large)?;
            Ok(Arc::new(Pair { name, size, stamp: 0, held: Held::Memory { small, large } }))
        };
        Self::of(name.into(), scale, pairs.into_iter().map(pair).collect::<Result<_>>()?)
    }

    /// Photographs in memory, each with its name: the small pictures are made by [`bicubic`].
    ///
    /// # Errors
    /// There is none, `scale` is not 2 to 4, or a photograph has fewer pixels on a side than that.
    pub fn of_photos(name: impl Into<String>, scale: usize, photos: Vec<(String, Picture)>) -> Result<Self> {
        let pair =
            |(name, photo): (String, Picture)| shrunk(&name, scale, &photo).map(|(small, large)| (name, small, large));
        Self::new(name, scale, photos.into_iter().map(pair).collect::<Result<_>>()?)
    }

    /// The image files of a folder (by their [endings](crate::ENDINGS)) in the order of their names; other files do not count. A photograph whose sides are
    /// no multiples of `scale` loses its last rows and columns. The small pictures are made by [`bicubic`].
    ///
    /// # Errors
    /// There is no image, one is damaged, or one has fewer pixels on a side than `scale`.
    pub fn read_photos(folder: &Path, scale: usize) -> Result<Self> {
        let files = images(folder)?.into_iter().map(|large| Files { large, small: None }).collect();
        Self::read(folder, scale, files, IN_MEMORY)
    }

    /// The pairs of a folder: `NAME_LR.png` beside `NAME_HR.png`, or the files of one name in its folders `LR` and `HR`, in the
    /// order of their names (PNG, JPEG, WebP or BMP); other files do not count.
    ///
    /// # Errors
    /// There is no pair, a large picture has no small one, one is damaged, or its size is not `scale` times that of the other.
    pub fn read_pairs(folder: &Path, scale: usize) -> Result<Self> {
        let beside = |large: PathBuf| -> Option<Files> {
            let stem = large.file_stem()?.to_str()?.strip_suffix("_HR")?;
            let small = large.with_file_name(format!("{stem}_LR.{}", large.extension()?.to_str()?));
            Some(Files { small: Some(small), large })
        };
        let (small, large) = (folder.join("LR"), folder.join("HR"));
        let files: Vec<Files> = match small.is_dir() && large.is_dir() {
            true => {
                let of = |large: PathBuf| Files { small: large.file_name().map(|name| small.join(name)), large };
                images(&large)?.into_iter().map(of).collect()
            }
            false => images(folder)?.into_iter().filter_map(beside).collect(),
        };
        if files.is_empty() {
            return Err(unexpected(
                folder,
                "pairs NAME_LR.png and NAME_HR.png, or folders LR and HR with them",
                "none",
            ));
        }
        Self::read(folder, scale, files, IN_MEMORY)
    }

    fn read(folder: &Path, scale: usize, files: Vec<Files>, in_memory: u64) -> Result<Self> {
        let bytes = |files: &Files| Picture::size_of_file(&files.large).map(|[h, w]| 4 * (h * w) as u64);
        let bytes = files.par_iter().map(bytes).collect::<Vec<_>>();
        let keep = bytes.into_iter().sum::<Result<u64>>()? <= in_memory;
        let pair = |files: &Files| {
            let (small, large) = files.read(scale)?;
            let name = files.large.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let size = fitting(&files.large.display().to_string(), scale, &small, &large)?;
            let held = if keep { Held::Memory { small, large } } else { Held::Files(files.clone()) };
            Ok(Arc::new(Pair { name, size, stamp: files.stamp(), held }))
        };
        // Each in its place: of several errors it is always the first.
        let pairs = files.par_iter().map(pair).collect::<Vec<_>>();
        Self::of(folder.display().to_string(), scale, pairs.into_iter().collect::<Result<_>>()?)
    }

    fn of(name: String, scale: usize, pairs: Vec<Arc<Pair>>) -> Result<Self> {
        check_scale(scale)?;
        if pairs.is_empty() {
            return Err(DataError::Empty { place: name });
        }
        let mut set = Self { name, scale, pairs, fingerprint: String::new() };
        set.fingerprint = set.hash()?;
        Ok(set)
    }

    /// A hash over scale, sizes and pixels.
    fn hash(&self) -> Result<String> {
        let (mut hash, len) = (blake3::Hasher::new(), self.len());
        hash.update(format!("{} {len}", self.scale).as_bytes());
        for pair in &self.pairs {
            let stamp = if matches!(pair.held, Held::Memory { .. }) { 0 } else { pair.stamp };
            hash.update(format!(" {:?} {stamp}", pair.size).as_bytes());
        }
        let kept = self.pairs.iter().all(|pair| matches!(pair.held, Held::Memory { .. }));
        let count = if kept { len } else { len.min(SAMPLED) };
        for i in 0..count {
            self.with_pair((i as u128 * len as u128 / count as u128) as usize, |small, large| {
                hash.update(small.pixels()).update(large.pixels());
            })?;
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    /// How many times higher and wider the large pictures are.
    pub fn scale(&self) -> usize {
        self.scale
    }

    /// The number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair; never true for a set that was made.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// What tells this set from others: a hash (blake3, hex) of scale, sizes and pixels in their order. Of pairs that are not
    /// kept in memory, 16, evenly spread, and the lengths of all files stand for the pixels.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What pair `index` is called: the name of the large file without its ending.
    ///
    /// # Panics
    /// There is no such pair.
    pub fn name_of(&self, index: usize) -> &str {
        &self.pairs[index].name
    }

    /// Height and width of small picture `index`.
    ///
    /// # Panics
    /// There is no such pair.
    pub fn size_of(&self, index: usize) -> [usize; 2] {
        self.pairs[index].size
    }

    /// Returns small picture `index` and the large one that it stands for.
    ///
    /// # Errors
    /// The pair is not kept in memory and a file is no longer what it was.
    ///
    /// # Panics
    /// There is no such pair.
    pub fn pair(&self, index: usize) -> Result<(Picture, Picture)> {
        self.with_pair(index, |small, large| (small.clone(), large.clone()))
    }

    /// The same, handed on.
    pub(crate) fn with_pair<T>(&self, index: usize, to: impl FnOnce(&Picture, &Picture) -> T) -> Result<T> {
        let pair = &self.pairs[index];
        match &pair.held {
            Held::Memory { small, large } => Ok(to(small, large)),
            Held::Files(files) => {
                let (small, large) = files.read(self.scale)?;
                let found = fitting(&pair.name, self.scale, &small, &large)?;
                if found != pair.size {
                    let expected = format!("a picture for {:?} small pixels, as before", pair.size);
                    return Err(unexpected(&files.large, &expected, format!("{found:?}")));
                }
                Ok(to(&small, &large))
            }
        }
    }

    /// Sets a share of the pairs apart, drawn by `seed`: (the rest, the share), each in its order, at least one in either.
    ///
    /// # Errors
    /// There are fewer than two pairs, or a file is no longer what it was.
    pub(crate) fn apart(&self, share: f64, seed: u64, name: &str) -> Result<(Self, Self)> {
        if self.len() < 2 {
            let expected = format!("at least two pictures, of which one goes to {name}");
            return Err(DataError::Unexpected { place: self.name.clone(), expected, found: "one".into() });
        }
        let count = ((self.len() as f64 * share).round() as usize).clamp(1, self.len() - 1);
        let mut order = Stream::new(seed, domain::SPLIT, 0, 0).permutation(self.len());
        order[..count].sort_unstable();
        order[count..].sort_unstable();
        let of = |name: &str, places: &[usize]| {
            Self::of(name.into(), self.scale, places.iter().map(|&i| Arc::clone(&self.pairs[i])).collect())
        };
        Ok((of(&self.name, &order[count..])?, of(name, &order[..count])?))
    }
}

impl PairSplit {
    /// Sets a share of the training pairs apart for validation, drawn by `seed` alone; 0 leaves all as it is.
    ///
    /// # Errors
    /// There are fewer than two training pairs.
    pub fn with_validation(mut self, share: f64, seed: u64) -> Result<Self> {
        if share > 0.0 {
            let name = format!("{}, set apart for validation", self.train.name);
            let (train, validation) = self.train.apart(share, seed, &name)?;
            (self.train, self.validation) = (train, Some(validation));
        }
        Ok(self)
    }
}

impl Files {
    fn read(&self, scale: usize) -> Result<(Picture, Picture)> {
        let large = Picture::read(&self.large)?;
        match &self.small {
            Some(small) => Ok((Picture::read(small)?, large)),
            None => shrunk(&self.large.display().to_string(), scale, &large),
        }
    }

    fn stamp(&self) -> u64 {
        let len = |path: &PathBuf| std::fs::metadata(path).map_or(0, |of| of.len());
        len(&self.large) ^ self.small.as_ref().map_or(0, len).rotate_left(32)
    }
}

/// Checks a factor by which pictures are enlarged.
pub(crate) fn check_scale(scale: usize) -> Result<()> {
    match SCALES.contains(&scale) {
        true => Ok(()),
        false => Err(DataError::setting("scale of pictures", "2, 3 or 4", scale)),
    }
}

/// A photograph without the rows and columns beyond a multiple of the scale, and its small picture before it.
fn shrunk(name: &str, scale: usize, photo: &Picture) -> Result<(Picture, Picture)> {
    check_scale(scale)?;
    let [height, width] = [photo.height() / scale, photo.width() / scale];
    if height == 0 || width == 0 {
        let expected = format!("a photograph of at least {scale}x{scale} pixels");
        let found = format!("{}x{}", photo.height(), photo.width());
        return Err(DataError::Unexpected { place: name.into(), expected, found });
    }
    let large = photo.window([0, 0], [height * scale, width * scale])?;
    Ok((bicubic(&large, height, width)?, large))
}

/// Checks that a large picture is `scale` times its small one, and returns height and width of that.
fn fitting(name: &str, scale: usize, small: &Picture, large: &Picture) -> Result<[usize; 2]> {
    let (size, found) = ([small.height(), small.width()], [large.height(), large.width()]);
    match size.map(|side| side * scale) == found {
        true => Ok(size),
        false => Err(DataError::Unexpected {
            place: name.into(),
            expected: format!("{scale} times {}x{} (height, width), the small picture", size[0], size[1]),
            found: format!("{}x{}", found[0], found[1]),
        }),
    }
}

/// The images of a folder by their endings, in the order of their names.
fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let files: Vec<PathBuf> = entries(folder)?.into_iter().filter(|path| is_image_name(path)).collect();
    match files.is_empty() {
        true => Err(unexpected(folder, &format!("at least one file {}", endings()), "none")),
        false => Ok(files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(height: usize, width: usize, start: usize) -> Picture {
        Picture::new(height, width, (0..height * width * 3).map(|i| ((i + start) * 37 % 251) as u8).collect()).unwrap()
    }

    fn save(folder: &Path, name: &str, picture: &Picture) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, picture.to_png().unwrap()).unwrap();
    }

    #[test]
    fn photographs_are_cut_to_multiples_and_shrunk() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "b.png", &picture(13, 9, 5));
        save(folder.path(), "a.PNG", &picture(8, 12, 0));
        std::fs::write(folder.path().join("LICENCE.txt"), "x").unwrap();
        let set = Pairs::read_photos(folder.path(), 4).unwrap();
        assert_eq!((set.len(), set.name_of(0), set.size_of(0), set.size_of(1)), (2, "a", [2, 3], [3, 2]));
        let (small, large) = set.pair(1).unwrap();
        assert_eq!(large, picture(13, 9, 5).window([0, 0], [12, 8]).unwrap());
        assert_eq!(small, bicubic(&large, 3, 2).unwrap());
        let again =
            Pairs::of_photos("x", 4, vec![("a".into(), picture(8, 12, 0)), ("b".into(), picture(13, 9, 5))]).unwrap();
        assert_eq!(again.fingerprint(), set.fingerprint());
        assert_ne!(Pairs::read_photos(folder.path(), 2).unwrap().fingerprint(), set.fingerprint());
        // Not kept in memory, pictures are the same, known by other means.
        let files = images(folder.path()).unwrap().into_iter().map(|large| Files { large, small: None }).collect();
        let lazy = Pairs::read(folder.path(), 4, files, 0).unwrap();
        assert_eq!(lazy.pair(1).unwrap(), (small, large));
        assert_ne!(lazy.fingerprint(), set.fingerprint());
        std::fs::remove_file(folder.path().join("b.png")).unwrap();
        assert!(lazy.pair(1).unwrap_err().to_string().contains("b.png"));
        let (rest, share) = set.apart(0.5, 1, "share").unwrap();
        assert_eq!((rest.len(), share.len()), (1, 1));
        assert_ne!(rest.fingerprint(), share.fingerprint());
    }

    #[test]
    fn pairs_lie_beside_each_other_or_in_two_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (small, large) = (picture(3, 5, 1), picture(6, 10, 2));
        save(folder.path(), "one/x_1_HR.png", &large);
        save(folder.path(), "one/x_1_LR.png", &small);
        save(folder.path(), "one/other.png", &small);
        save(folder.path(), "two/HR/x.png", &large);
        save(folder.path(), "two/LR/x.png", &small);
        for part in ["one", "two"] {
            let set = Pairs::read_pairs(&folder.path().join(part), 2).unwrap();
            assert_eq!((set.len(), set.scale(), set.pair(0).unwrap()), (1, 2, (small.clone(), large.clone())));
        }
        let e = Pairs::read_pairs(&folder.path().join("two"), 3).unwrap_err().to_string();
        assert!(e.ends_with("x.png: expected 3 times 3x5 (height, width), the small picture, found 6x10"), "{e}");
        std::fs::remove_file(folder.path().join("one/x_1_LR.png")).unwrap();
        let e = Pairs::read_pairs(&folder.path().join("one"), 2).unwrap_err().to_string();
        assert!(e.contains("x_1_LR.png"), "{e}");
        let e = Pairs::read_pairs(&folder.path().join("two/LR"), 2).unwrap_err().to_string();
        assert!(e.contains("NAME_LR.png"), "{e}");
        let e = Pairs::read_photos(folder.path(), 2).unwrap_err().to_string();
        assert!(e.contains("expected at least one file .png"), "{e}");
        let e = Pairs::of_photos("x", 4, vec![("a".into(), small)]).unwrap_err().to_string();
        assert_eq!(e, "a: expected a photograph of at least 4x4 pixels, found 3x5");
        assert!(Pairs::of_photos("x", 5, vec![("a".into(), large)]).is_err());
    }
}
