//! A trained network as files of other programs have it, with what they say of it: its recipe, its digest, its step, its classes.

use crate::run::place::RECIPE;
use crate::{Config, Packed, Result, Session, Task, Trained};
use fixnet_autograd::{Array, Group, Store};
use fixnet_export::{class_names, onnx, packed, torch};
use fixnet_nn::checkpoint::{Pretrained, TensorFile};
use fixnet_nn::plan::Plan;
use std::collections::BTreeMap;
use std::path::Path;

/// A network that is written to files for other programs.
pub struct Exported {
    plan: Plan,
    weights: Pretrained,
    metadata: BTreeMap<String, String>,
    step: u64,
    latent: Option<String>,
}

impl Exported {
    /// The network of a session as it is now.
    ///
    /// # Errors
    /// As [`Session::plan`].
    pub fn of_session(session: &mut Session<'_>) -> Result<Self> {
        let (plan, digest) = (session.plan()?, session.digest());
        Self::new(plan, session.store(), session.task(), session.config(), digest, session.store().step())
    }

    /// The network of a checkpoint, which is of this step.
    ///
    /// # Errors
    /// As [`Trained::plan`].
    pub fn of_trained(trained: &mut Trained, config: &Config, step: u64) -> Result<Self> {
        let (plan, digest) = (trained.plan()?, trained.digest().to_string());
        Self::new(plan, trained.store(), &**trained.task(), config, digest, step)
    }

    fn new(plan: Plan, store: &Store, task: &dyn Task, config: &Config, digest: String, step: u64) -> Result<Self> {
        let mut metadata = BTreeMap::from([
            (RECIPE.to_string(), config.to_toml()?),
            ("digest".to_string(), digest),
            ("step".to_string(), step.to_string()),
        ]);
        Packed::describe(task, &mut metadata);
        let bits = config.settings().quantization.bits;
        let is_latent = store.params().iter().any(|p| p.group() == Group::Latent);
        let latent =
            is_latent.then(|| format!("latent floats of a network at {bits}, which PyTorch does not round to levels"));
        Ok(Self { plan, weights: Pretrained::of(store), metadata, step, latent })
    }

    /// Returns its operations.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns what its weights are where PyTorch computes other outputs with them.
    pub fn latent(&self) -> Option<&str> {
        self.latent.as_deref()
    }

    /// Writes an ONNX file; returns its length in bytes.
    ///
    /// # Errors
    /// An operation has no such form, or the file cannot be written.
    pub fn write_onnx(&self, path: &Path, form: onnx::Form) -> Result<u64> {
        let options = onnx::Options { form, metadata: self.metadata.clone() };
        Ok(onnx::save(path, &self.plan, &options)? as u64)
    }

    /// Writes a packed network.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_packed(&self, path: &Path) -> Result<()> {
        Ok(packed::save(path, &self.plan, &self.metadata)?)
    }

    /// Writes weights and running statistics alone, for `--init`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_weights(&self, path: &Path) -> Result<()> {
        Ok(self.weights.save(path, &self.with_class_names())?)
    }

    /// Returns the `state_dict` of the same network in PyTorch.
    ///
    /// # Errors
    /// As [`torch::state_dict`].
    pub fn torch(&self, names: torch::Names) -> Result<Vec<(String, Array)>> {
        Ok(torch::state_dict(&self.weights, &self.plan, names, self.step)?)
    }

    /// Writes that `state_dict`.
    ///
    /// # Errors
    /// As [`torch`](Self::torch); or the file cannot be written.
    pub fn write_torch(&self, path: &Path, names: torch::Names) -> Result<()> {
        let mut metadata = self.with_class_names();
        metadata.insert("format".into(), "pt".into());
        metadata.extend(self.plan.normalize().into_iter().flat_map(onnx::normalization));
        metadata.extend(self.latent.clone().map(|text| ("weights".to_string(), text)));
        Ok(TensorFile::save(path, &self.torch(names)?, &metadata)?)
    }

    /// The metadata of a file of weights, so that `--init` can tell that these are other classes.
    fn with_class_names(&self) -> BTreeMap<String, String> {
        let names = self.plan.class_names().map(class_names::to_json);
        let names = names.map(|names| (class_names::KEY.to_string(), names));
        self.metadata.clone().into_iter().chain(names).collect()
    }
}
