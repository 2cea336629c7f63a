//! `fixnet import`: weights that PyTorch has trained, as a file to start training from.

use crate::out::{note, say, text};
use crate::outputs;
use crate::usage;
use anyhow::Result;
use fixnet::autograd::Array;
use fixnet::checkpoint::TensorFile;
use fixnet::export::{self, class_names, torch};
use fixnet::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet import`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A state_dict of PyTorch as safetensors
    file: PathBuf,
    /// The network: resnet20, resnet18, resnet18-imagenet, resnet50-imagenet, lenet, …
    #[arg(long)]
    model: String,
    /// Height, width and channels of an image, or the columns of a row (default 224x224x3 for the networks of ImageNet, else 32x32x3)
    #[arg(long, value_name = "HxWxC", value_parser = crate::summary::shape)]
    input: Option<crate::summary::Shape>,
    /// Classes (default 1000 for the networks of ImageNet, else 10)
    #[arg(long, value_parser = crate::summary::classes)]
    classes: Option<usize>,
    /// The file to write, for `fixnet train --init`
    #[arg(long)]
    out: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let model: ModelSpec = args.model.parse().map_err(|e: fixnet::autograd::Error| usage(e.into()))?;
    outputs::check(&[&args.out], &[&args.file], None)?;
    let (size, classes) = model.published();
    let input = args.input.map_or_else(|| size.to_vec(), |shape| shape.0);
    let plan = torch::plan_of(&model, input, args.classes.unwrap_or(classes))?;
    let file = TensorFile::weights(&args.file)?;
    let imported = torch::translate(&file, &plan);
    if !imported.misfits.is_empty() {
        let (path, model, misfits) = (args.file, args.model, imported.misfits);
        return Err(export::Error::Misfit { path, model, misfits }.into());
    }
    let count = imported.tensors.len();
    let arrays: Vec<_> = imported.tensors.into_iter().map(|(name, t)| (name, Array::F32(t))).collect();
    let mut metadata = BTreeMap::from([
        ("fixnet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("model".to_string(), args.model),
    ]);
    // So that `--init` can tell that these are other classes.
    let names = class_names::of(&args.file.display().to_string(), &file.header().metadata, plan.output_shape())?;
    metadata.extend(names.map(|names| (class_names::KEY.to_string(), class_names::to_json(&names))));
    TensorFile::save(&args.out, &arrays, &metadata)?;
    if args.json {
        say!("{}", json!({ "file": text(&args.out), "tensors": count, "identities": imported.identities }));
    } else {
        say!("{count} tensors written to {}", args.out.display());
        imported.identities.iter().for_each(|name| note!("{name}: not in the file; it is the identity now"));
    }
    Ok(ExitCode::SUCCESS)
}
