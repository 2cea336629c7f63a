//! Answers as they are printed: lines for people, one JSON object per line, or a CSV table. Problems go to standard error; JSON and
//! CSV have them too, so that there is one line per input.

use crate::out::{self, name as plain, note, say, text};
use crate::spreadsheet::Sheet;
use anyhow::Result;
use fixnet::data::Detection;
use fixnet::train::task::Unit;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// The most probable classes that people see where they do not say how many.
const SHOWN: usize = 3;
/// The same in JSON.
const SHOWN_IN_JSON: usize = 100;
/// The most objects that people see where they do not say how many.
const OBJECTS: usize = 20;
/// The widest column of names of inputs, and of classes.
const WIDEST: usize = 60;

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Json,
    Csv,
}

/// An answer that can be printed.
pub(super) enum Said {
    Classes(Vec<(String, f64)>),
    Numbers(Vec<(String, f64)>),
    Objects(Vec<(String, Detection)>),
    Enlarged { file: PathBuf, height: usize, width: usize },
}

/// The printer of answers.
pub(super) struct Printed {
    form: Form,
    top: usize,
    /// The most objects of an image.
    objects: usize,
    /// The width of the names of inputs, and of classes.
    widths: [usize; 2],
    rows: Vec<Row>,
}

/// A row of the CSV table.
struct Row {
    input: String,
    /// Cells with the names of their columns.
    cells: Vec<(String, String)>,
    problem: String,
}

/// The width of a column of texts.
fn width<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> usize {
    texts.map(|text| plain(text.as_ref()).chars().count()).max().unwrap_or(0).min(WIDEST)
}

impl Printed {
    /// A printer for inputs of these names, and classes of these names where they are known.
    pub(super) fn new(
        form: Form,
        top: Option<u32>,
        inputs: impl Iterator<Item = String>,
        classes: Option<&[String]>,
    ) -> Self {
        let most = if form == Form::Json { SHOWN_IN_JSON } else { SHOWN };
        let objects = top.map_or(if form == Form::Lines { OBJECTS } else { usize::MAX }, |top| top as usize);
        let top = top.map_or(most, |top| top as usize);
        let widths = [width(inputs), width(classes.unwrap_or_default().iter())];
        Self { form, top, objects, widths, rows: Vec::new() }
    }

    /// Prints an answer, or keeps it for the table.
    pub(super) fn answer(&mut self, input: String, mut said: Said) -> Result<()> {
        let found = if let Said::Objects(objects) = &said { objects.len() } else { 0 };
        match &mut said {
            Said::Classes(classes) => classes.truncate(self.top),
            Said::Objects(objects) => objects.truncate(self.objects),
            _ => {}
        }
        let left_out = match &said {
            Said::Objects(objects) => found.saturating_sub(objects.len()),
            _ => 0,
        };
        match self.form {
            Form::Lines => {
                let [inputs, classes] = self.widths;
                let more = if left_out > 0 { format!("  and {left_out} more") } else { String::new() };
                say!("{:<inputs$}  {}{more}", plain(&input), line(&said, classes));
            }
            Form::Json => say!("{}", object(&input, &said)),
            Form::Csv => self.rows.push(Row { input, cells: cells(said), problem: String::new() }),
        }
        Ok(())
    }

    /// Reports an input without an answer. `problem` names it.
    pub(super) fn problem(&mut self, input: String, problem: String) -> Result<()> {
        note!("error: {problem}");
        match self.form {
            Form::Lines => {}
            Form::Json => say!("{}", json!({ "input": input, "error": problem })),
            Form::Csv => self.rows.push(Row { input, cells: Vec::new(), problem }),
        }
        Ok(())
    }

