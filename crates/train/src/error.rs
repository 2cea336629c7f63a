//! Errors of training runs.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of a run: of its recipe, its data, its network or its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A layer, an optimizer or a checkpoint refused its input.
    #[error(transparent)]
    Nn(Box<fixnet_nn::Error>),
    /// An export or an import failed.
    #[error(transparent)]
    Export(Box<fixnet_export::Error>),
    /// A data set could not be read, or does not fit.
    #[error(transparent)]
    Data(Box<fixnet_data::DataError>),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason that the system gave.
        source: std::io::Error,
    },
    /// There is no recipe of this name.
    #[error("recipe `{name}`: expected a TOML file or one of {known}, found neither")]
    NoRecipe {
        /// The name.
        name: String,
        /// The built-in recipes.
        known: String,
    },
    /// The text of a recipe cannot be used.
    #[error("{place}: {reason}")]
    Recipe {
        /// Where the recipe comes from.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of a recipe does not exist or is out of its range.
    #[error("{key}: {reason}")]
    Setting {
        /// The key.
        key: String,
        /// What was expected and found.
        reason: String,
    },
    /// A path is not the folder of a run.
    #[error("{}: expected the folder of a run, found {found}", .path.display())]
    NoRun {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// A run has no checkpoint of its best epoch.
    #[error("{}: expected the checkpoint of the best epoch (best.safetensors), found {reason}", .path.display())]
    NoBest {
        /// The folder of the run.
        path: PathBuf,
        /// Why there is none.
        reason: String,
    },
    /// The folder of a run, or a file in it, is not as it has to be.
    #[error("{}: {reason}", .path.display())]
    Run {
        /// The folder or the file.
        path: PathBuf,
        /// What was expected and found, and what to do.
        reason: String,
    },
    /// A run that an earlier version computed in another way.
    #[error(
        "{}: fixnet {version} trained this run {what}; this version computes other numbers (CHANGELOG 0.2.0, Methods), so the \
         run cannot go on or be replayed: train it anew in another folder, or use fixnet 0.1 (`eval`, `export` and `report` \
         still read it)", .path.display()
    )]
    Earlier {
        /// The checkpoint.
        path: PathBuf,
        /// The version that wrote it.
        version: String,
        /// What was computed in another way.
        what: String,
    },
    /// The file of a run's network is another one now.
    #[error(
        "{}: expected the file that the run began with (blake3 {expected}), found another one ({found}); a run goes on from its \
         own copy where the file is gone: move it away, or train a run of its own from it", .path.display()
    )]
    ChangedModel {
        /// The file.
        path: PathBuf,
        /// Its digest when the run began.
        expected: String,
        /// Its digest now.
        found: String,
    },
    /// A finished run that was trained on other inputs than a comparison would use now.
    #[error(
        "{}: the finished run in this folder was trained on other inputs than those that are there now, so it is not \
         compared: {source}; choose another --out, or delete the folder", .path.display()
    )]
    OtherInputs {
        /// The folder of the run.
        path: PathBuf,
        /// What differs.
        source: Box<Error>,
    },
    /// A session whose last step failed was asked for another one, or to be saved.
    #[error("step {step} failed, so the session cannot go on: resume its last checkpoint")]
    Failed {
        /// The step.
        step: u64,
    },
    /// An error, with where it arose.
    #[error("{place}: {source}")]
    Within {
        /// A recipe, a file or an argument.
        place: String,
        /// The error.
        source: Box<Error>,
    },
}

impl Error {
    /// This error, with where it arose.
    #[must_use]
    pub fn within(self, place: impl Into<String>) -> Self {
        Self::Within { place: place.into(), source: Box::new(self) }
    }
}

impl From<fixnet_nn::Error> for Error {
    fn from(e: fixnet_nn::Error) -> Self {
        Self::Nn(Box::new(e))
    }
}

impl From<fixnet_export::Error> for Error {
    fn from(e: fixnet_export::Error) -> Self {
        Self::Export(Box::new(e))
    }
}

impl From<fixnet_data::DataError> for Error {
    fn from(e: fixnet_data::DataError) -> Self {
        Self::Data(Box::new(e))
    }
}

impl From<fixnet_autograd::Error> for Error {
    fn from(e: fixnet_autograd::Error) -> Self {
        Self::Nn(Box::new(e.into()))
    }
}

impl From<fixnet_tensor::Error> for Error {
    fn from(e: fixnet_tensor::Error) -> Self {
        Self::Nn(Box::new(e.into()))
    }
}

/// Returns a function that makes an error of reading or writing `path`.
pub(crate) fn io(path: &std::path::Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_path_buf(), source }
}

/// Returns an error about the folder of a run or a file in it.
pub(crate) fn run(path: &std::path::Path, reason: impl Into<String>) -> Error {
    Error::Run { path: path.to_path_buf(), reason: reason.into() }
}
