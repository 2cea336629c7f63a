//! The columns of a table as it is read: which of them is the target, what a cell of a feature holds, and targets as classes or
//! as numbers. Where the cells come from does not matter here.

use crate::{DataError, Labels, Numbers, Result, Targets, listed::listed};
use std::collections::{BTreeMap, BTreeSet};

/// The most different whole numbers that stand for classes. More of them are taken for numbers, which regression predicts.
pub(crate) const MOST_WHOLE: usize = 100;
/// The most classes of texts.
const MOST_CLASSES: usize = 1 << 16;
/// The most bytes of all names of classes together.
const MOST_BYTES: usize = 1 << 20;
/// The most columns of a table.
const MOST_COLUMNS: usize = 1 << 16;
/// The longest part of a cell that a message shows, in letters.
const SHOWN: usize = 40;
/// What stands for a value that is not there, in small letters.
const MISSING: [&str; 6] = ["", "na", "n/a", "nan", "null", "none"];

/// A cell and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell<'a> {
    pub(crate) place: &'a str,
    /// The line of the file, counted from 1.
    pub(crate) line: u64,
    /// The name or the number of its column.
    pub(crate) column: &'a str,
    /// Without blanks around it.
    pub(crate) text: &'a str,
}

impl Cell<'_> {
    fn wrong<T>(&self, expected: impl Into<String>, found: impl Into<String>) -> Result<T> {
        let (place, column) = (self.place.into(), self.column.into());
        Err(DataError::Cell { place, line: self.line, column, expected: expected.into(), found: found.into() })
    }

    /// The text as a message shows it.
    fn shown(&self) -> String {
        let end = if self.text.chars().count() > SHOWN { "…" } else { "" };
        format!("`{}{end}`", self.text.chars().take(SHOWN).collect::<String>())
    }

    /// That there is a value.
    fn check_present(&self, expected: &str) -> Result<()> {
        if !MISSING.contains(&self.text.to_lowercase().as_str()) {
            return Ok(());
        }
        let advice = "fill in missing values, or leave out the row or the column, before";
        self.wrong(format!("{expected} ({advice})"), format!("a missing value ({})", self.shown()))
    }

    /// The number of the cell; `advice` says what to do about a text.
    fn number(&self, advice: &str) -> Result<f64> {
        self.check_present("a number")?;
        match self.text.parse::<f64>() {
            Ok(v) if v.abs() <= f64::from(f32::MAX) => Ok(v),
            Ok(_) => self.wrong("a finite number in the range of f32", self.shown()),
            Err(_) => self.wrong(format!("a number ({advice})"), self.shown()),
        }
    }

    /// The number of a feature.
    pub(crate) fn feature(&self) -> Result<f32> {
        let advice =
            "write texts as numbers, such as a column of 0 and 1 for each text, or leave out the column, before";
        Ok(self.number(advice)? as f32)
    }
}

/// Whether a row holds numbers alone, as no row of names does.
pub(crate) fn is_numbers<'a>(mut row: impl Iterator<Item = &'a str>) -> bool {
    row.all(|cell| cell.trim().parse::<f64>().is_ok())
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    /// What all columns are called: by their numbers, where the table has no names.
    all: Vec<String>,
    named: bool,
    /// Which of them is the target.
    target: usize,
}

impl Columns {
    /// The columns of a table whose first row this is: a row of names, or already of numbers. `target` is the name or the number
    /// of a column; without one the last column is the target.
    pub(crate) fn of(place: &str, first: Vec<String>, target: Option<&str>) -> Result<Self> {
        let wrong =
            |expected: String, found: String| Err(DataError::Unexpected { place: place.into(), expected, found });
        if let [only] = &first[..] {
            let expected = "at least two columns, a feature and the target, with commas between them";
            return wrong(expected.into(), format!("one (`{}`)", only.chars().take(SHOWN).collect::<String>()));
        }
        if first.len() > MOST_COLUMNS {
            return wrong(format!("at most {MOST_COLUMNS} columns"), first.len().to_string());
        }
        let named = !is_numbers(first.iter().map(String::as_str));
        let all = if named { first } else { (0..first.len()).map(|i| i.to_string()).collect() };
        let target = match target {
            None => all.len() - 1,
            Some(text) => {
                let by_name = all.iter().position(|name| named && name == text);
                let by_number = || text.parse().ok().filter(|&i: &usize| i < all.len());
                match by_name.or_else(by_number) {
                    Some(target) => target,
                    None if named => {
                        let expected = format!("a target column `{text}` (or its number, counted from 0)");
                        return wrong(expected, format!("{} columns: {}", all.len(), listed(&all)));
                    }
                    None => {
                        let expected =
                            format!("a target column from 0 to {}, since columns have no names", all.len() - 1);
                        return wrong(expected, format!("`{text}`"));
                    }
                }
            }
        };
        let columns = Self { all, named, target };
        columns.check_names(place)?;
        Ok(columns)
    }

