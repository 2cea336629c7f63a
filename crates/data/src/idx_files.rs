//! The names of IDX files: where the four of a set are in a folder, and which set they are by their names.
//!
//! EMNIST has six sets, as a rule in one folder. Its images are stored column after column, and the labels of its letters begin
//! with 1; that is known by the names of its files alone.

use crate::entries::entries;
use crate::listed::listed;
use crate::records::Form;
use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// A set that is known by the names of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdxSet {
    /// MNIST, or another set of ten classes in its form.
    Mnist,
    /// A set of EMNIST.
    Emnist(&'static Emnist),
}

/// A set of EMNIST.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Emnist {
    /// How the names of its files begin.
    stem: &'static str,
    /// The names of its classes, a letter each.
    classes: &'static str,
    /// The label of the first class.
    first: u8,
}

const DIGITS: &str = "0123456789";
/// Where the small letter looks like the large one, there is one class for both.
const MERGED: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt";
const EMNIST: &[Emnist] = &[
    Emnist { stem: "emnist-balanced", classes: MERGED, first: 0 },
    Emnist {
        stem: "emnist-byclass",
        classes: "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        first: 0,
    },
    Emnist { stem: "emnist-bymerge", classes: MERGED, first: 0 },
    Emnist { stem: "emnist-digits", classes: DIGITS, first: 0 },
    Emnist { stem: "emnist-letters", classes: "ABCDEFGHIJKLMNOPQRSTUVWXYZ", first: 1 },
    Emnist { stem: "emnist-mnist", classes: DIGITS, first: 0 },
];

impl IdxSet {
    /// What it is called in messages: `mnist`, `emnist-letters`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Emnist(set) => set.stem,
        }
    }

    pub(crate) fn classes(self) -> usize {
        match self {
            Self::Mnist => 10,
            Self::Emnist(set) => set.classes.len(),
        }
    }

    /// The names of the classes, where they are not their numbers.
    pub(crate) fn class_names(self) -> Option<Vec<String>> {
        match self {
            Self::Mnist => None,
            Self::Emnist(set) => Some(set.classes.chars().map(String::from).collect()),
        }
    }

    /// The label of the first class.
    pub(crate) fn first_label(self) -> u8 {
        match self {
            Self::Mnist => 0,
            Self::Emnist(set) => set.first,
        }
    }

    /// What is done with the images and labels as they are in the files.
    pub(crate) fn note(self) -> Option<String> {
        let Self::Emnist(set) = self else { return None };
        let labels = match set.first {
            0 => String::new(),
            first => format!(", and labels from {first} on are classes from 0 on"),
        };
        Some(format!(
            "note: {}: images are stored with rows and columns exchanged, and are put upright{labels}",
            set.stem
        ))
    }

    /// How an image is stored.
    pub(crate) fn form(self) -> Form {
        match self {
            Self::Mnist => Form::Bytes,
            Self::Emnist(_) => Form::Columns,
        }
    }

    /// The words in the names of the files of a part.
    fn words(self, part: &str) -> &str {
        if self == Self::Mnist && part == "test" { "t10k" } else { part }
    }
}

/// The files of a set.
#[derive(Debug)]
pub(crate) struct IdxFiles {
    folder: PathBuf,
    pub(crate) set: IdxSet,
}

