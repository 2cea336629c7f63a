//! A recipe for data of one's own: a task that can read them, and a network and a length of training that fit their size.

use crate::config::{OptimizerSettings, Settings};
use crate::task::{self, Data, Part, Task};
use crate::{Config, Result};
use std::path::Path;
use std::sync::Arc;

/// Steps that a suggested run takes, about.
const STEPS: usize = 3000;
/// Rows and columns to which images of different or large sizes are scaled.
const SCALED: usize = 64;
/// Images with a longer side are scaled where that is possible.
const LARGE: usize = 128;

/// A task with its data.
pub type TaskData = (Arc<dyn Task>, Box<dyn Data>);

/// Data with their task, and the configuration in which they were read.
pub type Loaded = (Config, Arc<dyn Task>, Box<dyn Data>);

/// A recipe that was made for data, and the data, which were read for it.
pub struct Suggestion {
    /// The recipe.
    pub settings: Settings,
    /// What the data are, in a few words: `72 images of 64x64 pixels`.
    pub data: String,
    /// The data.
    pub loaded: Loaded,
}

/// Returns data that were read for a suggestion, if a run of this configuration has the same.
///
/// # Errors
/// A configuration is of no task.
pub fn loaded_for(loaded: Option<Loaded>, config: &Config) -> Result<Option<TaskData>> {
    match loaded {
        Some((of, task, data)) => Ok((task::data_key(&of)? == task::data_key(config)?).then_some((task, data))),
        None => Ok(None),
    }
}

/// Makes a recipe for the data that `choose` sets: it is called with a recipe and changes in it what the user chose, at least
/// `data.source`. The tasks are tried in the order classification, regression, super-resolution. The recipe that is returned
/// has the suggestions alone, so `choose` is to be called once more on it.
///
/// # Errors
/// No task can read the data: the error of the first one that has to do with such a source.
pub fn suggest(choose: impl Fn(&mut Settings) -> Result<()>) -> Result<Suggestion> {
    let mut first = None;
    for base in ["table", "table-regression", "photos-x2"] {
        let mut settings = Settings::find(base)?;
        let loaded = chosen(&settings, &choose).and_then(|config| match is_scaled(&config)? {
            true => {
                settings.data.image_size = Some(SCALED);
                load(chosen(&settings, &choose)?)
            }
            false => load(config),
        });
        match loaded {
            Ok((config, task, data)) => {
                let about = fit(&mut settings, &config, &*task, &*data);
                return Ok(Suggestion { settings, data: about, loaded: (config, task, data) });
            }
            Err(e) => drop(first.get_or_insert(e)),
        }
    }
    Err(first.expect("there are tasks to try"))
}

/// A recipe after the user's choice.
fn chosen(base: &Settings, choose: &impl Fn(&mut Settings) -> Result<()>) -> Result<Config> {
    let mut settings = base.clone();
    choose(&mut settings)?;
    settings.check()
}

fn load(config: Config) -> Result<Loaded> {
    let (task, data) = task::load(&config)?;
    Ok((config, task, data))
}

/// Whether images are to be scaled since they are large or of several sizes, by their headers alone.
fn is_scaled(config: &Config) -> Result<bool> {
    if config.data().image_size.is_some() {
        return Ok(false);
    }
    let sizes = config.data().image_sizes()?;
    Ok(sizes.windows(2).any(|pair| pair[0] != pair[1]) || sizes.iter().flatten().any(|&side| side > LARGE))
}

/// Fits a recipe to the data.
fn fit(settings: &mut Settings, config: &Config, task: &dyn Task, data: &dyn Data) -> String {
    let samples = data.len(Part::Train);
    let shape = task.input_shape();
    let source = &config.data().source;
    settings.data.source = source.clone();
    settings.name = source.argument().map_or_else(
        || source.name().into(),
        |place| {
            Path::new(place)
                .file_stem()
                .map_or_else(|| source.name().into(), |stem| stem.to_string_lossy().into_owned())
        },
    );
    let what = match shape[..] {
        [height, width, channels] if task.classes().is_some() => {
            fit_images(settings, [height, width, channels]);
            format!("images of {height}x{width} pixels")
        }
        [columns] => format!("rows of {columns} numbers"),
        _ => return data.name(Part::Train),
    };
    settings.run.batch_size = batch_size(samples);
    let epochs = (STEPS * settings.run.batch_size / samples.max(1)).clamp(10, 100);
    settings.run.epochs = u32::try_from(epochs).unwrap_or(100);
    format!("{samples} {what}")
}

/// Samples of a batch, so many that the last batch of an epoch is not one sample, which a batch norm cannot take.
fn batch_size(samples: usize) -> usize {
    let usual = match samples {
        0..400 => 16,
        400..2000 => 32,
        _ => 64,
    };
    (2..=usual).rev().find(|size| samples % size != 1).unwrap_or(usual)
}

/// A network for images: small grey ones are as a rule drawn or written, others are photographs.
fn fit_images(settings: &mut Settings, [height, width, channels]: [usize; 3]) {
    let Settings { model, optimizer, quantization, augmentation, .. } = Settings::default();
    (settings.model, settings.quantization, settings.augmentation) = (model, quantization, augmentation);
    settings.optimizer = OptimizerSettings { lr: Some(0.05), ..optimizer };
    let side = height.max(width);
    let written = channels == 1 && side <= 40 && height.min(width) >= 4;
    if !written {
        let name = if side > LARGE { "resnet18-imagenet" } else { "resnet20" };
        settings.model.name = name.parse().expect("a model of this name");
        settings.augmentation.flip = true;
        settings.augmentation.crop_padding = side / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_has_one_sample() {
        assert_eq!([80, 81, 97, 400, 2000, 2049].map(batch_size), [16, 15, 15, 32, 64, 63]);
        for samples in 2..5000 {
            let size = batch_size(samples);
            assert!(samples % size != 1 && size > 8, "{samples}: {size}");
        }
    }
}
