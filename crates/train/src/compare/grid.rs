//! The grid: every mix of the values of its axes, as configurations with folders of their own.

use super::names::{plain, short};
use crate::config::{KEYS, find, find_by_flag, in_words, value_for, value_text};
use crate::error::run as wrong;
use crate::run::place::{self, looks_like_a_run};
use crate::{Config, Error, Result, Settings};
use fixnet_files::input_file;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

/// A key of recipes with its values.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// The key.
    pub key: String,
    /// The values.
    pub values: Vec<Value>,
}

/// One run of the grid.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Its configuration.
    pub config: Config,
    /// Its values in the columns of the grid; `-` where the key has no effect.
    pub columns: Vec<String>,
    /// The name of its folder.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
}

/// All runs, those which differ by their seed alone next to each other.
#[derive(Debug, Clone)]
pub struct Grid {
    /// The keys of recipes that the table shows.
    pub columns: Vec<String>,
    /// The runs.
    pub cells: Vec<Cell>,
}

/// Runs of a grid, at most.
pub const MOST: usize = 10_000;

/// These are always shown, in this order.
pub(super) const COLUMNS: [&str; 4] = ["name", "quantization.bits", "quantization.gradient_rule", "optimizer.name"];

fn refuse(reason: String) -> Error {
    Error::Recipe { place: "grid".into(), reason }
}

/// Reads the recipes and the axes of a file.
///
/// # Errors
/// The file cannot be read, is not TOML, or names a key twice.
pub fn read(path: &Path) -> Result<(Vec<String>, Vec<Axis>)> {
    let place = format!("grid {}", path.display());
    let wrong = |reason: String| Error::Recipe { place: place.clone(), reason };
    let text = input_file::read_to_string(path, input_file::SETTINGS).map_err(crate::error::io(path))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| wrong(in_words(&e.to_string())))?;
    let (mut recipes, mut axes): (Vec<String>, Vec<Axis>) = (Vec::new(), Vec::new());
    let mut entries = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => entries.extend(inner.into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
            value => entries.push((key, value)),
        }
    }
    for (key, values) in entries {
        if key == "recipes" {
            let list: Option<Vec<_>> = list(&key, values).iter().map(|v| Some(v.as_str()?.to_string())).collect();
            recipes = list.ok_or_else(|| wrong("recipes: expected a list of names or files".into()))?;
            continue;
        }
        // By the name of the key, or by that of its flag.
        let key = find_by_flag(&key.replace('_', "-")).map_or(key, |known| known.name.to_string());
        let values = match &values {
            Value::String(text) if key == "run.seed" => seeds(text).map_err(&wrong)?,
            _ => list(&key, values),
        };
        if axes.iter().any(|axis| axis.key == key) {
            return Err(wrong(format!("{key}: expected its values once, found them twice")));
        }
        axes.push(Axis { key, values });
    }
    Ok((recipes, axes))
}

/// The values that a TOML value stands for: a list, but for keys whose values are lists themselves.
fn list(key: &str, values: Value) -> Vec<Value> {
    let holds_lists = find(key).is_some_and(|key| key.holds_list);
    match values {
        Value::Array(all) if !holds_lists || all.iter().all(|one| one.is_array() || one.is_str()) => all,
        one => vec![one],
    }
}

/// Returns the values of a list with commas; commas in brackets or quotes do not count.
pub fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut quote) = (Vec::new(), 0, 0, None);
    for (i, c) in list.char_indices() {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(list[from..i].trim());
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(list[from..].trim());
    parts
}

/// Returns the values of a key in a list with commas. Numbers of a key that holds a list are one value, as `fixnet train` takes
/// them; several such values have brackets: `none,[1,2,3]`.
pub fn values<'a>(key: &str, list: &'a str) -> Vec<&'a str> {
    let parts = split(list);
    let holds_list = find(key).is_some_and(|key| key.holds_list);
    match holds_list && parts.len() > 1 && parts.iter().all(|part| part.parse::<f64>().is_ok()) {
        true => vec![list.trim()],
        false => parts,
    }
}

/// Returns the axis of a list of TOML values with commas.
pub fn axis(key: &str, list: &str) -> Axis {
    Axis { key: key.into(), values: values(key, list).into_iter().map(|value| value_for(key, value)).collect() }
}

