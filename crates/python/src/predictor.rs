//! A trained network that answers about arrays, files and folders.

use crate::arrays::{dense, is_bytes, owned};
use crate::errors::{DataError, Failure, Result};
use crate::pool::compute;
use crate::weights;
use fixnet::data::{Image, Sample, Sequence};
use fixnet::train::task::{Answer, Task};
use fixnet::train::{Exported, Predictor as Inner, Session};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::path::PathBuf;
use std::sync::Arc;

/// A trained network that answers about samples. Several threads may ask at a time.
#[pyclass(module = "fixnet._fixnet", frozen)]
pub(crate) struct Predictor {
    inner: Inner,
    /// The packed network in a file, for pickles.
    packed: Option<Exported>,
    path: Option<(PathBuf, bool)>,
}

impl Predictor {
    /// The network of a session as it is now.
    pub(crate) fn of_session(session: &mut Session<'_>, task: Arc<dyn Task>) -> Result<Self> {
        let exported = Exported::of_session(session)?;
        Ok(Self { inner: Inner::new(task, exported.plan()), packed: Some(exported), path: None })
    }

    /// The samples of an array or a list of arrays.
    fn samples(&self, x: &Bound<'_, PyAny>) -> PyResult<Vec<Sample>> {
        let shape = &self.inner.form().shape;
        if x.cast::<PyList>().is_ok() && shape.len() == 3 {
            let all = x.try_iter()?.map(|x| self.samples_of(&x?, shape.len()));
            return Ok(all.collect::<PyResult<Vec<_>>>()?.concat());
        }
        self.samples_of(x, shape.len())
    }

    /// Samples of so many axes: an array of one axis more holds several, one of as many axes is one sample.
    fn samples_of(&self, x: &Bound<'_, PyAny>, axes: usize) -> PyResult<Vec<Sample>> {
        let samples = match is_bytes(x) && axes == 3 {
            true => {
                let array = dense::<u8>("x", x)?;
                images(array.shape(), array.data()?, self.inner.form().shape[2])
            }
            false => {
                let array = dense::<f32>("x", x)?;
                floats(array.shape(), array.data()?, &self.inner.form().shape)
            }
        };
        Ok(samples?)
    }
}

fn wrong(expected: &str, found: &[usize]) -> Failure {
    Failure::Python(DataError::new_err(format!("x: expected {expected}, found an array of shape {found:?}")))
}

/// Images [N, H, W, C], [N, H, W], [H, W, C] or [H, W] of bytes.
fn images(shape: &[usize], data: &[u8], channels: usize) -> Result<Vec<Sample>> {
    let image = match *shape {
        [h, w] => [h, w, 1],
        [_, h, w] if channels == 1 => [h, w, 1],
        [h, w, c] => [h, w, c],
        [_, h, w, c] => [h, w, c],
        _ => return Err(wrong("images [N, H, W, C] or [N, H, W]", shape)),
    };
    let bytes = image.iter().product::<usize>();
    if bytes == 0 {
        return if shape[0] == 0 { Ok(Vec::new()) } else { Err(wrong("images with pixels", shape)) };
    }
    data.chunks_exact(bytes).map(|bytes| Ok(Image::new(image, bytes.to_vec())?.into())).collect()
}

/// Rows, sequences, or images of floats from 0 to 1, which are kept in 256 steps as those of a file are.
fn floats(shape: &[usize], data: &[f32], form: &[usize]) -> Result<Vec<Sample>> {
    if let Some(at) = data.iter().position(|v| !v.is_finite()) {
        let text = format!("x: expected finite numbers, found {} at element {at}", data[at]);
        return Err(Failure::Python(DataError::new_err(text)));
    }
    match *form {
        [columns] => match *shape {
            [n] if n == columns => Ok(vec![Sample::Row(data.into())]),
            [_, n] if n == columns && n > 0 => Ok(data.chunks_exact(n).map(|row| Sample::Row(row.into())).collect()),
            _ => Err(wrong(&format!("rows [N, {columns}]"), shape)),
        },
        [_, channels] => match *shape {
            [t, c] if c == channels => Ok(vec![Sequence::new([t, c], data.to_vec())?.into()]),
            [_, t, c] if c == channels && t * c > 0 => {
                data.chunks_exact(t * c).map(|v| Ok(Sequence::new([t, c], v.to_vec())?.into())).collect()
            }
            _ => Err(wrong(&format!("sequences [N, T, {channels}]"), shape)),
        },
        _ => {
            if let Some(odd) = data.iter().find(|v| !(0.0..=1.0).contains(*v)) {
                let text = format!("x: expected images of uint8, or of floats from 0 to 1, found {odd}");
                return Err(Failure::Python(DataError::new_err(text)));
            }
            let bytes: Vec<u8> = data.iter().map(|v| (v * 255.0).round_ties_even() as u8).collect();
            images(shape, &bytes, form[2])
        }
    }
}

