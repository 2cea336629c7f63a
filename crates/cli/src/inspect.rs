//! `fixnet inspect`: what is in a safetensors file.

use crate::out::{name, note, say, text};
use anyhow::Result;
use fixnet::checkpoint::{Header, TensorFile};
use fixnet::export::class_names;
use fixnet::train::run::place::existing_checkpoint;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet inspect`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A safetensors file, or the folder of a run
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let path = existing_checkpoint(&args.file)?;
    let mut header = Header::read(&path)?;
    // A file with a checksum is read to its end and compared; of others the header is enough.
    let checked = header.checksum().is_some();
    if checked {
        header = TensorFile::read(&path)?.header().clone();
    }
    let place = path.display().to_string();
    // A damaged list is no reason not to show the rest of the file.
    let class_names = class_names::read(&place, &header.metadata).unwrap_or_else(|e| {
        note!("warning: {e}");
        None
    });
    let numbers = |shape: &[usize]| shape.iter().product::<usize>();
    let total: usize = header.tensors.iter().map(|t| numbers(&t.shape)).sum();
    if args.json {
        let tensors: Vec<_> = header
            .tensors
            .iter()
            .map(|t| json!({ "name": t.name, "type": t.dtype, "shape": t.shape, "bytes": t.bytes.len() }))
            .collect();
        say!(
            "{}",
            json!({
                "file": text(&path), "bytes": header.file_bytes, "checksum_compared": checked, "metadata": header.metadata,
                "class_names": class_names, "tensors": tensors,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    let whole = if checked { "whole (its checksum was compared)" } else { "without a checksum" };
    say!("{}: {} bytes, {whole}", path.display(), header.file_bytes);
    for (key, value) in &header.metadata {
        let key = name(key);
        if value.contains('\n') {
            say!("{key}:\n    {}", value.trim_end().replace('\n', "\n    "));
        } else {
            say!("{key}: {value}");
        }
    }
    let shapes: Vec<String> = header.tensors.iter().map(|t| format!("{:?}", t.shape)).collect();
    let width = |least: usize, texts: &mut dyn Iterator<Item = usize>| texts.fold(least, usize::max);
    let names: Vec<String> = header.tensors.iter().map(|t| name(&t.name)).collect();
    let longest = width(4, &mut names.iter().map(|name| name.chars().count()));
    let wide = width(5, &mut shapes.iter().map(String::len));
    say!("\n{:longest$}  {:<8}  {:wide$}  {:>12}", "name", "type", "shape", "bytes");
    for ((t, name), shape) in header.tensors.iter().zip(&names).zip(&shapes) {
        say!("{name:longest$}  {:<8}  {shape:wide$}  {:>12}", t.dtype, t.bytes.len());
    }
    say!("{} tensors, {total} numbers", header.tensors.len());
    Ok(ExitCode::SUCCESS)
}
