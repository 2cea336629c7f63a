//! What makes an ONNX file no network to train.

/// The result of this module's functions.
pub(super) type Result<T> = std::result::Result<T, Problem>;

/// What makes an ONNX file no network to train.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("{0}")]
    Read(String),
    /// No file of the format, or a damaged one.
    #[error("no ONNX file, or a damaged one: {0}")]
    Format(String),
    /// Its operator set has not been tried.
    #[error("opset: expected 13 to 26, found {0}; export with opset_version=17")]
    Opset(i64),
    /// The whole graph is not of the form that is read.
    #[error("{part}: expected {expected}, found {found}")]
    Graph {
        /// The part: its input, its output.
        part: String,
        /// What is read.
        expected: String,
        /// What there is.
        found: String,
    },
    /// Operations that are not known, all of them.
    #[error("expected operations of the table in the guide, found {}", list(.0))]
    Operations(Vec<(String, String)>),
    /// A tensor of the file that cannot be used.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// Its name.
        tensor: String,
        /// What is read.
        expected: String,
        /// What there is.
        found: String,
    },
    /// A node whose inputs or settings have no form here.
    #[error("{op} `{node}`: expected {expected}, found {found}")]
    Node {
        /// Its operation.
        op: String,
        /// Its name, or that of its first output.
        node: String,
        /// What is read.
        expected: String,
        /// What there is.
        found: String,
    },
    /// The shapes of a node do not fit each other, or memory.
    #[error("{op} `{node}`: {reason}")]
    Shapes {
        /// Its operation.
        op: String,
        /// Its name, or that of its first output.
        node: String,
        /// What does not fit.
        reason: String,
    },
}

/// The most operations that are listed.
const LISTED: usize = 50;

/// Each operation with the nodes that have it.
fn list(found: &[(String, String)]) -> String {
    let mut ops: Vec<&str> = found.iter().map(|(op, _)| op.as_str()).collect();
    ops.sort_unstable();
    ops.dedup();
    let nodes = |op: &str| {
        let nodes: Vec<String> = found.iter().filter(|(o, _)| o == op).map(|(_, n)| format!("`{n}`")).collect();
        let more = nodes.len().saturating_sub(3);
        let shown = nodes[..nodes.len().min(3)].join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    };
    let shown: Vec<String> = ops.iter().take(LISTED).map(|op| format!("{op} ({})", nodes(op))).collect();
    let more = ops.len().saturating_sub(LISTED);
    if more > 0 { format!("{}; and {more} more", shown.join("; ")) } else { shown.join("; ") }
}

impl Problem {
    pub(super) fn tensor(tensor: &str, expected: impl ToString, found: impl ToString) -> Self {
        Self::Tensor { tensor: tensor.into(), expected: expected.to_string(), found: found.to_string() }
    }

    pub(super) fn graph(part: impl ToString, expected: impl ToString, found: impl ToString) -> Self {
        Self::Graph { part: part.to_string(), expected: expected.to_string(), found: found.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_listed_together() {
        let found = ["LSTM a", "NonZero b", "LSTM c", "LSTM d", "LSTM e"].map(|t| {
            let (op, node) = t.split_once(' ').unwrap();
            (op.to_string(), node.to_string())
        });
        let text = Problem::Operations(found.to_vec()).to_string();
        assert!(text.ends_with("found LSTM (`a`, `c`, `d` and 1 more); NonZero (`b`)"), "{text}");
    }
}