/// An answer as an object of Python.
fn answer<'py>(py: Python<'py>, answer: &Answer) -> PyResult<Bound<'py, PyAny>> {
    Ok(match answer {
        Answer::Classes(all) | Answer::Numbers(all) => {
            let dict = PyDict::new(py);
            all.iter().try_for_each(|(name, value)| dict.set_item(name, value))?;
            dict.into_any()
        }
        Answer::Picture(picture) => {
            let image = Image::from(picture);
            owned(py, &image.shape(), image.bytes().to_vec())?.into_any()
        }
        Answer::Objects(objects) => {
            let list = PyList::empty(py);
            for (name, found) in objects {
                let dict = PyDict::new(py);
                dict.set_item("name", name)?;
                dict.set_item("score", found.score)?;
                let b = found.bbox;
                dict.set_item("box", (b.x1, b.y1, b.x2, b.y2))?;
                list.append(dict)?;
            }
            list.into_any()
        }
        _ => return Err(DataError::new_err("the answers of this task have no form in Python")),
    })
}

#[pymethods]
impl Predictor {
    /// Loads the folder of a run, a checkpoint, or a packed network.
    #[new]
    #[pyo3(signature = (path, best = false))]
    fn new(py: Python<'_>, path: PathBuf, best: bool) -> PyResult<Self> {
        compute(py, || {
            let inner = if best { Inner::load_best(&path)? } else { Inner::load(&path)? };
            Ok(Self { inner, packed: None, path: Some((path, best)) })
        })
    }

    /// The shape of a sample.
    #[getter]
    fn input_shape(&self) -> Vec<usize> {
        self.inner.form().shape.clone()
    }

    /// The name of the task.
    #[getter]
    fn task(&self) -> &'static str {
        self.inner.task().name()
    }

    /// The names of the classes, where there are classes.
    #[getter]
    fn class_names(&self) -> Option<Vec<String>> {
        let named = self.inner.task().class_names().map(<[String]>::to_vec);
        let count = self.inner.task().classes().filter(|_| self.inner.task().name() == "classification");
        named.or_else(|| count.map(|n| (0..n).map(|k| k.to_string()).collect()))
    }

    /// What the user should know.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.inner.notes().to_vec()
    }

    /// Answers about samples: the probabilities of classes or the numbers of each as one array, [N, K]; `None` for tasks with other
    /// answers.
    fn table<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (samples, names) = (self.samples(x)?, self.class_names());
        let found = compute(py, || {
            let answers = self.inner.predict_all(&samples)?;
            let mut values = Vec::new();
            for answer in &answers {
                match answer {
                    Answer::Classes(all) => {
                        let first = values.len();
                        values.resize(first + all.len(), 0.0);
                        for (name, p) in all {
                            let at = names.as_ref().and_then(|names| names.iter().position(|known| known == name));
                            values[first + at.unwrap_or(0)] = *p;
                        }
                    }
                    Answer::Numbers(all) => values.extend(all.iter().map(|(_, value)| *value)),
                    _ => return Ok(None),
                }
            }
            Ok(Some((answers.len(), values)))
        })?;
        let Some((count, values)) = found else { return Ok(None) };
        let columns = match count {
            0 => names.map_or(1, |names| names.len()),
            count => values.len() / count,
        };
        Ok(Some(owned(py, &[count, columns], values)?.into_any()))
    }

    /// Answers about samples, one object for each.
    fn answers<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let samples = self.samples(x)?;
        let answers = compute(py, || Ok(self.inner.predict_all(&samples)?))?;
        answers.iter().map(|one| answer(py, one)).collect()
    }

    /// Answers about files and folders: pairs of a name and an answer.
    fn files<'py>(&self, py: Python<'py>, paths: Vec<PathBuf>) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
        let found = compute(py, || {
            let mut inputs = self.inner.inputs();
            for path in &paths {
                inputs.add(path)?;
            }
            let answers = self.inner.answers(&inputs);
            answers.map(|one| Ok((inputs.name(one.index).to_string(), one.answer?))).collect::<Result<Vec<_>>>()
        })?;
        found.into_iter().map(|(name, one)| Ok((name, answer(py, &one)?))).collect()
    }

    /// Writes the packed network, for pickles.
    fn save_packed(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        compute(py, || match (&self.packed, &self.path) {
            (Some(packed), _) => Ok(packed.write_packed(&path)?),
            (None, Some((run, best))) => Ok(weights::open(run, *best)?.write_packed(&path)?),
            (None, None) => Ok(()),
        })
    }
}
