//! Weights that PyTorch has trained, for a model of fixnet.

use super::names::{aliases, unwrapped};
use super::parts::{joined, parts};
use super::plan_of;
use crate::{Error, Result};
use fixnet_nn::checkpoint::{Pretrained, TensorEntry, TensorFile};
use fixnet_nn::models::ModelSpec;
use fixnet_nn::plan::Plan;
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
    /// Tensors that are missing, have another shape, are there twice or are left over, one line each; empty if the file fits.
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
/// there twice (under names that differ in what wrappers add) or left over.
pub fn pretrained(path: &Path, model: &ModelSpec, input: impl AsRef<[usize]>, classes: usize) -> Result<Pretrained> {
    let file = TensorFile::weights(path)?;
    let imported = translate(&file, &plan_of(model, input, classes)?);
    if imported.misfits.is_empty() {
        return Ok(Pretrained::new(imported.tensors).read_from(&file));
    }
    Err(Error::Misfit { path: path.to_path_buf(), model: model.to_string(), misfits: imported.misfits })
}

/// The tensors of a file by name, without what wrappers add to names.
struct Source<'a> {
    file: &'a TensorFile,
    /// Of each name the tensors that have it. Two or more are copies of one, and which is meant, none of them says.
    entries: BTreeMap<String, Vec<&'a TensorEntry>>,
    used: BTreeSet<String>,
}

impl<'a> Source<'a> {
    fn new(file: &'a TensorFile) -> Self {
        let mut entries: BTreeMap<String, Vec<&TensorEntry>> = BTreeMap::new();
        for t in file.header().tensors.iter().filter(|t| !t.name.ends_with("num_batches_tracked")) {
            entries.entry(unwrapped(&t.name)).or_default().push(t);
        }
        Self { file, entries, used: BTreeSet::new() }
    }

    /// The name of the first of `layers` that has `part`.
    fn find(&self, layers: &[String], part: &str) -> Option<String> {
        layers.iter().map(|layer| joined(layer, part)).find(|name| self.entries.contains_key(name))
    }

    /// The only tensor of a name.
    fn only(&self, name: &str) -> std::result::Result<&'a TensorEntry, String> {
        match self.entries[name][..] {
            [entry] => Ok(entry),
            ref copies => {
                let names: Vec<String> = copies.iter().map(|t| format!("`{}`", t.name)).collect();
                Err(format!("{}: expected one tensor for `{name}`, found {}", names.join(" and "), copies.len()))
            }
        }
    }

    /// A tensor as floats.
    fn take(&mut self, name: &str) -> std::result::Result<Tensor, String> {
        self.used.insert(name.to_string());
        let entry = self.only(name)?;
        let Some(values) = self.file.values(entry) else {
            return Err(format!("`{name}`: expected floats (F32, F16, BF16, F64), found {}", entry.dtype));
        };
        Tensor::from_vec(&entry.shape, values).map_err(|e| format!("`{name}`: {e}"))
    }
}

/// The weights of `file` for the model whose operations are `plan`, of any precision. What does not fit is told, not refused.
pub fn translate(file: &TensorFile, plan: &Plan) -> Imported {
    let mut source = Source::new(file);
    let mut out = Imported { tensors: BTreeMap::new(), identities: Vec::new(), misfits: Vec::new() };
    for layer in parts(plan) {
        let names = aliases(layer.layer);
        if let Some(identity) = layer.identity()
            && identity.iter().all(|(part, _)| source.find(&names, part).is_none())
        {
            for ((_, shape), (part, value)) in layer.tensors.iter().zip(identity) {
                out.tensors.insert(format!("{}.{part}", layer.layer), Tensor::full(shape, value));
            }
            out.identities.push(layer.layer.into());
            continue;
        }
        for (part, shape) in &layer.tensors {
            let own = joined(layer.layer, part);
            let Some(name) = source.find(&names, part) else {
                let tried: Vec<String> = names.iter().map(|n| joined(n, part)).collect();
                out.misfits.push(format!("`{own}` {shape:?}: expected {}, found none", tried.join(" or ")));
                continue;
            };
            let theirs = match source.take(&name) {
                Ok(tensor) => tensor,
                Err(e) => {
                    out.misfits.push(e);
                    continue;
                }
            };
            match layer.enters(part, shape, &theirs) {
                Some(tensor) => {
                    out.tensors.insert(own, tensor);
                }
                None => {
                    let expected = match *shape.as_slice() {
                        [o, kh, kw, i] => format!("{:?}", [o, i, kh, kw]),
                        _ => format!("{shape:?}"),
                    };
                    out.misfits.push(format!("`{name}`: expected {expected}, found {:?}", theirs.shape()));
                }
            }
        }
    }
    let left: Vec<&String> = source.entries.keys().filter(|name| !source.used.contains(*name)).collect();
    for name in left {
        let told = source.only(name).map(|t| format!("`{name}` {:?}: expected no such tensor", t.shape));
        out.misfits.push(told.unwrap_or_else(|copies| copies));
    }
    out
}
