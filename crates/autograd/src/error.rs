//! Errors of the graph and the store.

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the autograd crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on tensors refused its operands.
    #[error(transparent)]
    Tensor(#[from] fixnet_tensor::Error),
    /// An error inside a named layer.
    #[error("layer `{layer}`: {source}")]
    Layer {
        /// The layer's name.
        layer: String,
        /// What went wrong there.
        source: Box<Error>,
    },
    /// A loss or gradient is NaN or infinite.
    #[error("{what} is not finite at step {step}: found {found}; a smaller learning rate is the usual cure")]
    NonFinite {
        /// The loss, or the gradient of which parameter or layer.
        what: String,
        /// The step, counted from 0.
        step: u64,
        /// The value found.
        found: String,
    },
    /// Two parameters or states share a name.
    #[error("the name `{0}` is taken: every parameter and state has a name of its own")]
    DuplicateName(String),
    /// A label lies outside the classes.
    #[error("{op}: label {found} at position {position}, expected 0 to {last}")]
    Label {
        /// The operation.
        op: &'static str,
        /// The label.
        found: usize,
        /// Its place in the batch.
        position: usize,
        /// The largest admitted label.
        last: usize,
    },
    /// Stored state that does not fit the model.
    #[error("state `{name}`: expected {expected}, found {found}")]
    State {
        /// The name of the parameter or state.
        name: String,
        /// What the model has.
        expected: String,
        /// What the stored state has.
        found: String,
    },
    /// A part of a stored operation that is missing or has another form.
    #[error("{part}: expected {expected}, found {found}")]
    Stored {
        /// The setting or array.
        part: String,
        /// What the operation needs.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A setting of a layer or quantizer that makes no sense.
    #[error("{what}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// What is admitted.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl Error {
    /// This error, with the name of the layer in which it arose.
    pub fn in_layer(self, layer: &str) -> Self {
        match self {
            named @ (Self::Layer { .. } | Self::NonFinite { .. }) => named,
            source => Self::Layer { layer: layer.to_string(), source: Box::new(source) },
        }
    }

    /// An [`Error::Setting`].
    pub fn setting(what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Setting { what, expected: expected.to_string(), found: found.to_string() }
    }
}
