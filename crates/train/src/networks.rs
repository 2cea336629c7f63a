//! Which network trains for which task at which bits: one training step of each combination, on samples made in memory. The page
//! `docs/reference/networks.md` is made from what these steps say, so it cannot promise what does not run.

use crate::task::{self, TaskKind, Trial};
use crate::{Error, Result, Session, Settings};
use fixnet_autograd::Store;
use fixnet_export::onnx::{self, CodeType, import};
use fixnet_nn::models::{self, ModelSpec};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use rayon::prelude::*;
use std::fmt::Write;
use std::path::Path;

/// Bits of a column, with the scheme and the optimizer that belong to them.
#[derive(Debug, Clone, Copy)]
pub struct Bits {
    /// The heading of its column.
    pub name: &'static str,
    /// The keys of a recipe, and their values.
    pub keys: &'static [(&'static str, &'static str)],
}

/// The columns of the table of bits.
pub const BITS: [Bits; 6] = [
    Bits { name: "float", keys: &[("quantization.bits", "32/32/32")] },
    Bits { name: "8/8/8", keys: &[("quantization.bits", "8/8/8")] },
    Bits { name: "4/4/4", keys: &[("quantization.bits", "4/4/4")] },
    Bits {
        name: "2/2/32 TRS",
        keys: &[("quantization.bits", "2/2/32"), ("quantization.scheme", "trs"), ("optimizer.name", "sgdt")],
    },
    Bits {
        name: "1/1/32 TRS",
        keys: &[("quantization.bits", "1/1/32"), ("quantization.scheme", "trs"), ("optimizer.name", "sgdt")],
    },
    Bits { name: "32/1/32", keys: &[("quantization.bits", "32/1/32")] },
];

/// What became of a step: nothing to say, or the message with which it was refused. The network's name is `NETWORK` in it.
pub type Cell = std::result::Result<(), String>;

/// A network with one of its tasks.
#[derive(Debug, Clone)]
pub struct Row {
    /// The network, as a recipe names it.
    pub network: String,
    /// The task.
    pub task: &'static str,
    /// What its samples are.
    pub samples: &'static str,
    /// A cell for each of [`BITS`].
    pub cells: Vec<Cell>,
}

impl Row {
    /// Returns whether the network trains for the task at any bits.
    pub fn trains(&self) -> bool {
        self.cells.iter().any(|cell| cell.is_ok())
    }
}

/// Takes the first training step of a model on a trial of a task, and returns its loss.
///
/// # Errors
/// The model is none for this task or these samples, or it does not take these bits; the loss is not finite.
pub fn step(model: &ModelSpec, kind: &TaskKind, trial: &Trial, bits: &Bits) -> Result<f64> {
    let mut settings = Settings { task: kind.name.into(), ..Settings::default() };
    settings.model.name = model.clone();
    settings.run.epochs = 1;
    for (key, value) in bits.keys {
        settings.set(key, (*value).into())?;
    }
    let config = settings.check()?;
    (kind.check)(&config)?;
    let (task, data) = (trial.load)(&config)?;
    let mut session = Session::new(config, task, &*data)?;
    let step = session.step()?.map(|step| step.loss);
    match step {
        Some(loss) if loss.is_finite() => Ok(loss),
        found => {
            let reason = format!("expected a step with a finite loss, found {found:?}");
            Err(Error::Setting { key: "trial".into(), reason })
        }
    }
}

/// A model with the name of its row.
struct Example {
    name: String,
    model: ModelSpec,
}

/// Takes a step of every example of every family of models, on every trial of every task, at all bits. `scratch` is a folder for the
/// file of the family that reads files.
///
/// # Errors
/// A family has no example; the file cannot be written.
pub fn rows(scratch: &Path) -> Result<Vec<Row>> {
    import::register();
    let mut examples = Vec::new();
    // The family that reads files comes last, and is tried with files of its own.
    for kind in &models::kinds() {
        for text in kind.examples {
            examples.push(Example { name: (*text).into(), model: text.parse()? });
        }
        if kind.examples.is_empty() && (kind.parse)("x.onnx").is_none() {
            let reason = format!("expected an example of the models {}, found none", kind.form);
            return Err(Error::Setting { key: "model".into(), reason });
        }
    }
    let kinds = task::kinds();
    let mut jobs = Vec::new();
    for kind in &kinds {
        for trial in kind.trials {
            examples.iter().for_each(|example| jobs.push((kind, trial, example.name.clone(), example.model.clone())));
            jobs.extend(imported(scratch, kind, trial)?.map(|example| (kind, trial, example.name, example.model)));
        }
    }
    let row = |(kind, trial, network, model): (&TaskKind, &Trial, String, ModelSpec)| {
        let cell = |bits| {
            let step = step(&model, kind, trial, bits).map(drop);
            step.map_err(|e| e.to_string().replace(&model.to_string(), "NETWORK"))
        };
        Row { network, task: kind.name, samples: trial.samples, cells: BITS.par_iter().map(cell).collect() }
    };
    Ok(jobs.into_par_iter().map(row).collect())
}

