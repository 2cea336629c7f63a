//! Box-aware augmentation in a recipe: the table `[detection]`. Flips and colours are shared with other images and stand in `[augmentation]`.

use crate::{Error, Result};
use fixnet_data::{Augment, DataError, DetectionAugment};
use serde::{Deserialize, Serialize};

/// The table `[detection]`: how training images with boxes are varied, beyond flips and colours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "described in KEYS, from which the reference page is made")]
pub struct DetectionSettings {
    pub scale: f64,
    pub crop: f64,
    pub keep: f64,
    pub mosaic: f64,
}

impl Default for DetectionSettings {
    fn default() -> Self {
        let DetectionAugment { scale, crop, keep, mosaic, .. } = DetectionAugment::default();
        Self { scale, crop, keep, mosaic }
    }
}

impl DetectionSettings {
    /// Returns these settings with the flips and colours of `shared`.
    pub fn augment(&self, shared: &Augment) -> DetectionAugment {
        let Self { scale, crop, keep, mosaic } = *self;
        let Augment { flip, brightness, contrast, saturation, .. } = *shared;
        DetectionAugment { flip, scale, crop, keep, brightness, contrast, saturation, mosaic }
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// A setting is out of its range; the error names its key.
    pub(super) fn check(&self) -> Result<()> {
        self.augment(&Augment::default()).check().map_err(|e| match e {
            DataError::Unexpected { place, expected, found } => Error::Setting {
                key: format!("detection.{place}"),
                reason: format!("expected {expected}, found {found}"),
            },
            other => other.into(),
        })
    }
}
