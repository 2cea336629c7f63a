//! A folder that has a data set in parts: `train`, `test`, and `val`, `valid` or `validation`.

use crate::entries::entries;
use crate::image_file::unexpected;
use crate::listed::listed;
use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// Folders of validation samples are called so.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];

/// The parts that a folder has, each a folder of classes in it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct SplitFolders {
    pub(crate) train: Option<PathBuf>,
    pub(crate) test: Option<PathBuf>,
    pub(crate) validation: Option<PathBuf>,
}

impl SplitFolders {
    /// Finds the parts of a folder by their names, of which capital letters are as small ones. `None` if the folder has no parts:
    /// its folders are classes. A class may be called `train` or `val`, but it holds images and no folders.
    ///
    /// # Errors
    /// The folder cannot be read, or has a part twice.
    pub(crate) fn of(folder: &Path) -> Result<Option<Self>> {
        let folders: Vec<PathBuf> = entries(folder)?.into_iter().filter(|entry| entry.is_dir()).collect();
        let one_of = |names: &[&str]| {
            let is_named = |path: &&PathBuf| names.contains(&name(path).to_lowercase().as_str());
            let found: Vec<&PathBuf> = folders.iter().filter(is_named).collect();
            match found[..] {
                [] => Ok(None),
                [one] => Ok(Some(one.clone())),
                _ => {
                    let expected = format!("one folder {}", names.join(" or "));
                    Err(unexpected(folder, &expected, listed(&found.iter().map(|path| name(path)).collect::<Vec<_>>())))
                }
            }
        };
        // A twin is an error of the parts alone: classes may be called `val` and `valid`.
        let is_part = |path: &PathBuf| holds_folders(path);
        let both = ["train", "test"].iter().all(|part| folders.iter().any(|path| name(path).to_lowercase() == *part));
        let named = |path: &&PathBuf| {
            let name = name(path).to_lowercase();
            name == "train" || name == "test" || VALIDATION.contains(&name.as_str())
        };
        if !both && !folders.iter().filter(named).any(is_part) {
            return Ok(None);
        }
        Ok(Some(Self { train: one_of(&["train"])?, test: one_of(&["test"])?, validation: one_of(&VALIDATION)? }))
    }

    /// The training part.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn train(&self, folder: &Path) -> Result<&Path> {
        let none = || unexpected(folder, "a folder `train` of classes beside the other parts", "none");
        self.train.as_deref().ok_or_else(none)
    }

    /// The test part.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn test(&self, folder: &Path) -> Result<&Path> {
        let none = || {
            let example = self.validation.clone().unwrap_or_else(|| folder.join("OTHER"));
            let expected = format!(
                "a folder `test` of classes in it, or test data from elsewhere (such as data.test=folder:{})",
                example.display()
            );
            DataError::Unexpected { place: folder.display().to_string(), expected, found: self.to_string() }
        };
        self.test.as_deref().ok_or_else(none)
    }
}

impl std::fmt::Display for SplitFolders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [&self.train, &self.test, &self.validation].into_iter().flatten();
        let names: Vec<String> = parts.map(|path| format!("`{}`", name(path))).collect();
        write!(f, "{} alone", names.join(" and "))
    }
}

/// The name of a folder in the one above it.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn holds_folders(path: &Path) -> bool {
    entries(path).is_ok_and(|all| all.iter().any(|entry| entry.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(folders: &[&str]) -> std::result::Result<Option<[Option<String>; 3]>, String> {
        let dir = tempfile::tempdir().unwrap();
        folders.iter().for_each(|folder| std::fs::create_dir_all(dir.path().join(folder)).unwrap());
        let found = SplitFolders::of(dir.path()).map_err(|e| e.to_string())?;
        Ok(found.map(|of| [of.train, of.test, of.validation].map(|path| path.map(|path| name(&path)))))
    }

    #[test]
    fn parts_are_found_by_their_names() {
        let of = |names: [&str; 3]| Ok(Some(names.map(|name| (!name.is_empty()).then(|| name.to_string()))));
        assert_eq!(parts(&["train/a", "test/a", "val/a", "other"]), of(["train", "test", "val"]));
        assert_eq!(parts(&["Train/a", "TEST/a", "Validation/a"]), of(["Train", "TEST", "Validation"]));
        assert_eq!(parts(&["train/a", "valid/a"]), of(["train", "", "valid"]));
        // Two empty ones are parts without classes, which is told then.
        assert_eq!(parts(&["train", "test"]), of(["train", "test", ""]));
        assert_eq!(parts(&["train", "val", "valid", "boat"]), Ok(None));
        let e = parts(&["train/a", "test/a", "val/a", "Valid/a"]).unwrap_err();
        assert!(e.ends_with("expected one folder val or valid or validation, found Valid, val"), "{e}");
        assert!(parts(&["train/a", "Train/a"]).unwrap_err().ends_with("expected one folder train, found Train, train"));
    }
}
