//! What can go wrong in this crate: every variant says what was found and what was expected.

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the tensor crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes of operands do not fit each other or the operation.
    #[error("{op}: expected shape {expected}, found {found}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The shape or relation that it needs.
        expected: String,
        /// The shape that it got.
        found: String,
    },
    /// A number lies outside what the operation admits.
    #[error("{op}: {what} must be {expected}, found {found}")]
    Range {
        /// The operation.
        op: &'static str,
        /// The name of the number.
        what: &'static str,
        /// What is admitted.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A claim of memory is beyond its [`Budget`](crate::Budget).
    #[error("{what} claims {claimed} bytes of memory, expected at most {left} (of {limit} in all); {advice}")]
    Memory {
        /// What is claimed, with its sizes.
        what: String,
        /// The bytes that it would take.
        claimed: u128,
        /// What is left of the budget.
        left: u64,
        /// The whole budget in bytes.
        limit: u64,
        /// What to do.
        advice: &'static str,
    },
    /// An instruction set that is unknown, or that this CPU cannot run.
    #[error("instruction set `{found}` cannot be used: {reason}; this machine has {available}")]
    Isa {
        /// The name as given.
        found: String,
        /// Why not.
        reason: &'static str,
        /// The names that would work here.
        available: String,
    },
}

impl Error {
    /// A [`Error::Shape`] from a requirement in words and the shape found.
    pub fn shape(op: &'static str, expected: impl ToString, found: &[usize]) -> Self {
        Self::Shape { op, expected: expected.to_string(), found: format!("{found:?}") }
    }

    /// A [`Error::Range`] from the admitted values in words and the value found.
    pub fn range(op: &'static str, what: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Range { op, what, expected: expected.to_string(), found: found.to_string() }
    }
}
