//! A session of the caller's own loop: steps, evaluation and saving.

use crate::arrays::{self, Dense, array, dense, is_bytes};
use crate::errors::{ConfigError, DataError, Failure, Result};
use crate::network::Spec;
use crate::pool::{compute, compute_watched};
use crate::predictor::Predictor;
use crate::settings::{self, Keys};
use crate::weights;
use crate::{rules, scores_dict, targets};
use fixnet::checkpoint::Checkpoint;
use fixnet::data::{Image, Sample};
use fixnet::export::torch;
use fixnet::tensor::Tensor;
use fixnet::train::session::{HeldData, Session as Inner, Step};
use fixnet::train::task::{self, Batch as Samples, Batches as Inside, Outside, Part, Task};
use fixnet::train::{Config, EVALUATED, Exported, run::place};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A run in memory whose loop is the caller's.
#[pyclass(module = "fixnet._fixnet")]
pub(crate) struct Session {
    inner: Mutex<Inner<'static>>,
    task: Arc<dyn Task>,
    /// The last step, and its seconds without what Python adds.
    report: Option<(Step, f64)>,
    notes: Vec<String>,
}

/// What a session is made of beside its recipe.
struct Parts {
    network: Option<Spec>,
    /// Shape, number of classes and samples of an epoch of data that only the caller has.
    outside: Option<(Vec<usize>, usize, usize)>,
}

/// Makes or restores a session.
fn open(recipe: Option<&str>, keys: &Keys, parts: Parts, checkpoint: Option<&Checkpoint>) -> Result<Session> {
    let (config, loaded, mut notes) = match checkpoint {
        Some(checkpoint) => (place::config_of(checkpoint)?, None, Vec::new()),
        None => {
            let chosen = settings::choose(recipe, keys)?;
            (chosen.config, chosen.loaded, chosen.notes)
        }
    };
    let config = match checkpoint.is_some() {
        true => keys
            .iter()
            .try_fold(config.settings().clone(), |mut settings, (key, value)| {
                settings.set(key, value.clone())?;
                Ok::<_, fixnet::Error>(settings)
            })?
            .check()?,
        false => config,
    };
    let (task, data): (Arc<dyn Task>, HeldData<'static>) = match (parts.outside, loaded) {
        (Some((shape, classes, samples)), _) => {
            let data: Arc<dyn task::Data> = Arc::new(Outside { samples });
            (task::of_shape(&config, &shape, classes)?, data.into())
        }
        (None, Some((task, data))) => (task, Arc::<dyn task::Data>::from(data).into()),
        (None, None) => {
            let (task, data) = task::load(&config)?;
            (task, Arc::<dyn task::Data>::from(data).into())
        }
    };
    let inner = match (checkpoint, parts.network) {
        (Some(checkpoint), None) => Inner::resumed(config, task.clone(), data, checkpoint, &mut notes)?,
        (Some(checkpoint), Some(spec)) => {
            let build = |store: &mut _, config: &Config| Ok(spec.build(store, config.quant())?);
            Inner::resumed_with_network(config, task.clone(), data, checkpoint, build, &mut notes)?
        }
        (None, Some(spec)) => {
            notes.extend(data.notes());
            Inner::with_network(config, task.clone(), data, |store, config| Ok(spec.build(store, config.quant())?))?
        }
        (None, None) => {
            let weights = config.settings().run.init.clone();
            let weights = weights.as_deref().map(fixnet::train::init::Weights::open).transpose()?;
            Inner::begin(config, task.clone(), data, weights.as_ref(), &mut notes)?
        }
    };
    Ok(Session { inner: Mutex::new(inner), task, report: None, notes })
}

