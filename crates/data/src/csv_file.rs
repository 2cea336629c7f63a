//! Tables in CSV files: a row per sample, a column per feature and one for the target.

use crate::csv_reader::{CsvReader, check_fields, no_rows};
use crate::source::{Reader, Request, SourceKind};
use crate::{
    DataDescription, Dataset, Labels, Numbers, Result, Split, Targets,
    dataset::TEST_SHARE,
    table::{Cell, ClassColumn, Columns, NumberColumn, TargetColumn},
};
use csv::StringRecord;
use fixnet_tensor::Budget;
use std::path::Path;

/// The row of the registry.
pub(crate) const KIND: SourceKind = SourceKind {
    drawn: true,
    table: true,
    ..SourceKind::new("csv:PATH", "a table with commas: columns of numbers, and the target of each row", &Csv)
};

#[derive(Debug)]
struct Csv;

impl Reader for Csv {
    fn labelled(&self, request: &Request<'_>) -> Result<Split> {
        parted(labels(request.path(), request.target)?, request)
    }

    fn labelled_test(&self, request: &Request<'_>, network: &DataDescription) -> Result<Dataset> {
        match request.whole {
            true => labels_for(request.path(), request.target, network),
            false => Ok(self.labelled(request)?.test),
        }
    }

    fn numbers(&self, request: &Request<'_>) -> Result<Split<Numbers>> {
        parted(numbers(request.path(), request.target)?, request)
    }
}

/// All rows as either part, or some of them set apart for testing.
fn parted<T: Targets>(all: Dataset<T>, request: &Request<'_>) -> Result<Split<T>> {
    match request.whole {
        true => Split::new(all.clone(), all),
        false => drawn(all, request.seed),
    }
}

/// Memory is claimed for so many rows at a time.
const CLAIMED: usize = 1024;

/// Reads a table whose target column holds classes, and draws a tenth of its rows for testing by `seed`, with the share of each
/// class kept. `target` is the name of the target column or its number, counted from 0; without it, it is the last one.
///
/// The first row holds the names of the columns, unless all of it are numbers. All features are numbers. Targets that are texts
/// are classes in the order of their names; whole numbers are classes in their order, if there are at most 100 different
/// ones with two rows of each on average.
///
/// # Errors
/// The file cannot be read or is no table; a row has more or fewer fields than the first; a feature is missing, a text or not
/// finite; targets are no classes. The message names line and column. Or the table takes more than 512 MiB as `f32`.
pub fn csv(path: &Path, target: Option<&str>, seed: u64) -> Result<Split> {
    drawn(labels(path, target)?, seed)
}

/// As [`csv()`], with a target column of numbers.
///
/// # Errors
/// As there; or a target is not a finite number.
pub fn csv_numbers(path: &Path, target: Option<&str>, seed: u64) -> Result<Split<Numbers>> {
    drawn(numbers(path, target)?, seed)
}

/// Sets rows apart for testing.
fn drawn<T: Targets>(all: Dataset<T>, seed: u64) -> Result<Split<T>> {
    let name = format!("{}, set apart for testing", all.name);
    let (train, test) = all.apart_by_group(TEST_SHARE, seed, &name)?;
    Split::new(train, test)
}

/// All rows with classes.
fn labels(path: &Path, target: Option<&str>) -> Result<Dataset> {
    read(path, target, ClassColumn::default())
}

/// All rows, for a network that knows its classes.
fn labels_for(path: &Path, target: Option<&str>, network: &DataDescription) -> Result<Dataset<Labels>> {
    let names = network.class_names().map(<[String]>::to_vec);
    let names = names.unwrap_or_else(|| crate::classes::numbers(network.classes));
    read(path, target, ClassColumn::known(names))
}

/// All rows with numbers.
fn numbers(path: &Path, target: Option<&str>) -> Result<Dataset<Numbers>> {
    read(path, target, NumberColumn::default())
}

