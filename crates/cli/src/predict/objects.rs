//! What a detector found: boxes drawn on the image, and all detections as a file of results in COCO's form.

use super::Args;
use crate::{outputs, usage};
use anyhow::{Context, Result, anyhow};
use fixnet::data::{BoundingBox, Detection, Inputs, Picture, Sample, outlined};
use fixnet::files;
use fixnet::train::run::place::checkpoint_path;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Colours of classes, which repeat: those of Okabe and Ito, which people with colour blindness tell apart too.
const COLOURS: [[u8; 3]; 7] =
    [[213, 94, 0], [0, 114, 178], [0, 158, 115], [230, 159, 0], [86, 180, 233], [204, 121, 167], [240, 228, 66]];

/// The input `index` with the boxes of its objects.
///
/// # Errors
/// The input cannot be read any more, or is no image.
pub(super) fn drawn(inputs: &Inputs, index: usize, objects: &[(String, Detection)]) -> Result<Picture> {
    let Sample::Image(image) = inputs.get(index)?.sample else {
        return Err(anyhow!("{}: expected an image, found numbers", inputs.name(index)));
    };
    let boxes: Vec<(BoundingBox, [u8; 3])> =
        objects.iter().map(|(_, found)| (found.bbox, COLOURS[found.class % COLOURS.len()])).collect();
    Ok(outlined(&image.picture()?, &boxes)?)
}

/// The detections of all inputs for `--coco`.
pub(super) struct CocoResults {
    file: Option<PathBuf>,
    results: Vec<Value>,
}

impl CocoResults {
    /// The file that the arguments ask for, if they do. `pictures` are the files that are written beside it.
    ///
    /// # Errors
    /// The command line makes no sense: the network finds no objects, or the file is taken by an input or a run.
    pub(super) fn of(args: &Args, inputs: &Inputs, detects: bool, pictures: &[PathBuf]) -> Result<Self> {
        if let Some(file) = &args.coco {
            if !detects {
                return Err(usage(anyhow!("--coco: expected a network that finds objects, found another one")));
            }
            let checkpoint = checkpoint_path(&args.run);
            let read = (0..inputs.len()).map(|i| inputs.source(i).0).chain([checkpoint.as_path()]);
            let all: Vec<&Path> = pictures.iter().chain([file]).map(PathBuf::as_path).collect();
            outputs::check(&all, &read.collect::<Vec<&Path>>(), None)?;
        }
        Ok(Self { file: args.coco.clone(), results: Vec::new() })
    }

    /// Adds the objects of an input; `ids` are the numbers of the classes, 0, 1, … where they have none.
    pub(super) fn add(&mut self, index: usize, name: &str, objects: &[(String, Detection)], ids: Option<&[u64]>) {
        if self.file.is_none() {
            return;
        }
        let id = |class: usize| ids.and_then(|ids| ids.get(class)).copied().unwrap_or(class as u64);
        let result = |(class, found): &(String, Detection)| {
            json!({
                "image_id": index, "file_name": name, "category_id": id(found.class), "category": class,
                "bbox": found.bbox.to_xywh(), "score": found.score,
            })
        };
        self.results.extend(objects.iter().map(result));
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(self) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&self.results)?;
        files::write(&file, &text).with_context(|| file.display().to_string())
    }
}