/// Returns the seeds of `1,2,5` or `1..3`, which is 1, 2 and 3.
///
/// # Errors
/// The text is neither; the message says what was expected.
pub fn seeds(text: &str) -> std::result::Result<Vec<Value>, String> {
    let wrong = || format!("seeds: expected a list such as 1,2,3 or a range such as 1..3, found {text}");
    let number = |s: &str| s.trim().parse::<i64>().ok().filter(|&n| n >= 0).ok_or_else(wrong);
    let seeds: Vec<i64> = match text.split_once("..") {
        Some((first, last)) => (number(first)?..=number(last)?).take(MOST + 1).collect(),
        None => text.split(',').map(number).collect::<std::result::Result<_, _>>()?,
    };
    match (1..=MOST).contains(&seeds.len()) {
        true => Ok(seeds.into_iter().map(Value::from).collect()),
        false => Err(wrong()),
    }
}

impl Grid {
    /// Makes every mix of recipes and values, in the folder `out`. Mixes that differ in nothing which matters to the run are one
    /// cell.
    ///
    /// # Errors
    /// A key or a value makes no sense, or there are more than [`MOST`] mixes.
    pub fn new(recipes: Vec<Settings>, mut axes: Vec<Axis>, out: &Path) -> Result<Self> {
        // The optimizer comes before the rest: it may bring settings that others then change. Seeds vary fastest. The
        // order of the flags does not matter, for names of folders follow from that of the axes.
        let rank = |key: &str| match (COLUMNS.iter().position(|c| *c == key), key) {
            (Some(i), _) => i,
            (None, "run.seed") => usize::MAX,
            (None, _) => COLUMNS.len(),
        };
        // A word for the whole table of a recipe is the rule in it.
        axes.iter_mut().filter(|axis| axis.key == "transition").for_each(|axis| axis.key = "transition.rule".into());
        axes.sort_by(|a, b| rank(&a.key).cmp(&rank(&b.key)).then_with(|| a.key.cmp(&b.key)));
        let mut mixes: Vec<Settings> = recipes;
        // Before there is room for any of them.
        let count = axes.iter().fold(mixes.len() as u128, |n, axis| n.saturating_mul(axis.values.len() as u128));
        if count > MOST as u128 {
            return Err(refuse(format!("expected at most {MOST} runs, found {count}")));
        }
        for Axis { key, values } in &axes {
            if values.is_empty() {
                return Err(refuse(format!("{key}: expected a value, found none")));
            }
            if key == "name" {
                return Err(refuse("name: expected no key of a grid, found one; recipes have their names".into()));
            }
            let mut next = Vec::with_capacity(mixes.len() * values.len());
            for mix in &mixes {
                for value in values {
                    let mut settings = mix.clone();
                    settings.set(key, value.clone()).map_err(|e| e.within(format!("{key} = {value}")))?;
                    next.push(settings);
                }
            }
            mixes = next;
        }
        let varied = axes
            .iter()
            .filter(|axis| axis.values.len() > 1 && axis.key != "run.seed" && rank(&axis.key) == COLUMNS.len());
        let columns: Vec<String> =
            COLUMNS.iter().map(ToString::to_string).chain(varied.map(|axis| axis.key.clone())).collect();
        // The name of a folder must not depend on how many values an axis has, for a grid may grow; but what all runs
        // have in common as a rule would only make names long.
        let common = |axis: &&Axis| ["run.epochs", "run.init"].contains(&axis.key.as_str()) && axis.values.len() == 1;
        let set = axes.iter().filter(|axis| rank(&axis.key) == COLUMNS.len() && !common(axis));
        let set: Vec<&str> = set.map(|axis| axis.key.as_str()).collect();
        let mut cells: Vec<Cell> = Vec::new();
        for mix in mixes {
            let cell = Cell::new(mix, &columns, &set, out)?;
            match cells.iter().find(|other| other.name == cell.name) {
                None => cells.push(cell),
                Some(other) if other.config == cell.config => {}
                Some(_) => {
                    let words = "expected one run of this name, found two recipes of the same name";
                    return Err(refuse(format!("{}: {words}", cell.name)));
                }
            }
        }
        Ok(Self { columns, cells })
    }
}

/// What tables, figures and names show of a configuration: its values by their keys.
#[derive(Debug)]
pub struct Shown(BTreeMap<String, String>);

impl Shown {
    /// Of a configuration in its canonical form.
    pub fn of(config: &Config) -> Self {
        let idle: Vec<&str> = config.ineffective_keys().collect();
        let values = config.settings().values().into_iter().filter(|(key, _)| !idle.contains(&key.as_str()));
        Self(values.map(|(key, value)| (key.clone(), short(&key, &value_text(&value)))).collect())
    }

