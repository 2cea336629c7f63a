//! A packed network with what its file says beside the operations: the recipe that it was trained by, and the names of columns and of
//! the target.

use crate::evaluation::{EVALUATED, evaluate};
use crate::run::place::RECIPE;
use crate::scores::Scores;
use crate::task::{self, Data, Part, Task};
use crate::{Config, Result, error};
use fixnet_autograd::Store;
use fixnet_data::{ClipForm, SampleForm};
use fixnet_export::packed;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::Header;
use fixnet_nn::plan::{AnySize, Plan};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The key of the names of columns in the metadata of a packed network that takes rows: a list as JSON.
pub const COLUMNS: &str = "columns";
/// The key of the name of the target in the metadata of a packed network, where it is a column of a table.
pub const TARGET: &str = "target";

/// The key of how sequences are made of recordings, in the metadata of a packed network that takes those: an object as JSON.
pub const CLIPS: &str = "clips";

/// The key of the numbers that classes have in files of COCO, in the metadata of a packed network: a list as JSON.
pub const CATEGORY_IDS: &str = "category_ids";

/// A packed network with its task.
pub struct Packed {
    plan: Plan,
    task: Arc<dyn Task>,
    config: Config,
    columns: Option<Vec<String>>,
}

impl Packed {
    /// Opens a file if it is a packed network; returns `None` for any other, also one that cannot be read.
    ///
    /// # Errors
    /// The file is a packed network that is damaged, without the recipe in its metadata, or not one for the task of that recipe.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match Header::read(path) {
            Ok(header) if header.metadata.contains_key(packed::PLAN) => {}
            _ => return Ok(None),
        }
        let (plan, metadata) = packed::load(path)?;
        let place = path.display().to_string();
        let text =
            metadata.get(RECIPE).ok_or_else(|| error::run(path, "expected the recipe in its metadata, found none"))?;
        let config = targeted(Config::recorded(text, &place)?, metadata.get(TARGET));
        let task = task::of_plan(&config, &place, &plan)?;
        let columns = columns(path, &metadata, plan.input_shape())?;
        // Recordings of another rate are refused, whatever the first of them says.
        let clips = clips(path, &metadata, plan.input_shape())?;
        let task = clips.and_then(|clips| task.with_clips(clips)).unwrap_or(task);
        let ids = category_ids(path, &metadata)?;
        let numbered = ids.map(|ids| task.with_category_ids(&place, ids)).transpose()?.flatten();
        let task = numbered.unwrap_or(task);
        Ok(Some(Self { plan, task, config, columns }))
    }

    /// Adds to the metadata of a file that is to be a packed network what its operations do not say of its task: the names of columns
    /// and of the target.
    pub fn describe(task: &dyn Task, metadata: &mut BTreeMap<String, String>) {
        let form = task.sample_form();
        if let Some(columns) = form.columns {
            let text = serde_json::to_string(&columns).expect("names are plain data");
            metadata.insert(COLUMNS.into(), text);
        }
        metadata.extend(form.target.map(|target| (TARGET.to_string(), target)));
        if let Some(ids) = task.category_ids() {
            metadata.insert(CATEGORY_IDS.into(), serde_json::to_string(ids).expect("numbers are plain data"));
        }
        if let Some(clips) = form.clips {
            let text = serde_json::to_string(&clips).expect("sizes are plain data");
            metadata.insert(CLIPS.into(), text);
        }
    }

    /// The operations, with the normalization of the input.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What was learned.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.task
    }

    /// The recipe that the network was trained by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The form of the samples that the network takes.
    pub fn sample_form(&self) -> SampleForm {
        let form = self.task.sample_form();
        let columns = form.columns.clone().or_else(|| self.columns.clone());
        form.with_columns(columns.as_deref())
    }

    /// Evaluates the network on the test part of `data`.
    ///
    /// # Errors
    /// The data cannot be read, or do not fit the network.
    pub fn evaluate(&self, data: &dyn Data) -> Result<Scores> {
        // No file has an evaluation take more memory than a batch is given.
        let batches = data.batches(Part::Test, self.plan.batch(EVALUATED))?;
        let net = network(&*self.task, self.plan.clone());
        let scores = evaluate(&*self.task, &*net, &mut Store::seeded(0), batches);
        scores.map_err(|e| e.within(data.name(Part::Test)))
    }
}

/// Makes a plan a network for inputs as its task has them: of any size where the task allows that, and normalized by the task or
/// its data, as for a network of layers.
pub(crate) fn network(task: &dyn Task, plan: Plan) -> Box<dyn Layer> {
    let plan = plan.without_normalization();
    if task.any_size() { Box::new(AnySize(plan)) } else { Box::new(plan) }
}

/// The recipe with the name of its target, where it left that to the table.
fn targeted(config: Config, target: Option<&String>) -> Config {
    let Some(target) = target else { return config };
    let mut settings = config.settings().clone();
    settings.data.target = Some(target.clone());
    settings.check().unwrap_or(config)
}

/// The names of columns in the metadata of a file.
fn columns(path: &Path, metadata: &BTreeMap<String, String>, input: &[usize]) -> Result<Option<Vec<String>>> {
    let Some(text) = metadata.get(COLUMNS) else { return Ok(None) };
    let names: Option<Vec<String>> = serde_json::from_str(text).ok();
    match names.filter(|names| input == [names.len()]) {
        Some(names) => Ok(Some(names)),
        None => {
            let reason =
                format!("{COLUMNS}: expected a list of a name for each column of {input:?}, found another text");
            Err(error::run(path, reason))
        }
    }
}

/// How sequences are made of recordings, in the metadata of a file.
fn clips(path: &Path, metadata: &BTreeMap<String, String>, input: &[usize]) -> Result<Option<ClipForm>> {
    let Some(text) = metadata.get(CLIPS) else { return Ok(None) };
    let place = format!("{}: {CLIPS}", path.display());
    Ok(Some(ClipForm::read(&place, text, input)?))
}

/// The numbers of classes in the metadata of a file.
fn category_ids(path: &Path, metadata: &BTreeMap<String, String>) -> Result<Option<Vec<u64>>> {
    let Some(text) = metadata.get(CATEGORY_IDS) else { return Ok(None) };
    let wrong = |e| error::run(path, format!("{CATEGORY_IDS}: expected a list of numbers, found another text ({e})"));
    serde_json::from_str(text).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_many_as_the_network_has() {
        let of = |text: &str| columns(Path::new("f"), &[(COLUMNS.into(), text.into())].into(), &[2]);
        assert_eq!(of(r#"["a","b"]"#).unwrap(), Some(vec!["a".to_string(), "b".into()]));
        for text in [r#"["a"]"#, "{", "[1,2]"] {
            assert!(of(text).unwrap_err().to_string().starts_with("f: columns: expected a list"), "{text}");
        }
    }
}
