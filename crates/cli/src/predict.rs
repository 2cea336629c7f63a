//! `fixnet predict`: what a trained network says of one image. A network for super-resolution enlarges it.

use crate::export::Packed;
use crate::machine::Machine;
use crate::out::{note, say, text};
use crate::{outputs, usage};
use anyhow::{Context, Result, anyhow};
use fixnet::checkpoint::Checkpoint;
use fixnet::data::Picture;
use fixnet::files;
use fixnet::train::Trained;
use fixnet::train::run::place::{checkpoint_path, config_of, existing_checkpoint_or_best};
use fixnet::train::task::{Answer, Unit};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The most probable classes that are printed.
const SHOWN: usize = 5;

/// Arguments of `fixnet predict`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, a checkpoint, or a packed network
    run: PathBuf,
    /// A PNG or JPEG image
    image: PathBuf,
    /// The checkpoint of the best epoch instead of the last one, of a run with --keep-best
    #[arg(long)]
    best: bool,
    /// Where an enlarged image is written, as PNG (default: NAME-enlarged.png beside the image, if there is no such file)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Where an enlarged image goes.
    fn out(&self) -> Result<PathBuf> {
        if let Some(out) = &self.out {
            return Ok(out.clone());
        }
        let stem = self.image.file_stem().unwrap_or_default().to_string_lossy();
        let path = self.image.with_file_name(format!("{stem}-enlarged.png"));
        match path.symlink_metadata() {
            Err(_) => Ok(path),
            Ok(_) => Err(usage(anyhow!("--out: expected a file, since {} is there already", path.display()))),
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    let out = args.out()?;
    outputs::check(&[&out], &[&args.image, &checkpoint_path(&args.run)], None)?;
    args.machine.run(|_| predict(&args, &out))
}

fn predict(args: &Args, out: &Path) -> Result<ExitCode> {
    let picture = Picture::read(&args.image)?;
    let path = existing_checkpoint_or_best(&args.run, args.best)?;
    let answer = match Packed::open(&path)? {
        Some(packed) => packed.predict(&picture)?,
        None => {
            let (checkpoint, problem) = Checkpoint::open_or_previous(&path)?;
            if let Some(problem) = problem {
                note!("warning: {problem}");
                note!("warning: the previous checkpoint is used, of step {}", checkpoint.step());
            }
            Trained::open(&config_of(&checkpoint)?, &checkpoint)?.predict(&picture)?
        }
    };
    match answer {
        Answer::Picture(large) => {
            files::write(out, &large.to_png()?).with_context(|| out.display().to_string())?;
            let (height, width) = (large.height(), large.width());
            match args.json {
                true => say!("{}", json!({ "file": text(out), "height": height, "width": width })),
                false => say!("{}  {width}x{height} pixels", out.display()),
            }
        }
        Answer::Classes(classes) => {
            if args.out.is_some() {
                return Err(usage(anyhow!("--out: expected a network that gives an image, found a classifier")));
            }
            let named = |(name, probability): &(String, f64)| json!({ "class": name, "probability": probability });
            match args.json {
                true => say!("{}", json!({ "classes": classes.iter().map(named).collect::<Vec<_>>() })),
                false => {
                    for (name, probability) in classes.iter().take(SHOWN) {
                        say!("{:>9}  {name}", Unit::Share.text(*probability));
                    }
                }
            }
        }
        _ => return Err(anyhow!("{}: expected an answer that can be written, found another one", path.display())),
    }
    Ok(ExitCode::SUCCESS)
}
