//! The table of a network's layers: what each gives, how many parameters it has, in how many bits, and what it costs.

use super::{Node, Plan};
use std::collections::BTreeSet;
use std::fmt;

/// One line of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The name of the layer; empty if it has none.
    pub name: String,
    /// What it does.
    pub kind: String,
    /// The lengths of the output's axes without that of the batch.
    pub shape: Vec<usize>,
    /// Weights, biases, and factors and offsets of normalizations; scales of quantizers are not counted. 0 where a line above is of the
    /// same layer.
    pub parameters: usize,
    /// Bits of weights/activations/gradients; `None` for what has no weight.
    pub bits: Option<String>,
    /// Multiply-adds of one input, of products alone.
    pub macs: u64,
}

/// A table of a network's layers; printed, it has one line a layer and the totals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The lines, in the order of computation.
    pub rows: Vec<Row>,
    /// Bytes of all parameters with codes packed to their bits and all else as f32.
    pub packed_bytes: usize,
}

fn row(node: &Node) -> (Row, usize) {
    let (op, parameters) = (node.op(), node.parameters());
    let row = Row {
        name: node.name().into(),
        kind: op.title(),
        shape: node.shape().to_vec(),
        parameters: parameters.iter().map(|p| p.count()).sum(),
        bits: op.precision(),
        macs: op.macs(&parameters, node.shape()),
    };
    (row, parameters.iter().map(|p| p.bytes()).sum())
}

impl Summary {
    pub(super) fn of(plan: &Plan) -> Self {
        // The numbers of a layer that is used several times count once.
        let mut seen = BTreeSet::new();
        let of = |node: &Node| {
            let (mut row, mut bytes) = row(node);
            if row.parameters > 0
                && !node.layer().is_empty()
                && !seen.insert((node.layer().to_string(), row.kind.clone()))
            {
                (row.parameters, bytes) = (0, 0);
            }
            (row, bytes)
        };
        let (rows, bytes): (Vec<_>, Vec<usize>) = plan.nodes().iter().map(of).unzip();
        Self { rows, packed_bytes: bytes.into_iter().sum() }
    }

    /// Parameters of the whole network.
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|r| r.parameters).sum()
    }

    /// Multiply-adds of the whole network for one input.
    pub fn macs(&self) -> u64 {
        self.rows.iter().map(|r| r.macs).sum()
    }
}

/// A number with separators between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_string();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend(group.iter().map(|&d| char::from(d)));
    }
    text
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |n: u64| if n == 0 { "-".into() } else { grouped(n) };
        let mut lines = vec![["layer", "kind", "output", "parameters", "bits", "multiply-adds"].map(String::from)];
        lines.extend(self.rows.iter().map(|r| {
            let shape: Vec<String> = r.shape.iter().map(usize::to_string).collect();
            let name = if r.name.is_empty() { "-".into() } else { r.name.clone() };
            let bits = r.bits.clone().unwrap_or_else(|| "-".into());
            [name, r.kind.clone(), shape.join("x"), or_dash(r.parameters as u64), bits, or_dash(r.macs)]
        }));
        let width = |column: usize| lines.iter().map(|l| l[column].len()).max().unwrap_or(0);
        let [name, kind, shape, parameters, bits, macs] = [0, 1, 2, 3, 4, 5].map(width);
        for [a, b, c, d, e, g] in &lines {
            writeln!(f, "{a:name$}  {b:kind$}  {c:shape$}  {d:>parameters$}  {e:bits$}  {g:>macs$}")?;
        }
        let (floats, packed) = (4 * self.parameters() as u64, self.packed_bytes as u64);
        write!(
            f,
            "{} parameters ({} bytes as f32, {} with codes packed), {} multiply-adds an input",
            grouped(self.parameters() as u64),
            grouped(floats),
            grouped(packed),
            grouped(self.macs())
        )
    }
}
