//! The grid: every mix of the values of its axes, as recipes with folders of their own.

use crate::flags::{FLAGS, Flag, Flags, Kind};
use crate::folder::looks_like_a_run;
use crate::history;
use crate::names::{plain, short};
use crate::recipe::{Recipe, text, value};
use crate::usage;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Value;

/// The axes as arguments. Lists have commas between their values.
#[derive(clap::Args)]
pub(crate) struct Axes {
    /// Built-in recipes (`fixnet recipes` lists them) or TOML files
    #[arg(value_name = "RECIPE", value_delimiter = ',')]
    recipe: Vec<String>,
    /// The same as a flag
    #[arg(long, value_name = "RECIPE,…", value_delimiter = ',')]
    recipes: Vec<String>,
    /// A TOML file with `recipes = […]` and, for any key of a recipe, one value or a list; flags take their place
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags<true>,
    /// Set any key of the recipes, to one value or a list, as in --set transition_scope=model,layer; may be repeated
    #[arg(long, value_name = "KEY=VALUE,…")]
    set: Vec<String>,
}

/// One run of the grid.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) recipe: Recipe,
    /// Its values in the columns of the grid; `-` where the key has no influence.
    pub(crate) columns: Vec<String>,
    /// The name of its folder.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// All runs, those which differ by their seed alone next to each other.
#[derive(Debug)]
pub(crate) struct Grid {
    /// The keys of recipes that the table tells.
    pub(crate) columns: Vec<String>,
    pub(crate) cells: Vec<Cell>,
}

/// A key of recipes with its values.
type Axis = (String, Vec<Value>);

/// Runs of a grid, at most.
const MOST: usize = 10_000;

/// These are always told, in this order.
const COLUMNS: [&str; 4] = ["name", "bits", "gradient_rule", "optimizer"];

impl Axes {
    /// The grid in the folder `out`.
    ///
    /// # Errors
    /// A recipe or a value makes no sense.
    pub(crate) fn grid(&self, out: &Path) -> Result<Grid> {
        let (mut recipes, mut axes) = match &self.grid {
            Some(path) => read(path)?,
            None => (Vec::new(), Vec::new()),
        };
        let named = [&self.recipe[..], &self.recipes].concat();
        if !named.is_empty() {
            recipes = named;
        }
        ensure_usage(!recipes.is_empty(), "expected recipes, as in fixnet compare digits, or --grid FILE; found none")?;
        let mut given: Vec<Axis> = Vec::new();
        for assignment in &self.set {
            let (key, list) = assignment
                .split_once('=')
                .ok_or_else(|| usage(anyhow!("--set: expected KEY=VALUE, found {assignment}")))?;
            given.push((key.trim().into(), split(list).into_iter().map(value).collect()));
        }
        for (flag, text) in self.flags.given() {
            let values = match flag.kind {
                Kind::Seed => seeds(text).map_err(usage)?,
                _ => split(text).into_iter().map(|part| flag.value(part, true)).collect(),
            };
            given.push((flag.key.into(), values));
        }
        for (i, (key, _)) in given.iter().enumerate() {
            let twice = given[..i].iter().any(|(other, _)| other == key);
            ensure_usage(!twice, &format!("{key}: expected its values once, found them twice"))?;
            axes.retain(|(other, _)| other != key);
        }
        axes.extend(given);
        ensure_usage(recipes.len() <= MOST, &format!("expected at most {MOST} runs, found {} recipes", recipes.len()))?;
        let recipes = recipes.iter().map(|name| Recipe::find(name)).collect::<Result<Vec<_>>>()?;
        let grid = Grid::new(recipes, axes, out);
        let grid = match &self.grid {
            Some(path) => grid.with_context(|| format!("grid {}", path.display())),
            None => grid,
        };
        grid.map_err(usage)
    }
}

fn ensure_usage(holds: bool, words: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(usage(anyhow!("{words}"))) }
}

