//! Networks that Python puts together: a list of steps, each a layer or an operation on values of earlier steps.

use crate::arrays::{self, array, dense};
use crate::errors::{ConfigError, DataError, Failure, Result};
use crate::pool::compute;
use crate::rules;
use crate::weights;
use fixnet::autograd::ops::Arithmetic;
use fixnet::autograd::{Graph, Modes, Store, Var};
use fixnet::layers::*;
use fixnet::plan::Plan;
use fixnet::quant::{Precision, QuantConfig};
use fixnet::tensor::{Tensor, Window};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A setting of a layer.
#[derive(Clone, FromPyObject)]
enum Setting {
    Number(f64),
    Text(String),
}

/// A step: its kind, its name, its settings, and the values that it reads. Value 0 is the input, and step i gives value i + 1.
type Step = (String, String, BTreeMap<String, Setting>, Vec<usize>);

/// The steps of a network.
#[derive(Clone)]
pub(crate) struct Spec(Vec<Step>);

impl<'a, 'py> FromPyObject<'a, 'py> for Spec {
    type Error = PyErr;

    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(value.extract()?))
    }
}

type Made<T> = std::result::Result<T, fixnet::autograd::Error>;

/// The settings of one step, with the name of its layer for messages.
struct Settings<'a>(&'a str, &'a BTreeMap<String, Setting>);

impl Settings<'_> {
    fn number(&self, name: &str, default: Option<f64>) -> Made<f64> {
        let wrong = |found: &str| {
            let expected = format!("a number for {name}");
            fixnet::autograd::Error::setting("a layer", expected, found).in_layer(self.0)
        };
        match self.1.get(name) {
            Some(Setting::Number(number)) => Ok(*number),
            Some(Setting::Text(text)) => Err(wrong(text)),
            None => default.ok_or_else(|| wrong("none")),
        }
    }

    fn whole(&self, name: &str, default: Option<f64>) -> Made<usize> {
        let number = self.number(name, default)?;
        if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
            return Ok(number as usize);
        }
        let expected = format!("a whole number of 0 or more for {name}");
        Err(fixnet::autograd::Error::setting("a layer", expected, number).in_layer(self.0))
    }

    /// A number that a layer divides by or builds on.
    fn positive(&self, name: &str, default: Option<f64>) -> Made<usize> {
        match self.whole(name, default)? {
            0 => {
                let expected = format!("at least 1 for {name}");
                Err(fixnet::autograd::Error::setting("a layer", expected, 0).in_layer(self.0))
            }
            found => Ok(found),
        }
    }

    /// The quantization of this layer, which may have bits of its own.
    fn quant(&self, quant: &QuantConfig) -> Made<QuantConfig> {
        match self.1.get("bits") {
            Some(Setting::Text(bits)) => Ok(QuantConfig { precision: bits.parse::<Precision>()?, ..quant.clone() }),
            _ => Ok(quant.clone()),
        }
    }
}

/// The name of an operation, where the step is one.
fn arithmetic(kind: &str) -> Option<Arithmetic> {
    Some(match kind {
        "add" => Arithmetic::Add,
        "sub" => Arithmetic::Sub,
        "mul" => Arithmetic::Mul,
        "div" => Arithmetic::Div,
        _ => return None,
    })
}

fn conv(store: &mut Store, name: &str, s: &Settings<'_>, quant: &QuantConfig) -> Made<Conv2d> {
    let channels = [s.positive("in_channels", None)?, s.positive("out_channels", None)?];
    let kernel = s.positive("kernel_size", None)?;
    let window = Window {
        stride: [s.positive("stride", Some(1.0))?; 2],
        padding: [s.whole("padding", Some(0.0))?; 2],
        dilation: [s.positive("dilation", Some(1.0))?; 2],
        groups: s.positive("groups", Some(1.0))?,
    };
    let config = Conv2dConfig { window, ..Conv2dConfig::square(channels, kernel) };
    let conv = Conv2d::new(store, name, config, quant)?;
    match s.number("bias", Some(0.0))? != 0.0 {
        true => conv.output_scaled(store, quant)?.biased(store),
        false => Ok(conv),
    }
}

