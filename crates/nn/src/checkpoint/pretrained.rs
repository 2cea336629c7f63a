//! Pretrained weights: a model that starts from the numbers of another one, in whatever precision that was trained.

use super::TensorFile;
use crate::{Error, Result};
use fixnet_autograd::ops::RunningStats;
use fixnet_autograd::{Array, Group, State, Store};
use fixnet_data::listed;
use fixnet_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// The weights of a checkpoint, of any other `safetensors` file or of a store, to start from.
///
/// What is taken: parameters of the same name and shape, and the running statistics of batch norms. What is not: scales and
/// clipping factors of quantizers, which the new model sets from these weights and from its first batch, and the state of
/// the optimizer.
///
/// ```
/// use fixnet_autograd::Store;
/// use fixnet_nn::checkpoint::{self, Pretrained, Progress};
/// use fixnet_nn::{models, optim::{Optimizer, OptimizerConfig}};
/// use fixnet_quant::QuantConfig;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("float.safetensors");
/// let model = "mlp:16".parse()?;
/// let mut float = Store::seeded(1);
/// models::build(&mut float, &model, [8, 8, 1], 10, &QuantConfig::float())?;
/// let optimizer = Optimizer::new(OptimizerConfig::default())?;
/// checkpoint::save(&path, &float, &optimizer, &Progress::default(), &Default::default())?;
///
/// let weights = Pretrained::open(&path)?;
/// let mut store = weights.begin(Store::seeded(2));
/// let q = QuantConfig::new("2/2/32".parse()?);
/// models::build(&mut store, &model, [8, 8, 1], 10, &q)?;
/// let taken = weights.finish(&mut store)?;
/// assert!(taken.missing.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pretrained {
    floats: BTreeMap<String, Tensor>,
    /// Where they come from, for messages, and what is there.
    place: String,
    holds: Vec<String>,
    /// What stands before the names of the part of a model that they are for.
    within: &'static str,
}

/// What a model found in pretrained weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// How many parameters and statistics were taken.
    pub count: usize,
    /// What the model has and the weights lack, each with what was found in its place.
    pub missing: Vec<String>,
}

impl Pretrained {
    /// Reads the file.
    ///
    /// # Errors
    /// As [`TensorFile::weights`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::weights(path)?;
        Ok(Self::new(file.floats()).read_from(&file))
    }

    /// The weights and running statistics of a store.
    pub fn of(store: &Store) -> Self {
        let weights = store.params().iter().filter(|p| p.group() != Group::Scale);
        let mut floats: BTreeMap<_, _> = weights.map(|p| (p.name().to_string(), p.value.clone())).collect();
        for (name, stats) in store.states::<RunningStats>() {
            for (key, array) in stats.save() {
                if let Array::F32(tensor) = array {
                    floats.insert(format!("{name}.{key}"), tensor);
                }
            }
        }
        Self::new(floats)
    }

    /// Returns the tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.floats.get(name)
    }

    /// Writes them as a `safetensors` file with `metadata`, atomically and with a checksum.
    ///
    /// # Errors
    /// As [`TensorFile::save`].
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        let arrays: Vec<_> = self.floats.iter().map(|(name, t)| (name.clone(), Array::F32(t.clone()))).collect();
        TensorFile::save(path, &arrays, metadata)
    }

    /// Weights from elsewhere, under the names that the model gives them.
    pub fn new(floats: BTreeMap<String, Tensor>) -> Self {
        let holds = floats.keys().cloned().collect();
        Self { floats, place: "weights".into(), holds, within: "" }
    }

    /// Sets the file that they were read from, for messages.
    #[must_use]
    pub fn read_from(mut self, file: &TensorFile) -> Self {
        self.place = file.path().display().to_string();
        self.holds = file.header().tensors.iter().map(|t| t.name.clone()).collect();
        self
    }

    /// Says that they are for the part of a model whose names start with `prefix`, such as the body of a detector. Whether they are those of
    /// another model is told by this part, if the model has it.
    #[must_use]
    pub fn within(self, prefix: &'static str) -> Self {
        Self { within: prefix, ..self }
    }

    /// Before the model is built: its parameters will start from these values, and its quantizers from those.
    #[must_use]
    pub fn begin(&self, store: Store) -> Store {
        store.starting_from(self.floats.clone())
    }

    /// After the model is built: takes the running statistics, and returns what was found.
    ///
    /// # Errors
    /// Of the weights of convolutions and fully connected layers (of [the part](Self::within) that they are for), fewer than half are
    /// there in name and shape: these are weights of another model, and most of this one would begin at random.
    pub fn finish(&self, store: &mut Store) -> Result<Taken> {
        let mut taken = Taken { count: 0, missing: Vec::new() };
        // Normalizations and biases tell nothing: many models have some of the same name and shape.
        let (mut weights, mut fit) = (0, 0);
        let has_part = store.params().iter().any(|p| p.name().starts_with(self.within));
        let counted = if has_part { self.within } else { "" };
        for p in store.params().iter().filter(|p| p.group() != Group::Scale) {
            let weight = usize::from(p.value.shape().len() > 1 && p.name().starts_with(counted));
            weights += weight;
            let found = match self.floats.get(p.name()) {
                Some(t) if t.shape() == p.value.shape() => {
                    taken.count += 1;
                    fit += weight;
                    continue;
                }
                Some(t) => format!("found {:?}", t.shape()),
                None => "found none".into(),
            };
            taken.missing.push(format!("{} {:?} ({found})", p.name(), p.value.shape()));
        }
        if 2 * fit < weights {
            return Err(Error::OtherModel {
                place: self.place.clone(),
                fit,
                weights,
                missing: listed(&taken.missing),
                holds: listed(&self.holds),
            });
        }
        for (name, stats) in store.states_mut::<RunningStats>() {
            match stats.load(&mut |key| self.floats.get(&format!("{name}.{key}")).cloned().map(Array::F32)) {
                Ok(()) => taken.count += 1,
                Err(expected) => taken.missing.push(format!("{name}: {expected}")),
            }
        }
        Ok(taken)
    }
}
