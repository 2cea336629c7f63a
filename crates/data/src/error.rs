//! What can be wrong with a data set: each variant names the place, what was found and what was expected.

use crate::listed::listed;
use crate::{AnnotationFault, ClassDifference};
use std::path::Path;

/// The result of a data function.
pub type Result<T> = std::result::Result<T, DataError>;

/// An error in the files or the name of a data set. `place` is a file, a folder or the name of a data set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The system could not open or read a file.
    #[error("{place}: {source}")]
    Io {
        /// The file or folder.
        place: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// None of the expected names is in a folder or an archive.
    #[error("{place}: expected {expected}, found none of that name; there are {found}")]
    Missing {
        /// The folder or the archive.
        place: String,
        /// The names that would do.
        expected: String,
        /// The first of the names that are there.
        found: String,
    },
    /// The images of two parts are of other classes.
    #[error(
        "{place}: expected the same classes in train and {part}, found {train} in train only ({only_train}) and {other} in \
         {part} only ({only_other})"
    )]
    Classes {
        /// The folder.
        place: String,
        /// How many classes of the training images have no images in the other part.
        train: usize,
        /// The other part: `test` or `validation`.
        part: &'static str,
        /// How many classes of the other part have no training images.
        other: usize,
        /// The first of the classes that only training images have.
        only_train: String,
        /// The first of the classes that only the other part has.
        only_other: String,
    },
    /// A compressed file does not decode.
    #[error("{place}: expected gzip data, found a corrupt stream ({reason})")]
    Compression {
        /// The file.
        place: String,
        /// What the decoder said.
        reason: String,
    },
    /// The first four bytes do not announce the expected IDX array.
    #[error("{place}: expected IDX magic 0x{expected:08x} (bytes in {axes} axes), found 0x{found:08x}")]
    Magic {
        /// The file.
        place: String,
        /// The magic number in the file.
        found: u32,
        /// The magic number of an IDX file of bytes with `axes` axes.
        expected: u32,
        /// The number of axes.
        axes: usize,
    },
    /// The file ends early.
    #[error("{place}: truncated: expected {expected} bytes, found {found}")]
    Truncated {
        /// The file.
        place: String,
        /// The (uncompressed) bytes in the file.
        found: u64,
        /// The bytes that the header asks for, itself included.
        expected: u128,
    },
    /// The file goes on after its data.
    #[error("{place}: expected {expected} bytes, found more after them")]
    Trailing {
        /// The file.
        place: String,
        /// The (uncompressed) bytes that the header asks for, itself included.
        expected: u128,
    },
    /// The file is no whole number of records.
    #[error("{place}: expected a multiple of {record} bytes (one record each), found {found}")]
    Records {
        /// The file.
        place: String,
        /// The length of the file.
        found: usize,
        /// The length of a record.
        record: usize,
    },
    /// There is no image, or images have no pixels.
    #[error("{place}: expected at least one image of at least one pixel, found none")]
    Empty {
        /// The file or data set.
        place: String,
    },
    /// There are not as many labels as images.
    #[error("{labels_in}: expected {images} labels, one for each image in {images_in}, found {labels}")]
    Counts {
        /// Where the images are.
        images_in: String,
        /// The number of images.
        images: usize,
        /// Where the labels are.
        labels_in: String,
        /// The number of labels.
        labels: usize,
    },
    /// The pixels are no whole number of images.
    #[error("{place}: expected a multiple of {image} bytes ({shape:?} an image), found {found}")]
    Pixels {
        /// The data set.
        place: String,
        /// The number of bytes.
        found: usize,
        /// The bytes of an image.
        image: usize,
        /// Height, width, channels.
        shape: [usize; 3],
    },
    /// A label is not a class.
    #[error("{place}: label {index}: expected 0..={}, found {found}", .classes - 1)]
    Label {
        /// The file or data set.
        place: String,
        /// Which label.
        index: usize,
        /// Its value.
        found: usize,
        /// The number of classes, at least 1.
        classes: usize,
    },
    /// Training and test images differ in shape or classes.
    #[error("{place}: expected test data of {train}, as in training, found {test}")]
    Mismatch {
        /// The data set.
        place: String,
        /// Shape and classes of the training set.
        train: String,
        /// Shape and classes of the test set.
        test: String,
    },
    /// Classes have other names, or the same in another order.
    #[error("{place}: expected the classes of {of}, found others: {difference}")]
    OtherClasses {
        /// The data set.
        place: String,
        /// Whose classes were expected.
        of: &'static str,
        /// What is missing, unexpected or in another place.
        difference: ClassDifference,
    },
    /// Images are not those that a run began with.
    #[error("{place}: expected the {part} images that the run began with ({expected}), found others ({found})")]
    OtherImages {
        /// The data.
        place: String,
        /// Which part of them: training, validation or test.
        part: &'static str,
        /// The beginning of the fingerprint that was recorded.
        expected: String,
        /// The beginning of the fingerprint of what is there.
        found: String,
    },
    /// A cell of a table that cannot be used.
    #[error("{place}: line {line}, column `{column}`: expected {expected}, found {found}")]
    Cell {
        /// The file.
        place: String,
        /// The line of the file, counted from 1.
        line: u64,
        /// The name of the column, or its number where columns have no names.
        column: String,
        /// What would do, and what to do about it.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A box, an image or a class of an annotation file that cannot be used.
    #[error("{place}: {element}: expected {expected}, found {found}")]
    Annotation {
        /// The file.
        place: String,
        /// The part of it: a line, or the id of an image or an annotation.
        element: String,
        /// What is wrong.
        fault: AnnotationFault,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file, an array or a setting that is not what it has to be.
    #[error("{place}: expected {expected}, found {found}")]
    Unexpected {
        /// The file (and the array in it) or the setting.
        place: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A file or an image claims more memory than it is given.
    #[error(transparent)]
    Memory(#[from] fixnet_tensor::Error),
    /// A data source that is not known.
    #[error("data: expected {expected}, found '{found}'")]
    Source {
        /// How sources are written.
        expected: String,
        /// The text.
        found: String,
    },
}

/// The error of something that is not what it has to be.
pub(crate) fn unexpected(place: &str, expected: impl ToString, found: impl ToString) -> DataError {
    DataError::Unexpected { place: place.into(), expected: expected.to_string(), found: found.to_string() }
}

impl DataError {
    /// A setting out of its range.
    pub(crate) fn setting(key: &str, expected: &str, found: impl ToString) -> Self {
        Self::Unexpected { place: key.into(), expected: expected.into(), found: found.to_string() }
    }

    /// What is expected in `folder` and is not there, such as `a file train.json`, with what is there.
    pub(crate) fn missing(folder: &Path, expected: &str) -> Self {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Self::Missing { place: folder.display().to_string(), expected: expected.into(), found: listed(&names) }
    }
}