    /// Checks a row of names: each has one of its own, and they are no row of data.
    fn check_names(&self, place: &str) -> Result<()> {
        if !self.named {
            return Ok(());
        }
        let wrong = |expected: &str, found: String| {
            let place = format!("{place}: line 1");
            Err(DataError::Unexpected { place, expected: expected.into(), found })
        };
        let mut seen = BTreeMap::new();
        for (i, name) in self.all.iter().enumerate() {
            if name.is_empty() {
                let expected = "a name for every column (pandas leaves out that of its index: write index=False)";
                return wrong(expected, format!("none for column {i}"));
            }
            if let Some(before) = seen.insert(name, i) {
                return wrong("names of columns that differ", format!("`{name}` for columns {before} and {i}"));
            }
        }
        // Columns may be called 0, 1, 2, …; other numbers are a row of data before a target that is a text.
        let features = || self.all.iter().enumerate().filter(|(i, _)| *i != self.target);
        let counted = |from: usize| features().enumerate().all(|(k, (_, name))| *name == (k + from).to_string());
        match is_numbers(features().map(|(_, name)| name.as_str())) && !counted(0) && !counted(1) {
            true => wrong("names of columns (add a line of them)", format!("numbers: {}", listed(&self.all))),
            false => Ok(()),
        }
    }

    /// Whether the first row holds names, so that it is no row of data.
    pub(crate) fn are_named(&self) -> bool {
        self.named
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What column `index` is called.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.all[index]
    }

    /// Which is the target.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// The names of the features, if columns have names.
    pub(crate) fn features(&self) -> Option<Vec<String>> {
        let features = self.all.iter().enumerate().filter(|(i, _)| *i != self.target);
        self.named.then(|| features.map(|(_, name)| name.clone()).collect())
    }

    /// The name of the target, if columns have names.
    pub(crate) fn target_name(&self) -> Option<&str> {
        self.named.then(|| self.name(self.target))
    }
}

/// The target column of a table while it is read.
pub(crate) trait TargetColumn {
    type Targets: Targets;

    /// Takes the next cell.
    fn push(&mut self, cell: Cell<'_>) -> Result<()>;

    /// Makes targets of all cells.
    fn finish(self, place: &str, columns: &Columns) -> Result<Self::Targets>;
}

/// Targets that are numbers.
#[derive(Debug, Default)]
pub(crate) struct NumberColumn(Vec<f64>);

impl TargetColumn for NumberColumn {
    type Targets = Numbers;

    fn push(&mut self, cell: Cell<'_>) -> Result<()> {
        self.0.push(cell.number("regression predicts numbers; for texts take the task classification")?);
        Ok(())
    }

    fn finish(self, place: &str, columns: &Columns) -> Result<Numbers> {
        Numbers::new(place, columns.target_name(), self.0)
    }
}

/// Targets that are classes: texts in the order of their names, or whole numbers in their order, of which there are at most
/// [`MOST_WHOLE`] different ones, and at most half as many as rows.
#[derive(Debug, Default)]
pub(crate) struct ClassColumn {
    /// The names of the classes, where a network knows them already.
    known: Option<Vec<String>>,
    /// The classes that were found, by their names, in the order in which they came.
    found: BTreeMap<String, usize>,
    /// Bytes of these names.
    bytes: usize,
    /// Which of them each row has.
    rows: Vec<u32>,
}

impl ClassColumn {
    /// The targets of a table for a network that knows these classes.
    pub(crate) fn known(names: Vec<String>) -> Self {
        let found = names.iter().enumerate().map(|(class, name)| (name.clone(), class)).collect();
        Self { known: Some(names), found, ..Self::default() }
    }