impl Session {
    fn inner(&mut self) -> &mut Inner<'static> {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes with the session, and raises what a rule of Python raised on the way.
    fn with<T: Send>(
        &mut self,
        py: Python<'_>,
        work: impl FnOnce(&mut Inner<'static>) -> Result<T> + Send,
    ) -> PyResult<T> {
        let inner = self.inner();
        let result = compute(py, || work(inner));
        match rules::raised() {
            Some(e) => Err(e),
            None => result,
        }
    }

    /// The inputs that the network takes: floats as they are, bytes of images normalized.
    fn inputs<'py>(&self, x: &Bound<'py, PyAny>) -> PyResult<Given<'py>> {
        match is_bytes(x) {
            true => Ok(Given::Bytes(dense("x", x)?)),
            false => Ok(Given::Floats(dense("x", x)?)),
        }
    }
}

/// A step with its seconds.
fn timed(step: impl FnOnce() -> Result<Step>) -> Result<(Step, f64)> {
    let start = std::time::Instant::now();
    Ok((step()?, start.elapsed().as_secs_f64()))
}

/// Samples of the caller's.
enum Given<'py> {
    Bytes(Dense<'py, u8>),
    Floats(Dense<'py, f32>),
}

/// The same, without the interpreter.
enum Raw<'a> {
    Bytes(Vec<usize>, &'a [u8]),
    Floats(Vec<usize>, &'a [f32]),
}

impl Given<'_> {
    fn raw(&self) -> PyResult<Raw<'_>> {
        Ok(match self {
            Self::Bytes(array) => Raw::Bytes(array.shape().to_vec(), array.data()?),
            Self::Floats(array) => Raw::Floats(array.shape().to_vec(), array.data()?),
        })
    }
}

impl Raw<'_> {
    fn tensor(self, task: &dyn Task) -> Result<Tensor> {
        match self {
            Raw::Floats(shape, data) => arrays::tensor("x", &shape, data),
            Raw::Bytes(shape, data) => normalized(task, &shape, data),
        }
    }
}

