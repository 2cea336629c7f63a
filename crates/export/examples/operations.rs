//! Writes a network of every operation for `scripts/onnx/run`: `operations FOLDER FORM [OPSET]` leaves `net.onnx`, images with the
//! logits of fixnet, and the sizes of the files in the folder. FORM is int8, int4 or float.

#[path = "../tests/operations/network.rs"]
mod network;

use fixnet_autograd::{Array, Store};
use fixnet_export::{onnx, packed};
use fixnet_nn::checkpoint::TensorFile;
use fixnet_nn::plan::Plan;
use fixnet_tensor::Tensor;
use network::{Composed, INPUT, images};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, codes, opset @ ..] = arguments.as_slice() else { return Err("expected a folder and a form".into()) };
    let folder = PathBuf::from(folder);
    let codes = match codes.as_str() {
        "int8" => onnx::CodeType::Int8,
        "int4" => onnx::CodeType::Int4,
        "float" => onnx::CodeType::Float,
        other => return Err(format!("expected int8, int4 or float, found {other}").into()),
    };
    let form = match opset {
        [] => onnx::Form::new(codes),
        [opset, ..] => onnx::Form::new(codes).with_opset(opset.parse()?)?,
    };
    let mut store = Store::seeded(1);
    let net = Composed::new(&mut store)?;
    let plan = Plan::of(&net, &mut store, &INPUT)?;
    let x = images(12);
    let logits = plan.run(x.clone())?.into_first();
    let onnx_bytes = onnx::save(&folder.join("net.onnx"), &plan, &onnx::Options { form, ..onnx::Options::default() })?;
    let packed_path = folder.join("packed.safetensors");
    packed::save(&packed_path, &plan, &BTreeMap::new())?;
    let packed_bytes = std::fs::metadata(&packed_path)?.len();
    // Other runtimes take images with their channels first.
    let [n, h, w, c] = x.nhwc("images")?;
    let first = (0..x.len()).map(|i| x.data()[(i / (c * h * w) * h * w + i % (h * w)) * c + i / (h * w) % c]).collect();
    let arrays = [
        ("images".to_string(), Array::F32(Tensor::from_vec(&[n, c, h, w], first)?)),
        ("logits".to_string(), Array::F32(logits)),
    ];
    TensorFile::save(&folder.join("samples.safetensors"), &arrays, &BTreeMap::new())?;
    let floats = 4 * plan.summary().parameters();
    let sizes = format!(
        r#"{{"parameters_as_f32": {floats}, "files": {{"onnx": {{"bytes": {onnx_bytes}}}, "packed": {{"bytes": {packed_bytes}}}}}}}"#
    );
    std::fs::write(folder.join("export.json"), sizes)?;
    Ok(())
}
