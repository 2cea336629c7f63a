//! The names of layers: those that PyTorch gave their weights where a file has kept them, else those of the modules in the names
//! of nodes.

use std::collections::BTreeMap;

/// The module that a node of the older exporter belongs to: `/layer1/layer1.0/conv1/Conv` is of `layer1.0.conv1`.
fn module(node: &str) -> Option<String> {
    let (path, _) = node.strip_prefix('/')?.rsplit_once('/')?;
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        match parts.last_mut() {
            Some(last) if part.strip_prefix(*last).is_some_and(|rest| rest.starts_with('.')) => *last = part,
            _ => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("."))
}

/// The layer of a weight that kept its name: `fc1` of `fc1.weight`.
fn kept(weight: &str) -> Option<&str> {
    if weight.contains("::") || weight.starts_with('/') {
        return None;
    }
    weight.strip_suffix(".weight").filter(|layer| !layer.is_empty())
}

/// The names that are taken, each with the number that its next namesake tries first.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, u32>);

impl Names {
    /// A name for the layer of a node, which no other layer has.
    pub(super) fn layer(&mut self, weight: Option<&str>, node: &str, op: &str) -> String {
        let of_weight = weight.and_then(kept).map(str::to_string);
        // Exporters of fixnet write `conv1/Conv`.
        let of_fixnet =
            || node.rsplit_once('/').filter(|(layer, _)| !layer.starts_with('/')).map(|(l, _)| l.to_string());
        let name = of_weight.or_else(|| module(node)).or_else(of_fixnet).unwrap_or_else(|| match node {
            "" => op.to_lowercase(),
            node => node.trim_matches('/').replace(['/', ':'], "_"),
        });
        self.free(name)
    }

    /// A name for a product of two values, which no weight names.
    pub(super) fn matmul(&mut self, node: &str) -> String {
        self.free(module(node).map_or_else(|| "matmul".into(), |module| format!("{module}.matmul")))
    }

    /// A name for a parameter of its own.
    pub(super) fn parameter(&mut self, tensor: &str, node: &str, op: &str) -> String {
        match tensor.contains("::") || tensor.starts_with('/') || tensor.is_empty() {
            true => format!("{}.weight", self.layer(None, node, op)),
            false => self.free(tensor.to_string()),
        }
    }

    fn free(&mut self, name: String) -> String {
        let Some(&first) = self.0.get(&name) else {
            self.0.insert(name.clone(), 2);
            return name;
        };
        let mut numbered = (first..).map(|n| (n, format!("{name}_{n}")));
        let (n, free) = numbered.find(|(_, name)| !self.0.contains_key(name)).expect("numbers do not end");
        self.0.insert(name, n + 1);
        self.0.insert(free.clone(), 2);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_the_names_of_modules() {
        let mut names = Names::default();
        let mut of = |weight: &str, node: &str| names.layer(Some(weight), node, "Conv");
        assert_eq!(of("layer1.0.conv1.weight", "x"), "layer1.0.conv1");
        assert_eq!(of("onnx::Conv_7", "/layer1/layer1.0/conv2/Conv"), "layer1.0.conv2");
        assert_eq!(of("onnx::Conv_8", "/features/features.0/features.0.0/Conv"), "features.0.0");
        assert_eq!(of("onnx::Conv_8", "/features/features.0/features.0.0/Conv"), "features.0.0_2");
        assert_eq!(of("val_1", "node_conv2d_4"), "node_conv2d_4");
        assert_eq!(of("val_1", ""), "conv");
        let products = ["/blocks/blocks.0/attn/MatMul", "/blocks/blocks.0/attn/MatMul_1", "node_matmul"];
        let products = products.map(|node| names.matmul(node));
        assert_eq!(products, ["blocks.0.attn.matmul", "blocks.0.attn.matmul_2", "matmul"]);
        assert_eq!(names.parameter("pos", "/Add", "Add"), "pos");
        assert_eq!(names.parameter("onnx::PRelu_80", "/act/PRelu", "PRelu"), "act.weight");
    }
}