/// Images of bytes as the network takes them.
fn normalized(task: &dyn Task, shape: &[usize], data: &[u8]) -> Result<Tensor> {
    let (&[_, ref image @ ..], Some(normalize)) = (shape, task.normalize()) else {
        let text = format!("x: expected images [N, H, W, C] of a task that normalizes them, found uint8 of {shape:?}");
        return Err(Failure::Python(DataError::new_err(text)));
    };
    let image: [usize; 3] = match *image {
        [h, w] => [h, w, 1],
        [h, w, c] => [h, w, c],
        _ => {
            let text = format!("x: expected images [N, H, W] or [N, H, W, C], found uint8 of {shape:?}");
            return Err(Failure::Python(DataError::new_err(text)));
        }
    };
    let bytes = image.iter().product::<usize>().max(1);
    let images = data.chunks_exact(bytes).map(|bytes| Ok(Sample::Image(Image::new(image, bytes.to_vec())?)));
    Ok(Sample::batch(&images.collect::<Result<Vec<_>>>()?, normalize)?)
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (recipe = None, keys = None, network = None, outside = None))]
    fn new(
        py: Python<'_>,
        recipe: Option<String>,
        keys: Option<&Bound<'_, PyDict>>,
        network: Option<Spec>,
        outside: Option<(Vec<usize>, usize, usize)>,
    ) -> PyResult<Self> {
        let keys = settings::keys(keys)?;
        compute(py, || open(recipe.as_deref(), &keys, Parts { network, outside }, None))
    }

    /// Restores a session from a checkpoint.
    #[staticmethod]
    #[pyo3(signature = (path, keys = None, network = None, outside = None))]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        keys: Option<&Bound<'_, PyDict>>,
        network: Option<Spec>,
        outside: Option<(Vec<usize>, usize, usize)>,
    ) -> PyResult<Self> {
        let keys = settings::keys(keys)?;
        compute(py, || {
            let path = place::existing_checkpoint_or_best(&path, false)?;
            let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
            let mut session = open(None, &keys, Parts { network, outside }, Some(&checkpoint))?;
            session.notes.extend(problem.map(|e| e.to_string()));
            Ok(session)
        })
    }

    /// Takes a step on samples of the caller's, or on a batch of this session's data; returns the mean loss.
    #[pyo3(signature = (x, y = None))]
    fn step(&mut self, py: Python<'_>, x: &Bound<'_, PyAny>, y: Option<&Bound<'_, PyAny>>) -> PyResult<f64> {
        let task = self.task.clone();
        let step = match (x.cast::<Batch>(), y) {
            (Ok(batch), None) => {
                let samples = batch.get().0.clone();
                self.with(py, |session| timed(|| Ok(session.step_on(&samples)?)))?
            }
            (_, Some(y)) => {
                let (x, y) = (self.inputs(x)?, targets::read(y)?);
                let x = x.raw()?;
                self.with(py, |session| {
                    let batch = task.batch(x.tensor(&*task)?, &y)?;
                    timed(|| Ok(session.step_on(&batch)?))
                })?
            }
            (Err(_), None) => {
                return Err(ConfigError::new_err(
                    "step: expected samples x and targets y, or a batch of session.batches()",
                ));
            }
        };
        let loss = step.0.loss;
        self.report = Some(step);
        Ok(loss)
    }

    /// Takes the steps that are left of the epoch. Ctrl-C stops it after the running step.
    fn train_epoch<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stop = AtomicBool::new(false);
        let inner = self.inner();
        let (result, error) = compute_watched(
            py,
            &stop,
            |_| Ok(()),
            || {
                while !stop.load(Ordering::Relaxed) {
                    if inner.step()?.is_none() {
                        break;
                    }
                }
                Ok(())
            },
        );
        if let Some(e) = rules::raised().or(error) {
            return Err(e);
        }
        result?;
        self.seen(py)
    }

    /// Goes on to the next epoch.
    fn next_epoch(&mut self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |session| Ok(session.next_epoch()?))
    }

    /// Returns the batches that are left of the epoch.
    fn batches(&mut self, py: Python<'_>) -> PyResult<Batches> {
        let batches = self.with(py, |session| Ok(session.epoch_batches()?))?;
        Ok(Batches(Mutex::new(batches)))
    }

    /// Evaluates on a part of the data; `None` if it has no samples.
    #[pyo3(signature = (part = "test"))]
    fn evaluate<'py>(&mut self, py: Python<'py>, part: &str) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = Part::ALL.into_iter().find(|known| known.name() == part);
        let part = found
            .ok_or_else(|| ConfigError::new_err(format!("part: expected train, validation or test, found {part}")))?;
        let stop = AtomicBool::new(false);
        let inner = self.inner();
        let (result, error) =
            compute_watched(py, &stop, |_| Ok(()), || Ok(inner.evaluate(part, || stop.load(Ordering::Relaxed))?));
        match error {
            Some(e) => Err(e),
            None => result?.map(|scores| scores_dict(py, &scores)).transpose(),
        }
    }

    /// Evaluates on samples of the caller's.
    fn evaluate_on<'py>(
        &mut self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        y: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (task, x, y) = (self.task.clone(), self.inputs(x)?, targets::read(y)?);
        let x = x.raw()?;
        let scores = self.with(py, |session| {
            let all = x.tensor(&*task)?;
            // Shapes and targets are checked as a whole; then batches are cut.
            drop(task.batch(all.clone(), &y)?);
            let size = all.len() / y.len().max(1);
            let batches = all.data().chunks(EVALUATED * size.max(1)).zip(y.chunks(EVALUATED)).map(|(x, y)| {
                let shape = [&[y.len()], &all.shape()[1..]].concat();
                task.batch(Tensor::from_vec(&shape, x.to_vec())?, y)
            });
            Ok(session.evaluate_on(batches)?)
        })?;
        scores_dict(py, &scores)
    }

    /// Returns the means over the samples that the epoch has seen so far.
    #[getter]
    fn seen<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        scores_dict(py, &self.inner().seen())
    }

    /// Returns what the optimizer did in the last step.
    #[getter]
    fn last_step<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some((step, seconds)) = &self.report else { return Ok(None) };
        let dict = PyDict::new(py);
        dict.set_item("loss", step.loss)?;
        dict.set_item("lr", step.report.lr)?;
        dict.set_item("seconds", seconds)?;
        Ok(Some(dict))
    }

    /// Writes a checkpoint.
    fn save(&mut self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.with(py, |session| Ok(session.save(&path)?))
    }

    /// Returns a network that answers about samples, as the session is now.
    fn predictor(&mut self, py: Python<'_>) -> PyResult<Predictor> {
        let task = self.task.clone();
        self.with(py, |session| Predictor::of_session(session, task))
    }

    /// Returns the arrays of the network by name.
    fn state_dict<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        weights::dict(py, self.inner().store().state_dict())
    }

    /// Takes arrays back that `state_dict` gave.
    fn load_state_dict(&mut self, py: Python<'_>, arrays: &Bound<'_, PyDict>) -> PyResult<()> {
        let arrays = weights::read(arrays)?;
        self.with(py, |session| Ok(session.parts().1.load_state_dict(|name| arrays.get(name).cloned())?))
    }

    /// Writes the network to a file of another form.
    #[pyo3(signature = (path, form, opset = None))]
    fn export(&mut self, py: Python<'_>, path: PathBuf, form: &str, opset: Option<u32>) -> PyResult<()> {
        self.with(py, |session| weights::write(&Exported::of_session(session)?, &path, form, opset))
    }

    /// Returns the weights by the names that PyTorch gives them.
    fn torch_state_dict<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let arrays = self.with(py, |session| Ok(Exported::of_session(session)?.torch(torch::Names::default())?))?;
        weights::dict(py, arrays)
    }

    /// Takes the weights of a safetensors file with the names of PyTorch.
    fn load_torch(&mut self, py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
        self.with(py, |session| weights::load_torch(session, &path))
    }

    /// Returns a table of the layers.
    fn summary(&mut self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |session| Ok(session.plan()?.summary().to_string()))
    }

    /// blake3 over all state, in hexadecimal.
    #[getter]
    fn digest(&mut self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |session| Ok(session.digest()))
    }

    /// Steps that were taken.
    #[getter]
    fn steps(&mut self) -> u64 {
        self.inner().store().step()
    }

    /// Steps of the whole run.
    #[getter]
    fn total_steps(&mut self) -> u64 {
        self.inner().total_steps()
    }

    /// Epochs that are over.
    #[getter]
    fn epoch(&mut self) -> u32 {
        self.inner().progress().epoch
    }

    /// Epochs of the whole run.
    #[getter]
    fn epochs(&mut self) -> u32 {
        self.inner().config().epochs()
    }

    /// Whether the running epoch has no step left.
    #[getter]
    fn epoch_is_over(&mut self) -> bool {
        self.inner().epoch_is_over()
    }

    /// Whether all epochs are over.
    #[getter]
    fn is_finished(&mut self) -> bool {
        self.inner().is_finished()
    }

    /// The recipe as TOML.
    #[getter]
    fn config(&mut self) -> PyResult<String> {
        let text: Result<String> = self.inner().config().to_toml().map_err(Failure::from);
        Ok(text?)
    }

    /// What the user should know.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

/// Samples of one step, as the session's data give them.
#[pyclass(module = "fixnet", frozen)]
pub(crate) struct Batch(Arc<Samples>);

#[pymethods]
impl Batch {
    /// The inputs of the network.
    #[getter]
    fn x<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(array(py, &self.0.inputs)?.into_any())
    }

    /// The targets.
    #[getter]
    fn y<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        targets::array(py, &self.0)
    }

    fn __len__(&self) -> usize {
        self.0.samples
    }

    /// Gives the inputs and the targets, so that `x, y = batch` works.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyTuple::new(py, [self.x(py)?, self.y(py)?])?.try_iter()?.into_any())
    }
}

/// Batches in their order.
#[pyclass(module = "fixnet")]
pub(crate) struct Batches(Mutex<Inside>);

#[pymethods]
impl Batches {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __len__(&mut self) -> usize {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn __next__(&mut self, py: Python<'_>) -> PyResult<Batch> {
        let batches = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let batch = compute(py, || Ok(batches.next().transpose()?))?;
        batch.map(|batch| Batch(Arc::new(batch))).ok_or_else(|| PyStopIteration::new_err(()))
    }
}
