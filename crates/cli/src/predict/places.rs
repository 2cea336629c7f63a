//! Where pictures are written, enlarged ones or those with boxes: in the place of no input, of no file of a run, and of no file that nobody named.

use super::Args;
use crate::{outputs, usage};
use anyhow::{Context, Result, anyhow};
use fixnet::data::Inputs;
use fixnet::train::run::place::checkpoint_path;
use std::path::{Path, PathBuf};

/// The places of pictures.
pub(super) enum Places {
    /// Beside each image, or nowhere for networks that give none.
    Beside,
    /// In this file.
    File(PathBuf),
    /// In this folder, under the names of the images.
    Folder(PathBuf),
}

impl Places {
    /// The places that the arguments ask for; `writes` says whether the network gives pictures.
    ///
    /// # Errors
    /// The command line makes no sense: the network gives no images, or a place is taken. The folder cannot be made.
    pub(super) fn of(args: &Args, inputs: &Inputs, writes: bool) -> Result<Self> {
        let places = match &args.out {
            Some(_) if !writes => {
                return Err(usage(anyhow!(
                    "--out: expected a network that gives an image or finds objects, found a classifier or another"
                )));
            }
            Some(out) if out.is_dir() => Self::Folder(out.clone()),
            Some(out) if inputs.len() > 1 => {
                if ending(out).is_some_and(|ending| ending == "png") {
                    return Err(usage(anyhow!(
                        "--out: expected a folder for the pictures of {} inputs, found the name of a file, {}",
                        inputs.len(),
                        out.display()
                    )));
                }
                Self::Folder(out.clone())
            }
            Some(out) => {
                if let Some(ending) = ending(out).filter(|ending| ending != "png") {
                    return Err(usage(anyhow!(
                        "--out: expected a name that ends in .png, the only kind that is written, found .{ending}"
                    )));
                }
                Self::File(out.clone())
            }
            None => Self::Beside,
        };
        if !writes {
            return Ok(places);
        }
        if let Self::Folder(folder) = &places {
            fixnet::files::create_folder(folder).with_context(|| folder.display().to_string())?;
        }
        let all = 0..inputs.len();
        let files = places.files(inputs);
        let taken = files.iter().find(|file| matches!(places, Self::Beside) && file.symlink_metadata().is_ok());
        if let Some(file) = taken {
            return Err(usage(anyhow!("--out: expected a file, since {} is there already", file.display())));
        }
        let checkpoint = checkpoint_path(&args.run);
        let read: Vec<&Path> = all.map(|i| inputs.source(i).0).chain([checkpoint.as_path()]).collect();
        outputs::check(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>(), &read, None)?;
        Ok(places)
    }

    /// Where the pictures of all inputs are written.
    pub(super) fn files(&self, inputs: &Inputs) -> Vec<PathBuf> {
        (0..inputs.len()).map(|i| self.file(inputs, i)).collect()
    }

    /// Where the picture of the input `index` is written.
    pub(super) fn file(&self, inputs: &Inputs, index: usize) -> PathBuf {
        let (path, number) = inputs.source(index);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let stem = number.map_or_else(|| stem.to_string(), |number| format!("{stem}-{number}"));
        match self {
            Self::File(file) => file.clone(),
            Self::Folder(folder) => folder.join(format!("{stem}.png")),
            Self::Beside => path.with_file_name(format!("{stem}-enlarged.png")),
        }
    }
}

/// The ending of a file's name in small letters.
fn ending(path: &Path) -> Option<String> {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase())
}
