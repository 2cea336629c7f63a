//! The operations that are read, one row each: the table in `docs/guide/export.md` is this one.

use super::lower::{Item, Lowering};
use super::problem::Result;
use super::read::op_of;
use super::{elementwise, fold, layout, norms, pools, products};
use crate::onnx::messages::Node;

/// Lowers a node, and returns its outputs.
type Entry = fn(&mut Lowering<'_>, &Node) -> Result<Vec<Item>>;

const ENTRIES: &[(&str, Entry)] = &[
    ("Add", elementwise::binary),
    ("AveragePool", pools::average),
    ("BatchNormalization", norms::batch),
    ("Cast", layout::same),
    ("CastLike", layout::same),
    ("Clip", elementwise::clip),
    ("Concat", layout::concat),
    ("Constant", fold::constant),
    ("ConstantOfShape", fold::of_shape),
    ("Conv", products::conv),
    ("DepthToSpace", layout::depth_to_space),
    ("Div", elementwise::binary),
    ("Dropout", norms::dropout),
    ("Equal", fold::equal),
    ("Erf", elementwise::unary),
    ("Exp", elementwise::unary),
    ("Expand", fold::expand),
    ("Flatten", layout::flatten),
    ("Gather", fold::gather),
    ("Gelu", elementwise::unary),
    ("Gemm", products::gemm),
    ("GlobalAveragePool", pools::global),
    ("HardSigmoid", elementwise::hard),
    ("HardSwish", elementwise::hard),
    ("Identity", layout::same),
    ("LayerNormalization", norms::layer),
    ("LeakyRelu", elementwise::unary),
    ("Log", elementwise::unary),
    ("MatMul", products::matmul),
    ("MaxPool", pools::max),
    ("Mod", elementwise::binary),
    ("Mul", elementwise::binary),
    ("Neg", elementwise::unary),
    ("PRelu", elementwise::prelu),
    ("Pad", pools::pad),
    ("Pow", elementwise::pow),
    ("ReduceMean", pools::reduce),
    ("ReduceSum", pools::reduce),
    ("Relu", elementwise::unary),
    ("Reshape", layout::reshape),
    ("Shape", fold::shape),
    ("Sigmoid", elementwise::unary),
    ("Slice", layout::slice),
    ("Softmax", elementwise::softmax),
    ("Split", layout::split),
    ("Sqrt", elementwise::unary),
    ("Squeeze", layout::squeeze),
    ("Sub", elementwise::binary),
    ("Tanh", elementwise::unary),
    ("Transpose", layout::transpose),
    ("Unsqueeze", layout::unsqueeze),
    ("Where", fold::choice),
];

/// The names of all operations.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    ENTRIES.iter().map(|(name, _)| *name).collect()
}

/// Whether an operation is read.
pub(super) fn is_known(op: &str) -> bool {
    ENTRIES.iter().any(|(name, _)| *name == op)
}

pub(super) fn lower(low: &mut Lowering<'_>, node: &Node) -> Result<Vec<Item>> {
    match ENTRIES.iter().find(|(name, _)| *name == op_of(node)) {
        Some((_, entry)) => entry(low, node),
        None => Err(low.odd(node, "an operation of the table in the guide", "another one")),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_guide_has_every_operation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/export.md");
        let page = std::fs::read_to_string(path).unwrap();
        for (op, _) in super::ENTRIES {
            assert!(page.contains(&format!("`{op}`")), "docs/guide/export.md lacks `{op}`");
        }
    }
}
