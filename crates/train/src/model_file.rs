//! Networks that are files: read with the recipe, checked against the data, and recorded in checkpoints, so that a run goes on
//! where its file is gone.

use crate::error::{io, run as wrong};
use crate::task::Task;
use crate::{Config, Error, Result};
use fixnet_export::onnx::import::{self, OnnxModel};
use fixnet_files::input_file;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_nn::models::ModelSpec;
use serde::{Deserialize, Deserializer, Serializer, de};
use std::collections::BTreeMap;

/// The graph in the metadata of a checkpoint, in hexadecimal, without the numbers of its weights.
const GRAPH: &str = "onnx.graph";
/// The most bytes of it. The header of a checkpoint, which holds it in hexadecimal, has at most 16 MiB.
const MOST: usize = 6 << 20;
/// blake3 of the file.
const DIGEST: &str = "onnx.blake3";

pub(crate) fn serialize<S: Serializer>(model: &ModelSpec, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.collect_str(model)
}

/// Reads the name of a model, with files among the models that there are.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<ModelSpec, D::Error> {
    import::register();
    String::deserialize(from)?.parse().map_err(de::Error::custom)
}

/// The model of a configuration, if it is a file.
pub(crate) fn of(config: &Config) -> Option<&OnnxModel> {
    config.model().get()
}

/// Checks that a network from a file takes the inputs of a task and gives what it needs.
pub(crate) fn check(config: &Config, task: &dyn Task) -> Result<()> {
    match of(config) {
        Some(model) => Ok(model.check(&task.input_shape(), task.classes().unwrap_or(1))?),
        None => Ok(()),
    }
}

/// Writes what a run needs of the file to the metadata of a checkpoint.
pub(crate) fn record(config: &Config, metadata: &mut BTreeMap<String, String>) -> Result<()> {
    let Some(model) = of(config) else { return Ok(()) };
    let graph = model.graph()?;
    if graph.len() > MOST {
        let reason = format!(
            "expected a graph of at most {MOST} bytes without the weights of its layers, found {} in {}: numbers that no layer has, in \
             constants say, take the rest",
            graph.len(),
            model.path().display()
        );
        return Err(Error::Setting { key: "model.name".into(), reason });
    }
    let graph: String = graph.iter().map(|byte| format!("{byte:02x}")).collect();
    metadata.insert(GRAPH.into(), graph);
    metadata.insert(DIGEST.into(), model.digest()?.into());
    Ok(())
}

/// The bytes of hexadecimal digits.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect()
}

/// The configuration with the network that its checkpoint recorded.
///
/// # Errors
/// The checkpoint lacks it, or it is damaged.
pub(crate) fn recorded(config: &Config, checkpoint: &Checkpoint) -> Result<Config> {
    let Some(model) = of(config) else { return Ok(config.clone()) };
    let metadata = checkpoint.metadata();
    let (Some(graph), Some(digest)) = (metadata.get(GRAPH).and_then(|text| bytes(text)), metadata.get(DIGEST)) else {
        return Err(wrong(checkpoint.path(), format!("expected {GRAPH} and {DIGEST} in its metadata, found none")));
    };
    Ok(config.with_model(model.recorded(&graph, digest)?.into()))
}

/// Checks that the file is the one that the run began with, where it is still there.
///
/// # Errors
/// [`Error::ChangedModel`].
pub(crate) fn check_unchanged(config: &Config, checkpoint: &Checkpoint) -> Result<()> {
    let Some(model) = of(config).filter(|model| model.path().exists()) else { return Ok(()) };
    let path = model.path();
    let found = blake3::hash(&input_file::read(path, import::MOST).map_err(io(path))?).to_hex().to_string();
    match checkpoint.metadata().get(DIGEST).filter(|expected| **expected != found) {
        Some(expected) => Err(Error::ChangedModel { path: path.into(), expected: expected.clone(), found }),
        None => Ok(()),
    }
}
