//! Data sets by name.

use crate::cifar::{cifar10_test, cifar100_part};
use crate::folder::{folder, folder_test};
use crate::idx::mnist_test;
use crate::image_file::MAX_SIDE;
use crate::npz::{npz_numbers_test, npz_test};
use crate::photos::photos;
use crate::{
    DataDescription, DataError, Dataset, NumberDescription, Numbers, PairSplit, Pairs, Result, Split, cifar10, cifar100,
    csv, csv_file, csv_numbers, digits, mnist, npz, npz_numbers, photo_digits, photo_digits_seen,
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Where data come from, as written in recipes and on the command line: `digits`, `mnist:FOLDER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The embedded MNIST digits.
    Digits,
    /// Coloured digits on photographs; test images on photographs that no training image shows.
    PhotoDigits,
    /// The same with test images on the photographs of the training images.
    PhotoDigitsSeen,
    /// A folder with the four files of MNIST.
    Mnist(PathBuf),
    /// A folder with the binary batches of CIFAR-10.
    Cifar10(PathBuf),
    /// A folder with the binary files of CIFAR-100.
    Cifar100(PathBuf),
    /// A folder of PNG and JPEG images, one class a sub-folder.
    Folder(PathBuf),
    /// A NumPy archive with `x_train`, `y_train`, `x_test` and `y_test`.
    Npz(PathBuf),
    /// A table in a CSV file.
    Csv(PathBuf),
    /// The embedded photographs, for super-resolution.
    Photos,
    /// A folder of photographs, for super-resolution: small pictures are made of them.
    PhotosOf(PathBuf),
    /// A folder of small pictures beside the large ones that they stand for, for super-resolution.
    Pairs(PathBuf),
}

/// A source with what else decides which images are seen.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Where the data come from.
    pub source: Source,
    /// Rows and columns to which images of a folder are scaled; `None` takes them as they are.
    pub image_size: Option<usize>,
    /// Where the test data come from, if from elsewhere than the training data.
    pub test: Option<Source>,
    /// The column of a table that holds the targets, by its name or its number; `None` is the last one.
    pub target: Option<String>,
    /// The share of the training images that is set apart for validation, 0 to below 1.
    pub validation: f64,
    /// Draws the validation images, and the test images of a folder that has none.
    pub seed: u64,
}

impl DataConfig {
    /// Checks what can be checked without data.
    ///
    /// # Errors
    /// A setting is out of its range or does not fit the source.
    pub fn check(&self) -> Result<()> {
        match (&self.source, self.image_size) {
            (Source::Folder(_), Some(size)) if !(1..=MAX_SIDE).contains(&size) => {
                Err(DataError::setting("image_size", "1 to 16384", size))
            }
            (source, Some(size)) if !matches!(source, Source::Folder(_)) => {
                let expected = format!("left out, since images of {source} have one size");
                Err(DataError::setting("image_size", &expected, size))
            }
            (source, _) if self.target.is_some() && !self.has_table() => {
                let expected = format!("left out, since {source} is no table");
                Err(DataError::setting("target", &expected, self.target.as_deref().unwrap_or_default()))
            }
            _ if !(0.0..1.0).contains(&self.validation) => Err(DataError::setting(
                "validation",
                "a share of the training images from 0 to below 1",
                self.validation,
            )),
            _ => Ok(()),
        }
    }

    /// Reads or makes the data.
    ///
    /// # Errors
    /// A file is missing or broken, or a setting does not fit ([`DataConfig::check`]).
    pub fn load(&self) -> Result<Split> {
        self.check()?;
        let split = match (&self.source, &self.test) {
            (Source::Folder(path), _) => folder(path, self.image_size, self.seed)?,
            (Source::Csv(path), None) => csv(path, self.target(), self.seed)?,
            // With test rows from elsewhere all of a table are for training.
            (Source::Csv(path), Some(_)) => {
                let train = csv_file::labels(path, self.target())?;
                Split { test: train.clone(), train, validation: None }
            }
            (source, _) => source.load()?,
        };
        let split = match &self.test {
            Some(_) => Split { test: self.load_test(&DataDescription::of(&split))?, ..split },
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads data whose targets are numbers.
    ///
    /// # Errors
    /// As [`load`](Self::load); or the source has no such targets.
    pub fn load_numbers(&self) -> Result<Split<Numbers>> {
        self.check()?;
        let split = match (&self.source, &self.test) {
            (Source::Csv(path), None) => csv_numbers(path, self.target(), self.seed)?,
            (Source::Csv(path), Some(_)) => {
                let train = csv_file::numbers(path, self.target())?;
                Split { test: train.clone(), train, validation: None }
            }
            (Source::Npz(path), _) => npz_numbers(path)?,
            (source, _) => return Err(source.has_no("csv:FILE or npz:PATH with numbers as targets")),
        };
        let split = match &self.test {
            Some(_) => Split::new(split.train, self.test_numbers()?)?,
            None => split,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads the test data of [`load_numbers`](Self::load_numbers) alone, for `network`.
    ///
    /// # Errors
    /// As there; or the samples have another shape or other columns than those that the network was trained on
    /// ([`NumberDescription::check_data`]).
    pub fn load_test_numbers(&self, network: &NumberDescription) -> Result<Dataset<Numbers>> {
        self.check()?;
        let test = self.test_numbers()?;
        network.check_data(&test)?;
        Ok(test)
    }

    fn test_numbers(&self) -> Result<Dataset<Numbers>> {
        match (&self.source, &self.test) {
            (Source::Csv(path), None) => Ok(csv_numbers(path, self.target(), self.seed)?.test),
            (_, Some(Source::Csv(path))) => csv_file::numbers(path, self.target()),
            (Source::Npz(path), None) | (_, Some(Source::Npz(path))) => npz_numbers_test(path),
            (source, test) => {
                Err(test.as_ref().unwrap_or(source).has_no("csv:FILE or npz:PATH with numbers as targets"))
            }
        }
    }

    /// Whether any of the data come from a table.
    fn has_table(&self) -> bool {
        self.source.is_table() || self.test.as_ref().is_some_and(Source::is_table)
    }

    fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Reads or makes the test images alone, for `network`: no training images are needed, and none are looked at.
    ///
    /// # Errors
    /// A file is missing or broken; the images have another shape than those that the network was trained on, or other
    /// classes ([`DataDescription::check_images`]).
    pub fn load_test(&self, network: &DataDescription) -> Result<Dataset> {
        self.check()?;
        let source = self.test.as_ref().unwrap_or(&self.source);
        let test = match source {
            Source::Digits | Source::PhotoDigits | Source::PhotoDigitsSeen => source.load()?.test,
            Source::Mnist(path) => mnist_test(path)?,
            Source::Cifar10(path) => cifar10_test(path)?,
            Source::Cifar100(path) => cifar100_part(path, "test")?,
            Source::Folder(path) => folder_test(path, self.image_size, self.seed, network.shape[2])?,
            Source::Npz(path) => npz_test(path, network.classes)?,
            Source::Csv(path) if self.test.is_some() => csv_file::labels_for(path, self.target(), network)?,
            Source::Csv(path) => csv(path, self.target(), self.seed)?.test,
            Source::Photos | Source::PhotosOf(_) | Source::Pairs(_) => return Err(source.has_no("labelled images")),
        };
        network.check_data(&test)?;
        Ok(test)
    }

    /// Reads the pictures of a source for super-resolution, `scale` times enlarged.
    ///
    /// # Errors
    /// The source has no such pictures or no test pictures; a file is missing, broken or of another size.
    pub fn load_pairs(&self, scale: usize) -> Result<PairSplit> {
        self.check()?;
        let train = self.source.pairs("train", scale)?;
        let test = match &self.test {
            Some(test) => test.test_pairs(scale)?,
            None => self.source.pairs("test", scale)?,
        };
        PairSplit { train, test, validation: None }.with_validation(self.validation, self.seed)
    }

    /// Reads the test pictures alone.
    ///
    /// # Errors
    /// As [`load_pairs`](Self::load_pairs).
    pub fn load_test_pairs(&self, scale: usize) -> Result<Pairs> {
        self.check()?;
        self.test.as_ref().unwrap_or(&self.source).test_pairs(scale)
    }
}

impl Source {
    /// Reads or makes the data; of a folder its images as they are, test images drawn by seed 1 where it has none.
    /// [`DataConfig::load`] has settings.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn load(&self) -> Result<Split> {
        match self {
            Self::Digits => digits(),
            Self::PhotoDigits => photo_digits(),
            Self::PhotoDigitsSeen => photo_digits_seen(),
            Self::Mnist(folder) => mnist(folder),
            Self::Cifar10(folder) => cifar10(folder),
            Self::Cifar100(folder) => cifar100(folder),
            Self::Folder(path) => folder(path, None, 1),
            Self::Npz(path) => npz(path),
            Self::Csv(path) => csv(path, None, 1),
            Self::Photos | Self::PhotosOf(_) | Self::Pairs(_) => Err(self.has_no("labelled images")),
        }
    }

    /// Whether it is a table, of which a column is the target.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Csv(_))
    }

    /// Whether test data are drawn by the seed where they come from nowhere else.
    pub fn draws_test(&self) -> bool {
        matches!(self, Self::Csv(_) | Self::Folder(_))
    }

    /// The error of a source that is asked for data of another task.
    fn has_no(&self, expected: &str) -> DataError {
        DataError::setting("data", expected, format!("{self}, a source for another task"))
    }

    /// The pictures of a part, `train` or `test`: those of the folder of this name. A folder that has neither is all for
    /// training.
    fn pairs(&self, part: &str, scale: usize) -> Result<Pairs> {
        type Read = fn(&Path, usize) -> Result<Pairs>;
        let (path, read): (&Path, Read) = match self {
            Self::Photos => return photos(part, scale),
            Self::PhotosOf(path) => (path, Pairs::read_photos),
            Self::Pairs(path) => (path, Pairs::read_pairs),
            _ => return Err(self.has_no("photos, photos:PATH or pairs:PATH")),
        };
        let folder = path.join(part);
        match (folder.is_dir(), part) {
            (true, _) => read(&folder, scale),
            (false, "train") if !path.join("test").is_dir() => read(path, scale),
            _ => Err(DataError::Unexpected {
                place: path.display().to_string(),
                expected: format!("a folder `{part}` in it, or data.test with the pictures for testing"),
                found: "neither".into(),
            }),
        }
    }

    /// The test pictures: those of the folder `test`, or all of a folder that has none.
    fn test_pairs(&self, scale: usize) -> Result<Pairs> {
        match self {
            Self::PhotosOf(path) if !path.join("test").is_dir() => Pairs::read_photos(path, scale),
            Self::Pairs(path) if !path.join("test").is_dir() => Pairs::read_pairs(path, scale),
            _ => self.pairs("test", scale),
        }
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Self::Digits),
            None if text == "photo-digits" => Ok(Self::PhotoDigits),
            Some(("photo-digits", "seen")) => Ok(Self::PhotoDigitsSeen),
            Some(("mnist", path)) if !path.is_empty() => Ok(Self::Mnist(path.into())),
            Some(("cifar10", path)) if !path.is_empty() => Ok(Self::Cifar10(path.into())),
            Some(("cifar100", path)) if !path.is_empty() => Ok(Self::Cifar100(path.into())),
            Some(("folder", path)) if !path.is_empty() => Ok(Self::Folder(path.into())),
            Some(("npz", path)) if !path.is_empty() => Ok(Self::Npz(path.into())),
            Some(("csv", path)) if !path.is_empty() => Ok(Self::Csv(path.into())),
            None if text == "photos" => Ok(Self::Photos),
            Some(("photos", path)) if !path.is_empty() => Ok(Self::PhotosOf(path.into())),
            Some(("pairs", path)) if !path.is_empty() => Ok(Self::Pairs(path.into())),
            _ => Err(DataError::Source { found: text.into() }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::PhotoDigits => f.write_str("photo-digits"),
            Self::PhotoDigitsSeen => f.write_str("photo-digits:seen"),
            Self::Mnist(folder) => write!(f, "mnist:{}", folder.display()),
            Self::Cifar10(folder) => write!(f, "cifar10:{}", folder.display()),
            Self::Cifar100(folder) => write!(f, "cifar100:{}", folder.display()),
            Self::Folder(path) => write!(f, "folder:{}", path.display()),
            Self::Npz(path) => write!(f, "npz:{}", path.display()),
            Self::Csv(path) => write!(f, "csv:{}", path.display()),
            Self::Photos => f.write_str("photos"),
            Self::PhotosOf(path) => write!(f, "photos:{}", path.display()),
            Self::Pairs(path) => write!(f, "pairs:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_the_round_trip() {
        for text in [
            "digits",
            "photo-digits",
            "photo-digits:seen",
            "mnist:a/b",
            "cifar10:C:/x",
            "cifar100:../y",
            "folder:a b",
            "npz:x.npz",
            "csv:x.csv",
            "photos",
            "photos:a",
            "pairs:b/c",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_sources_are_named() {
        for text in [
            "",
            "digit",
            "mnist",
            "mnist:",
            "digits:here",
            "photo-digits:new",
            "cifar10",
            "CIFAR10:x",
            "folder:",
            "npz",
            "csv",
            "pairs",
            "photos:",
        ] {
            let e = text.parse::<Source>().unwrap_err().to_string();
            assert!(e.contains("pairs:PATH") && e.ends_with(&format!("found '{text}'")), "{e}");
        }
    }

    #[test]
    fn settings_are_held_to_the_source() {
        let config = |image_size, validation| DataConfig {
            source: Source::Digits,
            test: None,
            target: None,
            image_size,
            validation,
            seed: 4,
        };
        let split = config(None, 0.1).load().unwrap();
        assert_eq!((split.train.len(), split.validation.unwrap().len(), split.test.len()), (5400, 600, 1000));
        let e = config(Some(32), 0.0).load().unwrap_err().to_string();
        assert_eq!(e, "image_size: expected left out, since images of digits have one size, found 32");
        let e = DataConfig { target: Some("age".into()), ..config(None, 0.0) }.load().unwrap_err().to_string();
        assert_eq!(e, "target: expected left out, since digits is no table, found age");
    }

    #[test]
    fn a_second_table_is_for_testing_and_has_the_same_columns() {
        let dir = tempfile::tempdir().unwrap();
        let source = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            Source::Csv(path)
        };
        let train = source("train.csv", "a,b,y\n1,2,dog\n3,4,cat\n5,6,dog\n");
        let config = |test, target: Option<&str>| DataConfig {
            source: train.clone(),
            test,
            target: target.map(Into::into),
            image_size: None,
            validation: 0.0,
            seed: 1,
        };
        // The target may lie elsewhere, and classes may be missing.
        let split = config(Some(source("test.csv", "a,y,b\n7,dog,8\n")), Some("y")).load().unwrap();
        assert_eq!((split.train.len(), split.test.labels(), split.test.classes()), (3, &[1][..], 2));
        let e = config(Some(source("test.csv", "a,b,y\n7,8,cow\n")), None).load().unwrap_err().to_string();
        assert!(e.ends_with("test.csv: line 2, column `y`: expected a class of the network: cat, dog, found `cow`"), "{e}");
        let e = config(Some(source("test.csv", "b,a,y\n7,8,cat\n")), None).load().unwrap_err().to_string();
        assert!(e.contains("expected the columns of the network, found another order: `b` in place of `a`"), "{e}");
        let test = source("numbers.csv", "b,y,a\n7,8,1\n");
        let e = config(Some(test.clone()), Some("a")).load_numbers().unwrap_err().to_string();
        assert!(e.contains("column `y`: expected a number"), "{e}");
        let mut numbers = config(Some(test), Some("a"));
        numbers.source = source("train.csv", "a,b,y\n1,2,3\n4,5,6\n");
        let split = numbers.load_numbers().unwrap();
        assert_eq!((split.train.targets().values(), split.test.targets().values()), (&[1.0, 4.0][..], &[1.0][..]));
        let network = NumberDescription::of(&split);
        assert_eq!(numbers.load_test_numbers(&network).unwrap(), split.test);
        numbers.source = Source::Digits;
        numbers.target = None;
        let e = numbers.load_numbers().unwrap_err().to_string();
        assert!(e.contains("csv:FILE or npz:PATH with numbers as targets") && e.contains("digits"), "{e}");
    }
}
