//! `Teacher`: a trained classifier whose probabilities are what another one learns in place of labels, for each image as it was varied.

use super::Task;
use crate::packed::{Packed, network};
use crate::run::place::{config_of, existing_checkpoint};
use crate::{Error, Result, Trained};
use fixnet_autograd::{Array, Graph, Store};
use fixnet_data::{ClassDifference, DataDescription, Normalize};
use fixnet_export::packed;
use fixnet_nn::Layer;
use fixnet_nn::checkpoint::Checkpoint;
use fixnet_nn::metrics::check_finite;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The key of recipes that names it.
const KEY: &str = "loss.teacher";

/// A trained classifier, as its traced operations. It is evaluated and never moves.
pub struct Teacher {
    net: Box<dyn Layer>,
    normalize: Normalize,
    fingerprint: String,
}

impl fmt::Debug for Teacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Teacher({})", self.fingerprint)
    }
}

impl PartialEq for Teacher {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

fn wrong(expected: String, found: String) -> Error {
    Error::Setting { key: KEY.into(), reason: format!("expected {expected}, found {found}") }
}

impl Teacher {
    /// Loads the network in the folder of a run, in a checkpoint or in a packed file, for a network that learns from data of this
    /// description.
    ///
    /// # Errors
    /// It is missing, damaged or no classifier; or inputs or classes are others than those of the data.
    pub fn open(place: &str, description: &DataDescription) -> Result<Self> {
        let (task, plan) = opened(Path::new(place)).map_err(|e| e.within(KEY))?;
        let (shape, classes) = (&description.shape, description.classes);
        if task.name() != "classification" {
            return Err(wrong("a classifier".into(), format!("{place}, a network of the task {}", task.name())));
        }
        if plan.input_shape() != shape {
            let found = format!("{place}, a network for inputs of the shape {:?}", plan.input_shape());
            return Err(wrong(format!("a network for inputs of the shape {shape:?}"), found));
        }
        if plan.output_shape() != [classes] {
            let found = format!("{place}, a network with outputs of the shape {:?}", plan.output_shape());
            return Err(wrong(format!("a network of {classes} classes"), found));
        }
        let names = (description.class_names(), task.class_names());
        let difference = names.0.zip(names.1).and_then(|(own, found)| ClassDifference::between(own, found));
        if let Some(difference) = difference {
            return Err(wrong("a network of the same classes".into(), format!("{place} with others: {difference}")));
        }
        let channels = shape.last().copied().unwrap_or(0);
        let normalize = plan.normalize().cloned().unwrap_or_else(|| Normalize::none(channels));
        let fingerprint = fingerprint(&plan)?;
        Ok(Self { net: network(&*task, plan), normalize, fingerprint })
    }

    /// Returns blake3 over the operations and numbers of the network, in hexadecimal: the same for a run and for its packed file.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Checks that a checkpoint recorded this teacher.
    ///
    /// # Errors
    /// It recorded another one, or none.
    pub(super) fn check_recorded(&self, place: &str, recorded: Option<&str>) -> Result<()> {
        if recorded == Some(&self.fingerprint) {
            return Ok(());
        }
        let short = |print: &str| print.chars().take(12).collect::<String>();
        let began = recorded.map_or_else(|| "none".into(), short);
        let expected = format!("the network that the run began with ({began}, in {place})");
        Err(wrong(expected, format!("another one ({}); put the first one back", short(&self.fingerprint))))
    }

    /// Computes the probabilities of the classes, [N, classes], for inputs that were normalized by `normalize`. Where the teacher
    /// knows another normalization, it sees the pixels by its own.
    ///
    /// # Errors
    /// The inputs have another shape; or an output is not finite.
    pub fn probabilities(&self, inputs: &Tensor, normalize: &Normalize) -> Result<Tensor> {
        let mut inputs = inputs.clone();
        if *normalize != self.normalize {
            for pixel in inputs.data_mut().chunks_exact_mut(normalize.mean().len().max(1)) {
                let of = normalize.mean().iter().zip(normalize.std());
                pixel.iter_mut().zip(of).for_each(|(x, (mean, std))| *x = *x * std + mean);
            }
            inputs = self.normalize.apply(&inputs)?;
        }
        let mut store = Store::seeded(0);
        let mut g = Graph::eval(&mut store);
        let x = g.input(inputs);
        let logits = self.net.forward(&mut g, &x)?;
        check_finite(&logits.tensor(), 0.0, 0).map_err(|e| Error::from(e).within(KEY))?;
        Ok(g.softmax(&logits, 1)?.tensor())
    }
}

/// The task and the operations of the network in a place.
fn opened(place: &Path) -> Result<(Arc<dyn Task>, Plan)> {
    let path = existing_checkpoint(place)?;
    if let Some(packed) = Packed::open(&path)? {
        return Ok((packed.task().clone(), packed.plan().clone()));
    }
    // Not the one before it where this one is damaged: a teacher of other weights would be another one.
    let checkpoint = Checkpoint::open(&path)?;
    let mut trained = Trained::open(&config_of(&checkpoint)?, &checkpoint)?;
    let plan = trained.plan()?;
    Ok((trained.task().clone(), plan))
}

fn fingerprint(plan: &Plan) -> Result<String> {
    let (arrays, operations) = packed::contents(plan)?;
    let mut hash = blake3::Hasher::new();
    hash.update(operations.as_bytes());
    for (name, array) in &arrays {
        hash.update(name.as_bytes());
        let bytes: Vec<u8> = match array {
            Array::F32(t) => {
                t.shape().iter().for_each(|&length| {
                    hash.update(&(length as u64).to_le_bytes());
                });
                t.data().iter().flat_map(|v| v.to_le_bytes()).collect()
            }
            Array::U64(v) => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Array::I64(v) => v.to_le_bytes().to_vec(),
        };
        hash.update(&bytes);
    }
    Ok(hash.finalize().to_hex().to_string())
}
