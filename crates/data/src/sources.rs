//! The sources that recipes and the command know by name: one list of their kinds, to which programs add their own. Each row stands
//! beside its reader.

use crate::detection::{coco, digits_detect, voc, yolo};
use crate::source::{Request, Source, SourceKind};
use crate::{ClipSettings, DataError, Result, Split};
use crate::{cifar, csv_file, digits, folder, idx, npz, photo_digits, photos, sequences, tones, wav};
use fixnet_tensor::Registry;
use std::str::FromStr;

static KINDS: Registry<SourceKind> = Registry::new(&[
    digits::KIND,
    photo_digits::KIND,
    idx::KIND,
    cifar::CIFAR10,
    cifar::CIFAR100,
    folder::KIND,
    npz::KIND,
    csv_file::KIND,
    sequences::KIND,
    wav::KIND,
    tones::KIND,
    photos::PHOTOS,
    photos::PAIRS,
    digits_detect::KIND,
    voc::KIND,
    coco::KIND,
    yolo::KIND,
]);

/// Adds a kind of sources to those that recipes and the command can name. One of the same name takes the place of an earlier
/// one.
pub fn register_source(kind: SourceKind) {
    KINDS.add(kind);
}

/// Returns all kinds of sources, the latest registered first.
pub fn source_kinds() -> Vec<SourceKind> {
    KINDS.all()
}

impl Source {
    /// Returns its kind.
    ///
    /// # Errors
    /// There is none of this name: not for a source that was read from text.
    pub fn kind(&self) -> Result<SourceKind> {
        KINDS.find(|kind| kind.name() == self.name).ok_or_else(|| unknown(&self.to_string()))
    }

    /// Returns whether it is a table, of which a column is the target.
    pub fn is_table(&self) -> bool {
        self.kind().is_ok_and(|kind| kind.table)
    }

    /// Reads or makes labelled images; of a folder its images as they are, test images drawn by seed 1 where it has none.
    /// [`DataConfig::load`](crate::DataConfig::load) has settings.
    ///
    /// # Errors
    /// A file is missing or broken, or the source has other data.
    pub fn load(&self) -> Result<Split> {
        let clips = ClipSettings::default();
        let request = Request { source: self, image_size: None, seed: 1, target: None, clips, whole: false };
        self.kind()?.reader.labelled(&request)
    }
}

impl Default for Source {
    /// The embedded digits.
    fn default() -> Self {
        Self { name: digits::KIND.name().into(), argument: None }
    }
}

fn unknown(found: &str) -> DataError {
    let kinds = source_kinds();
    let forms: Vec<&str> = kinds.iter().map(|kind| kind.form).collect();
    DataError::Source { expected: forms.join(", "), found: found.into() }
}

impl FromStr for Source {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self> {
        let (name, argument) = text.split_once(':').map_or((text, None), |(name, argument)| (name, Some(argument)));
        match KINDS.find(|kind| kind.name() == name) {
            Some(kind) if kind.takes(argument) => {
                Ok(Self { name: name.into(), argument: argument.map(str::to_string) })
            }
            _ => Err(unknown(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_the_round_trip() {
        for text in [
            "digits",
            "photo-digits",
            "photo-digits:seen",
            "mnist:a/b",
            "cifar10:C:/x",
            "cifar100:../y",
            "folder:a b",
            "npz:x.npz",
            "csv:x.csv",
            "sequences:x.npz",
            "wav:a",
            "tones",
            "photos",
            "photos:a",
            "pairs:b/c",
            "digits-detect",
            "voc:a",
            "coco:a/b",
            "yolo:../c",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_reference_page_has_every_form() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/data.md");
        let page = std::fs::read_to_string(path).unwrap();
        for kind in source_kinds() {
            assert!(page.contains(&format!("\n| `{}` |", kind.form)), "docs/reference/data.md lacks {}", kind.form);
        }
    }

    #[test]
    fn unknown_sources_are_named() {
        for text in [
            "",
            "digit",
            "mnist",
            "mnist:",
            "digits:here",
            "photo-digits:new",
            "cifar10",
            "CIFAR10:x",
            "folder:",
            "npz",
            "csv",
            "pairs",
            "photos:",
            "voc",
            "digits-detect:x",
        ] {
            let e = text.parse::<Source>().unwrap_err().to_string();
            assert!(e.contains("pairs:PATH") && e.ends_with(&format!("found '{text}'")), "{e}");
        }
    }
}
