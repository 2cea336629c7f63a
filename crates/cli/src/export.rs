//! `fixnet export`: a trained network as ONNX, packed or as its weights alone, with samples to check a runtime against.

use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::outputs;
use crate::train::tested_on;
use crate::usage;
use anyhow::{Context, Result, anyhow};
use fixnet::autograd::Array;
use fixnet::checkpoint::{Checkpoint, TensorFile};
use fixnet::export::{self, onnx, torch};
use fixnet::metrics;
use fixnet::plan::Plan;
use fixnet::tensor::Tensor;
use fixnet::train::run::place::{checkpoint_path, config_of, existing_checkpoint_or_best};
use fixnet::train::task::{Data, Part};
use fixnet::train::{EVALUATED, Exported, Trained};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `fixnet export`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, or a checkpoint
    run: PathBuf,
    /// The checkpoint of the best epoch instead of the last one, of a run with --keep-best
    #[arg(long)]
    best: bool,
    /// Write an ONNX file; weights of up to 4 bits are INT4 (opset 21)
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// Write INT8 and UINT8 alone to the ONNX file, for runtimes without INT4 (opset 13)
    #[arg(long, requires = "onnx")]
    int8: bool,
    /// Write no type but f32 to the ONNX file: quantizers become Round and Clip (opset 13)
    #[arg(long, requires = "onnx", conflicts_with = "int8")]
    float: bool,
    /// The operator set of the ONNX file: 21 to 26; with --int8 or --float 13 to 26
    #[arg(long, value_name = "N", requires = "onnx")]
    opset: Option<u32>,
    /// Write the network with weights packed to their bits (safetensors)
    #[arg(long, value_name = "FILE")]
    packed: Option<PathBuf>,
    /// Write weights and running statistics alone, as f32 (safetensors), for `fixnet train --init`
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Write the state_dict of the same network in PyTorch (safetensors, f32): torch.nn.Module.load_state_dict takes it
    #[arg(long, value_name = "FILE")]
    torch: Option<PathBuf>,
    /// Whose names the layers have in it: torchvision (fc, downsample.0), cifar (linear, shortcut.0) or fixnet
    #[arg(long, value_name = "WHOSE", default_value_t, requires = "torch")]
    torch_names: torch::Names,
    /// Write the test images with their logits (safetensors: `images` [N, C, H, W] from 0 to 1, `logits`, `labels`)
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// The same data in another place
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    /// Write over files that fixnet did not write
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    fn form(&self) -> export::Result<onnx::Form> {
        let form = onnx::Form::new(match (self.float, self.int8) {
            (true, _) => onnx::CodeType::Float,
            (false, true) => onnx::CodeType::Int8,
            (false, false) => onnx::CodeType::Int4,
        });
        self.opset.map_or(Ok(form), |opset| form.with_opset(opset))
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let files = [&args.onnx, &args.packed, &args.weights, &args.torch, &args.samples];
    let files: Vec<&Path> = files.into_iter().flatten().map(PathBuf::as_path).collect();
    if files.is_empty() {
        return Err(usage(anyhow!(
            "expected --onnx FILE, --packed FILE, --weights FILE, --torch FILE or --samples FILE, found none"
        )));
    }
    args.form().map_err(|e| usage(e.into()))?;
    outputs::check(&files, &[&checkpoint_path(&args.run)], None)?;
    outputs::check_replaced(&files, args.force)?;
    args.machine.run(|_| export(&args))
}

fn export(args: &Args) -> Result<ExitCode> {
    let (checkpoint, problem) = Checkpoint::open_or_previous(&existing_checkpoint_or_best(&args.run, args.best)?)?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is exported, of step {}", checkpoint.step());
    }
    let config = tested_on(config_of(&checkpoint)?, args.data.as_deref())?;
    let mut trained = Trained::open(&config, &checkpoint)?;
    let exported = Exported::of_trained(&mut trained, &config, checkpoint.step())?;
    let floats = 4 * exported.plan().summary().parameters();
    let mut written = Vec::new();
    if let Some(path) = &args.onnx {
        written.push(("onnx", path, exported.write_onnx(path, args.form()?)?));
    }
    if let Some(path) = &args.packed {
        exported.write_packed(path)?;
        written.push(("packed", path, bytes(path)?));
    }
    if let Some(path) = &args.weights {
        exported.write_weights(path)?;
        written.push(("weights", path, bytes(path)?));
    }
    if let Some(path) = &args.torch {
        if let Some(text) = exported.latent() {
            note!("note: {} holds {text}: it computes other outputs", path.display());
        }
        exported.write_torch(path, args.torch_names)?;
        written.push(("torch", path, bytes(path)?));
    }
    if let Some(path) = &args.samples {
        samples(path, exported.plan(), &*trained.task().load_test(&config)?)?;
        written.push(("samples", path, bytes(path)?));
    }
    if args.json {
        let files: serde_json::Map<_, _> = written
            .iter()
            .map(|(kind, path, bytes)| ((*kind).into(), json!({ "file": text(path), "bytes": bytes })))
            .collect();
        say!("{}", json!({ "step": checkpoint.step(), "parameters_as_f32": floats, "files": files }));
        return Ok(ExitCode::SUCCESS);
    }
    for (kind, path, bytes) in written {
        let share = if kind == "samples" { String::new() } else { format!(" ({floats} as f32)") };
        say!("{kind:<8} {}  {bytes} bytes{share}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn bytes(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| path.display().to_string())?.len())
}

/// Test samples for a runtime, and what fixnet makes of them.
fn samples(path: &Path, plan: &Plan, data: &dyn Data) -> Result<()> {
    let mut arrays = data.arrays(Part::Test)?;
    // The data normalize, as for a network with layers.
    let plan = plan.clone().without_normalization();
    let (mut logits, mut done) = (Vec::new(), 0);
    for batch in data.batches(Part::Test, plan.batch(EVALUATED))? {
        let outputs = plan.run(batch?.inputs)?;
        metrics::check_finite(outputs.first(), 0.0, done).with_context(|| data.name(Part::Test))?;
        done += outputs.first().shape().first().copied().unwrap_or(0);
        logits.extend_from_slice(outputs.first().data());
    }
    let count = data.len(Part::Test);
    let logits = Tensor::from_vec(&[count, logits.len() / count.max(1)], logits)?;
    arrays.push(("logits".into(), Array::F32(logits)));
    Ok(TensorFile::save(path, &arrays, &BTreeMap::new())?)
}
