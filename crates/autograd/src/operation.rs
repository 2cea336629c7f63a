//! `Operation`: what every operation says of itself.

use crate::stored::{Obstacle, Parameter, Settings};
use crate::{Array, Error, Graph, Result, Var};
use fixnet_tensor::Tensor;
use std::any::Any;
use std::fmt;

/// An operation with its settings: its output shape, its value, and how it is written down.
///
/// The axis of the batch is the first of each value. A trace has a batch of one image.
pub trait Operation: Any + fmt::Debug + Send + Sync {
    /// Returns the name of the operation in packed networks, such as `max_pool2d`.
    fn kind(&self) -> &'static str;

    /// Returns the name of the operation in summaries, such as `max pool 2x2`.
    fn title(&self) -> String {
        self.kind().replace('_', " ")
    }

    /// Returns the name of an operand, such as `weight`, under which a packed network stores a constant.
    fn operand(&self, index: usize) -> String {
        format!("operand{index}")
    }

    /// Returns whether an operand has the axis of the batch. Those of the others are constants in a trace.
    fn is_batched(&self, index: usize) -> bool {
        let _ = index;
        true
    }

    /// Infers the shape of the output from those of the inputs, all with the axis of the batch.
    ///
    /// # Errors
    /// The number of inputs or their shapes do not fit.
    fn output_shape(&self, inputs: &[&[usize]]) -> Result<Vec<usize>>;

    /// Returns whether no element of the output is below 0, where `inputs` says this of each input. Quantizers decide by it
    /// whether they need levels of both signs.
    fn is_non_negative(&self, inputs: &[bool]) -> bool {
        let _ = inputs;
        false
    }

    /// Computes the output and records the derivative.
    ///
    /// # Errors
    /// The number of inputs or their shapes do not fit.
    fn compute(&self, g: &mut Graph<'_>, inputs: &[&Var]) -> Result<Var>;

    /// Returns the settings for a packed network.
    fn settings(&self) -> Settings {
        Settings::new()
    }

    /// Returns the numbers that the operation itself holds, for a packed network.
    fn arrays(&self) -> Vec<(&'static str, Array)> {
        Vec::new()
    }

    /// Lists the parameters for a summary; `constants` are the constant operands with their names.
    fn parameters(&self, constants: &[(String, &Tensor)]) -> Vec<Parameter> {
        constants.iter().map(|(name, t)| Parameter::float(name.clone(), t.shape())).collect()
    }

    /// Returns the bits of weights/activations/gradients, if the operation has a weight.
    fn precision(&self) -> Option<String> {
        None
    }

    /// Returns the multiply-adds for one image of a product with these `parameters` and an output of this shape without the
    /// axis of the batch.
    fn macs(&self, parameters: &[Parameter], output: &[usize]) -> u64 {
        let _ = (parameters, output);
        0
    }

    /// Says why the operation cannot be exported, if it cannot.
    fn obstacle(&self) -> Option<Obstacle> {
        None
    }
}

impl dyn Operation {
    /// Returns the operation as a type, if it is of that type.
    pub fn get<O: Operation>(&self) -> Option<&O> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Returns exactly N inputs.
///
/// # Errors
/// There are more or fewer.
pub fn exactly<T: Copy, const N: usize>(inputs: &[T]) -> Result<[T; N]> {
    inputs.try_into().map_err(|_| Error::setting("inputs of an operation", N, inputs.len()))
}