/// Makes the layer of a step.
fn layer(store: &mut Store, kind: &str, name: &str, s: &Settings<'_>, quant: &QuantConfig) -> Made<Box<dyn Layer>> {
    let quant = &s.quant(quant)?;
    Ok(match kind {
        "Conv2d" => Box::new(conv(store, name, s, quant)?),
        "Linear" => {
            let channels = [s.positive("in_features", None)?, s.positive("out_features", None)?];
            let made = match s.number("bias", Some(1.0))? != 0.0 {
                true => Linear::quantized(store, name, channels, quant)?,
                false => Linear::unbiased(store, name, channels, quant)?,
            };
            Box::new(made.output_scaled(store, quant)?)
        }
        "BatchNorm2d" => {
            let numbers = [s.number("eps", Some(1e-5))? as f32, s.number("momentum", Some(0.1))? as f32];
            Box::new(BatchNorm2d::with(store, name, s.positive("num_features", None)?, numbers)?)
        }
        "LayerNorm" => {
            let eps = s.number("eps", Some(1e-5))? as f32;
            Box::new(LayerNorm::with(store, name, s.positive("normalized_shape", None)?, eps)?)
        }
        "ReLU" => Box::new(Relu),
        "Clamp" => {
            let (low, high) = (s.number("low", None)? as f32, s.number("high", None)? as f32);
            fixnet::autograd::ops::Clamp::new(low, high)?;
            Box::new(Clamp { low, high })
        }
        "LeakyReLU" => Box::new(LeakyRelu { slope: s.number("slope", Some(0.01))? as f32 }),
        "GELU" => Box::new(Gelu),
        "Sigmoid" => Box::new(Sigmoid),
        "Tanh" => Box::new(Tanh),
        "Softmax" => Box::new(Softmax { axis: s.whole("axis", None)? }),
        "Dropout" => Box::new(Dropout::new(name, s.number("p", Some(0.5))? as f32)?),
        "Flatten" => Box::new(Flatten),
        "GlobalAvgPool2d" => Box::new(GlobalAvgPool2d),
        "MaxPool2d" => {
            let size = s.positive("kernel_size", None)?;
            let (stride, padding) = (s.positive("stride", Some(size as f64))?, s.whole("padding", Some(0.0))?);
            Box::new(MaxPool2d { size, stride, padding })
        }
        "AvgPool2d" => {
            let size = s.positive("kernel_size", None)?;
            Box::new(AvgPool2d { size, stride: s.positive("stride", Some(size as f64))? })
        }
        "PixelShuffle" => Box::new(PixelShuffle { factor: s.positive("factor", None)? }),
        "BasicBlock" => {
            let channels = [s.positive("in_channels", None)?, s.positive("out_channels", None)?];
            Box::new(BasicBlock::new(store, name, channels, s.positive("stride", Some(1.0))?, quant)?)
        }
        "TransformerBlock" => {
            let width = s.positive("width", None)?;
            let sizes = TransformerConfig {
                width,
                heads: s.positive("heads", None)?,
                hidden: s.positive("hidden", Some(4.0 * width as f64))?,
                eps: s.number("eps", Some(1e-5))? as f32,
                deviation: s.number("deviation", Some(0.02))? as f32,
                drop_path: s.number("drop_path", Some(0.0))? as f32,
            };
            Box::new(TransformerBlock::new(store, name, sizes, quant)?)
        }
        odd => return Err(fixnet::autograd::Error::setting("a layer", "one of fixnet.nn", odd)),
    })
}

impl Spec {
    /// Builds the network; its parameters go into the store.
    pub(crate) fn build(&self, store: &mut Store, quant: &QuantConfig) -> Made<Box<dyn Layer>> {
        let mut network = fixnet::layers::Network::new();
        for (kind, name, settings, inputs) in &self.0 {
            let one = || inputs.first().copied().unwrap_or(0);
            let settings = Settings(name, settings);
            match (arithmetic(kind), kind.as_str(), &inputs[..]) {
                (Some(op), _, [a, b]) => {
                    network.operation(name, Arc::new(op), vec![Operand::Value(*a), Operand::Value(*b)])?
                }
                (None, "matmul", [a, b]) => {
                    let quant = settings.quant(quant)?;
                    let transposed = settings.number("transposed", Some(0.0))? != 0.0;
                    let product = Matmul::new(store, name, transposed, [None; 2], &quant)?;
                    network.matmul(product, [*a, *b])?
                }
                _ => network.layer(layer(store, kind, name, &settings, quant)?, one())?,
            };
        }
        Ok(Box::new(network))
    }
}

/// A network with its parameters: what Python runs and differentiates itself.
#[pyclass(module = "fixnet._fixnet")]
pub(crate) struct Network {
    inner: Mutex<(Store, Box<dyn Layer>)>,
    input: Vec<usize>,
}