fn read<C: TargetColumn>(path: &Path, target: Option<&str>, mut targets: C) -> Result<Dataset<C::Targets>> {
    let place = path.display().to_string();
    let (mut file, mut record) = (CsvReader::open(path)?, StringRecord::new());
    let mut line = file.next(&mut record)?;
    if line.is_none() {
        return Err(no_rows(&place));
    }
    let columns = Columns::of(&place, record.iter().map(|name| name.trim().to_string()).collect(), target)?;
    if columns.are_named() {
        line = file.next(&mut record)?;
    }
    let width = columns.len() - 1;
    let (mut budget, mut rows, mut values) = (Budget::TABLE, 0usize, Vec::new());
    while let Some(at) = line {
        check_fields(&place, at, &record, columns.len())?;
        if rows.is_multiple_of(CLAIMED) {
            budget.claim(&format!("{place}: rows from {rows} on"), &[CLAIMED, width], size_of::<f32>())?;
            budget.claim(&format!("{place}: targets from {rows} on"), &[CLAIMED], size_of::<f64>())?;
        }
        for (i, text) in record.iter().enumerate() {
            let cell = Cell { place: &place, line: at, column: columns.name(i), text: text.trim() };
            match i == columns.target() {
                true => targets.push(cell)?,
                false => values.push(cell.feature()?),
            }
        }
        rows += 1;
        line = file.next(&mut record)?;
    }
    if rows == 0 {
        return Err(no_rows(&place));
    }
    let targets = targets.finish(&place, &columns)?;
    let data = Dataset::of_floats(place, &[width], values, targets)?;
    match columns.features() {
        Some(names) => data.with_columns(names),
        None => Ok(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csv_reader::LONGEST_ROW;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        file
    }

    fn read_labels(text: &str, target: Option<&str>) -> std::result::Result<Dataset, String> {
        let file = file(text.as_bytes());
        labels(file.path(), target).map_err(|e| e.to_string().replace(&file.path().display().to_string(), "f"))
    }

    fn read_numbers(text: &str, target: Option<&str>) -> std::result::Result<Dataset<Numbers>, String> {
        let file = file(text.as_bytes());
        numbers(file.path(), target).map_err(|e| e.to_string().replace(&file.path().display().to_string(), "f"))
    }

    #[test]
    fn a_table_with_names_has_columns_classes_and_rows() {
        // A byte order mark, quotes, blanks and an empty line.
        let text = "\u{feff}size, kind ,\"a,ge\"\r\n1, dog,2.5\r\n\r\n-3e1,cat, 4 \r\n";
        let data = read_labels(text, Some("kind")).unwrap();
        assert_eq!((data.shape(), data.columns().unwrap()), (&[2][..], &["size", "a,ge"].map(String::from)[..]));
        assert_eq!((data.labels(), &data.class_names()[..]), (&[1, 0][..], &["cat", "dog"].map(String::from)[..]));
        assert_eq!((data.row(0).unwrap(), data.row(1).unwrap()), (&[1.0, 2.5][..], &[-30.0, 4.0][..]));
        assert_eq!(data.noun(), "rows");
        assert!(data.image(0).unwrap_err().to_string().ends_with("expected images of bytes, found floats"));
        let again = read_labels(text, Some("1")).unwrap();
        assert_eq!(again.fingerprint(), data.fingerprint());
        let other = read_labels(&text.replace("2.5", "2.25"), Some("1")).unwrap();
        assert_ne!(other.fingerprint(), data.fingerprint());
    }

    #[test]
    fn a_quotation_mark_that_is_not_closed_is_named() {
        for text in ["a,k\n1,x\n2,\"x\n3,y\n4,y\n", "a,k\n1,x\n2,\"x\n3,y\",z\n"] {
            let e = read_labels(text, None).unwrap_err();
            assert!(e.contains("line 3") && e.contains("quotation mark"), "{e}");
        }
    }

    #[test]
    fn a_table_without_names_begins_with_its_first_row() {
        let data = read_numbers("1,2,0.5\n3,4,-7\n", None).unwrap();
        assert_eq!((data.len(), data.columns(), data.targets().values()), (2, None, &[0.5, -7.0][..]));
        assert_eq!(read_numbers("1,2,0.5\n3,4,-7\n", Some("0")).unwrap().targets().values(), [1.0, 3.0]);
        assert_eq!(read_numbers("a,b\n3,4\n", None).unwrap().targets().column(), Some("b"));
    }

    #[test]
    fn what_does_not_fit_is_named_by_line_and_column() {
        for (text, words) in [
            ("", "f: expected at least one row of numbers, found none"),
            ("a,b\n", "f: expected at least one row of numbers, found none"),
            ("a,b\n1,2\n1,2,3\n", "f: line 3: expected 2 fields, as in the first row, found 3"),
            ("a,b\n1,2\n1\n", "f: line 3: expected 2 fields, as in the first row, found 1"),
            ("a,b\n1,2\nred,3\n", "f: line 3, column `a`: expected a number (write texts as numbers"),
            ("a,b\n1,2\n,3\n", "f: line 3, column `a`: expected a number (fill in missing values"),
            ("a,b\n1,2\n3,inf\n", "f: line 3, column `b`: expected a finite number"),
            ("1,2\n3,x\n", "f: line 2, column `1`: expected a number (regression predicts numbers"),
        ] {
            let e = read_numbers(text, None).unwrap_err();
            assert!(e.contains(words), "{e}");
        }
        let file = file(b"a,b\n1,2\n\xff,3\n");
        let e = numbers(file.path(), None).unwrap_err().to_string();
        assert!(e.ends_with("line 3: expected text in UTF-8, found other bytes"), "{e}");
        assert!(numbers(Path::new("no-such.csv"), None).unwrap_err().to_string().starts_with("no-such.csv: "));
    }

    #[test]
    fn no_row_takes_more_than_its_memory() {
        let mut text = b"a,b\n1,\"".to_vec();
        text.resize(LONGEST_ROW as usize + (1 << 17), b'1');
        let e = numbers(file(&text).path(), None).unwrap_err().to_string();
        assert!(e.contains("expected rows of at most 16777216 bytes"), "{e}");
    }

    #[test]
    fn a_tenth_is_for_testing_with_the_shares_of_the_classes() {
        let rows: String = (0..60).map(|i| format!("{i},{}\n", if i % 3 == 0 { "a" } else { "b" })).collect();
        let file = file(format!("x,y\n{rows}").as_bytes());
        let split = csv(file.path(), None, 4).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (54, 6));
        assert_eq!(split.test.labels().iter().filter(|&&l| l == 0).count(), 2);
        assert!(split.test.name.ends_with(", set apart for testing"));
        assert_eq!(csv(file.path(), None, 4).unwrap(), split);
        let drawn = |seed| csv_numbers(file.path(), Some("x"), seed).map_err(|e| e.to_string());
        assert!(drawn(4).unwrap_err().contains("column `y`: expected a number"));
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_tables_never_panic(damage in fuzz::damage(), classes: bool) {
            let file = file(&fuzz::damaged(b"a,b,\"c\"\n1,2.5,dog\n-3e7,4,\"c\"\"at\"\n".to_vec(), &damage));
            fuzz::within(fuzz::MOST, || match classes {
                true => drop(labels(file.path(), None)),
                false => drop(numbers(file.path(), Some("b"))),
            });
        }
    }
}
