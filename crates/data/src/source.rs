//! Data sets by name.

use crate::cifar::{cifar10_test, cifar100_part};
use crate::folder::{folder, folder_test};
use crate::idx::mnist_test;
use crate::image_file::MAX_SIDE;
use crate::npz::npz_test;
use crate::{
    DataDescription, DataError, Dataset, Result, Split, cifar10, cifar100, digits, mnist, npz, photo_digits,
    photo_digits_seen,
};
use std::{fmt, path::PathBuf, str::FromStr};

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
}

/// A source with what else decides which images are seen.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Where the data come from.
    pub source: Source,
    /// Rows and columns to which images of a folder are scaled; `None` takes them as they are.
    pub image_size: Option<usize>,
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
        let split = match &self.source {
            Source::Folder(path) => folder(path, self.image_size, self.seed)?,
            source => source.load()?,
        };
        split.with_validation(self.validation, self.seed)
    }

    /// Reads or makes the test images alone, for `network`: no training images are needed, and none are looked at.
    ///
    /// # Errors
    /// A file is missing or broken; the images have another shape than those that the network was trained on, or other
    /// classes ([`DataDescription::check_images`]).
    pub fn load_test(&self, network: &DataDescription) -> Result<Dataset> {
        self.check()?;
        let test = match &self.source {
            Source::Digits | Source::PhotoDigits | Source::PhotoDigitsSeen => self.source.load()?.test,
            Source::Mnist(path) => mnist_test(path)?,
            Source::Cifar10(path) => cifar10_test(path)?,
            Source::Cifar100(path) => cifar100_part(path, "test")?,
            Source::Folder(path) => folder_test(path, self.image_size, self.seed, network.shape[2])?,
            Source::Npz(path) => npz_test(path, network.classes)?,
        };
        network.check_images(&test)?;
        Ok(test)
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
        ] {
            let e = text.parse::<Source>().unwrap_err().to_string();
            assert!(e.contains("npz:PATH") && e.ends_with(&format!("found '{text}'")), "{e}");
        }
    }

    #[test]
    fn settings_are_held_to_the_source() {
        let config = |image_size, validation| DataConfig { source: Source::Digits, image_size, validation, seed: 4 };
        let split = config(None, 0.1).load().unwrap();
        assert_eq!((split.train.len(), split.validation.unwrap().len(), split.test.len()), (5400, 600, 1000));
        let e = config(Some(32), 0.0).load().unwrap_err().to_string();
        assert_eq!(e, "image_size: expected left out, since images of digits have one size, found 32");
    }
}
