//! What the readers of annotation files share: images as they are listed, and the set that becomes of them.

use super::{AnnotatedImage, AnnotationFault, DetectionSet, annotation::Place, annotation::shortened};
use crate::endings::is_image_name;
use crate::entries::entries;
use crate::{DataError, Picture, Result};
use fixnet_files::input_file;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// The most bytes of a list of names or of the annotations of one image.
pub(crate) const MOST: u64 = input_file::SETTINGS;

/// Makes a set of images that files hold, each with its path.
///
/// # Errors
/// There is no image, or a file cannot be read.
pub(crate) fn set_of(
    name: String,
    class_names: Vec<String>,
    images: Vec<(AnnotatedImage, PathBuf)>,
) -> Result<DetectionSet> {
    let (images, paths): (Vec<_>, Vec<_>) = images.into_iter().unzip();
    DetectionSet::read(name, class_names, images, Arc::new(move |i| Picture::read(&paths[i])))
}

/// Calls `read` for each item in parallel. Of several errors it is always the first.
pub(crate) fn for_each<T: Sync, R: Send>(items: &[T], read: impl Fn(&T) -> Result<R> + Send + Sync) -> Result<Vec<R>> {
    items.par_iter().map(read).collect::<Vec<_>>().into_iter().collect()
}

/// Reads a file of at most `most` bytes.
pub(crate) fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>> {
    input_file::read(path, most).map_err(|source| DataError::Io { place: path.display().to_string(), source })
}

/// The text of an annotation file.
pub(crate) fn text_of<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let element = format!("byte {}", e.valid_up_to());
        Place { file, element }.error(AnnotationFault::Damaged, "text in UTF-8", "other bytes")
    })?;
    // A byte order mark is no part of the text.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The lines of a text that are not empty, with their numbers, counted from 1.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()).map(|(i, line)| (i + 1, line))
}

/// Reads the names of classes, one per line.
///
/// # Errors
/// There is none, or one is there twice.
pub(crate) fn class_names(file: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let mut first = BTreeMap::new();
    for (number, line) in lines(text_of(file, bytes)?) {
        if let Some(before) = first.insert(line, number) {
            let found = format!("{}, as in line {before}", shortened(line));
            let place = Place { file, element: format!("line {number}") };
            return Err(place.error(AnnotationFault::Duplicate, "names of classes that differ", found));
        }
    }
    let mut names: Vec<(usize, &str)> = first.into_iter().map(|(name, number)| (number, name)).collect();
    names.sort_unstable();
    match names.is_empty() {
        true => Err(DataError::Empty { place: file.into() }),
        false => Ok(names.into_iter().map(|(_, name)| name.to_string()).collect()),
    }
}

/// The path of a file whose name stands in an annotation file: inside `folder`, wherever that file comes from.
pub(crate) fn inside<E: std::fmt::Display>(folder: &Path, name: &str, place: &Place<'_, E>) -> Result<PathBuf> {
    let path = Path::new(name);
    match !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(folder.join(path)),
        false => {
            let expected = "the name of a file, without `..` and without a root";
            Err(place.error(AnnotationFault::Damaged, expected, shortened(name)))
        }
    }
}

/// The image files of a folder by their names without endings. Two of one name are an error.
pub(crate) fn images_by_stem(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in entries(folder)?.into_iter().filter(|path| is_image_name(path)) {
        let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()).map(String::from) else {
            // Annotations are found by names, and a name that is not text has none.
            let (file, element) = (folder.display().to_string(), path.display().to_string());
            return Err(Place { file: &file, element }.error(
                AnnotationFault::Damaged,
                "names in UTF-8",
                "other bytes",
            ));
        };
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(other) = found.get(&stem) {
            let (file, element) = (folder.display().to_string(), name(&path));
            let found = format!("{} too", name(other));
            return Err(Place { file: &file, element }.error(
                AnnotationFault::Duplicate,
                "one image of this name",
                found,
            ));
        }
        found.insert(stem, path);
    }
    Ok(found)
}

/// Checks that an image file has the size that an annotation file states, if it does.
pub(crate) fn checked_size<E: std::fmt::Display>(
    image: &Path,
    stated: Option<[usize; 2]>,
    place: &Place<'_, E>,
) -> Result<[usize; 2]> {
    let found = Picture::size_of_file(image)?;
    match stated {
        Some(stated) if stated != found => Err(place.error(
            AnnotationFault::OtherSize,
            format!("{}x{} (height, width), the size of {}", found[0], found[1], image.display()),
            format!("{}x{}", stated[0], stated[1]),
        )),
        _ => Ok(found),
    }
}
