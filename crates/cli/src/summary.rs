//! `fixnet summary`: the layers of a network with their shapes, parameters, bits and multiply-adds.

use crate::out::say;
use anyhow::Result;
use fixnet::autograd::Store;
use fixnet::checkpoint::Checkpoint;
use fixnet::plan::{Plan, Summary};
use fixnet::train::run::place::{config_of, existing_checkpoint_or_best};
use fixnet::train::{Packed, Trained, task};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet summary`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe, the folder of a run, a checkpoint, or a packed network
    recipe: String,
    /// The checkpoint of the best epoch instead of the last one, of a run with --keep-best
    #[arg(long)]
    best: bool,
    /// Bits of weights/activations/gradients
    #[arg(long)]
    bits: Option<String>,
    /// The network
    #[arg(long)]
    model: Option<String>,
    /// Height, width and channels of an image, steps and channels of a sequence, or the columns of a row, instead of those of the data
    #[arg(long, value_name = "HxWxC", value_parser = shape)]
    input: Option<Shape>,
    /// Classes, instead of those of the data
    #[arg(long, value_parser = classes)]
    classes: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The lengths of an input's axes.
#[derive(Debug, Clone)]
pub(crate) struct Shape(pub(crate) Vec<usize>);

/// Three lengths such as `32x32x3`, two such as `98x40`, or one such as `13`.
pub(crate) fn shape(text: &str) -> Result<Shape, String> {
    let lengths: Option<Vec<usize>> =
        text.split('x').map(|n| n.parse().ok().filter(|n| (1..=65_536).contains(n))).collect();
    match lengths {
        Some(lengths) if (1..=3).contains(&lengths.len()) => Ok(Shape(lengths)),
        _ => Err(format!("expected lengths from 1 to 65536 such as 32x32x3, 98x40 or 13, found {text}")),
    }
}

/// A number of classes.
pub(crate) fn classes(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|n| (1..=65_536).contains(n));
    number.ok_or_else(|| format!("expected 1 to 65536 classes, found {text}"))
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let path = PathBuf::from(&args.recipe);
    let is_run = path.is_dir() || path.extension().is_some_and(|e| e == "safetensors");
    let as_it_is = args.bits.is_none() && args.model.is_none() && args.input.is_none() && args.classes.is_none();
    if let Some(packed) = (is_run && path.is_file()).then(|| Packed::open(&path)).transpose()?.flatten() {
        if !as_it_is || args.best {
            let reason = "expected no other flags than --json for a packed network, whose operations are fixed";
            return Err(crate::usage(anyhow::anyhow!("{}: {reason}", path.display())));
        }
        return print(&args, &packed.plan().summary(), packed.task().class_names());
    }
    let checkpoint = (is_run || args.best).then(|| existing_checkpoint_or_best(&path, args.best)).transpose()?;
    let checkpoint = checkpoint.map(|file| Checkpoint::open_or_previous(&file)).transpose()?.map(|(found, _)| found);
    let mut settings = match &checkpoint {
        Some(checkpoint) => config_of(checkpoint)?.settings().clone(),
        None => crate::train::find(&args.recipe)?,
    };
    for (key, value) in [("quantization.bits", &args.bits), ("model.name", &args.model)] {
        if let Some(value) = value {
            settings.set(key, value.as_str().into()).map_err(|e| crate::usage(e.into()))?;
        }
    }
    let config = settings.check().map_err(|e| crate::usage(e.into()))?;
    let input = args.input.as_ref().map(|shape| shape.0.clone());
    let (task, class_names) = match (input, args.classes, &checkpoint) {
        (Some(input), Some(classes), _) => (task::of_shape(&config, &input, classes)?, None),
        (input, classes, found) => {
            let known = match found {
                Some(found) => task::recorded(&config, &found.path().display().to_string(), found.metadata())?,
                None => task::load(&config)?.0,
            };
            // Other classes than those of the data have no names.
            let names = known.class_names().map(<[String]>::to_vec).filter(|_| classes.is_none());
            match (input, classes) {
                (None, None) => (known, names),
                (input, classes) => {
                    let classes = classes.or(known.classes()).unwrap_or(1);
                    (task::of_shape(&config, &input.unwrap_or(known.input_shape()), classes)?, names)
                }
            }
        }
    };
    // Of a checkpoint as it is, the model is the one that it holds: a larger one is not even built.
    let mut store = match &checkpoint {
        Some(checkpoint) if as_it_is => Trained::expected(&config, checkpoint, Store::seeded(0)),
        _ => Store::seeded(0),
    };
    let net = task.build(&mut store, &config)?;
    let input = task.input_shape();
    let summary = Plan::of(&*net, &mut store, &input)?.summary();
    print(&args, &summary, class_names.as_deref())
}

/// Prints the layers.
fn print(args: &Args, summary: &Summary, class_names: Option<&[String]>) -> Result<ExitCode> {
    if !args.json {
        say!("{summary}");
        return Ok(ExitCode::SUCCESS);
    }
    let row = |r: &fixnet::plan::Row| {
        json!({
            "layer": r.name, "kind": r.kind, "output": r.shape, "parameters": r.parameters, "bits": r.bits,
            "multiply_adds": r.macs,
        })
    };
    let layers: Vec<_> = summary.rows.iter().map(row).collect();
    say!(
        "{}",
        json!({
            "layers": layers, "parameters": summary.parameters(), "packed_bytes": summary.packed_bytes,
            "multiply_adds": summary.macs(), "class_names": class_names,
        })
    );
    Ok(ExitCode::SUCCESS)
}