    fn too_many<T>(&self, cell: Cell<'_>) -> Result<T> {
        cell.wrong(classes_expected(), format!("more than {} different values", self.found.len()))
    }
}

/// What a column of classes holds.
fn classes_expected() -> String {
    format!(
        "classes: texts, or at most {MOST_WHOLE} different whole numbers with two rows of each on average (the task regression \
         predicts numbers)"
    )
}

/// The whole number of a text, where it is one that `f64` holds exactly.
fn whole(text: &str) -> Option<i64> {
    let v: f64 = text.parse().ok()?;
    (v.fract() == 0.0 && v.abs() < 9e15).then_some(v as i64)
}

impl TargetColumn for ClassColumn {
    type Targets = Labels;

    fn push(&mut self, cell: Cell<'_>) -> Result<()> {
        cell.check_present("a class")?;
        // 1 and 1.0 are one class.
        let name = whole(cell.text).map_or_else(|| cell.text.to_string(), |v| v.to_string());
        let class = match (self.found.get(&name), &self.known) {
            (Some(&class), _) => class,
            (None, Some(names)) => {
                return cell.wrong(format!("a class of the network: {}", listed(names)), cell.shown());
            }
            (None, None) => {
                self.bytes += name.len();
                if self.found.len() == MOST_CLASSES || self.bytes > MOST_BYTES {
                    return self.too_many(cell);
                }
                let class = self.found.len();
                self.found.insert(name, class);
                class
            }
        };
        self.rows.push(class as u32);
        Ok(())
    }

    fn finish(self, place: &str, columns: &Columns) -> Result<Labels> {
        let names = match self.known {
            Some(names) => names,
            None => {
                let mut names: Vec<String> = self.found.keys().cloned().collect();
                if is_numbers(names.iter().map(String::as_str)) {
                    let wholes: BTreeSet<i64> = names.iter().filter_map(|name| whole(name)).collect();
                    if wholes.len() < names.len() || wholes.len() > MOST_WHOLE.min(self.rows.len() / 2) {
                        let odd = names.iter().find(|name| whole(name).is_none());
                        let found = match odd {
                            Some(odd) => format!("numbers such as {odd}"),
                            None => format!("{} different numbers in {} rows", names.len(), self.rows.len()),
                        };
                        let place = format!("{place}: column `{}`", columns.name(columns.target()));
                        return Err(DataError::Unexpected { place, expected: classes_expected(), found });
                    }
                    names = wholes.into_iter().map(|v| v.to_string()).collect();
                }
                names
            }
        };
        let mut class_of = vec![0; self.found.len()];
        for (class, name) in names.iter().enumerate() {
            class_of[self.found[name]] = class as u16;
        }
        let labels = self.rows.iter().map(|&row| class_of[row as usize]).collect();
        Labels::new(place, names.len(), labels)?.with_names(place, names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str) -> Cell<'_> {
        Cell { place: "t", line: 3, column: "age", text }
    }

    fn classes(texts: &[&str]) -> Result<Labels> {
        let columns = Columns::of("t", vec!["x".into(), "age".into()], None).unwrap();
        let mut column = ClassColumn::default();
        texts.iter().try_for_each(|text| column.push(cell(text)))?;
        column.finish("t", &columns)
    }

    #[test]
    fn what_a_cell_cannot_be_is_named_with_what_to_do() {
        let text = |text: &str| cell(text).feature().unwrap_err().to_string();
        for missing in ["", "NA", "NaN", "n/a", "None"] {
            assert_eq!(
                text(missing),
                format!(
                    "t: line 3, column `age`: expected a number (fill in missing values, or leave out the row or the \
                     column, before), found a missing value (`{missing}`)"
                )
            );
        }
        for odd in ["inf", "-Infinity", "1e39", "1e999"] {
            assert!(text(odd).contains("expected a finite number in the range of f32, found `"), "{}", text(odd));
        }
        assert!(text("red").contains("write texts as numbers") && text("red").ends_with("found `red`"));
        assert!(text(&"x".repeat(99)).ends_with("x…`"));
        assert_eq!(cell("-1.5e2").feature().unwrap(), -150.0);
        let e = NumberColumn::default().push(cell("red")).unwrap_err().to_string();
        assert!(e.contains("for texts take the task classification"), "{e}");
    }

