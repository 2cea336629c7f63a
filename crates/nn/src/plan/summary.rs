//! The table of a network's layers: what each gives, how many parameters it has, in how many bits, and what it costs.

use super::{Node, Op, Plan, Weight};
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
    /// Weights, biases, and factors and offsets of normalizations; scales of quantizers are not counted.
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

impl Op {
    /// The name of the operation, as messages and tables have it.
    pub fn kind(&self) -> String {
        match self {
            Self::Input => "input".into(),
            Self::Conv2d { .. } => "conv2d".into(),
            Self::Linear => "linear".into(),
            Self::BatchNorm => "batch norm".into(),
            Self::Relu => "relu".into(),
            Self::Add => "add".into(),
            Self::MaxPool2d { size, .. } => format!("max pool {size}x{size}"),
            Self::AvgPool2d { size, .. } => format!("avg pool {size}x{size}"),
            Self::GlobalAvgPool2d => "global avg pool".into(),
            Self::Flatten => "flatten".into(),
            Self::Subsample { .. } => "subsample".into(),
            Self::PixelShuffle { .. } => "pixel shuffle".into(),
            Self::Opaque { kind, .. } => kind.clone(),
        }
    }
}

fn row(node: &Node) -> (Row, usize) {
    let numbers = node.numbers();
    let weights: usize = numbers.weight.as_ref().map_or(0, |w| w.shape().iter().product());
    let others = numbers.bias.as_ref().map_or(0, |b| b.len()) + numbers.norm.as_ref().map_or(0, |n| 2 * n.weight.len());
    let (bits, width) = match &numbers.weight {
        Some(Weight::Quantized(p)) => (Some(p.precision().to_string()), p.weight().range().bits().into()),
        Some(Weight::Float(_)) => (Some("32/32/32".into()), 32),
        None => (None, 32),
    };
    // Each pixel of the output is a product with the whole weight.
    let pixels: usize = node.shape().split_last().map_or(0, |(_, pixels)| pixels.iter().product());
    let row = Row {
        name: node.name().into(),
        kind: node.op().kind(),
        shape: node.shape().to_vec(),
        parameters: weights + others,
        bits,
        macs: (pixels * weights) as u64,
    };
    (row, (weights * width).div_ceil(8) + 4 * others)
}

impl Summary {
    pub(super) fn of(plan: &Plan) -> Self {
        let (rows, bytes): (Vec<_>, Vec<usize>) = plan.nodes().iter().map(row).unzip();
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
