//! Writes a network of every operation for `scripts/onnx/run`: `operations FOLDER FORM [OPSET]` leaves `net.onnx`, images with the
//! logits of fixnet, and the sizes of the files in the folder. FORM is int8, int4 or float.

mod common;
#[path = "../tests/operations/network.rs"]
mod network;

use fixnet_autograd::Store;
use fixnet_nn::plan::Plan;
use network::{Composed, INPUT, images};
use std::path::Path;

fn main() -> common::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, form, opset @ ..] = arguments.as_slice() else { return Err("expected a folder and a form".into()) };
    let form = common::form(form)?;
    let form = match opset {
        [] => form,
        [opset, ..] => form.with_opset(opset.parse()?)?,
    };
    let mut store = Store::seeded(1);
    let net = Composed::new(&mut store)?;
    let plan = Plan::of(&net, &mut store, &INPUT)?;
    common::write(Path::new(folder), &plan, images(12), form)
}
