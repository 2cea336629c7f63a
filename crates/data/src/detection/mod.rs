//! Object detection: images of any sizes with boxes, their readers, augmentation and batches.
//!
//! - [`BoundingBox`], [`by_score`] and [`nms`]: geometry, which networks and metrics share.
//! - [`DetectionSet`]: images with their [`Annotation`]s, read by `voc:FOLDER`, `coco:FOLDER` or `yolo:FOLDER`, or made by `digits-detect`.
//! - [`Placement`]: how an image is scaled onto a canvas, and how detections come back.
//! - [`DetectionAugment`] and [`DetectionLoader`]: batches as a function of (seed, epoch, index).

mod annotation;
mod bounding_box;
pub(crate) mod coco;
mod detection_augment;
mod detection_description;
mod detection_loader;
mod detection_set;
pub(crate) mod digits_detect;
mod draw;
mod listing;
mod nms;
mod placement;
mod resize;
pub(crate) mod voc;
mod whole;
pub(crate) mod yolo;
mod yolo_yaml;

pub use annotation::{Annotation, AnnotationFault, Detection};
pub use bounding_box::BoundingBox;
pub use detection_augment::{Composition, DetectionAugment};
pub use detection_description::DetectionDescription;
pub use detection_loader::{DetectionBatch, DetectionLoader, on_canvas};
pub use detection_set::{AnnotatedImage, DetectionSet, DetectionSplit, ReadPicture};
pub use digits_detect::digits_detect;
pub use draw::outlined;
pub use nms::{by_score, nms};
pub use placement::Placement;
