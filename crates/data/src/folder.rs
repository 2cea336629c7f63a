//! Folders of PNG, JPEG, WebP and BMP images, one class a sub-folder.
//!
//! Opening reads the header of every file: shapes, colour and what is no image are known before the first step. Images are
//! kept in memory if all of them are small together; else each is decoded when it is asked for, and memory holds only the
//! batches under way.

use crate::class_folders::ClassFolders;
use crate::image_file::{Head, MAX_SIDE, decode, unexpected};
use crate::listed::listed;
use crate::source::{Reader, Request, SourceKind};
use crate::split_folders::SplitFolders;
use crate::{
    DataDescription, DataError, Dataset, Result, Split,
    dataset::TEST_SHARE,
    samples::{IN_MEMORY, OnDemand},
};
use fixnet_files::input_file;
use rayon::prelude::*;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    scaled: true,
    drawn: true,
    ..SourceKind::new("folder:PATH", "PNG, JPEG, WebP and BMP images, one class a sub-folder", &ImageFolder)
};

#[derive(Debug)]
struct ImageFolder;

impl Reader for ImageFolder {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        read(request.path(), request.image_size, request.seed, IN_MEMORY, request.whole)
    }

    fn labelled_test(&self, request: &Request<'_>, network: &DataDescription) -> Result<Dataset> {
        let channels = network.image_shape().map_or(1, |shape| shape[2]);
        folder_test(request.path(), request.image_size, request.seed, channels, request.whole)
    }

    fn image_sizes(&self, request: &Request<'_>) -> Result<Vec<[usize; 2]>> {
        let place = match SplitFolders::of(request.path())? {
            Some(parts) => parts.train(request.path())?.to_path_buf(),
            None => request.path().to_path_buf(),
        };
        Ok(Listing::of(&place, None)?.sizes)
    }
}

/// Reads images from a folder. With folders `train` and `test` in it, these are the parts, each with one sub-folder a class, and
/// so is a folder `val`, `valid` or `validation` beside them, whose images are for validation. Else it has one sub-folder a
/// class, of which a tenth of all images, drawn by `seed` with the shares of the classes kept, is for testing. Classes are
/// numbered in the order of their names, and so are images within a class. Files whose names begin with a dot, `Thumbs.db`,
/// `desktop.ini` and `__MACOSX` do not count.
///
/// With `size` the middle square of each image is scaled to so many rows and columns; without, all have to be of
/// one size. If all images are grey there is one channel, else three; transparency is left out. Images are turned as their EXIF
/// metadata say.
///
/// # Errors
/// There is no class or an empty one; a file is no PNG, JPEG, WebP or BMP image, is damaged, or of another size than the first;
/// the parts do not have the same classes; there are several folders for validation.
pub fn folder(path: &Path, size: Option<usize>, seed: u64) -> Result<Split> {
    read(path, size, seed, IN_MEMORY, false)
}

/// The test images of [`folder`] alone, with `channels` as a network takes them: grey images become coloured ones. Of a folder
/// without parts all images, where the `whole` of it is for testing.
pub(crate) fn folder_test(
    path: &Path,
    size: Option<usize>,
    seed: u64,
    channels: usize,
    whole: bool,
) -> Result<Dataset> {
    let test = match SplitFolders::of(path)? {
        Some(parts) => parts.test(path)?.to_path_buf(),
        None if whole => path.to_path_buf(),
        None => return Ok(folder(path, size, seed)?.test),
    };
    let listing = Listing::of(&test, size)?;
    let colour = listing.colour || channels == 3;
    listing.dataset(test.display().to_string(), size, colour, IN_MEMORY)
}

