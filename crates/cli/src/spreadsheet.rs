//! CSV files, as spreadsheets open them. Names of recipes, data and classes may come from others, so a text that a spreadsheet
//! would compute as a formula gets a `'` before it, by which it is shown as it is, and characters that command a terminal are
//! escaped, since such files are also looked at there.

use crate::out::escaped;
use anyhow::Result;

/// A CSV file in memory.
pub(crate) struct Sheet(csv::Writer<Vec<u8>>);

impl Sheet {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(csv::Writer::from_writer(Vec::new()))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// It has more or fewer cells than the first one.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> Result<()> {
        Ok(self.0.write_record(cells.into_iter().map(|cell| inert(escaped(&cell.into()).into_owned())))?)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// None in memory.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// A cell that no spreadsheet computes. Numbers stay, and so does `-`, which stands for a key without influence.
fn inert(cell: String) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && cell != "-";
    if formula && cell.parse::<f64>().is_err() { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_texts() {
        let mut sheet = Sheet::new();
        sheet.row(["name", "=1+2", "+cmd|' /C calc'!A1", "-2+3", "@SUM(A1)", "\t=1"]).unwrap();
        sheet.row(["a=b", "-", "-0.5", "+1e9", "1", "-inf"]).unwrap();
        let text = String::from_utf8(sheet.into_bytes().unwrap()).unwrap();
        let mut sheet = Sheet::new();
        sheet.row(["a\u{1b}[2J", "\r=1", "x\u{9b}\ny"]).unwrap();
        let odd = String::from_utf8(sheet.into_bytes().unwrap()).unwrap();
        assert_eq!(odd, "a\\u001b[2J,\\u000d=1,\"x\\u009b\ny\"\n");
        assert_eq!(text, "name,'=1+2,'+cmd|' /C calc'!A1,'-2+3,'@SUM(A1),'\t=1\na=b,-,-0.5,+1e9,1,-inf\n");
    }
}
