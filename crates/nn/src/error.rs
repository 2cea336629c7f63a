//! Errors of data, models and checkpoints.

use std::path::PathBuf;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the nn crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation, layer or optimizer refused its input.
    #[error(transparent)]
    Graph(#[from] fixnet_autograd::Error),
    /// An operation on tensors refused its input.
    #[error(transparent)]
    Tensor(#[from] fixnet_tensor::Error),
    /// A data set could not be read.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no checkpoint, or a damaged one.
    #[error("{path}: not a usable checkpoint: {reason}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}
