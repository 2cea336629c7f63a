//! What the layers of a network keep in a `state_dict`: the list that reading and writing go by.

use super::layout::{chw_columns, hwc_columns, ohwi, oihw};
use fixnet_autograd::ops::{Arithmetic, FixedNorm, Flatten, GlobalAvgPool2d, Prepend, Relu, RoiAlign};
use fixnet_nn::plan::{Node, Plan};
use fixnet_tensor::Tensor;
use std::collections::BTreeSet;

/// The tensors of a layer.
pub(super) struct Parts<'a> {
    /// The name of the layer.
    pub(super) layer: &'a str,
    /// The tensors, by their name in the layer ([`joined`]) and their shape.
    pub(super) tensors: Vec<(String, Vec<usize>)>,
    /// The layer as a normalization.
    pub(super) norm: Option<&'a FixedNorm>,
    /// Whether it normalizes pooled features.
    pooled: bool,
    /// The shape of the image that became the features that it reads.
    image: Option<[usize; 3]>,
}

/// The name of a part of a layer. A parameter that is no part of one has the layer's own name.
pub(super) fn joined(layer: &str, part: &str) -> String {
    if part.is_empty() { layer.to_string() } else { format!("{layer}.{part}") }
}

/// The tensors of a normalization.
const OF_NORM: [&str; 4] = ["weight", "bias", "running_mean", "running_var"];

/// All layers of a plan that keep tensors, each once however often it is used.
pub(super) fn parts(plan: &Plan) -> Vec<Parts<'_>> {
    let mut seen = BTreeSet::new();
    let of = |(index, node)| Parts::of(plan, index, node);
    let all = plan.nodes().iter().enumerate().map(of).filter(|parts| !parts.tensors.is_empty());
    all.filter(|parts| seen.insert((parts.layer, parts.tensors.iter().map(|t| t.0.clone()).collect::<Vec<_>>())))
        .collect()
}

impl<'a> Parts<'a> {
    fn of(plan: &'a Plan, index: usize, node: &'a Node) -> Self {
        let norm = node.get::<FixedNorm>();
        let tensors = match norm {
            Some(norm) => OF_NORM.map(|part| (part.to_string(), norm.weight.shape().to_vec())).into(),
            // A row or an addend that is learned is a parameter by itself, not a part of a layer.
            None if node.get::<Prepend>().is_some() || node.get::<Arithmetic>().is_some() => {
                node.parameters().into_iter().map(|p| (String::new(), p.shape)).collect()
            }
            None => node.parameters().into_iter().map(|p| (p.name, p.shape)).collect(),
        };
        let pooled = node.inputs().iter().any(|&i| plan.nodes()[i].get::<GlobalAvgPool2d>().is_some());
        Self { layer: node.layer(), tensors, norm, pooled, image: flattened(plan, index) }
    }

    /// The numbers that make a normalization of pooled features the identity, which files of PyTorch lack; `None` for
    /// other layers.
    pub(super) fn identity(&self) -> Option<[(&'static str, f32); 4]> {
        let norm = self.norm.filter(|_| self.pooled)?;
        // With eps added, the variance is 1.
        let values = [1.0, 0.0, 0.0, 1.0 - norm.eps];
        Some([0, 1, 2, 3].map(|i| (OF_NORM[i], values[i])))
    }

    /// The image whose pixels are the columns of a tensor. Of a linear layer the columns of the weight are features; of a
    /// normalization its numbers are.
    fn columns(&self, part: &str) -> Option<[usize; 3]> {
        self.image.filter(|_| part == "weight" || self.norm.is_some())
    }

    /// A tensor of PyTorch in the order of fixnet, if it has `shape` in it.
    pub(super) fn enters(&self, part: &str, shape: &[usize], theirs: &Tensor) -> Option<Tensor> {
        let ours = ohwi(theirs);
        if ours.shape() != shape {
            return None;
        }
        Some(self.columns(part).map_or_else(|| ours.clone(), |image| hwc_columns(&ours, image)))
    }

    /// A tensor of fixnet in the order of PyTorch.
    pub(super) fn leaves(&self, part: &str, ours: &Tensor) -> Tensor {
        self.columns(part).map_or_else(|| oihw(ours), |image| chw_columns(ours, image))
    }
}

/// The shape of the image that became the features that node `index` reads.
fn flattened(plan: &Plan, index: usize) -> Option<[usize; 3]> {
    let input = *plan.nodes()[index].inputs().first()?;
    let node = &plan.nodes()[input];
    if node.get::<Flatten>().is_some() {
        return plan.nodes()[*node.inputs().first()?].shape().try_into().ok();
    }
    if let Some(op) = node.get::<RoiAlign>() {
        let channels = *node.shape().last()? / (op.size * op.size);
        return Some([op.size, op.size, channels]);
    }
    let keeps_features = node.get::<FixedNorm>().is_some() || node.get::<Relu>().is_some();
    keeps_features.then(|| flattened(plan, input)).flatten()
}