impl IdxFiles {
    /// Finds which set is in a folder, or of those in a folder the one whose names begin as the path ends. A folder with the four
    /// files of MNIST is MNIST, whatever else is in it; else whether all files are there is not looked at.
    ///
    /// # Errors
    /// There are several sets in the folder, or it cannot be read.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let last = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(set) = EMNIST.iter().find(|set| set.stem == last && !path.is_dir()) {
            let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return Ok(Self { folder: folder.into(), set: IdxSet::Emnist(set) });
        }
        // What is no folder is told where its files are looked for.
        let all = if path.is_dir() { entries(path)? } else { Vec::new() };
        let names: Vec<String> = all.iter().map(|path| crate::split_folders::name(path)).collect();
        let has =
            |stem: &str| names.iter().any(|name| name.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-')));
        let mut sets: Vec<IdxSet> = EMNIST.iter().filter(|set| has(set.stem)).map(IdxSet::Emnist).collect();
        if has("train") || has("t10k") {
            sets.push(IdxSet::Mnist);
        }
        let mnist = Self { folder: path.into(), set: IdxSet::Mnist };
        match sets[..] {
            [] => Ok(mnist),
            _ if mnist.of("train").is_ok() && mnist.of("test").is_ok() => Ok(mnist),
            [set] => Ok(Self { folder: path.into(), set }),
            _ => {
                let names: Vec<&str> = sets.iter().map(|set| set.name()).collect();
                let example = path.join(EMNIST.iter().find(|set| has(set.stem)).map_or("", |set| set.stem));
                Err(DataError::Unexpected {
                    place: path.display().to_string(),
                    expected: format!("one set (name one of several as in mnist:{})", example.display()),
                    found: listed(&names),
                })
            }
        }
    }

    /// The files of images and labels of `train` or `test`.
    ///
    /// # Errors
    /// One of them is not there.
    pub(crate) fn of(&self, part: &str) -> Result<[PathBuf; 2]> {
        let words = self.set.words(part);
        let stem = match self.set {
            IdxSet::Mnist => words.to_string(),
            IdxSet::Emnist(set) => format!("{}-{words}", set.stem),
        };
        Ok([self.file(&format!("{stem}-images"), "idx3-ubyte")?, self.file(&format!("{stem}-labels"), "idx1-ubyte")?])
    }

    /// The file of this name and form.
    fn file(&self, name: &str, form: &str) -> Result<PathBuf> {
        let names = ["-", "."].map(|dot| [format!("{name}{dot}{form}"), format!("{name}{dot}{form}.gz")]);
        let found = names.iter().flatten().map(|name| self.folder.join(name)).find(|path| path.exists());
        found.ok_or_else(|| DataError::missing(&self.folder, &format!("a file {} or {}", names[0][0], names[0][1])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Idx;
    use std::fs;

    /// Writes the four files of a set, with images of two rows and three columns.
    fn write(folder: &Path, stems: [&str; 2], [images, labels]: [&str; 2], values: &[u8]) {
        for stem in stems {
            let pixels = (0..6 * values.len()).map(|i| i as u8).collect();
            let idx = Idx { shape: vec![values.len(), 2, 3], data: pixels };
            fs::write(folder.join(format!("{stem}-{images}")), idx.to_bytes()).unwrap();
            let idx = Idx { shape: vec![values.len()], data: values.to_vec() };
            fs::write(folder.join(format!("{stem}-{labels}")), idx.to_bytes()).unwrap();
        }
    }

    const DASH: [&str; 2] = ["images-idx3-ubyte", "labels-idx1-ubyte"];
    const DOT: [&str; 2] = ["images.idx3-ubyte", "labels.idx1-ubyte"];

    #[test]
    fn names_with_a_dot_are_found() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ["train", "t10k"], DOT, &[7, 9]);
        let split = crate::mnist(dir.path()).unwrap();
        assert_eq!(
            (split.train.shape(), split.train.labels(), split.train.classes()),
            (&[2, 3, 1][..], &[7, 9][..], 10)
        );
        assert_eq!(*split.test.image(0).unwrap(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn letters_of_emnist_are_upright_and_have_names() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ["emnist-letters-train", "emnist-letters-test"], DASH, &[1, 26, 3]);
        let split = crate::mnist(dir.path()).unwrap();
        assert_eq!((split.train.labels(), split.train.classes()), (&[0, 25, 2][..], 26));
        assert_eq!((split.train.class_names()[0].as_str(), split.train.class_names()[25].as_str()), ("A", "Z"));
        // Stored column after column: [0, 1, 2] is the first one.
        assert_eq!((split.train.shape(), &*split.train.image(0).unwrap()), (&[3, 2, 1][..], &[0, 3, 1, 4, 2, 5][..]));
        let config = |source: String| crate::DataConfig {
            clips: crate::ClipSettings::default(),
            source: source.parse().unwrap(),
            test: None,
            image_size: None,
            target: None,
            validation: 0.0,
            seed: 1,
        };
        let notes = config(format!("mnist:{}", dir.path().display())).notes();
        assert!(notes[0].contains("put upright, and labels from 1 on are classes from 0 on"), "{notes:?}");
        assert_eq!(config("digits".into()).notes(), [""; 0]);
        let streamed = crate::idx::tests_read(dir.path(), 5).unwrap();
        assert!(streamed.train.is_streamed());
        assert!((0..3).all(|i| streamed.train.image(i).unwrap() == split.train.image(i).unwrap()));
        assert_eq!(streamed.train.class_names(), split.train.class_names());
        let labels = dir.path().join("emnist-letters-train-labels-idx1-ubyte");
        fs::write(&labels, Idx { shape: vec![3], data: vec![1, 0, 2] }.to_bytes()).unwrap();
        let e = crate::mnist(dir.path()).unwrap_err().to_string();
        assert!(e.ends_with("labels-idx1-ubyte: label 1: expected 1 or more, found 0"), "{e}");
        fs::write(&labels, Idx { shape: vec![3], data: vec![1, 27, 2] }.to_bytes()).unwrap();
        assert!(crate::mnist(dir.path()).unwrap_err().to_string().contains("label 1: expected 0..=25, found 26"));
    }

    #[test]
    fn a_folder_of_mnist_is_mnist_whatever_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ["train", "t10k"], DOT, &[7, 9]);
        let prints = |split: crate::Split| [split.train.fingerprint(), split.test.fingerprint()];
        let alone = prints(crate::mnist(dir.path()).unwrap());
        write(dir.path(), ["emnist-letters-train", "emnist-letters-test"], DASH, &[1, 26]);
        assert_eq!(prints(crate::mnist(dir.path()).unwrap()), alone);
        assert_eq!(crate::mnist(&dir.path().join("emnist-letters")).unwrap().train.labels(), [0, 25]);
        write(dir.path(), ["emnist-digits-train", "emnist-digits-test"], DASH, &[4, 1]);
        assert_eq!(crate::mnist(dir.path()).unwrap().train.classes(), 10);
    }

    #[test]
    fn one_of_several_sets_is_named_by_the_path() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), ["emnist-balanced-train", "emnist-balanced-test"], DASH, &[46, 10]);
        write(dir.path(), ["emnist-digits-train", "emnist-digits-test"], DOT, &[4, 1]);
        let e = crate::mnist(dir.path()).unwrap_err().to_string();
        assert!(
            e.contains("expected one set (name one of several as in mnist:") && e.contains("/emnist-balanced)"),
            "{e}"
        );
        assert!(e.ends_with("found emnist-balanced, emnist-digits"), "{e}");
        let balanced = crate::mnist(&dir.path().join("emnist-balanced")).unwrap().train;
        assert_eq!((balanced.classes(), balanced.class_names()[46].as_str()), (47, "t"));
        assert_eq!(crate::mnist(&dir.path().join("emnist-digits")).unwrap().test.labels(), [4, 1]);
        let e = crate::mnist(&dir.path().join("emnist-letters")).unwrap_err().to_string();
        assert!(e.contains("expected a file emnist-letters-train-images-idx3-ubyte or"), "{e}");
        // Half of MNIST beside them does not say which is meant.
        write(dir.path(), ["train"; 2], DASH, &[7, 9]);
        let e = crate::mnist(dir.path()).unwrap_err().to_string();
        assert!(e.ends_with("found emnist-balanced, emnist-digits, mnist"), "{e}");
        // Numbers of classes as they are published.
        let counts: Vec<usize> = EMNIST.iter().map(|set| set.classes.len()).collect();
        assert_eq!(counts, [47, 62, 47, 10, 26, 10]);
    }
}
