//! Quantizers and exact integer products on arrays.

use crate::arrays::{self, dense, is_bytes, owned};
use crate::errors::{ConfigError, DataError, Failure, Result};
use crate::pool::compute;
use crate::rules;
use fixnet::autograd::Array;
use fixnet::kernel::{self, Isa, available_isas, isa, set_isa};
use fixnet::quant::{GradientQuantizer, Rounding, Rule};
use fixnet::tensor::rng::Stream;
use fixnet::tensor::{Buffer, Codes, Range, Turned, map, matmul};
use numpy::{PyArrayDescrMethods, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Levels with the real value of one.
type Levels<'py> = (Bound<'py, PyAny>, f32);

/// The domain of the noise of arrays that Python quantizes.
const NOISE: u32 = 0x5059;

fn range(bits: u8, levels: &str) -> Result<Range> {
    let range = match levels {
        "unsigned" => Range::unsigned(bits),
        "symmetric" => Range::symmetric(bits),
        "twos_complement" => Range::twos_complement(bits),
        odd => {
            let text = format!("levels: expected unsigned, symmetric or twos_complement, found {odd}");
            return Err(Failure::Python(ConfigError::new_err(text)));
        }
    };
    Ok(range?)
}

/// Codes as an array of levels: bytes, with a sign where there are negative levels.
fn levels<'py>(py: Python<'py>, codes: &Codes) -> PyResult<Levels<'py>> {
    let zero = codes.zero();
    let array = match zero {
        0 => owned(py, codes.shape(), codes.bytes().to_vec())?.into_any(),
        _ => {
            let signed = codes.bytes().iter().map(|&byte| (i32::from(byte) - i32::from(zero)) as i8).collect();
            owned::<i8>(py, codes.shape(), signed)?.into_any()
        }
    };
    Ok((array, codes.scale()))
}

/// Quantizes to the nearest level, ties to even: `level = clip(x / scale, lowest, highest)`.
#[pyfunction]
#[pyo3(signature = (x, bits, scale = None, levels = "symmetric"))]
pub(crate) fn quantize<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    bits: u8,
    scale: Option<f32>,
    levels: &str,
) -> PyResult<Levels<'py>> {
    let x = dense::<f32>("x", x)?;
    let (shape, data) = (x.shape().to_vec(), x.data()?);
    let codes = compute(py, || {
        let range = range(bits, levels)?;
        let top = map::max_abs(data);
        if !top.is_finite() {
            return Err(Failure::Python(DataError::new_err(
                "x: expected finite numbers, found a NaN or an infinite one",
            )));
        }
        let scale = scale.unwrap_or_else(|| if top > 0.0 { top / range.max() as f32 } else { 1.0 });
        let per_unit = 1.0 / scale;
        if !(scale > 0.0 && scale.is_finite() && per_unit.is_finite()) {
            let text =
                format!("scale: expected a number above 0 that floats of 32 bits can divide by, found {scale:e}");
            return Err(Failure::Python(ConfigError::new_err(text)));
        }
        let mut bytes = Buffer::take(data.len());
        match range.is_sign() {
            true => map::map1(data, &mut bytes, |&x| if x < 0.0 { 0 } else { 2 }),
            false => map::quantize(data, per_unit, range.min() as f32, range.max() as f32, range.zero(), &mut bytes),
        }
        Ok(Codes::new(&shape, range, scale, bytes)?)
    })?;
    self::levels(py, &codes)
}

/// Quantizes a gradient as a layer does in training (METHOD 2), by a rule that has seen no other gradient.
#[pyfunction]
#[pyo3(signature = (g, bits, rule, rounding = "stochastic", seed = 0))]
pub(crate) fn quantize_gradient<'py>(
    py: Python<'py>,
    g: &Bound<'py, PyAny>,
    bits: u8,
    rule: &Bound<'py, PyAny>,
    rounding: &str,
    seed: u64,
) -> PyResult<(Bound<'py, PyAny>, f32, f32)> {
    let mut quantizer = quantizer(bits, rule, rounding)?;
    let g = dense::<f32>("g", g)?;
    let (shape, data) = (g.shape().to_vec(), g.data()?);
    let result = compute(py, || {
        let g = arrays::tensor("g", &shape, data)?;
        if g.is_empty() {
            return Err(Failure::Python(DataError::new_err("g: expected at least one gradient, found none")));
        }
        let codes = quantizer.quantize(&g, Stream::new(seed, NOISE, 0, 0), "g", 0)?;
        Ok((codes, quantizer.gamma()))
    });
    if let Some(e) = rules::raised() {
        return Err(e);
    }
    let (codes, gamma) = result?;
    let (levels, scale) = levels(py, &codes)?;
    Ok((levels, scale, gamma))
}

fn quantizer(bits: u8, rule: &Bound<'_, PyAny>, rounding: &str) -> PyResult<GradientQuantizer> {
    let text: String = if rule.hasattr("gamma")? { rules::registered(rule)? } else { rule.extract()? };
    let read = || -> Result<GradientQuantizer> {
        let rule: Rule = text.parse()?;
        let rounding: Rounding = rounding.parse()?;
        Ok(GradientQuantizer::new(bits, &rule, rounding)?)
    };
    Ok(read()?)
}