/// As [`folder`]. Where the `whole` of a folder without a test part is for training, the test images are the training images.
fn read(path: &Path, size: Option<usize>, seed: u64, in_memory: u64, whole: bool) -> Result<Split> {
    if size.is_some_and(|size| size == 0 || size > MAX_SIDE) {
        return Err(DataError::setting("image_size", "1 to 16384", size.unwrap_or(0)));
    }
    let Some(parts) = SplitFolders::of(path)? else {
        let all = Listing::of(path, size)?;
        let colour = all.colour;
        let all = all.dataset(path.display().to_string(), size, colour, in_memory)?;
        if whole {
            return Split::new(all.clone(), all);
        }
        let name = format!("{}, set apart for testing", path.display());
        let (train, test) = all.apart_by_group(TEST_SHARE, seed, &name)?;
        return Split::new(train, test);
    };
    let train = parts.train(path)?;
    let test = if whole { parts.test.as_deref() } else { Some(parts.test(path)?) };
    let of = |part: &Path| Listing::of(part, size);
    let (train, test, validation) =
        (of(train)?, test.map(of).transpose()?, parts.validation.as_deref().map(of).transpose()?);
    let others = || {
        [("test", &test), ("validation", &validation)].into_iter().filter_map(|(part, of)| Some((part, of.as_ref()?)))
    };
    others().try_for_each(|(part, other)| train.files.check_same(path, part, &other.files))?;
    let colour = train.colour || others().any(|(_, other)| other.colour);
    let dataset = |listing: Listing| {
        let place = listing.files.folder.display().to_string();
        listing.dataset(place, size, colour, in_memory)
    };
    let train = dataset(train)?;
    let test = test.map_or_else(|| Ok(train.clone()), dataset)?;
    let split = Split::new(train, test)?;
    match validation {
        Some(validation) => split.with_validation_data(dataset(validation)?),
        None => Ok(split),
    }
}

/// The files of a folder, by class.
struct Listing {
    files: ClassFolders,
    /// Height and width of each image.
    sizes: Vec<[usize; 2]>,
    /// The length of each file.
    lengths: Vec<u64>,
    /// [`Head::stamp`] of each file.
    stamps: Vec<u64>,
    /// Whether an image has colours.
    colour: bool,
    /// Which files hold further images, of which none is read.
    moving: Vec<String>,
}

impl Listing {
    fn of(folder: &Path, size: Option<usize>) -> Result<Self> {
        let files = ClassFolders::of(folder, "images")?;
        let paths = &files.paths;
        // Each in its place: of several errors it is always the first.
        let heads = paths.par_iter().map(|path| Head::of_file(path)).collect::<Vec<_>>();
        let heads = heads.into_iter().collect::<Result<Vec<_>>>()?;
        if let Some(side) = size {
            paths.iter().zip(&heads).try_for_each(|(path, head)| head.claim_scaling(path, [side, side]))?;
        }
        let colour = heads.iter().any(|head| head.colour);
        let (sizes, lengths) = heads.iter().map(|head| (head.size, head.len)).unzip();
        let stamps = heads.iter().map(Head::stamp).collect();
        let moving = paths.iter().zip(&heads).filter(|(_, head)| head.moves());
        let moving = moving.map(|(path, _)| path.file_name().unwrap_or_default().to_string_lossy().into()).collect();
        Ok(Self { files, sizes, lengths, stamps, colour, moving })
    }

    fn dataset(self, name: String, size: Option<usize>, colour: bool, in_memory: u64) -> Result<Dataset> {
        let ClassFolders { classes, paths, labels, .. } = self.files;
        let first = self.sizes[0];
        let still = "animated PNG of which the first image is read";
        let note = match self.moving.len() {
            0 => None,
            count => Some(format!("{count} {still}: {}", listed(&self.moving))),
        };
        if let Some(i) = self.sizes.iter().position(|size_of| size.is_none() && *size_of != first) {
            let [height, width] = first;
            let expected = format!("{height}x{width} (height, width) as of {}, or image_size", paths[0].display());
            return Err(unexpected(&paths[i], &expected, format!("{}x{}", self.sizes[i][0], self.sizes[i][1])));
        }
        let shape = match size {
            Some(side) => [side, side, if colour { 3 } else { 1 }],
            None => [first[0], first[1], if colour { 3 } else { 1 }],
        };
        let files = Files { paths, lengths: self.lengths, stamps: self.stamps, shape, resize: size.is_some() };
        let (count, len) = (files.paths.len(), shape.iter().product::<usize>());
        if (count as u64).saturating_mul(len as u64) > in_memory {
            let streamed = Dataset::streamed(name, Arc::new(files), classes.len(), labels)?;
            return streamed.with_note(note).with_class_names(classes);
        }
        let mut images = vec![0; count * len];
        let failed = images.par_chunks_exact_mut(len).enumerate();
        let failed = failed.filter_map(|(i, out)| files.read(i, out).err().map(|e| (i, e)));
        if let Some((_, e)) = failed.min_by_key(|&(i, _)| i) {
            return Err(e);
        }
        Dataset::new(name, shape, classes.len(), images, labels)?.with_note(note).with_class_names(classes)
    }
}

