//! How an operation is written down: its settings as JSON, its numbers as arrays under names.

use crate::{Array, Error, Result};
use fixnet_tensor::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The settings of an operation, as a JSON object.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// Returns the fields of a struct as [`Settings`]; those of a type without named fields are empty.
pub fn settings_of(value: &impl Serialize) -> Settings {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(settings)) => settings,
        _ => Settings::new(),
    }
}

/// A parameter of an operation: an array that training moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name within the layer, such as `weight`.
    pub name: String,
    /// The lengths of the axes.
    pub shape: Vec<usize>,
    /// Bits per number: 32 for floats.
    pub bits: u8,
}

impl Parameter {
    /// Describes a parameter of floats.
    pub fn float(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), bits: 32 }
    }

    /// Returns the number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the bytes that the elements take when they are packed to their bits.
    pub fn bytes(&self) -> usize {
        (self.count() * usize::from(self.bits)).div_ceil(8)
    }
}

/// Why an operation cannot leave the program yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What a file needs.
    pub expected: &'static str,
    /// What there is.
    pub found: String,
}

/// The settings and arrays of one operation in a file, from which it is read back.
pub struct Stored<'a> {
    name: &'a str,
    settings: &'a Settings,
    arrays: &'a dyn Fn(&str) -> Option<Array>,
}

impl<'a> Stored<'a> {
    /// Describes an operation that is called `name` in messages. `arrays` gives the array of a name such as `weight`.
    pub fn new(name: &'a str, settings: &'a Settings, arrays: &'a dyn Fn(&str) -> Option<Array>) -> Self {
        Self { name, settings, arrays }
    }

    /// Returns the error that a part has another form.
    pub fn misfit(&self, part: &str, expected: impl ToString, found: impl ToString) -> Error {
        let part = format!("`{}.{part}`", self.name);
        Error::Stored { part, expected: expected.to_string(), found: found.to_string() }
    }

    /// Returns all settings as a struct that has them as fields.
    ///
    /// # Errors
    /// A setting is missing or has another form.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let value = serde_json::Value::Object(self.settings.clone());
        serde_json::from_value(value).map_err(|e| self.misfit("settings", "those of the operation", e))
    }

    /// Returns whether there is a setting of this name.
    pub fn has(&self, key: &str) -> bool {
        self.settings.contains_key(key)
    }

    /// Returns one setting, if it is there.
    ///
    /// # Errors
    /// It has another form.
    pub fn setting<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let value = self.settings.get(key).cloned();
        value.map(serde_json::from_value).transpose().map_err(|e| self.misfit(key, "a setting of the operation", e))
    }

    /// Returns an array, if it is there.
    pub fn array(&self, part: &str) -> Option<Array> {
        (self.arrays)(part)
    }

    /// Returns an array of floats.
    ///
    /// # Errors
    /// There is none.
    pub fn floats(&self, part: &str) -> Result<Tensor> {
        match self.array(part) {
            Some(Array::F32(t)) => Ok(t),
            _ => Err(self.misfit(part, "floats", "none")),
        }
    }

    /// Returns an array that holds one finite number.
    ///
    /// # Errors
    /// There is none, or it holds something else.
    pub fn number(&self, part: &str) -> Result<f32> {
        let floats = self.floats(part)?;
        match floats.data() {
            [v] if v.is_finite() => Ok(*v),
            other => Err(self.misfit(part, "one finite number", other.len())),
        }
    }
}