/// The recipes and the axes of a file.
fn read(path: &Path) -> Result<(Vec<String>, Vec<Axis>)> {
    let name = path.display().to_string();
    let text = fixnet::input_file::read_to_string(path).with_context(|| format!("grid {name}"))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| anyhow!("grid {name}: {e}"))?;
    let (mut recipes, mut axes) = (Vec::new(), Vec::new());
    for (key, values) in table {
        if key == "recipes" {
            let list: Option<Vec<_>> = list(&key, values).iter().map(|v| Some(v.as_str()?.to_string())).collect();
            recipes = list.with_context(|| format!("grid {name}: recipes: expected a list of names or files"))?;
            continue;
        }
        // By the name of the flag or by that of the key.
        let named = |flag: &&Flag| flag.plural.is_some_and(|plural| plural.replace('-', "_") == key);
        let key = FLAGS.iter().find(named).map_or_else(|| key.clone(), |flag| flag.key.to_string());
        let values = match &values {
            Value::String(text) if key == "seed" => seeds(text).with_context(|| format!("grid {name}"))?,
            _ => list(&key, values),
        };
        ensure!(axes.iter().all(|(k, _)| *k != key), "grid {name}: {key}: expected its values once, found them twice");
        axes.push((key, values));
    }
    Ok((recipes, axes))
}

/// The values that a TOML value stands for: a list, but for keys whose values are lists themselves.
fn list(key: &str, values: Value) -> Vec<Value> {
    match values {
        Value::Array(all) if !["betas", "milestones"].contains(&key) || all.iter().all(Value::is_array) => all,
        one => vec![one],
    }
}

/// The parts of a list between its commas; those in brackets or quotes do not count.
fn split(list: &str) -> Vec<&str> {
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

/// `1,2,5` or `1..3`, which is 1, 2 and 3.
fn seeds(text: &str) -> Result<Vec<Value>> {
    let wrong = || format!("seeds: expected a list such as 1,2,3 or a range such as 1..3, found {text}");
    let number = |s: &str| s.trim().parse::<i64>().ok().filter(|&n| n >= 0).with_context(wrong);
    let seeds: Vec<i64> = match text.split_once("..") {
        Some((first, last)) => (number(first)?..=number(last)?).take(MOST + 1).collect(),
        None => text.split(',').map(number).collect::<Result<_>>()?,
    };
    ensure!((1..=MOST).contains(&seeds.len()), wrong());
    Ok(seeds.into_iter().map(Value::from).collect())
}

impl Grid {
    /// Every mix of recipes and values. Mixes that differ in nothing which matters to the run are one cell.
    fn new(recipes: Vec<Recipe>, mut axes: Vec<Axis>, out: &Path) -> Result<Self> {
        // The optimizer comes before the rest: it may bring settings that others then change. Seeds vary fastest. The
        // order of the flags does not matter, for names of folders follow from that of the axes.
        let rank = |key: &str| match (COLUMNS.iter().position(|c| *c == key), key) {
            (Some(i), _) => i,
            (None, "seed") => usize::MAX,
            (None, _) => COLUMNS.len(),
        };
        axes.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
        let mut mixes: Vec<Recipe> = recipes;
        // Before there is room for any of them.
        let count = axes.iter().fold(mixes.len() as u128, |n, (_, values)| n.saturating_mul(values.len() as u128));
        ensure!(count <= MOST as u128, "expected at most {MOST} runs, found {count}");
        for (key, values) in &axes {
            ensure!(!values.is_empty(), "{key}: expected a value, found none");
            ensure!(key != "name", "name: expected no key of a grid, found one; recipes have their names");
            let mut next = Vec::with_capacity(mixes.len() * values.len());
            for mix in &mixes {
                for value in values {
                    let mut recipe = mix.clone();
                    recipe.set_value(key, value.clone()).with_context(|| format!("{key} = {value}"))?;
                    next.push(recipe);
                }
            }
            mixes = next;
        }
        let varied =
            axes.iter().filter(|(key, values)| values.len() > 1 && key != "seed" && rank(key) == COLUMNS.len());
        let columns: Vec<String> =
            COLUMNS.iter().map(ToString::to_string).chain(varied.map(|(key, _)| key.clone())).collect();
        // The name of a folder must not depend on how many values an axis has, for a grid may grow; but what all runs
        // have in common as a rule would only make names long.
        let common = |key: &str, values: &[Value]| ["epochs", "init"].contains(&key) && values.len() == 1;
        let set = axes.iter().filter(|(key, values)| rank(key) == COLUMNS.len() && !common(key, values));
        let set: Vec<&str> = set.map(|(key, _)| key.as_str()).collect();
        let mut cells: Vec<Cell> = Vec::new();
        for mix in mixes {
            let cell = Cell::new(&mix, &columns, &set, out)?;
            match cells.iter().find(|other| other.name == cell.name) {
                None => cells.push(cell),
                Some(other) if other.recipe == cell.recipe => {}
                Some(_) => bail!("{}: expected one run of this name, found two recipes of the same name", cell.name),
            }
        }
        Ok(Self { columns, cells })
    }
}

/// What tables, figures and names say of a recipe: its values by their keys.
pub(crate) struct Shown(BTreeMap<String, String>);

impl Shown {
    /// Of a recipe in its canonical form.
    pub(crate) fn of(recipe: &Recipe) -> Result<Self> {
        let idle = recipe.idle_keys()?;
        let table = toml::Table::try_from(recipe)?.into_iter().filter(|(key, _)| !idle.contains(&key.as_str()));
        Ok(Self(table.map(|(key, value)| (key.clone(), short(&key, &text(&value)))).collect()))
    }

    /// The value of a key; `-` where it has no influence.
    pub(crate) fn value(&self, key: &str) -> String {
        self.0.get(key).map_or_else(|| "-".into(), Clone::clone)
    }

    /// The keys whose values another recipe does not share.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a String> {
        let keys = self.0.keys().chain(other.0.keys());
        keys.filter(|key| self.0.get(*key) != other.0.get(*key))
    }
}

