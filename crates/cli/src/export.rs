//! `fixnet export`: a trained network as ONNX, packed or as its weights alone, with samples to check a runtime against; and
//! packed networks for `fixnet eval`.

use crate::folder::{checkpoint_path, existing_checkpoint};
use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::outputs;
use crate::recipe::Recipe;
use crate::run::{CONFIG, recipe_of};
use crate::trained::{BATCH, Trained, test_images};
use crate::usage;
use anyhow::{Context, Result, anyhow, bail};
use fixnet::autograd::Array;
use fixnet::checkpoint::{Checkpoint, Header, Pretrained, TensorFile};
use fixnet::data::DataDescription;
use fixnet::export::{class_names, onnx, packed};
use fixnet::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `fixnet export`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, or a checkpoint
    run: PathBuf,
    /// Write an ONNX file (opset 13)
    #[arg(long, value_name = "FILE")]
    onnx: Option<PathBuf>,
    /// How the ONNX file stores quantized weights
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = OnnxWeights::Int8, requires = "onnx")]
    onnx_weights: OnnxWeights,
    /// Write no type but f32 to the ONNX file: quantizers become Round and Clip
    #[arg(long, requires = "onnx", conflicts_with = "onnx_weights")]
    float: bool,
    /// Write the network with weights packed to their bits (safetensors)
    #[arg(long, value_name = "FILE")]
    packed: Option<PathBuf>,
    /// Write weights and running statistics alone, as f32 (safetensors), for `fixnet train --init`
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Write the test images with their logits (safetensors: `images` [N, C, H, W] from 0 to 1, `logits`, `labels`)
    #[arg(long, value_name = "FILE")]
    samples: Option<PathBuf>,
    /// The same data in another place
    #[arg(long, value_name = "KIND:PATH")]
    data: Option<String>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How an ONNX file stores the codes of quantized weights.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OnnxWeights {
    /// One code per byte, which most runtimes read
    Int8,
    /// Two codes per byte where weights have at most 4 bits; needs opset 21
    Int4,
}

impl Args {
    fn form(&self) -> onnx::Form {
        match (self.float, self.onnx_weights) {
            (true, _) => onnx::Form::Float,
            (false, OnnxWeights::Int8) => onnx::Form::Int8,
            (false, OnnxWeights::Int4) => onnx::Form::Int4,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if [&args.onnx, &args.packed, &args.weights, &args.samples].into_iter().all(Option::is_none) {
        return Err(usage(anyhow!(
            "expected --onnx FILE, --packed FILE, --weights FILE or --samples FILE, found none"
        )));
    }
    let files = [&args.onnx, &args.packed, &args.weights, &args.samples].into_iter().flatten();
    let files: Vec<&Path> = files.map(PathBuf::as_path).collect();
    outputs::check(&files, &[&checkpoint_path(&args.run)], None)?;
    args.machine.run(|_| export(&args))
}

fn export(args: &Args) -> Result<ExitCode> {
    let (checkpoint, problem) = Checkpoint::open_or_previous(&existing_checkpoint(&args.run)?)?;
    if let Some(problem) = problem {
        note!("warning: {problem}");
        note!("warning: the previous checkpoint is exported, of step {}", checkpoint.step());
    }
    let mut recipe = recipe_of(&checkpoint)?;
    recipe.move_data(args.data.as_deref())?;
    let mut trained = Trained::open(&recipe, &checkpoint)?;
    let plan = trained.plan()?;
    let metadata = BTreeMap::from([
        (CONFIG.to_string(), recipe.to_toml()?),
        ("digest".to_string(), trained.digest().to_string()),
        ("step".to_string(), checkpoint.step().to_string()),
    ]);
    let floats = 4 * plan.summary().parameters();
    let mut written = Vec::new();
    if let Some(path) = &args.onnx {
        let options = onnx::Options { form: args.form(), metadata: metadata.clone() };
        written.push(("onnx", path, onnx::save(path, &plan, &options)? as u64));
    }
    if let Some(path) = &args.packed {
        packed::save(path, &plan, &metadata)?;
        written.push(("packed", path, bytes(path)?));
    }
    if let Some(path) = &args.weights {
        let mut metadata = metadata.clone();
        let names = plan.class_names().map(class_names::to_json);
        metadata.extend(names.map(|names| (class_names::KEY.to_string(), names)));
        Pretrained::of(trained.store()).save(path, &metadata)?;
        written.push(("weights", path, bytes(path)?));
    }
    if let Some(path) = &args.samples {
        samples(path, &plan, &test_images(&recipe, trained.description())?)?;
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

/// Images for a runtime and what fixnet makes of them.
fn samples(path: &Path, plan: &Plan, data: &Dataset) -> Result<()> {
    let mut logits = Vec::new();
    // The plan normalizes.
    for batch in Loader::new(data, BATCH, Normalize::none(data.channels)) {
        logits.extend_from_slice(plan.run(batch?.images)?.first().data());
    }
    let [h, w, c] = data.shape();
    let mut images = Vec::with_capacity(data.len() * h * w * c);
    for i in 0..data.len() {
        let image = data.image(i)?;
        images.extend((0..c).flat_map(|k| image[k..].iter().step_by(c).map(|&v| f32::from(v) / 255.0)));
    }
    let arrays = [
        ("images".to_string(), Array::F32(Tensor::from_vec(&[data.len(), c, h, w], images)?)),
        ("logits".to_string(), Array::F32(Tensor::from_vec(&[data.len(), logits.len() / data.len()], logits)?)),
        ("labels".to_string(), Array::U64(data.labels().iter().map(|&l| l.into()).collect())),
    ];
    Ok(TensorFile::save(path, &arrays, &BTreeMap::new())?)
}

/// A packed network with the recipe that it was trained by.
pub(crate) struct Packed {
    plan: Plan,
    description: DataDescription,
    pub(crate) recipe: Recipe,
}

impl Packed {
    /// Reads a file if it is a packed network; whatever else it is, others know.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match Header::read(path) {
            Ok(header) if header.metadata.contains_key(packed::PLAN) => {}
            _ => return Ok(None),
        }
        let (plan, metadata) = packed::load(path)?;
        let place = path.display().to_string();
        let text = metadata
            .get(CONFIG)
            .with_context(|| format!("{place}: expected the recipe in its metadata, found none"))?;
        let recipe = Recipe::from_toml(text, &place)?;
        let normalize = plan.normalize().cloned();
        let normalize = normalize.with_context(|| format!("{place}: expected a normalization, found none"))?;
        let (&[h, w, c], &[classes]) = (plan.input_shape(), plan.output_shape()) else {
            bail!(
                "{place}: expected a classifier of images, found a network from {:?} to {:?}",
                plan.input_shape(),
                plan.output_shape()
            );
        };
        let names = plan.class_names().map(<[String]>::to_vec);
        let description = DataDescription::of_network(&place, [h, w, c], classes, names, normalize)?;
        Ok(Some(Self { plan, description, recipe }))
    }

    /// What it was trained on.
    pub(crate) fn description(&self) -> &DataDescription {
        &self.description
    }

    /// Its accuracy on `data`.
    pub(crate) fn evaluate(&self, data: &Dataset) -> Result<Evaluation> {
        // The plan normalizes. No file has an evaluation take more memory than a batch is given.
        let batches = Loader::new(data, self.plan.batch(BATCH), Normalize::none(data.channels));
        Ok(metrics::evaluate(&self.plan, &mut Store::seeded(0), batches)?)
    }
}
