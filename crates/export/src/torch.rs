//! Weights that PyTorch has trained: `safetensors` files of a `state_dict`, under the names of torchvision or of the common
//! CIFAR residual networks.
//!
//! | here | there |
//! |---|---|
//! | `layer2.0.conv1.weight` [O, KH, KW, I] | the same name, [O, I, KH, KW] |
//! | `layer2.0.shortcut`, `layer2.0.shortcut_bn` | `layer2.0.downsample.0`, `.1` or `layer2.0.shortcut.0`, `.1` |
//! | `classifier` | `fc`, `linear` or `classifier` |
//! | weights behind a flattened image, columns H, W, C | columns C, H, W |
//! | batch norm over the pooled features (`bn2` of CIFAR networks) | often not there: it becomes the identity |
//!
//! `module.`, `model.` and `_orig_mod.`, which wrappers of PyTorch put before names, are taken off in any order, and the last
//! also within a name; `num_batches_tracked` is left out. Numbers may be F32, F16, BF16 or F64.

use crate::{Error, Result};
use fixnet_autograd::Store;
use fixnet_autograd::ops::{FixedNorm, Flatten, GlobalAvgPool2d, Relu};
use fixnet_nn::checkpoint::{Pretrained, TensorEntry, TensorFile};
use fixnet_nn::models::{self, ModelSpec};
use fixnet_nn::plan::Plan;
use fixnet_quant::QuantConfig;
use fixnet_tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a file gave for a model.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The weights by the names that the model has for them.
    pub tensors: BTreeMap<String, Tensor>,
    /// Batch norms that the file lacks and that are now the identity.
    pub identities: Vec<String>,
    /// Tensors that are missing, have another shape or are left over, one line each; empty if the file fits.
    pub misfits: Vec<String>,
}

/// Reads weights for a model that is to be built with images of `input` = [H, W, C]. Every tensor must find its place.
///
/// ```no_run
/// use fixnet_export::torch;
/// use fixnet_nn::models;
/// use fixnet_autograd::Store;
/// use fixnet_quant::QuantConfig;
///
/// let model = "resnet18-imagenet".parse()?;
/// let weights = torch::pretrained("resnet18.safetensors".as_ref(), &model, [224, 224, 3], 1000)?;
/// let mut store = weights.begin(Store::seeded(1));
/// let q = QuantConfig::new("4/4/32".parse()?);
/// let net = models::build(&mut store, &model, [224, 224, 3], 1000, &q)?;
/// weights.finish(&mut store)?;
/// # Ok::<(), fixnet_export::Error>(())
/// ```
///
/// # Errors
/// The file cannot be read, is damaged, has numbers that no weights have ([`TensorFile::weights`]), or does not fit: the
/// message names all tensors that are missing, of another shape,
/// or left over.
pub fn pretrained(path: &Path, model: &ModelSpec, input: impl AsRef<[usize]>, classes: usize) -> Result<Pretrained> {
    let file = TensorFile::weights(path)?;
    let imported = translate(&file, &plan_of(model, input, classes)?);
    if imported.misfits.is_empty() {
        return Ok(Pretrained::new(imported.tensors).read_from(&file));
    }
    Err(Error::Misfit { path: path.to_path_buf(), model: model.to_string(), misfits: imported.misfits })
}

/// The operations of a model in floats.
///
/// # Errors
/// The images are too small for it.
pub fn plan_of(model: &ModelSpec, input: impl AsRef<[usize]>, classes: usize) -> Result<Plan> {
    let (mut store, input) = (Store::seeded(0), input.as_ref());
    let net = models::build(&mut store, model, input, classes, &QuantConfig::float())?;
    Ok(Plan::of(&net, &mut store, input)?)
}

/// The name of a tensor without what wrappers of PyTorch add: `DataParallel` and `AveragedModel` (`module`), Lightning
/// (`model`) and `torch.compile` (`_orig_mod`, also within a name where a part of a network is compiled).
fn unwrapped(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').filter(|part| *part != "_orig_mod").collect();
    let wrappers = parts.iter().take_while(|part| ["module", "model"].contains(part)).count();
    parts.drain(..wrappers);
    parts.join(".")
}

