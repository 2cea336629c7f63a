//! Errors of data, models and checkpoints.

use std::path::PathBuf;

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the nn crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation, layer or optimizer refused its input.
    #[error(transparent)]
    Graph(#[from] fixnet_autograd::Error),
    /// An operation on tensors refused its input.
    #[error(transparent)]
    Tensor(#[from] fixnet_tensor::Error),
    /// A data set could not be read.
    #[error(transparent)]
    Data(#[from] fixnet_data::DataError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that is no checkpoint, or a damaged one.
    #[error("{path}: not a usable checkpoint: {problem}")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Weights to start from that are those of another model.
    #[error(
        "{place}: expected weights of this model, found {fit} of its {weights} in name and shape (at least half must \
         be there); missing are {missing}; the weights given are {holds}"
    )]
    OtherModel {
        /// The file.
        place: String,
        /// How many weights of the model are there.
        fit: usize,
        /// How many weights the model has.
        weights: usize,
        /// The first of the parameters that are missing, each with what was found in its place.
        missing: String,
        /// The first of the names that are there.
        holds: String,
    },
    /// A network gave a number that is not finite in evaluation, so that it has no loss and its classes mean nothing.
    #[error(
        "{what} of sample {sample}: expected a finite number, found {found}; the numbers of this network are too large to \
         evaluate (a run that diverged, or a damaged file)"
    )]
    NotFinite {
        /// The loss or the output.
        what: &'static str,
        /// The sample, counted from 0 in the order of the data; of a loss the first one of its batch.
        sample: usize,
        /// What was found.
        found: f64,
    },
    /// A checkpoint could not be written.
    #[error("{path}: the checkpoint could not be written ({source}); the last one that was is untouched")]
    Save {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A checkpoint could not be opened or read. It may be whole.
    #[error(
        "{path}: could not be read ({source}); it may be whole, so nothing goes on from the previous one: try again, or \
         move the file away to use {previous}"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// The checkpoint before it.
        previous: PathBuf,
    },
    /// Neither the checkpoint nor the previous one can be used.
    #[error("no usable checkpoint: {current}; {previous}")]
    NoCheckpoint {
        /// What is wrong with the last one.
        current: Box<Error>,
        /// What is wrong with the one before.
        previous: Box<Error>,
    },
}

/// What makes a file no usable checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A file of another format.
    #[error("expected a safetensors file, found {found}; {advice}")]
    Foreign {
        /// The format.
        found: &'static str,
        /// How to go on from there.
        advice: &'static str,
    },
    /// Shorter than the shortest file of the format.
    #[error("cut short: expected at least 8 bytes, found {found}")]
    Short {
        /// The length of the file.
        found: u64,
    },
    /// The header claims to be longer than the file, or than any that is read.
    #[error("cut short or no safetensors file: the header claims {claimed} bytes, expected at most {most}")]
    HeaderLength {
        /// The length that the file claims.
        claimed: u64,
        /// The bytes that follow in the file, or the longest header that is read.
        most: u64,
    },
    /// The header is no JSON of the format, or contradicts itself.
    #[error("damaged, or no safetensors file: header: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// The header tells of more or fewer bytes than there are.
    #[error("cut short or damaged: expected {expected} bytes after the header, found {found}")]
    DataLength {
        /// What the header says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// The content is not what was written.
    #[error("damaged: expected blake3 {expected}, found {found}")]
    Checksum {
        /// The checksum in the file.
        expected: String,
        /// The checksum of its content.
        found: String,
    },
    /// A `safetensors` file that fixnet did not write.
    #[error("expected a checksum (blake3) in its metadata, found none; fixnet did not write it")]
    NoChecksum,
    /// Something that every checkpoint has.
    #[error("`{name}`, which every checkpoint of a run has, is missing or has another form")]
    Missing {
        /// Its name.
        name: String,
    },
    /// A number that no run or network has.
    #[error("`{name}`: expected {expected}, found {found} at {at}")]
    Number {
        /// The tensor.
        name: String,
        /// Its place in the tensor, counted through.
        at: usize,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: f32,
    },
    /// It claims more memory than a file is given.
    #[error(transparent)]
    Memory(Box<fixnet_tensor::Error>),
    /// It belongs to a run with another seed.
    #[error(
        "it belongs to seed {found}, this model to seed {expected}: a run goes on with its own seed (weights alone are \
         restored without an optimizer)"
    )]
    Seed {
        /// The seed of the model.
        expected: u64,
        /// The seed in the file.
        found: u64,
    },
    /// It belongs to another model or optimizer.
    #[error("it does not fit: {0}")]
    Misfit(Box<fixnet_autograd::Error>),
}