    #[test]
    fn texts_and_few_whole_numbers_are_classes() {
        let labels = classes(&["dog", "cat", "dog"]).unwrap();
        assert_eq!((labels.values(), &labels.names()[..]), (&[1, 0, 1][..], &["cat", "dog"].map(String::from)[..]));
        // In the order of numbers, not of texts; 10 and 10.0 are one.
        let labels = classes(&["10", "9", "10.0", "-1", "-1", "9"]).unwrap();
        let names = ["-1", "9", "10"].map(String::from);
        assert_eq!((labels.values(), &labels.names()[..]), (&[2, 1, 2, 0, 0, 1][..], &names[..]));
        let many: Vec<String> = (0..=MOST_WHOLE).flat_map(|v| [v.to_string(), v.to_string()]).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(classes(&many[2..]).unwrap().classes(), MOST_WHOLE);
        let e = classes(&many).unwrap_err().to_string();
        assert_eq!(
            e,
            "t: column `age`: expected classes: texts, or at most 100 different whole numbers with two rows of each on average \
             (the task regression predicts numbers), found 101 different numbers in 202 rows"
        );
        assert!(classes(&["1", "2", "3"]).unwrap_err().to_string().ends_with("found 3 different numbers in 3 rows"));
        assert!(classes(&["1", "2.5"]).unwrap_err().to_string().ends_with("found numbers such as 2.5"));
        assert!(classes(&["a", "?", ""]).unwrap_err().to_string().contains("expected a class (fill in"));
    }

    #[test]
    fn known_classes_keep_their_numbers() {
        let columns = Columns::of("t", vec!["x".into(), "age".into()], None).unwrap();
        let mut column = ClassColumn::known(["a", "b", "7"].map(String::from).to_vec());
        ["7.0", "b"].iter().for_each(|text| column.push(cell(text)).unwrap());
        let e = column.push(cell("c")).unwrap_err().to_string();
        assert_eq!(e, "t: line 3, column `age`: expected a class of the network: a, b, 7, found `c`");
        assert_eq!(column.finish("t", &columns).unwrap().values(), [2, 1]);
    }

    #[test]
    fn the_target_is_a_name_or_a_number_and_names_are_checked() {
        let of = |names: &str, target| Columns::of("t", names.split(',').map(String::from).collect(), target);
        let target = |names: &str, target| of(names, target).unwrap().target();
        assert_eq!([target("a,b,c", None), target("a,b,c", Some("b")), target("a,b,c", Some("0"))], [2, 1, 0]);
        assert_eq!(target("1,0,y", Some("0")), 1);
        assert_eq!(of("1.5,2,3", Some("1")).unwrap().features(), None);
        assert_eq!(of("a,b,c", Some("b")).unwrap().features().unwrap(), ["a", "c"]);
        assert!(of("0,1,2,y", None).unwrap().are_named() && of("1,2,y", None).unwrap().are_named());
        for (names, target, words) in [
            (
                "a,b",
                Some("c"),
                "t: expected a target column `c` (or its number, counted from 0), found 2 columns: a, b",
            ),
            ("1,2", Some("y"), "a target column from 0 to 1, since columns have no names, found `y`"),
            ("a;b", None, "with commas between them, found one (`a;b`)"),
            ("a,b,a", None, "t: line 1: expected names of columns that differ, found `a` for columns 0 and 2"),
            (",a,b", None, "write index=False), found none for column 0"),
            ("5.1,3.5,setosa", None, "names of columns (add a line of them), found numbers: 5.1, 3.5, setosa"),
        ] {
            let e = of(names, target).unwrap_err().to_string();
            assert!(e.contains(words), "{e}");
        }
    }
}