/// The tensors of a file by name, without what wrappers add to names.
struct Source<'a> {
    file: &'a TensorFile,
    entries: BTreeMap<String, &'a TensorEntry>,
    used: BTreeSet<String>,
}

impl<'a> Source<'a> {
    fn new(file: &'a TensorFile) -> Self {
        let mut entries = BTreeMap::new();
        for t in file.header().tensors.iter().filter(|t| !t.name.ends_with("num_batches_tracked")) {
            let name = unwrapped(&t.name);
            // Two copies of one tensor: none of them is the right one for sure, so the second is left over under its own name.
            let name = if entries.contains_key(&name) { t.name.clone() } else { name };
            entries.insert(name, t);
        }
        Self { file, entries, used: BTreeSet::new() }
    }

    /// The name of the first of `layers` that has `part`.
    fn find(&self, layers: &[String], part: &str) -> Option<String> {
        layers.iter().map(|layer| format!("{layer}.{part}")).find(|name| self.entries.contains_key(name))
    }

    /// A tensor as floats.
    fn take(&mut self, name: &str) -> std::result::Result<Tensor, String> {
        let entry = self.entries[name];
        self.used.insert(name.to_string());
        let Some(values) = self.file.values(entry) else {
            return Err(format!("`{name}`: expected floats (F32, F16, BF16, F64), found {}", entry.dtype));
        };
        Tensor::from_vec(&entry.shape, values).map_err(|e| format!("`{name}`: {e}"))
    }
}

/// What a layer may be called in a file.
fn aliases(layer: &str) -> Vec<String> {
    let others: &[&str] = match layer.rsplit_once('.').map_or(layer, |(_, last)| last) {
        "classifier" => &["fc", "linear"],
        "shortcut" => &["downsample.0", "shortcut.0"],
        "shortcut_bn" => &["downsample.1", "shortcut.1"],
        _ => &[],
    };
    let parent = layer.rsplit_once('.').map_or(String::new(), |(parent, _)| format!("{parent}."));
    std::iter::once(layer.to_string()).chain(others.iter().map(|o| format!("{parent}{o}"))).collect()
}

/// The numbers of a weight [O, I, KH, KW] in the order [O, KH, KW, I].
fn ohwi(t: &Tensor) -> Tensor {
    let &[o, i, kh, kw] = t.shape() else { return t.clone() };
    let (area, data) = (kh * kw, t.data());
    let order = (0..t.len()).map(|k| data[(k / (area * i) * i + k % i) * area + k / i % area]);
    Tensor::from_vec(&[o, kh, kw, i], order.collect()).expect("the same numbers")
}

/// Columns (the last axis) in the order C, H, W brought into the order H, W, C.
fn hwc_columns(t: &Tensor, [h, w, c]: [usize; 3]) -> Tensor {
    let (columns, data) = (h * w * c, t.data());
    let order = (0..t.len()).map(|k| {
        let (row, column) = (k / columns, k % columns);
        data[row * columns + column % c * h * w + column / c]
    });
    Tensor::from_vec(t.shape(), order.collect()).expect("the same numbers")
}

/// The shape of the image that became the features that node `index` reads.
fn flattened(plan: &Plan, index: usize) -> Option<[usize; 3]> {
    let input = *plan.nodes()[index].inputs().first()?;
    let node = &plan.nodes()[input];
    if node.get::<Flatten>().is_some() {
        return plan.nodes()[*node.inputs().first()?].shape().try_into().ok();
    }
    let keeps_features = node.get::<FixedNorm>().is_some() || node.get::<Relu>().is_some();
    keeps_features.then(|| flattened(plan, input)).flatten()
}

