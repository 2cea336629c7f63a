//! What a source of data is: its text in recipes, its kind, and its reader.

use crate::{
    ClipSettings, DataDescription, DataError, Dataset, DetectionSet, DetectionSplit, Numbers, Pairs, Result, Split,
};
use std::any::Any;
use std::fmt;
use std::path::Path;

/// Where data come from, as written in recipes and on the command line: a name, and for most kinds a path or a word behind a
/// colon.
///
/// ```
/// use fixnet_data::Source;
/// let source: Source = "folder:photos/birds".parse()?;
/// assert_eq!((source.name(), source.argument()), ("folder", Some("photos/birds")));
/// assert_eq!("digits".parse::<Source>()?.load()?.train.len(), 6000);
/// # Ok::<(), fixnet_data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub(crate) name: String,
    pub(crate) argument: Option<String>,
}

/// What a reader is asked for: a source, with the settings that decide which data are seen.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The source.
    pub source: &'a Source,
    /// Rows and columns to which images are scaled; `None` takes them as they are. Images with boxes are as they are in any case: whoever
    /// makes batches of them places them on a canvas of this size.
    pub image_size: Option<usize>,
    /// Draws the test part where the source has none.
    pub seed: u64,
    /// The column of a table that holds the targets, by its name or its number; `None` is the last one.
    pub target: Option<&'a str>,
    /// How recordings become sequences.
    pub clips: ClipSettings,
    /// Whether no test part is drawn, since test data come from another source: where the source has no parts, each is all of it.
    pub whole: bool,
}

impl<'a> Request<'a> {
    /// Returns what stands behind the colon, as a path; the working folder where nothing does.
    pub fn path(&self) -> &'a Path {
        Path::new(self.source.argument().unwrap_or("."))
    }

    /// Returns the error of a source that is asked for data that it does not have; `expected` names what they are.
    pub fn has_no(&self, expected: &str) -> DataError {
        DataError::setting("data", expected, format!("{}, a source for another task", self.source))
    }
}

/// Reads a kind of sources. A reader has those methods that fit its data; the others return an error.
pub trait Reader: fmt::Debug + Send + Sync {
    /// Reads or makes labelled images, sequences or rows.
    ///
    /// # Errors
    /// A file is missing or broken; or the source has other data.
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        Err(request.has_no("labelled samples"))
    }

    /// Reads or makes the labelled test samples alone, for `network`.
    ///
    /// # Errors
    /// As [`labelled`](Self::labelled).
    fn labelled_test(&self, request: &Request<'_>, _network: &DataDescription) -> Result<Dataset> {
        Ok(self.labelled(request)?.test)
    }

    /// Reads or makes samples whose targets are numbers.
    ///
    /// # Errors
    /// A file is missing or broken; or the source has other data.
    fn numbers(&self, request: &Request<'_>) -> Result<Split<Numbers>> {
        Err(request.has_no("csv:PATH or npz:PATH with numbers as targets"))
    }

    /// Reads or makes the test samples of [`numbers`](Self::numbers) alone.
    ///
    /// # Errors
    /// As there.
    fn numbers_test(&self, request: &Request<'_>) -> Result<Dataset<Numbers>> {
        Ok(self.numbers(request)?.test)
    }

    /// Reads or makes the pairs of small and large pictures of `part`, `train` or `test`, the large ones `scale` times as high
    /// and wide. Where `alone`, no other part of the source is looked at, and a source without parts is all of this one.
    ///
    /// # Errors
    /// A file is missing, broken or of another size; or the source has other data.
    fn pairs(&self, request: &Request<'_>, _part: &str, _scale: usize, _alone: bool) -> Result<Pairs> {
        Err(request.has_no("photos, photos:PATH or pairs:PATH"))
    }

    /// Reads or makes images with boxes.
    ///
    /// # Errors
    /// A file is missing or broken; or the source has other data.
    fn detection(&self, request: &Request<'_>) -> Result<DetectionSplit> {
        Err(request.has_no("digits-detect, voc:FOLDER, coco:FOLDER or yolo:FOLDER"))
    }

    /// Reads or makes the test images of [`detection`](Self::detection) alone, for a network that knows the classes `class_names`. A source
    /// whose files name classes without an order gives them this one.
    ///
    /// # Errors
    /// As there.
    fn detection_test(&self, request: &Request<'_>, _class_names: &[String]) -> Result<DetectionSet> {
        Ok(self.detection(request)?.test)
    }

    /// Returns height and width of each image to learn from before it is scaled, of a source that scales images. Of others there are
    /// none.
    ///
    /// # Errors
    /// A file is missing, or its header is broken.
    fn image_sizes(&self, _request: &Request<'_>) -> Result<Vec<[usize; 2]>> {
        Ok(Vec::new())
    }

    /// Returns notes for the user on what is done with these data before anything is learned from them.
    fn notes(&self, _request: &Request<'_>) -> Vec<String> {
        Vec::new()
    }

    /// Reads or makes data of another form, for a task of one's own that knows their type.
    ///
    /// # Errors
    /// A file is missing or broken; or the source has no such data.
    fn other(&self, request: &Request<'_>) -> Result<Box<dyn Any + Send + Sync>> {
        Err(request.has_no("data of another form"))
    }
}

/// A kind of sources that text can name. [`register_source`](crate::register_source) adds one of another crate.
#[derive(Debug, Clone, Copy)]
pub struct SourceKind {
    /// How its sources are written: a name, and behind a colon what follows it, a word in capital letters for any text or a word
    /// as it is; in brackets where it may be left out. `digits`, `folder:PATH`, `photos[:PATH]`, `photo-digits[:seen]`.
    pub form: &'static str,
    /// What they are, for lists.
    pub about: &'static str,
    /// Whether images may be scaled to a size, or placed on a canvas of it.
    pub scaled: bool,
    /// Whether a part of the data is drawn by the seed even where none is set apart for validation.
    pub drawn: bool,
    /// Whether they are tables, of which a column is the target.
    pub table: bool,
    /// Whether they are recordings of sound, which become sequences of features.
    pub recordings: bool,
    /// What reads them.
    pub reader: &'static dyn Reader,
}

impl SourceKind {
    /// Makes a row of data that are as they are: not scaled, and no part of them drawn.
    pub const fn new(form: &'static str, about: &'static str, reader: &'static dyn Reader) -> Self {
        Self { form, about, scaled: false, drawn: false, table: false, recordings: false, reader }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.form.split(['[', ':']).next().unwrap_or_default()
    }

    /// Whether this may stand behind the colon.
    pub(crate) fn takes(&self, argument: Option<&str>) -> bool {
        let rest = &self.form[self.name().len()..];
        let word = rest.trim_start_matches('[').trim_end_matches(']').trim_start_matches(':');
        let any = word.chars().all(|c| !c.is_lowercase());
        match argument {
            None => rest.is_empty() || rest.starts_with('['),
            Some(text) => !rest.is_empty() && !text.is_empty() && (any || text == word),
        }
    }
}

impl Source {
    /// Returns the name of its kind: `folder`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what stands behind the colon.
    pub fn argument(&self) -> Option<&str> {
        self.argument.as_deref()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.argument {
            Some(argument) => write!(f, "{}:{argument}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