/// The file of a small network that trains for a task, as a model: what the family that reads files is tried with.
fn imported(scratch: &Path, kind: &TaskKind, trial: &Trial) -> Result<Option<Example>> {
    for text in ["lenet", "cnn1d:8-8", "mlp:8", "edsr:n1-f8"] {
        let model: ModelSpec = text.parse()?;
        if step(&model, kind, trial, &BITS[0]).is_err() {
            continue;
        }
        let mut settings = Settings { task: kind.name.into(), ..Settings::default() };
        settings.model.name = model.clone();
        let (task, _) = (trial.load)(&settings.check()?)?;
        let (mut store, input) = (Store::seeded(1), task.input_shape());
        let net = models::build(&mut store, &model, &input, task.classes().unwrap_or(1), &QuantConfig::float())?;
        let plan = Plan::of(&net, &mut store, &input)?;
        let path = scratch.join(format!("{}-{}.onnx", kind.name, trial.samples));
        let form = CodeType::Float.into();
        onnx::save(&path, &plan, &onnx::Options { form, ..onnx::Options::default() })?;
        return Ok(Some(Example { name: "FILE.onnx".into(), model: import::OnnxModel::new(&path, false).into() }));
    }
    Ok(None)
}

/// The messages of refused cells, each once: those of the list at the end of the page.
#[derive(Default)]
struct Refusals(Vec<String>);

impl Refusals {
    /// What a cell shows.
    fn mark(&mut self, cell: &Cell) -> String {
        let Err(message) = cell else { return "yes".into() };
        let at = self.0.iter().position(|known| known == message).unwrap_or_else(|| {
            self.0.push(message.clone());
            self.0.len() - 1
        });
        format!("({})", at + 1)
    }
}

/// Values without those that came before, in their order.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut found, value| {
        if !found.contains(&value) {
            found.push(value);
        }
        found
    })
}

fn heading(page: &mut String, title: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    let _ = writeln!(page, "\n## {title}\n\n| {} |\n|{}", cells.join(" | "), "---|".repeat(cells.len()));
}

/// Returns the page of all networks, in Markdown.
pub fn page(rows: &[Row]) -> String {
    let mut page = String::from(
        "# Networks\n\nEach cell of these tables is a training step that a test takes, with a small network of each kind on samples \
         made in memory. `yes` means that the network trains. A number refers to the message with which fixnet refuses the \
         combination; the messages are at the end of the page. `FILE.onnx` is the file of a small network for the same samples, which fixnet \
         has exported. Networks are values of `model.name` in a [recipe](recipe.md).\n",
    );
    let mut refusals = Refusals::default();
    let columns = distinct(rows.iter().map(|row| (row.task, row.samples)));
    let networks = distinct(rows.iter().map(|row| &row.network));
    let titles = columns.iter().map(|(task, samples)| format!("{task} of {samples}"));
    heading(&mut page, "Tasks", std::iter::once("network".into()).chain(titles));
    for network in &networks {
        let cells = columns.iter().map(|column| {
            let row = rows.iter().find(|row| row.network == **network && (row.task, row.samples) == *column);
            match row {
                None => "-".into(),
                Some(row) if row.trains() => "yes".into(),
                Some(row) => row.cells.first().map_or_else(String::new, |cell| refusals.mark(cell)),
            }
        });
        let _ = writeln!(page, "| `{network}` | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    let titles = ["network", "task"].into_iter().chain(BITS.map(|bits| bits.name));
    heading(&mut page, "Bits", titles.map(str::to_string));
    for row in networks.iter().flat_map(|network| rows.iter().filter(|row| row.network == **network && row.trains())) {
        let cells: Vec<String> = row.cells.iter().map(|cell| refusals.mark(cell)).collect();
        let _ = writeln!(page, "| `{}` | {} of {} | {} |", row.network, row.task, row.samples, cells.join(" | "));
    }
    page.push_str("\n## Messages\n\n`NETWORK` stands for the name of the network.\n\n");
    for (i, message) in refusals.0.iter().enumerate() {
        let _ = writeln!(page, "{}. `{message}`", i + 1);
    }
    page
}