impl Network {
    fn inner(&mut self) -> &mut (Store, Box<dyn Layer>) {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T: Send>(
        &mut self,
        py: Python<'_>,
        work: impl FnOnce(&mut Store, &dyn Layer) -> Result<T> + Send,
    ) -> PyResult<T> {
        let (store, layer) = self.inner();
        let layer = &**layer;
        let result = compute(py, || work(store, layer));
        rules::raised().map_or(result, Err)
    }

    /// That samples have the shape for which the network was built.
    fn check(&self, shape: &[usize]) -> PyResult<()> {
        if shape.len() == self.input.len() + 1 && shape[1..] == self.input[..] && shape[0] > 0 {
            return Ok(());
        }
        let text = format!("x: expected samples of shape {:?}, [N, ...], found an array of {shape:?}", self.input);
        Err(crate::errors::ShapeError::new_err(text))
    }
}

/// The loss of an output, by its name.
fn loss(g: &mut Graph<'_>, output: &Var, kind: &str, shape: &[usize], targets: &[f64]) -> Result<Var> {
    let floats = |g: &mut Graph<'_>| -> Result<Var> {
        let values: Vec<f32> = targets.iter().map(|&v| v as f32).collect();
        let target = arrays::tensor("targets", shape, &values)?;
        Ok(g.input(match target.len() == output.shape().iter().product::<usize>() {
            true => target.reshape(output.shape())?,
            false => target,
        }))
    };
    Ok(match kind {
        "cross_entropy" if shape.len() == 1 => {
            if let Some(odd) = targets.iter().find(|v| v.fract() != 0.0 || **v < 0.0) {
                let text = format!("targets: expected classes from 0 on, found {odd}");
                return Err(Failure::Python(DataError::new_err(text)));
            }
            let classes: Vec<usize> = targets.iter().map(|&v| v as usize).collect();
            g.cross_entropy(output, &classes)?
        }
        "cross_entropy" => {
            let target = floats(g)?.tensor();
            g.cross_entropy_soft(output, &target)?
        }
        "mse" => {
            let target = floats(g)?;
            g.mse_loss(output, &target)?
        }
        "l1" => {
            let target = floats(g)?;
            g.l1_loss(output, &target)?
        }
        odd => {
            let text = format!("loss: expected cross_entropy, mse or l1, found {odd}");
            return Err(Failure::Python(ConfigError::new_err(text)));
        }
    })
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (spec, input_shape, keys = None, seed = 1))]
    fn new(
        py: Python<'_>,
        spec: Spec,
        input_shape: Vec<usize>,
        keys: Option<&Bound<'_, PyDict>>,
        seed: u64,
    ) -> PyResult<Self> {
        let keys = crate::settings::keys(keys)?;
        compute(py, || {
            let config = crate::settings::choose(Some("digits"), &keys)?.config;
            let mut store = Store::seeded(seed);
            let layer = spec.build(&mut store, config.quant())?;
            // What does not fit is known now, not at the first sample.
            Plan::of(&*layer, &mut store, &input_shape)?;
            Ok(Self { inner: Mutex::new((store, layer)), input: input_shape })
        })
    }

    /// Runs the network: in evaluation, or in training as a step does.
    #[pyo3(signature = (x, training = false))]
    fn forward<'py>(&mut self, py: Python<'py>, x: &Bound<'py, PyAny>, training: bool) -> PyResult<Bound<'py, PyAny>> {
        let x = dense::<f32>("x", x)?;
        let (shape, data) = (x.shape().to_vec(), x.data()?);
        self.check(&shape)?;
        let output = self.with(py, |store, layer| {
            let modes = if training { Modes { record: false, ..Modes::TRAIN } } else { Modes::EVAL };
            let mut g = Graph::with_modes(store, modes);
            let x = g.input(arrays::tensor("x", &shape, data)?);
            Ok(layer.forward(&mut g, &x)?.tensor())
        })?;
        Ok(array(py, &output)?.into_any())
    }

    /// Computes the loss and its gradients.
    #[pyo3(signature = (x, targets, loss = "cross_entropy"))]
    fn gradients<'py>(
        &mut self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        targets: &Bound<'py, PyAny>,
        loss: &str,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (x, targets) = (dense::<f32>("x", x)?, dense::<f64>("targets", targets)?);
        let (shape, data) = (x.shape().to_vec(), x.data()?);
        let (form, targets) = (targets.shape().to_vec(), targets.data()?);
        self.check(&shape)?;
        let (value, gradients) = self.with(py, |store, layer| {
            store.zero_grad();
            let mut g = Graph::train(store);
            let x = g.input(arrays::tensor("x", &shape, data)?);
            let output = layer.forward(&mut g, &x)?;
            let loss = self::loss(&mut g, &output, loss, &form, targets)?;
            let value = loss.tensor().item();
            drop((x, output));
            g.backward(loss)?;
            let ids: Vec<_> = store.ids().collect();
            let mut all: Vec<(String, Tensor)> = Vec::new();
            for id in ids {
                let name = store.param(id).name().to_string();
                all.extend(store.take_grad(id).map(|gradient| (name, gradient)));
            }
            // The next gradients have noise of their own.
            store.advance();
            Ok((value, all))
        })?;
        let dict = PyDict::new(py);
        for (name, gradient) in &gradients {
            dict.set_item(name, array(py, gradient)?)?;
        }
        PyTuple::new(py, [value.into_pyobject(py)?.into_any(), dict.into_any()])
    }

    /// Returns the arrays of the network by name.
    fn state_dict<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        weights::dict(py, self.inner().0.state_dict())
    }

    /// Takes arrays back that `state_dict` gave.
    fn load_state_dict(&mut self, py: Python<'_>, arrays: &Bound<'_, PyDict>) -> PyResult<()> {
        let arrays = weights::read(arrays)?;
        self.with(py, |store, _| Ok(store.load_state_dict(|name| arrays.get(name).cloned())?))
    }

    /// Returns a table of the layers.
    fn summary(&mut self, py: Python<'_>) -> PyResult<String> {
        let input = self.input.clone();
        self.with(py, |store, layer| Ok(Plan::of(layer, store, &input)?.summary().to_string()))
    }
}
