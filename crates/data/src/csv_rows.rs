//! Rows of a CSV file that a network is asked about: which column is which feature, and the rows as texts until they are asked
//! for, so that a broken one is an error of its own.

use crate::csv_reader::{CsvReader, check_fields, no_rows};
use crate::listed::listed;
use crate::table::{Cell, is_numbers};
use crate::{DataError, Result, SampleForm};
use csv::StringRecord;
use fixnet_tensor::Budget;
use std::path::Path;

/// Memory is claimed for so many bytes of text at a time.
const CLAIMED: usize = 1 << 20;
/// The bytes of a row beside its text and the ends of its fields.
const ROW: usize = 96;

/// The rows of a file.
#[derive(Debug)]
pub(crate) struct CsvRows {
    place: String,
    rows: Vec<(u64, StringRecord)>,
    /// What each column is called: by its number, where it has no name.
    names: Vec<String>,
    /// The column of each feature.
    features: Vec<usize>,
    /// The column that is left out, where there is one.
    pub(crate) ignored: Option<String>,
}

impl CsvRows {
    /// Reads a file for a network that takes such rows.
    ///
    /// # Errors
    /// The file is no table; it takes more than [`Budget::TABLE`]; or its columns are not those of the network, beside its target.
    pub(crate) fn read(path: &Path, form: &SampleForm) -> Result<Self> {
        let place = path.display().to_string();
        form.width(&place)?;
        let (mut file, mut record) = (CsvReader::open(path)?, StringRecord::new());
        let mut line = file.next(&mut record)?;
        let named = line.is_some() && !is_numbers(record.iter());
        let names = match named {
            true => record.iter().map(|name| name.trim().to_string()).collect(),
            false => (0..record.len()).map(|i| i.to_string()).collect::<Vec<_>>(),
        };
        if named {
            line = file.next(&mut record)?;
        }
        if line.is_none() {
            return Err(no_rows(&place));
        }
        let (features, ignored) = features(&place, &names, named, form)?;
        let (mut budget, mut pending, mut rows) = (Budget::TABLE, 0, Vec::new());
        while let Some(at) = line {
            pending += ROW + record.as_slice().len() + record.len() * size_of::<usize>();
            if pending >= CLAIMED {
                budget.claim(&format!("{place}: rows up to {}", rows.len()), &[pending], 1)?;
                pending = 0;
            }
            rows.push((at, record.clone()));
            line = file.next(&mut record)?;
        }
        let ignored = ignored.map(|i| names[i].clone());
        Ok(Self { place, rows, names, features, ignored })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The line of a row in its file.
    pub(crate) fn line(&self, index: usize) -> u64 {
        self.rows[index].0
    }

    /// The features of a row, in the order of the network.
    ///
    /// # Errors
    /// It has more or fewer fields than the first; or a feature is missing, a text or not finite.
    pub(crate) fn row(&self, index: usize) -> Result<Vec<f32>> {
        let (line, record) = &self.rows[index];
        check_fields(&self.place, *line, record, self.names.len())?;
        let feature = |&column: &usize| {
            let text = record.get(column).unwrap_or_default().trim();
            Cell { place: &self.place, line: *line, column: &self.names[column], text }.feature()
        };
        self.features.iter().map(feature).collect()
    }
}

/// The column of each feature, and the one that is left out.
fn features(place: &str, names: &[String], named: bool, form: &SampleForm) -> Result<(Vec<usize>, Option<usize>)> {
    let width = form.width(place)?;
    let target = target(names, named, form.target.as_deref());
    if let (Some(wanted), true) = (&form.columns, named) {
        return by_name(place, names, wanted, target);
    }
    match target {
        _ if names.len() == width => Ok(((0..width).collect(), None)),
        Some(target) if names.len() == width + 1 => {
            Ok(((0..names.len()).filter(|&i| i != target).collect(), Some(target)))
        }
        _ => {
            let expected = format!("{width} columns, as the network was trained on, or the target besides");
            Err(DataError::setting(place, &expected, format!("{} columns: {}", names.len(), listed(names))))
        }
    }
}

/// The column that would be the target: the last one where nothing else is known, as in training.
fn target(names: &[String], named: bool, target: Option<&str>) -> Option<usize> {
    let Some(text) = target else { return names.len().checked_sub(1) };
    let by_name = names.iter().position(|name| named && name == text);
    by_name.or_else(|| text.parse().ok().filter(|&i: &usize| i < names.len()))
}

/// As [`features`], where both sides have names.
fn by_name(
    place: &str,
    names: &[String],
    wanted: &[String],
    target: Option<usize>,
) -> Result<(Vec<usize>, Option<usize>)> {
    let wrong = |expected: &str, found: String| Err(DataError::setting(place, expected, found));
    let at = |name: &String| names.iter().position(|own| own == name);
    if let Some(twice) = names.iter().enumerate().find(|(i, name)| at(name) != Some(*i)).map(|(_, name)| name) {
        return wrong("names of columns that differ", format!("`{twice}` twice"));
    }
    let missing: Vec<String> =
        wanted.iter().filter(|name| at(name).is_none()).map(|name| format!("`{name}`")).collect();
    if !missing.is_empty() {
        let expected = format!("the columns of the network: {}", listed(wanted));
        return wrong(&expected, format!("a table without {}", listed(&missing)));
    }
    let others: Vec<usize> = (0..names.len()).filter(|&i| !wanted.contains(&names[i])).collect();
    let features = wanted.iter().filter_map(at).collect();
    match others[..] {
        [] => Ok((features, None)),
        [only] if target == Some(only) => Ok((features, Some(only))),
        _ => {
            let others: Vec<String> = others.iter().map(|&i| format!("`{}`", names[i])).collect();
            let expected = "the columns of the network and no others but its target (leave them out)";
            wrong(expected, format!("also {}", listed(&others)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    fn form(columns: &[&str], width: usize, target: Option<&str>) -> SampleForm {
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let columns = (!columns.is_empty()).then_some(&columns[..]);
        SampleForm::of_shape(vec![width]).with_columns(columns).with_target(target)
    }

    fn read(text: &[u8], form: &SampleForm) -> std::result::Result<CsvRows, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let place = file.path().display().to_string();
        CsvRows::read(file.path(), form).map_err(|e| e.to_string().replace(&place, "f"))
    }

    #[test]
    fn columns_are_found_by_name_and_without_names_by_their_number() {
        let network = form(&["a", "b"], 2, Some("kind"));
        for (text, ignored) in
            [("b,a\n2,1\n4,3\n", None), ("kind,b,a\nx,2,1\n,4,3\n", Some("kind")), ("1,2\n3,4\n", None)]
        {
            let rows = read(text.as_bytes(), &network).unwrap();
            assert_eq!((rows.row(0).unwrap(), rows.row(1).unwrap()), (vec![1.0, 2.0], vec![3.0, 4.0]), "{text}");
            assert_eq!(rows.ignored.as_deref(), ignored, "{text}");
        }
        let unnamed = form(&[], 2, Some("0"));
        let rows = read(b"9,1,2\n", &unnamed).unwrap();
        assert_eq!((rows.row(0).unwrap(), rows.ignored.as_deref(), rows.line(0)), (vec![1.0, 2.0], Some("0"), 1));
        // Without a name the target is the last column, as in training.
        let rows = read(b"a,b,y\n1,2,9\n", &form(&["a", "b"], 2, None)).unwrap();
        assert_eq!((rows.ignored.as_deref(), rows.line(0)), (Some("y"), 2));
        assert_eq!(read(b"x\n1\n", &form(&[], 1, None)).unwrap().row(0).unwrap(), [1.0]);
    }

    #[test]
    fn other_columns_are_refused_and_broken_rows_are_errors_of_their_own() {
        let network = form(&["a", "b"], 2, Some("kind"));
        for (text, words) in [
            ("a,c\n1,2\n", "f: expected the columns of the network: a, b, found a table without `b`"),
            ("a,b,c\n1,2,3\n", "found also `c`"),
            ("a,b,kind,c\n1,2,3,4\n", "found also `kind`, `c`"),
            ("a,b,a\n1,2,3\n", "found `a` twice"),
            ("1,2,3\n", "f: expected 2 columns, as the network was trained on"),
            ("", "f: expected at least one row of numbers"),
            ("a,b\n", "f: expected at least one row of numbers"),
        ] {
            let e = read(text.as_bytes(), &network).unwrap_err();
            assert!(e.contains(words), "{e}");
        }
        let rows = read(b"a,b\n1,2\n1\nx,1\n3,4\n", &network).unwrap();
        let found: Vec<bool> = (0..rows.len()).map(|i| rows.row(i).is_ok()).collect();
        assert_eq!(found, [true, false, false, true]);
        assert!(rows.row(2).unwrap_err().to_string().contains("line 4, column `a`: expected a number"));
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_rows_never_panic(damage in fuzz::damage(), named: bool) {
            let file = fuzz::damaged(b"a,b,\"c\"\n1,2.5,dog\n-3e7,4,\"c\"\"at\"\n".to_vec(), &damage);
            let network = if named { form(&["a", "b"], 2, Some("c")) } else { form(&[], 2, None) };
            fuzz::within(fuzz::MOST, || if let Ok(rows) = read(&file, &network) {
                (0..rows.len()).for_each(|i| drop(rows.row(i)));
            });
        }
    }
}