    /// Returns the value of a key; `-` where it has no effect.
    pub fn value(&self, key: &str) -> String {
        self.0.get(key).map_or_else(|| "-".into(), Clone::clone)
    }

    /// Returns the keys whose values another configuration does not share.
    pub fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a String> {
        let keys = self.0.keys().chain(other.0.keys());
        keys.filter(|key| self.0.get(*key) != other.0.get(*key))
    }
}

/// Keys that change what a run writes beside its result: runs that differ in them alone are one run.
pub(super) const WITHOUT_RESULT: [&str; 2] = ["run.tensorboard", "run.log_every"];

/// Returns the name of a key in tables and in names of folders: that of its flag, or else the key itself.
pub fn heading(key: &str) -> String {
    if key == "name" {
        return "recipe".into();
    }
    let flag = KEYS.iter().find(|known| known.name == key).and_then(|known| known.flag);
    flag.map_or_else(|| key.to_string(), |flag| flag.name.replace('-', "_"))
}

impl Cell {
    fn new(mix: Settings, columns: &[String], set: &[&str], out: &Path) -> Result<Self> {
        let config = mix.check()?.canonical()?;
        let shown = Shown::of(&config);
        let value = |key: &str| shown.value(key);
        let mut parts: Vec<String> = COLUMNS.iter().map(|key| value(key)).filter(|v| v != "-").collect();
        let set = set.iter().filter(|key| !WITHOUT_RESULT.contains(key)).map(|key| (heading(key), value(key)));
        parts.extend(set.filter(|(_, v)| v != "-").map(|(k, v)| format!("{k}={v}")));
        parts.push(format!("s{}", config.seed()));
        let name = plain(&parts.join("-"));
        let path = out.join(&name);
        Ok(Self { columns: columns.iter().map(|key| value(key)).collect(), config, name, path })
    }

    /// Checks that its folder does not hold another run.
    ///
    /// # Errors
    /// It does; the message names the settings that differ.
    pub fn check(&self) -> Result<()> {
        if !looks_like_a_run(&self.path) {
            return Ok(());
        }
        // Ineffective keys had other defaults in earlier versions.
        let mut differ = place::config(&self.path)?.canonical()?.differences(&self.config);
        differ.retain(|line| !WITHOUT_RESULT.iter().any(|key| line.starts_with(&format!("{key}: "))));
        match differ.is_empty() {
            true => Ok(()),
            false => Err(wrong(
                &self.path,
                format!("holds a run with other settings ({}); choose another --out", differ.join("; ")),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    const GRID: &str = "recipes = ['digits', 'mlp-digits']\nbits = ['4/4/4', '2/2/32']\ngradient_rules = ['lbt', 'min-max']\n\
                        seeds = '1..3'\noptimizer.betas = [0.9, 0.99]\noptimizer.name = 'adamt'\nschedule.milestones = [[0.1], [0.5, 0.7]]\nschedule.kind = 'step'\n";

    /// Runs of a grid are held all at once, some 4 KiB each.
    const LARGEST: usize = MOST * 8192;

    #[test]
    fn this_grid_makes_sense() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, GRID).unwrap();
        // Without low-bit gradients their rule makes no difference.
        assert_eq!(grid(path.path()).unwrap().cells.len(), 2 * 3 * 3 * 2);
    }

    #[test]
    fn the_numbers_of_a_list_are_one_value() {
        assert_eq!(values("loss.class_weights", "1, 2,3"), ["1, 2,3"]);
        assert_eq!(values("loss.class_weights", "none,[1,2,3]"), ["none", "[1,2,3]"]);
        assert_eq!(values("optimizer.lr", "0.1,0.2"), ["0.1", "0.2"]);
        let betas = axis("optimizer.betas", "0.9,0.99");
        assert_eq!(betas.values, [Value::from(vec![0.9, 0.99])]);
        assert_eq!(axis("optimizer.betas", "[0.9,0.99],[0.8,0.9]").values.len(), 2);
    }

    fn grid(path: &Path) -> Result<Grid> {
        let (recipes, axes) = read(path)?;
        let recipes = recipes.iter().map(|name| Settings::find(name)).collect::<Result<Vec<_>>>()?;
        Grid::new(recipes, axes, Path::new("out"))
    }

    proptest! {
        #![proptest_config(fuzz::config())]

        #[test]
        fn damaged_grids_never_panic(damage in fuzz::damage()) {
            let path = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&path, fuzz::damaged(GRID.into(), &damage)).unwrap();
            let _ = fuzz::within(LARGEST, || grid(path.path()));
        }
    }
}
