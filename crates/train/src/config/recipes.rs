//! The built-in recipes, and recipes from files.

use super::Settings;
use crate::{Error, Result};
use fixnet_files::input_file;
use std::path::Path;

/// Names and texts of the built-in recipes.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("digits", include_str!("../../recipes/digits.toml")),
    ("photo-digits", include_str!("../../recipes/photo-digits.toml")),
    ("mnist", include_str!("../../recipes/mnist.toml")),
    ("cifar10-resnet20", include_str!("../../recipes/cifar10-resnet20.toml")),
    ("cifar10-mobilenetv2", include_str!("../../recipes/cifar10-mobilenetv2.toml")),
    ("cifar10-reactnet18-step1", include_str!("../../recipes/cifar10-reactnet18-step1.toml")),
    ("cifar10-reactnet18", include_str!("../../recipes/cifar10-reactnet18.toml")),
    ("cifar10-vit", include_str!("../../recipes/cifar10-vit.toml")),
    ("cifar100-resnet20", include_str!("../../recipes/cifar100-resnet20.toml")),
    ("digits-detect", include_str!("../../recipes/digits-detect.toml")),
    ("bccd", include_str!("../../recipes/bccd.toml")),
    ("nuclei", include_str!("../../recipes/nuclei.toml")),
    ("photos-x2", include_str!("../../recipes/photos-x2.toml")),
    ("table", include_str!("../../recipes/table.toml")),
    ("table-regression", include_str!("../../recipes/table-regression.toml")),
    ("tones", include_str!("../../recipes/tones.toml")),
    ("tones-vit1d", include_str!("../../recipes/tones-vit1d.toml")),
    ("spoken-digits", include_str!("../../recipes/spoken-digits.toml")),
    ("mlp-digits", include_str!("../../recipes/mlp-digits.toml")),
];

/// Returns the names of the built-in recipes, for messages.
pub fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl Settings {
    /// Returns the built-in recipe of this name, or reads the TOML file of this path.
    ///
    /// # Errors
    /// There is neither; or as [`Settings::from_toml`]; or the file has no key at all.
    pub fn find(name: &str) -> Result<Self> {
        let (text, stem) = match BUILT_IN.iter().find(|(n, _)| *n == name) {
            Some((n, text)) => ((*text).to_string(), (*n).to_string()),
            None => {
                let path = Path::new(name);
                if !path.exists() {
                    return Err(Error::NoRecipe { name: name.into(), known: names() });
                }
                let io = |source| Error::Io { path: path.into(), source };
                let stem = path.file_stem().map_or_else(|| name.into(), |s| s.to_string_lossy().into_owned());
                (input_file::read_to_string(path, input_file::SETTINGS).map_err(io)?, stem)
            }
        };
        let place = format!("recipe {name}");
        let mut settings = Self::from_toml(&text, &place)?;
        if toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.is_empty()) {
            let reason = "expected at least one key, such as `source` in [data], found none".into();
            return Err(Error::Recipe { place, reason });
        }
        if settings.name.is_empty() {
            settings.name = stem;
        }
        Ok(settings)
    }
}
