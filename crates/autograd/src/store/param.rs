//! What a store holds, parameters and state, and the addresses of both.

use super::StoreId;
use crate::{Error, Result};
use fixnet_tensor::{Codes, Tensor};
use std::any::Any;
use std::marker::PhantomData;

/// What a parameter is, which decides how an optimizer treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The latent weight of a quantized layer.
    Latent,
    /// The weight of a layer that is not quantized.
    Weight,
    /// A bias, or a parameter of a normalization: no weight decay.
    Offset,
    /// The learned scale of a quantizer.
    Scale,
}

/// A named parameter with its gradient and, for a latent weight, its codes.
#[derive(Debug)]
pub struct Param {
    pub(super) name: String,
    pub(super) group: Group,
    /// The value, full precision.
    pub value: Tensor,
    /// The gradient of the last backward pass, until an optimizer takes it.
    pub grad: Option<Tensor>,
    /// The integers that products use in place of a latent weight, as they were made last.
    pub(super) codes: Option<Codes>,
    /// The store's count of changes when the value was last opened for writing, and when the codes were made.
    pub(super) changed: u64,
    pub(super) coded: u64,
    /// What an optimizer multiplies this parameter's learning rate by. Set anew in each backward pass, by an operation
    /// that has reason to (the DSGC rule for gradients); 1 otherwise.
    pub lr_factor: f32,
    pub(super) frozen: bool,
}

impl Param {
    /// The name, unique in the store; the key in a checkpoint.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of parameter this is.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Returns whether it is frozen: see [`Store::set_frozen`](super::Store::set_frozen).
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The codes of the last quantization, if there was one: those of transitions. The value may have moved since; a
    /// product asks [`Store::codes`](super::Store::codes) for those that are its own.
    pub fn codes(&self) -> Option<&Codes> {
        self.codes.as_ref()
    }

    /// Takes another value, which voids what followed from the old one.
    pub(super) fn replace(&mut self, value: Tensor) -> Result<()> {
        if value.shape() != self.value.shape() {
            return Err(self.misfit(format!("f32 {:?}", value.shape())));
        }
        (self.value, self.grad, self.codes) = (value, None, None);
        Ok(())
    }

    pub(super) fn misfit(&self, found: String) -> Error {
        Error::State { name: self.name.clone(), expected: format!("f32 {:?}", self.value.shape()), found }
    }
}

/// The address of a parameter in its store. Another store refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParamId {
    pub(super) store: StoreId,
    pub(super) index: usize,
}

impl From<ParamId> for StoreId {
    fn from(id: ParamId) -> Self {
        id.store
    }
}

/// A value that a [`State`] saves.
#[derive(Debug, Clone)]
pub enum Array {
    /// Floats with a shape.
    F32(Tensor),
    /// A list of whole numbers.
    U64(Vec<u64>),
    /// One whole number that is no list, as PyTorch keeps counts.
    I64(i64),
}

/// State beyond parameters: clipping factors, running statistics, and so on.
pub trait State: Any + Send {
    /// Every number that the next step depends on, under names unique in this state.
    fn save(&self) -> Vec<(&'static str, Array)>;
    /// Takes the saved numbers back; `get` gives the array of a name.
    ///
    /// # Errors
    /// An array is missing or has another form: the message says what was expected.
    fn load(&mut self, get: &mut dyn FnMut(&str) -> Option<Array>) -> std::result::Result<(), String>;
}

/// The typed address of a [`State`] in its store. Another store refuses it.
#[derive(Debug)]
pub struct Slot<T> {
    pub(super) store: StoreId,
    pub(super) index: usize,
    pub(super) of: PhantomData<fn() -> T>,
}

impl<T> From<Slot<T>> for StoreId {
    fn from(slot: Slot<T>) -> Self {
        slot.store
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slot<T> {}
