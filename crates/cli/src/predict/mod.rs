//! `fixnet predict`: what a trained network says of images, recordings, sequences and rows. A network for super-resolution enlarges images, a
//! detector finds objects and draws their boxes.
//!
//! | file | what |
//! |---|---|
//! | here | arguments, and the way from inputs to answers |
//! | `printed.rs` | answers as lines for people, as JSON and as CSV |
//! | `objects.rs` | boxes drawn on images, and as JSON in the form of COCO |
//! | `places.rs` | where pictures are written |

mod objects;
mod places;
mod printed;

use crate::machine::Machine;
use crate::out::note;
use anyhow::{Context, Result};
use fixnet::files;
use fixnet::models::Output;
use fixnet::train::Predictor;
use fixnet::train::task::Answer;
use objects::CocoResults;
use places::Places;
use printed::{Form, Printed, Said};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `fixnet predict`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of a run, a checkpoint, or a packed network
    run: PathBuf,
    /// PNG, JPEG, WebP and BMP images, WAV files, folders of them, .npz files of images, sequences or rows, and .csv files
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// The checkpoint of the best epoch instead of the last one, of a run with --keep-best
    #[arg(long)]
    best: bool,
    /// How many of the most probable classes are printed (default: 3; with --json all, at most 100), or objects of an image
    /// (default: 20; with --json and --csv all)
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    top: Option<u32>,
    /// Where an enlarged image is written, as PNG; a folder for several (default: NAME-enlarged.png beside each image). Of a
    /// detector the image with the boxes of what it found (default: none)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write all detections to a file in COCO's form of results: image_id counts the images of the inputs from 0, and
    /// category_id is the id of the class in the COCO file of the training images, or else its index from 0
    #[arg(long, value_name = "FILE")]
    coco: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// Print one JSON object per input
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print a table as CSV, one row per input
    #[arg(long)]
    csv: bool,
}

impl Args {
    fn form(&self) -> Form {
        match (self.json, self.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Lines,
        }
    }
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    args.machine.run(|_| predict(&args))
}

fn predict(args: &Args) -> Result<ExitCode> {
    let load = if args.best { Predictor::load_best } else { Predictor::load };
    let predictor = load(&args.run)?;
    predictor.notes().iter().for_each(|text| note!("{text}"));
    let (mut inputs, mut refused) = (predictor.inputs(), Vec::new());
    for path in &args.inputs {
        if let Err(e) = inputs.add(path) {
            refused.push((path.display().to_string(), e.to_string()));
        }
    }
    inputs.notes().iter().for_each(|text| note!("{text}"));
    let output = predictor.config().map(|config| config.model().output());
    let detects = matches!(output, Some(Output::Boxes(_)));
    let writes = matches!(output, Some(Output::Image { .. })) || (detects && args.out.is_some());
    let places = Places::of(args, &inputs, writes)?;
    let pictures = if detects && writes { places.files(&inputs) } else { Vec::new() };
    let mut coco = CocoResults::of(args, &inputs, detects, &pictures)?;
    if args.top.is_some()
        && predictor.task().class_names().is_none()
        && predictor.task().classes().is_none_or(|n| n < 2)
    {
        note!(
            "warning: --top: expected a classifier, found a network for {}; it has no effect",
            predictor.task().name()
        );
    }
    let names = || (0..inputs.len()).map(|i| inputs.name(i));
    let mut printed = Printed::new(args.form(), args.top, names(), predictor.task().class_names());
    let all = inputs.len() + refused.len();
    let (mut failed, mut converted) = (refused.len(), Vec::new());
    for (name, problem) in refused {
        printed.problem(name, problem)?;
    }
    for answered in predictor.answers(&inputs) {
        let name = inputs.name(answered.index);
        converted.extend(answered.converted_from);
        match answered.answer {
            Ok(Answer::Picture(large)) => {
                let file = places.file(&inputs, answered.index);
                files::write(&file, &large.to_png()?).with_context(|| file.display().to_string())?;
                printed.answer(name, Said::Enlarged { file, height: large.height(), width: large.width() })?;
            }
            Ok(Answer::Classes(classes)) => printed.answer(name, Said::Classes(classes))?,
            Ok(Answer::Objects(objects)) => {
                if writes {
                    let file = places.file(&inputs, answered.index);
                    match objects::drawn(&inputs, answered.index, &objects) {
                        Ok(picture) => {
                            files::write(&file, &picture.to_png()?).with_context(|| file.display().to_string())?;
                        }
                        // Read a second time: it may be gone by now.
                        Err(e) => {
                            failed += 1;
                            printed.problem(name, e.to_string())?;
                            continue;
                        }
                    }
                }
                coco.add(answered.index, &name, &objects, predictor.task().category_ids());
                printed.answer(name, Said::Objects(objects))?;
            }
            Ok(Answer::Numbers(numbers)) => printed.answer(name, Said::Numbers(numbers))?,
            Ok(_) => {
                failed += 1;
                printed.problem(name, "expected an answer that can be printed, found another one".into())?;
            }
            Err(e) => {
                failed += 1;
                printed.problem(name, e.to_string())?;
            }
        }
    }
    printed.finish()?;
    coco.write()?;
    if let Some(text) = inputs.note_on_conversions(&converted) {
        note!("{text}");
    }
    if failed > 0 && all > 1 {
        note!("error: {failed} of {all} inputs have no answer");
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