    /// Prints the table.
    pub(super) fn finish(self) -> Result<()> {
        if self.form != Form::Csv {
            return Ok(());
        }
        let widest = self.rows.iter().map(|row| &row.cells).max_by_key(|cells| cells.len());
        let columns: Vec<String> = widest.into_iter().flatten().map(|(column, _)| column.clone()).collect();
        let count = columns.len();
        let mut sheet = Sheet::new();
        sheet.row(["input".into()].into_iter().chain(columns).chain(["error".into()]))?;
        for Row { input, cells, problem } in self.rows {
            let mut cells: Vec<String> = cells.into_iter().map(|(_, cell)| cell).collect();
            cells.resize(count, String::new());
            sheet.row([input].into_iter().chain(cells).chain([problem]))?;
        }
        Ok(out::write(&sheet.into_bytes()?)?)
    }
}

/// An answer for people; `classes` is the width of a class.
fn line(said: &Said, classes: usize) -> String {
    let parts: Vec<String> = match said {
        Said::Classes(all) => {
            all.iter().map(|(name, p)| format!("{:<classes$} {:>8}", plain(name), Unit::Share.text(*p))).collect()
        }
        Said::Numbers(all) => {
            all.iter().map(|(name, value)| format!("{} {:>10}", plain(name), Unit::Quantity.text(*value))).collect()
        }
        Said::Objects(all) if all.is_empty() => vec!["nothing found".into()],
        Said::Objects(all) => {
            let object = |(name, found): &(String, Detection)| {
                let [x1, y1, x2, y2] = found.bbox.to_array();
                let share = Unit::Share.text(f64::from(found.score));
                format!("{:<classes$} {share:>8} at {x1:.1} {y1:.1} {x2:.1} {y2:.1}", plain(name))
            };
            all.iter().map(object).collect()
        }
        Said::Enlarged { file, height, width } => {
            vec![format!("{}  {width}x{height} pixels", plain(&file.display().to_string()))]
        }
    };
    parts.join("  ")
}

/// An answer in JSON.
fn object(input: &str, said: &Said) -> Value {
    match said {
        Said::Classes(all) => {
            let classes = all.iter().map(|(name, p)| json!({ "class": name, "probability": p }));
            json!({ "input": input, "classes": classes.collect::<Vec<_>>() })
        }
        Said::Numbers(all) => {
            let numbers: Map<String, Value> = all.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({ "input": input, "numbers": numbers })
        }
        Said::Objects(all) => {
            let object = |(name, found): &(String, Detection)| json!({ "class": name, "score": found.score, "box": found.bbox.to_array() });
            json!({ "input": input, "objects": all.iter().map(object).collect::<Vec<_>>() })
        }
        Said::Enlarged { file, height, width } => {
            json!({ "input": input, "file": text(file), "height": height, "width": width })
        }
    }
}

/// The cells of an answer with the names of their columns.
fn cells(said: Said) -> Vec<(String, String)> {
    match said {
        Said::Classes(all) => all
            .into_iter()
            .enumerate()
            .flat_map(|(i, (name, p))| {
                let number = if i == 0 { String::new() } else { format!("_{}", i + 1) };
                [(format!("class{number}"), name), (format!("probability{number}"), p.to_string())]
            })
            .collect(),
        Said::Numbers(all) => all.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
        Said::Objects(all) => all
            .into_iter()
            .enumerate()
            .flat_map(|(i, (name, found))| {
                let number = if i == 0 { String::new() } else { format!("_{}", i + 1) };
                let sides = ["x1", "y1", "x2", "y2"].into_iter().zip(found.bbox.to_array());
                let sides = sides.map(|(side, v)| (format!("{side}{number}"), v.to_string()));
                let head = [(format!("class{number}"), name), (format!("score{number}"), found.score.to_string())];
                head.into_iter().chain(sides).collect::<Vec<_>>()
            })
            .collect(),
        Said::Enlarged { file, height, width } => vec![
            ("file".into(), text(&file)),
            ("width".into(), width.to_string()),
            ("height".into(), height.to_string()),
        ],
    }
}
