//! The rows of a CSV file, one after the other, in bounded memory.

use crate::{DataError, Result};
use csv::{Reader, ReaderBuilder, StringRecord};
use fixnet_files::input_file;
use std::{
    cell::Cell,
    fs::File,
    io::{self, Read},
    path::Path,
    rc::Rc,
};

/// The longest row of a file.
pub(crate) const LONGEST_ROW: u64 = 16 << 20;

/// A file that is read row by row. A row that does not end is an error, so that none takes more memory than a row may.
struct Bounded {
    file: File,
    /// Bytes that were read since the beginning of the row.
    since: Rc<Cell<u64>>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(out)?;
        self.since.set(self.since.get() + count as u64);
        match self.since.get() > LONGEST_ROW {
            true => Err(io::Error::other(format!("expected rows of at most {LONGEST_ROW} bytes, found a longer one"))),
            false => Ok(count),
        }
    }
}

/// A CSV file that is read row by row.
pub(crate) struct CsvReader {
    place: String,
    reader: Reader<Bounded>,
    since: Rc<Cell<u64>>,
}

impl CsvReader {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let place = path.display().to_string();
        let since = Rc::new(Cell::new(0));
        let file = input_file::open(path).map_err(|source| DataError::Io { place: place.clone(), source })?;
        let file = Bounded { file, since: since.clone() };
        let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
        Ok(Self { place, reader, since })
    }

    /// Reads the next row, and returns its line, counted from 1; `None` at the end of the file.
    pub(crate) fn next(&mut self, record: &mut StringRecord) -> Result<Option<u64>> {
        let found = self.reader.read_record(record).map_err(|e| unreadable(&self.place, e))?;
        self.since.set(0);
        let line = record.position().map_or(0, csv::Position::line);
        // No table of numbers and classes has such cells; a quotation mark that is not closed makes one of all that follows.
        if found && record.iter().any(|field| field.contains(['\n', '\r'])) {
            return Err(DataError::Unexpected {
                place: format!("{}: line {line}", self.place),
                expected: "fields of one line".into(),
                found: "one of several, as after a quotation mark that is not closed".into(),
            });
        }
        Ok(found.then_some(line))
    }
}

/// The error of a file without rows.
pub(crate) fn no_rows(place: &str) -> DataError {
    let (expected, found) = ("at least one row of numbers".into(), "none".into());
    DataError::Unexpected { place: place.into(), expected, found }
}

/// Checks that a row has as many fields as the first one.
pub(crate) fn check_fields(place: &str, line: u64, record: &StringRecord, count: usize) -> Result<()> {
    match record.len() == count {
        true => Ok(()),
        false => Err(DataError::Unexpected {
            place: format!("{place}: line {line}"),
            expected: format!("{count} fields, as in the first row"),
            found: record.len().to_string(),
        }),
    }
}

/// The error of a file that is no CSV.
fn unreadable(place: &str, e: csv::Error) -> DataError {
    let line = e.position().map_or(String::new(), |at| format!(": line {}", at.line()));
    match e.into_kind() {
        csv::ErrorKind::Io(source) => DataError::Io { place: place.into(), source },
        csv::ErrorKind::Utf8 { .. } => DataError::Unexpected {
            place: format!("{place}{line}"),
            expected: "text in UTF-8".into(),
            found: "other bytes".into(),
        },
        other => DataError::Unexpected {
            place: format!("{place}{line}"),
            expected: "rows of fields with commas between them".into(),
            found: format!("{other:?}"),
        },
    }
}
