//! What an entry of the ONNX writer asks of a node: its settings, its operands, the shape that it reads.

use super::writer::{Misfit, Writer, oihw};
use fixnet_nn::plan::{Node, Operand, Plan};

pub(super) type Result<T> = std::result::Result<T, Misfit>;

/// Returns the settings of an operation as the type that its kind stands for.
pub(super) fn settings<O: fixnet_autograd::Operation>(node: &Node) -> Result<&O> {
    node.get().ok_or(("an operation of fixnet", format!("another one of the kind {}", node.op().kind())))
}

/// Returns the name of the real value of an operand. A constant is written in the order of axes that values have.
pub(super) fn operand(w: &mut Writer, node: &Node, index: usize) -> Result<String> {
    match node.operands().get(index) {
        Some(Operand::Node(i)) => Ok(w.real(*i)),
        Some(Operand::Constant(t)) => {
            let layer = if node.name().is_empty() { node.op().kind() } else { node.name() };
            let name = format!("{layer}.{}", node.op().operand(index));
            let (shape, values) = match t.shape() {
                &[n, h, w, c] => oihw(&[n, h, w, c], t.data()),
                shape => (shape.to_vec(), t.data().to_vec()),
            };
            Ok(w.graph.floats(&name, &shape, &values))
        }
        None => Err(("an operand", "none".into())),
    }
}

/// Returns the shape of the value that a node reads first, without the axis of the batch.
pub(super) fn shape_of_input<'a>(node: &Node, plan: &'a Plan) -> &'a [usize] {
    node.inputs().first().map_or(&[], |&i| plan.nodes()[i].shape())
}

pub(super) fn is_image(shape: &[usize]) -> bool {
    shape.len() == 3
}
