//! What examples for `scripts/onnx/run` leave in a folder, and what detectors of examples share.
#![allow(dead_code, reason = "each example uses its part")]

use fixnet_autograd::{Array, Store};
use fixnet_export::{onnx, packed};
use fixnet_nn::checkpoint::TensorFile;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// The result of an example.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The form of a name: int8, int4 or float.
pub(crate) fn form(name: &str) -> Result<onnx::Form> {
    Ok(onnx::Form::new(match name {
        "int8" => onnx::CodeType::Int8,
        "int4" => onnx::CodeType::Int4,
        "float" => onnx::CodeType::Float,
        other => return Err(format!("expected int8, int4 or float, found {other}").into()),
    }))
}

/// Writes `net.onnx`, images with the outputs of fixnet, and the sizes of the files.
pub(crate) fn write(folder: &Path, plan: &Plan, x: Tensor, form: onnx::Form) -> Result<()> {
    let outputs = plan.run(x.clone())?.into_first();
    let onnx_bytes = onnx::save(&folder.join("net.onnx"), plan, &onnx::Options { form, ..onnx::Options::default() })?;
    let packed_path = folder.join("packed.safetensors");
    packed::save(&packed_path, plan, &BTreeMap::new())?;
    let packed_bytes = std::fs::metadata(&packed_path)?.len();
    // Other runtimes take images with their channels first.
    let [n, h, w, c] = x.nhwc("images")?;
    let first = (0..x.len()).map(|i| x.data()[(i / (c * h * w) * h * w + i % (h * w)) * c + i / (h * w) % c]).collect();
    let flat = Tensor::from_vec(&[n, outputs.len() / n], outputs.data().to_vec())?;
    let arrays = [
        ("images".to_string(), Array::F32(Tensor::from_vec(&[n, c, h, w], first)?)),
        ("logits".to_string(), Array::F32(flat)),
    ];
    TensorFile::save(&folder.join("samples.safetensors"), &arrays, &BTreeMap::new())?;
    let floats = 4 * plan.summary().parameters();
    let sizes = format!(
        r#"{{"parameters_as_f32": {floats}, "files": {{"onnx": {{"bytes": {onnx_bytes}}}, "packed": {{"bytes": {packed_bytes}}}}}}}"#
    );
    Ok(std::fs::write(folder.join("export.json"), sizes)?)
}

/// Gives the heads of a new detector larger weights, which tell its boxes apart: they start so small that they say nearly the same of all.
pub(crate) fn enlarge_head(store: &mut Store) {
    let of_head = |name: &str| ["head.", "rpn.head.", "roi_heads."].iter().any(|head| name.starts_with(head));
    for id in store.ids().filter(|id| of_head(store.param(*id).name())).collect::<Vec<_>>() {
        let last = match store.param(id).name() {
            name if name.contains("bbox_reg") || name.contains("rpn.head.bbox_pred") => 0.02,
            name if name.contains("cls_logits") => 0.2,
            name if name.contains("cls_score") => 3.0,
            name if name.contains("bbox_pred") => 2.0,
            _ => 1.0,
        };
        let value = &mut store.param_mut(id).value;
        let factor = match *value.shape() {
            [_, kh, kw, channels] => last * 100.0 * (2.0 / (kh * kw * channels) as f32).sqrt(),
            [_, inputs] if last != 1.0 => last * 100.0 * (2.0 / inputs as f32).sqrt(),
            _ => 0.6,
        };
        value.data_mut().iter_mut().for_each(|w| *w *= factor);
    }
}
