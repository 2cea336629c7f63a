//! What a task shows in a report, in forms that any report can draw.

/// A part of a report.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub title: String,
    /// What it shows, in order.
    pub elements: Vec<Element>,
}

/// A thing that a report shows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Element {
    /// A matrix of counts.
    Matrix(Matrix),
    /// A table.
    Table(Table),
    /// Images with captions.
    Pictures(Pictures),
    /// Points in a chart.
    Scatter(Scatter),
    /// Lines in a chart.
    Curves(Curves),
}

/// Counts of pairs of names, drawn as a coloured square.
#[derive(Debug, Clone)]
pub struct Matrix {
    /// Its heading.
    pub title: String,
    /// A sentence about it.
    pub about: String,
    /// The names of rows and columns.
    pub names: Vec<String>,
    /// The counts, row by row.
    pub counts: Vec<u64>,
}

/// Cells in rows.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its heading; long tables are folded away behind it.
    pub title: String,
    /// The headings of the columns, and whether they hold numbers.
    pub columns: Vec<(String, bool)>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// Images with captions.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// The heading.
    pub title: String,
    /// The images.
    pub pictures: Vec<Picture>,
    /// What is said where there are none.
    pub none: String,
    /// A sentence below them; may be empty.
    pub note: String,
    /// Whether they are shown large, four side by side, to be compared; else as small as icons.
    pub large: bool,
}

/// An image with its caption.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Bytes in H, W, C order.
    pub pixels: Vec<u8>,
    /// Height, width and channels, of which there are 1 or 3.
    pub shape: [usize; 3],
    /// The caption, in a few words.
    pub caption: String,
    /// What stands behind it.
    pub detail: String,
    /// The whole sentence, for who cannot see the image.
    pub spoken: String,
}

/// Points in a chart.
#[derive(Debug, Clone)]
pub struct Scatter {
    /// The heading.
    pub title: String,
    /// A sentence about it; says what goes up.
    pub about: String,
    /// What is to the right.
    pub x: &'static str,
    /// The points, right and up.
    pub points: Vec<(f64, f64)>,
    /// The line on which points would lie best, by its ends.
    pub line: [(f64, f64); 2],
}

/// Lines in a chart of shares: both axes go from 0 to 1.
#[derive(Debug, Clone)]
pub struct Curves {
    /// The heading.
    pub title: String,
    /// A sentence about it; says what goes up.
    pub about: String,
    /// What is to the right.
    pub x: &'static str,
    /// The lines, each with its name in the legend and its points, right and up.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}