/// Files that are decoded when their image is asked for.
#[derive(Debug)]
struct Files {
    paths: Vec<PathBuf>,
    lengths: Vec<u64>,
    stamps: Vec<u64>,
    shape: [usize; 3],
    resize: bool,
}

impl OnDemand for Files {
    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn read(&self, index: usize, out: &mut [u8]) -> Result<()> {
        let path = &self.paths[index];
        let bytes = input_file::read(path, self.lengths[index])
            .map_err(|source| DataError::Io { place: path.display().to_string(), source })?;
        out.copy_from_slice(&decode(path, &bytes, self.shape, self.resize)?);
        Ok(())
    }

    fn stamp(&self, index: usize) -> u64 {
        self.stamps[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Augment, Loader, Normalize};
    use fixnet_fuzz as fuzz;
    use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
    use proptest::prelude::*;
    use std::fs;
    use std::io::Cursor;

    const COLOUR: &[u8] = include_bytes!("../tests/data/colour.jpg");
    const GREY: &[u8] = include_bytes!("../tests/data/grey.jpg");

    fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn colour(v: u8) -> Vec<u8> {
        png(RgbImage::from_fn(3, 2, |x, y| Rgb([v, x as u8, y as u8])))
    }

    fn folder_of(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    fn message(files: &[(&str, &[u8])], size: Option<usize>) -> String {
        let dir = folder_of(files);
        let e = folder(dir.path(), size, 1).unwrap_err().to_string();
        e.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn classes_and_images_come_in_the_order_of_their_names() {
        let (one, two, three) = (colour(1), colour(2), colour(3));
        let dir = folder_of(&[
            ("train/dog/b.png", &two),
            ("train/dog/a.png", &one),
            ("train/cat/x.png", &three),
            ("train/.hidden", b"x"),
            ("train/cat/.DS_Store", b"x"),
            ("train/dog/Thumbs.db", b"x"),
            ("train/desktop.ini", b"x"),
            ("train/__MACOSX/dog/._a.png", b"x"),
            ("test/dog/a.png", &three),
            ("test/cat/a.png", &one),
        ]);
        let split = folder(dir.path(), None, 1).unwrap();
        assert_eq!((split.train.shape(), split.train.classes()), (&[2, 3, 3][..], 2));
        assert_eq!((split.train.labels(), split.test.labels()), (&[0, 1, 1][..], &[0, 1][..]));
        assert_eq!(
            (split.train.class_names().to_vec(), split.test.class_names()),
            (vec!["cat".to_string(), "dog".to_string()], split.train.class_names())
        );
        // The test images need no training images.
        fs::remove_dir_all(dir.path().join("train")).unwrap();
        assert_eq!(folder_test(dir.path(), None, 1, 3, false).unwrap(), split.test);
        assert_eq!(*split.train.image(1).unwrap(), [1, 0, 0, 1, 1, 0, 1, 2, 0, 1, 0, 1, 1, 1, 1, 1, 2, 1]);
        assert_eq!(split.train.image(0).unwrap()[0], 3);
    }

    #[test]
    fn a_folder_of_validation_images_is_the_validation_part() {
        let images: Vec<Vec<u8>> = (0..6).map(colour).collect();
        let at = |part: &str, class: &str, i: usize| (format!("{part}/{class}/{i}.png"), images[i].clone());
        let files = |val: &str| {
            let all = [("Train", 0), ("Train", 1), (val, 2), (val, 3), ("test", 4)];
            all.iter().flat_map(|&(part, i)| [at(part, "a", i), at(part, "b", i)]).collect::<Vec<_>>()
        };
        let place = |files: &[(String, Vec<u8>)]| {
            folder_of(&files.iter().map(|(name, bytes)| (&**name, &**bytes)).collect::<Vec<_>>())
        };
        let labels = |set: &Dataset| set.labels().to_vec();
        let mut found = Vec::new();
        for val in ["val", "valid", "Validation"] {
            let dir = place(&files(val));
            let split = folder(dir.path(), None, 1).unwrap();
            let validation = split.validation.clone().unwrap();
            assert!(validation.name.ends_with(val), "{}", validation.name);
            assert_eq!((labels(&split.train), labels(&split.test)), (vec![0, 0, 1, 1], vec![0, 1]));
            assert_eq!((labels(&validation), validation.image(1).unwrap()[0]), (vec![0, 0, 1, 1], 3));
            let e = split.with_validation(0.1, 1).unwrap_err().to_string();
            assert!(e.starts_with("validation: expected 0, since ") && e.ends_with("found 0.1"), "{e}");
            found.push(validation.fingerprint());
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
        // One class less, and one more.
        let mut odd = files("val");
        odd.retain(|(name, _)| !name.starts_with("val/b/"));
        odd.push(at("val", "c", 1));
        let e = folder(place(&odd).path(), None, 1).unwrap_err().to_string();
        let words =
            "expected the same classes in train and validation, found 1 in train only (b) and 1 in validation only (c)";
        assert!(e.ends_with(words), "{e}");
        // Grey training images become coloured ones where validation images are.
        let grey = png(GrayImage::new(3, 2));
        let files: [(&str, &[u8]); 3] =
            [("train/a/1.png", &grey), ("test/a/1.png", &grey), ("validation/a/1.png", &images[0])];
        assert_eq!(folder(folder_of(&files).path(), None, 1).unwrap().train.shape(), [2, 3, 3]);
        let files: [(&str, &[u8]); 3] =
            [("train/a/1.png", &grey), ("test/a/1.png", &grey), ("validation/a/1.jpg", GREY)];
        let e = folder(folder_of(&files).path(), None, 1).unwrap_err().to_string();
        assert!(e.contains("validation: expected validation data of [2, 3, 1] and 1 classes"), "{e}");
    }

    /// Training images in `train`, test images in another folder.
    #[test]
    fn test_images_may_come_from_elsewhere() {
        let image = colour(1);
        let dir = folder_of(&[
            ("train/a/1.png", &image),
            ("train/b/1.png", &image),
            ("val/a/1.png", &image),
            ("val/b/2.png", &image),
        ]);
        let source =
            |place: &str| format!("folder:{}", dir.path().join(place).display()).parse::<crate::Source>().unwrap();
        let config = |test: &str| crate::DataConfig {
            clips: crate::ClipSettings::default(),
            source: source(""),
            test: Some(source(test)),
            image_size: None,
            target: None,
            validation: 0.0,
            seed: 1,
        };
        let split = config("val").load().unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.validation.unwrap().len()), (2, 2, 2));
        let e = config("").load().unwrap_err().to_string();
        assert!(e.contains("expected a folder `test` of classes in it"), "{e}");
    }

    #[test]
    fn grey_images_have_one_channel_unless_one_has_colour() {
        let grey = png(GrayImage::from_fn(3, 2, |x, y| Luma([(10 * x + y) as u8])));
        let clear = png(RgbaImage::from_fn(3, 2, |_, _| Rgba([5, 6, 7, 0])));
        let dir = folder_of(&[("a/1.png", &grey), ("b/1.png", &grey)]);
        let split = folder(dir.path(), None, 1).unwrap();
        assert_eq!((split.train.shape(), split.train.len(), split.test.len()), (&[2, 3, 1][..], 1, 1));
        assert_eq!(*split.train.image(0).unwrap(), [0, 10, 20, 1, 11, 21]);
        let dir = folder_of(&[("train/a/1.png", &grey), ("train/a/2.png", &clear), ("test/a/1.png", &grey)]);
        let split = folder(dir.path(), None, 1).unwrap();
        assert_eq!(split.test.image(0).unwrap()[..6], [0, 0, 0, 10, 10, 10]);
        assert_eq!(split.train.image(1).unwrap()[..6], [5, 6, 7, 5, 6, 7]);
    }

    #[test]
    fn jpeg_decodes_to_the_same_bytes_everywhere() {
        let dir = folder_of(&[("train/a/1.jpg", COLOUR), ("test/a/1.jpg", COLOUR)]);
        let set = folder(dir.path(), None, 1).unwrap().train;
        assert_eq!(set.shape(), [12, 17, 3]);
        // Close to what was encoded, and exactly what the first release decoded.
        for (i, pixel) in set.image(0).unwrap().chunks_exact(3).enumerate() {
            let (y, x) = (i as u32 / 17, i as u32 % 17);
            assert!(pixel[0].abs_diff((x * 15) as u8) < 48 && pixel[1].abs_diff((y * 20) as u8) < 48, "{y}, {x}");
        }
        assert_eq!(crate::checksum(&set), 0x8817_5cf9_5255_35cb);
        let dir = folder_of(&[("train/a/1.jpg", GREY), ("test/a/1.jpg", GREY)]);
        assert_eq!(folder(dir.path(), None, 1).unwrap().train.shape(), [9, 9, 1]);
    }

    #[test]
    fn images_are_scaled_on_request() {
        let wide = png(RgbImage::from_fn(8, 4, |x, _| Rgb([if (2..6).contains(&x) { 200 } else { 0 }; 3])));
        let dir = folder_of(&[("train/a/1.png", &wide), ("train/a/2.jpg", COLOUR), ("test/a/1.png", &wide)]);
        let split = folder(dir.path(), Some(2), 1).unwrap();
        assert_eq!(split.train.shape(), [2, 2, 3]);
        // Half as high; of the width the middle.
        assert!(split.train.image(0).unwrap().iter().all(|v| *v > 150), "{:?}", split.train.image(0));
        let source = format!("folder:{}", dir.path().display()).parse().unwrap();
        let config = crate::DataConfig {
            clips: crate::ClipSettings::default(),
            source,
            test: None,
            image_size: None,
            target: None,
            validation: 0.0,
            seed: 1,
        };
        assert_eq!(config.image_sizes().unwrap(), [[4, 8], [12, 17]]);
        let e = folder(dir.path(), None, 1).unwrap_err().to_string();
        assert!(e.contains("train/a/2.jpg: expected 4x8 (height, width) as of") && e.ends_with("found 12x17"), "{e}");
        assert!(folder(dir.path(), Some(0), 1).unwrap_err().to_string().starts_with("image_size: "));
    }

    /// A file may not be much longer than its pixels, and scaling may not take more than an image.
    #[test]
    fn long_files_and_large_scalings_are_refused() {
        let mut long = png(RgbImage::new(4, 4));
        long.resize((16 << 20) + 1000, 0);
        assert!(message(&[("a/0.png", &long)], None).contains("expected an image file of at most 16777"));
        let large = png(GrayImage::new(12_000, 12_000));
        let e = message(&[("a/0.png", &large)], Some(8000));
        assert!(e.contains("a/0.png, scaled to 8000x8000") && e.contains("images with fewer pixels"), "{e}");
    }

    /// An image of one row of 16384 pixels must not become 16384 rows on the way.
    #[test]
    fn a_long_strip_is_scaled_without_growing() {
        let strip = png(RgbImage::from_fn(16384, 1, |x, _| Rgb([if x == 8191 { 90 } else { 0 }; 3])));
        let image = decode(Path::new("strip"), &strip, [64, 64, 3], true).unwrap();
        assert_eq!(image, vec![90; 64 * 64 * 3]);
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_named() {
        let good = colour(1);
        assert_eq!(
            message(&[("a.png", &good)], None),
            "DIR/a.png: expected a folder of images of one class, found a file"
        );
        assert_eq!(message(&[(".x", b"")], None), "DIR: expected one folder of images a class, found none");
        let text: &[u8] = b"not an image";
        assert_eq!(
            message(&[("a/1.png", &good), ("a/read.me", text)], None),
            "DIR/a/read.me: expected a PNG, JPEG, WebP or BMP image, found another kind of file"
        );
        assert_eq!(
            message(&[("a/1.png", b"")], None),
            "DIR/a/1.png: expected a PNG, JPEG, WebP or BMP image, found an empty file"
        );
        assert_eq!(message(&[("a/b/1.png", &good)], None), "DIR/a/b: expected a regular file, found a folder");
        let e = message(&[("train/a/1.png", &good)], None);
        let words = "DIR: expected a folder `test` of classes in it, or test data from elsewhere (such as \
                     data.test=folder:DIR/OTHER), found `train` alone";
        assert_eq!(e, words);
        let e = message(&[("train/a/1.png", &good), ("val/a/1.png", &good)], None);
        assert!(e.contains("data.test=folder:DIR/val), found `train` and `val` alone"), "{e}");
        let e = message(&[("Test/a/1.png", &good)], None);
        assert_eq!(e, "DIR: expected a folder `train` of classes beside the other parts, found none");
        let e = message(&[("train/a/1.png", &good), ("test/b/1.png", &good)], None);
        assert_eq!(
            e,
            "DIR: expected the same classes in train and test, found 1 in train only (a) and 1 in test only (b)"
        );
        let names: Vec<String> = (0..200).map(|i| format!("train/c{i:03}/1.png")).collect();
        let both: Vec<String> = (0..199).map(|i| format!("test/c{i:03}/1.png")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().chain(&both).map(|name| (name.as_str(), &good[..])).collect();
        let e = message(&files, None);
        assert_eq!(
            e,
            "DIR: expected the same classes in train and test, found 1 in train only (c199) and 0 in test only (none)"
        );
        assert!(message(&[("a/1.png", &good)], None).contains("expected at least two images"));
        let dir = folder_of(&[("a/1.png", &good)]);
        fs::create_dir(dir.path().join("empty")).unwrap();
        let e = folder(dir.path(), None, 1).unwrap_err().to_string();
        assert!(e.ends_with("empty: expected at least one image of at least one pixel, found none"), "{e}");
        assert!(folder(Path::new("no-such-folder"), None, 1).unwrap_err().to_string().starts_with("no-such-folder: "));
    }

    #[test]
    fn every_truncation_and_lying_sizes_are_errors() {
        let read = |bytes: &[u8], shape| decode(Path::new("file"), bytes, shape, false);
        for (bytes, shape) in [(&colour(1)[..], [2, 3, 3]), (COLOUR, [12, 17, 3]), (GREY, [9, 9, 1])] {
            read(bytes, shape).unwrap();
            for len in 0..bytes.len() {
                // A PNG is complete before the check sum of its end.
                match read(&bytes[..len], shape) {
                    Err(e) => assert!(
                        e.to_string().starts_with("file: expected a PNG, JPEG, WebP or BMP image"),
                        "{len}: {e}"
                    ),
                    Ok(image) => {
                        assert!(bytes[0] == 0x89 && len >= bytes.len() - 12, "{len} of {}", bytes.len());
                        assert_eq!(image, read(bytes, shape).unwrap());
                    }
                }
            }
        }
        // A segment that holds an end marker, as the thumbnails of cameras do, does not make a whole file of a part.
        let with_segment = [&COLOUR[..2], b"\xff\xe1\0\x08ab\xff\xd9cd", &COLOUR[2..]].concat();
        assert_eq!(read(&with_segment, [12, 17, 3]).unwrap(), read(COLOUR, [12, 17, 3]).unwrap());
        for len in 0..with_segment.len() {
            assert!(read(&with_segment[..len], [12, 17, 3]).is_err(), "{len} of {}", with_segment.len());
        }
        // The frame header of the JPEG: ff c0, length, precision, height, width.
        let mut huge = COLOUR.to_vec();
        let frame = huge.windows(2).position(|p| p == [0xff, 0xc0]).unwrap();
        huge[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
        let e = read(&huge, [12, 17, 3]).unwrap_err().to_string();
        assert!(e.contains("16383x16383 announced in a file of"), "{e}");
    }

    /// A set that does not fit gives what one that does gives; a file that is lost on the way is an error of the loop.
    #[test]
    fn streaming_changes_nothing_and_its_errors_arrive() {
        let images: Vec<_> = (0..40u8).map(|i| (format!("{}/{i:02}.png", i % 3), colour(i))).collect();
        let files: Vec<(&str, &[u8])> = images.iter().map(|(name, bytes)| (&**name, &**bytes)).collect();
        let dir = folder_of(&files);
        let (memory, streamed) =
            (read(dir.path(), None, 5, 1 << 20, false).unwrap(), read(dir.path(), None, 5, 0, false).unwrap());
        assert!(streamed.train.is_streamed() && !memory.train.is_streamed());
        let (memory, streamed) = (memory.with_validation(0.25, 3).unwrap(), streamed.with_validation(0.25, 3).unwrap());
        assert_eq!((memory.train.len(), memory.test.len()), (27, 4));
        let augment = Augment { crop_padding: 1, flip: true, mixup: 0.2, ..Augment::default() };
        let batches = |set: &Dataset| {
            let loader = Loader::new(set, 4, Normalize::of(set)).shuffled(1, 2).augmented(augment, 1, 2);
            let all = loader.map(|b| b.unwrap()).map(|b| (b.images.data().to_vec(), b.labels));
            all.collect::<Vec<_>>()
        };
        assert!(batches(&memory.train) == batches(&streamed.train));
        assert!(batches(memory.validation.as_ref().unwrap()) == batches(streamed.validation.as_ref().unwrap()));
        let lost = (0..27).map(|i| streamed.train.image(i).unwrap()[0]).nth(13).unwrap();
        fs::remove_file(dir.path().join(format!("{}/{lost:02}.png", lost % 3))).unwrap();
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let found: Vec<_> =
                pool.install(|| Loader::new(&streamed.train, 4, Normalize::of(&streamed.train)).collect());
            assert_eq!(found.len(), 4, "three batches, then the error, then nothing");
            assert!(found[..3].iter().all(|b| b.is_ok()));
            let e = found[3].as_ref().unwrap_err().to_string();
            assert!(e.contains(&format!("{lost:02}.png: ")), "{e}");
        }
    }

    /// Of streamed images those outside the sample are told by the lengths of their files.
    #[test]
    fn lengths_of_files_are_in_the_fingerprint_of_streamed_images() {
        let (one, longer) = (colour(1), [colour(1), vec![0]].concat());
        let prints = |second: &[u8], in_memory| {
            let dir = folder_of(&[("train/a/1.png", &one), ("train/a/2.png", second), ("test/a/1.png", &one)]);
            read(dir.path(), None, 1, in_memory, false).unwrap().train.fingerprint()
        };
        assert_ne!(prints(&one, 0), prints(&longer, 0));
        assert_eq!(prints(&one, 1 << 20), prints(&longer, 1 << 20));
    }

    /// Versions that turned no images saw other pixels of the turned ones, of which most may be outside the sample.
    #[test]
    fn turns_of_images_are_in_the_fingerprint_of_streamed_images() {
        let image = |orientation: u8| {
            let mut bytes = Vec::new();
            let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
            let exif = [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[orientation], &[0; 7]].concat();
            image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
            DynamicImage::from(RgbImage::from_pixel(2, 2, Rgb([7, 8, 9]))).write_with_encoder(encoder).unwrap();
            bytes
        };
        let prints = |orientation, in_memory| {
            let (one, other) = (image(1), image(orientation));
            let dir = folder_of(&[("train/a/1.png", &one), ("train/a/2.png", &other), ("test/a/1.png", &one)]);
            read(dir.path(), None, 1, in_memory, false).unwrap().train.fingerprint()
        };
        // Pixels and lengths of files are the same.
        assert_eq!(prints(1, 1 << 20), prints(6, 1 << 20));
        let mut all: Vec<String> = (1..=8).map(|orientation| prints(orientation, 0)).collect();
        // An upright image has the fingerprint that it had: 0 and 9 are no orientations.
        assert!(all[0] == prints(0, 0) && all[0] == prints(9, 0));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 8);
        let head = |file: &[u8]| Head::read(Path::new("a"), Cursor::new(file), file.len() as u64).unwrap();
        assert_eq!(head(&image(1)).stamp(), image(1).len() as u64);
    }

    /// The PNG with the check sums of its chunks put right, as far as they can be found.
    fn signed(mut file: Vec<u8>) -> Vec<u8> {
        let mut at = 8;
        while let Some(&[a, b, c, d]) = file.get(at..at + 4) {
            let end = (at + 8).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
            let (Some(chunk), true) = (file.get(at + 4..end), end + 4 <= file.len()) else { break };
            let mut sum = flate2::Crc::new();
            sum.update(chunk);
            file[end..end + 4].copy_from_slice(&sum.sum().to_be_bytes());
            at = end + 4;
        }
        file
    }

    /// Good files of all kinds, with the shapes of their images.
    fn others() -> [(Vec<u8>, [usize; 3]); 8] {
        let of = |format| {
            let mut bytes = Cursor::new(Vec::new());
            RgbImage::from_fn(3, 2, |x, y| Rgb([9, x as u8, y as u8])).write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        let mut grey = Cursor::new(Vec::new());
        GrayImage::from_fn(3, 2, |x, y| Luma([(x + y) as u8])).write_to(&mut grey, ImageFormat::Bmp).unwrap();
        let mut lossless = Vec::new();
        let pixels: Vec<u8> = (0..24).collect();
        image_webp::WebPEncoder::new(&mut lossless).encode(&pixels, 3, 2, image_webp::ColorType::Rgba8).unwrap();
        [
            (colour(9), [2, 3, 3]),
            (COLOUR.to_vec(), [12, 17, 3]),
            (GREY.to_vec(), [9, 9, 1]),
            (of(ImageFormat::Bmp), [2, 3, 3]),
            (grey.into_inner(), [2, 3, 1]),
            (lossless, [2, 3, 3]),
            (include_bytes!("../tests/data/lossy.webp").to_vec(), [17, 12, 3]),
            (include_bytes!("../tests/data/clear.webp").to_vec(), [12, 17, 3]),
        ]
    }

    /// How images of each kind begin.
    const STARTS: &[&[u8]] = &[
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xc0",
        b"\xff\xd8\xff\xe1\0\x30Exif\0\0II*\0\x08\0\0\0",
        b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x03\0\0\0\x02\0\0\0\x01\0",
        b"RIFF\x50\0\0\0WEBP",
        b"RIFF\x50\0\0\0WEBPVP8L\x20\0\0\0\x2f\x02\x40\0\0",
        b"RIFF\x50\0\0\0WEBPVP8 \x20\0\0\0\x10\0\0\x9d\x01\x2a\x03\0\x02\0",
        b"RIFF\x50\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\x02\0\0\x01\0\0",
    ];

    /// An image of 16384 x 16384 pixels may take few bytes in a file.
    const LARGEST: usize = 3 << 29;

    fn check(file: &[u8], shape: [usize; 3], size: bool) -> std::result::Result<(), TestCaseError> {
        let shape = if size { [5, 5, 3] } else { shape };
        if let Ok(image) = fuzz::within(LARGEST, || decode(Path::new("file"), file, shape, size)) {
            prop_assert_eq!(image.len(), shape.iter().product::<usize>());
        }
        Ok(())
    }

    /// A head of a few bytes with enough after it: as large as the file could hold, and larger than is decoded.
    #[test]
    fn an_image_beyond_its_budget_is_refused_by_its_head() {
        let chunk = |kind: &[u8; 4], data: &[u8]| {
            let mut crc = flate2::Crc::new();
            crc.update(&[kind, data].concat());
            [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
        };
        let head = |side: u32, bits: u8| {
            let size = [side.to_be_bytes(), side.to_be_bytes()].concat();
            let start =
                [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &[&size[..], &[bits, 2, 0, 0, 0]].concat())].concat();
            [start, chunk(b"IDAT", &[0; 40_000])].concat()
        };
        let read = |file: Vec<u8>| {
            let len = file.len() as u64;
            fuzz::within(fuzz::MOST, || Head::read(Path::new("a.png"), Cursor::new(file), len).map(|head| head.size))
        };
        for (side, bits, bytes) in [(16_384, 8, 805_306_368u64), (10_000, 16, 600_000_000)] {
            let e = read(head(side, bits)).unwrap_err().to_string();
            let words = format!("claims {bytes} bytes of memory, expected at most 536870912");
            assert!(e.starts_with("a.png: [") && e.contains(&words), "{e}");
        }
        assert_eq!(read(head(10_000, 8)).unwrap(), [10_000, 10_000]);
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_images_never_panic(which in 0usize..8, damage in fuzz::damage(), size: bool, sign: bool) {
            let (file, shape) = others()[which].clone();
            let file = fuzz::damaged(file, &damage);
            check(&if sign { signed(file) } else { file }, shape, size)?;
        }

        #[test]
        fn random_bytes_never_panic(
            file in fuzz::random(STARTS),
            sign: bool,
        ) {
            check(&if sign { signed(file) } else { file }, [2, 3, 3], false)?;
        }
    }
}