/// An operand of a product: whole numbers of at most 8 bits.
fn operand(what: &str, value: &Bound<'_, PyAny>, bits: u8) -> PyResult<Codes> {
    let made = match is_bytes(value) {
        true => {
            let array = dense::<u8>(what, value)?;
            let (shape, data) = (array.shape().to_vec(), array.data()?);
            let make = || -> Result<Codes> {
                let mut bytes = Buffer::take(data.len());
                bytes.copy_from_slice(data);
                Ok(Codes::new(&shape, Range::unsigned(bits)?, 1.0, bytes)?)
            };
            make()
        }
        false => {
            let array = exact(what, value)?;
            let (shape, data) = (array.shape().to_vec(), array.data()?);
            let make = || -> Result<Codes> {
                let range = match bits {
                    1 => Range::symmetric(1)?,
                    bits => Range::twos_complement(bits)?,
                };
                let (low, high) = (range.min(), range.max());
                let wide = data.iter().find(|&&v| i32::from(v) < low || i32::from(v) > high);
                if let Some(wide) = wide {
                    let text = format!("{what}: expected levels of {bits} bits, {low} to {high}, found {wide}");
                    return Err(Failure::Python(DataError::new_err(text)));
                }
                let mut bytes = Buffer::take(data.len());
                map::map1(data, &mut bytes, |&v| (i32::from(v) - low) as u8);
                Ok(Codes::new(&shape, range, 1.0, bytes)?)
            };
            make()
        }
    };
    Ok(made?)
}

/// An array of signed bytes; numbers of other types are not rounded or cut to it.
fn exact<'py>(what: &str, value: &Bound<'py, PyAny>) -> PyResult<arrays::Dense<'py, i8>> {
    if let Ok(array) = value.cast::<numpy::PyUntypedArray>()
        && !array.dtype().is_equiv_to(&numpy::dtype::<i8>(value.py()))
    {
        let found = array.dtype().str()?.to_string();
        return Err(DataError::new_err(format!("{what}: expected an array of int8 or uint8, found one of {found}")));
    }
    dense(what, value)
}

/// The exact product of arrays of levels, `[.., M, K]` by `[.., K, N]`.
#[pyfunction]
#[pyo3(signature = (a, b, a_bits = 8, b_bits = 8))]
pub(crate) fn matmul_codes<'py>(
    py: Python<'py>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
    a_bits: u8,
    b_bits: u8,
) -> PyResult<Bound<'py, PyAny>> {
    let (a, b) = (operand("a", a, a_bits)?, operand("b", b, b_bits)?);
    let sums = compute(py, || {
        let sums = matmul(&a, &b, Turned::Neither)?;
        Ok((sums.shape().to_vec(), sums.to_vec()))
    })?;
    Ok(owned(py, &sums.0, sums.1)?.into_any())
}

/// Returns the kernels of integer products that this machine can run, the best first.
#[pyfunction]
pub(crate) fn kernels(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let chosen = [(15, 7), (255, 127)].map(|(left, right)| kernel::select(left, right).name);
    let row = |kernel: &kernel::Kernel| {
        let row = PyDict::new(py);
        row.set_item("name", kernel.name)?;
        row.set_item("isa", kernel.isa.to_string())?;
        row.set_item("allowed", isa().allows(kernel.isa))?;
        row.set_item("used_for_4_bits", kernel.name == chosen[0])?;
        row.set_item("used_for_8_bits", kernel.name == chosen[1])?;
        Ok(row)
    };
    kernel::all().iter().map(row).collect()
}

/// Returns the instruction sets of this machine, the plainest first.
#[pyfunction]
pub(crate) fn instruction_sets() -> Vec<String> {
    available_isas().iter().map(ToString::to_string).collect()
}

/// Returns the instruction set in force.
#[pyfunction]
pub(crate) fn get_isa() -> String {
    isa().to_string()
}

/// Caps the instruction set; results do not depend on it.
#[pyfunction(name = "set_isa")]
pub(crate) fn cap_isa(name: &str) -> PyResult<()> {
    let cap = || -> Result<()> { Ok(name.parse::<Isa>().and_then(set_isa)?) };
    Ok(cap()?)
}

/// A gradient quantizer, whose rule moves from gradient to gradient as in the training of a layer.
#[pyclass(module = "fixnet")]
pub(crate) struct GradientState {
    quantizer: std::sync::Mutex<GradientQuantizer>,
    seed: u64,
    step: u64,
}

#[pymethods]
impl GradientState {
    #[new]
    #[pyo3(signature = (bits, rule, rounding = "stochastic", seed = 0))]
    fn new(bits: u8, rule: &Bound<'_, PyAny>, rounding: &str, seed: u64) -> PyResult<Self> {
        Ok(Self { quantizer: quantizer(bits, rule, rounding)?.into(), seed, step: 0 })
    }

    /// The clipping factor of the next gradient.
    #[getter]
    fn gamma(&mut self) -> f32 {
        self.quantizer.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).gamma()
    }

    /// Quantizes the gradient of a step; the rule moves. Returns levels and the real value of one.
    fn quantize<'py>(&mut self, py: Python<'py>, g: &Bound<'py, PyAny>) -> PyResult<Levels<'py>> {
        let g = dense::<f32>("g", g)?;
        let (shape, data) = (g.shape().to_vec(), g.data()?);
        let noise = Stream::new(self.seed, NOISE, 0, self.step as u32);
        let (quantizer, step) =
            (self.quantizer.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner), self.step);
        let codes = compute(py, || {
            let g = arrays::tensor("g", &shape, data)?;
            if g.is_empty() {
                return Err(Failure::Python(DataError::new_err("g: expected at least one gradient, found none")));
            }
            Ok(quantizer.quantize(&g, noise, "g", step)?)
        });
        if let Some(e) = rules::raised() {
            return Err(e);
        }
        let codes = codes?;
        self.step += 1;
        levels(py, &codes)
    }

    /// The state of the rule.
    fn state_dict<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        use fixnet::autograd::State;
        let saved: Vec<(&'static str, Array)> =
            self.quantizer.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).save();
        let dict = PyDict::new(py);
        for (name, array) in &saved {
            dict.set_item(name, arrays::state(py, array)?)?;
        }
        Ok(dict)
    }
}
