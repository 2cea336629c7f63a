//! The Gelu of exporters before opset 20: `x · (erf(x / √2) + 1) · 0.5` in five nodes, with the factor in one of three places.

use super::lower::{Item, Lowering};
use super::problem::Result;
use super::read::op_of;
use crate::onnx::messages::Node;
use fixnet_autograd::ops::Elementwise;

/// The number that a node takes a value by: its other input, where one of its inputs is `value`.
fn other<'n>(node: &'n Node, value: &str) -> Option<&'n str> {
    match &node.input[..] {
        [a, b] if a == value => Some(b),
        [a, b] if b == value => Some(a),
        _ => None,
    }
}

fn near(found: Option<f32>, expected: f32) -> bool {
    found.is_some_and(|found| (found - expected).abs() <= 1e-5 * expected.abs())
}

struct Graph<'l, 'a> {
    low: &'l Lowering<'a>,
}

impl Graph<'_, '_> {
    /// The number of a constant, one that a node behind gives included.
    fn number(&self, name: &str) -> Option<f32> {
        if let Some(constant) = self.low.file.constants.get(name) {
            return constant.scalar();
        }
        let node = self.low.file.nodes.iter().find(|n| n.output.first().is_some_and(|o| o == name))?;
        if op_of(node) != "Constant" {
            return None;
        }
        let value = node.attribute.first()?;
        let decoded = value.t.as_deref().and_then(|t| super::constant::Constant::decode(t, name, false).ok());
        decoded.map_or(value.f, |constant| constant.scalar())
    }

    fn maker(&self, name: &str) -> Option<&Node> {
        self.low.file.nodes.iter().find(|n| n.output.first().is_some_and(|o| o == name))
    }

    /// The only node that reads a value, if it is of this kind.
    fn reader(&self, name: &str, op: &str) -> Option<(usize, &Node)> {
        if self.low.file.reads.get(name) != Some(&1) {
            return None;
        }
        let nodes = self.low.file.nodes.iter().enumerate().skip(self.low.at);
        nodes.into_iter().find(|(_, n)| n.input.iter().any(|i| i == name)).filter(|(_, n)| op_of(n) == op)
    }

    /// The value that the Gelu is of, the name of its result, and the nodes that it takes in.
    fn find(&self, erf: &Node) -> Option<(String, String, Vec<usize>)> {
        let scaled = self.maker(erf.input.first()?)?;
        let root = std::f32::consts::SQRT_2;
        let x = match (op_of(scaled), &scaled.input[..]) {
            ("Div", [x, by]) if near(self.number(by), root) => x,
            ("Mul", [x, by]) if near(self.number(by), 1.0 / root) => x,
            ("Mul", [by, x]) if near(self.number(by), 1.0 / root) => x,
            _ => return None,
        };
        let (i, add) = self.reader(erf.output.first()?, "Add")?;
        let one = other(add, erf.output.first()?)?;
        let (j, mul) = self.reader(add.output.first()?, "Mul")?;
        let with = other(mul, add.output.first()?)?;
        if !near(self.number(one), 1.0) {
            return None;
        }
        let product = mul.output.first()?;
        if with == x || near(self.number(with), 0.5) {
            let (k, last) = self.reader(product, "Mul")?;
            let rest = other(last, product)?;
            let fits = if with == x { near(self.number(rest), 0.5) } else { rest == x };
            return fits.then(|| Some((x.clone(), last.output.first()?.clone(), vec![i, j, k])))?;
        }
        let half = self.maker(with).filter(|n| op_of(n) == "Mul")?;
        let by = other(half, x)?;
        near(self.number(by), 0.5).then(|| (x.clone(), product.clone(), vec![i, j]))
    }
}

/// Lowers an `Erf` with the nodes around it; `None` for other nodes.
///
/// # Errors
/// An `Erf` is no part of a Gelu.
pub(super) fn lower(low: &mut Lowering<'_>, node: &Node) -> Result<Option<()>> {
    if op_of(node) != "Erf" {
        return Ok(None);
    }
    let Some((x, output, nodes)) = (Graph { low }).find(node) else {
        return Err(low.odd(node, "an error function as in a Gelu, x · (erf(x / √2) + 1) · 0.5", "another use of it"));
    };
    let Some(Item::Act(act)) = low.get(&x) else {
        return Err(low.odd(node, "a Gelu of a value that depends on the input", format!("`{x}`")));
    };
    let value = low.op(&act, Elementwise::Gelu, Vec::new())?;
    low.give(&output, Item::Act(act.with(value)));
    low.done.extend(nodes);
    Ok(Some(()))
}
