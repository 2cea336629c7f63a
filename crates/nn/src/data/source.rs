//! Data sets by name.

use super::{DataError, Result, Split, cifar10, cifar100, digits, mnist, photo_digits};
use std::{fmt, path::PathBuf, str::FromStr};

/// Where data come from, as written in recipes and on the command line: `digits`, `mnist:FOLDER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The embedded MNIST digits.
    Digits,
    /// Coloured digits on photographs.
    PhotoDigits,
    /// A folder with the four files of MNIST.
    Mnist(PathBuf),
    /// A folder with the binary batches of CIFAR-10.
    Cifar10(PathBuf),
    /// A folder with the binary files of CIFAR-100.
    Cifar100(PathBuf),
}

impl Source {
    /// Reads or makes the data.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn load(&self) -> Result<Split> {
        match self {
            Self::Digits => digits(),
            Self::PhotoDigits => photo_digits(),
            Self::Mnist(folder) => mnist(folder),
            Self::Cifar10(folder) => cifar10(folder),
            Self::Cifar100(folder) => cifar100(folder),
        }
    }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Self::Digits),
            None if text == "photo-digits" => Ok(Self::PhotoDigits),
            Some(("mnist", path)) if !path.is_empty() => Ok(Self::Mnist(path.into())),
            Some(("cifar10", path)) if !path.is_empty() => Ok(Self::Cifar10(path.into())),
            Some(("cifar100", path)) if !path.is_empty() => Ok(Self::Cifar100(path.into())),
            _ => Err(DataError::Source { found: text.into() }),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Digits => f.write_str("digits"),
            Self::PhotoDigits => f.write_str("photo-digits"),
            Self::Mnist(folder) => write!(f, "mnist:{}", folder.display()),
            Self::Cifar10(folder) => write!(f, "cifar10:{}", folder.display()),
            Self::Cifar100(folder) => write!(f, "cifar100:{}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_the_round_trip() {
        for text in ["digits", "photo-digits", "mnist:a/b", "cifar10:C:/x", "cifar100:../y"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn unknown_sources_are_named() {
        for text in ["", "digit", "mnist", "mnist:", "digits:here", "cifar10", "CIFAR10:x"] {
            let e = text.parse::<Source>().unwrap_err().to_string();
            assert!(e.contains("cifar100:PATH") && e.ends_with(&format!("found '{text}'")), "{e}");
        }
    }
}
