//! Folders of files, one class a sub-folder: which classes there are, and which files of each.

use crate::entries::entries;
use crate::image_file::unexpected;
use crate::listed::listed;
use crate::{DataError, Result};
use fixnet_files::input_file;
use std::path::{Path, PathBuf};

/// The files of a folder, by class.
pub(crate) struct ClassFolders {
    pub(crate) folder: PathBuf,
    /// The names of the classes, in their order.
    pub(crate) classes: Vec<String>,
    /// The files of the first class in the order of their names, then those of the next.
    pub(crate) paths: Vec<PathBuf>,
    /// The class of each file.
    pub(crate) labels: Vec<u16>,
}

impl ClassFolders {
    /// Lists a folder; `files` says what its files are called in messages: `images`.
    ///
    /// # Errors
    /// There is no class, or an empty one; or something else than folders of files.
    pub(crate) fn of(folder: &Path, files: &str) -> Result<Self> {
        let (mut classes, mut paths, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for class in entries(folder)? {
            if !class.is_dir() {
                return Err(unexpected(&class, &format!("a folder of {files} of one class"), input_file::kind(&class)));
            }
            let label = u16::try_from(classes.len());
            let label = label.map_err(|_| unexpected(folder, "at most 65536 classes", "more"))?;
            let of_class = entries(&class)?;
            if of_class.is_empty() {
                return Err(DataError::Empty { place: class.display().to_string() });
            }
            labels.resize(labels.len() + of_class.len(), label);
            paths.extend(of_class);
            classes.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        if paths.is_empty() {
            return Err(unexpected(folder, &format!("one folder of {files} a class"), "none"));
        }
        Ok(Self { folder: folder.to_path_buf(), classes, paths, labels })
    }

    /// Checks that another part of the data, `part`, has the classes of this one, the training part. `place` has both.
    ///
    /// # Errors
    /// One has classes that the other lacks.
    pub(crate) fn check_same(&self, place: &Path, part: &'static str, other: &Self) -> Result<()> {
        if self.classes == other.classes {
            return Ok(());
        }
        let only = |of: &Self, than: &Self| -> Vec<String> {
            of.classes.iter().filter(|class| than.classes.binary_search(class).is_err()).cloned().collect()
        };
        let (only_train, only_other) = (only(self, other), only(other, self));
        Err(DataError::Classes {
            place: place.display().to_string(),
            train: only_train.len(),
            part,
            other: only_other.len(),
            only_train: listed(&only_train),
            only_other: listed(&only_other),
        })
    }
}