impl Cell {
    fn new(mix: &Recipe, columns: &[String], set: &[&str], out: &Path) -> Result<Self> {
        let recipe = mix.canonical()?;
        let shown = Shown::of(&recipe)?;
        let value = |key: &str| shown.value(key);
        let mut parts: Vec<String> = COLUMNS.iter().map(|key| value(key)).filter(|v| v != "-").collect();
        parts.extend(
            set.iter().map(|key| (*key, value(key))).filter(|(_, v)| v != "-").map(|(k, v)| format!("{k}={v}")),
        );
        parts.push(format!("s{}", recipe.seed));
        let name = plain(&parts.join("-"));
        let path = out.join(&name);
        Ok(Self { columns: columns.iter().map(|key| value(key)).collect(), recipe, name, path })
    }

    /// That its folder does not hold another run.
    pub(crate) fn check(&self) -> Result<()> {
        if !looks_like_a_run(&self.path) {
            return Ok(());
        }
        let differ = history::recipe(&self.path)?.differences(&self.recipe)?;
        ensure!(
            differ.is_empty(),
            "{}: holds a run with other settings ({}); choose another --out",
            self.path.display(),
            differ.join("; ")
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fixnet_fuzz as fuzz;
    use proptest::prelude::*;

    const GRID: &str = "recipes = ['digits', 'mlp-digits']\nbits = ['4/4/4', '2/2/32']\ngradient_rules = ['lbt', 'min-max']\n\
                        seeds = '1..3'\nbetas = [0.9, 0.99]\noptimizer = 'adamt'\nmilestones = [[0.1], [0.5, 0.7]]\nschedule = 'step'\n";

    /// Runs of a grid are held all at once, some 4 KiB each.
    const LARGEST: usize = MOST * 8192;

    #[test]
    fn this_grid_makes_sense() {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, GRID).unwrap();
        // Without low-bit gradients their rule makes no difference.
        assert_eq!(grid(path.path()).unwrap().cells.len(), 2 * 3 * 3 * 2);
    }

    fn grid(path: &Path) -> Result<Grid> {
        let (recipes, axes) = read(path)?;
        let recipes = recipes.iter().map(|name| Recipe::find(name)).collect::<Result<Vec<_>>>()?;
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
