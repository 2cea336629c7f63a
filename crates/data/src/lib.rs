//! Data sets of images, sequences and tables: readers, the embedded sets, augmentation, normalization and batches; and images with boxes
//! for object detection.
//!
//! Everything random here is a function of a seed, an epoch and the index of an image, so runs repeat and resume exactly.

#![forbid(unsafe_code)]

mod ahead;
mod augment;
mod bicubic;
mod cifar;
mod cifar_names;
mod class_folders;
mod classes;
mod clip_form;
mod columns;
mod csv_file;
mod csv_reader;
mod csv_rows;
mod data_config;
mod dataset;
mod description;
mod detection;
mod digits;
mod endings;
mod entries;
mod error;
mod first_bytes;
mod folder;
mod idx;
mod idx_files;
mod image_file;
mod image_kind;
mod image_value;
mod inputs;
mod listed;
mod loader;
mod mel;
mod normalize;
mod notes;
mod npz;
mod npz_array;
mod npz_header;
mod npz_names;
mod number_description;
mod pairs;
mod patches;
mod photo_digits;
mod photos;
mod picture;
mod records;
mod sample;
mod samples;
mod sequence;
mod sequences;
mod source;
mod sources;
mod split;
mod split_folders;
mod table;
mod targets;
mod tones;
mod transform;
mod vary;
mod wav;
mod wav_chunks;
mod wav_file;
mod webp;

pub use augment::{Augment, Mix};
pub use bicubic::bicubic;
pub use cifar::{cifar10, cifar100};
pub use classes::{ClassDifference, check_class_names};
pub use clip_form::{ClipForm, ClipSettings};
pub use csv_file::{csv, csv_numbers};
pub use data_config::DataConfig;
pub use dataset::Dataset;
pub use description::{DataDescription, Fingerprints};
pub use detection::{
    AnnotatedImage, Annotation, AnnotationFault, BoundingBox, Composition, Detection, DetectionAugment, DetectionBatch,
    DetectionDescription, DetectionLoader, DetectionSet, DetectionSplit, Placement, ReadPicture, by_score,
    digits_detect, nms, on_canvas, outlined,
};
pub use digits::digits;
pub use endings::ENDINGS;
pub use error::{DataError, Result};
pub use folder::folder;
pub use idx::{Idx, mnist};
pub use image_value::Image;
pub use inputs::{Inputs, Reading};
#[doc(hidden)]
pub use listed::listed;
pub use loader::Loader;
pub use normalize::Normalize;
pub use npz::{npz, npz_numbers};
pub use number_description::{NumberDescription, Target};
pub use pairs::{PairSplit, Pairs};
pub use patches::{PatchBatch, PatchSettings, Patches};
pub use photo_digits::{photo_digits, photo_digits_seen};
pub use picture::Picture;
pub use sample::{Sample, SampleForm};
pub use sequence::Sequence;
pub use sequences::sequences;
pub use source::{Reader, Request, Source, SourceKind};
pub use sources::{register_source, source_kinds};
pub use split::Split;
pub use targets::{Batch, Draw, Labels, NumberBatch, Numbers, Targets};
pub use tones::{tone, tones};
pub use transform::Transform;
pub use wav::wav;

/// FNV-1a of all images and labels, for tests that hold the embedded sets to their first release.
#[cfg(test)]
fn checksum(data: &Dataset) -> u64 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let images =
        (0..data.len()).fold(0xcbf2_9ce4_8422_2325, |sum, i| data.image(i).unwrap().iter().copied().fold(sum, hash));
    data.labels().iter().flat_map(|l| l.to_le_bytes()).fold(images, hash)
}