/// The weights of `file` for the model whose operations are `plan`, of any precision. What does not fit is told, not refused.
pub fn translate(file: &TensorFile, plan: &Plan) -> Imported {
    let mut source = Source::new(file);
    let mut out = Imported { tensors: BTreeMap::new(), identities: Vec::new(), misfits: Vec::new() };
    for (index, node) in plan.nodes().iter().enumerate() {
        let names = aliases(node.name());
        let image = flattened(plan, index);
        let mut wanted: Vec<(String, Vec<usize>)> = Vec::new();
        if let Some(norm) = node.get::<FixedNorm>() {
            let parts = ["weight", "bias", "running_mean", "running_var"];
            let pooled = node.inputs().iter().any(|&i| plan.nodes()[i].get::<GlobalAvgPool2d>().is_some());
            if pooled && parts.iter().all(|part| source.find(&names, part).is_none()) {
                // With eps added, the variance is 1.
                for (part, value) in parts.into_iter().zip([1.0, 0.0, 0.0, 1.0 - norm.eps]) {
                    out.tensors.insert(format!("{}.{part}", node.name()), Tensor::full(norm.weight.shape(), value));
                }
                out.identities.push(node.name().into());
                continue;
            }
            wanted.extend(parts.map(|part| (part.to_string(), norm.weight.shape().to_vec())));
        } else {
            wanted.extend(node.parameters().into_iter().map(|p| (p.name, p.shape)));
        }
        for (part, shape) in &wanted {
            let own = format!("{}.{part}", node.name());
            let Some(name) = source.find(&names, part) else {
                let tried: Vec<String> = names.iter().map(|n| format!("{n}.{part}")).collect();
                out.misfits.push(format!("`{own}` {shape:?}: expected {}, found none", tried.join(" or ")));
                continue;
            };
            let tensor = match source.take(&name) {
                Ok(tensor) => tensor,
                Err(e) => {
                    out.misfits.push(e);
                    continue;
                }
            };
            let theirs = tensor.shape().to_vec();
            let mut tensor = ohwi(&tensor);
            if tensor.shape() != shape {
                let expected = match *shape.as_slice() {
                    [o, kh, kw, i] => format!("{:?}", [o, i, kh, kw]),
                    _ => format!("{shape:?}"),
                };
                out.misfits.push(format!("`{name}`: expected {expected}, found {theirs:?}"));
                continue;
            }
            // Of a linear layer the columns are features; of a normalization its numbers are.
            if let Some(image) = image.filter(|_| part == "weight" || node.get::<FixedNorm>().is_some()) {
                tensor = hwc_columns(&tensor, image);
            }
            out.tensors.insert(own, tensor);
        }
    }
    let left: Vec<&String> = source.entries.keys().filter(|name| !source.used.contains(*name)).collect();
    for name in left {
        out.misfits.push(format!("`{name}` {:?}: expected no such tensor", source.entries[name].shape));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_axes_by_hand() {
        // One output, two channels, a row of three pixels: [O, I, KH, KW] = [1, 2, 1, 3].
        let t = Tensor::from_vec(&[1, 2, 1, 3], vec![0.0, 1.0, 2.0, 10.0, 11.0, 12.0]).unwrap();
        let u = ohwi(&t);
        assert_eq!((u.shape(), u.data()), (&[1, 1, 3, 2][..], &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0][..]));
        // Two rows over an image of 1 x 2 pixels and 3 channels.
        let t = Tensor::from_vec(&[2, 6], (0..12u8).map(f32::from).collect()).unwrap();
        let rows = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11].map(|v| v as f32);
        assert_eq!(hwc_columns(&t, [1, 2, 3]).data(), rows);
    }

    #[test]
    fn names_lose_what_wrappers_add() {
        for wrapped in ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.model.", ""] {
            assert_eq!(unwrapped(&format!("{wrapped}conv1.weight")), "conv1.weight");
        }
        assert_eq!(unwrapped("model.layer1._orig_mod.0.conv1.weight"), "layer1.0.conv1.weight");
        assert_eq!(unwrapped("layer1.model.weight"), "layer1.model.weight");
    }

    #[test]
    fn other_names_of_layers() {
        assert_eq!(aliases("classifier"), ["classifier", "fc", "linear"]);
        assert_eq!(aliases("layer2.0.shortcut_bn")[1..], ["layer2.0.downsample.1", "layer2.0.shortcut.1"]);
        assert_eq!(aliases("layer1.0.conv1"), ["layer1.0.conv1"]);
    }
}
